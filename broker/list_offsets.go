package broker

import (
	"github.com/sequitur-mq/sequitur/wire"
)

// ListOffsets, version 1: for each partition named, its first offset, its end (the high
// watermark) or the first offset appended at or after a time. Where nothing
// was, the answer is the end with time -1.

func (h *handler) listOffsets(r request) error {
	var req wire.ListOffsetsRequest
	if err := r.decode(&req); err != nil {
		return err
	}
	resp := wire.ListOffsetsResponse{Parts: make([]wire.ListOffsetsResult, len(req.Parts))}
	for i := range req.Parts {
		resp.Parts[i] = h.listOffset(&req.Parts[i])
	}
	r.answer(&resp)
	return nil
}

func (h *handler) listOffset(part *wire.ListOffsetsPart) (res wire.ListOffsetsResult) {
	var err error
	if res.Offset, res.TimeNs, err = h.offset(part); err != nil {
		res = wire.ListOffsetsResult{Offset: -1, TimeNs: -1}
		res.Code, res.Message = h.partError(err)
	}
	return res
}

func (h *handler) offset(part *wire.ListOffsetsPart) (offset, timeNs int64, err error) {
	p, err := h.topics.find(part.Topic, part.Partition)
	if err != nil {
		return 0, 0, err
	}
	replica, err := p.use()
	if err != nil {
		return 0, 0, err
	}
	switch part.Kind {
	case wire.OffsetStart:
		return replica.Start(), -1, nil
	case wire.OffsetEnd:
		return replica.HighWatermark(), -1, nil
	case wire.OffsetByTime:
		offset, at, err := replica.OffsetByTime(part.TimeNs)
		if err != nil {
			return 0, 0, wrapTopic(p.topic.name, p.number, err)
		}
		if end := replica.HighWatermark(); at < 0 || offset >= end {
			return end, -1, nil
		}
		return offset, at, nil
	}
	return 0, 0, wire.Errorf(wire.CodeInvalidRequest, "offset kind %d is not known: use 0 (start), 1 (end) or 2 (by time)", part.Kind)
}
