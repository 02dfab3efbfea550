package bench

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

// The wanted figures of a cluster; chapter 9 of the design gives their reasons.
const (
	wantReplicatedRatio     = 10.0
	wantReplicatedBest      = 6.0
	wantOverSingle          = 2.5
	wantReplicatedP50Us     = 800.0
	wantReplicatedP99Us     = 8_000.0
	wantFailoverMs          = 300.0
	wantFailoverP99Ms       = 1_000.0
	wantFailoverRaftP99Ms   = 2_000.0
	wantRollingP99Us        = 250_000.0
	wantLedAgain            = 2 * time.Second
	wantCatchUpShare        = 0.5
	wantCatchUpP99          = 2.0
	fastPublishers          = 8 // where JetStream's fast batches peak with three replicas
	clusterRate             = 2_000
	clusterPartitions       = 12
	failoverPartitions      = 1_000
	catchUpPartitions       = 4
	settledBeforeKill       = 500 * time.Millisecond
	sharedFlushTime         = time.Second
	quickTrialsOfManyLeader = 1
)

// clusterRows are the rows of a cluster in the order in which they run. Those that kill brokers start a cluster of their
// own, so that none pays for the one before.
func clusterRows() []targetRow {
	return []targetRow{
		{"async", func(t *targetRun, ctx context.Context) error { return t.replicatedAsync(ctx, t.small, "128 B") }},
		{"async-1k", func(t *targetRun, ctx context.Context) error { return t.replicatedAsync(ctx, t.large, "1 KiB") }},
		{"one", (*targetRun).replicatedOne},
		{"latency", (*targetRun).replicatedEndToEnd},
		{"failover", (*targetRun).failover},
		{"failover-raft", (*targetRun).failoverRaft},
		{"rolling", (*targetRun).rolling},
		{"leaders", (*targetRun).manyLeaders},
		{"catch-up", (*targetRun).catchUp},
	}
}

// contest has all sides of the comparing rows run.
func (t *targetRun) contest(ctx context.Context) (err error) {
	if t.group != nil {
		return nil
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, t.close())
		}
	}()
	t.Progress.Step("starting %d brokers, and one by itself", t.o.Cluster)
	if t.group, err = StartCluster(ctx, t.o.Launcher, t.Dir, t.o.Cluster); err != nil {
		return err
	}
	if t.seq, err = StartLocal(ctx, t.o.Launcher, t.Dir); err != nil {
		return err
	}
	if t.o.NATS == "" {
		return nil
	}
	t.Progress.Step("starting %d NATS servers in each sync mode", t.o.Cluster)
	lazy, err := SpawnNATSCluster(ctx, t.o.NATS, t.Dir, t.o.Cluster, false)
	if err != nil {
		return err
	}
	t.lazy = lazy
	always, err := SpawnNATSCluster(ctx, t.o.NATS, t.Dir, t.o.Cluster, true)
	if err != nil {
		return err
	}
	t.always = always
	return nil
}

// alone runs a row on a cluster of its own, while nothing else of this run is there.
func (t *targetRun) alone(ctx context.Context, row func(c *Cluster) error) error {
	if err := t.close(); err != nil {
		return err
	}
	t.Progress.Step("starting %d brokers", t.o.Cluster)
	c, err := StartCluster(ctx, t.o.Launcher, t.Dir, t.o.Cluster)
	if err != nil {
		return err
	}
	return errors.Join(row(c), c.Close())
}

func (t *targetRun) replicated(partitions int) StreamSpec {
	return StreamSpec{Partitions: partitions, Replicas: t.o.Cluster}
}

