package bench

import (
	"context"
	"errors"
	"net"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestFreeAddresses(t *testing.T) {
	addrs, err := freeAddresses(6)
	require.NoError(t, err)
	require.Len(t, addrs, 6)
	seen := make(map[string]bool)
	for _, addr := range addrs {
		require.False(t, seen[addr], addr)
		seen[addr] = true
		a, err := net.ResolveTCPAddr("tcp", addr)
		require.NoError(t, err)
		require.True(t, a.IP.IsLoopback())
		require.True(t, a.Port >= lowestPort && a.Port < highestPort, addr)
	}
}

// Every server of a JetStream cluster knows the routes to all. The whole of it runs against real servers by
// `bench targets --cluster` (docs/benchmarks.md).
func TestNATSClusterConfiguration(t *testing.T) {
	c := &NATSCluster{dir: t.TempDir()}
	require.NoError(t, c.configure(3, "  sync_interval: always\n"))
	require.Len(t, c.servers, 3)
	var routes string
	for _, s := range c.servers {
		text, err := os.ReadFile(s.config)
		require.NoError(t, err)
		require.Contains(t, string(text), `server_name: "`+s.name+`"`)
		require.Contains(t, string(text), `listen: "`+s.addr+`"`)
		require.Contains(t, string(text), "sync_interval: always")
		_, after, found := strings.Cut(string(text), "routes: [")
		require.True(t, found)
		line, _, _ := strings.Cut(after, "]")
		require.Equal(t, 3, strings.Count(line, "nats://127.0.0.1:"))
		require.True(t, routes == "" || routes == line, "the same on each")
		routes = line
	}
}

// flaky is a publisher that fails every n-th record, and refuses every n-th of the others.
type flaky struct {
	fail, refuse uint64
	taken        atomic.Uint64
	sends        func(n uint64) // before Send returns
}

func (f *flaky) Send(context.Context, Outgoing) error {
	f.sends(f.taken.Add(1))
	return nil
}

func (f *flaky) SendAsync(_ context.Context, _ Outgoing, probe *Probe) error {
	n := f.taken.Add(1)
	switch {
	case n%f.refuse == 0:
		return errors.New("refused")
	case n%f.fail == 0:
		probe.Done(errors.New("failed"))
	default:
		probe.Done(nil)
	}
	return nil
}

func (f *flaky) Flush(context.Context) error { return nil }
func (f *flaky) Close(context.Context) error { return nil }

type flakyStream struct {
	Stream
	pub *flaky
}

func (s flakyStream) Publisher(context.Context, PublisherSpec) (Publisher, error) { return s.pub, nil }

// A steady load goes on over failures and counts each, whether the client refused the record or told of it later.
func TestSteadyLoadCountsFailures(t *testing.T) {
	payloads, err := LoadPayloads(PayloadSpec{Size: 1})
	require.NoError(t, err)
	pub := &flaky{fail: 3, refuse: 5}
	const rate = 100_000
	l, err := startSteady(t.Context(), flakyStream{pub: pub}, payloads, rate, 0)
	require.NoError(t, err)
	require.Eventually(t, func() bool { return pub.taken.Load() > 100 }, time.Minute, time.Millisecond)
	require.NoError(t, l.stop(t.Context()))
	w := l.cut()
	n := pub.taken.Load()
	require.Equal(t, n, w.sends.Load())
	require.Equal(t, n/3+n/5-n/15, w.fails.Load())
	require.EqualValues(t, n-w.fails.Load(), w.latency.Count(), "only what was acknowledged is timed")
	require.ErrorContains(t, l.failure(), "failed")
}

// What was sent before the kill may be acknowledged by the dead; only what was sent after it counts.
func TestWitnessWaitsForARecordSentAfter(t *testing.T) {
	w := &witness{acked: make(chan time.Time, 1)}
	var killed time.Time
	var last uint64
	w.pub = &flaky{sends: func(n uint64) {
		last = n
		if n == 3 {
			killed = time.Now()
			w.after.Store(killed.UnixNano())
		}
	}}
	require.NoError(t, w.run(t.Context()))
	require.EqualValues(t, 4, last)
	require.False(t, (<-w.acked).Before(killed))
}
