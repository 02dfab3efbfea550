package wire

import (
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
)

// TopicMask is a set of fields of TopicConfig: bit i is field i of TopicFields.
type TopicMask uint64

// The bits of a TopicMask, in the order of the fields of TopicConfig.
const (
	MaskPartitions TopicMask = 1 << iota
	MaskPartitioner
	MaskSplits
	MaskVirtualNodes
	MaskReplicationFactor
	MaskFsync
	MaskFsyncInterval
	MaskRetentionTime
	MaskRetentionBytes
	MaskCleanup
	MaskSegmentBytes
	MaskTombstoneRetention
	MaskDedupWindow
	MaskMaxBatchBytes
	MaskOrdering
)

// TopicField documents one field of TopicConfig and gives access to it, so that
// flags, JSON and docs take their names and sentences from one table.
type TopicField struct {
	Name      string // as a flag: --retention-time
	JSON      string // as a JSON key: retention_time
	Mask      TopicMask
	Type      string // number, bytes, duration, keys, or the names of an enumeration
	Doc       string // one sentence
	Alterable bool

	get  func(*TopicConfig) string
	set  func(*TopicConfig, string) error
	copy func(dst, src *TopicConfig)
}

// Get formats the field: durations as Go duration strings, sizes as numbers of
// bytes, split points as FormatKeys does.
func (f *TopicField) Get(c *TopicConfig) string { return f.get(c) }

// Set parses what Get formats, and besides: d and w as units of durations, KiB,
// MiB and GiB as units of sizes. The error is an *Error with CodeInvalidConfig
// which names the field.
func (f *TopicField) Set(c *TopicConfig, value string) error { return f.set(c, value) }

// LookupTopicField finds a field by its flag name or JSON key.
func LookupTopicField(name string) (TopicField, bool) {
	for _, f := range TopicFields() {
		if f.Name == name || f.JSON == name {
			return f, true
		}
	}
	return TopicField{}, false
}

// Alter returns c with the fields in mask taken from to, or an *Error if a field
// of mask cannot be altered or the outcome is not valid.
func (c TopicConfig) Alter(to TopicConfig, mask TopicMask) (TopicConfig, error) {
	for _, f := range TopicFields() {
		if mask&f.Mask == 0 {
			continue
		}
		mask &^= f.Mask
		if f.Alterable {
			f.copy(&c, &to)
		} else if f.get(&c) != f.get(&to) {
			return c, Errorf(CodeUnsupported, "%s cannot be altered after creation in this version; it is %s", f.Name, f.get(&c))
		}
	}
	if mask != 0 {
		return c, Errorf(CodeInvalidRequest, "the mask %#x names fields which this broker does not know; upgrade it", uint64(mask))
	}
	return c, c.Validate()
}

// Diff returns the fields in which c and other differ.
func (c *TopicConfig) Diff(other *TopicConfig) TopicMask {
	var mask TopicMask
	for _, f := range TopicFields() {
		if f.get(c) != f.get(other) {
			mask |= f.Mask
		}
	}
	return mask
}

// String lists the fields which differ from the defaults, after the number of
// partitions and the fsync mode.
func (c TopicConfig) String() string {
	defaults := DefaultTopicConfig()
	parts := []string{}
	for _, f := range TopicFields() {
		value := f.get(&c)
		if f.Mask&(MaskPartitions|MaskFsync) != 0 || value != f.get(&defaults) {
			parts = append(parts, f.Name+"="+value)
		}
	}
	return strings.Join(parts, " ")
}

// TopicFields lists the fields of TopicConfig in their declared order.
func TopicFields() []TopicField {
	fields := []TopicField{
		number("partitions", 1, MaxPartitions, "number of partitions; records of one key stay in one partition", func(c *TopicConfig) *uint32 { return &c.Partitions }),
		enum("partitioner", partitionerNames, "how a key finds its partition: by hash, by key range, or by a consistent-hash ring", func(c *TopicConfig) *Partitioner { return &c.Partitioner }),
		splitsField(),
		number("virtual-nodes", 1, MaxVirtualNodes, "partitioner ring: points of each partition on the ring; more spread keys more evenly", func(c *TopicConfig) *uint32 { return &c.VirtualNodes }),
		number("replication-factor", 1, MaxReplicas, "number of brokers which hold each partition", func(c *TopicConfig) *uint16 { return &c.ReplicationFactor }),
		enum("fsync", fsyncNames, "when appends reach the disk: always (before the acknowledgement), interval (within fsync-interval after it), never (when the operating system likes)", func(c *TopicConfig) *Fsync { return &c.Fsync }),
		span("fsync-interval", "fsync interval: the longest time for which acknowledged records may be lost by a power failure", func(c *TopicConfig) *time.Duration { return &c.FsyncInterval }),
		span("retention-time", "records are deleted this long after they were appended; 0 keeps them forever", func(c *TopicConfig) *time.Duration { return &c.RetentionTime }),
		size("retention-bytes", 0, 1<<62, "each partition keeps at least this many bytes of its newest records and deletes older segments; 0 is unlimited", func(c *TopicConfig) *uint64 { return &c.RetentionBytes }),
		enum("cleanup", cleanupNames, "how old records leave: delete (by retention) or compact (the last record of each key stays)", func(c *TopicConfig) *Cleanup { return &c.Cleanup }),
		size("segment-bytes", MinSegmentBytes, MaxSegmentBytes, "size at which a segment file is closed and the next one begins; retention and compaction work on closed segments", func(c *TopicConfig) *uint32 { return &c.SegmentBytes }),
		span("tombstone-retention", "cleanup compact: how long a record without a value stays after it was appended, so that readers see the deletion", func(c *TopicConfig) *time.Duration { return &c.TombstoneRetention }),
		span("dedup-window", "how long the id of a message is remembered, so that the same id sent again is not stored twice; 0 is off", func(c *TopicConfig) *time.Duration { return &c.DedupWindow }),
		size("max-batch-bytes", MinBatchBytes, MaxBatchBytes, "largest batch which is accepted, as sent (after compression)", func(c *TopicConfig) *uint32 { return &c.MaxBatchBytes }),
		enum("ordering", orderingNames, "the order which readers see: partition (per partition); total and causal are not supported yet", func(c *TopicConfig) *Ordering { return &c.Ordering }),
	}
	const fixed = MaskPartitions | MaskPartitioner | MaskSplits | MaskVirtualNodes | MaskOrdering
	for i := range fields {
		fields[i].JSON = strings.ReplaceAll(fields[i].Name, "-", "_")
		fields[i].Mask = 1 << i
		fields[i].Alterable = fixed&fields[i].Mask == 0
	}
	return fields
}

