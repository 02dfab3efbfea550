package bench

import (
	"context"
	"errors"
	"fmt"
	"time"
)

func (t *targetRun) idleMemory(ctx context.Context) error {
	t.Progress.Step("idle broker")
	rss, err := idleRSS(ctx, t.seq, min(t.sizes.idle, 5*time.Second))
	if err != nil {
		return err
	}
	t.target("memory: idle broker", "< 60 MB", megabytes(rss), rss < wantIdleBytes, "resident set of a fresh broker")
	return nil
}

// async covers the two rows of asynchronous produce and, from the same rounds, processor time and allocations.
func (t *targetRun) async(ctx context.Context) error {
	spec := t.produceSpec(t.small, Async, 1, t.sizes.duration)
	contenders := []*Contender{t.Producing("async produce", t.seq, spec)}
	if t.lazy != nil {
		fast := spec
		fast.Mode = FastBatch
		contenders = append(contenders, t.Producing("async produce", t.lazy, spec),
			t.Producing("fast batch produce", t.lazy, fast), t.Producing("async produce", t.always, spec))
	}
	results, err := t.Interleave(ctx, t.o.Rounds, contenders...)
	if err != nil {
		return err
	}
	for _, b := range results[1:] {
		t.compare(results[0], b, true, false)
	}
	for len(results) < 4 {
		results = append(results, nil)
	}
	t.targetRatio("async produce 128 B, fsync always, vs JetStream without fsync, async", wantAsyncRatio, results[0], results[1])
	t.targetRatio("the same vs JetStream without fsync, fast batch", wantBestModeRatio, results[0], results[2])
	t.targetRatio("the same vs JetStream sync always, async", wantAlwaysRatio, results[0], results[3])
	t.costTargets("produce", results[0], wantProduceCPU)
	return nil
}

// costTargets judges what a million records cost the server, and allocations on both sides.
func (t *targetRun) costTargets(what string, r *Result, wantCPU float64) {
	if cpu := r.Median.ServerCPU; cpu != nil {
		t.target("server CPU per million 128 B records: "+what, fmt.Sprintf("< %g s", wantCPU), fmt.Sprintf("%.2f s", *cpu),
			*cpu < wantCPU, fmt.Sprintf("%.2f cores at %s/s; client %.2f s", *r.Median.ServerCores, grouped(r.Median.PerSecond), r.Median.ClientCPU))
	}
	measured := fmt.Sprintf("client %.4f", r.Median.ClientAllocs)
	met := r.Median.ClientAllocs < wantAllocs
	if server := r.Median.ServerAllocs; server != nil {
		measured += fmt.Sprintf(", broker %.4f", *server)
		met = met && *server < wantAllocs
	} else {
		measured += ", broker not told"
	}
	t.target("allocations per record: "+what, fmt.Sprintf("0 amortised (per batch only: < %g)", wantAllocs), measured, met,
		"heap objects of the whole process, divided by records")
}

// bandwidth measures what the disk sustains before every round, so that both see the same minute of the machine.
func (t *targetRun) bandwidth(ctx context.Context) error {
	var limits []*Physical
	own := t.Producing("async produce 1 KiB", t.seq, t.produceSpec(t.large, Async, 1, t.sizes.sustained))
	run := own.Run
	own.Run = func(ctx context.Context) (Round, error) {
		limit, err := MeasureBandwidth(ctx, t.Dir, t.sizes.sustained)
		if err != nil {
			return Round{}, err
		}
		limits = append(limits, limit)
		settle(t.Dir)
		return run(ctx)
	}
	results, err := t.Interleave(ctx, t.o.Rounds, own)
	if err != nil {
		return err
	}
	got := results[0].Median.MBPerSec
	alone := medianOf(limits, func(p *Physical) float64 { return p.JournalMBs })
	both := medianOf(limits, func(p *Physical) float64 { return p.JournalSegmentsMBs })
	t.target("async produce 1 KiB, fsync always", ">= 400 MB/s, or 60 % of what the journal sustains with segment write-back",
		fmt.Sprintf("%.0f MB/s", got), got >= wantMBs || got >= wantJournalShare*both,
		fmt.Sprintf("measured between the rounds: journal with segment write-back %.0f MB/s (ours is %.0f %%), journal alone %.0f MB/s (%.0f %%)",
			both, 100*quotient(got, both), alone, 100*quotient(got, alone)))
	return nil
}

