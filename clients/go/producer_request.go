package sequitur

import (
	"fmt"
	"net"
	"sync/atomic"
	"time"

	"github.com/sequitur-mq/sequitur/wire"
)

// copyBelow is the batch size up to which bytes are copied behind the metadata rather
// than written from where they are.
const copyBelow = 8 << 10

// produceRequest is one produce request in flight. Both its writer and whoever brings
// the answer leave a mark; the second of them finishes it, so that no memory is reused
// while it is still being written.
type produceRequest struct {
	s       *sender
	conn    *conn
	batches []*batch
	parts   []*partition // scratch of gather
	req     wire.ProduceRequest
	resp    wire.ProduceResponse
	frame   []byte
	bufs    net.Buffers // pieces of the frame
	writing net.Buffers // what is left to write of bufs
	marks   atomic.Int32
	sent    bool  // handed to the connection, perhaps in part
	lost    error // no answer came
}

// transmit builds and writes a request that gather made, outside of the lock.
func (s *sender) transmit(q *produceRequest) {
	if q == nil {
		return
	}
	p := s.p
	total, err := q.build()
	if err != nil {
		q.abort(err)
		return
	}
	k, acked := q.conn, p.opts.acks != AcksNone
	h, err := k.header(wire.KindProduce, 0)
	if err != nil {
		q.abort(err)
		return
	}
	q.sent = true
	if acked {
		if h.Correlation, err = k.register(q, 0); err != nil {
			q.sent = false
			q.abort(err)
			return
		}
	}
	q.encode(h, total)
	if len(q.bufs) == 1 {
		err = k.write(q.bufs[0])
	} else {
		q.writing = q.bufs
		err = k.writev(&q.writing)
	}
	if !acked {
		q.lost = err
		q.marks.Add(1)
	}
	q.mark()
}

// abort ends a request that was not sent.
func (q *produceRequest) abort(err error) {
	q.lost = err
	q.finish()
}

// build makes the batches and returns their size together.
func (q *produceRequest) build() (int, error) {
	p, total := q.s.p, 0
	q.req.Parts = q.req.Parts[:0]
	for _, b := range q.batches {
		var err error
		switch {
		case b.built == nil:
			b.built, err = b.builder.Build(q.s.compressor, p.opts.codec, b.id.id, b.id.epoch, b.seq)
			b.stamped = b.version
		case b.stamped != b.version:
			b.built.SetProducer(b.id.id, b.id.epoch, b.seq)
			b.stamped = b.version
		}
		if err != nil {
			return 0, fmt.Errorf("build a batch for %s/%d: %w", b.part.topic.name, b.part.index, err)
		}
		total += len(b.built)
		q.req.Parts = append(q.req.Parts, wire.ProducePart{
			Topic: b.part.topic.uuid, Partition: uint32(b.part.index), Bytes: uint32(len(b.built)),
		})
	}
	return total, nil
}

// encode lays out the frame: metadata and small batches copied together, big batches
// from their own memory.
func (q *produceRequest) encode(h wire.FrameHeader, total int) {
	small := 0
	for _, b := range q.batches {
		if len(b.built) < copyBelow {
			small += len(b.built)
		}
	}
	need := wire.FrameHeaderSize + 32 + 24*len(q.batches) + small
	if cap(q.frame) < need {
		q.frame = make([]byte, 0, need+need/4)
	}
	frame := wire.AppendFrame(q.frame[:0], h, &q.req, total)
	q.bufs = q.bufs[:0]
	from := 0
	for _, b := range q.batches {
		if len(b.built) < copyBelow {
			frame = append(frame, b.built...)
			continue
		}
		if from < len(frame) {
			q.bufs = append(q.bufs, frame[from:len(frame):len(frame)])
			from = len(frame)
		}
		q.bufs = append(q.bufs, b.built)
	}
	if from < len(frame) {
		q.bufs = append(q.bufs, frame[from:])
	}
	q.frame = frame
}

// answer implements responder.
func (q *produceRequest) answer(meta, _ []byte) {
	if err := q.resp.Decode(meta); err != nil {
		q.lost = err
	}
	q.mark()
}

// fail implements responder.
func (q *produceRequest) fail(err error) {
	q.lost = err
	q.mark()
}

func (q *produceRequest) mark() {
	if q.marks.Add(1) == 2 {
		q.finish()
	}
}

// finish gives the batches their outcomes and the memory back.
func (q *produceRequest) finish() {
	s, p := q.s, q.s.p
	p.mu.Lock()
	s.inflight--
	s.answered = s.answered || q.lost == nil && s.conn == q.conn
	for i, b := range q.batches {
		b.inflight = false
		b.part.wire--
		q.outcome(b, i)
	}
	for i, b := range q.batches {
		q.parts = append(q.parts, b.part)
		if b.spent { // delivered while in flight
			q.batches[i] = nil
			p.recycle(b)
		}
	}
	for _, t := range q.parts {
		t.settle()
	}
	q.recycle()
	s.wakeIfReady()
	if s.inflight == 0 && !s.awake && p.staged {
		s.wakeUp() // to see what is staged
	}
	p.unlock()
}

// outcome applies the answer to the i-th batch. Lock held.
func (q *produceRequest) outcome(b *batch, i int) {
	t, p := b.part, q.s.p
	switch {
	case p.opts.acks == AcksNone && b.done: // timed out while being written
	case p.opts.acks == AcksNone:
		b.done, b.baseOffset = true, -1
		if q.lost != nil {
			e := wireError("send to", t.topic.name, t.index, q.lost)
			e.MaybeDone = true
			b.err = e
		}
	case q.lost != nil:
		b.unknown = b.unknown || q.sent
		if !t.recovering && p.failure == nil {
			t.wantMetadata(p.client.now()) // a broken connection may mean another leader
		}
		t.again(b, q.lost, 0)
	case q.resp.Code != wire.CodeNone:
		whole := wire.ProduceResult{Code: q.resp.Code, Message: q.resp.Message}
		t.answered(b, &whole, time.Duration(q.resp.RetryAfterMs)*time.Millisecond, q.s)
	case i >= len(q.resp.Parts):
		b.unknown = true
		t.again(b, wire.Errorf(wire.CodeUnknown, "the broker answered %d of %d parts", len(q.resp.Parts), len(q.batches)), t.retry.failed(0))
	default:
		t.answered(b, &q.resp.Parts[i], time.Duration(q.resp.RetryAfterMs)*time.Millisecond, q.s)
	}
}

// recycle readies the request for reuse. Lock held.
func (q *produceRequest) recycle() {
	clear(q.batches)
	clear(q.parts)
	clear(q.bufs[:cap(q.bufs)])
	q.batches, q.parts, q.bufs, q.writing = q.batches[:0], q.parts[:0], q.bufs[:0], nil
	q.conn, q.lost, q.sent = nil, nil, false
	q.marks.Store(0)
	if cap(q.frame) > 1<<20 {
		q.frame = nil
	}
	q.s.free = append(q.s.free, q)
}
