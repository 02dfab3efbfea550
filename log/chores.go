package log

import (
	"errors"
	"fmt"
	"sync"

	"github.com/sequitur-mq/sequitur/internal/vfs"
)

// chore is a piece of background work that a completion or an append leaves behind: it touches files, which they must
// not wait for.
type chore struct {
	kind    choreKind
	segment *segment
	size    int64
	id      ID
	p       *Partition
}

type choreKind uint8

const (
	choreSeal            choreKind = iota // save the index of a segment that has become full
	choreRemoveSegment                    // remove the files of a segment that is no longer part of the log
	choreTrim                             // cut the suffix off a segment's file
	choreRemoveStrays                     // remove files that recovery found not to be part of the log
	choreRemovePartition                  // remove the directory of a deleted partition
	choreUnjournal                        // let a partition's appends bypass the journal
)

// chores runs them in order on one goroutine. What a crash leaves undone, recovery finds.
type chores struct {
	s      *Store
	mu     sync.Mutex
	wake   sync.Cond
	queue  []chore
	closed bool
	busy   bool
	idle   sync.Cond // queue empty and nothing running; for tests and Close

	removed []ID // partitions without directories, which is not durable yet; of whoever runs the chores
}

// maxRemoved bounds what is made durable together.
const maxRemoved = 4096

func (c *chores) init(s *Store) {
	c.s = s
	c.wake.L, c.idle.L = &c.mu, &c.mu
}

func (c *chores) add(w chore) {
	c.mu.Lock()
	c.queue = append(c.queue, w)
	c.mu.Unlock()
	c.wake.Signal()
}

// close lets the goroutine end once the queue is empty.
func (c *chores) close() {
	c.mu.Lock()
	c.closed = true
	c.mu.Unlock()
	c.wake.Signal()
}

// drain waits until everything queued so far is done.
func (c *chores) drain() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for len(c.queue) > 0 || c.busy {
		c.idle.Wait()
	}
}

func (c *chores) run() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for {
		for len(c.queue) == 0 {
			c.idle.Broadcast()
			if c.closed {
				return
			}
			c.wake.Wait()
		}
		w := c.queue[0]
		c.queue[0] = chore{}
		c.queue = c.queue[1:]
		c.busy = true
		c.mu.Unlock()
		if c.s.failure.Load() == nil {
			c.note(c.do(w))
		}
		c.mu.Lock()
		if n := len(c.removed); n > 0 && (n >= maxRemoved || len(c.queue) == 0 || c.queue[0].kind != choreRemovePartition) {
			c.mu.Unlock()
			c.note(c.settleRemoved())
			c.mu.Lock()
		}
		c.busy = false
	}
}

func (c *chores) note(err error) {
	if err != nil && !vfs.IsDiskFull(err) {
		c.s.log.Warn("background work on files failed", "err", err)
	}
}

// settleRemoved makes the removal of partitions durable, with one sync for each topic: a topic may have thousands. The
// clean stop leaves it out: what is not settled is gone through again at the next start.
func (c *chores) settleRemoved() error {
	if c.s.failure.Load() != nil {
		return nil
	}
	list := c.removed
	c.removed = nil
	return c.s.forgetRemoved(list)
}

func (c *chores) do(w chore) error {
	switch w.kind {
	case choreSeal:
		return c.seal(w.segment)
	case choreRemoveSegment:
		return c.removeSegment(w.segment)
	case choreTrim:
		return c.trim(w.segment, w.size)
	case choreRemoveStrays:
		return w.p.removeStrays()
	case choreRemovePartition:
		if err := c.s.removePartition(w.id); err != nil {
			return err
		}
		c.removed = append(c.removed, w.id)
	case choreUnjournal:
		w.p.unjournalNow()
	}
	return nil
}

func (c *chores) seal(g *segment) error {
	h, err := c.s.files.acquire(g)
	if err != nil {
		if g.gone.Load() || isNotExist(err) { // removed behind our back: told where it was noticed
			return nil
		}
		return err
	}
	defer h.release()
	if err := g.p.completeIndex(g, h); err != nil {
		return err
	}
	err = g.p.writeIndex(g)
	if err == nil {
		g.p.mu.Lock()
		n := 0
		if g.index != nil {
			n = len(g.index.entries)
		}
		g.p.mu.Unlock()
		c.s.indexes.loaded(g, n)
	}
	return err
}

func (c *chores) removeSegment(g *segment) error {
	c.s.files.drop(g)
	for _, name := range []string{g.path(), g.indexPath()} {
		if err := c.s.fs.Remove(name); err != nil && !isNotExist(err) {
			return fmt.Errorf("remove segment: %w", err)
		}
	}
	return g.p.dropSnapshotFiles()
}

func (c *chores) trim(g *segment, size int64) error {
	f, err := c.s.fs.OpenReadWrite(g.path())
	if isNotExist(err) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := errors.Join(f.Truncate(size), f.Close()); err != nil {
		return fmt.Errorf("trim segment: %w", err)
	}
	if err := c.s.fs.Remove(g.indexPath()); err != nil && !isNotExist(err) {
		return fmt.Errorf("trim segment: %w", err)
	}
	return g.p.dropSnapshotFiles()
}
