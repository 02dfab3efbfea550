package wire

import (
	"bytes"
	"strings"
	"time"
)

// Limits and defaults of topics.
const (
	MaxTopicNameBytes = 200
	MaxPartitions     = 65_536  // per topic
	MaxVirtualNodes   = 4_096   // per partition of a ring
	MaxRingPoints     = 2 << 20 // partitions times virtual nodes of a ring
	MaxReplicas       = 15      // replication factor
	MaxSplitBytes     = 1 << 10 // of one split point
	MaxSplitsBytes    = 1 << 20 // of all split points of a topic together
	MaxBatchBytes     = 8 << 20 // of one batch, whatever the topic says
	MinBatchBytes     = 1 << 10 // smallest limit which a topic may set
	MinSegmentBytes   = 1 << 20 // smallest segment size
	MaxSegmentBytes   = 1 << 30 // largest segment size
	MaxTopicTime      = 100 * 365 * 24 * time.Hour

	DefaultPartitions         uint32 = 1
	DefaultVirtualNodes       uint32 = 128
	DefaultReplicationFactor  uint16 = 1
	DefaultFsyncInterval             = time.Second
	DefaultRetentionTime             = 7 * 24 * time.Hour
	DefaultSegmentBytes       uint32 = 128 << 20
	DefaultTombstoneRetention        = 24 * time.Hour
	DefaultMaxBatchBytes      uint32 = 1 << 20
)

// TopicConfig is everything which can be set on a topic. TopicFields documents
// each field under the name which flags, JSON and docs use.
//
// Durations are whole milliseconds on the wire. Zero values mean what
// WithDefaults says; DefaultTopicConfig is what a topic gets if nothing is said.
type TopicConfig struct {
	Partitions         uint32
	Partitioner        Partitioner
	Splits             [][]byte // range: Partitions-1 strictly ascending keys, the first of each right-hand partition
	VirtualNodes       uint32   // ring
	ReplicationFactor  uint16
	Fsync              Fsync
	FsyncInterval      time.Duration // FsyncInterval mode: bound of the loss window
	RetentionTime      time.Duration // by append time; 0: forever
	RetentionBytes     uint64        // per partition; 0: unlimited
	Cleanup            Cleanup
	SegmentBytes       uint32
	TombstoneRetention time.Duration // compact: how long a deletion marker stays
	DedupWindow        time.Duration // message-id deduplication; 0: off
	MaxBatchBytes      uint32        // batches above it are refused
	Ordering           Ordering
}

// DefaultTopicConfig is the configuration of a topic for which nothing is set.
func DefaultTopicConfig() TopicConfig {
	return TopicConfig{
		RetentionTime:      DefaultRetentionTime,
		TombstoneRetention: DefaultTombstoneRetention,
	}.WithDefaults()
}

// WithDefaults replaces zero by the default in the fields where zero makes no
// sense. Fields where zero has a meaning (retention-time, retention-bytes,
// tombstone-retention, dedup-window) are left alone.
func (c TopicConfig) WithDefaults() TopicConfig {
	if c.Partitions == 0 {
		c.Partitions = DefaultPartitions
		if c.Partitioner == PartitionerRange {
			c.Partitions = uint32(len(c.Splits)) + 1
		}
	}
	if c.VirtualNodes == 0 {
		c.VirtualNodes = DefaultVirtualNodes
	}
	if c.ReplicationFactor == 0 {
		c.ReplicationFactor = DefaultReplicationFactor
	}
	if c.FsyncInterval == 0 {
		c.FsyncInterval = DefaultFsyncInterval
	}
	if c.SegmentBytes == 0 {
		c.SegmentBytes = DefaultSegmentBytes
	}
	if c.MaxBatchBytes == 0 {
		c.MaxBatchBytes = min(DefaultMaxBatchBytes, c.SegmentBytes)
	}
	return c
}

