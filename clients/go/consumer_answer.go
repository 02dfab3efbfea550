package sequitur

import (
	"fmt"
	"time"

	"github.com/sequitur-mq/sequitur/record"
	"github.com/sequitur-mq/sequitur/wire"
)

// maxBadCRC is how often in a row a partition's bytes may arrive damaged though the
// broker checked them.
const maxBadCRC = 3

// fail implements responder.
func (call *fetchCall) fail(err error) {
	f := call.f
	k := f.k
	k.hooks.Fetched(FetchEvent{Broker: f.node.addr, Took: time.Since(call.began), Err: err})
	k.mu.Lock()
	defer k.mu.Unlock()
	k.lastErr = err
	if k.ctx.Err() == nil {
		for i, p := range call.parts {
			if p.ask == call.asks[i] {
				k.wantMetadata(p, k.client.now()) // a broken connection may mean another leader
			}
		}
	}
	f.finish(call)
}

// answer implements responder: it checks the batches and queues them for the reader.
func (call *fetchCall) answer(meta, batches []byte) {
	f := call.f
	k := f.k
	err := call.resp.Decode(meta)
	if err == nil {
		err = call.resp.Err()
	}
	var found []fetched
	if err == nil {
		found, err = call.split(batches)
	}
	event := FetchEvent{Broker: f.node.addr, Bytes: len(batches), Took: time.Since(call.began), Err: err}
	for i := range found {
		event.Batches += found[i].count
		if found[i].count > 0 {
			event.Partitions++
		}
	}
	k.hooks.Fetched(event)
	k.mu.Lock()
	defer k.mu.Unlock()
	defer f.finish(call)
	k.lastErr, f.answered = err, true
	if err != nil {
		e := wireError("fetch", "", -1, err)
		for i, p := range call.parts {
			if p.ask == call.asks[i] {
				k.troubled(p, wire.CodeOf(err), e, e.after)
			}
		}
		return
	}
	for i := range found {
		call.take(&found[i], k)
	}
	clear(found) // they hold the batches
}

// fetched is the checked part of one partition in an answer.
type fetched struct {
	result  *wire.FetchResult
	batches []byte // whole batches with right checksums
	next    int64  // offset after them
	count   int
	bad     error // what comes after them is damaged
	badAt   [2]int64
}

// split assigns the bytes of an answer to partitions and checks the checksums.
func (call *fetchCall) split(batches []byte) ([]fetched, error) {
	found := call.found[:0]
	for i := range call.resp.Parts {
		r := &call.resp.Parts[i]
		if int(r.Index) >= len(call.parts) || uint64(r.Bytes) > uint64(len(batches)) {
			return nil, fmt.Errorf("the broker's answer contradicts itself: part %d of %d with %d of %d bytes", r.Index, len(call.parts), r.Bytes, len(batches))
		}
		x := fetched{result: r, next: call.req.Parts[r.Index].Offset}
		all := batches[:r.Bytes:r.Bytes]
		batches = batches[r.Bytes:]
		rest := all
		for len(rest) > 0 {
			b, after, err := record.Parse(rest, consumerLimits())
			if err == nil {
				err = b.Verify()
			}
			if err != nil {
				x.bad, x.badAt = err, [2]int64{x.next, x.next + 1}
				if b != nil {
					x.badAt[1] = max(b.NextOffset(), x.next+1)
				}
				break
			}
			rest = after
			x.next = max(x.next, b.NextOffset())
			x.count++
		}
		x.batches = all[:len(all)-len(rest)]
		found = append(found, x)
	}
	call.found = found
	return found, nil
}

// take queues what came for one partition and notes what to ask for next. Lock held.
func (call *fetchCall) take(x *fetched, k *Consumer) {
	p, gen := call.parts[x.result.Index], call.parts[x.result.Index].gen
	if p.ask != call.asks[x.result.Index] || p.failed != nil {
		return
	}
	if hw := x.result.HighWatermark; (x.result.Code == wire.CodeNone || hw > 0) && !(p.follower && hw < p.end.Load()) {
		p.end.Store(hw)
	}
	if x.result.Code == wire.CodeNone {
		p.doubtful = 0
		p.hunt.succeeded()
	}
	if len(x.batches) > 0 {
		call.f.turn = (call.f.indexOf(p) + 1) % max(len(call.f.parts), 1)
		p.badCRC = 0
		if x.next > p.next {
			k.push(chunk{part: p, gen: gen, batches: x.batches, jump: -1})
			p.next, p.verify = x.next, false
			p.retry.succeeded()
		} else if x.bad == nil {
			x.bad, x.badAt = fmt.Errorf("the broker sent only batches before offset %d", p.next), [2]int64{p.next, p.next + 1}
		}
	}
	if x.bad != nil {
		call.damaged(p, gen, x, k)
		return
	}
	if err := x.result.Err(); err != nil {
		call.partFailed(p, gen, x.result, wireError("fetch", p.name, p.index, err), k)
	}
}

