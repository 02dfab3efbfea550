package broker

import (
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sequitur-mq/sequitur/broker/dedup"
	"github.com/sequitur-mq/sequitur/record"
	"github.com/sequitur-mq/sequitur/replication/replica"
	"github.com/sequitur-mq/sequitur/wire"
)

// Produce, version 1: appends batches to partitions and answers when the last of
// them is as durable as its topic promises. Parts succeed and fail each on
// their own. With acks none there is no answer at all, not even to errors. Parts
// that are not durable within the timeout are answered TIMEOUT.
//
// The way of a batch: parsed and its payload CRC checked in the frame it came
// in, stamped there by the replica, written to the segment and queued for the
// journal, which reads it from the same frame. So the frame is given back
// only when every part is done, which is on a goroutine of the journal.

// A produceRequest is a produce request in flight; it waits for its appends.
type produceRequest struct {
	request
	h       *handler
	arrived time.Time
	req     wire.ProduceRequest
	resp    wire.ProduceResponse
	parts   []producePart
	reader  record.Reader // of the read goroutine, as is rec
	rec     record.Record
	left    atomic.Int32 // parts that are not done, and 1 while parts are being started
	timer   *time.Timer
	timing  bool // the timer was started

	mu       sync.Mutex // guards resp.Parts while appends complete, and:
	finished bool       // every part is done
	expired  bool       // answered before every part was done
}

// A producePart is what is to be counted once the part is done.
type producePart struct {
	topic            *topic
	records, batches uint32
	done             bool
	view             *dedup.Partition  // nil: no message ids to look at
	found            []dedup.Duplicate // records that the partition had already
}

// produceRequests pools requests: in steady state a produce allocates nothing.
type produceRequests struct{ pool sync.Pool }

func (p *produceRequests) get(h *handler) *produceRequest {
	if r, ok := p.pool.Get().(*produceRequest); ok {
		return r
	}
	return &produceRequest{h: h}
}

func (h *handler) produce(r request) error {
	p := h.produces.get(h)
	p.request, p.arrived = r, h.now()
	if err := p.read(); err != nil {
		return r.malformed(err)
	}
	batches := r.batches()
	p.left.Store(int32(len(p.req.Parts)) + 1)
	for i := range p.req.Parts {
		size := p.req.Parts[i].Bytes
		p.start(i, batches[:size:size])
		batches = batches[size:]
	}
	if p.left.Load() > 1 && p.req.Acks != wire.AcksNone {
		p.startTimer()
	}
	p.done()
	return nil
}

// read decodes the metadata and makes room for the results.
func (p *produceRequest) read() error {
	if err := p.req.Decode(p.metadata()); err != nil {
		return err
	}
	total := uint64(0)
	for i := range p.req.Parts {
		total += uint64(p.req.Parts[i].Bytes)
	}
	if have := uint64(p.head.BatchesLength()); total != have {
		return wire.Errorf(wire.CodeInvalidRequest, "the parts of the produce request announce %d bytes of batches, %d follow", total, have)
	}
	if p.req.Acks > wire.AcksAll {
		return wire.Errorf(wire.CodeInvalidRequest, "acks %d is not known: use 0 (none), 1 (leader), 2 (quorum) or 3 (all)", p.req.Acks)
	}
	n := len(p.req.Parts)
	if cap(p.parts) < n {
		p.parts = make([]producePart, n)
		p.resp.Parts = make([]wire.ProduceResult, n)
	}
	p.parts, p.resp.Parts = p.parts[:n], p.resp.Parts[:n]
	clear(p.parts)
	return nil
}

// start begins the append of a part.
func (p *produceRequest) start(i int, batches []byte) {
	result, pending, err := p.append(i, batches)
	if !pending {
		p.Appended(i, result, err)
	}
}

// Appended implements replica.Waiter. It runs on whatever goroutine completes
// the append and must not block.
func (p *produceRequest) Appended(i int, result replica.Result, err error) {
	p.mu.Lock()
	if !p.expired {
		p.set(i, result, err)
	}
	p.mu.Unlock()
	p.done()
}

