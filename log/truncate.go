package log

import (
	"fmt"
	"path/filepath"
)

// TruncateTo removes the suffix from offset end on. end must be a batch boundary between Start and End; what a
// replication protocol has committed must never be truncated, which is the caller's to assert. Readers see the new end
// at once; c (may be nil) is told when that is durable. Snapshot and SnapshotAt then speak of nothing that was cut off.
//
// The old bytes stay on disk untouched until the truncation is durable: what is appended next goes to a new file.
func (p *Partition) TruncateTo(end int64, c Completion) error {
	p.write.Lock()
	defer p.write.Unlock()
	if err := p.usable(); err != nil {
		return err
	}
	if end < p.Start() || end > p.end {
		return fmt.Errorf("truncate partition %s to %d, log is [%d, %d): %w", p.id, end, p.Start(), p.end, ErrOutOfRange)
	}
	if !p.journaled {
		// What stays must be on disk before the journal says that something follows it in another file.
		if err := p.syncSegments(); err != nil {
			return err
		}
	}
	generation := p.generation + 1
	cut, err := p.findCut(end)
	if err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	t := truncation{end: end, generation: generation}
	if cut.last != nil {
		t.last = segmentState{cut.last.segmentName, cut.position, cut.lastTime}
	}
	if err := p.note(entryTruncate, encodeTruncate(t), afterTruncate{p, c, cut}); err != nil {
		return err
	}
	p.truncating++
	p.durableCap.Store(min(p.durableCap.Load(), end))
	p.applyCut(cut, generation)
	return nil
}

// cut describes a truncation: the segments that go, and where the one that stays as the last one ends.
type cut struct {
	end      int64
	keep     int // segments
	position int64
	lastTime int64
	last     *segment // nil if none stays
	trim     bool     // the last one has more than stays
	removed  []*segment
}

// afterTruncate removes the cut-off files once the truncation is durable.
type afterTruncate struct {
	p *Partition
	c Completion
	cut
}

// Complete implements Completion.
func (a afterTruncate) Complete(err error) {
	if err == nil {
		a.p.truncated(a.end)
		a.p.s.checkpoints.removeLater(removals(a.removed)...)
		if a.trim {
			a.p.s.checkpoints.removeLater(chore{kind: choreTrim, segment: a.last, size: a.position})
		}
	}
	if a.c != nil {
		a.c.Complete(err)
	}
}

// truncated notes that a truncation is durable: appends before it that became durable count no more, later ones are yet
// to come.
func (p *Partition) truncated(end int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.journaled {
		p.durable.Store(min(p.durable.Load(), end))
	} else {
		p.durable.Store(p.end) // what was appended since has all the durability that the topic promises
	}
	if p.truncating--; p.truncating == 0 {
		p.durableCap.Store(maxOffset)
	}
}

// findCut finds what a truncation to end takes away. The caller holds write.
func (p *Partition) findCut(end int64) (cut, error) {
	c := cut{end: end}
	for c.keep < len(p.segments) && p.segments[c.keep].base < end {
		c.keep++
	}
	c.removed = append([]*segment(nil), p.segments[c.keep:]...)
	if c.keep == 0 {
		return c, nil
	}
	p.mu.Lock()
	v := p.viewOf(c.keep - 1)
	p.mu.Unlock()
	c.last, c.position, c.lastTime = v.g, v.size, v.g.lastTime
	if end >= v.next {
		return c, nil
	}
	h, err := p.s.files.acquire(v.g)
	if err != nil {
		return c, fmt.Errorf("truncate partition %s: %w", p.id, err)
	}
	defer h.release()
	position, base, err := p.locate(v, h, end)
	if err != nil {
		return c, p.unreadable(v, h, end, err)
	}
	if base < end {
		return c, fmt.Errorf("truncate partition %s to %d: a batch at %d reaches beyond it: %w", p.id, end, base, ErrOutOfRange)
	}
	c.position, c.trim = position, position < v.size
	c.lastTime, err = p.timeBefore(v, h, position)
	return c, err
}

