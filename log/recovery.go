package log

import (
	"bytes"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/sequitur-mq/sequitur/internal/vfs"
	"github.com/sequitur-mq/sequitur/record"
)

// recovery rebuilds the partitions from checkpoint and journal; the steps are in the package documentation. It runs
// alone, before anything else is started.
type recovery struct {
	s        *Store
	byNumber map[uint32]*Partition
	changed  map[*Partition]struct{} // go into the next checkpoint
	touched  map[*Partition]struct{} // their directories are looked at as well
	compare  []byte
	lastSeq  uint64
	cutOffs  []cutOff
}

// recover brings the store to the state that checkpoint and journal describe, and starts the journal.
func (s *Store) recover() error {
	s.recovering = true
	defer func() { s.recovering = false }()
	began := time.Now()
	r := &recovery{s: s, byNumber: map[uint32]*Partition{}, changed: map[*Partition]struct{}{}, touched: map[*Partition]struct{}{}}
	c, err := r.loadCheckpoint()
	if err != nil {
		return err
	}
	used, blank, err := s.journal.listJournal(s.options)
	if err != nil {
		return err
	}
	s.journal.live, s.journal.free = used, blank // for closeFiles, should this fail
	end, err := r.replay(c, used)
	if err != nil {
		return err
	}
	clean := c.clean && len(used) > 0 && used[len(used)-1].lap == c.position.lap
	if err := r.finish(clean); err != nil {
		return err
	}
	live, free := splitLive(used, c.position)
	// A checkpoint may reflect entries that did not get durable. Their sequence numbers must not be given again: the
	// next recovery would take what carries them for known.
	nextSeq := max(r.lastSeq+1, c.nextSeq)
	for _, p := range s.partitions {
		nextSeq = max(nextSeq, p.applied+1)
	}
	if err := s.journal.start(live, append(blank, free...), end.position, nextSeq); err != nil {
		return err
	}
	for p := range r.changed {
		p.mu.Lock()
		s.journal.touch(p)
		p.mu.Unlock()
	}
	for id := range s.deleted {
		s.checkpoints.removeLater(chore{kind: choreRemovePartition, id: id})
	}
	s.log.Info("log recovered", "dir", s.dir, "partitions", len(s.partitions), "journal_bytes", end.bytes, "touched", len(r.touched),
		"torn_tail", end.torn, "clean", clean, "took", time.Since(began).Round(time.Microsecond), "journal_mode", s.journal.mode())
	return nil
}

// splitLive separates the files that the checkpoint needs from those that may be used again.
func splitLive(used []*journalFile, from position) (live, free []*journalFile) {
	for _, jf := range used {
		if jf.lap < from.lap {
			free = append(free, jf)
		} else {
			live = append(live, jf)
		}
	}
	return live, free
}

func (r *recovery) loadCheckpoint() (checkpoint, error) {
	s := r.s
	name := filepath.Join(s.dir, "checkpoint")
	b, err := readFile(s.fs, name)
	if isNotExist(err) {
		return checkpoint{position: position{lap: 1, off: journalDataFrom, group: 1}, nextSeq: 1, nextNumber: 1}, nil
	}
	if err != nil {
		return checkpoint{}, fmt.Errorf("read checkpoint: %w", err)
	}
	c, err := decodeCheckpoint(b)
	if err != nil {
		return c, fmt.Errorf("%s: %w", name, err)
	}
	if c.disk != s.identity.Disk {
		return c, damaged(name, 16, "checkpoint belongs to disk %x, this one is %x: files of two stores were mixed", c.disk, s.identity.Disk)
	}
	for _, record := range c.records {
		pr, err := decodePartitionRecord(record)
		if err != nil {
			return c, fmt.Errorf("%s: %w", name, err)
		}
		p := pr.partition(s)
		p.record = record
		if s.partitions[p.id] != nil || r.byNumber[p.number] != nil || p.number >= c.nextNumber {
			return c, fmt.Errorf("%s: partition %s is there twice or has an unknown number: %w", name, p.id, ErrCorrupt)
		}
		s.partitions[p.id], r.byNumber[p.number] = p, p
	}
	for _, id := range c.deleted {
		s.deleted[id] = struct{}{}
	}
	s.nextNumber = c.nextNumber
	s.checkpoints.position = c.position
	return c, nil
}