// number is a field of least to most, which Validate enforces and texts name.
func number[T uint16 | uint32](name string, least, most uint64, doc string, at func(*TopicConfig) *T) TopicField {
	return TopicField{
		Name: name, Type: "number", Doc: doc,
		get: func(c *TopicConfig) string { return strconv.FormatUint(uint64(*at(c)), 10) },
		set: func(c *TopicConfig, s string) error {
			v, err := strconv.ParseUint(s, 10, 64)
			if err != nil || v > uint64(^T(0)) {
				return invalid(name, "must be a number from %d to %d, is %q", least, most, s)
			}
			*at(c) = T(v)
			return nil
		},
		copy: func(dst, src *TopicConfig) { *at(dst) = *at(src) },
	}
}

func size[T uint32 | uint64](name string, least, most uint64, doc string, at func(*TopicConfig) *T) TopicField {
	f := number[uint32](name, least, most, doc, nil)
	f.Type = "bytes"
	f.get = func(c *TopicConfig) string { return strconv.FormatUint(uint64(*at(c)), 10) }
	f.set = func(c *TopicConfig, s string) error {
		v, ok := parseSize(s)
		if !ok || v > uint64(^T(0)) {
			return invalid(name, "must be a number of bytes from %d to %d, such as 65536, 64KiB, 16MiB or 1GiB, is %q", least, most, s)
		}
		*at(c) = T(v)
		return nil
	}
	f.copy = func(dst, src *TopicConfig) { *at(dst) = *at(src) }
	return f
}

func span(name, doc string, at func(*TopicConfig) *time.Duration) TopicField {
	return TopicField{
		Name: name, Type: "duration", Doc: doc,
		get: func(c *TopicConfig) string { return at(c).String() },
		set: func(c *TopicConfig, s string) error {
			d, ok := parseSpan(s)
			if !ok {
				return invalid(name, "must be a duration such as 500ms, 90s, 36h, 7d or 2w, or 0, is %q", s)
			}
			*at(c) = d
			return nil
		},
		copy: func(dst, src *TopicConfig) { *at(dst) = *at(src) },
	}
}

func enum[T interface {
	~uint8
	String() string
}](name string, names []string, doc string, at func(*TopicConfig) *T) TopicField {
	return TopicField{
		Name: name, Type: strings.Join(names, "|"), Doc: doc,
		get: func(c *TopicConfig) string { return (*at(c)).String() },
		set: func(c *TopicConfig, s string) error {
			v, err := parseEnum(name, names, s)
			if err == nil {
				*at(c) = T(v)
			}
			return err
		},
		copy: func(dst, src *TopicConfig) { *at(dst) = *at(src) },
	}
}

func splitsField() TopicField {
	return TopicField{
		Name: "splits", Type: "keys",
		Doc: "partitioner range: the first key of each partition but the first, ascending; separated by commas, base64: before a key which is not plain text",
		get: func(c *TopicConfig) string { return FormatKeys(c.Splits) },
		set: func(c *TopicConfig, s string) error {
			keys, err := ParseKeys(s)
			if err == nil {
				c.Splits = keys
			}
			return err
		},
		copy: func(dst, src *TopicConfig) { dst.Splits = slices.Clone(src.Splits) },
	}
}

func parseSize(s string) (uint64, bool) {
	shift := 0
	for i, unit := range []string{"KiB", "MiB", "GiB", "TiB"} {
		if cut, ok := strings.CutSuffix(s, unit); ok {
			s, shift = strings.TrimSpace(cut), 10*(i+1)
			break
		}
	}
	v, err := strconv.ParseUint(s, 10, 64)
	if err != nil || v > math.MaxUint64>>shift {
		return 0, false
	}
	return v << shift, true
}

// parseSpan adds days and weeks to time.ParseDuration, as a leading or sole
// unit: 7d, 2w, 1d12h.
func parseSpan(s string) (time.Duration, bool) {
	var total time.Duration
	for _, unit := range []struct {
		name string
		d    time.Duration
	}{{"w", 7 * 24 * time.Hour}, {"d", 24 * time.Hour}} {
		head, rest, found := strings.Cut(s, unit.name)
		if !found {
			continue
		}
		n, err := strconv.ParseUint(head, 10, 16)
		if err != nil || n > 10_000 { // so that the sum cannot overflow
			return 0, false
		}
		total += time.Duration(n) * unit.d
		if s = rest; s == "" {
			return total, true
		}
	}
	d, err := time.ParseDuration(s)
	if err != nil || d < 0 || total > math.MaxInt64-d {
		return 0, false
	}
	return total + d, true
}
