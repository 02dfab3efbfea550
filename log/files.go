package log

import (
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/sequitur-mq/sequitur/internal/vfs"
)

// handle is an open segment file, shared by the appender and all readers. The cache holds one reference while it
// lists the handle; the file is closed when the last reference goes.
type handle struct {
	f    vfs.File
	seg  *segment
	refs atomic.Int64
	used atomic.Bool // since the clock hand passed last
	slot int         // in the cache's list
}

func (h *handle) retain() bool {
	for {
		n := h.refs.Load()
		if n == 0 {
			return false
		}
		if h.refs.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

func (h *handle) release() {
	if h.refs.Add(-1) == 0 {
		h.f.Close() // every byte that matters was synced through Sync, whose error was seen
	}
}

// fileCache keeps a bounded number of segment files open, by the clock algorithm: finding an open file takes no lock.
type fileCache struct {
	fs  vfs.FS
	max int

	mu   sync.Mutex
	list []*handle
	hand int
}

// acquire returns the segment's handle, opening the file if need be. The caller releases it.
func (c *fileCache) acquire(g *segment) (*handle, error) {
	if h := c.cached(g); h != nil {
		return h, nil
	}
	f, err := c.fs.OpenReadWrite(g.path())
	if err != nil {
		return nil, fmt.Errorf("open segment: %w", err)
	}
	return c.insert(g, f)
}

func (c *fileCache) cached(g *segment) *handle {
	h := g.handle.Load()
	if h == nil || !h.retain() {
		return nil
	}
	if !h.used.Load() {
		h.used.Store(true)
	}
	return h
}

// create makes the segment's file, and its directory if it is the first. keep opens a file of that name as it is if
// there is one, instead of emptying it.
func (c *fileCache) create(g *segment, keep bool) (*handle, error) {
	if keep {
		if f, err := c.fs.OpenReadWrite(g.path()); err == nil {
			return c.insert(g, f)
		}
	}
	f, err := c.fs.Create(g.path())
	for range 3 { // the removal of the topic's last other partition may take a directory away again
		if !isNotExist(err) {
			break
		}
		if err = c.fs.MkdirAll(g.p.dir()); err == nil {
			f, err = c.fs.Create(g.path())
		}
	}
	if err != nil {
		return nil, fmt.Errorf("create segment: %w", err)
	}
	return c.insert(g, f)
}

func (c *fileCache) insert(g *segment, f vfs.File) (*handle, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if h := c.cached(g); h != nil { // somebody was faster
		f.Close()
		return h, nil
	}
	if g.gone.Load() {
		f.Close()
		return nil, fmt.Errorf("open segment %s: %w", g.path(), ErrUnknownPartition)
	}
	for len(c.list) >= c.max && c.evict() {
	}
	h := &handle{f: f, seg: g, slot: len(c.list)}
	h.refs.Store(2)
	h.used.Store(true)
	c.list = append(c.list, h)
	g.handle.Store(h)
	return h, nil
}

// evict closes a file that was not used since the hand passed it last. The caller holds mu.
func (c *fileCache) evict() bool {
	for range 2 * len(c.list) {
		c.hand++
		if c.hand >= len(c.list) {
			c.hand = 0
		}
		h := c.list[c.hand]
		if h.used.Swap(false) {
			continue
		}
		c.remove(h)
		return true
	}
	return false
}

// remove takes a handle off the list. The caller holds mu.
func (c *fileCache) remove(h *handle) {
	last := c.list[len(c.list)-1]
	c.list[h.slot], last.slot = last, h.slot
	c.list[len(c.list)-1] = nil
	c.list = c.list[:len(c.list)-1]
	h.seg.handle.CompareAndSwap(h, nil)
	h.release()
}

// drop closes the file of a segment that is being removed, and keeps it from being opened again. Readers that hold it
// may finish.
func (c *fileCache) drop(g *segment) {
	c.mu.Lock()
	defer c.mu.Unlock()
	g.gone.Store(true)
	if h := g.handle.Load(); h != nil {
		c.remove(h)
	}
}

// pass gives the open file of a segment to one that takes its place with the same file.
func (c *fileCache) pass(from, to *segment) {
	c.mu.Lock()
	defer c.mu.Unlock()
	from.successor.Store(to)
	from.gone.Store(true)
	if h := from.handle.Swap(nil); h != nil {
		h.seg = to
		to.handle.Store(h)
	}
}

func (c *fileCache) open() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.list)
}

func (c *fileCache) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for len(c.list) > 0 {
		c.remove(c.list[len(c.list)-1])
	}
}
