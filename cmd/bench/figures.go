package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sequitur-mq/sequitur/bench"
)

func (c *cli) physicalCommand() *cobra.Command {
	var budget time.Duration
	cmd := &cobra.Command{
		Use: "physical", Short: "Measure the limits of this machine: flush, round trip, journal bandwidth, memory", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return c.measure(cmd.Context(), func(ctx context.Context, s *bench.Session) (err error) {
				s.Progress.Step("measuring the limits of this machine")
				echo, err := c.echo()
				if err != nil {
					return err
				}
				s.Report.Physical, err = bench.MeasurePhysical(ctx, s.Dir, budget, &echo)
				return err
			})
		},
	}
	cmd.Flags().DurationVar(&budget, "duration", 10*time.Second, "about how long in total")
	return cmd
}

func (c *cli) partitionsCommand() *cobra.Command {
	var (
		f              loadFlags
		counts         []int
		create, topics int
		idle           time.Duration
	)
	cmd := &cobra.Command{
		Use: "partitions", Short: "Compare the same load over few and many partitions; create many and let them idle", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			payloads, err := f.payloads()
			if err != nil {
				return err
			}
			if len(counts) == 0 || topics < 1 || create%topics != 0 {
				return fmt.Errorf("--partitions needs a number, and --create a multiple of --topics")
			}
			return c.measure(cmd.Context(), func(ctx context.Context, s *bench.Session) error {
				err := c.withBroker(ctx, s, f.target(), func(sys bench.System) error {
					_, _, err := s.Spread(ctx, sys, bench.SpreadOptions{
						Partitions: counts, Rounds: c.common.rounds, Warmup: f.warmup, Duration: f.duration, Fsync: f.fsync,
						Payloads: payloads, Producers: f.producers, Rate: f.rate,
					})
					return err
				})
				if err != nil || create == 0 {
					return err
				}
				return c.creation(ctx, s, create, topics, idle)
			})
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&f.server, "server", c.getenv(serverEnv), "broker to measure (default: a child process); creation always uses a child")
	flags.IntVar(&f.size, "size", 128, "bytes of a value, random")
	flags.StringVar(&f.payloadFile, "payload-file", "", "take the lines of this file as values, in turn")
	flags.StringVar(&f.fsync, "fsync", "always", "the topics' fsync mode")
	flags.Float64Var(&f.rate, "rate", 100_000, "records per second at which latencies are compared")
	flags.DurationVar(&f.duration, "duration", 5*time.Second, "time of a round")
	flags.DurationVar(&f.warmup, "warmup", time.Second, "time before each round that is not counted")
	flags.IntVar(&f.producers, "producers", 1, "producers, each with a connection of its own")
	flags.IntSliceVar(&counts, "partitions", []int{16, 256, 4096}, "numbers of partitions; the first is what the others are compared with")
	flags.IntVar(&create, "create", 10_000, "partitions to create on a fresh broker; 0: none")
	flags.IntVar(&topics, "topics", 10_000, "topics that they are in")
	flags.DurationVar(&idle, "idle", 5*time.Second, "time to wait before idle memory is read")
	return cmd
}

func (c *cli) creation(ctx context.Context, s *bench.Session, create, topics int, idle time.Duration) error {
	launcher, err := c.launcher()
	if err != nil {
		return err
	}
	made, err := s.CreatePartitions(ctx, launcher, create, topics, idle)
	if err == nil {
		s.Report.Creations = append(s.Report.Creations, *made)
	}
	return err
}

func (c *cli) restartCommand() *cobra.Command {
	var (
		f  loadFlags
		gb float64
	)
	cmd := &cobra.Command{
		Use: "restart", Short: "Time a restart with data stored, clean and after kill -9, until the first answered fetch", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			payloads, err := f.payloads()
			if err != nil {
				return err
			}
			launcher, err := c.launcher()
			if err != nil {
				return err
			}
			return c.measure(cmd.Context(), func(ctx context.Context, s *bench.Session) error {
				r, err := s.MeasureRestart(ctx, launcher, bench.RestartOptions{
					Bytes: uint64(gb * 1e9), Payloads: payloads, Stream: f.stream(), Rounds: c.common.rounds, Load: f.duration,
				})
				if err == nil {
					s.Report.Restarts = append(s.Report.Restarts, *r)
				}
				return err
			})
		},
	}
	flags := cmd.Flags()
	flags.Float64Var(&gb, "gb", 10, "gigabytes (10^9) of values to store")
	flags.IntVar(&f.size, "size", 1024, "bytes of a value, random")
	flags.StringVar(&f.payloadFile, "payload-file", "", "take the lines of this file as values, in turn")
	flags.IntVar(&f.partitions, "partitions", 16, "partitions of the topic")
	flags.StringVar(&f.fsync, "fsync", "always", "the topic's fsync mode")
	flags.DurationVar(&f.duration, "load", 5*time.Second, "time of full load before each kill")
	return cmd
}

func (c *cli) targetsCommand() *cobra.Command {
	var (
		o     bench.TargetOptions
		quick bool
	)
	single, cluster := bench.TargetRows()
	cmd := &cobra.Command{
		Use: "targets", Short: "Measure every figure that the project means to reach, and print target and measurement", Args: cobra.NoArgs,
		Long: strings.TrimSpace(`
Measures every row of the figures table in docs/benchmarks.md and prints what
is wanted, what was measured and where it comes from. Rows that compare with
JetStream need --spawn-nats; without it they are listed as not measured.

With --cluster N the rows are those of a cluster of N brokers, and of topics
with N replicas, on this machine, against a JetStream cluster of N servers.
Rows that kill brokers start brokers of their own.`),
		RunE: func(cmd *cobra.Command, _ []string) error {
			launcher, err := c.launcher()
			if err != nil {
				return err
			}
			echo, err := c.echo()
			if err != nil {
				return err
			}
			o.Launcher, o.Echo, o.Quick, o.Rounds = launcher, echo, quick, c.common.rounds
			return c.measure(cmd.Context(), func(ctx context.Context, s *bench.Session) error { return s.MeasureTargets(ctx, o) })
		},
	}
	cmd.Flags().StringVar(&o.NATS, "spawn-nats", "", "nats-server binary to compare with, started once in each sync mode")
	cmd.Flags().IntVar(&o.Cluster, "cluster", 1, "brokers; above 1: the rows of a cluster")
	cmd.Flags().IntVar(&o.Trials, "trials", 0, "how often a leader is killed; 0: 30, or 5 with --quick")
	cmd.Flags().BoolVar(&quick, "quick", false, "shorter rounds and less data: a few minutes in all")
	cmd.Flags().StringSliceVar(&o.Only, "only", nil, "rows to measure: "+strings.Join(single, ", ")+
		"; with --cluster: "+strings.Join(cluster, ", ")+" (default: all)")
	return cmd
}
