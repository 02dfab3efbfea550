package sequitur

import (
	"time"

	"github.com/sequitur-mq/sequitur/record"
	"github.com/sequitur-mq/sequitur/wire"
)

const (
	// maxRequestBytes ends the gathering of batches for one produce request.
	maxRequestBytes = 1 << 20
	// eagerPerPartition is how much a partition's batch should hold on average before
	// batches are sent ahead of an answer: each batch costs the broker some fixed work.
	eagerPerPartition = 8 << 10
)

// sender sends to one broker. At any time one goroutine at most gathers, builds and
// writes: its own, or that of a Send which found nothing in flight. Guarded by
// Producer.mu save where said.
type sender struct {
	p    *Producer
	node *node

	conn      *conn // last one used
	full      fifo[*partition]
	ready     fifo[*partition]
	delayed   []*partition
	round     int // entries of ready that leave without waiting for answers
	openBytes int // of records in the open batches of its partitions
	eager     int // openBytes from which on batches are sent ahead
	inflight  int // requests
	sending   bool
	awake     bool // the goroutine will look again by itself
	down      bool // the last attempt to connect, or to get an identity, failed
	wake      chan struct{}
	revived   chan struct{} // holds a token when a pause after a failure should end
	free      []*produceRequest

	answered   bool               // since conn was made
	compressor *record.Compressor // used by whoever is sending
	retry      retrier            // used by the goroutine only
}

func (p *Producer) newSender(n *node) *sender {
	s := &sender{p: p, node: n, wake: make(chan struct{}, 1), revived: make(chan struct{}, 1), compressor: record.NewCompressor(), retry: p.client.newRetrier(), eager: p.opts.batchBytes}
	p.senders[n] = s
	if p.failure == nil {
		p.wg.Add(1)
		go s.run()
	}
	return s
}

// dropMoved forgets partitions that have another sender by now. Lock held.
func (s *sender) dropMoved() {
	for _, list := range []*fifo[*partition]{&s.full, &s.ready} {
		for range list.len() {
			if t := list.pop(); t.sender == s {
				list.push(t)
			}
		}
	}
	s.round = min(s.round, s.ready.len())
}

// maySend reports whether a request may leave now, and otherwise how long to wait for
// a linger to end, if one is running.
func (s *sender) maySend() (ok bool, linger time.Duration) {
	if s.full.len() == 0 && s.ready.len() == 0 {
		return false, 0
	}
	if s.inflight >= s.p.opts.maxInFlight {
		return false, 0
	}
	if s.full.len() > 0 || s.round > 0 || s.openBytes >= s.eager {
		return true, 0
	}
	if s.inflight > 0 {
		return false, 0
	}
	if s.p.opts.linger > 0 && len(s.p.room) == 0 && len(s.p.flushes) == 0 {
		if b := s.ready.peek().open(); b != nil {
			linger = time.Duration(b.opened - s.p.client.now() + int64(s.p.opts.linger))
			return linger <= 0, linger
		}
	}
	return true, 0
}

// mayGoDirectly reports whether the goroutine of a Send may send at once.
func (s *sender) mayGoDirectly() bool {
	if s.sending || s.inflight > 0 || s.p.opts.acks == AcksNone || s.conn == nil || s.conn.dead.Load() || !s.p.identityReady() {
		return false
	}
	ok, _ := s.maySend()
	return ok
}

// wakeIfReady has the goroutine send what may be sent.
func (s *sender) wakeIfReady() {
	if s.awake {
		return
	}
	if ok, linger := s.maySend(); ok || linger > 0 {
		s.wakeUp()
	}
}

func (s *sender) wakeUp() {
	s.awake = true
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// revive has the sender try again now: its broker leads anew.
func (s *sender) revive() {
	s.node.revive()
	select {
	case s.revived <- struct{}{}:
	default:
	}
}

// pause waits after a failure; false at the end of the producer.
func (s *sender) pause(d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-s.revived:
		s.retry.succeeded()
	case <-s.p.ctx.Done():
	}
	return s.p.ctx.Err() == nil
}

// delay has a partition wait before it is sent again.
func (s *sender) delay(t *partition, d time.Duration) {
	t.delayed, t.notBefore = true, s.p.client.now()+int64(d)
	s.delayed = append(s.delayed, t)
	s.wakeUp()
}

// endDelays readies the partitions whose wait is over and returns how long the next
// one has to wait, 0 if there is none.
func (s *sender) endDelays() time.Duration {
	now, next := s.p.client.now(), int64(0)
	kept := s.delayed[:0]
	for _, t := range s.delayed {
		switch {
		case t.sender != s || !t.delayed:
		case t.notBefore <= now:
			t.delayed = false
			t.makeReady()
		default:
			kept = append(kept, t)
			if d := t.notBefore - now; next == 0 || d < next {
				next = d
			}
		}
	}
	clear(s.delayed[len(kept):])
	s.delayed = kept
	return time.Duration(next)
}

// run is the sender's goroutine.
func (s *sender) run() {
	p := s.p
	defer p.wg.Done()
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		p.mu.Lock()
		p.unstage()
		wait := s.endDelays()
		ok, linger := s.maySend()
		if linger > 0 && (wait == 0 || linger < wait) {
			wait = linger
		}
		switch {
		case s.sending, !ok && !p.identWanted:
			rest := p.stage.mayRest(s.inflight == 0 && !s.sending)
			s.awake = !rest
			p.unlock()
			if rest && !s.sleep(timer, wait) {
				return
			}
		case s.conn == nil || s.conn.dead.Load() || !p.identityReady():
			p.unlock()
			if !s.prepare() {
				return
			}
		default:
			s.sending = true
			q := s.gather()
			p.unlock()
			s.transmit(q)
			p.mu.Lock()
			s.sending = false
			p.mu.Unlock()
		}
	}
}

