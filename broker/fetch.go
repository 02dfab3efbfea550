package broker

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/sequitur-mq/sequitur/log"
	"github.com/sequitur-mq/sequitur/replication/replica"
	"github.com/sequitur-mq/sequitur/wire"
)

// Fetch, version 1: reads whole batches of many partitions, up to the high watermark.
// It is answered as soon as min bytes are there, any part fails, or max wait is
// over. A first batch above the limits is sent nevertheless. Which partition
// is looked at first moves on with every answer, so that none starves.
//
// The way of a fetch: looked up on the read goroutine, parked on the replicas
// if there is nothing yet, woken on the journal's goroutine, evaluated and
// written by the connection's write goroutine at its turn (fetch_writer.go).

// fetchState says who has a fetch. It is guarded by the connection's lock.
type fetchState uint8

const (
	fetchNew     fetchState = iota // of the read goroutine
	fetchParked                    // waits to be woken
	fetchQueued                    // waits for its turn to be written
	fetchServing                   // of the write goroutine
	fetchDone
)

// A fetch is a fetch request in flight.
type fetch struct {
	h       *handler
	c       *conn
	head    wire.FrameHeader
	cost    int64 // in the connection's share
	grant   grant // of the memory for fetches
	req     wire.FetchRequest
	parts   []fetchPart   // as in req
	arrived time.Time     // zero once it was parked: waiting is no latency
	wait    time.Duration // for records, at most
	timer   *time.Timer
	timing  bool // the timer was started

	woken      atomic.Bool // something happened since the last look at the partitions
	state      fetchState  // guarded by c.mu, like those below
	last       bool        // to be answered with whatever is there
	prev, next *fetch      // in the list of parked fetches
}

// A fetchPart is one partition of a fetch.
type fetchPart struct {
	partition *partition
	replica   *replica.Replica
	err       error // why there is no replica
	seen      int64 // high watermark at the last look
	chunk     *log.Chunk

	// A watch is registered, called at most once, and the call may be slow to
	// return: it is counted, so that the fetch is not reused under its feet.
	watch      replica.Watch
	registered int32        // how often
	begun      atomic.Bool  // the last registration was called
	returned   atomic.Int32 // calls that are over
}

// fetches pools fetch requests.
type fetches struct{ pool sync.Pool }

func (p *fetches) get(h *handler) *fetch {
	if f, ok := p.pool.Get().(*fetch); ok {
		return f
	}
	return &fetch{h: h}
}

const (
	// maxFetchParts bounds the partitions of one fetch.
	maxFetchParts = 20_000
	// fetchPartCost is about the memory that a partition of a fetch takes.
	fetchPartCost = 224
	// fetchSharePerConn is the part of the fetches' memory that one
	// connection may have.
	fetchSharePerConn = 4
)

func (h *handler) fetch(r request) error {
	f := h.fetches.get(h)
	f.c, f.head, f.cost, f.arrived = r.c, r.head, r.cost(), h.now()
	if err := f.req.Decode(r.metadata()); err != nil {
		f.recycle()
		return r.malformed(err)
	}
	if err := f.admit(); err != nil {
		f.recycle()
		r.fail(err)
		return nil
	}
	r.release() // the connection's share stays until the answer
	ready := f.lookUp()
	f.wait = min(time.Duration(f.req.MaxWaitMs)*time.Millisecond, time.Duration(h.cfg.MaxFetchWait))
	f.last = f.wait <= 0 || len(f.parts) == 0
	if !ready && !f.last {
		ready = f.watchAll()
	}
	if ready {
		f.woken.Store(true)
	}
	c := f.c
	c.mu.Lock()
	defer c.mu.Unlock()
	c.parkLocked(f)
	return nil
}

// admit bounds the fetch and takes memory for it.
func (f *fetch) admit() error {
	n := len(f.req.Parts)
	if n > maxFetchParts {
		return wire.Errorf(wire.CodeInvalidRequest, "%d partitions in one fetch, at most %d may be: fetch in parts", n, maxFetchParts)
	}
	g, ok := f.h.fetchBudget.tryAcquire(int64(n) * fetchPartCost)
	if !ok {
		return &wire.Error{Code: wire.CodeOverloaded, RetryAfter: time.Duration(f.h.cfg.RetryAfter)}
	}
	f.grant = g
	if f.c.fetchBytes.Add(g.bytes) > f.h.fetchBudget.limit/fetchSharePerConn {
		return wire.Errorf(wire.CodeOverloaded, "too many partitions are being fetched at a time on this connection: use fewer fetches, or more connections")
	}
	if cap(f.parts) < n {
		f.parts = make([]fetchPart, n)
	}
	f.parts = f.parts[:n]
	return nil
}

