package log

import (
	"errors"
	"io"

	"github.com/sequitur-mq/sequitur/record"
)

// batches walks the whole batches of a segment, from the first that reaches above offset. A *badBatch error ends it.
func (c *compaction) batches(g *segment, headers bool, offset int64, fn func(b record.Batch) error) error {
	h, err := c.s.files.acquire(g)
	if err != nil {
		if g.gone.Load() {
			return errSegmentGone
		}
		return err
	}
	defer h.release()
	w := c.s.walkers.get(h.f, 0, g.size, headers) // sealed: size no longer changes, but for truncations, which make a new segment
	defer c.s.walkers.put(w)
	for {
		at := w.at
		b, err := w.next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if !headers {
			c.s.counters.compact.read.Add(uint64(w.at - at))
			c.throttle.take(w.at - at)
			if c.s.stopping() {
				return errCompactionStopped
			}
		}
		if b.NextOffset() <= offset {
			continue
		}
		if err := fn(b); err != nil {
			return err
		}
	}
}

// damaged remembers a segment that is left alone, and passes other errors on.
func (c *compaction) damaged(g *segment, err error) error {
	var bad *badBatch
	if errors.As(err, &bad) || isNotExist(err) {
		c.skipped = min(c.skipped, g.base)
		return nil
	}
	return err
}

// lastBatches finds each producer's last batch below the limit, from the headers.
func (c *compaction) lastBatches() error {
	c.last = map[uint64]int64{}
	for _, g := range c.segments {
		err := c.batches(g, true, 0, func(b record.Batch) error {
			if id := b.ProducerID(); id != 0 {
				if _, known := c.last[id]; known || len(c.last) < compactProducers {
					c.last[id] = b.BaseOffset()
				}
			}
			return nil
		})
		if err = c.damaged(g, err); err != nil {
			return err
		}
	}
	return nil
}

// mayCompact tells whether a batch's records take part: those of transactions may be void, so they neither supersede
// nor go.
func mayCompact(b record.Batch) bool {
	return b.Count() > 0 && !b.Attributes().Control() && !b.Attributes().Transactional()
}

var errMapFull = errors.New("key map full")

// gather notes the keys from offset on and returns how far it came: the limit, or where the map was full.
func (c *compaction) gather(offset int64) (upto int64, err error) {
	upto = offset
	for i, g := range c.segments {
		if c.ends[i] <= offset {
			continue
		}
		err := c.batches(g, false, offset, func(b record.Batch) error {
			if mayCompact(b) {
				if err := c.keysOf(b); err != nil {
					return err
				}
			}
			upto = b.NextOffset()
			return nil
		})
		if errors.Is(err, errMapFull) && upto > offset {
			return upto, nil
		}
		if errors.Is(err, errMapFull) {
			// One batch with more keys than the map holds: what was noted of it is right, go on behind it.
			return c.after(g, upto), nil
		}
		if err = c.damaged(g, err); err != nil {
			return 0, err
		}
		upto = c.ends[i]
	}
	return c.limit, nil
}

// after is the offset behind the batch that holds offset.
func (c *compaction) after(g *segment, offset int64) int64 {
	next := offset + 1
	found := errors.New("found")
	c.batches(g, true, offset, func(b record.Batch) error { next = b.NextOffset(); return found })
	return next
}

func (c *compaction) keysOf(b record.Batch) error {
	if err := c.reader.Reset(b, c.inflate, storedLimits()); err != nil {
		return &badBatch{0, err}
	}
	var rec record.Record
	for {
		ok, err := c.reader.Next(&rec)
		if err != nil {
			return &badBatch{0, err}
		}
		if !ok {
			return nil
		}
		if rec.Key != nil && !c.keys.put(rec.Key, b.BaseOffset()+rec.OffsetDelta) {
			return errMapFull
		}
	}
}
