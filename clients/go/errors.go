package sequitur

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/sequitur-mq/sequitur/wire"
)

// Code names what went wrong, for programs: a name of the protocol's error table such
// as UNKNOWN_TOPIC, or one of the client's own codes below.
type Code string

// Codes of conditions that the client finds by itself.
const (
	CodeClosed      Code = "CLOSED"
	CodeUnreachable Code = "UNREACHABLE"
	CodeBufferFull  Code = "BUFFER_FULL"
	CodeCanceled    Code = "CANCELED"
	CodeMisuse      Code = "MISUSE"
)

// sentinel is a condition that an [*Error] matches by its code.
type sentinel struct {
	code Code
	text string
}

func (s *sentinel) Error() string { return s.text }

func broken(code wire.Code) error {
	return &sentinel{Code(code.String()), code.String() + ": " + code.Message()}
}

// Conditions for errors.Is. Whether a retry is safe is said by the [*Error] itself.
var (
	// ErrClosed: the client, producer or consumer was closed.
	ErrClosed error = &sentinel{CodeClosed, "closed"}
	// ErrUnreachable: no connection to a broker that can serve the request.
	ErrUnreachable error = &sentinel{CodeUnreachable, "broker unreachable"}
	// ErrBufferFull: the producer's memory is in use (see [WithBlockOnFull]).
	ErrBufferFull error = &sentinel{CodeBufferFull, "producer buffer full"}
	// ErrCanceled: the call's context ended; the error also wraps the context's own.
	ErrCanceled error = &sentinel{CodeCanceled, "context ended"}
	// ErrMisuse: the call contradicts the documentation, for example two loops over
	// one consumer at the same time.
	ErrMisuse error = &sentinel{CodeMisuse, "misuse"}

	// ErrTimeout: not answered in time, for sends the delivery timeout.
	ErrTimeout = broken(wire.CodeTimeout)
	// ErrUnknownTopic: the topic does not exist, or was deleted meanwhile.
	ErrUnknownTopic = broken(wire.CodeUnknownTopic)
	// ErrUnknownPartition: the topic has no such partition.
	ErrUnknownPartition = broken(wire.CodeUnknownPartition)
	// ErrTopicExists: a topic of that name exists.
	ErrTopicExists = broken(wire.CodeTopicExists)
	// ErrInvalidTopicName: the name breaks the rules for topic names.
	ErrInvalidTopicName = broken(wire.CodeInvalidTopicName)
	// ErrInvalidConfig: a topic configuration or an option does not hold.
	ErrInvalidConfig = broken(wire.CodeInvalidConfig)
	// ErrNotLeader: the broker asked does not lead the partition (retried inside).
	ErrNotLeader = broken(wire.CodeNotLeader)
	// ErrOffsetOutOfRange: the position is below the start or above the end.
	ErrOffsetOutOfRange = broken(wire.CodeOffsetOutOfRange)
	// ErrOffsetNotAvailable: a replica does not know the offset as committed yet
	// (retried inside).
	ErrOffsetNotAvailable = broken(wire.CodeOffsetNotAvailable)
	// ErrBatchTooLarge: a record is larger than the topic takes.
	ErrBatchTooLarge = broken(wire.CodeBatchTooLarge)
	// ErrSequenceGap: the broker lacks records that it had acknowledged.
	ErrSequenceGap = broken(wire.CodeSequenceGap)
	// ErrProducerFenced: a newer producer of the same name took over.
	ErrProducerFenced = broken(wire.CodeProducerFenced)
	// ErrUnknownProducer: the cluster does not know the producer's id.
	ErrUnknownProducer = broken(wire.CodeUnknownProducer)
	// ErrStorageFull: the broker's disk is full.
	ErrStorageFull = broken(wire.CodeStorageFull)
	// ErrStorageFailed: the broker's disk failed.
	ErrStorageFailed = broken(wire.CodeStorageFailed)
	// ErrCorrupt: stored records are damaged; From and To of the [*Error] say which.
	ErrCorrupt = broken(wire.CodeCorrupt)
	// ErrCorruptMessage: the broker refused a batch as damaged.
	ErrCorruptMessage = broken(wire.CodeCorruptMessage)
	// ErrOverloaded: the broker has too much work queued.
	ErrOverloaded = broken(wire.CodeOverloaded)
	// ErrUnsupportedVersion: client and broker share no protocol version.
	ErrUnsupportedVersion = broken(wire.CodeUnsupportedVersion)
	// ErrInvalidRequest: the broker could not make sense of a request.
	ErrInvalidRequest = broken(wire.CodeInvalidRequest)
	// ErrShuttingDown: the broker is stopping.
	ErrShuttingDown = broken(wire.CodeShuttingDown)
	// ErrUnauthorized: credentials missing or not sufficient.
	ErrUnauthorized = broken(wire.CodeUnauthorized)
	// ErrUnsupported: the broker does not have the feature.
	ErrUnsupported = broken(wire.CodeUnsupported)
)

