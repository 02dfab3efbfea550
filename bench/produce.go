package bench

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// sampleEvery is how many records of a closed asynchronous loop share one latency probe: reading the clock twice for
// each would cost as much as sending it.
const sampleEvery = 64

// ProduceSpec describes a load of records to send.
type ProduceSpec struct {
	Stream   StreamSpec
	Payloads *Payloads
	Mode     PublishMode
	// Producers each have their own connection; Concurrency senders share each of them in mode Sync.
	Producers, Concurrency int
	InFlight               int
	// Detour has a JetStream client connect to a server that does not lead the stream.
	Detour     bool
	Linger     time.Duration
	BatchBytes int
	// Rate is records per second over all producers; 0 sends as fast as the server takes them.
	Rate float64
	// Keys is how many different keys the records have; 0 sends without keys.
	Keys int
	// Duration ends the round; Count does too, where it is not 0. Warmup comes before and is not counted.
	Warmup, Duration time.Duration
	Count            uint64
}

// Senders is how many loops send at the same time.
func (s ProduceSpec) Senders() int {
	if s.Mode == Sync {
		return max(s.Producers, 1) * max(s.Concurrency, 1)
	}
	return max(s.Producers, 1)
}

func (s ProduceSpec) publisher() PublisherSpec {
	return PublisherSpec{Mode: s.Mode, InFlight: s.InFlight, Detour: s.Detour, Linger: s.Linger, BatchBytes: s.BatchBytes}
}

// Produce runs one round of the load into stream. The timed part ends when everything sent is acknowledged. Any failed
// record fails the round: a figure with losses in it is not a figure.
func Produce(ctx context.Context, sys System, stream Stream, spec ProduceSpec, progress *Progress) (Round, error) {
	p := &production{spec: spec, latency: NewHistogram(), lag: NewHistogram()}
	defer p.close(ctx)
	for range max(spec.Producers, 1) {
		pub, err := stream.Publisher(ctx, spec.publisher())
		if err != nil {
			return Round{}, err
		}
		p.publishers = append(p.publishers, pub)
	}
	if spec.Warmup > 0 {
		if err := p.run(ctx, spec.Warmup, 0, nil); err != nil {
			return Round{}, fmt.Errorf("warm up: %w", err)
		}
		p.latency, p.lag = NewHistogram(), NewHistogram()
	}
	m, err := startMeter(ctx, sys)
	if err != nil {
		return Round{}, err
	}
	if err := p.run(ctx, spec.Duration, spec.Count, progress); err != nil {
		return Round{}, err
	}
	r, err := m.stop(ctx, p.records.Load(), p.bytes.Load())
	if err != nil {
		return Round{}, err
	}
	r.Latency, r.SendLag = p.latency.Summary(), p.lag.Summary()
	return r, nil
}

// production is one round under way.
type production struct {
	spec         ProduceSpec
	publishers   []Publisher
	latency, lag *Histogram
	records      atomic.Uint64
	bytes        atomic.Uint64
	stopped      atomic.Bool
	probes       sync.Pool
	failed       atomic.Pointer[error]
}

// sender is one loop's state.
type sender struct {
	*production
	pub   Publisher
	first uint64 // number of its first record; they go on by stride
	step  uint64
	limit uint64 // records to send; 0 = no limit
	pacer *Pacer
	sent  atomic.Uint64
	key   [8]byte
}

