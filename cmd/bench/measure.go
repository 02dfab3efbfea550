package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"runtime/pprof"
	"time"

	"github.com/sequitur-mq/sequitur/bench"
)

// measure runs one command: it sets up the session, does the work and writes the reports, also of what was measured
// before a failure.
func (c *cli) measure(ctx context.Context, work func(ctx context.Context, s *bench.Session) error) (err error) {
	dir := c.common.dataDir
	if dir == "" {
		dir = os.TempDir()
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("make the data directory: %w", err)
	}
	s := &bench.Session{Report: bench.NewReport(c.args, dir), Dir: dir, Patience: c.common.patience}
	if !c.common.quiet {
		s.Progress = bench.NewProgress(c.stderr, isTerminal(c.stderr))
	}
	stopProfile, err := c.profile()
	if err != nil {
		return err
	}
	start := time.Now()
	err = work(ctx, s)
	s.Progress.Done()
	s.Report.Seconds = time.Since(start).Seconds()
	return errors.Join(err, stopProfile(), c.write(s.Report))
}

func (c *cli) write(r *bench.Report) error {
	var errs []error
	if c.common.json != "-" {
		errs = append(errs, r.WriteText(c.stdout))
	}
	if c.common.json != "" {
		errs = append(errs, r.WriteJSON(c.common.json))
	}
	if c.common.plot != "" {
		errs = append(errs, r.WritePlot(c.common.plot))
	}
	return errors.Join(errs...)
}

// profile starts the profiles of this process that were asked for.
func (c *cli) profile() (stop func() error, err error) {
	return startProfiles(c.common.cpuProfile, c.common.memProfile)
}

func startProfiles(cpuName, memName string) (stop func() error, err error) {
	var cpu *os.File
	if cpuName != "" {
		if cpu, err = os.Create(cpuName); err != nil {
			return nil, fmt.Errorf("write CPU profile: %w", err)
		}
		if err := pprof.StartCPUProfile(cpu); err != nil {
			return nil, errors.Join(fmt.Errorf("write CPU profile: %w", err), cpu.Close())
		}
	}
	return func() error {
		var errs []error
		if cpu != nil {
			pprof.StopCPUProfile()
			errs = append(errs, cpu.Close())
		}
		if memName != "" {
			errs = append(errs, writeAllocations(memName))
		}
		return errors.Join(errs...)
	}, nil
}

func writeAllocations(name string) error {
	f, err := os.Create(name)
	if err != nil {
		return fmt.Errorf("write allocation profile: %w", err)
	}
	runtime.GC() // brings the profile up to date
	return errors.Join(pprof.Lookup("allocs").WriteTo(f, 0), f.Close())
}

// isTerminal tells whether progress may overwrite its own line.
func isTerminal(w any) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

// target is what is measured: the broker at server, or child processes with empty directories.
type target struct {
	server  string
	cluster int // brokers; below 2: one by itself
}

// withBroker runs work on the target.
func (c *cli) withBroker(ctx context.Context, s *bench.Session, t target, work func(sys bench.System) error) error {
	sys, err := c.open(ctx, s, t)
	if err != nil {
		return err
	}
	return errors.Join(work(sys), sys.Close())
}

func (c *cli) open(ctx context.Context, s *bench.Session, t target) (bench.System, error) {
	if t.server != "" && t.cluster > 1 {
		return nil, errors.New("give either --server, which may name several brokers, or --cluster, which starts them")
	}
	if t.server != "" {
		return bench.ConnectSequitur(ctx, t.server)
	}
	launcher, err := c.launcher()
	if err != nil {
		return nil, err
	}
	if t.cluster > 1 {
		s.Progress.Step("starting %d brokers", t.cluster)
		return bench.StartCluster(ctx, launcher, s.Dir, t.cluster)
	}
	s.Progress.Step("starting a broker")
	return bench.StartLocal(ctx, launcher, s.Dir)
}

// floor measures what one durable record costs this machine at least, where the broker is here.
func (c *cli) floor(ctx context.Context, s *bench.Session, server string) (err error) {
	if server != "" {
		return nil
	}
	s.Progress.Step("measuring the limits of this machine")
	echo, err := c.echo()
	if err != nil {
		return err
	}
	s.Report.Physical, err = bench.MeasureFloor(ctx, s.Dir, time.Second, &echo)
	return err
}
