package broker

import (
	"container/list"
	"sync"
	"time"
)

// smallFrame is the size up to which a frame may use the reserve of the
// budget: control requests and small batches get through while large frames
// queue for memory.
const smallFrame = 64 << 10

// A budget bounds the bytes that frames in flight hold over all connections.
//
// It has two parts. The reserve serves only small frames. The main part
// serves everyone in the order of arrival, so that a large frame is not
// starved by small ones that would always fit first.
type budget struct {
	mu      sync.Mutex
	main    int64 // bytes left; never negative
	reserve int64
	limit   int64     // main + reserve when nothing is in flight
	queue   list.List // of *budgetWaiter, in order of arrival
	waits   uint64    // how often someone had to wait
	refused uint64    // how often the wait was in vain
}

// A grant is what one frame holds of a budget. The zero grant holds nothing.
type grant struct {
	bytes   int64
	reserve bool
}

type budgetWaiter struct {
	bytes   int64
	ready   chan struct{} // closed under the budget's lock, when granted
	granted bool
}

func newBudget(limit int64) *budget {
	reserve := limit / 4
	return &budget{main: limit - reserve, reserve: reserve, limit: limit}
}

// tryAcquire takes n bytes if they are there and nobody waits for them.
func (b *budget) tryAcquire(n int64) (grant, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.take(n)
}

func (b *budget) take(n int64) (grant, bool) {
	if n <= smallFrame && b.reserve >= n {
		b.reserve -= n
		return grant{n, true}, true
	}
	if b.queue.Len() == 0 && b.main >= n {
		b.main -= n
		return grant{n, false}, true
	}
	return grant{}, false
}

// acquire takes n bytes, waiting for at most the given time behind those who
// came before. It reports false when the time is over or stop is closed.
func (b *budget) acquire(n int64, wait time.Duration, stop <-chan struct{}) (grant, bool) {
	b.mu.Lock()
	if g, ok := b.take(n); ok {
		b.mu.Unlock()
		return g, true
	}
	w := &budgetWaiter{bytes: n, ready: make(chan struct{})}
	place := b.queue.PushBack(w)
	b.waits++
	b.mu.Unlock()

	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-w.ready:
		return grant{n, false}, true
	case <-timer.C:
	case <-stop:
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if w.granted {
		return grant{n, false}, true
	}
	b.queue.Remove(place)
	b.refused++
	b.serve() // the one behind may want less than we did
	return grant{}, false
}

// release gives a grant back and wakes whoever can go on with it.
func (b *budget) release(g grant) {
	if g.bytes == 0 {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if g.reserve {
		b.reserve += g.bytes
		return
	}
	b.main += g.bytes
	b.serve()
}

// serve grants from the head of the queue for as long as memory lasts.
func (b *budget) serve() {
	for e := b.queue.Front(); e != nil; e = b.queue.Front() {
		w := e.Value.(*budgetWaiter)
		if b.main < w.bytes {
			return
		}
		b.main -= w.bytes
		b.queue.Remove(e)
		w.granted = true
		close(w.ready)
	}
}

// budgetStats describes a budget: bytes in use of the limit, who waits now,
// how many waited and how many of them were refused so far.
type budgetStats struct {
	used, limit    int64
	queued         int
	waits, refused uint64
}

func (b *budget) stats() budgetStats {
	b.mu.Lock()
	defer b.mu.Unlock()
	return budgetStats{
		used: b.limit - b.main - b.reserve, limit: b.limit,
		queued: b.queue.Len(), waits: b.waits, refused: b.refused,
	}
}
