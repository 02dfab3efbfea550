package broker

import (
	"cmp"
	"slices"
	"time"

	"github.com/sequitur-mq/sequitur/wire"
)

// Snapshot is the figures of one moment. Those that count what happened only
// ever grow while the process lives.
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
	Topics     []Topic // by name

	Storage Storage
	Dedup   Dedup
	Cluster Cluster
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
	JournalStalls  uint64 // times that appends waited for a checkpoint to free the journal
	Checkpoints    uint64
	ScrubbedBytes  uint64
	TailHits       uint64 // reads served from memory
	TailMisses     uint64 // reads served from segment files
	DamagedRanges  uint64
	DiskFree       uint64
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
	Buckets []Bucket // ascending; empty ones are left out
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

// Quantile returns an upper bound of the q-quantile (0 <= q <= 1), 0 if nothing
// was counted.
func (d Distribution) Quantile(q float64) time.Duration {
	want, seen := uint64(q*float64(d.Count)), uint64(0)
	for _, b := range d.Buckets {
		if seen += b.Count; seen > want || seen == d.Count {
			return b.Bound
		}
	}
	return 0
}

// Snapshot returns the figures of this moment. It may be called at any time.
func (b *Broker) Snapshot() Snapshot {
	m, memory := b.handler.metrics, b.server.budget.stats()
	s := Snapshot{
		Version:             b.cfg.Version,
		Connections:         uint64(b.server.connections()),
		ConnectionsAccepted: m.accepted.Load(),
		ConnectionsRefused:  m.refusedConns.Load(),
		ConnectionsEvicted:  m.evicted.Load(),
		InflightBytes:       uint64(memory.used),
		MemoryLimit:         uint64(memory.limit),
		Requests:            map[string]uint64{},
		Errors:              map[string]uint64{},
		Produce:             m.produceLatency.snapshot(),
		Fetch:               m.fetchLatency.snapshot(),
		ProducedRecords:     m.producedRecords.Load(),
		ProducedBatches:     m.producedBatches.Load(),
		ProducedBytes:       m.producedBytes.Load(),
		FetchedRecords:      m.fetchedRecords.Load(),
		FetchedBytes:        m.fetchedBytes.Load(),
		DuplicateBatches:    m.duplicates.Load(),
		Storage:             b.storage(),
		Dedup:               b.dedup(),
		Cluster:             b.cluster(),
	}
	for _, api := range wire.APIs() {
		s.Requests[api.Kind.String()] = m.requests[api.Kind].Load()
	}
	for code := range m.errors {
		if n := m.errors[code].Load(); n > 0 {
			s.Errors[wire.Code(code).String()] = n
		}
	}
	b.topics.byID.each(func(_ wire.UUID, t *topic) {
		s.Topics = append(s.Topics, t.snapshot())
		s.Partitions += uint64(len(t.partitions))
	})
	slices.SortFunc(s.Topics, func(a, b Topic) int { return cmp.Compare(a.Name, b.Name) })
	return s
}

func (t *topic) snapshot() Topic {
	s := Topic{
		Name: t.name, Partitions: uint64(len(t.partitions)),
		ProducedRecords: t.counters.producedRecords.Load(), ProducedBytes: t.counters.producedBytes.Load(),
		FetchedRecords: t.counters.fetchedRecords.Load(), FetchedBytes: t.counters.fetchedBytes.Load(),
	}
	for i := range t.partitions {
		if p, ok := t.topics.store.Partition(t.partitions[i].logID()); ok {
			st := p.Stat()
			s.StoredBytes += uint64(st.Bytes)
			s.Segments += uint64(st.Segments)
			s.DamagedRanges += uint64(len(st.Holes))
		}
	}
	return s
}

// stats are the figures that DescribeBroker tells besides.
func (s *Snapshot) stats() map[string]float64 {
	return map[string]float64{
		"produced_records": float64(s.ProducedRecords),
		"produced_batches": float64(s.ProducedBatches),
		"produced_bytes":   float64(s.ProducedBytes),
		"fetched_records":  float64(s.FetchedRecords),
		"fetched_bytes":    float64(s.FetchedBytes),
		"produce_p50_us":   float64(s.Produce.Quantile(0.5).Microseconds()),
		"produce_p99_us":   float64(s.Produce.Quantile(0.99).Microseconds()),
		"fetch_p50_us":     float64(s.Fetch.Quantile(0.5).Microseconds()),
		"fetch_p99_us":     float64(s.Fetch.Quantile(0.99).Microseconds()),
		"journal_groups":   float64(s.Storage.JournalGroups),
		"journal_entries":  float64(s.Storage.JournalEntries),
		"journal_bytes":    float64(s.Storage.JournalBytes),
		"journal_live":     float64(s.Storage.JournalLive),
		"flush_p50_us":     float64(s.Storage.Flush.P50.Microseconds()),
		"flush_p99_us":     float64(s.Storage.Flush.P99.Microseconds()),
		"inflight_bytes":   float64(s.InflightBytes),
		"topics":           float64(len(s.Topics)),
	}
}

// storage is the figures of the log.
func (b *Broker) storage() Storage {
	st := b.store.Stats()
	return Storage{
		JournalMode: st.JournalMode, JournalBytes: st.JournalBytes, JournalGroups: st.Groups, JournalEntries: st.Appends,
		JournalLive:   uint64(st.JournalLive),
		Flush:         Quantiles{Count: st.Sync.Count, Sum: st.Sync.Sum, P50: st.Sync.P50, P99: st.Sync.P99, P999: st.Sync.P999},
		JournalStalls: st.Stalls, Checkpoints: st.Checkpoints, ScrubbedBytes: uint64(st.Scrub.Bytes),
		TailHits: st.TailHits, TailMisses: st.TailMisses, DamagedRanges: st.Holes, DiskFree: st.DiskFree, Full: st.Full,
		Failed: b.failure.Load() != nil,
	}
}
