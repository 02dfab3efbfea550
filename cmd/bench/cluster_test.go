package main

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sequitur-mq/sequitur/bench"
)

func TestProduceOnACluster(t *testing.T) {
	plot := filepath.Join(t.TempDir(), "plot.png")
	r := measured(t, "produce", "--cluster=3", shortRound, shortWarmup, "--rounds=1", "--plot", plot)
	require.Len(t, r.Results, 1)
	result := r.Results[0]
	require.Equal(t, "sequitur, 3 brokers", result.System)
	require.Contains(t, result.Durability, "acks quorum on 3 brokers: acknowledged after fsync on a majority")
	require.Positive(t, result.Median.Records)
	require.NotNil(t, result.Median.ServerCPU)
	require.FileExists(t, plot)
}

func TestClusterWithFewerReplicas(t *testing.T) {
	r := measured(t, "latency", "--cluster=2", "--replication-factor=1", shortRound, shortWarmup, "--rate=500", "--rounds=1")
	require.Contains(t, r.Results[0].Durability, "acks quorum on one broker")
	require.EqualValues(t, 25, r.Results[0].Median.Latency.Count)
}

// Both kinds of kills, as processes; without a rival nothing is compared.
func TestTargetsOfACluster(t *testing.T) {
	r := measured(t, "targets", "--cluster=3", "--quick", "--trials=1", "--rounds=1", "--only=failover,failover-raft")
	require.Len(t, r.Failovers, 2)
	for _, f := range r.Failovers {
		require.Len(t, f.Trials, 1)
		require.Positive(t, f.Trials[0])
		require.NotNil(t, f.Latency)
	}
	require.Len(t, r.Targets, 2)
}

// session is one to measure with, and a cluster that ends with the test.
func session(t *testing.T) (*bench.Session, *bench.Cluster) {
	t.Helper()
	dir := t.TempDir()
	c := &cli{getenv: func(string) string { return "" }}
	launcher, err := c.launcher()
	require.NoError(t, err)
	cluster, err := bench.StartCluster(t.Context(), launcher, dir, 3)
	require.NoError(t, err)
	t.Cleanup(func() {
		require.NoError(t, cluster.Close())
		left, err := os.ReadDir(dir)
		require.NoError(t, err)
		require.Empty(t, left, "the data directory is cleaned")
	})
	return &bench.Session{Report: bench.NewReport(nil, dir), Dir: dir}, cluster
}

func payloads(t *testing.T) *bench.Payloads {
	t.Helper()
	p, err := bench.LoadPayloads(bench.PayloadSpec{Size: 100})
	require.NoError(t, err)
	return p
}

func TestRollingRestart(t *testing.T) {
	s, c := session(t)
	d, err := s.Rolling(t.Context(), c, bench.StreamSpec{Partitions: 3, Replicas: 3}, payloads(t), 200, 50*time.Millisecond)
	require.NoError(t, err)
	require.Zero(t, d.Errors, d.FirstError)
	require.Positive(t, d.Sends)
	require.Len(t, d.Steps, 3)
	require.EqualValues(t, d.Sends, d.Latency.Count, "every send is acknowledged and timed")
	require.Len(t, s.Report.Disturbances, 1)
}

func TestLossOfManyLeaders(t *testing.T) {
	s, c := session(t)
	l, err := s.LoseLeader(t.Context(), c, bench.StreamSpec{Partitions: 9, Replicas: 3}, payloads(t))
	require.NoError(t, err)
	require.Positive(t, l.Led)
	require.Positive(t, l.Again)
	require.Positive(t, l.Acked)
}

func TestCatchingUp(t *testing.T) {
	s, c := session(t)
	const backlog = 1_000_000
	up, err := s.CatchingUp(t.Context(), c, bench.StreamSpec{Partitions: 2, Replicas: 3}, payloads(t), backlog, 200, 50*time.Millisecond)
	require.NoError(t, err)
	require.GreaterOrEqual(t, up.Backlog, uint64(backlog))
	require.Positive(t, up.MBs)
	require.Zero(t, up.Errors, up.FirstError)
}
