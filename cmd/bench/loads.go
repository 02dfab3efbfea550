package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/sequitur-mq/sequitur/bench"
)

// shutdownPatience is how long a child broker may take to stop.
const shutdownPatience = 10 * time.Second

func (c *cli) produceCommand() *cobra.Command {
	var f loadFlags
	cmd := &cobra.Command{
		Use: "produce", Short: "Send records and measure throughput and acknowledgement latency", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			spec, err := f.produceSpec()
			if err != nil {
				return err
			}
			name := "async produce"
			if f.outstanding > 0 {
				name = fmt.Sprintf("produce, %d outstanding", spec.Senders())
			}
			return c.measure(cmd.Context(), func(ctx context.Context, s *bench.Session) error {
				if err := c.floor(ctx, s, f.server); err != nil {
					return err
				}
				return c.withBroker(ctx, s, f.target(), func(sys bench.System) error {
					_, err := s.Interleave(ctx, c.common.rounds, s.Producing(name, sys, spec))
					return err
				})
			})
		},
	}
	f.add(c, cmd.Flags())
	f.addProducers(cmd.Flags())
	cmd.Flags().Uint64Var(&f.count, "count", 0, "records of a round; 0: as many as --duration allows")
	return cmd
}

func (c *cli) consumeCommand() *cobra.Command {
	var f loadFlags
	cmd := &cobra.Command{
		Use: "consume", Short: "Store records, then read them from the start and measure throughput", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			payloads, err := f.payloads()
			if err != nil {
				return err
			}
			return c.measure(cmd.Context(), func(ctx context.Context, s *bench.Session) error {
				return c.withBroker(ctx, s, f.target(), func(sys bench.System) error {
					contender, err := s.Consuming(ctx, "consume", sys, bench.ConsumeSpec{
						Stream: f.stream(), Payloads: payloads, Kind: bench.Ordered, Fill: bench.Async, Count: f.count,
					})
					if err != nil {
						return err
					}
					_, err = s.Interleave(ctx, c.common.rounds, contender)
					return err
				})
			})
		},
	}
	f.addStream(c, cmd.Flags())
	cmd.Flags().Uint64Var(&f.count, "count", 5_000_000, "records to store and to read in every round")
	return cmd
}

func (c *cli) latencyCommand() *cobra.Command {
	var f loadFlags
	cmd := &cobra.Command{
		Use: "latency", Short: "Measure the time from a record's intended sending to its reception", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			payloads, err := f.payloads()
			if err != nil {
				return err
			}
			spec := bench.EndToEndSpec{
				Stream: f.stream(), Payloads: payloads, Rate: f.rate, Keys: f.keys, Warmup: f.warmup, Duration: f.duration,
			}
			return c.measure(cmd.Context(), func(ctx context.Context, s *bench.Session) error {
				if err := c.floor(ctx, s, f.server); err != nil {
					return err
				}
				return c.withBroker(ctx, s, f.target(), func(sys bench.System) error {
					_, err := s.Interleave(ctx, c.common.rounds, s.Flowing("end to end", sys, spec))
					return err
				})
			})
		},
	}
	f.add(c, cmd.Flags())
	cmd.Flags().Lookup("rate").DefValue = "10000"
	f.rate = 10_000
	cmd.Flags().IntVar(&f.keys, "keys", 0, "number of different keys; 0: records without keys")
	return cmd
}

// The tour is sized to end in less than half a minute, also where the disk is slow.
const (
	tourDuration = 3 * time.Second
	tourWarmup   = 300 * time.Millisecond
	tourConsume  = 2_000_000
	tourRate     = 10_000
)

func (c *cli) tour(ctx context.Context) error {
	payloads, err := bench.LoadPayloads(bench.PayloadSpec{Size: 128})
	if err != nil {
		return err
	}
	return c.measure(ctx, func(ctx context.Context, s *bench.Session) error {
		if err := c.floor(ctx, s, ""); err != nil {
			return err
		}
		return c.withBroker(ctx, s, target{}, func(sys bench.System) error { return tourOf(ctx, s, sys, payloads) })
	})
}

func tourOf(ctx context.Context, s *bench.Session, sys bench.System, payloads *bench.Payloads) error {
	stream := bench.StreamSpec{Partitions: 1}
	spec := bench.ProduceSpec{
		Stream: stream, Payloads: payloads, Mode: bench.Async, Producers: 1, Warmup: tourWarmup, Duration: tourDuration,
	}
	one, many := spec, spec
	one.Mode, one.Concurrency = bench.Sync, 1
	many.Mode, many.Concurrency = bench.Sync, 64
	consuming, err := s.Consuming(ctx, "consume", sys, bench.ConsumeSpec{
		Stream: stream, Payloads: payloads, Kind: bench.Ordered, Fill: bench.Async, Count: tourConsume,
	})
	if err != nil {
		return err
	}
	_, err = s.Interleave(ctx, 1,
		s.Producing("async produce", sys, spec),
		s.Producing("produce, one outstanding", sys, one),
		s.Producing("produce, 64 outstanding", sys, many),
		consuming,
		s.Flowing("end to end", sys, bench.EndToEndSpec{
			Stream: stream, Payloads: payloads, Rate: tourRate, Warmup: tourWarmup, Duration: tourDuration,
		}))
	return err
}
