package bench

import (
	"context"
	"fmt"
	"slices"
	"time"
)

// CompareWorkloads returns the names of the workloads that Compare knows, in the order in which it runs them.
func CompareWorkloads() []string {
	return []string{"async", "one", "concurrent", "consume", "pull", "latency"}
}

// CompareOptions describes a comparison.
type CompareOptions struct {
	Rounds           int
	Warmup, Duration time.Duration
	Stream           StreamSpec
	Payloads         *Payloads
	// Concurrency is the number of senders of the workload "concurrent".
	Concurrency int
	// InFlight is JetStream's window of unacknowledged asynchronous publishes.
	InFlight int
	// Rate of the workload "latency".
	Rate float64
	// ConsumeCount is how many records are stored and read on each side.
	ConsumeCount uint64
	// Workloads to run; none means all.
	Workloads []string
}

// Validate names the first option that does not hold.
func (o *CompareOptions) Validate() error {
	for _, w := range o.Workloads {
		if !slices.Contains(CompareWorkloads(), w) {
			return fmt.Errorf("workload %q: choose from %v", w, CompareWorkloads())
		}
	}
	return nil
}

// Compare runs the same workloads on a (Sequitur) and the others (JetStream) interleaved, and reports ratios.
func (s *Session) Compare(ctx context.Context, a System, others []System, o CompareOptions) error {
	if err := o.Validate(); err != nil {
		return err
	}
	steps := map[string]func(context.Context, System, []System, CompareOptions) error{
		"async": s.compareAsync, "one": s.compareOne, "concurrent": s.compareConcurrent,
		"consume": s.compareConsume, "pull": s.comparePull, "latency": s.compareLatency,
	}
	for _, name := range CompareWorkloads() {
		if len(o.Workloads) > 0 && !slices.Contains(o.Workloads, name) {
			continue
		}
		if err := steps[name](ctx, a, others, o); err != nil {
			return err
		}
	}
	return nil
}

func (o CompareOptions) produceSpec(mode PublishMode, concurrency int) ProduceSpec {
	return ProduceSpec{
		Stream: o.Stream, Payloads: o.Payloads, Mode: mode, Producers: 1, Concurrency: concurrency,
		InFlight: o.InFlight, Warmup: o.Warmup, Duration: o.Duration, Keys: keysFor(o.Stream.Partitions),
	}
}

func (s *Session) compareAsync(ctx context.Context, a System, others []System, o CompareOptions) error {
	contenders := []*Contender{s.Producing("async produce", a, o.produceSpec(Async, 1))}
	for _, b := range others {
		contenders = append(contenders, s.Producing("async produce", b, o.produceSpec(Async, 1)),
			s.Producing("fast batch produce", b, o.produceSpec(FastBatch, 1)))
	}
	return s.against(ctx, o.Rounds, contenders, true, false)
}

func (s *Session) compareOne(ctx context.Context, a System, others []System, o CompareOptions) error {
	return s.compareSync(ctx, "produce, one outstanding", a, others, o, 1)
}

func (s *Session) compareConcurrent(ctx context.Context, a System, others []System, o CompareOptions) error {
	name := fmt.Sprintf("produce, %d concurrent", o.Concurrency)
	return s.compareSync(ctx, name, a, others, o, o.Concurrency)
}

func (s *Session) compareSync(ctx context.Context, name string, a System, others []System, o CompareOptions, n int) error {
	var contenders []*Contender
	for _, sys := range append([]System{a}, others...) {
		contenders = append(contenders, s.Producing(name, sys, o.produceSpec(Sync, n)))
	}
	return s.against(ctx, o.Rounds, contenders, true, true)
}

func (s *Session) compareConsume(ctx context.Context, a System, others []System, o CompareOptions) error {
	return s.compareReading(ctx, "consume", Ordered, a, others, o)
}

func (s *Session) comparePull(ctx context.Context, a System, others []System, o CompareOptions) error {
	return s.compareReading(ctx, "consume, explicit acks there", PullExplicit, a, others, o)
}

func (s *Session) compareReading(ctx context.Context, name string, kind ConsumerKind, a System, others []System, o CompareOptions) error {
	var contenders []*Contender
	// Reading does not depend on the sync mode, so one rival is enough.
	for i, sys := range append([]System{a}, others[:1]...) {
		spec := ConsumeSpec{Stream: o.Stream, Payloads: o.Payloads, Kind: kind, Fill: FastBatch, Count: o.ConsumeCount}
		if i == 0 {
			spec.Kind = Ordered
		}
		c, err := s.Consuming(ctx, name, sys, spec)
		if err != nil {
			return fmt.Errorf("prepare %s on %s: %w", name, sys.Name(), err)
		}
		contenders = append(contenders, c)
	}
	return s.against(ctx, o.Rounds, contenders, true, false)
}

func (s *Session) compareLatency(ctx context.Context, a System, others []System, o CompareOptions) error {
	var contenders []*Contender
	for _, sys := range append([]System{a}, others...) {
		contenders = append(contenders, s.Flowing("end to end", sys, o.flowSpec()))
	}
	return s.against(ctx, o.Rounds, contenders, false, true)
}

func (o CompareOptions) flowSpec() EndToEndSpec {
	return EndToEndSpec{
		Stream: o.Stream, Payloads: o.Payloads, Rate: o.Rate, InFlight: o.InFlight, Warmup: o.Warmup,
		Duration: o.Duration, Keys: keysFor(o.Stream.Partitions),
	}
}

// against interleaves the contenders and compares the first with each other one.
func (s *Session) against(ctx context.Context, rounds int, contenders []*Contender, rates, latencies bool) error {
	results, err := s.Interleave(ctx, rounds, contenders...)
	if err != nil {
		return err
	}
	for _, b := range results[1:] {
		s.compare(results[0], b, rates, latencies)
	}
	return nil
}

// compare adds the ratios of a to b to the report.
func (s *Session) compare(a, b *Result, rates, latencies bool) {
	if rates {
		s.Report.Ratios = append(s.Report.Ratios, compareRates(a, b))
	}
	if p50, p99, ok := compareLatencies(a, b); ok && latencies {
		s.Report.Ratios = append(s.Report.Ratios, p50, p99)
	}
}