// Validate reports the first field which is out of its bounds, as an *Error with
// CodeInvalidConfig, or CodeUnsupported for what is not there yet. A broker may
// refuse more, for example more replicas than it has brokers.
func (c *TopicConfig) Validate() error {
	if err := c.validatePartitioner(); err != nil {
		return err
	}
	switch {
	case c.ReplicationFactor < 1 || c.ReplicationFactor > MaxReplicas:
		return invalid("replication-factor", "must be 1 to %d, is %d", MaxReplicas, c.ReplicationFactor)
	case c.Fsync > FsyncNever:
		return invalid("fsync", "must be %s, is %s", oneOf(fsyncNames), c.Fsync)
	case c.Cleanup > CleanupCompact:
		return invalid("cleanup", "must be %s, is %s", oneOf(cleanupNames), c.Cleanup)
	case c.SegmentBytes < MinSegmentBytes || c.SegmentBytes > MaxSegmentBytes:
		return invalid("segment-bytes", "must be %d to %d, is %d", MinSegmentBytes, MaxSegmentBytes, c.SegmentBytes)
	case c.MaxBatchBytes < MinBatchBytes || c.MaxBatchBytes > MaxBatchBytes:
		return invalid("max-batch-bytes", "must be %d to %d, is %d", MinBatchBytes, MaxBatchBytes, c.MaxBatchBytes)
	case c.MaxBatchBytes > c.SegmentBytes:
		return invalid("max-batch-bytes", "is %d, above segment-bytes %d", c.MaxBatchBytes, c.SegmentBytes)
	case c.RetentionBytes > 1<<62:
		return invalid("retention-bytes", "must be at most %d, is %d; 0 means unlimited", int64(1)<<62, c.RetentionBytes)
	case c.Ordering > OrderingCausal:
		return invalid("ordering", "must be %s, is %s", oneOf(orderingNames), c.Ordering)
	case c.Ordering != OrderingPartition:
		return Errorf(CodeUnsupported, "ordering %s is not supported by this version; use ordering partition", c.Ordering)
	}
	for _, d := range []struct {
		name string
		d    time.Duration
		min  time.Duration
	}{
		{"fsync-interval", c.FsyncInterval, time.Millisecond},
		{"retention-time", c.RetentionTime, 0},
		{"tombstone-retention", c.TombstoneRetention, 0},
		{"dedup-window", c.DedupWindow, 0},
	} {
		if d.d < d.min || d.d > MaxTopicTime {
			return invalid(d.name, "must be %v to %v, is %v", d.min, MaxTopicTime, d.d)
		}
		if d.d%time.Millisecond != 0 {
			return invalid(d.name, "must be whole milliseconds, is %v", d.d)
		}
	}
	return nil
}

func (c *TopicConfig) validatePartitioner() error {
	if c.Partitions < 1 || c.Partitions > MaxPartitions {
		return invalid("partitions", "must be 1 to %d, is %d", MaxPartitions, c.Partitions)
	}
	if c.VirtualNodes < 1 || c.VirtualNodes > MaxVirtualNodes {
		return invalid("virtual-nodes", "must be 1 to %d, is %d", MaxVirtualNodes, c.VirtualNodes)
	}
	switch c.Partitioner {
	case PartitionerHash:
	case PartitionerRing:
		if uint64(c.Partitions)*uint64(c.VirtualNodes) > MaxRingPoints {
			return invalid("virtual-nodes", "times partitions must be at most %d, is %d", MaxRingPoints, uint64(c.Partitions)*uint64(c.VirtualNodes))
		}
	case PartitionerRange:
		return c.validateSplits()
	default:
		return invalid("partitioner", "must be %s, is %s", oneOf(partitionerNames), c.Partitioner)
	}
	if len(c.Splits) != 0 {
		return invalid("splits", "are only for partitioner range, which this topic does not use (%s)", c.Partitioner)
	}
	return nil
}

func (c *TopicConfig) validateSplits() error {
	if uint64(len(c.Splits))+1 != uint64(c.Partitions) {
		return invalid("splits", "must be %d keys for %d partitions, are %d", c.Partitions-1, c.Partitions, len(c.Splits))
	}
	total := 0
	for i, s := range c.Splits {
		total += len(s)
		switch {
		case len(s) == 0 || len(s) > MaxSplitBytes:
			return invalid("splits", "must be keys of 1 to %d bytes, number %d has %d", MaxSplitBytes, i+1, len(s))
		case i > 0 && bytes.Compare(c.Splits[i-1], s) >= 0:
			return invalid("splits", "must be strictly ascending, number %d (%q) is not above the one before (%q)", i+1, s, c.Splits[i-1])
		}
	}
	if total > MaxSplitsBytes {
		return invalid("splits", "must be at most %d bytes together, are %d", MaxSplitsBytes, total)
	}
	return nil
}

func invalid(field, format string, args ...any) error {
	return Errorf(CodeInvalidConfig, field+" "+format, args...)
}