// timeBefore is the append time of the last batch that ends at or below position.
func (p *Partition) timeBefore(v view, h *handle, position int64) (int64, error) {
	e, ok, err := p.lookup(v.g, h, func(x *index) (indexEntry, bool) { return x.byPosition(position - 1) })
	if err != nil {
		return 0, err
	}
	w := p.s.walkers.get(h.f, 0, position, true)
	defer p.s.walkers.put(w)
	if ok {
		w.at = int64(e.position)
	}
	var last int64
	for w.at < position {
		b, err := w.next()
		if err != nil {
			return 0, p.unreadable(v, h, v.g.base, err)
		}
		last = b.AppendTime()
	}
	return last, nil
}

// applyCut carries a truncation out in memory. The caller holds write and mu.
func (p *Partition) applyCut(c cut, generation uint32) {
	p.segments = append([]*segment(nil), p.segments[:c.keep]...)
	if g := c.last; c.trim {
		// A copy, so that views of readers keep what they saw. The copy shares nothing but the file.
		short := &segment{p: p, segmentState: g.segmentState, synced: min(g.synced, c.position), namesSaved: g.namesSaved,
			writeback: g.writeback, found: min(g.found, c.position)}
		short.size, short.lastTime = c.position, c.lastTime
		short.verified = span{min(g.verified.from, c.position), min(g.verified.to, c.position)}
		p.s.files.pass(g, short)
		p.segments[c.keep-1] = short
	}
	p.end, p.generation = c.end, generation
	p.mark(c.end, generation)
	p.lastTime = 0
	if c.last != nil {
		p.lastTime = c.lastTime
	}
	for n := len(p.epochs); n > 0 && p.epochs[n-1].First >= c.end; n-- {
		p.epochs = p.epochs[: n-1 : n-1]
	}
	p.lastEpoch = 0
	if n := len(p.epochs); n > 0 {
		p.lastEpoch = p.epochs[n-1].Epoch
	}
	if p.snapshot != nil && p.snapshot.offset > c.end {
		p.snapshot = nil
	}
	p.snapshotFile = min(p.snapshotFile, c.end-1) // segments that begin at the end or above have no file yet
	p.sealed = len(p.segments) > 0
	p.recent, p.hints = nil, nil
	if p.compact != nil {
		p.compact.truncated(c.end)
	}
	p.dropHoles()
}

// cut is TruncateTo at recovery: as the journal says, without a look at the files. Of an unjournaled partition less may
// have been found than there was at the time, if a later truncation cut more off.
func (p *Partition) cut(t truncation) error {
	if t.end < p.start || t.end > p.end && p.journaled {
		return fmt.Errorf("truncate partition %s to %d, log is [%d, %d): %w", p.id, t.end, p.start, p.end, ErrCorrupt)
	}
	c := cut{end: min(t.end, p.end)}
	for c.keep < len(p.segments) && p.segments[c.keep].base < c.end {
		c.keep++
	}
	c.removed = p.segments[c.keep:]
	if c.keep > 0 {
		c.last = p.segments[c.keep-1]
		c.position, c.lastTime = c.last.size, c.last.lastTime
		if c.last.segmentName == t.last.segmentName && t.last.size < c.position {
			c.position, c.lastTime, c.trim = t.last.size, t.last.lastTime, true
		} else if p.journaled && c.last.segmentName != t.last.segmentName {
			return fmt.Errorf("truncate partition %s to %d: that was in segment %s, now in %s: %w", p.id, t.end, t.last.stem(), c.last.stem(), ErrCorrupt)
		}
	}
	p.applyCut(c, t.generation)
	return nil
}

// AdvanceStart removes the prefix below offset start, which must lie between Start and End; a lower one is ignored.
// Readers see the new start at once; files that lie wholly below it go once that is durable. c may be nil.
func (p *Partition) AdvanceStart(start int64, c Completion) error {
	p.write.Lock() // appends look for the active segment under write alone
	defer p.write.Unlock()
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.advanceLocked(start, c)
}