// replay walks the journal from the checkpoint's position.
func (r *recovery) replay(c checkpoint, used []*journalFile) (journalEnd, error) {
	fresh := c.position.lap == 1 && c.position.group == 1
	if len(used) == 0 && fresh {
		if _, err := r.s.fs.Stat(filepath.Join(r.s.dir, "partitions")); err == nil {
			return journalEnd{}, fmt.Errorf("there are partitions, but neither checkpoint nor journal: %w", ErrCorrupt)
		}
		return journalEnd{position: position{group: 1}}, nil
	}
	scan := journalScan{files: used, from: c.position, visit: func(e *entry, _ groupHeader, file string, at int64) error {
		r.lastSeq = e.seq
		if err := r.apply(e); err != nil {
			return fmt.Errorf("journal file %s, group at byte %d, %s entry: %w", file, at, e.kind, err)
		}
		return nil
	}}
	end, err := scan.run()
	if err == nil && end.torn {
		r.s.log.Warn("the last commit group was not written whole; none of it was acknowledged",
			"lap", end.lap, "byte", end.off, "group", end.group)
	}
	return end, err
}

// apply brings one journal entry to the partition that it is about, unless the checkpoint has it already.
func (r *recovery) apply(e *entry) error {
	switch e.kind {
	case entryCreate:
		return r.create(e)
	case entryDelete:
		return r.delete(e)
	}
	p := r.byNumber[e.number]
	if p == nil {
		if e.number == 0 || e.number >= r.s.nextNumber {
			return fmt.Errorf("partition number %d was never created: %w", e.number, ErrCorrupt)
		}
		return nil // deleted since
	}
	if e.seq <= p.applied {
		return nil
	}
	p.applied = e.seq
	r.changed[p] = struct{}{}
	if e.kind != entryValue {
		r.touched[p] = struct{}{}
	}
	if e.kind == entryBatches {
		return r.batches(p, e.data, e.flags&flagNewSegment != 0)
	}
	if !p.journaled {
		// What it appended past the journal up to this entry comes first.
		if err := r.scanForward(p, upTo(e)); err != nil {
			return err
		}
	}
	return r.change(p, e)
}

// upTo is the offset that an unjournaled partition had reached at most when an entry was queued.
func upTo(e *entry) int64 {
	d := decoder{b: e.data}
	switch e.kind {
	case entryTruncate, entryConfig, entryReplace, entryReset:
		return d.i64()
	case entryStart:
		d.i64()
		return d.i64()
	}
	return 0 // no matter
}

func (r *recovery) change(p *Partition, e *entry) error {
	switch e.kind {
	case entryTruncate:
		t, err := decodeTruncate(e.data)
		if err != nil {
			return errors.Join(err, ErrCorrupt)
		}
		return p.cut(t)
	case entryStart:
		c, err := decodeStart(e.data)
		if err != nil {
			return errors.Join(err, ErrCorrupt)
		}
		if p.journaled && c.end != p.end {
			return fmt.Errorf("partition %s ends at %d, had %d: %w", p.id, p.end, c.end, ErrCorrupt)
		}
		if c.start > p.end {
			p.skipTo(c.start, c.before)
		}
		p.sealed = p.sealed || c.sealed // a segment that was cut stays so, if the one that followed it was lost
		p.advance(c.start)
		return nil
	case entryValue:
		key, data, err := decodeValue(e.data)
		if err != nil {
			return errors.Join(err, ErrCorrupt)
		}
		p.setValue(key, bytes.Clone(data))
		return nil
	case entryConfig:
		c, err := decodeConfigEntry(e.data)
		if err != nil {
			return errors.Join(err, ErrCorrupt)
		}
		if !p.journaled && c.config.Fsync == FsyncAlways && p.end != c.end {
			return fmt.Errorf("partition %s ends at %d, had synced up to %d: %w", p.id, p.end, c.end, ErrCorrupt)
		}
		p.config, p.journaled = c.config, c.config.Fsync == FsyncAlways
		return nil
	case entryReplace:
		change, err := decodeReplace(e.data)
		if err != nil {
			return errors.Join(err, ErrCorrupt)
		}
		_, err = p.exchange(change)
		return err
	case entryReset:
		return p.resetAgain(e.data)
	}
	return fmt.Errorf("unknown kind: %w", ErrVersion)
}

func (r *recovery) create(e *entry) error {
	list, err := decodeCreate(e.data)
	if err != nil {
		return errors.Join(err, ErrCorrupt)
	}
	for _, c := range list {
		if c.number < r.s.nextNumber {
			continue // known to the checkpoint, or deleted since
		}
		if r.s.partitions[c.id] != nil {
			return fmt.Errorf("partition %s created twice: %w", c.id, ErrCorrupt)
		}
		p := newPartition(r.s, c.number, c.id, c.config)
		p.applied = e.seq
		r.s.partitions[c.id], r.byNumber[c.number] = p, p
		r.s.nextNumber = c.number + 1
		r.changed[p] = struct{}{}
		delete(r.s.deleted, c.id) // a tombstone of an earlier life was carried out before this one could begin
	}
	return nil
}