// Error is a failed operation.
type Error struct {
	Code      Code
	Op        string // what was attempted: "send", "fetch", "create topic", ...
	Topic     string // empty where no topic is concerned
	Partition int32  // -1 where no single partition is concerned
	Broker    string // address, where one broker is concerned
	Message   string // what happened and what to do

	// Retriable: the same call may succeed later without anybody changing it.
	Retriable bool
	// MaybeDone: the outcome is unknown; the operation may have taken effect, or may
	// still. Repeating a send can then duplicate the records, unless they carry a
	// MessageID and the topic has a deduplication window. False: certainly not done.
	MaybeDone bool

	// From and To bound the offsets concerned: with ErrCorrupt the damaged ones,
	// From..To-1; with ErrOffsetOutOfRange the partition's start and end.
	From, To int64

	Err error // cause, may be nil

	after time.Duration // as the broker asked
}

// Error names the operation, the topic and partition, and says what to do.
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString(e.Op)
	switch {
	case e.Topic != "" && e.Partition >= 0:
		fmt.Fprintf(&b, " %s/%d", e.Topic, e.Partition)
	case e.Topic != "":
		fmt.Fprintf(&b, " %s", e.Topic)
	}
	if e.Broker != "" {
		fmt.Fprintf(&b, " at %s", e.Broker)
	}
	fmt.Fprintf(&b, ": %s: %s", e.Code, e.Message)
	if e.Err != nil {
		if cause := e.Err.Error(); !strings.Contains(e.Message, cause) {
			fmt.Fprintf(&b, " (%s)", cause)
		}
	}
	return b.String()
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Is matches the Err... variables, and any *Error of the same code. A broker's refusal
// that led to the error is matched too: a send that timed out because the disk was full
// all the time matches both [ErrTimeout] and [ErrStorageFull].
func (e *Error) Is(target error) bool {
	switch t := target.(type) {
	case *sentinel:
		var refusal *wire.Error
		return t.code == e.Code || errors.As(e.Err, &refusal) && t.code == Code(refusal.Code.String())
	case *Error:
		return t.Code == e.Code
	}
	return false
}

// wireError turns an error from the wire into an *Error; others are taken as the loss
// of a connection.
func wireError(op, topic string, partition int32, err error) *Error {
	var e *Error
	if errors.As(err, &e) {
		c := *e
		c.Op, c.Topic, c.Partition = op, topic, partition
		return &c
	}
	var w *wire.Error
	if !errors.As(err, &w) {
		return &Error{Code: CodeUnreachable, Op: op, Topic: topic, Partition: partition, Retriable: true,
			Message: "the connection failed; check that the broker runs, it is tried again", Err: err}
	}
	message := w.Message
	if message == "" {
		message = w.Code.Message()
	}
	return &Error{Code: Code(w.Code.String()), Op: op, Topic: topic, Partition: partition, Message: message,
		Retriable: w.Retriable(), MaybeDone: w.Code == wire.CodeTimeout, after: w.RetryAfter}
}

// canceled reports the end of the caller's context during op.
func canceled(ctx context.Context, op, topic string) *Error {
	return &Error{Code: CodeCanceled, Op: op, Topic: topic, Partition: -1, Retriable: true,
		Message: "the context ended before the operation did", Err: context.Cause(ctx)}
}

func closed(op, what string) *Error {
	return &Error{Code: CodeClosed, Op: op, Partition: -1, Message: what + " is closed"}
}

func misuse(op, message string) *Error {
	return &Error{Code: CodeMisuse, Op: op, Partition: -1, Message: message}
}
