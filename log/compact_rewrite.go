package log

import (
	"errors"
	"fmt"

	"github.com/sequitur-mq/sequitur/internal/vfs"
	"github.com/sequitur-mq/sequitur/record"
)

// compactWriter writes a rewritten segment.
type compactWriter struct {
	f     vfs.File
	at    int64 // in the file, without what is buffered
	buf   []byte
	index *index
}

func (w *compactWriter) size() int64 { return w.at + int64(len(w.buf)) }

func (w *compactWriter) add(b record.Batch, base int64) error {
	w.index.add(uint32(b.BaseOffset()-base), w.size(), b.AppendTime())
	w.buf = append(w.buf, b...)
	if len(w.buf) >= compactBuffer {
		return w.flush()
	}
	return nil
}

func (w *compactWriter) flush() error {
	_, err := w.f.WriteAt(w.buf, w.at)
	w.at, w.buf = w.size(), w.buf[:0]
	return err
}

// rewriteRun writes what is to stay of n segments from i on to a new file, and puts it in their place.
func (c *compaction) rewriteRun(i, n int) (*segment, error) {
	p, run := c.p, c.segments[i:i+n]
	var before int64
	for _, g := range run {
		before += g.size
	}
	if free, _, err := c.s.fs.Free(c.s.dir); err == nil && free < uint64(before+c.s.options.ReserveBytes) {
		return nil, fmt.Errorf("rewriting %d bytes: %w", before, ErrStorageFull)
	}
	g := &segment{p: p, segmentState: segmentState{segmentName: segmentName{run[0].base, p.nextGeneration()}}}
	removed, err := c.write(g, run, c.ends[i+n-1])
	if err == nil {
		done := make(waiter, 1)
		if err = p.replaceSegments(run, g.segmentState, done); err == nil {
			err = <-done
		}
	}
	if err != nil {
		c.discard(g)
		return nil, err
	}
	c.s.counters.compact.replaced.Add(uint64(n))
	c.s.counters.compact.removed.Add(removed)
	c.s.counters.compact.reclaimed.Add(uint64(max(0, before-g.size)))
	return c.current(g)
}

// discard removes a file that did not come into use. If it did after all, because only the news of it failed, the
// store has failed, and the next start decides.
func (c *compaction) discard(g *segment) {
	if c.s.Err() == nil {
		c.s.fs.Remove(g.path())
		c.s.fs.Remove(g.indexPath())
	}
}

// current finds the segment under which the partition knows the new file.
func (c *compaction) current(g *segment) (*segment, error) {
	c.p.mu.Lock()
	defer c.p.mu.Unlock()
	for _, known := range c.p.segments {
		if known.segmentName == g.segmentName {
			return known, nil
		}
	}
	return nil, errChanged
}

// write makes the new file, complete and durable, and its index. It fills in g's size and time.
func (c *compaction) write(g *segment, run []*segment, end int64) (removed uint64, err error) {
	f, err := c.s.fs.Create(g.path())
	if err != nil {
		return 0, c.writeFailed(err)
	}
	w := &compactWriter{f: f, index: newIndex(0), buf: make([]byte, 0, compactBuffer)}
	for _, old := range run {
		if err = c.batches(old, false, 0, func(b record.Batch) error {
			out, err := c.shrink(b, end)
			removed += uint64(b.Count())
			if err != nil || out == nil {
				return err
			}
			removed -= uint64(out.Count())
			g.lastTime = out.AppendTime()
			c.throttle.take(int64(len(out)))
			return c.writeFailed(w.add(out, g.base))
		}); err != nil {
			break
		}
	}
	if err == nil {
		err = c.writeFailed(w.flush())
	}
	if err == nil {
		err = c.writeFailed(f.Sync())
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return 0, err
	}
	g.size = w.at
	if err := c.writeFailed(c.s.fs.SyncDir(c.p.dir())); err != nil {
		return 0, err
	}
	return removed, c.saveIndex(g, w.index)
}

// saveIndex writes the new file's index; it is not synced, like all of them.
func (c *compaction) saveIndex(g *segment, x *index) error {
	f, err := c.s.fs.Create(g.indexPath())
	if err == nil {
		_, err = f.WriteAt(x.encode(g.segmentName, g.size), 0)
		err = errors.Join(err, f.Close())
	}
	return c.writeFailed(err)
}

// shrink returns what stays of a batch, nil if nothing does. end is the offset after the file.
func (c *compaction) shrink(b record.Batch, end int64) (record.Batch, error) {
	out := b
	if mayCompact(b) {
		var err error
		out, err = c.rewrite.Rewrite(b, storedLimits(), func(rec *record.Record) bool { return c.keeps(b, rec) })
		if err != nil {
			return nil, &badBatch{0, err}
		}
	}
	if out.Count() == 0 && !out.Attributes().Control() && !c.keepsHeader(out, end) {
		return nil, nil
	}
	return out, nil
}

// writeFailed latches the store if a write or sync failed for another reason than lack of space, or because the
// partition is being removed.
func (c *compaction) writeFailed(err error) error {
	switch {
	case err == nil:
		return nil
	case vfs.IsDiskFull(err):
		c.s.reserve.noteFull()
		return fmt.Errorf("%w: %w", ErrStorageFull, err)
	case isNotExist(err):
		return errChanged
	}
	return c.s.fail(fmt.Errorf("compact partition %s: %w", c.p.id, err))
}
