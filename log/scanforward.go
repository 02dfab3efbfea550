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
		case errors.Is(err, io.EOF), errors.As(err, &bad):
			return nil
		case err != nil:
			return err
		case b.BaseOffset() != p.end || b.NextOffset() > limit || b.AppendTime() < p.lastTime || b.LeaderEpoch() < p.lastEpoch:
			return nil
		}
		r.take(p, g, b)
	}
}

func (r *recovery) take(p *Partition, g *segment, b record.Batch) {
	at := g.size
	p.extend(g, b)
	g.verified.add(at, g.size)
	p.end, p.lastTime = b.NextOffset(), g.lastTime
}

// skipTo begins the log anew at offset: everything below it was given up, and a power failure took the rest of an
// unjournaled partition.
func (p *Partition) skipTo(offset int64) {
	p.segments, p.end = nil, offset
	p.snapshot, p.recent, p.hints = nil, nil, nil
}
