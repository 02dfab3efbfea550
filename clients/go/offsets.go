package sequitur

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/sequitur-mq/sequitur/wire"
)

// choose checks partition numbers of a topic; none means all.
func (t *topicInfo) choose(op string, partitions []int32) ([]int32, error) {
	n := int32(len(t.parts))
	if len(partitions) == 0 {
		partitions = make([]int32, n)
		for i := range partitions {
			partitions[i] = int32(i)
		}
		return partitions, nil
	}
	for _, p := range partitions {
		if p < 0 || p >= n {
			return nil, &Error{Code: Code(wire.CodeUnknownPartition.String()), Op: op, Topic: t.name, Partition: p,
				Message: fmt.Sprintf("the topic has the partitions 0 to %d; check the number", n-1)}
		}
	}
	return partitions, nil
}

// offsets asks the leaders of partitions where a position is, retrying for at most the
// request timeout. The answers are in the order of partitions.
func (c *Client) offsets(ctx context.Context, op string, t *topicInfo, at Position, partitions []int32) ([]PartitionOffset, error) {
	retry := c.newHunter()
	patience := mostPatience
	limit := time.Now().Add(c.opts.requestTimeout)
	found := make([]PartitionOffset, len(partitions))
	left := make([]int, len(partitions)) // indexes into partitions
	for i := range left {
		left[i] = i
	}
	for {
		again, failure := c.offsetsOnce(ctx, op, t, at, partitions, left, found, patience)
		if failure == nil {
			return found, nil
		}
		left = again
		wait := retry.failed(failure.after)
		patience *= 2
		if !failure.Retriable || time.Now().Add(wait).After(limit) {
			return nil, failure
		}
		if pause(ctx, wait) != nil {
			return nil, canceled(ctx, op, t.name)
		}
		fresh, err := c.refreshTopic(ctx, op, t.name, t, nil)
		var e *Error
		switch {
		case err == nil && fresh.uuid == t.uuid:
			t = fresh
		case err == nil:
			return nil, replaced(op, t.name, "ask again")
		case errors.As(err, &e) && !e.Retriable:
			return nil, err
		}
	}
}

// offsetsOnce asks every leader once. It returns the indexes still open with the error
// of one of them.
func (c *Client) offsetsOnce(ctx context.Context, op string, t *topicInfo, at Position, partitions []int32, left []int, found []PartitionOffset, patience time.Duration) (again []int, failure *Error) {
	kind, _ := at.wireKind()
	byNode := map[*node][]int{}
	for _, i := range left {
		n := c.leader(t, partitions[i])
		byNode[n] = append(byNode[n], i)
	}
	for n, indexes := range byNode {
		if n == nil {
			failure = wireError(op, t.name, partitions[indexes[0]], wire.ErrNotLeader)
			again = append(again, indexes...)
			continue
		}
		var req wire.ListOffsetsRequest
		for _, i := range indexes {
			part := wire.ListOffsetsPart{Topic: t.uuid, Partition: uint32(partitions[i]), Kind: kind}
			if kind == wire.OffsetByTime {
				part.TimeNs = at.nanoseconds()
			}
			req.Parts = append(req.Parts, part)
		}
		var resp wire.ListOffsetsResponse
		if !c.mayAskOthers(n) {
			patience = 0
		}
		err := n.ask(ctx, op, wire.KindListOffsets, &req, &resp, patience)
		if err == nil && len(resp.Parts) != len(indexes) {
			err = wire.Errorf(wire.CodeUnknown, "the broker answered %d of %d partitions", len(resp.Parts), len(indexes))
		}
		if err != nil {
			failure = wireError(op, t.name, -1, err)
			again = append(again, indexes...)
			continue
		}
		for j, i := range indexes {
			part := &resp.Parts[j]
			if err := part.Err(); err != nil {
				failure = wireError(op, t.name, partitions[i], err)
				failure.Retriable = failure.Retriable || elsewhere(part.Code)
				again = append(again, i)
				continue
			}
			found[i] = PartitionOffset{Partition: partitions[i], Offset: part.Offset}
			if part.TimeNs > 0 {
				found[i].Time = time.Unix(0, part.TimeNs)
			}
		}
	}
	return again, failure
}
