package bench

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// steadyLoad sends records on an open-loop schedule until it is stopped, whatever happens to the servers meanwhile: a
// failed send is counted, and the load goes on. The latency of a record counts from its intended sending, in the window
// in which that lies.
type steadyLoad struct {
	pub      Publisher
	payloads *Payloads
	keys     *sender
	rate     float64

	cancel context.CancelFunc
	ended  chan struct{}
	window atomic.Pointer[loadWindow]
	done   sync.WaitGroup // of probes

	mu    sync.Mutex
	first error // of the client's failures
}

// loadWindow is what happened to the records that were due in a part of the run.
type loadWindow struct {
	start        time.Time
	latency, lag *Histogram
	sends, fails atomic.Uint64
}

func newLoadWindow() *loadWindow {
	return &loadWindow{start: time.Now(), latency: NewHistogram(), lag: NewHistogram()}
}

// startSteady starts a load with a publisher of its own.
func startSteady(ctx context.Context, stream Stream, payloads *Payloads, rate float64, keys int) (*steadyLoad, error) {
	pub, err := stream.Publisher(ctx, PublisherSpec{Mode: Async, InFlight: defaultInFlight})
	if err != nil {
		return nil, err
	}
	l := &steadyLoad{
		pub: pub, payloads: payloads, rate: rate, ended: make(chan struct{}),
		keys: &sender{production: &production{spec: ProduceSpec{Keys: keys}}},
	}
	l.window.Store(newLoadWindow())
	var loop context.Context
	loop, l.cancel = context.WithCancel(ctx)
	go func() {
		defer close(l.ended)
		l.run(loop, ctx)
	}()
	return l, nil
}

// run sends until loop ends; ctx is of the sends themselves.
func (l *steadyLoad) run(loop, ctx context.Context) {
	pacer := NewPacer(systemClock{}, l.rate, time.Now())
	for i := uint64(0); ; i++ {
		due, err := pacer.Next(loop)
		if err != nil || loop.Err() != nil {
			return
		}
		w := l.window.Load()
		w.lag.Record(time.Since(due))
		w.sends.Add(1)
		probe := &Probe{from: due, into: w.latency, onDone: func(_ *Probe, err error) {
			l.failed(w, err)
			l.done.Done()
		}}
		l.done.Add(1)
		if err := l.pub.SendAsync(ctx, Outgoing{Key: l.keys.keyOf(i), Value: l.payloads.At(i)}, probe); err != nil {
			// Not taken, so the probe is told nothing.
			l.failed(w, err)
			l.done.Done()
		}
	}
}

func (l *steadyLoad) failed(w *loadWindow, err error) {
	if err == nil {
		return
	}
	w.fails.Add(1)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.first == nil {
		l.first = err
	}
}

// cut ends the window and begins the next. Records of the ended one may still be under way.
func (l *steadyLoad) cut() *loadWindow { return l.window.Swap(newLoadWindow()) }

// stop ends the load and waits until every record is acknowledged or has failed.
func (l *steadyLoad) stop(ctx context.Context) error {
	l.cancel()
	<-l.ended
	// What failed is counted already.
	_ = l.pub.Flush(ctx)
	l.done.Wait()
	return l.pub.Close(ctx)
}

func (l *steadyLoad) failure() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.first
}

// Disturbance is a steady load while something was done to the servers.
type Disturbance struct {
	Workload   string            `json:"workload"`
	System     string            `json:"system"`
	Version    string            `json:"version,omitempty"`
	Durability string            `json:"durability"`
	Settings   map[string]string `json:"settings,omitempty"`
	Seconds    float64           `json:"seconds"`
	Sends      uint64            `json:"sends"`
	// Errors is how many sends failed as the client sees it, FirstError what the first said.
	Errors     uint64   `json:"errors"`
	FirstError string   `json:"firstError,omitempty"`
	Latency    *Latency `json:"latency"`
	// Calm is the latency of the same load right before.
	Calm *Latency `json:"calm,omitempty"`
	// SendLag is how late the generator was.
	SendLag *Latency `json:"sendLag,omitempty"`
	// Steps is how long each step of the disturbance took, in seconds.
	Steps []float64 `json:"stepsSeconds,omitempty"`
}

// disturbed describes a disturbance.
type disturbed struct {
	workload string
	sys      System
	spec     StreamSpec
	stream   Stream
	payloads *Payloads
	rate     float64
	calm     time.Duration // before and after
	prepare  func(ctx context.Context) error
	act      func(ctx context.Context, d *Disturbance) error
}

// disturb runs a steady load, calm first, then while act does something, and a little longer. The result is in the report
// also when act fails.
func (s *Session) disturb(ctx context.Context, o disturbed) (*Disturbance, error) {
	l, err := startSteady(ctx, o.stream, o.payloads, o.rate, keysFor(o.spec.Partitions))
	if err != nil {
		return nil, err
	}
	version, _ := o.sys.Version(ctx)
	d := &Disturbance{
		Workload: o.workload, System: o.sys.Name(), Version: version, Durability: o.sys.Durability(o.spec),
		Settings: streamSettings(o.spec, o.payloads),
	}
	d.Settings["rate"] = grouped(o.rate) + "/s, open loop"
	calm, during, err := o.run(ctx, l, d)
	err = errors.Join(err, l.stop(ctx))
	if during != nil {
		d.Sends, d.Errors = during.sends.Load(), during.fails.Load()
		d.Latency, d.SendLag, d.Calm = during.latency.Summary(), during.lag.Summary(), calm.latency.Summary()
		if first := l.failure(); first != nil {
			d.FirstError = first.Error()
		}
		s.Report.Disturbances = append(s.Report.Disturbances, *d)
	}
	if err == nil && (d.Latency == nil || d.Calm == nil) {
		err = errors.New("no record was acknowledged")
	}
	if err != nil {
		return nil, fmt.Errorf("%s on %s: %w", o.workload, o.sys.Name(), err)
	}
	return d, nil
}

func (o disturbed) run(ctx context.Context, l *steadyLoad, d *Disturbance) (calm, during *loadWindow, err error) {
	if err := pause(ctx, o.calm/2); err != nil { // the producer warms up
		return nil, nil, err
	}
	l.cut()
	if err := pause(ctx, o.calm); err != nil {
		return nil, nil, err
	}
	calm = l.cut()
	if o.prepare != nil {
		if err := o.prepare(ctx); err != nil {
			return nil, nil, err
		}
		l.cut()
	}
	start := time.Now()
	err = o.act(ctx, d)
	d.Seconds = time.Since(start).Seconds()
	during = l.cut()
	return calm, during, err
}