// advanceLocked is AdvanceStart. The caller holds write and mu.
func (p *Partition) advanceLocked(start int64, c Completion) error {
	if err := p.usable(); err != nil {
		return err
	}
	if start > p.end {
		return fmt.Errorf("advance start of partition %s to %d, log is [%d, %d): %w", p.id, start, p.start, p.end, ErrOutOfRange)
	}
	start = max(start, p.start)
	removed := append([]*segment(nil), p.below(start)...)
	change := startChange{start: start, end: p.end, sealed: p.sealed, before: p.epochBefore(start)}
	if err := p.note(entryStart, encodeStart(change), afterAdvance{p.s, c, removed}); err != nil {
		return err
	}
	p.advance(start)
	return nil
}

// afterAdvance has the files below the new start removed once it is durable.
type afterAdvance struct {
	s       *Store
	c       Completion
	removed []*segment
}

// Complete implements Completion.
func (a afterAdvance) Complete(err error) {
	if err == nil {
		a.s.checkpoints.removeLater(removals(a.removed)...)
	}
	if a.c != nil {
		a.c.Complete(err)
	}
}

// below lists the segments that lie wholly below start; the last one only if it will not grow any more. The caller
// holds mu.
func (p *Partition) below(start int64) []*segment {
	n := 0
	for n+1 < len(p.segments) && p.segments[n+1].base <= start {
		n++
	}
	if n+1 == len(p.segments) && p.sealed && start >= p.end {
		n++
	}
	return p.segments[:n]
}

// advance carries AdvanceStart out in memory. The caller holds mu.
func (p *Partition) advance(start int64) {
	p.segments = append([]*segment(nil), p.segments[len(p.below(start)):]...)
	p.start = max(p.start, start)
	// The epoch of the record before the start stays: it is what an empty log is compared by.
	for len(p.epochs) > 1 && (p.epochs[1].First < p.start || p.epochs[1].First == p.start && p.s.options.switches.dropEpoch) {
		p.epochs = p.epochs[1:]
	}
	p.dropHoles()
}

// epochBefore is the epoch of the record before offset, as far as it is known. The caller holds mu.
func (p *Partition) epochBefore(offset int64) (e EpochStart) {
	for _, known := range p.epochs {
		if known.First < offset {
			e = known
		}
	}
	return e
}

// findStrays looks for files of the partition's directory that look like segments or snapshots of the log but are not
// part of it (any more). Snapshots are removed; segments go after the next checkpoint, for until then they may be
// what recovery has to go through again. It runs at recovery.
func (p *Partition) findStrays() error {
	entries, err := p.s.fs.ReadDir(p.dir())
	if isNotExist(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("list partition directory: %w", err)
	}
	known := p.segmentNames()
	for _, e := range entries {
		if name, _, ok := parseSegmentName(e.Name()); ok && !known[name] {
			p.strays = append(p.strays, name)
		}
		if offset, ok := parseSnapshotName(e.Name()); ok && offset > p.end || e.Name() == repairFile {
			if err := p.s.fs.Remove(filepath.Join(p.dir(), e.Name())); err != nil {
				return fmt.Errorf("remove stray file: %w", err)
			}
		}
	}
	if len(p.strays) > 0 {
		p.s.checkpoints.removeLater(chore{kind: choreRemoveStrays, p: p})
	}
	return nil
}

func (p *Partition) segmentNames() map[segmentName]bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	known := make(map[segmentName]bool, len(p.segments))
	for _, g := range p.segments {
		known[g.segmentName] = true
	}
	return known
}

// removeStrays removes what findStrays found, but for files whose names have come into use since. The write lock keeps
// new ones from appearing meanwhile; compaction waits until there are no strays.
func (p *Partition) removeStrays() error {
	p.write.Lock()
	defer p.write.Unlock()
	known := p.segmentNames()
	for _, name := range p.strays {
		for _, suffix := range []string{segmentSuffix, indexSuffix} {
			if known[name] {
				continue
			}
			if err := p.s.fs.Remove(filepath.Join(p.dir(), name.stem()+suffix)); err != nil && !isNotExist(err) {
				return fmt.Errorf("remove stray file: %w", err)
			}
		}
	}
	p.mu.Lock()
	p.strays = nil
	p.mu.Unlock()
	return nil
}
