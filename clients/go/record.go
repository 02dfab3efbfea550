package sequitur

import (
	"time"

	"github.com/sequitur-mq/sequitur/record"
	"github.com/sequitur-mq/sequitur/wire"
)

// Header is one header of a record; a nil value is null. The header named
// [record.MessageIDHeader] is reserved: set Record.MessageID instead.
type Header = record.Header

// Codec is a compression: [CodecNone], [CodecS2] or [CodecZstd].
type Codec = record.Codec

// The compressions.
const (
	CodecNone = record.CodecNone
	CodecS2   = record.CodecS2
	CodecZstd = record.CodecZstd
)

// Acks says when a send counts as done.
type Acks = wire.Acks

// The levels of acknowledgement.
const (
	// AcksNone: sent. No answer, no offset, no retry; records may be lost silently.
	AcksNone = wire.AcksNone
	// AcksLeader: fsynced on the leader.
	AcksLeader = wire.AcksLeader
	// AcksQuorum: fsynced on a majority of the replicas. The default.
	AcksQuorum = wire.AcksQuorum
	// AcksAll: fsynced on every replica.
	AcksAll = wire.AcksAll
)

// Record is a record to send or a record received.
type Record struct {
	Topic string

	// Partition of a received record. It is ignored when sending, where the
	// partitioner chooses: by the key, else by the message id, else any partition.
	// See [WithManualPartition].
	Partition int32
	Offset    int64 // of a received record; ignored when sending

	// Timestamp is the producer's time, in milliseconds precision. Zero when sending:
	// now.
	Timestamp time.Time
	// AppendTime is the broker's time of the append, of a received record. It never
	// decreases within a partition.
	AppendTime time.Time

	Key, Value []byte // nil is null; a null value on a compacted topic deletes the key
	Headers    []Header

	// MessageID is an idempotency key: within the topic's deduplication window a
	// second record of the same id is acknowledged as a duplicate of the first.
	MessageID string
}

// Ack is the address of an acknowledged record.
type Ack struct {
	Topic     string
	Partition int32
	// Offset of the record; of the first one if Duplicate; -1 with [AcksNone].
	Offset     int64
	AppendTime time.Time
	// Duplicate: the topic had a record of the same MessageID already; nothing was
	// appended. (Retries inside of the client are never reported as duplicates.)
	Duplicate bool
}
