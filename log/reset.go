package log

import (
	"errors"
	"fmt"
)

// Reset empties the log and lets it begin anew at offset start, at or above Start and possibly beyond End: what a
// follower does whose leader no longer has what comes next, or has nothing in common with it. Epochs, holes and
// snapshots go with the records; values and the configuration stay. That nothing committed is lost by it is the
// caller's to assert. Readers see the empty log at once; c (may be nil) is told when that is durable.
//
// The old bytes stay on disk untouched until the reset is durable.
func (p *Partition) Reset(start int64, c Completion) error {
	p.write.Lock()
	defer p.write.Unlock()
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.usable(); err != nil {
		return err
	}
	if start < p.start {
		return fmt.Errorf("reset partition %s to %d, log is [%d, %d): %w", p.id, start, p.start, p.end, ErrOutOfRange)
	}
	removed := p.segments
	r := resetChange{end: p.end, start: start, generation: p.generation + 1}
	if err := p.note(entryReset, encodeReset(r), afterReset{p, c, start, removed}); err != nil {
		return err
	}
	p.truncating++
	p.durableCap.Store(min(p.durableCap.Load(), start))
	p.reset(r)
	return nil
}

// reset carries a Reset out in memory. The caller holds write and mu.
func (p *Partition) reset(r resetChange) {
	p.segments, p.epochs, p.holes, p.snapshot = nil, nil, nil, nil
	p.start, p.end, p.generation = r.start, r.start, r.generation
	p.lastTime, p.lastEpoch, p.snapshotFile = 0, 0, -1
	p.recent, p.hints = nil, nil
	p.sealed = false
	p.mark(-1, r.generation) // no saved state is of this log
	p.setValue(valueCompaction, nil)
	if p.compact != nil {
		p.compact.truncated(0)
	}
}

// afterReset removes the old files once the reset is durable.
type afterReset struct {
	p       *Partition
	c       Completion
	start   int64
	removed []*segment
}

// Complete implements Completion.
func (a afterReset) Complete(err error) {
	if err == nil {
		a.p.hasReset(a.start)
		a.p.s.checkpoints.removeLater(removals(a.removed)...)
	}
	if a.c != nil {
		a.c.Complete(err)
	}
}

// hasReset notes that a reset is durable. Appends of before count no more, later ones are yet to come.
func (p *Partition) hasReset(start int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.journaled {
		p.durable.Store(start)
	} else {
		p.durable.Store(p.end) // what was appended since has all the durability that the topic promises
	}
	if p.truncating--; p.truncating == 0 {
		p.durableCap.Store(maxOffset)
	}
}

// resetChange is a reset entry. end is the partition's end at that point of the journal.
type resetChange struct {
	end, start int64
	generation uint32 // of the partition from then on
}

func encodeReset(r resetChange) []byte {
	return appendU32(appendI64(appendI64(make([]byte, 0, 20), r.end), r.start), r.generation)
}

func decodeReset(data []byte) (resetChange, error) {
	d := decoder{b: data}
	r := resetChange{end: d.i64(), start: d.i64(), generation: d.u32()}
	if d.err == nil && (r.start < 0 || r.end < 0) {
		d.err = errors.New("negative offset")
	}
	return r, d.end()
}

// resetAgain is Reset at recovery.
func (p *Partition) resetAgain(data []byte) error {
	r, err := decodeReset(data)
	if err != nil {
		return errors.Join(err, ErrCorrupt)
	}
	if r.generation <= p.generation || r.start < p.start || p.journaled && r.end != p.end {
		return fmt.Errorf("partition %s is [%d, %d) of generation %d, had end %d and was reset to %d with %d: %w",
			p.id, p.start, p.end, p.generation, r.end, r.start, r.generation, ErrCorrupt)
	}
	p.reset(r)
	return nil
}
