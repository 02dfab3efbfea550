package wire

import (
	"errors"
	"fmt"
	"time"
)

// Code is an error code of the protocol. Codes are never reused.
type Code uint16

// The error codes; see errorTable for what each means.
const (
	CodeNone               Code = 0
	CodeUnknown            Code = 1
	CodeCorruptMessage     Code = 2
	CodeUnknownTopic       Code = 3
	CodeUnknownPartition   Code = 4
	CodeTopicExists        Code = 5
	CodeInvalidTopicName   Code = 6
	CodeInvalidConfig      Code = 7
	CodeNotLeader          Code = 8
	CodeOffsetOutOfRange   Code = 9
	CodeBatchTooLarge      Code = 10
	CodeSequenceGap        Code = 11
	CodeProducerFenced     Code = 12
	CodeUnknownProducer    Code = 13
	CodeStorageFull        Code = 14
	CodeStorageFailed      Code = 15
	CodeCorrupt            Code = 16
	CodeOverloaded         Code = 17
	CodeTimeout            Code = 18
	CodeUnsupportedVersion Code = 19
	CodeInvalidRequest     Code = 20
	CodeFrameTooLarge      Code = 21
	CodeShuttingDown       Code = 22
	CodeUnauthorized       Code = 23
	CodeUnsupported        Code = 24
	CodeStaleSequence      Code = 25
	CodeOffsetNotAvailable Code = 26
)

// ErrorInfo is one row of the error table.
type ErrorInfo struct {
	Code      Code
	Name      string
	Retriable bool   // the same request, sent again unchanged, may succeed
	Message   string // used when the broker says nothing more specific
}

// ErrorTable returns every error code in ascending order.
func ErrorTable() []ErrorInfo { return append([]ErrorInfo(nil), errorTable[:]...) }

// errorTable is indexed by code.
var errorTable = [...]ErrorInfo{
	{CodeNone, "NONE", false, "no error"},
	{CodeUnknown, "UNKNOWN", false, "the broker failed in an unexpected way; its log says more"},
	{CodeCorruptMessage, "CORRUPT_MESSAGE", false, "the batch has a bad checksum or a malformed header and was not stored; check the client and the network"},
	{CodeUnknownTopic, "UNKNOWN_TOPIC", false, "the topic does not exist; create it or check its name"},
	{CodeUnknownPartition, "UNKNOWN_PARTITION", false, "the topic has no such partition; refresh the metadata and check the number"},
	{CodeTopicExists, "TOPIC_EXISTS", false, "a topic of this name exists; choose another name, or alter or delete the existing one"},
	{CodeInvalidTopicName, "INVALID_TOPIC_NAME", false, "the topic name is not valid; use 1 to 200 characters of A-Z, a-z, 0-9, dot, underscore and hyphen"},
	{CodeInvalidConfig, "INVALID_CONFIG", false, "the topic configuration is not valid; correct the field which is named"},
	{CodeNotLeader, "NOT_LEADER", true, "this broker does not lead the partition; refresh the metadata and ask the leader"},
	{CodeOffsetOutOfRange, "OFFSET_OUT_OF_RANGE", false, "the offset is below the start or above the end of the partition; list the offsets and choose one between"},
	{CodeBatchTooLarge, "BATCH_TOO_LARGE", false, "the batch exceeds the topic's max-batch-bytes; send smaller batches or raise the topic's limit"},
	{CodeSequenceGap, "SEQUENCE_GAP", true, "an earlier batch of this producer is missing; send the unanswered batches again in order"},
	{CodeProducerFenced, "PRODUCER_FENCED", false, "a newer producer of the same name has taken over; stop this one"},
	{CodeUnknownProducer, "UNKNOWN_PRODUCER", false, "the producer id was not given out by this cluster; initialise the producer again"},
	{CodeStorageFull, "STORAGE_FULL", true, "the broker's disk is full; free space or shorten retention, then writes resume by themselves"},
	{CodeStorageFailed, "STORAGE_FAILED", true, "the broker's disk failed and the broker is stopping; see its log, replace the disk, restart it"},
	{CodeCorrupt, "CORRUPT", false, "stored data is damaged here and is not served; restore it from a backup or read on behind the hole"},
	{CodeOverloaded, "OVERLOADED", true, "the broker has too much work queued; send again after the given time"},
	{CodeTimeout, "TIMEOUT", true, "the request was not finished in its time; it may still take effect, so send it again with the same sequence"},
	{CodeUnsupportedVersion, "UNSUPPORTED_VERSION", false, "client and broker have no protocol version in common; upgrade the older one"},
	{CodeInvalidRequest, "INVALID_REQUEST", false, "the request is malformed; check the client against docs/protocol.md"},
	{CodeFrameTooLarge, "FRAME_TOO_LARGE", false, "the frame exceeds the limit given by hello; send smaller requests"},
	{CodeShuttingDown, "SHUTTING_DOWN", true, "the broker is shutting down; connect to another one or wait for its restart"},
	{CodeUnauthorized, "UNAUTHORIZED", false, "the credentials are missing, wrong or do not allow this"},
	{CodeUnsupported, "UNSUPPORTED", false, "this broker does not have the feature asked for"},
	{CodeStaleSequence, "STALE_SEQUENCE", false, "the batch repeats a sequence older than the broker remembers; it is not stored again, and it is unknown which offset it got"},
	{CodeOffsetNotAvailable, "OFFSET_NOT_YET_AVAILABLE", true, "this replica does not have the offset as committed yet; ask again, or ask the leader"},
}