// oneOutstanding measures the floor before every round, so that both see the same minute of the machine.
func (t *targetRun) oneOutstanding(ctx context.Context) error {
	const name = "produce, one outstanding"
	var floors []*Physical
	own := t.Producing(name, t.seq, t.produceSpec(t.small, Sync, 1, t.sizes.duration))
	run := own.Run
	own.Run = func(ctx context.Context) (Round, error) {
		floor, err := MeasureFloor(ctx, t.Dir, 2*time.Second, &t.o.Echo)
		if err != nil {
			return Round{}, err
		}
		floors = append(floors, floor)
		return run(ctx)
	}
	contenders := []*Contender{own}
	for _, sys := range t.rivals() {
		contenders = append(contenders, t.Producing(name, sys, t.produceSpec(t.small, Sync, 1, t.sizes.duration)))
	}
	results, err := t.Interleave(ctx, t.o.Rounds, contenders...)
	if err != nil {
		return err
	}
	for _, b := range results[1:] {
		t.compare(results[0], b, false, true)
	}
	floor := medianOf(floors, (*Physical).FloorUs)
	got := results[0].Median.Latency.P50Us
	t.target("produce, one outstanding, fsync always, p50", "<= 1.6x (flush + loopback round trip)",
		fmt.Sprintf("%.2fx", quotient(got, floor)), got <= wantFloorRatio*floor,
		fmt.Sprintf("%.0f us against %.0f us: flush of 4 KiB %.0f us (%s) + round trip %.0f us", got, floor,
			medianOf(floors, func(p *Physical) float64 { return p.Flush4K.P50Us }), floors[0].FlushKind,
			medianOf(floors, func(p *Physical) float64 { return p.RoundTrip.P50Us })))
	return nil
}

func (t *targetRun) concurrent(ctx context.Context) error {
	const name = "produce, 64 concurrent"
	contenders := []*Contender{t.Producing(name, t.seq, t.produceSpec(t.small, Sync, concurrentSenders, t.sizes.duration))}
	for _, sys := range t.rivals() {
		contenders = append(contenders, t.Producing(name, sys, t.produceSpec(t.small, Sync, concurrentSenders, t.sizes.duration)))
	}
	results, err := t.Interleave(ctx, t.o.Rounds, contenders...)
	if err != nil {
		return err
	}
	for _, b := range results[1:] {
		t.compare(results[0], b, true, true)
	}
	for len(results) < 3 {
		results = append(results, nil)
	}
	own, lazy, always := results[0], results[1], results[2]
	t.targetRatio("produce, 64 concurrent, fsync always, vs JetStream always", wantConcurrentAlways, own, always)
	t.targetRatio("the same vs JetStream without fsync", wantConcurrentLazy, own, lazy)
	if lazy != nil {
		p99 := own.Median.Latency.P99Us
		t.target("the same, p99", "lower than both", span(p99), p99 < lazy.Median.Latency.P99Us && p99 < always.Median.Latency.P99Us,
			fmt.Sprintf("JetStream without fsync %s, always %s", span(lazy.Median.Latency.P99Us), span(always.Median.Latency.P99Us)))
	}
	return nil
}

func (t *targetRun) consume(ctx context.Context) (err error) {
	spec := ConsumeSpec{Stream: StreamSpec{Partitions: 1}, Payloads: t.small, Kind: Ordered, Fill: FastBatch, Count: t.sizes.consume}
	own, err := t.Consuming(ctx, "consume", t.seq, spec)
	if err != nil {
		return err
	}
	cold := own.Again("consume, page cache emptied before", func() error { return forgetFiles(t.seq.DataDir) })
	contenders := []*Contender{own, cold}
	if t.lazy != nil {
		spec.Count = t.sizes.natsConsume
		rival, err := t.Consuming(ctx, "consume", t.lazy, spec)
		if err != nil {
			return errors.Join(err, own.Close(ctx))
		}
		contenders = append(contenders, rival)
	}
	results, err := t.Interleave(ctx, t.o.Rounds, contenders...)
	if err != nil {
		return err
	}
	var rival *Result
	if len(results) > 2 {
		rival = results[2]
		t.compare(results[0], rival, true, false)
	}
	t.targetRatio("consume 128 B from disk, 1 consumer, vs JetStream push ordered consumer", wantConsumeRatio, results[0], rival)
	t.targetRatio("the same with the page cache emptied before", wantConsumeRatio, results[1], rival)
	t.costTargets("consume", results[0], wantConsumeCPU)
	return nil
}

