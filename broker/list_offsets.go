package broker

import (
	"sync"
	"time"

	"github.com/sequitur-mq/sequitur/replication/replica"
	"github.com/sequitur-mq/sequitur/wire"
)

// ListOffsets, version 1: for each partition named, its first offset, its end (the high
// watermark) or the first offset appended at or after a time. Where nothing
// was, the answer is the end with time -1. In a cluster only the leader answers,
// and the end after a round with a majority: what was acknowledged before the
// question is below it, whoever leads.

func (h *handler) listOffsets(r request) error {
	var req wire.ListOffsetsRequest
	if err := r.decode(&req); err != nil {
		return err
	}
	l := &offsetsRequest{h: h, r: r, left: 1}
	l.resp.Parts = make([]wire.ListOffsetsResult, len(req.Parts))
	for i := range req.Parts {
		l.start(i, &req.Parts[i])
	}
	l.mu.Lock()
	if l.left > 1 {
		l.timer = time.AfterFunc(barrierTimeout, l.expire)
	}
	l.mu.Unlock()
	l.done()
	return nil
}

// barrierTimeout bounds the wait for a majority.
const barrierTimeout = 5 * time.Second

// An offsetsRequest is a request of which some partitions wait for a majority.
type offsetsRequest struct {
	h     *handler
	r     request
	timer *time.Timer

	mu   sync.Mutex
	left int // parts that are not done, and 1 while parts are being started; negative: answered
	resp wire.ListOffsetsResponse
}

func (l *offsetsRequest) start(i int, part *wire.ListOffsetsPart) {
	l.resp.Parts[i] = wire.ListOffsetsResult{Code: wire.CodeTimeout, Offset: -1, TimeNs: -1}
	p, r, err := l.h.replicaOf(part)
	if err != nil || l.h.topics.cluster == nil {
		l.set(i, part, r, err)
		return
	}
	l.mu.Lock()
	l.left++
	l.mu.Unlock()
	r.Barrier(func(_ int64, err error) {
		if err != nil {
			err = p.appendError(err)
		}
		l.mu.Lock()
		if l.left > 0 {
			l.set(i, part, r, err)
		}
		l.mu.Unlock()
		l.done()
	})
}

// set answers one part. The caller holds mu, unless nobody else has the request yet.
func (l *offsetsRequest) set(i int, part *wire.ListOffsetsPart, r *replica.Replica, err error) {
	res := wire.ListOffsetsResult{}
	if err == nil {
		res.Offset, res.TimeNs, err = l.h.offset(r, part)
	}
	if err != nil {
		res = wire.ListOffsetsResult{Offset: -1, TimeNs: -1}
		res.Code, res.Message = l.h.partError(err)
	}
	l.resp.Parts[i] = res
}

// done counts a part as done; the last one answers.
func (l *offsetsRequest) done() {
	l.mu.Lock()
	l.left--
	last := l.left == 0
	l.mu.Unlock()
	if last {
		if l.timer != nil {
			l.timer.Stop()
		}
		l.r.answer(&l.resp)
	}
}

// expire answers without those that have no majority.
func (l *offsetsRequest) expire() {
	l.mu.Lock()
	answer := l.left > 0
	l.left = -1 << 30
	l.mu.Unlock()
	if answer {
		l.r.answer(&l.resp)
	}
}

func (h *handler) replicaOf(part *wire.ListOffsetsPart) (*partition, *replica.Replica, error) {
	p, err := h.topics.find(part.Topic, part.Partition)
	if err != nil {
		return nil, nil, err
	}
	r, err := p.use()
	return p, r, err
}

func (h *handler) offset(r *replica.Replica, part *wire.ListOffsetsPart) (offset, timeNs int64, err error) {
	switch part.Kind {
	case wire.OffsetStart:
		return r.Start(), -1, nil
	case wire.OffsetEnd:
		return r.HighWatermark(), -1, nil
	case wire.OffsetByTime:
		offset, at, err := r.OffsetByTime(part.TimeNs)
		if err != nil {
			return 0, 0, err
		}
		if end := r.HighWatermark(); at < 0 || offset >= end {
			return end, -1, nil
		}
		return offset, at, nil
	}
	return 0, 0, wire.Errorf(wire.CodeInvalidRequest, "offset kind %d is not known: use 0 (start), 1 (end) or 2 (by time)", part.Kind)
}