// set notes the outcome of a part. The caller holds mu.
func (p *produceRequest) set(i int, result replica.Result, err error) {
	p.parts[i].done = true
	out := &p.resp.Parts[i]
	*out = wire.ProduceResult{BaseOffset: result.BaseOffset, AppendTime: result.AppendTime, Duplicates: out.Duplicates[:0]}
	switch part := &p.parts[i]; {
	case err != nil:
		out.BaseOffset, out.AppendTime = -1, -1
		out.Code, out.Message = p.h.partError(err)
	case result.Duplicate:
		out.Flags = wire.ProduceDuplicate
		p.duplicates(i, result)
		p.h.metrics.duplicates.Add(uint64(part.batches))
	default:
		stored := uint64(part.records) - p.duplicates(i, result)
		part.topic.counters.producedRecords.Add(stored)
		part.topic.counters.producedBytes.Add(uint64(p.req.Parts[i].Bytes))
		p.h.metrics.producedRecords.Add(stored)
		p.h.metrics.producedBatches.Add(uint64(part.batches))
		p.h.metrics.producedBytes.Add(uint64(p.req.Parts[i].Bytes))
	}
}

// done counts a part as done; the last one answers. Nothing reads from the frame
// any more then.
func (p *produceRequest) done() {
	if p.left.Add(-1) > 0 {
		return
	}
	p.mu.Lock()
	p.finished = true
	expired := p.expired
	p.mu.Unlock()
	switch {
	case expired:
		p.release()
	case p.req.Acks == wire.AcksNone:
		cost := p.cost()
		p.release()
		p.c.end(cost)
	default:
		p.h.metrics.produceLatency.observe(p.h.now().Sub(p.arrived))
		p.answer(&p.resp)
	}
	p.recycle()
}

// startTimer bounds the time to the answer.
func (p *produceRequest) startTimer() {
	timeout := time.Duration(p.req.TimeoutMs) * time.Millisecond
	if timeout <= 0 {
		timeout = time.Duration(p.h.cfg.ProduceTimeout)
	}
	p.timing = true
	if p.timer == nil {
		p.timer = time.AfterFunc(timeout, p.expire)
		return
	}
	p.timer.Reset(timeout)
}

// expire answers a request before all of its parts are durable. The frame stays
// until they are.
func (p *produceRequest) expire() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.finished {
		return
	}
	p.expired = true
	for i := range p.parts {
		if !p.parts[i].done {
			p.resp.Parts[i] = wire.ProduceResult{Code: wire.CodeTimeout, BaseOffset: -1, AppendTime: -1}
			p.h.metrics.errors.count(wire.CodeTimeout)
		}
	}
	p.c.answer(p.head, &p.resp, p.cost())
}

// keptParts is the largest request that is pooled.
const keptParts = 1024

// recycle pools a finished request, unless its timer may still call it.
func (p *produceRequest) recycle() {
	if p.timing && !p.timer.Stop() || cap(p.parts) > keptParts {
		return
	}
	p.request, p.timing, p.finished = request{}, false, false
	p.h.produces.pool.Put(p)
}

// append checks the batches of a part and gives them to the partition. If the
// append is pending, Appended is called later, perhaps already.
func (p *produceRequest) append(i int, batches []byte) (replica.Result, bool, error) {
	part := &p.req.Parts[i]
	partition, err := p.h.topics.find(part.Topic, part.Partition)
	if err != nil {
		return replica.Result{}, false, err
	}
	p.parts[i].topic = partition.topic
	first, err := p.check(i, partition.config(), batches)
	if err != nil {
		return replica.Result{}, false, wrapTopic(partition.topic.name, part.Partition, err)
	}
	r, err := partition.use()
	if err != nil {
		return replica.Result{}, false, err
	}
	if p.h.leaving.Load() {
		return replica.Result{}, false, errLeaving
	}
	admitted, err := p.h.producers.admit(first.ProducerID(), first.ProducerEpoch())
	if err != nil {
		return replica.Result{}, false, err
	}
	result, pending, err := p.appendTo(r, partition, i, batches)
	if admitted != nil {
		admitted.RUnlock()
	}
	if err != nil {
		err = partition.appendError(err)
	}
	return result, pending, err
}

// appendError names the partition in an error of its replica.
func (p *partition) appendError(err error) error {
	if errors.Is(err, replica.ErrClosed) && p.topic.deleted.Load() {
		return unknownTopic(p.topic.name)
	}
	return wrapTopic(p.topic.name, p.number, err)
}
