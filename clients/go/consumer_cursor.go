package sequitur

import (
	"time"
	"unsafe"

	"github.com/sequitur-mq/sequitur/record"
)

// chunk is the batches of one partition out of one answer, checked; or a jump of its
// position; or the error that ended its fetching.
type chunk struct {
	part    *consumed
	gen     uint64
	batches []byte
	jump    int64 // position to go to, with no batches; else -1
	err     *Error
}

// cursor walks through a chunk. Only the reader uses it.
type cursor struct {
	k     *Consumer
	part  *consumed
	rest  []byte // batches to come
	held  int    // bytes of the chunk, until it is left behind
	batch record.Batch

	reader     record.Reader
	rec        record.Record
	decomp     record.Decompressor
	headers    []Header // memory for records' headers
	baseOffset int64
	baseTime   int64
	appendTime time.Time
	open       bool // reader has a batch
	err        error
}

// start begins a chunk. Consumer.mu is held.
func (c *cursor) start(k *Consumer, ch chunk) {
	c.k, c.part, c.rest, c.held, c.open = k, ch.part, ch.batches, len(ch.batches), false
	if ch.jump >= 0 {
		ch.part.position.Store(ch.jump)
	}
}

// drop leaves the chunk; the reader then asks for another.
func (c *cursor) drop() { c.rest, c.open, c.part = nil, false, nil }

// next decodes the next record of the current batch; false when there is none.
func (c *cursor) next(out *Record) bool {
	for c.open {
		more, err := c.reader.Next(&c.rec)
		if !more {
			c.open = false
			if c.err = err; err == nil {
				c.part.position.Store(max(c.part.position.Load(), c.batch.NextOffset()))
			}
			return false
		}
		p := c.part
		offset := c.baseOffset + c.rec.OffsetDelta
		if offset < p.position.Load() || p.until >= 0 && offset >= p.until {
			continue
		}
		out.Topic, out.Partition, out.Offset = p.name, p.index, offset
		out.Timestamp = time.UnixMilli(c.baseTime + c.rec.TimestampDelta)
		out.AppendTime = c.appendTime
		out.Key, out.Value = c.rec.Key, c.rec.Value
		out.Headers, out.MessageID = nil, ""
		if len(c.rec.Headers) > 0 {
			c.takeHeaders(out)
		}
		p.position.Store(offset + 1)
		return true
	}
	return false
}

// takeHeaders gives the record headers of its own, without the message id among them.
func (c *cursor) takeHeaders(out *Record) {
	n := len(c.rec.Headers)
	if cap(c.headers)-len(c.headers) < n {
		c.headers = make([]Header, 0, max(n, 256))
	}
	from := len(c.headers)
	for _, h := range c.rec.Headers {
		if h.Key == record.MessageIDHeader && out.MessageID == "" {
			// The bytes are never written again, so the string may share them.
			out.MessageID = unsafe.String(unsafe.SliceData(h.Value), len(h.Value))
			continue
		}
		c.headers = append(c.headers, h)
	}
	if to := len(c.headers); to > from {
		out.Headers = c.headers[from:to:to]
	}
}

// nextBatch opens the next batch of the chunk that has records to hand out; false at
// the chunk's end.
func (c *cursor) nextBatch() (bool, error) {
	if c.err != nil {
		return false, c.corrupt()
	}
	for len(c.rest) > 0 {
		b, rest, err := record.Parse(c.rest, consumerLimits())
		if err != nil {
			c.err = err
			return false, c.corrupt()
		}
		c.rest, c.batch = rest, b
		p := c.part
		if b.Attributes().Control() || b.Count() == 0 || b.NextOffset() <= p.position.Load() || p.until >= 0 && b.BaseOffset() >= p.until {
			p.position.Store(max(p.position.Load(), b.NextOffset()))
			continue
		}
		// Not into the decompressor's own memory: what is handed out may be kept.
		records, err := c.decomp.Records(nil, b, consumerLimits())
		if err != nil {
			c.err = err
			return false, c.corrupt()
		}
		c.reader.ResetRecords(b, records)
		c.baseOffset, c.baseTime, c.appendTime = b.BaseOffset(), b.BaseTimestamp(), time.Unix(0, b.AppendTime())
		c.open = true
		return true, nil
	}
	return false, nil
}

// corrupt reports a batch whose checksum is right but whose records are not: its
// producer wrote it so.
func (c *cursor) corrupt() error {
	p, k := c.part, c.k
	e := wireCorrupt(p, c.batch.BaseOffset(), c.batch.NextOffset(), "the producer wrote a malformed batch: "+c.err.Error())
	c.err = nil
	k.mu.Lock()
	defer k.mu.Unlock()
	c.drop()
	if k.opts.skipCorrupt {
		k.hooks.CorruptSkipped(p.name, p.index, e.From, e.To, e)
		p.gen++
		p.next, p.inFetch = e.To, false
		p.position.Store(e.To)
		k.dropQueued(p)
		k.kickAll()
		return nil
	}
	p.failed = e
	k.dropQueued(p)
	k.stuck = append(k.stuck, p)
	return e
}

// consumerLimits bound the batches that a consumer takes.
func consumerLimits() record.Limits { return record.DefaultLimits() }
