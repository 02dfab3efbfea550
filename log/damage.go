package log

import (
	"errors"
	"fmt"
)

// unopened explains why a segment file could not be opened.
func (p *Partition) unopened(v view, from int64, err error) error {
	if v.g.gone.Load() {
		return errSegmentGone
	}
	if isNotExist(err) {
		p.mu.Lock()
		listed := false
		for _, g := range p.segments {
			listed = listed || g == v.g
		}
		p.mu.Unlock()
		if !listed {
			return errSegmentGone
		}
		return p.damaged(v, 0, v.g.base, v.next, "the file is missing")
	}
	return fmt.Errorf("read partition %s: %w", p.id, err)
}

// unreadable turns the finding of a bad batch into a CorruptError that says where reading can go on.
func (p *Partition) unreadable(v view, h *handle, from int64, err error) error {
	var bad *badBatch
	if !errors.As(err, &bad) {
		return fmt.Errorf("read partition %s: %w", p.id, err)
	}
	first, to := p.extent(v, h, bad.position, from)
	return p.damaged(v, bad.position, first, to, bad.reason.Error())
}

// extent finds which offsets the damage at position takes with it: from the end of the last batch before it to the
// next valid header.
func (p *Partition) extent(v view, h *handle, position, from int64) (first, to int64) {
	w := p.s.walkers.get(h.f, position, v.size, true)
	defer p.s.walkers.put(w)
	if b, err := w.next(); err == nil { // the header is good, the payload is not
		return b.BaseOffset(), b.NextOffset()
	}
	first, to = from, v.next
	if _, base, ok := nextValid(h.f, position+1, v.size, from); ok && base > from {
		to = base
	}
	return first, to
}

// damaged records a hole and makes the error of reading it. Offsets [from, to) cannot be read.
func (p *Partition) damaged(v view, position, from, to int64, reason string) error {
	e := &CorruptError{ID: p.id, File: v.g.path(), Position: position, From: from, To: to, Reason: reason}
	if p.addHole(Hole{From: from, To: to, File: e.File, Position: position}) {
		p.s.counters.holes.Add(1)
		p.s.log.Error("stored data damaged; it is not served", "partition", p.id, "file", e.File, "position", position,
			"from", from, "to", to, "reason", reason)
	}
	return e
}

// shorter records what a file lacks of the end of its segment.
func (p *Partition) shorter(v view, size int64) error {
	list, err := p.stretches(v)
	if err != nil {
		return err
	}
	for _, s := range list {
		if s.bad != nil && s.end > size {
			p.damaged(v, s.at, s.first, s.next, fmt.Sprintf("the file has %d bytes of %d", size, v.size))
		}
	}
	return nil
}

// addHole keeps a hole unless it is known, and reports whether it is new.
func (p *Partition) addHole(hole Hole) bool {
	const most = 1024
	p.mu.Lock()
	defer p.mu.Unlock()
	for i, known := range p.holes {
		if known.File == hole.File && known.Position == hole.Position {
			p.holes[i].From = min(known.From, hole.From)
			p.holes[i].To = max(known.To, hole.To)
			return false
		}
	}
	if len(p.holes) < most {
		p.holes = append(p.holes, hole)
	}
	return true
}

// dropHoles forgets holes in files that are no longer part of the log. The caller holds mu.
func (p *Partition) dropHoles() {
	kept := p.holes[:0]
	for _, hole := range p.holes {
		for _, g := range p.segments {
			if hole.File == g.path() && hole.From < p.end && hole.To > p.start {
				kept = append(kept, hole)
				break
			}
		}
	}
	p.holes = kept
}
