package log

import (
	"fmt"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sequitur-mq/sequitur/internal/vfs"
)

// syncAllAbove is the number of dirty files above which one syncfs is cheaper than a sync of each.
const syncAllAbove = 64

// checkpoints writes checkpoints: what lets journal files be used again and keeps recovery short. Appends go on
// meanwhile; only at the hard cap of live journal bytes does the journal's writer wait for one.
//
// Order: (1) note the journal's position P; everything before it was queued before; (2) capture each partition changed
// since the last checkpoint, its owner's snapshot first, so that a snapshot never describes more than the log holds;
// (3) make all segments durable as far as captured; (4) replace the checkpoint file; (5) recycle journal files below P;
// (6) save snapshots as files. Not before (4): a capture may be ahead of the journal, and a file that describes what a crash
// then takes away would pass for one of the log that grows in its place.
type checkpoints struct {
	s       *Store
	wanted  chan struct{}
	running sync.Mutex // held by a run

	position position // of the last one

	mu      sync.Mutex
	later   []chore // what the next checkpoint allows to be removed
	deleted atomic.Bool

	took  Histogram
	count atomic.Uint64
	bytes atomic.Int64 // size of the last one
}

func (c *checkpoints) init(s *Store) {
	c.s, c.wanted = s, make(chan struct{}, 1)
}

// want asks for a checkpoint soon.
func (c *checkpoints) want() {
	select {
	case c.wanted <- struct{}{}:
	default:
	}
}

// noteDeleted says that the next checkpoint has something to say even if no partition changed.
func (c *checkpoints) noteDeleted() { c.deleted.Store(true) }

// removeLater has files removed once a checkpoint no longer knows them, which captures made from now on do not. Until
// then recovery goes through all that happened since the checkpoint before, and must find every file that was there.
func (c *checkpoints) removeLater(list ...chore) {
	if len(list) == 0 {
		return
	}
	c.mu.Lock()
	c.later = append(c.later, list...)
	c.mu.Unlock()
	if c.s.reserve.full.Load() {
		c.want() // the space is needed
	}
}

// removals are the chores of taking segments off the disk.
func removals(list []*segment) []chore {
	out := make([]chore, len(list))
	for i, g := range list {
		out[i] = chore{kind: choreRemoveSegment, segment: g}
	}
	return out
}

func (c *checkpoints) run() {
	const retry = time.Second // on a full disk, while the journal may be waiting
	timer := time.NewTimer(c.s.options.CheckpointInterval)
	defer timer.Stop()
	for {
		select {
		case <-c.s.stop:
			return
		case <-c.wanted:
		case <-timer.C:
		}
		if c.s.Err() != nil {
			continue
		}
		timer.Reset(c.s.options.CheckpointInterval)
		if err := c.once(false); err != nil {
			c.s.log.Warn("checkpoint not written", "err", err)
			timer.Reset(retry)
		}
	}
}

// final is the checkpoint of a clean Close.
func (c *checkpoints) final() error { return c.once(true) }

// once takes one checkpoint. A full disk leaves the old one in place, to be tried again; other errors latch the store.
func (c *checkpoints) once(clean bool) error {
	c.running.Lock()
	defer c.running.Unlock()
	began := time.Now()
	s := c.s
	c.mu.Lock()
	later := c.later // before the captures, which therefore know nothing of these files any more
	c.later = nil
	c.mu.Unlock()
	pos, changed, nextSeq := s.journal.takeChanged()
	if len(changed) == 0 && !clean && !c.deleted.Load() && len(later) == 0 && pos == c.position {
		return nil
	}
	c.deleted.Store(false)
	err := c.write(pos, changed, nextSeq, clean)
	if err != nil {
		c.restore(changed, later)
		if !vfs.IsDiskFull(err) {
			err = s.fail(err)
		}
		return err
	}
	c.position = pos
	if err := s.journal.recycle(pos); err != nil {
		return s.fail(err)
	}
	for _, p := range changed {
		if err := p.saveSnapshot(); err != nil {
			return s.fail(err)
		}
	}
	for _, w := range later {
		if !clean {
			s.chores.add(w)
		} else if err := s.chores.do(w); err != nil { // the goroutine has ended
			return err
		}
	}
	c.took.Add(time.Since(began))
	c.count.Add(1)
	return nil
}

// restore puts what a failed attempt took back for the next one.
func (c *checkpoints) restore(changed []*Partition, later []chore) {
	for _, p := range changed {
		p.mu.Lock()
		p.changed = false // it is on no list now, whether it was captured or not
		c.s.journal.touch(p)
		p.mu.Unlock()
	}
	c.removeLater(later...)
	c.deleted.Store(true)
}

func (c *checkpoints) write(pos position, changed []*Partition, nextSeq uint64, clean bool) error {
	s := c.s
	var dirty []syncItem
	var err error
	for _, p := range changed {
		if dirty, err = p.capture(dirty); err != nil {
			return err
		}
	}
	if err := s.syncSegments(dirty); err != nil {
		return err
	}
	if s.options.switches.lateSnapshot {
		takeLateSnapshots(changed)
	}
	for _, p := range changed {
		if err := p.saveIndex(clean); err != nil {
			return err
		}
	}
	ck := checkpoint{clean: clean, disk: s.identity.Disk, position: pos, nextSeq: nextSeq}
	s.mu.RLock()
	ck.nextNumber = s.nextNumber
	ck.records = make([][]byte, 0, len(s.partitions)+len(s.creating))
	for id := range s.deleted {
		ck.deleted = append(ck.deleted, id)
	}
	for _, set := range []map[ID]*Partition{s.partitions, s.creating} {
		for _, p := range set {
			ck.add(p)
		}
	}
	s.mu.RUnlock()
	if f := s.failure.Load(); f != nil {
		return f // what failed may be what this checkpoint relies on
	}
	data := ck.encode()
	c.bytes.Store(int64(len(data)))
	name := filepath.Join(s.dir, "checkpoint")
	err = writeFileAtomic(s.fs, name, data)
	if vfs.IsDiskFull(err) && s.reserve.giveBallast() {
		err = writeFileAtomic(s.fs, name, data)
	}
	if err != nil {
		return fmt.Errorf("write checkpoint: %w", err)
	}
	return nil
}

