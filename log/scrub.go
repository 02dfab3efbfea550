package log

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"sync/atomic"
	"time"
)

// The scrub reads all segments in the background and verifies every batch, so that damage to data that nobody reads is found
// while there are other copies of it. What it finds goes to the same list of holes that reads use, and is logged once.
// Damage is never truncated away: everything else of the file stays readable, and offsets stay what they were.

type scrubStats struct {
	rounds, bytes, damages, last atomic.Int64
	at                           atomic.Pointer[string]
}

// ScrubStats describe the scrub's work since Open.
type ScrubStats struct {
	Rounds  int64 // whole ones
	Bytes   int64 // read
	Damages int64 // bad stretches come across, known ones included
	Last    time.Time
	Now     string // file being read, empty between rounds
}

func (c *scrubStats) stats() ScrubStats {
	st := ScrubStats{Rounds: c.rounds.Load(), Bytes: c.bytes.Load(), Damages: c.damages.Load()}
	if at := c.last.Load(); at != 0 {
		st.Last = time.Unix(0, at)
	}
	if now := c.at.Load(); now != nil {
		st.Now = *now
	}
	return st
}

const (
	minScrubRate = 1 << 20
	maxScrubRate = 64 << 20
)

// scrubRate is the option's, else what takes half an interval for everything stored.
func (s *Store) scrubRate() int64 {
	if s.options.ScrubRate > 0 {
		return s.options.ScrubRate
	}
	var total int64
	for _, p := range s.all() {
		total += p.Stat().Bytes
	}
	return min(max(int64(float64(total)/(s.options.ScrubInterval.Seconds()/2)), minScrubRate), maxScrubRate)
}

// Scrub verifies all segments once, reading at most rate bytes/s (0 = unlimited). What is damaged is in Holes of the
// partitions; the error is of reading. The background loop calls it each Options.ScrubInterval.
func (s *Store) Scrub(rate int64) error {
	t := s.newThrottle(rate)
	defer s.counters.scrub.at.Store(nil)
	for _, id := range s.IDs() {
		p, ok := s.Partition(id)
		if !ok {
			continue
		}
		p.mu.Lock()
		segments := slices.Clone(p.segments)
		p.mu.Unlock()
		for _, g := range segments {
			if s.stopping() || s.Err() != nil {
				return nil
			}
			if err := p.scrub(g, &t); err != nil && !errors.Is(err, errSegmentGone) {
				return fmt.Errorf("scrub partition %s: %w", id, err)
			}
		}
	}
	s.counters.scrub.rounds.Add(1)
	s.counters.scrub.last.Store(s.options.Now().UnixNano())
	return nil
}

// scrub verifies one segment as far as it is written now.
func (p *Partition) scrub(g *segment, t *throttle) error {
	p.mu.Lock()
	i := slices.Index(p.segments, g)
	if i < 0 {
		p.mu.Unlock()
		return errSegmentGone
	}
	v := p.viewOf(i)
	p.mu.Unlock()
	name := g.path()
	p.s.counters.scrub.at.Store(&name)
	h, err := p.s.files.acquire(g)
	if err != nil {
		if err = p.unopened(v, g.base, err); errors.Is(err, ErrCorrupt) {
			p.s.counters.scrub.damages.Add(1)
			return nil
		}
		return err
	}
	defer h.release()
	return p.scrubStretches(v, h, t)
}

// scrubStretches goes from one damage to the next.
func (p *Partition) scrubStretches(v view, h *handle, t *throttle) error {
	w := p.s.walkers.get(h.f, 0, v.size, false)
	defer p.s.walkers.put(w)
	offset, good := v.g.base, int64(0)
	for !p.s.stopping() {
		at := w.at
		b, err := w.next()
		if err == nil && b.BaseOffset() < offset {
			err = &badBatch{at, fmt.Errorf("offset %d after %d", b.BaseOffset(), offset)}
		}
		var bad *badBatch
		switch {
		case err == nil:
			offset = b.NextOffset()
			t.take(w.at - at)
			p.s.counters.scrub.bytes.Add(w.at - at)
			continue
		case errors.As(err, &bad):
			p.s.counters.scrub.damages.Add(1)
			p.unreadable(v, h, offset, bad)
			p.verifiedUpTo(v.g, good, bad.position)
			next, base, ok := nextValid(h.f, bad.position+1, v.size, offset)
			if !ok {
				return nil
			}
			w.at, offset, good = next, base, next
		case errors.Is(err, io.EOF):
			p.verifiedUpTo(v.g, good, v.size)
			return nil
		default:
			return err
		}
	}
	return nil
}

// verifiedUpTo spares reads the verification of what the scrub has just seen to be good.
func (p *Partition) verifiedUpTo(g *segment, from, to int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if from == 0 || g.verified.from == g.verified.to {
		g.verified.add(from, to)
	}
}
