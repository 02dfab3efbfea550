package bench

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync/atomic"
	"time"
)

// roundSlack bounds a round: preparing, warming up, draining and deleting, on top of its duration.
const roundSlack = 3 * time.Minute

// Session runs contenders and collects what they measured in a report.
type Session struct {
	Report   *Report
	Progress *Progress
	// Dir is where temporary data goes.
	Dir string
	// Patience is how long to wait before each round for the rest of the machine to become quiet; 0 does not wait.
	Patience time.Duration

	streams atomic.Uint64
}

// Contender is one workload on one system, ready to run any number of rounds.
type Contender struct {
	Workload string
	System   System
	Stream   StreamSpec
	Settings map[string]string
	// Expect is about how long a round takes, for its time limit.
	Expect time.Duration
	Run    func(ctx context.Context) (Round, error)
	// Close frees what the rounds shared; may be nil.
	Close func(ctx context.Context) error
}

// NewStreamName is a name that no other stream of this session, nor of one before, has.
func (s *Session) NewStreamName() string {
	return "bench-" + strconv.FormatInt(s.Report.Started.UnixNano()/1e6, 36) + strconv.FormatInt(time.Now().UnixNano()%1e6, 36) +
		"-" + strconv.FormatUint(s.streams.Add(1), 10)
}

// Interleave runs all contenders in turn, as many times as there are rounds (A B A B ...), so that a slow minute of the
// machine hits all of them, and adds their results to the report in the order given, after a failure those of the rounds before it. Before each round everything
// written so far is flushed to the disk, so that none pays for the one before.
func (s *Session) Interleave(ctx context.Context, rounds int, contenders ...*Contender) (results []*Result, err error) {
	defer func() {
		for _, c := range contenders {
			if c.Close != nil {
				err = errors.Join(err, c.Close(context.WithoutCancel(ctx)))
			}
		}
	}()
	taken := make([][]Round, len(contenders))
	failure := s.runRounds(ctx, rounds, contenders, taken)
	s.Progress.Done()
	first := len(s.Report.Results)
	for i, c := range contenders {
		if len(taken[i]) == 0 {
			continue // only after a failure
		}
		version, err := c.System.Version(context.WithoutCancel(ctx))
		if err != nil && failure == nil {
			failure = err
		}
		s.Report.Add(Result{
			Workload: c.Workload, System: c.System.Name(), Version: version,
			Durability: c.System.Durability(c.Stream), Settings: c.Settings, Rounds: taken[i],
		})
	}
	if failure != nil {
		return nil, failure
	}
	for i := range contenders {
		results = append(results, &s.Report.Results[first+i])
	}
	return results, nil
}

func (s *Session) runRounds(ctx context.Context, rounds int, contenders []*Contender, taken [][]Round) error {
	for n := range max(rounds, 1) {
		for i, c := range contenders {
			s.Progress.Step("%s on %s, round %d of %d", c.Workload, c.System.Name(), n+1, max(rounds, 1))
			settle(s.Dir)
			awaitQuiet(ctx, s.Patience)
			round, err := runBounded(ctx, c)
			if err != nil {
				return fmt.Errorf("%s on %s: %w", c.Workload, c.System.Name(), err)
			}
			taken[i] = append(taken[i], round)
		}
	}
	return nil
}

func runBounded(ctx context.Context, c *Contender) (Round, error) {
	limit := 4*c.Expect + roundSlack
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("the round took more than %s", limit))
	defer cancel()
	round, err := c.Run(ctx)
	if err != nil && ctx.Err() != nil {
		err = errors.Join(context.Cause(ctx), err)
	}
	return round, err
}

// Producing is a contender that sends into a new stream in every round.
func (s *Session) Producing(workload string, sys System, spec ProduceSpec) *Contender {
	return &Contender{
		Workload: workload, System: sys, Stream: spec.Stream, Settings: spec.settings(), Expect: spec.Warmup + spec.Duration,
		Run: func(ctx context.Context) (Round, error) {
			return s.withStream(ctx, sys, spec.Stream, func(stream Stream) (Round, error) {
				return Produce(ctx, sys, stream, spec, s.Progress)
			})
		},
	}
}

// Flowing is a contender that measures end-to-end latency through a new stream in every round.
func (s *Session) Flowing(workload string, sys System, spec EndToEndSpec) *Contender {
	settings := streamSettings(spec.Stream, spec.Payloads)
	settings["rate"] = grouped(spec.Rate) + "/s, open loop"
	return &Contender{
		Workload: workload, System: sys, Stream: spec.Stream, Settings: settings, Expect: spec.Warmup + spec.Duration,
		Run: func(ctx context.Context) (Round, error) {
			return s.withStream(ctx, sys, spec.Stream, func(stream Stream) (Round, error) {
				return EndToEnd(ctx, sys, stream, spec, s.Progress)
			})
		},
	}
}