func (t *targetRun) replicatedAsync(ctx context.Context, payloads *Payloads, size string) error {
	if err := t.contest(ctx); err != nil {
		return err
	}
	spec := t.produceSpec(payloads, Async, 1, t.sizes.duration)
	spec.Stream = t.replicated(1)
	fast := spec
	fast.Mode, fast.Producers = FastBatch, fastPublishers
	name := "async produce " + size
	best := fmt.Sprintf("fast batch produce %s, %d publishers", size, fastPublishers)
	var limits []*Physical
	own := t.Producing(name, t.group, spec)
	run := own.Run
	own.Run = func(ctx context.Context) (Round, error) {
		limit, err := MeasureBandwidth(ctx, t.Dir, t.sizes.duration)
		if err != nil {
			return Round{}, err
		}
		limits = append(limits, limit)
		settle(t.Dir)
		return run(ctx)
	}
	contenders := []*Contender{own}
	for _, sys := range t.rivals() {
		contenders = append(contenders, t.Producing(name, sys, spec), t.Producing(best, sys, fast))
	}
	results, err := t.Interleave(ctx, t.o.Rounds, contenders...)
	if err != nil {
		return err
	}
	for _, b := range results[1:] {
		t.compare(results[0], b, true, false)
	}
	for len(results) < 3 {
		results = append(results, nil)
	}
	title := fmt.Sprintf("RF %d async produce %s, acks quorum, fsync always", t.o.Cluster, size)
	t.targetRatio(title+", vs JetStream without fsync, async", wantReplicatedRatio, results[0], results[1])
	t.targetRatio("the same vs its best mode, without fsync", wantReplicatedBest, results[0], results[2])
	t.sharedDisk(results[0].Median.MBPerSec, medianOf(limits, func(p *Physical) float64 { return p.JournalSegmentsMBs }))
	return nil
}

// sharedDisk says with the two targets before how near the brokers, which share one disk here, are to what that sustains.
func (t *targetRun) sharedDisk(got, limit float64) {
	note := fmt.Sprintf("; %.0f MB/s of values on each of %d brokers that share a disk, which is %.0f %% of the %.0f MB/s that it sustains in all of journal with segment write-back",
		got, t.o.Cluster, 100*quotient(float64(t.o.Cluster)*got, limit), limit)
	for i := range t.Report.Targets[len(t.Report.Targets)-2:] {
		t.Report.Targets[len(t.Report.Targets)-2+i].Detail += note
	}
}

func (t *targetRun) replicatedOne(ctx context.Context) error {
	if err := t.contest(ctx); err != nil {
		return err
	}
	const name = "produce, one outstanding"
	spec := t.produceSpec(t.small, Sync, 1, t.sizes.duration)
	single := t.Producing(name, t.seq, spec)
	spec.Stream = t.replicated(1)
	own := t.Producing(name, t.group, spec)
	var flushes []*Latency
	run := own.Run
	own.Run = func(ctx context.Context) (Round, error) {
		flush, err := MeasureSharedFlush(ctx, t.Dir, t.o.Cluster, sharedFlushTime)
		if err != nil {
			return Round{}, err
		}
		flushes = append(flushes, flush)
		return run(ctx)
	}
	contenders := []*Contender{own, single}
	for _, sys := range t.rivals() {
		contenders = append(contenders, t.Producing(name, sys, spec))
	}
	if t.lazy != nil {
		detour := spec
		detour.Detour = true
		contenders = append(contenders, t.Producing(name+", client connected to a follower", t.lazy, detour))
	}
	results, err := t.Interleave(ctx, t.o.Rounds, contenders...)
	if err != nil {
		return err
	}
	for _, b := range results[1:] {
		t.compare(results[0], b, false, true)
	}
	together, alone := results[0].Median.Latency, results[1].Median.Latency
	title := fmt.Sprintf("RF %d produce, one outstanding, fsync always, p50", t.o.Cluster)
	if len(results) > 2 {
		lazy := results[2].Median.Latency
		t.target(title, "below JetStream without fsync", span(together.P50Us), together.P50Us < lazy.P50Us,
			fmt.Sprintf("JetStream without fsync %s with its client connected to the leader, %s to a follower; sync always %s; ours %s",
				span(lazy.P50Us), span(results[4].Median.Latency.P50Us), span(results[3].Median.Latency.P50Us), together))
	} else {
		t.skipped(title, "below JetStream without fsync", span(together.P50Us))
	}
	ratio := quotient(together.P50Us, alone.P50Us)
	t.target("the same against a broker by itself", fmt.Sprintf("<= %gx", wantOverSingle), fmt.Sprintf("%.2fx", ratio), ratio <= wantOverSingle,
		fmt.Sprintf("%s against %s; flush %s, while %d files of the shared disk are flushed %s, round trip %s", span(together.P50Us), span(alone.P50Us),
			span(t.Report.Physical.Flush4K.P50Us), t.o.Cluster, span(medianOf(flushes, func(l *Latency) float64 { return l.P50Us })),
			span(t.Report.Physical.RoundTrip.P50Us)))
	return nil
}