func (c Code) info() ErrorInfo {
	if int(c) < len(errorTable) {
		return errorTable[c]
	}
	return ErrorInfo{Code: c, Name: fmt.Sprintf("CODE_%d", uint16(c)), Message: "the broker answered with an error code which this client does not know; upgrade the client"}
}

// String is the name of the code as in the error table, for example
// UNKNOWN_TOPIC; CODE_n for a code which is not in it.
func (c Code) String() string { return c.info().Name }

// Retriable reports whether the same request, sent again unchanged, may succeed.
// An unknown code is not retriable.
func (c Code) Retriable() bool { return c.info().Retriable }

// Message is the default message of the code.
func (c Code) Message() string { return c.info().Message }

// Error is an error which goes over the wire.
type Error struct {
	Code       Code
	Message    string        // empty: the code's default message
	RetryAfter time.Duration // 0: the client chooses
}

// Errorf makes an *Error with a specific message. The message should name what
// was asked for and what to do; the code's name is added by Error.
func Errorf(code Code, format string, args ...any) *Error {
	return &Error{Code: code, Message: fmt.Sprintf(format, args...)}
}

// Error gives the name of the code and the message.
func (e *Error) Error() string {
	message := e.Message
	if message == "" {
		message = e.Code.Message()
	}
	return e.Code.String() + ": " + message
}

// Retriable reports whether the same request may succeed later.
func (e *Error) Retriable() bool { return e.Code.Retriable() }

// Is reports whether target is an *Error of the same code, so that errors.Is
// works with the sentinels below whatever the message.
func (e *Error) Is(target error) bool {
	t, ok := target.(*Error)
	return ok && t.Code == e.Code
}

// Sentinels for errors.Is. They are compared by code only.
var (
	ErrUnknown            = &Error{Code: CodeUnknown}
	ErrCorruptMessage     = &Error{Code: CodeCorruptMessage}
	ErrUnknownTopic       = &Error{Code: CodeUnknownTopic}
	ErrUnknownPartition   = &Error{Code: CodeUnknownPartition}
	ErrTopicExists        = &Error{Code: CodeTopicExists}
	ErrInvalidTopicName   = &Error{Code: CodeInvalidTopicName}
	ErrInvalidConfig      = &Error{Code: CodeInvalidConfig}
	ErrNotLeader          = &Error{Code: CodeNotLeader}
	ErrOffsetOutOfRange   = &Error{Code: CodeOffsetOutOfRange}
	ErrBatchTooLarge      = &Error{Code: CodeBatchTooLarge}
	ErrSequenceGap        = &Error{Code: CodeSequenceGap}
	ErrProducerFenced     = &Error{Code: CodeProducerFenced}
	ErrUnknownProducer    = &Error{Code: CodeUnknownProducer}
	ErrStorageFull        = &Error{Code: CodeStorageFull}
	ErrStorageFailed      = &Error{Code: CodeStorageFailed}
	ErrCorrupt            = &Error{Code: CodeCorrupt}
	ErrOverloaded         = &Error{Code: CodeOverloaded}
	ErrTimeout            = &Error{Code: CodeTimeout}
	ErrUnsupportedVersion = &Error{Code: CodeUnsupportedVersion}
	ErrInvalidRequest     = &Error{Code: CodeInvalidRequest}
	ErrFrameTooLarge      = &Error{Code: CodeFrameTooLarge}
	ErrShuttingDown       = &Error{Code: CodeShuttingDown}
	ErrUnauthorized       = &Error{Code: CodeUnauthorized}
	ErrUnsupported        = &Error{Code: CodeUnsupported}
	ErrStaleSequence      = &Error{Code: CodeStaleSequence}
	ErrOffsetNotAvailable = &Error{Code: CodeOffsetNotAvailable}
)

// CodeOf returns the code of an error: CodeNone for nil, CodeUnknown for an
// error which is not an *Error.
func CodeOf(err error) Code {
	if err == nil {
		return CodeNone
	}
	var e *Error
	if errors.As(err, &e) {
		return e.Code
	}
	return CodeUnknown
}

// Status starts the metadata of every response.
type Status struct {
	Code         Code
	Message      string // what happened and what to do; empty: the default of Code
	RetryAfterMs uint32 // 0: the client chooses
}

// StatusOf turns an error into the status which reports it. An error which
// wraps an *Error keeps the wrapping text in its message.
func StatusOf(err error) Status {
	if err == nil {
		return Status{}
	}
	s := Status{Code: CodeOf(err), Message: err.Error()}
	var e *Error
	if errors.As(err, &e) {
		s.RetryAfterMs = uint32(min(max(e.RetryAfter.Milliseconds(), 0), 1<<32-1))
		if err == error(e) {
			s.Message = e.Message
		}
	}
	return s
}

// Err is the error which the status reports, an *Error, or nil.
func (s *Status) Err() error {
	if s.Code == CodeNone {
		return nil
	}
	return &Error{Code: s.Code, Message: s.Message, RetryAfter: time.Duration(s.RetryAfterMs) * time.Millisecond}
}

func (s *Status) appendTo(dst []byte) []byte {
	dst = appendU16(dst, uint16(s.Code))
	dst = appendString(dst, s.Message)
	return appendU32(dst, s.RetryAfterMs)
}

func (s *Status) read(r *reader) {
	s.Code = Code(r.u16())
	s.Message = r.str()
	s.RetryAfterMs = r.u32()
}

// failed reports whether the body is absent.
func (s *Status) failed() bool { return s.Code != CodeNone }

// partErr makes the error of one item of a response.
func partErr(code Code, message string) error {
	if code == CodeNone {
		return nil
	}
	return &Error{Code: code, Message: message}
}