// ConsumeSpec describes a stream to fill once and to read in every round.
type ConsumeSpec struct {
	Stream   StreamSpec
	Payloads *Payloads
	Kind     ConsumerKind
	// Fill is how the records are published before.
	Fill  PublishMode
	Count uint64
	// Before runs before each round, for example to empty the page cache; may be nil.
	Before func() error
}

// Consuming is a contender that reads a stream of Count records from its start in every round. It fills the stream at
// once. A spec for which a stream is filled already shares it.
func (s *Session) Consuming(ctx context.Context, workload string, sys System, spec ConsumeSpec) (*Contender, error) {
	s.Progress.Step("%s on %s: storing %s records to read", workload, sys.Name(), whole(spec.Count))
	spec.Stream.Name = s.NewStreamName()
	stream, err := sys.CreateStream(ctx, spec.Stream)
	if err != nil {
		return nil, err
	}
	fill := ProduceSpec{
		Stream: spec.Stream, Payloads: spec.Payloads, Mode: spec.Fill, Producers: 1, InFlight: defaultInFlight,
		Duration: time.Hour, Count: spec.Count, Keys: keysFor(spec.Stream.Partitions),
	}
	if _, err := Produce(ctx, sys, stream, fill, s.Progress); err != nil {
		return nil, errors.Join(fmt.Errorf("store records to read: %w", err), stream.Delete(context.WithoutCancel(ctx)))
	}
	settings := streamSettings(spec.Stream, spec.Payloads)
	settings["consumer"] = string(spec.Kind)
	return &Contender{
		Workload: workload, System: sys, Stream: spec.Stream, Settings: settings, Expect: time.Minute,
		Run: func(ctx context.Context) (Round, error) {
			if spec.Before != nil {
				if err := spec.Before(); err != nil {
					return Round{}, err
				}
			}
			return Consume(ctx, sys, stream, spec.Kind, spec.Count, s.Progress)
		},
		Close: stream.Delete,
	}, nil
}

// Again is the contender over the same stream with something to do before each round; only one of them closes it.
func (c *Contender) Again(workload string, before func() error) *Contender {
	again := *c
	again.Workload, again.Close = workload, nil
	again.Run = func(ctx context.Context) (Round, error) {
		if err := before(); err != nil {
			return Round{}, err
		}
		return c.Run(ctx)
	}
	return &again
}

// withStream runs one round in a new stream and deletes it after.
func (s *Session) withStream(ctx context.Context, sys System, spec StreamSpec, run func(Stream) (Round, error)) (Round, error) {
	spec.Name = s.NewStreamName()
	stream, err := sys.CreateStream(ctx, spec)
	if err != nil {
		return Round{}, err
	}
	round, err := run(stream)
	// The data goes even when the round's time is over.
	clean, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
	defer cancel()
	return round, errors.Join(err, stream.Delete(clean))
}

// settings describes the load for the report.
func (s ProduceSpec) settings() map[string]string {
	m := streamSettings(s.Stream, s.Payloads)
	m["mode"] = string(s.Mode)
	m["producers"] = strconv.Itoa(max(s.Producers, 1))
	if s.Mode == Sync {
		m["outstanding"] = strconv.Itoa(s.Senders())
	}
	if s.Rate > 0 {
		m["rate"] = grouped(s.Rate) + "/s, open loop"
	} else {
		m["rate"] = "as fast as taken (latency includes the queue)"
	}
	if s.Keys > 0 {
		m["keys"] = strconv.Itoa(s.Keys)
	}
	if s.Linger > 0 {
		m["linger"] = s.Linger.String()
	}
	if s.BatchBytes > 0 {
		m["batch bytes"] = strconv.Itoa(s.BatchBytes)
	}
	return m
}

func streamSettings(spec StreamSpec, payloads *Payloads) map[string]string {
	m := map[string]string{"values": payloads.String(), "partitions": strconv.Itoa(max(spec.Partitions, 1))}
	if spec.Compression != "" {
		m["compression"] = spec.Compression
	}
	return m
}

const (
	// defaultInFlight is how many asynchronous publishes a JetStream client keeps unacknowledged; 4,000 is where its
	// throughput peaks.
	defaultInFlight = 4_000
	// manyKeys spreads records over partitions evenly.
	manyKeys = 1 << 16
)

// keysFor spreads records over partitions where there are several.
func keysFor(partitions int) int {
	if partitions > 1 {
		return manyKeys
	}
	return 0
}
