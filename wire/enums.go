package wire

import (
	"fmt"
	"strings"
)

// Acks says when a produce request is answered.
type Acks uint8

// The levels of acknowledgement.
const (
	AcksNone   Acks = 0 // no answer at all
	AcksLeader Acks = 1 // durable on the leader
	AcksQuorum Acks = 2 // durable on a majority of the replicas; the default of clients
	AcksAll    Acks = 3 // durable on every replica
)

// Partitioner says how keys find partitions; see package partitions.
type Partitioner uint8

// The partitioners.
const (
	PartitionerHash  Partitioner = 0
	PartitionerRange Partitioner = 1
	PartitionerRing  Partitioner = 2
)

// Fsync says when an append is flushed to the disk.
type Fsync uint8

// The fsync modes.
const (
	FsyncAlways   Fsync = 0 // before the acknowledgement
	FsyncInterval Fsync = 1 // within TopicConfig.FsyncInterval after it
	FsyncNever    Fsync = 2 // when the operating system likes
)

// Cleanup says how old records leave a topic.
type Cleanup uint8

// The cleanup policies.
const (
	CleanupDelete  Cleanup = 0 // by time and size
	CleanupCompact Cleanup = 1 // keep the last record of each key
)

// Ordering is the promise of a topic about the order of its records.
type Ordering uint8

// The orderings.
const (
	OrderingPartition Ordering = 0
	OrderingTotal     Ordering = 1
	OrderingCausal    Ordering = 2
)

var (
	acksNames        = []string{"none", "leader", "quorum", "all"}
	partitionerNames = []string{"hash", "range", "ring"}
	fsyncNames       = []string{"always", "interval", "never"}
	cleanupNames     = []string{"delete", "compact"}
	orderingNames    = []string{"partition", "total", "causal"}
	offsetNames      = []string{"start", "end", "time"}
)

// String is the name of the level as flags take it.
func (a Acks) String() string { return enumName("acks", acksNames, uint8(a)) }

// String is the name of the partitioner as flags take it.
func (p Partitioner) String() string { return enumName("partitioner", partitionerNames, uint8(p)) }

// String is the name of the mode as flags take it.
func (f Fsync) String() string { return enumName("fsync", fsyncNames, uint8(f)) }

// String is the name of the policy as flags take it.
func (c Cleanup) String() string { return enumName("cleanup", cleanupNames, uint8(c)) }

// String is the name of the ordering as flags take it.
func (o Ordering) String() string { return enumName("ordering", orderingNames, uint8(o)) }

// String is the name of the kind: start, end or time.
func (k OffsetKind) String() string { return enumName("offset", offsetNames, uint8(k)) }

// ParseAcks is the reverse of String.
func ParseAcks(s string) (Acks, error) {
	v, err := parseEnum("acks", acksNames, s)
	return Acks(v), err
}

// ParsePartitioner is the reverse of String.
func ParsePartitioner(s string) (Partitioner, error) {
	v, err := parseEnum("partitioner", partitionerNames, s)
	return Partitioner(v), err
}

// ParseFsync is the reverse of String.
func ParseFsync(s string) (Fsync, error) {
	v, err := parseEnum("fsync", fsyncNames, s)
	return Fsync(v), err
}

// ParseCleanup is the reverse of String.
func ParseCleanup(s string) (Cleanup, error) {
	v, err := parseEnum("cleanup", cleanupNames, s)
	return Cleanup(v), err
}

// ParseOrdering is the reverse of String.
func ParseOrdering(s string) (Ordering, error) {
	v, err := parseEnum("ordering", orderingNames, s)
	return Ordering(v), err
}

func enumName(what string, names []string, v uint8) string {
	if int(v) < len(names) {
		return names[v]
	}
	return fmt.Sprintf("%s(%d)", what, v)
}

func parseEnum(what string, names []string, s string) (uint8, error) {
	for i, name := range names {
		if name == s {
			return uint8(i), nil
		}
	}
	return 0, invalid(what, "must be %s, is %q", oneOf(names), s)
}

// oneOf formats names as "a, b or c".
func oneOf(names []string) string {
	last := len(names) - 1
	return strings.Join(names[:last], ", ") + " or " + names[last]
}
