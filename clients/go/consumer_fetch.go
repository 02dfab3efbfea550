package sequitur

import (
	"fmt"
	"time"

	"github.com/sequitur-mq/sequitur/wire"
)

const (
	// maxFetches is how many requests a fetcher has under way, for disjoint partitions.
	// More than one is needed only while some partitions could not be part of the first.
	maxFetches = 4
	// patience is how long a further request waits for the answer to the one before. A
	// broker that has data answers sooner, and then all partitions get their turn in one
	// request; else partitions with a request of their own would get more than their
	// share.
	patience = 5 * time.Millisecond
)

// fetcher asks one broker for the partitions that it leads. Guarded by Consumer.mu.
type fetcher struct {
	k        *Consumer
	node     *node
	parts    []*consumed
	turn     int // index in parts where the next request begins, so that all get their turn
	underWay int
	asked    int64 // client clock of the last request
	hurry    bool  // do not wait for the answer to it
	answered bool  // since the last time it connected
	down     bool  // the last attempt to connect failed, or is under way
	free     []*fetchCall
	kick     chan struct{}
	revived  chan struct{} // holds a token when a pause after a failure should end

	// The goroutine's.
	retry     retrier
	connected bool
	frame     []byte
}

func (f *fetcher) kickOff() {
	select {
	case f.kick <- struct{}{}:
	default:
	}
}

// kickAll has all fetchers look for work. Lock held.
func (k *Consumer) kickAll() {
	for _, f := range k.fetchers {
		f.kickOff()
	}
}

// fetchCall is one request under way.
type fetchCall struct {
	f     *fetcher
	req   wire.FetchRequest
	resp  wire.FetchResponse
	parts []*consumed
	asks  []uint64 // of parts, when they were asked for
	found []fetched
	began time.Time
}

// run is the fetcher's goroutine: it sends requests. Answers are taken in on the
// connection's read loop.
func (f *fetcher) run() {
	k := f.k
	defer k.wg.Done()
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		k.mu.Lock()
		f.bringHome()
		call, wait := f.plan()
		k.mu.Unlock()
		if call != nil {
			f.send(call)
		} else {
			timer.Reset(wait)
			select {
			case <-f.kick:
			case <-timer.C:
			case <-k.ctx.Done():
			}
		}
		if k.ctx.Err() != nil {
			return
		}
	}
}

// plan makes the next request, or says how long to wait if nobody kicks before. Lock
// held.
func (f *fetcher) plan() (*fetchCall, time.Duration) {
	k := f.k
	wait := time.Hour
	room := min(k.opts.prefetchBytes-k.buffered-k.reserved, k.opts.fetchBytes)
	// Below a quarter of the usual size it pays to wait for the reader.
	if f.underWay >= maxFetches || k.buffered+k.reserved > 0 && room < min(k.opts.fetchBytes, k.opts.prefetchBytes)/4 {
		return nil, wait
	}
	room = max(room, 1)
	now := k.client.now()
	if since := time.Duration(now - f.asked); f.underWay > 0 && since < patience && !f.hurry {
		return nil, patience - since
	}
	f.hurry = false
	share := k.opts.prefetchBytes / max(len(k.parts), 1)
	var call *fetchCall
	for i := range f.parts {
		p := f.parts[(f.turn+i)%len(f.parts)]
		if p.inFetch || p.failed != nil || p.moved || p.buffered > max(share, k.opts.partitionBytes) || p.until >= 0 && p.next >= p.until {
			continue
		}
		if p.ready > now {
			wait = min(wait, time.Duration(p.ready-now))
			continue
		}
		if call == nil {
			call = f.newCall()
			call.req.MaxBytes = uint32(room)
		}
		if p.verify {
			call.req.Flags |= wire.FetchVerify
		}
		p.inFetch = true
		p.ask++
		call.parts = append(call.parts, p)
		call.asks = append(call.asks, p.ask)
		call.req.Parts = append(call.req.Parts, wire.FetchPart{Topic: p.topic.uuid, Partition: uint32(p.index), Offset: p.next})
	}
	if call == nil {
		return nil, wait
	}
	each := uint32(max(min(k.opts.partitionBytes, room), room/len(call.parts)))
	for i := range call.req.Parts {
		call.req.Parts[i].MaxBytes = each
	}
	f.underWay++
	f.asked = now
	k.reserved += room
	return call, 0
}

