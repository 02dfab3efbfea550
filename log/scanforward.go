package log

import (
	"errors"
	"fmt"
	"io"

	"github.com/sequitur-mq/sequitur/record"
)

// scanForward finds what an unjournaled partition appended after its checkpoint: whole valid batches that continue the
// log, up to offset limit. It stops at the first thing that is not one: the torn tail of a power failure.
func (r *recovery) scanForward(p *Partition, limit int64) error {
	for p.end < limit {
		g := p.active()
		if g != nil && !p.sealed {
			if err := r.scanSegment(p, g, limit); err != nil {
				return err
			}
		}
		if p.end >= limit || g != nil && g.base == p.end && !p.sealed {
			return nil
		}
		next := segmentName{p.end, p.generation}
		if _, err := r.s.fs.Stat((&segment{p: p, segmentState: segmentState{segmentName: next}}).path()); isNotExist(err) {
			return nil
		} else if err != nil {
			return fmt.Errorf("look for segment: %w", err)
		}
		_, h, err := p.roll()
		if err != nil {
			return err
		}
		h.release()
	}
	return nil
}

// scanSegment extends the segment by the valid batches that lie behind its known end.
func (r *recovery) scanSegment(p *Partition, g *segment, limit int64) error {
	h, err := r.s.files.acquire(g)
	if isNotExist(err) {
		return nil // tidy says so
	}
	if err != nil {
		return err
	}
	defer h.release()
	size, err := h.f.Size()
	if err != nil {
		return fmt.Errorf("size of segment: %w", err)
	}
	w := r.s.walkers.get(h.f, g.size, size, false)
	defer r.s.walkers.put(w)
	for {
		b, err := w.next()
		var bad *badBatch
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case errors.As(err, &bad):
			if _, base, ok := nextValid(h.f, bad.position+1, size, p.end); ok && limit == maxOffset {
				r.cutOff(p, g, bad, size, base)
			}
			return nil
		case err != nil:
			return err
		case b.BaseOffset() != p.end || b.NextOffset() > limit || b.AppendTime() < p.lastTime || b.LeaderEpoch() < p.lastEpoch:
			return nil
		}
		r.take(p, g, b)
	}
}

// cutOff is a suffix of an unjournaled partition that is given up although something of it is readable.
type cutOff struct {
	p        *Partition
	file     string
	position int64
	bytes    int64
	from, to int64 // offsets [from, to) are unreadable, what follows is given up with them
	reason   error
}

// cutOff gives up what lies behind an unreadable batch that no sync is known to have covered: after a power failure
// that is what was not written back in order, and a log with a hole would be worse than a shorter one. It is said
// aloud, for damage to what the flusher had synced looks the same.
func (r *recovery) cutOff(p *Partition, g *segment, bad *badBatch, size, readable int64) {
	c := cutOff{p, g.path(), bad.position, size - bad.position, p.end, readable, bad.reason}
	r.cutOffs = append(r.cutOffs, c)
	r.s.log.Warn("appends that were not synced are lost: a batch behind the last checkpoint is unreadable",
		"partition", p.id, "file", c.file, "position", c.position, "bytes", c.bytes, "from", c.from, "reason", c.reason)
}

func (r *recovery) take(p *Partition, g *segment, b record.Batch) {
	at := g.size
	p.extend(g, b)
	g.verified.add(at, g.size)
	p.end, p.lastTime = b.NextOffset(), g.lastTime
}

// skipTo begins the log anew at offset: everything below it was given up, and a power failure took the rest of an
// unjournaled partition. before is the epoch of the last record that is gone.
func (p *Partition) skipTo(offset int64, before EpochStart) {
	if before != (EpochStart{}) && before.Epoch > p.lastEpoch {
		p.noteEpoch(before.Epoch, before.First)
	}
	p.segments, p.end = nil, offset
	p.snapshot, p.recent, p.hints = nil, nil, nil
}
