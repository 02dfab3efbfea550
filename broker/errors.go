package broker

import (
	"errors"
	"fmt"
	"time"

	"github.com/sequitur-mq/sequitur/consensus"
	"github.com/sequitur-mq/sequitur/log"
	"github.com/sequitur-mq/sequitur/record"
	"github.com/sequitur-mq/sequitur/replication"
	"github.com/sequitur-mq/sequitur/replication/replica"
	"github.com/sequitur-mq/sequitur/txn"
	"github.com/sequitur-mq/sequitur/wire"
)

// errorCodes maps the errors of the rooms below to the protocol's codes; the
// first match counts. An error that is a *wire.Error already stays as it is.
var errorCodes = []struct {
	err  error
	code wire.Code
}{
	{log.ErrStorageFull, wire.CodeStorageFull},
	{log.ErrStorageFailed, wire.CodeStorageFailed},
	{log.ErrCorrupt, wire.CodeCorrupt},
	{log.ErrOutOfRange, wire.CodeOffsetOutOfRange},
	{log.ErrUnknownPartition, wire.CodeUnknownTopic},
	{log.ErrTooLarge, wire.CodeBatchTooLarge},
	{log.ErrClosed, wire.CodeShuttingDown},
	{record.ErrTooLarge, wire.CodeBatchTooLarge},
	{record.ErrShort, wire.CodeCorruptMessage},
	{record.ErrCorrupt, wire.CodeCorruptMessage},
	{txn.ErrSequenceGap, wire.CodeSequenceGap},
	{txn.ErrFenced, wire.CodeProducerFenced},
	{txn.ErrStaleSequence, wire.CodeStaleSequence},
	{replica.ErrMixedBatches, wire.CodeInvalidRequest},
	{replica.ErrClosed, wire.CodeShuttingDown},
	{replica.ErrNotLeader, wire.CodeNotLeader},
	{replica.ErrNotServing, wire.CodeNotLeader},
	{replication.ErrFenced, wire.CodeNotLeader},
	{consensus.ErrClosed, wire.CodeShuttingDown},
	{errDraining, wire.CodeShuttingDown},
	{errLeaving, wire.CodeNotLeader},
}

// wireError turns any error into one that says a protocol code, keeping its
// text. What it does not know is UNKNOWN, and logged: it should not happen.
func (h *handler) wireError(err error) error {
	if err == nil {
		return nil
	}
	var we *wire.Error
	if errors.As(err, &we) {
		return err
	}
	for _, m := range errorCodes {
		if errors.Is(err, m.err) {
			return &wire.Error{Code: m.code, Message: err.Error(), RetryAfter: h.retryAfter(m.code)}
		}
	}
	h.log.Error("request failed in an unexpected way", "error", err)
	return &wire.Error{Code: wire.CodeUnknown, Message: err.Error()}
}

// partError returns code and message of an error for one part of a response.
func (h *handler) partError(err error) (wire.Code, string) {
	err = h.wireError(err)
	s := wire.StatusOf(err)
	h.metrics.errors.count(s.Code)
	return s.Code, s.Message
}

// retryAfter suggests a pause for errors that retrying at once cannot mend.
func (h *handler) retryAfter(code wire.Code) time.Duration {
	switch code {
	case wire.CodeStorageFull, wire.CodeOverloaded, wire.CodeShuttingDown:
		return time.Duration(h.cfg.RetryAfter)
	}
	return 0
}

func unknownTopic(name string) error {
	return wire.Errorf(wire.CodeUnknownTopic, "topic %q does not exist: create it or check its name", name)
}

func unknownTopicID(id wire.UUID) error {
	return wire.Errorf(wire.CodeUnknownTopic, "no topic has the UUID %v: it was deleted, or it is of another cluster; refresh the metadata", id)
}

func unknownPartition(name string, partition uint32, partitions int) error {
	return wire.Errorf(wire.CodeUnknownPartition, "topic %q has no partition %d: it has %d, counted from 0", name, partition, partitions)
}

// wrapTopic names the topic in an error of one of its partitions.
func wrapTopic(name string, partition uint32, err error) error {
	return fmt.Errorf("topic %s, partition %d: %w", name, partition, err)
}