// skipped notes a target that there is nothing to compare with for.
func (t *targetRun) skipped(name, want, measured string) {
	t.Report.Targets = append(t.Report.Targets, Target{
		Name: name, Want: want, Skipped: true, Measured: measured + "; no nats-server given to compare with",
	})
}

func (t *targetRun) replicatedEndToEnd(ctx context.Context) error {
	if err := t.contest(ctx); err != nil {
		return err
	}
	spec := EndToEndSpec{
		Stream: t.replicated(1), Payloads: t.small, Rate: endToEndRate, InFlight: defaultInFlight,
		Warmup: t.sizes.warmup, Duration: t.sizes.latency,
	}
	contenders := []*Contender{t.Flowing("end to end", t.group, spec)}
	for _, sys := range t.rivals() {
		contenders = append(contenders, t.Flowing("end to end", sys, spec))
	}
	results, err := t.Interleave(ctx, t.o.Rounds, contenders...)
	if err != nil {
		return err
	}
	detail := ""
	for _, b := range results[1:] {
		t.compare(results[0], b, false, true)
		detail += fmt.Sprintf("%s %s / %s; ", b.System, span(b.Median.Latency.P50Us), span(b.Median.Latency.P99Us))
	}
	l := results[0].Median.Latency
	t.target(fmt.Sprintf("RF %d end-to-end latency at 10,000 records/s, fsync always, p50 / p99", t.o.Cluster), "< 0.8 ms / < 8 ms",
		span(l.P50Us)+" / "+span(l.P99Us), l.P50Us < wantReplicatedP50Us && l.P99Us < wantReplicatedP99Us, detail+"ours "+l.String())
	return nil
}

const (
	failoverName     = "kill -9 of the leader to the next acknowledgement"
	failoverRaftName = "the same, the leader also led Raft"
)

func (t *targetRun) failoverOptions() FailoverOptions {
	return FailoverOptions{Trials: t.sizes.trials, Replicas: t.o.Cluster, Payloads: t.small, Before: settledBeforeKill}
}

// failover kills leaders that do not lead Raft.
func (t *targetRun) failover(ctx context.Context) error {
	return t.alone(ctx, func(c *Cluster) (err error) {
		systems := []failing{{sys: c, workload: failoverName, wanted: func(ctx context.Context, leader int) (bool, error) {
			controller, err := c.controller(ctx)
			return controller != leader, err
		}}}
		if t.o.NATS != "" {
			rival, err := SpawnNATSCluster(ctx, t.o.NATS, t.Dir, t.o.Cluster, false)
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, rival.Close()) }()
			systems = append(systems, failing{sys: rival, workload: failoverName})
		}
		list, err := t.failovers(ctx, t.failoverOptions(), systems...)
		if err != nil {
			return err
		}
		own := list[0]
		detail := fmt.Sprintf("%d trials", len(own.Trials))
		if len(list) > 1 {
			detail += fmt.Sprintf("; JetStream median %s, p99 %s", span(list[1].Median*1e3), span(list[1].P99*1e3))
		}
		t.target("kill -9 of a partition leader to the next acknowledgement, median / p99", "< 300 ms / < 1 s",
			span(own.Median*1e3)+" / "+span(own.P99*1e3), own.Median < wantFailoverMs && own.P99 < wantFailoverP99Ms, detail)
		return nil
	})
}

func (t *targetRun) failoverRaft(ctx context.Context) error {
	return t.alone(ctx, func(c *Cluster) error {
		list, err := t.failovers(ctx, t.failoverOptions(), failing{sys: c, workload: failoverRaftName,
			wanted: func(ctx context.Context, leader int) (bool, error) {
				controller, err := c.controller(ctx)
				return controller == leader, err
			}})
		if err != nil {
			return err
		}
		own := list[0]
		t.target("the same, when the killed broker also led Raft, p99", "< 2 s", span(own.P99*1e3), own.P99 < wantFailoverRaftP99Ms,
			fmt.Sprintf("%d trials, median %s", len(own.Trials), span(own.Median*1e3)))
		return nil
	})
}

