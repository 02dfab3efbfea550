package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sequitur-mq/sequitur/bench"
)

// rivalFlags name the JetStream server to compare with.
type rivalFlags struct {
	against, sync, monitor, spawn string
}

func (c *cli) compareCommand() *cobra.Command {
	var (
		f           loadFlags
		r           rivalFlags
		concurrency int
		inFlight    int
		workloads   []string
	)
	cmd := &cobra.Command{
		Use: "compare", Short: "Run the same workloads on Sequitur and NATS JetStream, interleaved, and print ratios", Args: cobra.NoArgs,
		Long: strings.TrimSpace(`
Runs the same workloads on a Sequitur broker and on JetStream (file storage),
in turn (A B A B ...), and prints the ratios of the medians.

Whether a JetStream server syncs before it acknowledges cannot be seen by a
client. Say what you know with --against-sync, or give the address of its
monitoring port, or let bench start the server itself, in both modes, with
--spawn-nats.`),
		RunE: func(cmd *cobra.Command, _ []string) error {
			payloads, err := f.payloads()
			if err != nil {
				return err
			}
			o := bench.CompareOptions{
				Rounds: c.common.rounds, Warmup: f.warmup, Duration: f.duration, Stream: f.stream(), Payloads: payloads,
				Concurrency: concurrency, InFlight: inFlight, Rate: f.rate, ConsumeCount: f.count, Workloads: workloads,
			}
			if err := errors.Join(r.validate(), o.Validate()); err != nil {
				return err
			}
			return c.measure(cmd.Context(), func(ctx context.Context, s *bench.Session) error { return c.compare(ctx, s, f.target(), r, o) })
		},
	}
	flags := cmd.Flags()
	f.add(c, flags)
	flags.Lookup("rate").DefValue, f.rate = "10000", 10_000
	flags.Lookup("rate").Usage = "records per second of the workload latency"
	flags.Lookup("duration").DefValue, f.duration = "5s", 5*time.Second
	flags.Uint64Var(&f.count, "count", 1_000_000, "records to store and to read on each side")
	flags.StringVar(&r.against, "against", "", "running NATS server with JetStream, nats://HOST:PORT")
	flags.StringVar(&r.sync, "against-sync", "", "what you know of its sync mode: lazy (its default) or always")
	flags.StringVar(&r.monitor, "against-monitor", "", "its HTTP monitoring address, http://HOST:PORT, to read the sync mode there")
	flags.StringVar(&r.spawn, "spawn-nats", "", "nats-server binary to start, once in each sync mode; with --cluster, as many servers each")
	flags.IntVar(&concurrency, "concurrency", 64, "senders of the workload concurrent")
	flags.IntVar(&inFlight, "in-flight", 4_000, "unacknowledged asynchronous publishes of the JetStream client")
	flags.StringSliceVar(&workloads, "workloads", nil, "which to run: "+strings.Join(bench.CompareWorkloads(), ", ")+" (default: all)")
	return cmd
}

func (r rivalFlags) validate() error {
	switch {
	case r.against == "" && r.spawn == "":
		return errors.New("name the server to compare with: --against nats://HOST:PORT, or --spawn-nats PATH of the nats-server binary")
	case r.against != "" && r.spawn != "":
		return errors.New("give either --against or --spawn-nats")
	case r.sync != "" && r.sync != "lazy" && r.sync != "always":
		return fmt.Errorf("--against-sync %q: choose lazy or always", r.sync)
	}
	return nil
}

// rivals connects to the named server, or starts one, or a cluster, in each sync mode.
func (r rivalFlags) rivals(ctx context.Context, s *bench.Session, servers int) (systems []bench.System, err error) {
	if r.against != "" {
		sys, err := bench.ConnectJetStream(ctx, bench.JetStreamOptions{URL: r.against, Sync: r.sync, MonitorURL: r.monitor})
		return []bench.System{sys}, err
	}
	s.Progress.Step("starting nats-server in both sync modes")
	for _, always := range []bool{false, true} {
		sys, err := r.start(ctx, s.Dir, servers, always)
		if err != nil {
			return nil, errors.Join(err, closeAll(systems))
		}
		systems = append(systems, sys)
	}
	return systems, nil
}

func (r rivalFlags) start(ctx context.Context, dir string, servers int, always bool) (bench.System, error) {
	if servers > 1 {
		return bench.SpawnNATSCluster(ctx, r.spawn, dir, servers, always)
	}
	return bench.SpawnNATS(ctx, r.spawn, dir, always)
}

func closeAll(systems []bench.System) error {
	var errs []error
	for _, sys := range systems {
		errs = append(errs, sys.Close())
	}
	return errors.Join(errs...)
}

func (c *cli) compare(ctx context.Context, s *bench.Session, t target, r rivalFlags, o bench.CompareOptions) error {
	if err := c.floor(ctx, s, t.server); err != nil {
		return err
	}
	rivals, err := r.rivals(ctx, s, t.cluster)
	if err != nil {
		return err
	}
	err = c.withBroker(ctx, s, t, func(sys bench.System) error { return s.Compare(ctx, sys, rivals, o) })
	return errors.Join(err, closeAll(rivals))
}
