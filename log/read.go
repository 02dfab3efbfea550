package log

import (
	"errors"
	"fmt"
	"io"
	"math"
	"sort"

	"github.com/sequitur-mq/sequitur/record"
)

const maxOffset = math.MaxInt64

// view is what a read needs to know of one segment, taken under the partition's lock.
type view struct {
	g        *segment
	size     int64 // readable bytes
	next     int64 // offset after the segment
	found    int64
	verified span
}

// hint remembers where a reader will go on, so that a sequential consumer needs no index.
type hint struct {
	g        *segment
	offset   int64
	position int64
}

type hints struct {
	list [4]hint
	turn int
}

// Read returns whole batches from the one that holds offset from on, all of them below limit (at most End(): readers of
// committed data pass the high watermark), of up to maxBytes together but at least one. The first batch may begin before
// from. from == limit gives an empty chunk with Next() == from, as does a first batch that reaches beyond limit.
//
// verify checks every payload's CRC before it is served. Without it that is done once for bytes that an earlier process
// wrote, and not for those of this one. The chunk must be released.
//
// Errors: ErrOutOfRange below Start or above limit; *CorruptError for a batch that fails its checksums, with the offset
// to go on from: it is never served, and reads elsewhere go on; ErrUnknownPartition after Delete.
func (p *Partition) Read(from, limit int64, maxBytes int, verify bool) (*Chunk, error) {
	for attempt := 0; ; attempt++ {
		c, err := p.read(from, limit, maxBytes, verify)
		if errors.Is(err, errSegmentGone) && attempt < 8 {
			continue // retention or compaction took the file away under us
		}
		return c, err
	}
}

var errSegmentGone = errors.New("segment was removed")

func (p *Partition) read(from, limit int64, maxBytes int, verify bool) (*Chunk, error) {
	c := p.s.chunk()
	p.mu.Lock()
	switch {
	case p.deleted:
		p.mu.Unlock()
		c.Release()
		return nil, fmt.Errorf("read partition %s: %w", p.id, ErrUnknownPartition)
	case from < p.start || from > limit || limit > p.end:
		err := fmt.Errorf("read partition %s: offset %d with limit %d, log is [%d, %d): %w", p.id, from, limit, p.start, p.end, ErrOutOfRange)
		p.mu.Unlock()
		c.Release()
		return nil, err
	}
	c.next = from
	if from == limit || len(p.segments) == 0 {
		c.next = limit // without segments, all that was there has been compacted away
		p.mu.Unlock()
		return c, nil
	}
	var space [len(recent{}.entries)]recentEntry
	var found []recentEntry
	if p.recent != nil && !verify {
		found = p.recent.find(from, maxBytes, space[:0])
	}
	v := p.viewAt(from)
	position := p.hinted(v.g, from)
	p.mu.Unlock()
	if len(found) > 0 && p.s.fromTail(c, found, from, limit, maxBytes) {
		p.s.counters.tailHits.Add(1)
		return c, nil
	}
	p.s.counters.tailMisses.Add(1)
	if err := p.fromFile(c, v, position, from, limit, maxBytes, verify); err != nil {
		c.Release()
		return nil, err
	}
	return c, nil
}

func (s *Store) chunk() *Chunk {
	c, _ := s.chunkPool.Get().(*Chunk)
	if c == nil {
		c = new(Chunk)
	}
	c.pool = &s.chunkPool
	return c
}

// viewAt finds the segment that holds offset, which is below the end. The caller holds mu.
func (p *Partition) viewAt(offset int64) view {
	i := sort.Search(len(p.segments), func(i int) bool { return p.segments[i].base > offset }) - 1
	return p.viewOf(max(i, 0))
}

func (p *Partition) viewOf(i int) view {
	g := p.segments[i]
	v := view{g: g, size: g.size, next: p.end, found: g.found, verified: g.verified}
	if i+1 < len(p.segments) {
		v.next = p.segments[i+1].base
	}
	return v
}

// hinted returns the position where a read from offset begins if it is remembered, else -1. The caller holds mu.
func (p *Partition) hinted(g *segment, offset int64) int64 {
	if p.hints != nil {
		for i := range p.hints.list {
			if h := &p.hints.list[i]; h.g == g && h.offset == offset {
				return h.position
			}
		}
	}
	return -1
}

