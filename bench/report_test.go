package bench

import (
	"bytes"
	"flag"
	"image/png"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

var update = flag.Bool("update", false, "write the golden files anew")

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	file := filepath.Join("testdata", name)
	if *update {
		require.NoError(t, os.WriteFile(file, got, 0o600))
	}
	want, err := os.ReadFile(file)
	require.NoError(t, err)
	require.Equal(t, string(want), string(got))
}

func latencyOf(us ...int) *Latency {
	h := NewHistogram()
	for _, v := range us {
		h.Record(time.Duration(v) * time.Microsecond)
	}
	return h.Summary()
}

// sampleReport has every kind of entry once.
func sampleReport() *Report {
	cpu, cores, allocs, others := 0.5, 0.9, 0.01, 0.2
	round := func(perSecond float64) Round {
		return Round{
			Records: 1_000_000, Bytes: 128_000_000, Seconds: 1e6 / perSecond, PerSecond: perSecond, MBPerSec: perSecond * 128 / 1e6,
			Latency: latencyOf(100, 200, 300), SendLag: latencyOf(1, 2), ServerCPU: &cpu, ServerCores: &cores, ClientCPU: 0.75,
			ServerRSS: 80 << 20, ServerPeak: 90 << 20, ServerAllocs: &allocs, ClientAllocs: 0.02, OtherCores: &others,
		}
	}
	r := &Report{
		Format: ReportFormat, Started: time.Date(2020, 1, 2, 3, 4, 5, 0, time.UTC), Seconds: 12.34, Command: []string{"bench", "compare"},
		Host:     Host{CPU: "a processor", Cores: 2, MemoryMiB: 24_000, Kernel: "6.1", FileSystem: "tmpfs on tmpfs", Go: "go1.26 linux/amd64"},
		Warnings: []string{"mind this"},
		Physical: &Physical{FlushKind: "direct+dsync", Flush4K: latencyOf(60), Flush64K: latencyOf(90), RoundTrip: latencyOf(14), RoundTripPeer: "another process",
			JournalMBs: 1700, JournalSegmentsMBs: 700, MemcpyGBs: 15, CRC32CGBs: 5},
		Creations: []Creation{{Partitions: 10_000, Topics: 10, Seconds: 2, PerSecond: 5000, RSSBefore: 30 << 20, RSSAfter: 70 << 20, PerPartition: 4194}},
		Restarts:  []Restart{{StoredBytes: 1e10, Records: 1e7, Clean: []float64{0.2}, Killed: []float64{0.4}, CleanMedian: 0.2, KillMedian: 0.4}},
		Targets: []Target{
			{Name: "fast", Want: ">= 10x", Measured: "12.0x", Met: true, Detail: "12 against 1"},
			{Name: "small", Want: "< 1", Measured: "2"},
			{Name: "other", Want: "< 1", Measured: "not measured", Skipped: true},
		},
	}
	a := *r.Add(Result{Workload: "async produce", System: "sequitur", Version: "dev", Durability: "fsync always, acks quorum",
		Settings: map[string]string{"values": "128 random bytes"}, Rounds: []Round{round(1e6), round(2e6), round(3e6)}})
	b := *r.Add(Result{Workload: "fast batch produce", System: "jetstream lazy", Durability: "file storage, lazy sync (as told)",
		Rounds: []Round{{Records: 1000, PerSecond: 1e5, Latency: latencyOf(1000, 2000), FirstUs: 12}}})
	p50, p99, _ := compareLatencies(&a, &b)
	r.Ratios = []Ratio{compareRates(&a, &b), p50, p99}
	return r
}

func TestReportJSON(t *testing.T) {
	var out bytes.Buffer
	require.NoError(t, sampleReport().encode(&out))
	golden(t, "report.json", out.Bytes())
}

func TestReportText(t *testing.T) {
	var out bytes.Buffer
	require.NoError(t, sampleReport().WriteText(&out))
	golden(t, "report.txt", out.Bytes())
}

func TestPlot(t *testing.T) {
	name := filepath.Join(t.TempDir(), "plot.png")
	require.NoError(t, sampleReport().WritePlot(name))
	f, err := os.Open(name)
	require.NoError(t, err)
	defer f.Close()
	img, err := png.Decode(f)
	require.NoError(t, err)
	require.Greater(t, img.Bounds().Dx(), 500)
	require.ErrorContains(t, new(Report).WritePlot(name), "no result has latencies")
	require.ErrorContains(t, sampleReport().WritePlot(name+".unknown"), "name it .png")
}

func TestMedian(t *testing.T) {
	require.Zero(t, median(nil))
	require.Equal(t, 2.0, median([]float64{9, 1, 2}))
	require.Equal(t, 1.5, median([]float64{2, 1}))
}

func TestMedianRoundTakesEachFigureOnItsOwn(t *testing.T) {
	low, high := 1.0, 3.0
	m := MedianRound([]Round{
		{PerSecond: 1, Latency: latencyOf(30), ServerCPU: &low},
		{PerSecond: 9, Latency: latencyOf(10), ServerCPU: &high},
		{PerSecond: 2, Latency: latencyOf(20)},
	})
	require.Equal(t, 2.0, m.PerSecond)
	require.InEpsilon(t, 20, m.Latency.P50Us, 0.01)
	require.NotEmpty(t, m.Latency.Curve)
	require.Equal(t, 2.0, *m.ServerCPU, "of the rounds that know it")
	require.Nil(t, m.AckLatency)
	require.Equal(t, Round{}, MedianRound(nil))
}

func TestRatiosAreBetterAboveOne(t *testing.T) {
	a := &Result{Median: Round{PerSecond: 20, Latency: latencyOf(10)}}
	b := &Result{Median: Round{PerSecond: 10, Latency: latencyOf(40)}}
	require.Equal(t, 2.0, compareRates(a, b).Ratio)
	p50, p99, ok := compareLatencies(a, b)
	require.True(t, ok)
	require.InEpsilon(t, 4, p50.Ratio, 0.01)
	require.InEpsilon(t, 4, p99.Ratio, 0.01)
	_, _, ok = compareLatencies(a, &Result{})
	require.False(t, ok)
	require.Zero(t, compareRates(a, &Result{}).Ratio, "no division by nothing")
}

func TestWords(t *testing.T) {
	require.Equal(t, "999 us", span(999))
	require.Equal(t, "1.50 ms", span(1500))
	require.Equal(t, "2.00 s", span(2e6))
	require.Equal(t, "1.5", grouped(1.5))
	require.Equal(t, "999", grouped(999))
	require.Equal(t, "1,234,567", grouped(1234567))
}

func TestWarningWhereFlushesMeanNothing(t *testing.T) {
	require.Contains(t, Host{FileSystem: "tmpfs on tmpfs"}.Warning(), "--data-dir")
	require.Empty(t, Host{FileSystem: "ext4 on /dev/vda"}.Warning())
	require.Empty(t, Host{}.Warning())
}