// ValidateTopicName reports an *Error with CodeInvalidTopicName unless name is 1
// to 200 characters of [A-Za-z0-9._-] and not "." or "..".
func ValidateTopicName(name string) error {
	switch {
	case name == "":
		return Errorf(CodeInvalidTopicName, "the topic name is empty; use 1 to %d characters of A-Z, a-z, 0-9, dot, underscore and hyphen", MaxTopicNameBytes)
	case len(name) > MaxTopicNameBytes:
		return Errorf(CodeInvalidTopicName, "the topic name has %d characters, at most %d are allowed", len(name), MaxTopicNameBytes)
	case name == "." || name == "..":
		return Errorf(CodeInvalidTopicName, "the topic name must not be %q", name)
	}
	for i := 0; i < len(name); i++ {
		switch c := name[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '.', c == '_', c == '-':
		default:
			return Errorf(CodeInvalidTopicName, "the topic name %q has the character %q at position %d; use A-Z, a-z, 0-9, dot, underscore and hyphen", name, rune(c), i+1)
		}
	}
	return nil
}

// InternalTopic reports whether the name is reserved for the broker itself.
func InternalTopic(name string) bool { return strings.HasPrefix(name, "__") }

// minTopicConfig is the size of the fields which were there from the start; the
// length prefix comes before it.
const minTopicConfig = 4 + 1 + 1 + 4 + 2 + 1 + 4 + 8 + 8 + 1 + 4 + 8 + 8 + 4 + 1

func milliseconds(d time.Duration) uint64 { return uint64(max(d.Milliseconds(), 0)) }

// duration saturates, so that Validate refuses what does not fit.
func duration(ms uint64) time.Duration {
	const most = uint64(1<<63-1) / uint64(time.Millisecond)
	return time.Duration(min(ms, most)) * time.Millisecond
}

// appendTo appends the configuration behind its length, so that fields can be
// added although it is an item of arrays.
func (c *TopicConfig) appendTo(dst []byte) []byte {
	size := minTopicConfig - 1 + uvarintSize(uint64(len(c.Splits)))
	for _, s := range c.Splits {
		size += uvarintSize(uint64(len(s))) + len(s)
	}
	dst = appendCount(dst, size)
	dst = appendU32(dst, c.Partitions)
	dst = append(dst, byte(c.Partitioner))
	dst = appendCount(dst, len(c.Splits))
	for _, s := range c.Splits {
		dst = appendBytes(dst, s)
	}
	dst = appendU32(dst, c.VirtualNodes)
	dst = appendU16(dst, c.ReplicationFactor)
	dst = append(dst, byte(c.Fsync))
	dst = appendU32(dst, uint32(min(milliseconds(c.FsyncInterval), 1<<32-1)))
	dst = appendU64(dst, milliseconds(c.RetentionTime))
	dst = appendU64(dst, c.RetentionBytes)
	dst = append(dst, byte(c.Cleanup))
	dst = appendU32(dst, c.SegmentBytes)
	dst = appendU64(dst, milliseconds(c.TombstoneRetention))
	dst = appendU64(dst, milliseconds(c.DedupWindow))
	dst = appendU32(dst, c.MaxBatchBytes)
	return append(dst, byte(c.Ordering))
}

func (c *TopicConfig) read(outer *reader) {
	r := newReader(outer.view())
	r.nested = 1 // the fields of the first version are required
	*c = TopicConfig{}
	c.Partitions = r.u32()
	c.Partitioner = Partitioner(r.u8())
	if n := r.items(2); n > 0 {
		c.Splits = make([][]byte, n)
		for i := range c.Splits {
			c.Splits[i] = r.bytes(nil)
		}
	}
	r.endItems()
	c.VirtualNodes = r.u32()
	c.ReplicationFactor = r.u16()
	c.Fsync = Fsync(r.u8())
	c.FsyncInterval = duration(uint64(r.u32()))
	c.RetentionTime = duration(r.u64())
	c.RetentionBytes = r.u64()
	c.Cleanup = Cleanup(r.u8())
	c.SegmentBytes = r.u32()
	c.TombstoneRetention = duration(r.u64())
	c.DedupWindow = duration(r.u64())
	c.MaxBatchBytes = r.u32()
	c.Ordering = Ordering(r.u8())
	if r.err != nil {
		outer.fail("topic config: %v", r.err)
	}
}

func uvarintSize(v uint64) int {
	n := 1
	for ; v >= 0x80; v >>= 7 {
		n++
	}
	return n
}
