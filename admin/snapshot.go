package admin

import "time"

// A Source is what this package needs of a broker. All methods may be called
// concurrently and at any time.
type Source interface {
	// Health returns nil, or why the process cannot recover by itself.
	Health() error
	// Ready returns nil, or why requests are not served at present.
	Ready() error
	// Snapshot returns the figures of this moment.
	Snapshot() Snapshot
}

// Snapshot is the figures of one moment. Counts with the word "total" in their
// metric's name only ever grow while the process lives.
type Snapshot struct {
	Version string

	Connections         uint64
	ConnectionsAccepted uint64
	ConnectionsRefused  uint64 // too many were open
	ConnectionsEvicted  uint64 // the client did not read or send

	InflightBytes uint64 // memory held by requests
	MemoryLimit   uint64 // bound of InflightBytes

	Requests map[string]uint64 // by kind
	Errors   map[string]uint64 // by name of the error code
	Produce  Distribution      // from the request's arrival to its answer
	Fetch    Distribution      // without long polls' waiting

	ProducedRecords, ProducedBatches, ProducedBytes uint64
	FetchedRecords, FetchedBytes                    uint64
	DuplicateBatches                                uint64 // known by their sequence

	Partitions uint64
	Topics     []Topic

	Storage Storage
	Dedup   Dedup
}

// Topic is the figures of one topic, summed over its partitions.
type Topic struct {
	Name            string
	Partitions      uint64
	ProducedRecords uint64
	ProducedBytes   uint64
	FetchedRecords  uint64
	FetchedBytes    uint64
	StoredBytes     uint64
	Segments        uint64
	DamagedRanges   uint64
}

// Storage is the figures of the log.
type Storage struct {
	JournalMode    string // how the journal reaches the disk
	JournalBytes   uint64 // written, in total
	JournalGroups  uint64 // groups committed with one flush each
	JournalEntries uint64
	JournalLive    uint64 // bytes that a restart would read
	Flush          Quantiles
	Checkpoints    uint64
	Retired        uint64 // segments deleted by retention or compaction
	ScrubbedBytes  uint64
	DamagedRanges  uint64
	DiskFree       uint64
	DiskTotal      uint64
	Full           bool // appends are refused until space is free
	Failed         bool // the first write or flush error was latched
}

// Dedup is the figures of message-id deduplication.
type Dedup struct {
	Open       bool // some topic uses it
	Lookups    uint64
	Duplicates uint64 // records
	Pending    uint64 // ids stored but not yet in the index
	IndexBytes uint64
	Rebuilding uint64 // partitions whose index is being rebuilt
}

// Distribution counts durations.
type Distribution struct {
	Count   uint64
	Sum     time.Duration
	Buckets []Bucket // ascending
}

// Bucket counts the durations below Bound which no bucket before it counts.
type Bucket struct {
	Bound time.Duration
	Count uint64
}

// Quantiles sums up durations.
type Quantiles struct {
	Count               uint64
	Sum, P50, P99, P999 time.Duration
}