func (t *targetRun) endToEnd(ctx context.Context) error {
	spec := EndToEndSpec{
		Stream: StreamSpec{Partitions: 1}, Payloads: t.small, Rate: endToEndRate, InFlight: defaultInFlight,
		Warmup: t.sizes.warmup, Duration: t.sizes.latency,
	}
	contenders := []*Contender{t.Flowing("end to end", t.seq, spec)}
	if t.lazy != nil {
		contenders = append(contenders, t.Flowing("end to end", t.lazy, spec))
	}
	results, err := t.Interleave(ctx, t.o.Rounds, contenders...)
	if err != nil {
		return err
	}
	for _, b := range results[1:] {
		t.compare(results[0], b, false, true)
	}
	l := results[0].Median.Latency
	t.target("end-to-end latency at 10,000 records/s, fsync always, p50 / p99", "< 0.3 ms / < 3 ms", span(l.P50Us)+" / "+span(l.P99Us),
		l.P50Us < wantEndToEndP50Us && l.P99Us < wantEndToEndP99Us, l.String())
	return nil
}

func (t *targetRun) partitions(ctx context.Context) error {
	counts := []int{16, 256, 4096}
	rates, steady, err := t.Spread(ctx, t.seq, SpreadOptions{
		Partitions: counts, Rounds: t.o.Rounds, Warmup: t.sizes.warmup, Duration: t.sizes.duration,
		Payloads: t.small, Producers: 1, Rate: steadyRate,
	})
	if err != nil {
		return err
	}
	for i, n := range counts[1:] {
		share := quotient(rates[i+1].Median.PerSecond, rates[0].Median.PerSecond)
		p99 := quotient(steady[i+1].Median.Latency.P99Us, steady[0].Median.Latency.P99Us)
		t.target(fmt.Sprintf("%d partitions against 16, same load, fsync always", n), "throughput within 25 %, p99 under 3x",
			fmt.Sprintf("throughput %.0f %%, p99 %.2fx", 100*share, p99), share >= wantSpreadShare && p99 < wantSpreadP99,
			fmt.Sprintf("%s/s against %s/s; p99 at %s/s %s against %s", grouped(rates[i+1].Median.PerSecond), grouped(rates[0].Median.PerSecond),
				grouped(steadyRate), span(steady[i+1].Median.Latency.P99Us), span(steady[0].Median.Latency.P99Us)))
	}
	return nil
}

// fullMemory judges the peak of everything that ran before on the same broker.
func (t *targetRun) fullMemory(ctx context.Context) error {
	u, _, err := t.seq.Usage(ctx)
	if err != nil {
		return err
	}
	t.target("memory: at full load", "< 512 MB", megabytes(u.PeakRSS), u.PeakRSS < wantFullBytes,
		"peak resident set of the broker over all rows before")
	return nil
}

func (t *targetRun) creation(ctx context.Context) error {
	for _, topics := range []int{1, manyPartitions} {
		c, err := t.CreatePartitions(ctx, t.o.Launcher, manyPartitions, topics, t.sizes.idle)
		if err != nil {
			return err
		}
		t.Report.Creations = append(t.Report.Creations, *c)
		name := fmt.Sprintf("10,000 partitions in %s topics", whole(uint64(topics)))
		t.target(name+": creation rate", ">= 2,000/s", grouped(c.PerSecond)+"/s", c.PerSecond >= wantCreatedPerSecond, "")
		t.target(name+": idle memory per partition", "< 8 KiB", fmt.Sprintf("%.1f KiB", c.PerPartition/1024), c.PerPartition < wantIdlePartition,
			fmt.Sprintf("resident set, %s idle; after a restart %.1f KiB", t.sizes.idle, c.PerPartitionReopened/1024))
	}
	return nil
}

func (t *targetRun) restart(ctx context.Context) error {
	r, err := t.MeasureRestart(ctx, t.o.Launcher, RestartOptions{
		Bytes: t.sizes.restartBytes, Payloads: t.large, Stream: StreamSpec{Partitions: 16}, Rounds: t.o.Rounds, Load: t.sizes.duration,
	})
	if err != nil {
		return err
	}
	t.Report.Restarts = append(t.Report.Restarts, *r)
	t.target(fmt.Sprintf("restart with %.0f GB stored to first answered fetch, clean / after kill -9", float64(r.StoredBytes)/1e9), "< 1 s",
		fmt.Sprintf("%.2f s / %.2f s", r.CleanMedian, r.KillMedian), r.CleanMedian < wantRestartSeconds && r.KillMedian < wantRestartSeconds,
		"from starting the process; kills hit a broker under full produce load")
	return nil
}

func megabytes(n uint64) string { return fmt.Sprintf("%.0f MB", float64(n)/1e6) }
