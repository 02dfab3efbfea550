package log

import (
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/sequitur-mq/sequitur/record"
)

// indexCache bounds the memory of sealed segments' indexes: they can be read again.
type indexCache struct {
	limit int64

	mu    sync.Mutex
	order []*segment // by time of loading
	bytes int64
}

// loaded notes that a sealed segment's index is in memory and drops the oldest ones beyond the limit.
func (c *indexCache) loaded(g *segment, entries int) {
	c.mu.Lock()
	c.order = append(c.order, g)
	c.bytes += int64(entries) * indexEntrySize
	var drop []*segment
	for c.bytes > c.limit && len(c.order) > 1 {
		old := c.order[0]
		c.order = c.order[1:]
		drop = append(drop, old)
		c.bytes -= old.p.indexBytes(old)
	}
	c.mu.Unlock()
	for _, old := range drop {
		old.p.mu.Lock()
		if old.p.active() != old {
			old.index = nil
		}
		old.p.mu.Unlock()
	}
}

func (p *Partition) indexBytes(g *segment) int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	if g.index == nil {
		return 0
	}
	return int64(len(g.index.entries)) * indexEntrySize
}

// lookup asks the segment's index, completing it first if what it covers does not suffice for an answer.
func (p *Partition) lookup(g *segment, h *handle, find func(*index) (indexEntry, bool)) (indexEntry, bool, error) {
	p.mu.Lock()
	if x := g.index; x != nil {
		if e, ok := find(x); ok || x.from == 0 {
			p.mu.Unlock()
			return e, ok, nil
		}
	}
	p.mu.Unlock()
	if err := p.completeIndex(g, h); err != nil {
		return indexEntry{}, false, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if g.index == nil {
		return indexEntry{}, false, nil // dropped again; the caller scans from the start
	}
	e, ok := find(g.index)
	return e, ok, nil
}

// completeIndex gives the segment an index of all its bytes: from its .idx file, and from the batch headers of what
// that does not cover.
func (p *Partition) completeIndex(g *segment, h *handle) error {
	p.mu.Lock()
	x, upto := g.index, g.size
	if x != nil && x.from == 0 {
		p.mu.Unlock()
		return nil
	}
	if x != nil {
		upto = x.from
	}
	p.mu.Unlock()
	older, covered := p.storedIndex(g, h, upto)
	if err := p.scanIndex(older, g, h, covered, upto); err != nil {
		return err
	}
	p.mu.Lock()
	switch {
	case g.index != x || x != nil && x.from != upto: // somebody else completed it
	case x == nil:
		g.index = older
	default:
		x.prepend(older)
	}
	sealed := p.active() != g && x == nil && g.index == older
	n := len(older.entries)
	p.mu.Unlock()
	if sealed {
		p.s.indexes.loaded(g, n)
		if covered < upto {
			p.s.chores.add(chore{kind: choreSeal, segment: g})
		}
	}
	return nil
}

// storedIndex reads the .idx file, as far as it speaks of the first upto bytes. An unusable file is as good as none. So
// is one about other bytes: index and segment are synced apart or not at all, so that a power failure may leave the
// index of a suffix that is lost, and whose place others have taken. If its last entry is right all of it is.
func (p *Partition) storedIndex(g *segment, h *handle, upto int64) (x *index, covered int64) {
	b, err := readFile(p.s.fs, g.indexPath())
	if err == nil {
		x, covered, err = decodeIndex(b, g.segmentName)
	}
	if err == nil {
		x.truncate(upto)
		if n := len(x.entries); n > 0 && !g.confirms(h, x.entries[n-1]) {
			err = errors.New("the segment has other batches than the index says")
		}
	}
	if err != nil {
		if !isNotExist(err) {
			p.s.log.Warn("index rebuilt", "file", g.indexPath(), "err", err)
		}
		return newIndex(0), 0
	}
	return x, min(covered, upto)
}

// confirms reports whether the batch that an index entry speaks of lies where it says.
func (g *segment) confirms(h *handle, e indexEntry) bool {
	head := make(record.Batch, record.HeaderSize)
	if n, _ := h.f.ReadAt(head, int64(e.position)); n < len(head) {
		return false
	}
	return head.VerifyStamp() == nil && head.BaseOffset() == g.base+int64(e.offset) && head.AppendTime() == e.time
}

// scanIndex adds the batches of [from, to). Damaged stretches are stepped over: whoever reads them will find them.
func (p *Partition) scanIndex(x *index, g *segment, h *handle, from, to int64) error {
	w := p.s.walkers.get(h.f, from, to, true)
	defer p.s.walkers.put(w)
	offset := g.base
	for {
		at := w.at
		b, err := w.next()
		switch bad := new(badBatch); {
		case errors.Is(err, io.EOF):
			return nil
		case errors.As(err, &bad):
			next, _, ok := nextValid(h.f, bad.position+1, to, offset)
			if !ok {
				return nil
			}
			w.at = next
		case err != nil:
			return err
		case b.BaseOffset() < offset:
			return nil // out of order: damage that still has valid stamps
		default:
			offset = b.NextOffset()
			x.add(uint32(b.BaseOffset()-g.base), at, b.AppendTime())
		}
	}
}

// writeIndex saves a segment's index. The file is not synced: it can be rebuilt, and its checksum tells if it must be.
func (p *Partition) writeIndex(g *segment) error {
	p.mu.Lock()
	x, covered := g.index, g.size
	if x == nil || x.from != 0 || g.gone.Load() {
		p.mu.Unlock()
		return nil
	}
	data := x.encode(g.segmentName, covered)
	p.mu.Unlock()
	f, err := p.s.fs.Create(g.indexPath())
	if err == nil {
		_, err = f.WriteAt(data, 0)
		err = errors.Join(err, f.Close())
	}
	if isNotExist(err) {
		return nil // the partition is being removed
	}
	if err != nil {
		p.s.fs.Remove(g.indexPath()) // half of one is of no use
		return fmt.Errorf("write index: %w", err)
	}
	return nil
}

// OffsetByTime returns the base offset and append time of the first batch appended at or after ns (Unix nanoseconds).
// With none, or in an empty log, it returns the end and -1.
func (p *Partition) OffsetByTime(ns int64) (offset, at int64, err error) {
	p.mu.Lock()
	var v view
	for i, g := range p.segments {
		if g.lastTime >= ns && g.size > 0 && p.viewOf(i).next > p.start {
			v = p.viewOf(i)
			break
		}
	}
	start, end := p.start, p.end
	p.mu.Unlock()
	if v.g == nil {
		return end, -1, nil
	}
	h, err := p.s.files.acquire(v.g)
	if err != nil {
		return 0, 0, p.unopened(v, v.g.base, err)
	}
	defer h.release()
	e, ok, err := p.lookup(v.g, h, func(x *index) (indexEntry, bool) { return x.byTime(ns) })
	if err != nil {
		return 0, 0, p.unreadable(v, h, v.g.base, err)
	}
	w := p.s.walkers.get(h.f, 0, v.size, true)
	defer p.s.walkers.put(w)
	if ok {
		w.at = int64(e.position)
	}
	for {
		b, err := w.next()
		switch {
		case errors.Is(err, io.EOF):
			return end, -1, nil
		case err != nil:
			return 0, 0, p.unreadable(v, h, v.g.base+int64(e.offset), err)
		case b.AppendTime() >= ns && b.NextOffset() > start:
			return max(b.BaseOffset(), start), b.AppendTime(), nil
		}
	}
}