// sleep waits to be woken, for wait if it is not 0; false at the end of the producer.
func (s *sender) sleep(timer *time.Timer, wait time.Duration) bool {
	if wait == 0 {
		wait = time.Hour
	}
	timer.Reset(wait)
	select {
	case <-s.wake:
	case <-s.p.stage.signal:
	case <-timer.C:
	case <-s.p.ctx.Done():
		return false
	}
	return true
}

// sendDirectly sends from the goroutine of a Send, which took over s.sending.
func (s *sender) sendDirectly() {
	p := s.p
	p.mu.Lock()
	q := s.gather()
	p.mu.Unlock()
	s.transmit(q)
	p.mu.Lock()
	s.sending = false
	s.wakeIfReady()
	p.mu.Unlock()
}

// prepare connects and sees to the producer's identity; false at the end of the
// producer. A failure is followed by a pause; a connection that was lost before it
// brought an answer counts as one.
func (s *sender) prepare() bool {
	p := s.p
	p.mu.Lock()
	lost, answered := s.conn != nil && s.conn.dead.Load(), s.answered
	s.answered = s.answered && !lost
	s.dropMoved()
	idle := s.full.len() == 0 && s.ready.len() == 0 && !p.identWanted
	p.mu.Unlock()
	if idle {
		return true
	}
	if answered {
		s.retry.succeeded()
	} else if lost && !s.pause(s.retry.failed(0)) {
		return false
	}
	if s.node.live(produceLane) == nil {
		s.lookAround()
	}
	k, err := s.node.get(p.ctx, produceLane)
	if err == nil {
		p.mu.Lock()
		s.conn, s.answered = k, s.answered && s.conn == k
		p.mu.Unlock()
		err = p.ensureIdentity()
	}
	if p.ctx.Err() != nil {
		return false
	}
	if err == nil {
		p.mu.Lock()
		s.down = false
		p.mu.Unlock()
		return true
	}
	failure := wireError("send", "", -1, err)
	wait := s.retry.failed(failure.after)
	p.mu.Lock()
	s.down = true
	s.unavailable(failure)
	p.unlock()
	return s.pause(wait)
}

// lookAround has the metadata refreshed in case connecting takes long.
func (s *sender) lookAround() {
	if !s.p.client.mayAskOthers(s.node) {
		return
	}
	s.p.mu.Lock()
	defer s.p.mu.Unlock()
	s.down = true
	for _, topic := range s.p.topics {
		for _, t := range topic.parts {
			if t != nil && t.sender == s && t.busy() {
				t.wantMetadata(s.p.client.now() + int64(suspectAfter))
				break
			}
		}
	}
}

// unavailable notes why nothing can be sent. What waits fails at once if that will not
// change by itself; else it waits for the delivery timeout, and a new leader is looked
// for.
func (s *sender) unavailable(failure *Error) {
	for _, topic := range s.p.topics {
		for _, t := range topic.parts {
			if t == nil || t.sender != s || t.open() == nil && len(t.queue) == 0 {
				continue
			}
			t.cause = failure
			if !failure.Retriable {
				t.failWaiting(failure, false)
				t.settle()
			} else if !t.stale {
				t.wantMetadata(s.p.client.now())
			}
		}
	}
}

// gather takes batches for one request. The caller holds s.sending. Nil if there is
// nothing to send.
func (s *sender) gather() *produceRequest {
	if s.inflight == 0 || s.openBytes >= s.eager {
		// All that is ready now leaves, in as many requests as it takes; what becomes
		// ready meanwhile waits for the next round.
		s.round = s.ready.len()
	}
	var q *produceRequest
	size := 0
	for size < maxRequestBytes {
		var t *partition
		switch {
		case s.full.len() > 0:
			t = s.full.pop()
			if t.sender == s {
				t.inFull = false
			}
		case s.round > 0 && s.ready.len() > 0:
			s.round--
			t = s.ready.pop()
			if t.sender == s {
				t.inReady = false
			}
		default:
			s.round, size = 0, maxRequestBytes
			continue
		}
		if t.sender != s || !t.sendable() {
			continue
		}
		if q == nil {
			q = s.newRequest()
		}
		b := t.take()
		q.batches = append(q.batches, b)
		q.parts = append(q.parts, t)
		size += b.builder.Size()
	}
	if q == nil {
		return nil
	}
	s.inflight++
	q.conn = s.conn
	s.eager = max(s.p.opts.batchBytes, min((len(q.batches)+s.ready.len())*eagerPerPartition, int(s.p.opts.maxBuffered/2)))
	for _, t := range q.parts {
		t.makeReady() // after the others: one batch of a partition per request
	}
	clear(q.parts)
	q.parts = q.parts[:0]
	return q
}

func (s *sender) newRequest() *produceRequest {
	if n := len(s.free); n > 0 {
		q := s.free[n-1]
		s.free = s.free[:n-1]
		return q
	}
	return &produceRequest{s: s, req: wire.ProduceRequest{Acks: s.p.opts.acks, TimeoutMs: s.p.brokerTimeout()}}
}

// brokerTimeout is how long a broker may try to satisfy acks.
func (p *Producer) brokerTimeout() uint32 {
	return uint32(max(min(p.opts.deliveryTimeout, p.client.opts.requestTimeout/2).Milliseconds(), 1))
}