func (f *fetcher) newCall() *fetchCall {
	if n := len(f.free); n > 0 {
		call := f.free[n-1]
		f.free = f.free[:n-1]
		clear(call.parts)
		call.parts, call.asks = call.parts[:0], call.asks[:0]
		call.req.Parts, call.req.Flags = call.req.Parts[:0], f.k.flags()
		return call
	}
	o := &f.k.opts
	return &fetchCall{f: f, req: wire.FetchRequest{MaxWaitMs: uint32(o.maxWait.Milliseconds()), MinBytes: uint32(o.minBytes), Flags: f.k.flags()}}
}

// send sends a request, connecting if need be. After a failure it pauses.
func (f *fetcher) send(call *fetchCall) {
	k := f.k
	c, err := f.connect()
	if err == nil {
		var h wire.FrameHeader
		if h, err = c.header(wire.KindFetch, 0); err == nil {
			call.began = time.Now()
			if h.Correlation, err = c.register(call, k.opts.maxWait); err == nil {
				f.frame = wire.AppendFrame(f.frame[:0], h, &call.req, 0)
				_ = c.write(f.frame) // a failed write fails the call
				return
			}
		}
	}
	e := wireError("fetch", "", -1, err)
	wait := f.retry.failed(e.after)
	k.mu.Lock()
	k.lastErr, f.down = e, true
	for _, p := range call.parts {
		switch {
		case p.fetcher != f:
		case !e.Retriable:
			k.end(p, p.gen, e)
		case p.follower:
			k.shun(p)
		default:
			k.wantMetadata(p, k.client.now()) // perhaps somebody else leads by now
		}
	}
	f.finish(call)
	k.mu.Unlock()
	f.pause(wait)
}

// pause waits after a failure.
func (f *fetcher) pause(d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-f.revived:
		f.retry.succeeded()
	case <-f.k.ctx.Done():
	}
}

// connect returns a connection. One that was lost before it brought an answer counts as
// a failure to connect, so that retries slow down.
func (f *fetcher) connect() (*conn, error) {
	if c := f.node.live(fetchLane); c != nil {
		return c, nil
	}
	f.k.mu.Lock()
	answered := f.answered
	f.answered = false
	f.k.mu.Unlock()
	if answered {
		f.retry.succeeded()
	} else if f.connected {
		f.pause(f.retry.failed(0))
	}
	f.lookAround()
	c, err := f.node.get(f.k.ctx, fetchLane)
	f.connected = err == nil
	if err == nil {
		f.k.mu.Lock()
		f.down = false
		f.k.mu.Unlock()
	}
	return c, err
}

// finish ends a request, whose memory may be used again. Lock held.
func (f *fetcher) finish(call *fetchCall) {
	f.underWay--
	f.free = append(f.free, call)
	f.k.reserved -= int(call.req.MaxBytes)
	for i, p := range call.parts {
		if p.ask == call.asks[i] {
			p.inFetch = false
		}
	}
	f.kickOff()
}

// end stops the fetching of a partition with an error, behind what is queued. Lock held.
func (k *Consumer) end(p *consumed, gen uint64, err *Error) {
	if p.failed != nil || p.gen != gen {
		return
	}
	e := *err
	e.Op, e.Topic, e.Partition = "fetch", p.name, p.index
	p.failed = &e
	k.push(chunk{part: p, gen: gen, jump: -1, err: &e})
}

// push queues a chunk for the reader. Lock held.
func (k *Consumer) push(c chunk) {
	k.queue.push(c)
	c.part.buffered += len(c.batches)
	k.buffered += len(c.batches)
	select {
	case k.arrived <- struct{}{}:
	default:
	}
}

func wireCorrupt(p *consumed, from, to int64, message string) *Error {
	return &Error{Code: Code(wire.CodeCorrupt.String()), Op: "fetch", Topic: p.name, Partition: p.index, From: from, To: to,
		Message: fmt.Sprintf("offsets %d to %d are damaged: %s; seek to %d to go on behind them, or use WithSkipCorrupt", from, to-1, message, to)}
}
