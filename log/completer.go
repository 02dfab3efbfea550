package log

import "sync"

// completer runs completions in order while the writer is busy with the next group.
type completer struct {
	mu      sync.Mutex
	wake    sync.Cond
	queue   []completion
	running bool // completions taken from the queue are being run
	closed  bool
	recycle func([]ticket)
}

// completion is a durable (or failed) stretch of tickets.
type completion struct {
	tickets []ticket
	whole   []ticket // the slice to recycle after it, nil if more of it is to come
	err     error
}

func (c *completer) init(recycle func([]ticket)) {
	c.wake.L, c.recycle = &c.mu, recycle
}

// add queues a stretch. inline is true if the caller should run it itself: nothing is queued or running before it.
func (c *completer) add(d completion, mayInline bool) (inline bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if mayInline && len(c.queue) == 0 && !c.running {
		return true
	}
	c.queue = append(c.queue, d)
	c.wake.Signal()
	return false
}

func (c *completer) close() {
	c.mu.Lock()
	c.closed = true
	c.mu.Unlock()
	c.wake.Signal()
}

func (c *completer) run(done *sync.WaitGroup) {
	defer done.Done()
	var batch []completion
	c.mu.Lock()
	defer c.mu.Unlock()
	for {
		for len(c.queue) == 0 && !c.closed {
			c.wake.Wait()
		}
		if len(c.queue) == 0 {
			return
		}
		batch, c.queue = c.queue, batch[:0]
		c.running = true
		c.mu.Unlock()
		for i := range batch {
			batch[i].run()
			if batch[i].whole != nil {
				c.recycle(batch[i].whole)
			}
			batch[i] = completion{}
		}
		c.mu.Lock()
		c.running = false
	}
}

func (d completion) run() {
	for i := range d.tickets {
		t := &d.tickets[i]
		if d.err == nil && t.p != nil && t.kind == entryBatches {
			t.p.raiseDurable(t.end)
		}
		if t.c != nil {
			t.c.Complete(d.err)
		}
	}
}
