package bench

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// TargetOptions says how the rows of the figures table are measured.
type TargetOptions struct {
	Launcher Launcher
	// Echo starts the other end of the loopback round trip.
	Echo Launcher
	// NATS is the nats-server binary to compare with; without one the comparing rows are not measured.
	NATS string
	// Cluster is the number of brokers, and of replicas: 1 measures the rows of a broker by itself, more those of a cluster.
	Cluster int
	// Trials is how often a leader is killed; 0 is 30, or 5 in a quick run.
	Trials int
	// Quick makes everything shorter and smaller.
	Quick  bool
	Rounds int
	// Only names rows to measure; none means all.
	Only []string
}

// Sizes of a full run and of a quick one.
type targetSizes struct {
	warmup, duration, sustained, latency time.Duration
	consume, natsConsume                 uint64
	restartBytes                         uint64
	idle                                 time.Duration

	// of the cluster's rows
	trials  int
	calm    time.Duration // of steady load before something is done to it
	backlog uint64
}

var (
	fullSizes = targetSizes{
		warmup: time.Second, duration: 8 * time.Second, sustained: 15 * time.Second, latency: 15 * time.Second,
		consume: 20_000_000, natsConsume: 2_000_000, restartBytes: 10_000_000_000, idle: 15 * time.Second,
		trials: 30, calm: 10 * time.Second, backlog: 5_000_000_000,
	}
	quickSizes = targetSizes{
		warmup: 500 * time.Millisecond, duration: 3 * time.Second, sustained: 5 * time.Second, latency: 5 * time.Second,
		consume: 5_000_000, natsConsume: 500_000, restartBytes: 1_000_000_000, idle: 3 * time.Second,
		trials: 5, calm: 3 * time.Second, backlog: 512_000_000,
	}
)

// The wanted figures of the table; chapter 9 of the design gives their reasons.
const (
	wantAsyncRatio       = 10.0
	wantBestModeRatio    = 6.0
	wantAlwaysRatio      = 150.0
	wantMBs              = 400.0
	wantJournalShare     = 0.6
	wantFloorRatio       = 1.6
	wantConcurrentAlways = 10.0
	wantConcurrentLazy   = 2.0
	wantConsumeRatio     = 10.0
	wantEndToEndP50Us    = 300.0
	wantEndToEndP99Us    = 3_000.0
	wantSpreadShare      = 0.75
	wantSpreadP99        = 3.0
	wantCreatedPerSecond = 2_000.0
	wantIdlePartition    = 8 << 10
	wantRestartSeconds   = 1.0
	wantIdleBytes        = 60_000_000
	wantFullBytes        = 512_000_000
	wantProduceCPU       = 0.7
	wantConsumeCPU       = 0.3
	// wantAllocs is 0 amortised: only batches may allocate, of which there is one for hundreds of records.
	wantAllocs = 0.05
)

const (
	smallValue        = 128
	largeValue        = 1024
	endToEndRate      = 10_000
	concurrentSenders = 64
	manyPartitions    = 10_000
	steadyRate        = 100_000
)

// targetRun is one pass over the rows.
type targetRun struct {
	*Session
	o     TargetOptions
	sizes targetSizes
	small *Payloads
	large *Payloads

	seq    *Local
	lazy   System // nil without NATS
	always System
	group  *Cluster // while rows run that need it; then the three above may be closed, or be clusters
}

// targetRows are the rows in the order in which they run; the names are what --only takes.
func targetRows() []targetRow {
	return []targetRow{
		{"memory-idle", (*targetRun).idleMemory},
		{"async", (*targetRun).async},
		{"bandwidth", (*targetRun).bandwidth},
		{"one", (*targetRun).oneOutstanding},
		{"concurrent", (*targetRun).concurrent},
		{"consume", (*targetRun).consume},
		{"latency", (*targetRun).endToEnd},
		{"partitions", (*targetRun).partitions},
		{"memory-full", (*targetRun).fullMemory},
		{"creation", (*targetRun).creation},
		{"restart", (*targetRun).restart},
	}
}

type targetRow struct {
	name string
	run  func(*targetRun, context.Context) error
}

func namesOf(rows []targetRow) (names []string) {
	for _, row := range rows {
		names = append(names, row.name)
	}
	return names
}

// TargetRows returns the names of the rows: of a broker by itself, and of a cluster.
func TargetRows() (single, cluster []string) { return namesOf(targetRows()), namesOf(clusterRows()) }