// add puts a partition into the checkpoint, or the tombstone of one that is being deleted.
func (ck *checkpoint) add(p *Partition) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.deleted:
		ck.deleted = append(ck.deleted, p.id)
	case p.record == nil: // created after the capture: its entry may lie before the position all the same
		ck.records = append(ck.records, (&Partition{id: p.id, number: p.number, config: p.config, snapshotFile: -1}).partitionRecord().encode())
	default:
		ck.records = append(ck.records, p.record)
	}
}

// syncItem is a segment that must be durable up to size.
type syncItem struct {
	g    *segment
	size int64
}

// unsyncedSegments lists what of the partition is not known to be durable. The caller holds mu.
func (p *Partition) unsyncedSegments(list []syncItem) []syncItem {
	for i := len(p.segments) - 1; i >= 0; i-- {
		g := p.segments[i]
		if g.size > g.synced || !g.namesSaved {
			list = append(list, syncItem{g, g.size})
		}
	}
	return list
}

// capture encodes the partition as it is now and lists the segments that this relies on.
func (p *Partition) capture(dirty []syncItem) ([]syncItem, error) {
	p.mu.Lock()
	snapshotter, generation := p.snapshotter, p.generation
	p.mu.Unlock()
	var snap *snapshot
	if snapshotter != nil {
		if offset, state := snapshotter(); offset >= 0 {
			snap = &snapshot{offset, generation, state}
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if snap != nil && p.generation == generation && snap.offset <= p.end {
		p.snapshot = snap
	}
	p.snapshotDue = p.wantsSnapshotFile()
	if p.s.options.switches.earlyFiles {
		p.mu.Unlock()
		err := p.saveSnapshot()
		p.mu.Lock()
		if err != nil {
			return dirty, err
		}
	}
	p.changed = false
	p.record = p.partitionRecord().encode()
	return p.unsyncedSegments(dirty), nil
}

// syncSegments makes segments durable, and the names that lead to them. An error is final. One call runs at a time: the
// kernel tells of a lost write once, and whoever syncs after it hears of success; so the failure must be latched before
// another sync is believed.
func (s *Store) syncSegments(list []syncItem) error {
	if len(list) == 0 {
		return nil
	}
	s.syncing.Lock()
	defer s.syncing.Unlock()
	if f := s.failure.Load(); f != nil {
		return f
	}
	if len(list) > syncAllAbove {
		if err := s.fs.SyncFS(s.dir); err != nil {
			return s.fail(fmt.Errorf("sync file system: %w", err))
		}
	} else if err := s.syncEach(list); err != nil {
		return s.fail(err)
	}
	for _, item := range list {
		p := item.g.p
		p.mu.Lock()
		item.g.synced = max(item.g.synced, item.size)
		item.g.namesSaved, p.directorySaved = true, true
		p.mu.Unlock()
	}
	return nil
}

func (s *Store) syncEach(list []syncItem) error {
	dirs := map[string]struct{}{}
	for _, item := range list {
		g := item.g
		h, err := s.files.acquire(g)
		for err != nil && g.successor.Load() != nil && !s.options.switches.skipCut {
			// A truncation cut it since: what stays of it relies on this sync all the same.
			g = g.successor.Load()
			h, err = s.files.acquire(g)
		}
		switch {
		case err != nil && g.gone.Load():
			continue // no longer part of the log
		case err != nil:
			return err
		}
		err = h.f.Sync()
		h.release()
		if err != nil {
			return fmt.Errorf("sync segment: %w", err)
		}
		g.p.mu.Lock()
		names, directory := g.namesSaved, g.p.directorySaved
		g.p.mu.Unlock()
		if !names {
			dirs[g.p.dir()] = struct{}{}
		}
		if !directory {
			topic := filepath.Dir(g.p.dir())
			dirs[topic], dirs[filepath.Dir(topic)] = struct{}{}, struct{}{}
		}
	}
	for dir := range dirs {
		if err := s.fs.SyncDir(dir); err != nil && !isNotExist(err) { // a deletion may have taken it away
			return fmt.Errorf("sync directory: %w", err)
		}
	}
	return nil
}

// saveIndexEach is how much the active segment grows before its index is saved, so that a reader after a crash does
// not have to scan all of it. A clean close saves it in any case.
const saveIndexEach = 8 << 20

func (p *Partition) saveIndex(always bool) error {
	p.mu.Lock()
	g := p.active()
	if g == nil || g.gone.Load() || g.size < indexMinInterval || g.size == g.indexSaved || !always && g.size-g.indexSaved < saveIndexEach {
		p.mu.Unlock()
		return nil
	}
	g.indexSaved = g.size
	p.mu.Unlock()
	h, err := p.s.files.acquire(g)
	if err != nil {
		return nil // only an index: whoever needs the file will say what is wrong with it
	}
	defer h.release()
	if err := p.completeIndex(g, h); err != nil {
		return nil
	}
	if err := p.writeIndex(g); !vfs.IsDiskFull(err) {
		return err
	}
	return nil
}