func (r *recovery) delete(e *entry) error {
	numbers, err := decodeDelete(e.data)
	if err != nil {
		return errors.Join(err, ErrCorrupt)
	}
	for _, number := range numbers {
		p := r.byNumber[number]
		if p == nil {
			continue
		}
		for _, g := range p.segments {
			r.s.files.drop(g)
		}
		delete(r.byNumber, number)
		delete(r.s.partitions, p.id)
		delete(r.changed, p)
		delete(r.touched, p)
		r.s.deleted[p.id] = struct{}{}
	}
	return nil
}

// batches re-applies a batch entry: bytes that the segment lacks or has otherwise are written.
func (r *recovery) batches(p *Partition, data []byte, newSegment bool) error {
	next := p.end
	for rest := data; len(rest) > 0; {
		b, after, err := record.Parse(rest, storedLimits())
		if err != nil {
			return errors.Join(err, ErrCorrupt)
		}
		if b.BaseOffset() != next {
			return fmt.Errorf("batch at offset %d, partition %s ends at %d: %w", b.BaseOffset(), p.id, next, ErrCorrupt)
		}
		next, rest = b.NextOffset(), after
	}
	g, h, err := r.segmentFor(p, newSegment)
	if err != nil {
		return err
	}
	defer h.release()
	if !r.same(h, data, g.size) {
		if err := r.write(h, data, g.size); err != nil {
			return err
		}
	}
	p.extend(g, data)
	p.end, p.lastTime = next, g.lastTime
	return nil
}

// segmentFor opens the segment that a batch entry went to.
func (r *recovery) segmentFor(p *Partition, newSegment bool) (*segment, *handle, error) {
	g := p.active()
	if g == nil || newSegment && (g.size > 0 || p.sealed) {
		return p.roll()
	}
	h, err := r.s.files.acquire(g)
	if isNotExist(err) {
		// A later entry gives the segment up, or the whole partition, and the file went before the crash.
		h, err = r.s.files.create(g, true)
	}
	return g, h, err
}

// write puts back what a segment lacks, giving the ballast up for it on a full disk.
func (r *recovery) write(h *handle, data []byte, at int64) error {
	_, err := h.f.WriteAt(data, at)
	if vfs.IsDiskFull(err) && r.s.fs.Remove(r.s.reserve.ballastName()) == nil {
		_, err = h.f.WriteAt(data, at)
	}
	if vfs.IsDiskFull(err) {
		return fmt.Errorf("put journaled batches back into %s: %w: %w", h.f.Name(), ErrStorageFull, err)
	}
	if err != nil {
		return fmt.Errorf("write segment: %w", err)
	}
	return nil
}

func (r *recovery) same(h *handle, data []byte, at int64) bool {
	if cap(r.compare) < len(data) {
		r.compare = make([]byte, len(data))
	}
	got := r.compare[:len(data)]
	n, _ := h.f.ReadAt(got, at)
	return n == len(data) && bytes.Equal(got, data)
}

// finish reconciles the files of the partitions that the journal touched with what it says, and finds what
// unjournaled partitions appended.
func (r *recovery) finish(clean bool) error {
	for _, p := range r.s.partitions {
		if !p.journaled && !clean {
			end := p.end
			if err := r.scanForward(p, maxOffset); err != nil {
				return err
			}
			if p.end != end {
				r.changed[p], r.touched[p] = struct{}{}, struct{}{}
			}
		}
		if _, ok := r.touched[p]; ok {
			if err := r.tidy(p); err != nil {
				return err
			}
		}
		p.durable.Store(p.end)
	}
	return nil
}

// tidy removes what the partition's directory holds beyond its word: files of segments that no longer count, and
// bytes behind the end of the active one. A last segment that was cut stays as it is: another recovery from the same
// checkpoint would miss its bytes.
func (r *recovery) tidy(p *Partition) error {
	if err := p.findStrays(); err != nil {
		return err
	}
	g := p.active()
	if g == nil || p.sealed {
		return nil
	}
	h, err := r.s.files.acquire(g)
	if isNotExist(err) {
		p.damaged(p.viewOf(len(p.segments)-1), 0, g.base, p.end, "the file is missing")
		return nil
	}
	if err != nil {
		return err
	}
	defer h.release()
	size, err := h.f.Size()
	switch {
	case err != nil:
		return fmt.Errorf("size of segment: %w", err)
	case size > g.size:
		if err := h.f.Truncate(g.size); err != nil {
			return fmt.Errorf("truncate segment: %w", err)
		}
	case size < g.size:
		return p.shorter(p.viewOf(len(p.segments)-1), size)
	}
	return nil
}