func (p *Partition) remember(g *segment, offset, position int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.hints == nil {
		p.hints = new(hints)
	}
	p.hints.list[p.hints.turn] = hint{g, offset, position}
	p.hints.turn = (p.hints.turn + 1) % len(p.hints.list)
}

// fromTail fills the chunk from the memory tail. false: a slab was reused meanwhile, or nothing whole lies below limit.
func (s *Store) fromTail(c *Chunk, found []recentEntry, from, limit int64, maxBytes int) bool {
	for _, e := range found {
		c.refs = append(c.refs, e.ref)
	}
	if !s.tail.pin(c.refs) {
		c.refs = c.refs[:0]
		return false
	}
	c.tail = s.tail
	for i, r := range c.refs {
		mem := r.slab.buf[r.off : r.off+r.n]
		if i == 0 {
			for record.Batch(mem).NextOffset() <= from {
				mem = mem[record.Batch(mem).Length():]
			}
		}
		n := 0
		for n < len(mem) {
			b := record.Batch(mem[n:])
			length := int(b.Length())
			if b.NextOffset() > limit || c.n+n+length > maxBytes && c.n+n > 0 {
				break
			}
			n += length
			c.next = b.NextOffset()
		}
		if n > 0 {
			c.mem = append(c.mem, mem[:n:n])
			c.n += n
		}
		if n < len(mem) {
			break
		}
	}
	return true
}

// fromFile fills the chunk with a stretch of a segment file.
func (p *Partition) fromFile(c *Chunk, v view, position, from, limit int64, maxBytes int, verify bool) error {
	h, err := p.s.files.acquire(v.g)
	if err != nil {
		return p.unopened(v, from, err)
	}
	c.h = h
	if position < 0 {
		if position, _, err = p.locate(v, h, from); err != nil {
			return p.unreadable(v, h, from, err)
		}
	}
	end, next, err := p.chunkEnd(v, h, position, limit, maxBytes)
	if err != nil {
		return p.unreadable(v, h, from, err)
	}
	if end > position && (verify || position < v.found && !v.verified.contains(position, min(end, v.found))) {
		if end, next, err = p.verifyStretch(v, h, position, end, next); err != nil {
			return p.unreadable(v, h, from, err)
		}
	}
	if end == position {
		h.release()
		c.h = nil
		if next > from { // nothing was left in this segment of what it once held
			return p.fromNext(c, v, next, limit, maxBytes, verify)
		}
		return nil
	}
	c.pos, c.n, c.next = position, int(end-position), next
	p.remember(v.g, next, end)
	return nil
}

// fromNext goes on in the segment after v, whose last offsets were compacted away.
func (p *Partition) fromNext(c *Chunk, v view, from, limit int64, maxBytes int, verify bool) error {
	c.next = min(from, limit)
	if from >= limit {
		return nil
	}
	p.mu.Lock()
	after := p.viewAt(from)
	p.mu.Unlock()
	if after.g == v.g {
		return nil
	}
	return p.fromFile(c, after, -1, from, limit, maxBytes, verify)
}

// locate finds the first batch of the segment whose next offset is above offset. At the end of the segment position is
// its size.
func (p *Partition) locate(v view, h *handle, offset int64) (position, base int64, err error) {
	position, base = 0, v.g.base
	if offset < base {
		return 0, base, nil // the segments before it were compacted away
	}
	if offset >= v.next {
		return v.size, v.next, nil
	}
	e, ok, err := p.lookup(v.g, h, func(x *index) (indexEntry, bool) { return x.byOffset(uint32(offset - v.g.base)) })
	if err != nil {
		return 0, 0, err
	}
	if ok {
		position, base = int64(e.position), v.g.base+int64(e.offset)
	}
	w := p.s.walkers.get(h.f, position, v.size, true)
	defer p.s.walkers.put(w)
	for base <= offset {
		position = w.at
		b, err := w.next()
		bad := new(badBatch)
		switch {
		case errors.Is(err, io.EOF):
			return v.size, v.next, nil
		case errors.As(err, &bad):
			// Damage below what is looked for is somebody else's.
			at, after, ok := nextValid(h.f, bad.position+1, v.size, base)
			if !ok || after > offset {
				return 0, 0, err
			}
			w.at, base = at, after
		case err != nil:
			return 0, 0, err
		case b.NextOffset() > offset:
			return position, b.BaseOffset(), nil
		default:
			base = b.NextOffset()
		}
	}
	return position, base, nil
}