// rows are those to measure.
func (o *TargetOptions) rows() (rows []targetRow, err error) {
	all := targetRows()
	if o.Cluster > 1 {
		all = clusterRows()
	}
	for _, name := range o.Only {
		if !slices.Contains(namesOf(all), name) {
			return nil, fmt.Errorf("row %q: choose from %s", name, strings.Join(namesOf(all), ", "))
		}
	}
	for _, row := range all {
		if len(o.Only) == 0 || slices.Contains(o.Only, row.name) {
			rows = append(rows, row)
		}
	}
	return rows, nil
}

// MeasureTargets measures the figures table: every row against what is wanted. A row that fails is missed, and the others
// are measured all the same; the failures are returned together.
func (s *Session) MeasureTargets(ctx context.Context, o TargetOptions) (err error) {
	rows, err := o.rows()
	if err != nil {
		return err
	}
	t := &targetRun{Session: s, o: o, sizes: fullSizes}
	if o.Quick {
		t.sizes = quickSizes
	}
	if o.Trials > 0 {
		t.sizes.trials = o.Trials
	}
	if t.small, err = LoadPayloads(PayloadSpec{Size: smallValue}); err != nil {
		return err
	}
	if t.large, err = LoadPayloads(PayloadSpec{Size: largeValue}); err != nil {
		return err
	}
	s.Progress.Step("measuring the limits of this machine")
	if s.Report.Physical, err = MeasurePhysical(ctx, s.Dir, t.sizes.duration, &o.Echo); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, t.close()) }()
	if o.Cluster <= 1 {
		if err := t.open(ctx); err != nil {
			return err
		}
	}
	var failures []error
	for _, row := range rows {
		err := row.run(t, ctx)
		if ctx.Err() != nil {
			return errors.Join(append(failures, context.Cause(ctx))...)
		}
		if err != nil {
			err = fmt.Errorf("row %s: %w", row.name, err)
			failures = append(failures, err)
			t.target("row "+row.name, "to be measured", "failed", false, err.Error())
		}
	}
	return errors.Join(failures...)
}

func (t *targetRun) open(ctx context.Context) (err error) {
	if t.seq, err = StartLocal(ctx, t.o.Launcher, t.Dir); err != nil {
		return err
	}
	if t.o.NATS == "" {
		return nil
	}
	if t.lazy, err = SpawnNATS(ctx, t.o.NATS, t.Dir, false); err != nil {
		return err
	}
	t.always, err = SpawnNATS(ctx, t.o.NATS, t.Dir, true)
	return err
}

func (t *targetRun) close() error {
	t.Progress.Done()
	var errs []error
	if t.seq != nil {
		errs = append(errs, t.seq.Close())
	}
	if t.group != nil {
		errs = append(errs, t.group.Close())
	}
	for _, sys := range []System{t.lazy, t.always} {
		if sys != nil {
			errs = append(errs, sys.Close())
		}
	}
	t.seq, t.group, t.lazy, t.always = nil, nil, nil, nil
	return errors.Join(errs...)
}

// rivals are the JetStream servers, if any.
func (t *targetRun) rivals() []System {
	if t.lazy == nil {
		return nil
	}
	return []System{t.lazy, t.always}
}

func (t *targetRun) target(name, want, measured string, met bool, detail string) {
	t.Report.Targets = append(t.Report.Targets, Target{Name: name, Want: want, Measured: measured, Met: met, Detail: detail})
}

// targetRatio judges a ratio that must be at least want; b is nil where there is nothing to compare with.
func (t *targetRun) targetRatio(name string, want float64, a, b *Result) {
	goal := fmt.Sprintf(">= %gx", want)
	if b == nil {
		t.Report.Targets = append(t.Report.Targets, Target{
			Name: name, Want: goal, Skipped: true, Measured: fmt.Sprintf("%s/s; no nats-server given to compare with", grouped(a.Median.PerSecond)),
		})
		return
	}
	ratio := compareRates(a, b)
	t.target(name, goal, fmt.Sprintf("%.1fx", ratio.Ratio), ratio.Ratio >= want,
		fmt.Sprintf("%s/s against %s/s", grouped(ratio.AValue), grouped(ratio.BValue)))
}

func (t *targetRun) produceSpec(payloads *Payloads, mode PublishMode, concurrency int, d time.Duration) ProduceSpec {
	return ProduceSpec{
		Stream: StreamSpec{Partitions: 1}, Payloads: payloads, Mode: mode, Producers: 1, Concurrency: concurrency,
		InFlight: defaultInFlight, Warmup: t.sizes.warmup, Duration: d,
	}
}