// lookUp finds the replicas. It reports whether there is something to answer
// already.
func (f *fetch) lookUp() (ready bool) {
	for i := range f.parts {
		want, part := &f.req.Parts[i], &f.parts[i]
		part.partition, part.err = f.h.topics.find(want.Topic, want.Partition)
		if part.err == nil {
			part.replica, part.err = part.partition.use()
		}
		if part.err != nil {
			ready = true
			continue
		}
		part.seen = part.replica.HighWatermark()
		ready = ready || part.seen != want.Offset || !part.partition.serves(part.replica, f.req.Flags&wire.FetchFromFollower != 0)
	}
	return ready
}

// watchAll asks every replica to be told when it has more than was seen. It
// reports whether one has already.
func (f *fetch) watchAll() (ready bool) {
	for i := range f.parts {
		part := &f.parts[i]
		if part.replica == nil || part.registered > 0 && !part.begun.Load() {
			continue
		}
		part.begun.Store(false)
		part.registered++
		if !part.replica.Watch(&part.watch, part.seen, f, i) {
			part.begun.Store(true)
			part.returned.Add(1)
			ready = true
		}
	}
	return ready
}

// Passed implements replica.Watcher.
func (f *fetch) Passed(i int) {
	part := &f.parts[i]
	part.begun.Store(true)
	f.wake()
	part.returned.Add(1)
}

// wake gives a parked fetch its turn.
func (f *fetch) wake() {
	if f.woken.Swap(true) {
		return // its turn will come, or is there and will be repeated
	}
	c := f.c
	c.mu.Lock()
	if f.state == fetchParked {
		c.queueFetch(f)
	}
	c.mu.Unlock()
}

// startTimer bounds the wait, from the first time that the fetch is parked.
func (f *fetch) startTimer() {
	if f.timing {
		return
	}
	f.timing = true
	wait := f.wait - f.h.now().Sub(f.arrived)
	if f.timer == nil {
		f.timer = time.AfterFunc(wait, f.expire)
		return
	}
	f.timer.Reset(wait)
}

// expire ends the wait of a fetch.
func (f *fetch) expire() {
	c := f.c
	c.mu.Lock()
	defer c.mu.Unlock()
	f.last = true
	if f.state == fetchParked {
		c.queueFetch(f)
	}
}

// recycle ends a fetch that nobody else has any more: it is answered, or never
// will be. It is pooled only if no watch and no timer can call it any more.
func (f *fetch) recycle() {
	clean := !f.timing || f.timer.Stop()
	for i := range f.parts {
		part := &f.parts[i]
		part.release()
		if part.registered == 0 {
			continue
		}
		if !part.begun.Load() && part.replica.Unwatch(&part.watch) {
			part.returned.Add(1)
		}
		clean = clean && part.registered == part.returned.Load()
	}
	f.c.fetchBytes.Add(-f.grant.bytes)
	f.h.fetchBudget.release(f.grant)
	f.grant = grant{}
	f.c.mu.Lock()
	f.state = fetchDone
	f.c.mu.Unlock()
	if !clean || cap(f.parts) > keptParts {
		return
	}
	clear(f.parts)
	f.parts, f.c, f.timing, f.last, f.state = f.parts[:0], nil, false, false, fetchNew
	f.woken.Store(false)
	f.h.fetches.pool.Put(f)
}

// A fetchList is the parked fetches of a connection.
type fetchList struct {
	first *fetch
	n     int
}

func (l *fetchList) add(f *fetch) {
	f.prev, f.next = nil, l.first
	if l.first != nil {
		l.first.prev = f
	}
	l.first = f
	l.n++
}

func (l *fetchList) remove(f *fetch) {
	if f.prev != nil {
		f.prev.next = f.next
	} else {
		l.first = f.next
	}
	if f.next != nil {
		f.next.prev = f.prev
	}
	f.prev, f.next = nil, nil
	l.n--
}

// parkLocked parks a fetch, unless it has something to do.
func (c *conn) parkLocked(f *fetch) {
	f.last = f.last || c.finished
	f.state = fetchParked
	c.parked.add(f)
	if f.last || f.woken.Load() {
		c.queueFetch(f)
		return
	}
	f.startTimer()
	f.arrived = time.Time{}
	c.h.metrics.fetchParked.Add(1)
}

// queueFetch gives a parked fetch its turn. The caller holds mu.
func (c *conn) queueFetch(f *fetch) {
	c.parked.remove(f)
	f.state = fetchQueued
	c.out.fetches = append(c.out.fetches, f)
	c.writable.Signal()
}

// dropFetches ends the fetches that will not be answered, once neither
// goroutine serves the connection any more.
func (c *conn) dropFetches() {
	c.mu.Lock()
	for f := c.parked.first; f != nil; f = c.parked.first {
		c.queueFetch(f)
	}
	left := c.out.fetches
	c.out.fetches = nil
	c.mu.Unlock()
	for _, f := range left {
		f.recycle()
	}
}
