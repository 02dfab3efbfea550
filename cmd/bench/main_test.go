package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/sequitur-mq/sequitur/bench"
)

// The child processes of a run are the test binary itself.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && (os.Args[1] == childName || os.Args[1] == echoName) {
		main()
		return
	}
	goleak.VerifyTestMain(m)
}

// command runs the program and returns its exit code and what it printed.
func command(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	c := &cli{
		args: append([]string{"bench"}, args...), stdin: strings.NewReader(""), stdout: &out, stderr: &errs,
		getenv: func(string) string { return "" },
	}
	code = c.run(t.Context())
	return code, out.String(), errs.String()
}

// measured runs the program in a directory of its own, which it must leave empty, and returns its report.
func measured(t *testing.T, args ...string) *bench.Report {
	t.Helper()
	dir, report := t.TempDir(), filepath.Join(t.TempDir(), "report.json")
	code, stdout, stderr := command(t, append(args, "--data-dir", dir, "--json", report)...)
	require.Zero(t, code, stderr)
	require.Contains(t, stdout, "machine:")
	left, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Empty(t, left, "the data directory is cleaned")
	data, err := os.ReadFile(report)
	require.NoError(t, err)
	r := new(bench.Report)
	require.NoError(t, json.Unmarshal(data, r))
	require.Equal(t, bench.ReportFormat, r.Format)
	return r
}

const (
	shortRound  = "--duration=50ms"
	shortWarmup = "--warmup=10ms"
)

func TestProduceMeasures(t *testing.T) {
	plot := filepath.Join(t.TempDir(), "plot.png")
	r := measured(t, "produce", shortRound, shortWarmup, "--rounds=2", "--plot", plot)
	require.Len(t, r.Results, 1)
	result := r.Results[0]
	require.Len(t, result.Rounds, 2)
	require.Contains(t, result.Durability, "fsync always, acks quorum")
	require.Positive(t, result.Median.Records)
	require.EqualValues(t, 128*result.Rounds[0].Records, result.Rounds[0].Bytes)
	require.NotNil(t, result.Median.Latency)
	require.NotNil(t, result.Median.ServerCPU)
	require.Positive(t, result.Median.ServerPeak)
	require.NotNil(t, r.Physical, "the limits are measured in the same run")
	require.Equal(t, "another process", r.Physical.RoundTripPeer)
	require.FileExists(t, plot)
}

func TestProduceEveryKnob(t *testing.T) {
	lines := filepath.Join(t.TempDir(), "lines")
	require.NoError(t, os.WriteFile(lines, []byte("one line\nanother line\n"), 0o600))
	r := measured(t, "produce", shortRound, shortWarmup, "--rounds=1", "--payload-file", lines, "--rate=2000", "--partitions=3",
		"--producers=2", "--acks=leader", "--fsync=never", "--compression=zstd", "--keys=10", "--linger=1ms")
	require.NotNil(t, r.Results[0].Median.SendLag, "open loop")
	require.Contains(t, r.Results[0].Durability, "before fsync")
	require.Equal(t, "2 lines of lines, 10 bytes on average", r.Results[0].Settings["values"])
}

func TestProduceSynchronously(t *testing.T) {
	r := measured(t, "produce", shortRound, shortWarmup, "--rounds=1", "--outstanding=4", "--producers=2")
	require.Equal(t, "produce, 8 outstanding", r.Results[0].Workload)
	require.Equal(t, int64(r.Results[0].Rounds[0].Records), r.Results[0].Rounds[0].Latency.Count, "every one is timed")
}

func TestConsumeMeasures(t *testing.T) {
	r := measured(t, "consume", "--count=5000", "--rounds=2", "--partitions=2")
	require.EqualValues(t, 5000, r.Results[0].Median.Records)
	require.EqualValues(t, 5000*128, r.Results[0].Median.Bytes)
}

func TestLatencyMeasures(t *testing.T) {
	r := measured(t, "latency", shortRound, shortWarmup, "--rate=1000", "--rounds=1")
	m := r.Results[0].Median
	require.EqualValues(t, 50, m.Records)
	require.EqualValues(t, 50, m.Latency.Count, "the warm-up is not counted")
	require.NotNil(t, m.AckLatency)
	require.NotNil(t, m.SendLag)
}

func TestPartitionsMeasures(t *testing.T) {
	r := measured(t, "partitions", shortRound, shortWarmup, "--rounds=1", "--partitions=1,3", "--rate=1000",
		"--create=20", "--topics=10", "--idle=10ms")
	require.Len(t, r.Results, 4)
	require.Len(t, r.Creations, 1)
	require.Equal(t, 20, r.Creations[0].Partitions)
}

func TestRestartMeasures(t *testing.T) {
	r := measured(t, "restart", "--gb=0.002", "--rounds=1", "--load=10ms")
	require.Len(t, r.Restarts, 1)
	require.Len(t, r.Restarts[0].Clean, 1)
	require.Len(t, r.Restarts[0].Killed, 1)
}

func TestTargetsWithoutRivalSaysWhatIsMissing(t *testing.T) {
	r := measured(t, "targets", "--quick", "--rounds=1", "--only=memory-idle")
	require.NotEmpty(t, r.Targets)
	require.NotNil(t, r.Physical)
}

func TestServerIsMeasuredWhereItIs(t *testing.T) {
	dir := t.TempDir()
	launcher := bench.Launcher{Command: os.Args[0], Args: func(data string) []string { return []string{childName, "--data", data} }}
	local, err := bench.StartLocal(t.Context(), launcher, dir)
	require.NoError(t, err)
	r := measured(t, "produce", "--server", local.Process.Addr, shortRound, shortWarmup, "--rounds=1")
	require.Positive(t, r.Results[0].Median.Records)
	require.Nil(t, r.Physical, "the machine of a named server is not measured")
	require.NoError(t, local.Close())
}

func TestMisuse(t *testing.T) {
	for _, c := range []struct {
		args []string
		says string
		code int
	}{
		{[]string{"produce", "--size=-1"}, "choose 0 to", exitFailed},
		{[]string{"produce", "--no-such-flag"}, "unknown flag", exitUsage},
		{[]string{"no-such-command"}, "unknown command", exitUsage},
		{[]string{"compare"}, "--against nats://HOST:PORT", exitFailed},
		{[]string{"compare", "--against=nats://127.0.0.1:1", "--workloads=none"}, `workload "none"`, exitFailed},
		{[]string{"targets", "--only=none"}, `row "none"`, exitFailed},
		{[]string{"produce", "--server=127.0.0.1:1", "--rounds=1"}, "127.0.0.1:1", exitFailed},
		{[]string{"partitions", "--create=10", "--topics=3"}, "multiple", exitFailed},
	} {
		code, _, stderr := command(t, append(c.args, "--data-dir", t.TempDir(), "--quiet")...)
		require.Equal(t, c.code, code, c.args)
		require.Contains(t, stderr, c.says, c.args)
	}
}