func (f *fetcher) indexOf(p *consumed) int {
	for i, other := range f.parts {
		if other == p {
			return i
		}
	}
	return 0
}

// damaged deals with a wrong checksum: the broker did not look, so it is asked to.
func (call *fetchCall) damaged(p *consumed, gen uint64, x *fetched, k *Consumer) {
	verified := p.verify && call.req.Flags&wire.FetchVerify != 0
	if p.badCRC++; p.badCRC <= maxBadCRC || !verified {
		p.verify = true
		k.lastErr = x.bad
		return
	}
	e := wireCorrupt(p, x.badAt[0], x.badAt[1], "they arrive with a wrong checksum though the broker finds them in order; check network and memory: "+x.bad.Error())
	k.end(p, gen, e)
}

// partFailed deals with the broker's error for one partition.
func (call *fetchCall) partFailed(p *consumed, gen uint64, r *wire.FetchResult, e *Error, k *Consumer) {
	switch r.Code {
	case wire.CodeCorrupt:
		if p.follower {
			k.shun(p) // damaged there only
			return
		}
		hole := wireCorrupt(p, max(r.HoleFrom, 0), r.HoleTo, e.Message)
		if k.opts.skipCorrupt && r.HoleTo > p.next {
			k.hooks.CorruptSkipped(p.name, p.index, max(r.HoleFrom, p.next), r.HoleTo, hole)
			p.next, p.verify, p.badCRC = r.HoleTo, false, 0
			k.push(chunk{part: p, gen: gen, jump: r.HoleTo})
			return
		}
		k.end(p, gen, hole)
	case wire.CodeOffsetOutOfRange:
		if p.follower {
			k.shun(p) // it may be behind, or have dropped more than the leader
			return
		}
		if p.next > r.HighWatermark && k.doubt(p, rangeDoubt) {
			return
		}
		to := r.LogStart
		if k.opts.outOfRange == OutOfRangeToEnd {
			to = r.HighWatermark
		}
		if k.opts.outOfRange != OutOfRangeFails && to != p.next {
			k.hooks.PositionReset(p.name, p.index, p.next, to)
			p.next = to
			k.push(chunk{part: p, gen: gen, jump: to})
			return
		}
		e.From, e.To = r.LogStart, r.HighWatermark
		e.Message = fmt.Sprintf("offset %d is outside of the partition, which has %d to %d; seek to one of those, or use WithOutOfRange", p.next, r.LogStart, r.HighWatermark)
		k.end(p, gen, e)
	default:
		k.troubled(p, r.Code, e, 0)
	}
}

// doubt reports whether what the leader says is not believed yet; then the leader is
// looked up and asked once more. Lock held.
func (k *Consumer) doubt(p *consumed, enough time.Duration) bool {
	now := k.client.now()
	if p.doubtful == 0 {
		p.doubtful = now
	}
	if !p.topic.replicated(p.index) || now-p.doubtful > int64(enough) {
		p.doubtful = 0
		return false
	}
	k.hunt(p, 0)
	return true
}

// troubled deals with errors that pass, or that another broker can help with. Lock held.
func (k *Consumer) troubled(p *consumed, code wire.Code, e *Error, after time.Duration) {
	switch {
	case elsewhere(code) && p.follower:
		k.lastErr = e
		k.shun(p)
	case elsewhere(code):
		k.lastErr = e
		k.hunt(p, after)
	case code == wire.CodeOffsetNotAvailable && p.follower:
		now := k.client.now()
		if p.doubtful == 0 {
			p.doubtful = now
		}
		if now-p.doubtful > int64(lagFor) {
			k.shun(p)
			return
		}
		p.ready = now + int64(max(p.hunt.failed(after), huntFirst/2))
	case code == wire.CodeOffsetNotAvailable:
		k.hunt(p, max(after, huntFirst/2))
	default:
		k.refused(p, p.gen, e, after)
	}
}

// refused has a partition wait before it is asked for again, or ends it if that will
// not help. Lock held.
func (k *Consumer) refused(p *consumed, gen uint64, e *Error, after time.Duration) {
	if p.gen != gen {
		return
	}
	if !e.Retriable {
		k.end(p, gen, e)
		return
	}
	p.ready = k.client.now() + int64(p.retry.failed(after))
}
