package bench

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"
)

// Consume reads the first count records of stream with one consumer and times it from the call to the last record.
func Consume(ctx context.Context, sys System, stream Stream, kind ConsumerKind, count uint64, progress *Progress) (Round, error) {
	consumer, err := stream.Consumer(ctx, kind)
	if err != nil {
		return Round{}, err
	}
	defer consumer.Close()
	m, err := startMeter(ctx, sys)
	if err != nil {
		return Round{}, err
	}
	var (
		seen  atomic.Uint64
		bytes uint64
		first time.Duration
	)
	stopProgress := progress.Watch(seen.Load)
	defer stopProgress()
	err = consumer.Run(ctx, func(value []byte) bool {
		n := seen.Add(1)
		if n == 1 {
			first = time.Since(m.start)
		}
		bytes += uint64(len(value))
		return n < count
	})
	if err != nil {
		return Round{}, fmt.Errorf("consume record %d of %d: %w", seen.Load()+1, count, err)
	}
	r, err := m.stop(ctx, seen.Load(), bytes)
	r.FirstUs = micros(int64(first))
	return r, err
}

// EndToEndSpec describes a steady flow of records from a producer to a consumer in this process.
type EndToEndSpec struct {
	Stream   StreamSpec
	Payloads *Payloads
	Rate     float64 // records per second; must be positive
	InFlight int
	Keys     int
	Warmup   time.Duration // runs before, not counted
	Duration time.Duration
}

// EndToEnd measures the time from a record's intended sending to its reception.
func EndToEnd(ctx context.Context, sys System, stream Stream, spec EndToEndSpec, progress *Progress) (Round, error) {
	if spec.Rate <= 0 {
		return Round{}, fmt.Errorf("end-to-end latency needs a rate of records per second, not %v", spec.Rate)
	}
	consumer, err := stream.Consumer(ctx, Ordered)
	if err != nil {
		return Round{}, err
	}
	defer consumer.Close()
	pub, err := stream.Publisher(ctx, PublisherSpec{Mode: Async, InFlight: spec.InFlight})
	if err != nil {
		return Round{}, err
	}
	defer pub.Close(ctx)
	f := &flow{
		production: &production{spec: ProduceSpec{Payloads: spec.Payloads, Keys: spec.Keys}},
		e2e:        spec, latency: NewHistogram(), acks: NewHistogram(), lag: NewHistogram(), epoch: time.Now(),
	}
	warm, counted := uint64(spec.Rate*spec.Warmup.Seconds()), uint64(spec.Rate*spec.Duration.Seconds())
	f.warm, f.total = warm, warm+max(counted, 1)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	received := make(chan error, 1)
	go func() { received <- consumer.Run(ctx, f.receive) }()
	stopProgress := progress.Watch(f.seen.Load)
	defer stopProgress()
	m, err := f.send(ctx, sys, pub)
	if err != nil {
		cancel()
		<-received
		return Round{}, err
	}
	if err := <-received; err != nil {
		return Round{}, fmt.Errorf("receive record %d of %d: %w", f.seen.Load()+1, f.total, err)
	}
	r, err := m.stop(ctx, f.total-warm, f.bytes)
	r.Latency, r.AckLatency, r.SendLag = f.latency.Summary(), f.acks.Summary(), f.lag.Summary()
	return r, err
}

// flow is one end-to-end run.
type flow struct {
	*production // its probes and keys
	e2e         EndToEndSpec
	epoch       time.Time
	warm, total uint64
	latency     *Histogram
	acks, lag   *Histogram
	seen        atomic.Uint64
	bytes       uint64 // the receiver's
}

// send offers all records on schedule; the meter starts after the warm-up.
func (f *flow) send(ctx context.Context, sys System, pub Publisher) (*meter, error) {
	pacer := NewPacer(systemClock{}, f.e2e.Rate, time.Now())
	keys := &sender{production: f.production}
	var (
		m   *meter
		buf []byte
		err error
	)
	for i := range f.total {
		if i == f.warm {
			if m, err = startMeter(ctx, sys); err != nil {
				return nil, err
			}
			pacer = NewPacer(systemClock{}, f.e2e.Rate, time.Now())
		}
		due, err := pacer.Next(ctx)
		if err != nil {
			return nil, err
		}
		var probe *Probe
		if i >= f.warm {
			f.lag.Record(time.Since(due))
			probe = f.probe(f.acks, due)
		}
		buf = f.e2e.Payloads.stamped(buf, i, due.Sub(f.epoch))
		if err := pub.SendAsync(ctx, Outgoing{Key: keys.keyOf(i), Value: buf}, probe); err != nil {
			return nil, fmt.Errorf("send record %d: %w", i, err)
		}
	}
	if err := pub.Flush(ctx); err != nil {
		return nil, err
	}
	return m, f.failure()
}

func (f *flow) receive(value []byte) bool {
	now := time.Since(f.epoch)
	n := f.seen.Add(1)
	if sent, ok := stampOf(value); ok && n > f.warm {
		f.latency.Record(now - sent)
		f.bytes += uint64(len(value))
	}
	return n < f.total
}
