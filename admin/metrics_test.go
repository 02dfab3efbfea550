package admin

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"github.com/stretchr/testify/require"
)

var update = flag.Bool("update", false, "rewrite the table of metrics in docs/operations.md")

const operationsFile = "../docs/operations.md"

func fullSnapshot() Snapshot {
	return Snapshot{
		Version: "1.2.3", Connections: 3, Requests: map[string]uint64{"Produce": 7}, Errors: map[string]uint64{"TIMEOUT": 1},
		Produce: Distribution{Count: 6, Sum: 2 * time.Second, Buckets: []Bucket{
			{Bound: 50 * time.Microsecond, Count: 1}, {Bound: 60 * time.Microsecond, Count: 2}, {Bound: time.Millisecond, Count: 1}, {Bound: time.Minute, Count: 2},
		}},
		ProducedRecords: 42, Partitions: 5,
		Topics:  []Topic{{Name: "orders", Partitions: 4, StoredBytes: 99}, {Name: "payments", Partitions: 1}},
		Storage: Storage{JournalMode: "direct+dsync", Flush: Quantiles{Count: 2, Sum: time.Second, P50: time.Millisecond, P99: 2 * time.Millisecond, P999: 3 * time.Millisecond}, Full: true},
		Dedup:   Dedup{Open: true, Pending: 4},
	}
}

// scrape gathers what /metrics shows of the broker itself.
func scrape(t *testing.T, s Source) string {
	registry := prometheus.NewPedanticRegistry()
	require.NoError(t, registry.Register(newCollector(s)))
	families, err := registry.Gather()
	require.NoError(t, err)
	var out strings.Builder
	for _, f := range families {
		_, err := expfmt.MetricFamilyToText(&out, f)
		require.NoError(t, err)
	}
	return out.String()
}

func TestMetrics(t *testing.T) {
	s := &source{snapshot: fullSnapshot}
	store(&s.ready, fmt.Errorf("starting"))
	text := scrape(t, s)
	for _, line := range []string{
		`sequitur_healthy 1`,
		`sequitur_ready 0`,
		`sequitur_connections 3`,
		`sequitur_requests_total{kind="Produce"} 7`,
		`sequitur_errors_total{code="TIMEOUT"} 1`,
		`sequitur_topic_stored_bytes{topic="orders"} 99`,
		`sequitur_topics 2`,
		`sequitur_journal_info{mode="direct+dsync"} 1`,
		`sequitur_journal_flush_seconds{quantile="0.99"} 0.002`,
		`sequitur_storage_full 1`,
		`sequitur_produce_seconds_bucket{le="5e-05"} 1`,
		`sequitur_produce_seconds_bucket{le="0.0001"} 3`,
		`sequitur_produce_seconds_bucket{le="0.001"} 4`,
		`sequitur_produce_seconds_bucket{le="10"} 4`,
		`sequitur_produce_seconds_bucket{le="+Inf"} 6`,
		`sequitur_produce_seconds_sum 2`,
		`sequitur_dedup_pending 4`,
	} {
		require.Contains(t, text, line+"\n")
	}
	problems, err := promlint.New(strings.NewReader(text)).Lint()
	require.NoError(t, err)
	require.Empty(t, problems)
}

func TestEveryMetricOfTheTableIsShown(t *testing.T) {
	text := scrape(t, &source{snapshot: fullSnapshot})
	for _, m := range MetricTable() {
		require.Contains(t, text, fmt.Sprintf("# TYPE %s %s\n", m.Name, m.Type))
		require.Contains(t, text, fmt.Sprintf("# HELP %s %s\n", m.Name, m.Help))
		require.True(t, model.LegacyValidation.IsValidMetricName(m.Name))
	}
	require.Equal(t, len(MetricTable()), strings.Count(text, "# TYPE "))
}

// 10,000 topics do not make more series than MaxTopics do, and nothing is lost
// from the sums.
func TestSeriesAreBounded(t *testing.T) {
	s := fullSnapshot()
	s.Topics = nil
	for i := range 10_000 {
		s.Topics = append(s.Topics, Topic{Name: fmt.Sprint("topic-", i), StoredBytes: 1, Partitions: 1, ProducedRecords: 2, ProducedBytes: 3, FetchedRecords: 4, FetchedBytes: 5, Segments: 6, DamagedRanges: 7})
	}
	text := scrape(t, &source{snapshot: func() Snapshot { return s }})
	require.Equal(t, MaxTopics+1, strings.Count(text, "sequitur_topic_stored_bytes{"))
	require.Contains(t, text, `sequitur_topic_stored_bytes{topic="(other)"} 8000`+"\n")
	require.Contains(t, text, `sequitur_topic_produced_records_total{topic="(other)"} 16000`+"\n")
	require.Contains(t, text, `sequitur_topic_produced_bytes_total{topic="(other)"} 24000`+"\n")
	require.Contains(t, text, `sequitur_topic_fetched_records_total{topic="(other)"} 32000`+"\n")
	require.Contains(t, text, `sequitur_topic_fetched_bytes_total{topic="(other)"} 40000`+"\n")
	require.Contains(t, text, `sequitur_topic_segments{topic="(other)"} 48000`+"\n")
	require.Contains(t, text, `sequitur_topic_damaged_ranges{topic="(other)"} 56000`+"\n")
	require.Contains(t, text, `sequitur_topic_partitions{topic="(other)"} 8000`+"\n")
	require.Contains(t, text, "sequitur_topics 10000\n")
	require.Equal(t, "topic-2000", s.Topics[MaxTopics].Name, "the snapshot is not changed")
}

func TestMetricsOverHTTP(t *testing.T) {
	_, get := start(t, &source{snapshot: fullSnapshot})
	code, body := get("GET", "/metrics")
	require.Equal(t, 200, code)
	require.Contains(t, body, "sequitur_produced_records_total 42\n")
	require.Contains(t, body, "go_goroutines ")
	require.Contains(t, body, "process_cpu_seconds_total ")
}

// The table in the operations page is the table of the code.
func TestOperationsDocHasTheMetrics(t *testing.T) {
	var table strings.Builder
	table.WriteString("| metric | type | labels | |\n|---|---|---|---|\n")
	for _, m := range MetricTable() {
		fmt.Fprintf(&table, "| `%s` | %s | %s | %s |\n", m.Name, m.Type, strings.Join(m.Labels, ", "), m.Help)
	}
	b, err := os.ReadFile(operationsFile)
	require.NoError(t, err)
	head, rest, ok := strings.Cut(string(b), "<!-- metrics -->\n")
	require.True(t, ok)
	_, tail, ok := strings.Cut(rest, "<!-- end -->")
	require.True(t, ok)
	want := head + "<!-- metrics -->\n" + table.String() + "<!-- end -->" + tail
	if *update {
		require.NoError(t, os.WriteFile(operationsFile, []byte(want), 0o644))
		return
	}
	require.Equal(t, want, string(b), "run go test ./admin -update")
}

func BenchmarkScrape(b *testing.B) {
	s := fullSnapshot()
	for i := range 1_000 {
		s.Topics = append(s.Topics, Topic{Name: fmt.Sprint("topic-", i)})
	}
	registry := prometheus.NewRegistry()
	if err := registry.Register(newCollector(&source{snapshot: func() Snapshot { return s }})); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := registry.Gather(); err != nil {
			b.Fatal(err)
		}
	}
}