// chunkEnd finds where a chunk that begins at position ends: behind the last batch below limit, and not much more than
// maxBytes on. next is the offset there.
func (p *Partition) chunkEnd(v view, h *handle, position, limit int64, maxBytes int) (end, next int64, err error) {
	end, next = v.size, v.next
	if limit < v.next {
		if end, next, err = p.locate(v, h, limit); err != nil {
			return 0, 0, err
		}
	}
	most := position + int64(maxBytes)
	if end <= most {
		return end, next, nil
	}
	e, ok, err := p.lookup(v.g, h, func(x *index) (indexEntry, bool) { return x.byPosition(most) })
	if err != nil {
		return 0, 0, err
	}
	from := position
	if ok && int64(e.position) > position && int64(e.position) <= end {
		from, next = int64(e.position), v.g.base+int64(e.offset)
		if from-position >= int64(maxBytes)/2 {
			return from, next, nil
		}
	}
	w := p.s.walkers.get(h.f, from, end, true)
	defer p.s.walkers.put(w)
	for {
		at := w.at
		b, err := w.next()
		if err != nil {
			if at > position && !errors.Is(err, io.EOF) {
				return at, next, nil // serve what precedes the damage
			}
			return at, next, err
		}
		if at > position && w.at > most {
			return at, b.BaseOffset(), nil
		}
		next = b.NextOffset()
		if w.at >= end {
			return w.at, next, nil
		}
	}
}

// verifyStretch checks every batch of [position, end). Where one is bad, the stretch is cut before it; if it is the
// first, that is the error.
func (p *Partition) verifyStretch(v view, h *handle, position, end, next int64) (int64, int64, error) {
	w := p.s.walkers.get(h.f, position, end, false)
	defer p.s.walkers.put(w)
	last := int64(-1)
	for w.at < end {
		b, err := w.next()
		if err == nil && b.BaseOffset() < last {
			err = &badBatch{w.at - int64(b.Length()), fmt.Errorf("offset %d after %d", b.BaseOffset(), last)}
		}
		if err != nil {
			var bad *badBatch
			if !errors.As(err, &bad) || bad.position == position {
				return 0, 0, err
			}
			end, next = bad.position, last
			break
		}
		last = b.NextOffset()
	}
	p.mu.Lock()
	v.g.verified.add(position, end)
	p.mu.Unlock()
	return end, next, nil
}

// Batches hands every batch from the one that holds offset from on to fn, up to the end as it is when it gets there,
// verified. A batch is valid until fn returns. It stops at the first error, of fn or a *CorruptError.
func (p *Partition) Batches(from int64, fn func(record.Batch) error) error {
	for {
		end := p.End()
		if from >= end {
			return nil
		}
		c, err := p.Read(from, end, walkBuffer, true)
		if err != nil {
			return err
		}
		err = p.each(c, fn)
		next := c.Next()
		c.Release()
		if err != nil || next <= from {
			return err
		}
		from = next
	}
}

func (p *Partition) each(c *Chunk, fn func(record.Batch) error) error {
	buf, _ := p.s.buffers.Get().(*[]byte)
	if buf == nil {
		buf = new([]byte)
	}
	defer p.s.buffers.Put(buf)
	b, err := c.AppendTo((*buf)[:0])
	*buf = b[:0]
	if err != nil {
		return err
	}
	for len(b) > 0 {
		var batch record.Batch
		if batch, b, err = record.Parse(b, storedLimits()); err != nil {
			return fmt.Errorf("partition %s: %w", p.id, err)
		}
		if err := fn(batch); err != nil {
			return err
		}
	}
	return nil
}