func (t *targetRun) rolling(ctx context.Context) error {
	return t.alone(ctx, func(c *Cluster) error {
		d, err := t.Rolling(ctx, c, t.replicated(clusterPartitions), t.small, clusterRate, t.sizes.calm)
		if err != nil {
			return err
		}
		t.target(fmt.Sprintf("rolling restart of all brokers under %s sends/s: errors seen by the client; p99 of sends", whole(clusterRate)),
			"0; < 250 ms", fmt.Sprintf("%s; %s", whole(d.Errors), span(d.Latency.P99Us)), d.Errors == 0 && d.Latency.P99Us < wantRollingP99Us,
			fmt.Sprintf("%s sends over %d partitions in %.1f s, the slowest %s; p99 before %s", whole(d.Sends), clusterPartitions,
				d.Seconds, span(d.Latency.MaxUs), span(d.Calm.P99Us)))
		return nil
	})
}

func (t *targetRun) manyLeaders(ctx context.Context) error {
	trials := t.o.Rounds
	if t.o.Quick {
		trials = quickTrialsOfManyLeader
	}
	var again, acked []time.Duration
	led, raft := 0, 0
	spec := t.replicated(failoverPartitions)
	const workload = "loss of a broker that leads many of 1,000 partitions: "
	var whenLed, whenAcked *Failover
	for n := range max(trials, 1) {
		err := t.alone(ctx, func(c *Cluster) error {
			t.Progress.Step("%strial %d of %d", workload, n+1, max(trials, 1))
			l, err := t.LoseLeader(ctx, c, spec, t.small)
			if err != nil {
				return err
			}
			again, acked, led = append(again, l.Again), append(acked, l.Acked), max(led, l.Led)
			if l.Raft {
				raft++
			}
			whenLed = t.failoverOf(ctx, workload+"all led again", c, spec, again)
			whenAcked = t.failoverOf(ctx, workload+"all have acknowledged a record", c, spec, acked)
			return nil
		})
		if err != nil {
			return err
		}
	}
	t.Report.Failovers = append(t.Report.Failovers, *whenLed, *whenAcked)
	slowest, last := slices.Max(again), slices.Max(acked)
	t.target(fmt.Sprintf("%s partitions RF %d, loss of a broker with %d leaders: all led again", whole(failoverPartitions), t.o.Cluster, led), "< 2 s",
		span(micros(int64(slowest))), slowest < wantLedAgain,
		fmt.Sprintf("the slowest of %d, in %d of which the broker also led Raft; until every partition had acknowledged a record %s",
			len(again), raft, span(micros(int64(last)))))
	return nil
}

func (t *targetRun) catchUp(ctx context.Context) error {
	return t.alone(ctx, func(c *Cluster) error {
		disk, err := MeasureBandwidth(ctx, t.Dir, t.sizes.sustained)
		if err != nil {
			return err
		}
		settle(t.Dir)
		up, err := t.CatchingUp(ctx, c, t.replicated(catchUpPartitions), t.large, t.sizes.backlog, clusterRate, t.sizes.calm)
		if err != nil {
			return err
		}
		share := quotient(up.MBs, disk.JournalMBs)
		p99 := quotient(up.Latency.P99Us, up.Calm.P99Us)
		t.target(fmt.Sprintf("a broker %.1f GB behind catches up; p99 of %s sends/s meanwhile", float64(up.Backlog)/1e9, whole(clusterRate)),
			">= 50 % of disk write speed; < 2x", fmt.Sprintf("%.0f %%; %.2fx", 100*share, p99), share >= wantCatchUpShare && p99 < wantCatchUpP99,
			fmt.Sprintf("%.0f MB/s of %.0f MB/s (durable groups of 1 MiB; with segment write-back %.0f MB/s) in %.2f s from starting its process; p99 %s, before %s; %d errors",
				up.MBs, disk.JournalMBs, disk.JournalSegmentsMBs, up.Seconds, span(up.Latency.P99Us), span(up.Calm.P99Us), up.Errors))
		return nil
	})
}
