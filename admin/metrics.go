package admin

import (
	"runtime"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// MaxTopics bounds the topics that have series of their own: the first ones of
// Snapshot.Topics. The others are added up under the label OtherTopics.
const (
	MaxTopics   = 2_000
	OtherTopics = "(other)"
)

// Metric is one row of the table of metrics.
type Metric struct {
	Name   string
	Type   string // counter, gauge, histogram or summary
	Labels []string
	Help   string
}

// MetricTable lists every metric of the broker's own. Those of the Go runtime
// (go_...) and of the process (process_...) come besides.
func MetricTable() []Metric {
	return []Metric{
		{"sequitur_build_info", "gauge", []string{"version", "go_version"}, "always 1"},
		{"sequitur_healthy", "gauge", nil, "1 while /healthz says ok"},
		{"sequitur_ready", "gauge", nil, "1 while /readyz says ready"},

		{"sequitur_connections", "gauge", nil, "open client connections"},
		{"sequitur_connections_accepted_total", "counter", nil, "connections accepted"},
		{"sequitur_connections_refused_total", "counter", nil, "connections closed at once because max-connections were open"},
		{"sequitur_connections_evicted_total", "counter", nil, "connections closed because the client did not read its answers or did not finish a request"},
		{"sequitur_inflight_bytes", "gauge", nil, "memory held by requests that are not answered yet"},
		{"sequitur_inflight_limit_bytes", "gauge", nil, "bound of sequitur_inflight_bytes (memory-bytes)"},

		{"sequitur_requests_total", "counter", []string{"kind"}, "requests by kind"},
		{"sequitur_errors_total", "counter", []string{"code"}, "errors answered, by code, of requests and of single partitions or topics"},
		{"sequitur_produce_seconds", "histogram", nil, "time from the arrival of a produce request to its answer"},
		{"sequitur_fetch_seconds", "histogram", nil, "time from the arrival of a fetch request to its answer, without waiting for records"},

		{"sequitur_produced_records_total", "counter", nil, "records appended"},
		{"sequitur_produced_batches_total", "counter", nil, "batches appended"},
		{"sequitur_produced_bytes_total", "counter", nil, "bytes of batches appended"},
		{"sequitur_fetched_records_total", "counter", nil, "records sent to consumers, as far as counted by offsets"},
		{"sequitur_fetched_bytes_total", "counter", nil, "bytes of batches sent to consumers"},
		{"sequitur_duplicate_batches_total", "counter", nil, "batches sent again by a producer and recognised by their sequence"},

		{"sequitur_topics", "gauge", nil, "topics"},
		{"sequitur_partitions", "gauge", nil, "partitions"},
		{"sequitur_topic_partitions", "gauge", []string{"topic"}, "partitions of the topic"},
		{"sequitur_topic_produced_records_total", "counter", []string{"topic"}, "records appended to the topic"},
		{"sequitur_topic_produced_bytes_total", "counter", []string{"topic"}, "bytes of batches appended to the topic"},
		{"sequitur_topic_fetched_records_total", "counter", []string{"topic"}, "records of the topic sent to consumers"},
		{"sequitur_topic_fetched_bytes_total", "counter", []string{"topic"}, "bytes of batches of the topic sent to consumers"},
		{"sequitur_topic_stored_bytes", "gauge", []string{"topic"}, "bytes of segments of the topic"},
		{"sequitur_topic_segments", "gauge", []string{"topic"}, "segment files of the topic"},
		{"sequitur_topic_damaged_ranges", "gauge", []string{"topic"}, "damaged ranges of offsets that are not served"},

		{"sequitur_journal_info", "gauge", []string{"mode"}, "always 1; how the journal reaches the disk"},
		{"sequitur_journal_written_bytes_total", "counter", nil, "bytes written to the journal"},
		{"sequitur_journal_groups_total", "counter", nil, "groups committed to the journal, one flush each"},
		{"sequitur_journal_entries_total", "counter", nil, "entries in those groups"},
		{"sequitur_journal_live_bytes", "gauge", nil, "bytes of the journal that a restart would read"},
		{"sequitur_journal_flush_seconds", "summary", nil, "time of one write and flush of the journal, since the start"},
		{"sequitur_journal_stalls_total", "counter", nil, "times that appends waited for a checkpoint to free a part of the journal"},
		{"sequitur_tail_hits_total", "counter", nil, "reads served from the memory tail"},
		{"sequitur_tail_misses_total", "counter", nil, "reads served from segment files"},
		{"sequitur_checkpoints_total", "counter", nil, "checkpoints written"},
		{"sequitur_scrubbed_bytes_total", "counter", nil, "bytes verified in the background"},
		{"sequitur_damaged_ranges", "gauge", nil, "damaged ranges of offsets that are not served; above 0 needs attention"},
		{"sequitur_disk_free_bytes", "gauge", nil, "free space of the file system of the data directory"},
		{"sequitur_storage_full", "gauge", nil, "1 while produce is answered STORAGE_FULL"},
		{"sequitur_storage_failed", "gauge", nil, "1 once a write or flush has failed; the broker is stopping"},

		{"sequitur_cluster_replicas", "gauge", nil, "replicas on this broker; 0 on a broker by itself, like those below"},
		{"sequitur_cluster_leaders", "gauge", nil, "partitions led by this broker"},
		{"sequitur_cluster_followers", "gauge", nil, "replicas on this broker that follow others"},
		{"sequitur_cluster_under_replicated", "gauge", nil, "partitions led here with a replica that is far behind or away"},
		{"sequitur_cluster_damaged_replicas", "gauge", nil, "replicas on this broker with damage that is not repaired yet"},
		{"sequitur_cluster_lag_max", "gauge", nil, "offsets by which the slowest replica of a partition led here is behind"},
		{"sequitur_raft_leader", "gauge", nil, "1 on the broker that leads Raft, whose controller is in office"},
		{"sequitur_raft_term", "gauge", nil, "term of Raft; each election raises it"},
		{"sequitur_raft_commit_index", "gauge", nil, "entries of the metadata that are committed, as far as known here"},
		{"sequitur_raft_applied_index", "gauge", nil, "entries of the metadata that this broker has applied"},
		{"sequitur_raft_voters", "gauge", nil, "brokers that vote about the metadata"},

		{"sequitur_dedup_lookups_total", "counter", nil, "message ids looked up"},
		{"sequitur_dedup_duplicates_total", "counter", nil, "records not stored because their message id was stored before"},
		{"sequitur_dedup_pending", "gauge", nil, "message ids stored but not yet in the index"},
		{"sequitur_dedup_index_bytes", "gauge", nil, "size of the index on disk"},
		{"sequitur_dedup_rebuilding", "gauge", nil, "partitions whose index is being rebuilt from the log"},
	}
}

// buckets are the bounds of the histograms.
var buckets = [...]time.Duration{
	50 * time.Microsecond, 100 * time.Microsecond, 250 * time.Microsecond, 500 * time.Microsecond,
	time.Millisecond, 2500 * time.Microsecond, 5 * time.Millisecond, 10 * time.Millisecond, 25 * time.Millisecond, 50 * time.Millisecond,
	100 * time.Millisecond, 250 * time.Millisecond, 500 * time.Millisecond, time.Second, 2500 * time.Millisecond, 5 * time.Second, 10 * time.Second,
}

// collector turns a snapshot into metrics whenever it is asked.
type collector struct {
	source Source
	descs  map[string]*prometheus.Desc
}

func newCollector(source Source) *collector {
	c := &collector{source: source, descs: map[string]*prometheus.Desc{}}
	for _, m := range MetricTable() {
		c.descs[m.Name] = prometheus.NewDesc(m.Name, m.Help, m.Labels, nil)
	}
	return c
}

// Describe implements prometheus.Collector.
func (c *collector) Describe(out chan<- *prometheus.Desc) {
	for _, d := range c.descs {
		out <- d
	}
}

// Collect implements prometheus.Collector.
func (c *collector) Collect(out chan<- prometheus.Metric) {
	s := c.source.Snapshot()
	e := emitter{c.descs, out}
	e.gauge("sequitur_build_info", 1, s.Version, runtime.Version())
	e.flag("sequitur_healthy", c.source.Health() == nil)
	e.flag("sequitur_ready", c.source.Ready() == nil)

	e.gauge("sequitur_connections", s.Connections)
	e.counter("sequitur_connections_accepted_total", s.ConnectionsAccepted)
	e.counter("sequitur_connections_refused_total", s.ConnectionsRefused)
	e.counter("sequitur_connections_evicted_total", s.ConnectionsEvicted)
	e.gauge("sequitur_inflight_bytes", s.InflightBytes)
	e.gauge("sequitur_inflight_limit_bytes", s.MemoryLimit)

	for kind, n := range s.Requests {
		e.counter("sequitur_requests_total", n, kind)
	}
	for code, n := range s.Errors {
		e.counter("sequitur_errors_total", n, code)
	}
	e.histogram("sequitur_produce_seconds", s.Produce)
	e.histogram("sequitur_fetch_seconds", s.Fetch)

	e.counter("sequitur_produced_records_total", s.ProducedRecords)
	e.counter("sequitur_produced_batches_total", s.ProducedBatches)
	e.counter("sequitur_produced_bytes_total", s.ProducedBytes)
	e.counter("sequitur_fetched_records_total", s.FetchedRecords)
	e.counter("sequitur_fetched_bytes_total", s.FetchedBytes)
	e.counter("sequitur_duplicate_batches_total", s.DuplicateBatches)

	e.gauge("sequitur_topics", uint64(len(s.Topics)))
	e.gauge("sequitur_partitions", s.Partitions)
	for _, t := range boundTopics(s.Topics) {
		e.topic(t)
	}
	e.storage(s.Storage)
	e.dedup(s.Dedup)
	e.cluster(s.Cluster)
}

// boundTopics adds up the topics beyond MaxTopics.
func boundTopics(topics []Topic) []Topic {
	if len(topics) <= MaxTopics {
		return topics
	}
	other := Topic{Name: OtherTopics}
	for _, t := range topics[MaxTopics:] {
		other.Partitions += t.Partitions
		other.ProducedRecords += t.ProducedRecords
		other.ProducedBytes += t.ProducedBytes
		other.FetchedRecords += t.FetchedRecords
		other.FetchedBytes += t.FetchedBytes
		other.StoredBytes += t.StoredBytes
		other.Segments += t.Segments
		other.DamagedRanges += t.DamagedRanges
	}
	return append(topics[:MaxTopics:MaxTopics], other)
}

// emitter makes metrics of the names in the table.
type emitter struct {
	descs map[string]*prometheus.Desc
	out   chan<- prometheus.Metric
}

func (e emitter) gauge(name string, v uint64, labels ...string) {
	e.out <- prometheus.MustNewConstMetric(e.descs[name], prometheus.GaugeValue, float64(v), labels...)
}

func (e emitter) flag(name string, v bool) {
	n := uint64(0)
	if v {
		n = 1
	}
	e.gauge(name, n)
}

func (e emitter) counter(name string, v uint64, labels ...string) {
	e.out <- prometheus.MustNewConstMetric(e.descs[name], prometheus.CounterValue, float64(v), labels...)
}

// histogram counts into our buckets; a fine bucket that crosses one of our
// bounds counts above it.
func (e emitter) histogram(name string, d Distribution) {
	counts := make(map[float64]uint64, len(buckets))
	below, next := uint64(0), 0
	for _, bound := range buckets {
		for ; next < len(d.Buckets) && d.Buckets[next].Bound <= bound; next++ {
			below += d.Buckets[next].Count
		}
		counts[bound.Seconds()] = below
	}
	e.out <- prometheus.MustNewConstHistogram(e.descs[name], d.Count, d.Sum.Seconds(), counts)
}

func (e emitter) summary(name string, q Quantiles) {
	e.out <- prometheus.MustNewConstSummary(e.descs[name], q.Count, q.Sum.Seconds(), map[float64]float64{
		0.5: q.P50.Seconds(), 0.99: q.P99.Seconds(), 0.999: q.P999.Seconds(),
	})
}

func (e emitter) topic(t Topic) {
	e.gauge("sequitur_topic_partitions", t.Partitions, t.Name)
	e.counter("sequitur_topic_produced_records_total", t.ProducedRecords, t.Name)
	e.counter("sequitur_topic_produced_bytes_total", t.ProducedBytes, t.Name)
	e.counter("sequitur_topic_fetched_records_total", t.FetchedRecords, t.Name)
	e.counter("sequitur_topic_fetched_bytes_total", t.FetchedBytes, t.Name)
	e.gauge("sequitur_topic_stored_bytes", t.StoredBytes, t.Name)
	e.gauge("sequitur_topic_segments", t.Segments, t.Name)
	e.gauge("sequitur_topic_damaged_ranges", t.DamagedRanges, t.Name)
}

func (e emitter) storage(s Storage) {
	e.gauge("sequitur_journal_info", 1, s.JournalMode)
	e.counter("sequitur_journal_written_bytes_total", s.JournalBytes)
	e.counter("sequitur_journal_groups_total", s.JournalGroups)
	e.counter("sequitur_journal_entries_total", s.JournalEntries)
	e.gauge("sequitur_journal_live_bytes", s.JournalLive)
	e.summary("sequitur_journal_flush_seconds", s.Flush)
	e.counter("sequitur_checkpoints_total", s.Checkpoints)
	e.counter("sequitur_journal_stalls_total", s.JournalStalls)
	e.counter("sequitur_tail_hits_total", s.TailHits)
	e.counter("sequitur_tail_misses_total", s.TailMisses)
	e.counter("sequitur_scrubbed_bytes_total", s.ScrubbedBytes)
	e.gauge("sequitur_damaged_ranges", s.DamagedRanges)
	e.gauge("sequitur_disk_free_bytes", s.DiskFree)
	e.flag("sequitur_storage_full", s.Full)
	e.flag("sequitur_storage_failed", s.Failed)
}

func (e emitter) cluster(c Cluster) {
	e.gauge("sequitur_cluster_replicas", c.Replicas)
	e.gauge("sequitur_cluster_leaders", c.Leaders)
	e.gauge("sequitur_cluster_followers", c.Followers)
	e.gauge("sequitur_cluster_under_replicated", c.UnderReplicated)
	e.gauge("sequitur_cluster_damaged_replicas", c.Suspects)
	e.gauge("sequitur_cluster_lag_max", c.MaxLag)
	e.flag("sequitur_raft_leader", c.RaftLeader)
	e.gauge("sequitur_raft_term", c.RaftTerm)
	e.gauge("sequitur_raft_commit_index", c.RaftCommit)
	e.gauge("sequitur_raft_applied_index", c.RaftApplied)
	e.gauge("sequitur_raft_voters", c.RaftVoters)
}

func (e emitter) dedup(d Dedup) {
	e.counter("sequitur_dedup_lookups_total", d.Lookups)
	e.counter("sequitur_dedup_duplicates_total", d.Duplicates)
	e.gauge("sequitur_dedup_pending", d.Pending)
	e.gauge("sequitur_dedup_index_bytes", d.IndexBytes)
	e.gauge("sequitur_dedup_rebuilding", d.Rebuilding)
}