func (p *production) run(ctx context.Context, d time.Duration, count uint64, progress *Progress) error {
	p.records.Store(0)
	p.bytes.Store(0)
	p.stopped.Store(false)
	n := p.spec.Senders()
	senders := make([]*sender, n)
	start := time.Now()
	for i := range senders {
		s := &sender{production: p, pub: p.publishers[i%len(p.publishers)], first: uint64(i), step: uint64(n)}
		if count > 0 {
			s.limit = count/uint64(n) + 1
		}
		if p.spec.Rate > 0 {
			// Spread over one interval, so that the senders do not all send at once.
			offset := time.Duration(float64(i) / p.spec.Rate * float64(time.Second))
			s.pacer = NewPacer(systemClock{}, p.spec.Rate/float64(n), start.Add(offset))
		}
		senders[i] = s
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	timer := time.AfterFunc(d, func() { p.stopped.Store(true) })
	defer timer.Stop()
	stopProgress := progress.Watch(func() uint64 {
		var sum uint64
		for _, s := range senders {
			sum += s.sent.Load()
		}
		return sum
	})
	defer stopProgress()
	failures := make(chan error, n)
	for _, s := range senders {
		go func() {
			err := s.loop(ctx)
			if err != nil {
				cancel() // the others need not go on
			}
			failures <- err
		}()
	}
	var errs []error
	for range senders {
		errs = append(errs, <-failures)
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	for _, pub := range p.publishers {
		errs = append(errs, pub.Flush(ctx))
	}
	errs = append(errs, p.failure())
	return errors.Join(errs...)
}

func (s *sender) loop(ctx context.Context) error {
	var bytes uint64
	for i := s.first; !s.stopped.Load(); i += s.step {
		value := s.spec.Payloads.At(i)
		due, err := s.due(ctx)
		if err != nil {
			return err
		}
		if s.pacer != nil && s.stopped.Load() {
			break
		}
		if err := s.send(ctx, Outgoing{Key: s.keyOf(i), Value: value}, due); err != nil {
			return fmt.Errorf("send record %d: %w", i, err)
		}
		bytes += uint64(len(value))
		if s.sent.Add(1) == s.limit {
			break
		}
	}
	s.records.Add(s.sent.Load())
	s.bytes.Add(bytes)
	return ctx.Err()
}

// due waits for the schedule; without one the zero time says "now".
func (s *sender) due(ctx context.Context) (time.Time, error) {
	if s.pacer == nil {
		return time.Time{}, nil
	}
	due, err := s.pacer.Next(ctx)
	if err == nil {
		s.lag.Record(time.Since(due))
	}
	return due, err
}

func (s *sender) send(ctx context.Context, r Outgoing, due time.Time) error {
	if s.spec.Mode == Sync {
		if due.IsZero() {
			due = time.Now()
		}
		err := s.pub.Send(ctx, r)
		if err == nil {
			s.latency.Record(time.Since(due))
		}
		return err
	}
	if due.IsZero() && s.sent.Load()%sampleEvery != 0 {
		return s.pub.SendAsync(ctx, r, nil)
	}
	return s.pub.SendAsync(ctx, r, s.probe(s.latency, due))
}

// keyOf is the key of record i: the keys in turn, or none.
func (s *sender) keyOf(i uint64) []byte {
	if s.spec.Keys <= 0 {
		return nil
	}
	binary.BigEndian.PutUint64(s.key[:], i%uint64(s.spec.Keys))
	return s.key[:]
}

// probe takes a used probe or makes a new one; it returns by itself once its record is done.
func (p *production) probe(into *Histogram, from time.Time) *Probe {
	probe, _ := p.probes.Get().(*Probe)
	if probe == nil {
		probe = &Probe{onDone: p.probeDone}
	}
	if from.IsZero() {
		from = time.Now()
	}
	probe.from, probe.into = from, into
	return probe
}

// probeDone keeps the first failure: a client tells the failures of probed records only to their probes.
func (p *production) probeDone(probe *Probe, err error) {
	if err != nil {
		p.failed.CompareAndSwap(nil, &err)
	}
	p.probes.Put(probe)
}

// failure is the first failure of a probed record.
func (p *production) failure() error {
	if err := p.failed.Load(); err != nil {
		return fmt.Errorf("record not acknowledged: %w", *err)
	}
	return nil
}

func (p *production) close(ctx context.Context) {
	for _, pub := range p.publishers {
		// Everything is acknowledged or the round has failed already.
		_ = pub.Close(ctx)
	}
}
