package bench

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"
)

// breakable is a cluster whose servers can be killed and started again; they are counted from 1.
type breakable interface {
	System
	// leaderOf is the server that leads the stream (its first partition).
	leaderOf(ctx context.Context, stream Stream) (server int, err error)
	// kill ends a server at once (SIGKILL).
	kill(server int) error
	// revive starts it again on its data.
	revive(ctx context.Context, server int) error
	// awaitCopies waits until every server has everything that any of them has now.
	awaitCopies(ctx context.Context, stream Stream) error
}

// Failover is how long something took to work again after a server was killed, over several trials.
type Failover struct {
	Workload   string            `json:"workload"`
	System     string            `json:"system"`
	Version    string            `json:"version,omitempty"`
	Durability string            `json:"durability"`
	Settings   map[string]string `json:"settings,omitempty"`
	Trials     []float64         `json:"trialsMs"`
	Median     float64           `json:"medianMs"`
	P99        float64           `json:"p99Ms"`   // of fewer than 100 trials: the slowest
	Latency    *Latency          `json:"latency"` // of the trials
}

// FailoverOptions describes the trials.
type FailoverOptions struct {
	Trials   int
	Replicas int
	Payloads *Payloads
	// Before is how long records are sent before the kill.
	Before time.Duration
}

const (
	// trialTimeout bounds the wait for the first acknowledgement after a kill.
	trialTimeout = 2 * time.Minute
	// streamTries is how many streams are made to find one with the wanted leader.
	streamTries = 100
)

// Failing is a system for Failovers with what is wanted of the leader that is killed.
type failing struct {
	sys      breakable
	workload string
	// wanted says whether a leader is one to kill; nil: any is.
	wanted func(ctx context.Context, leader int) (bool, error)
}

// failovers kills leaders under one outstanding send, each system in turn, and times the first acknowledgement of a record
// that was sent after the kill. What was measured before a failure is in the report.
func (s *Session) failovers(ctx context.Context, o FailoverOptions, systems ...failing) (list []*Failover, err error) {
	stream := StreamSpec{Partitions: 1, Replicas: o.Replicas}
	took := make([][]time.Duration, len(systems))
	var failure error
	for n := range o.Trials {
		for i, f := range systems {
			s.Progress.Step("%s on %s, trial %d of %d", f.workload, f.sys.Name(), n+1, o.Trials)
			d, err := s.failover(ctx, f, stream, o)
			if err != nil {
				failure = fmt.Errorf("%s on %s: %w", f.workload, f.sys.Name(), err)
				break
			}
			took[i] = append(took[i], d)
		}
		if failure != nil {
			break
		}
	}
	s.Progress.Done()
	first := len(s.Report.Failovers)
	for i, f := range systems {
		if failover := s.failoverOf(ctx, f.workload, f.sys, stream, took[i]); failover != nil {
			failover.Settings = streamSettings(stream, o.Payloads)
			s.Report.Failovers = append(s.Report.Failovers, *failover)
		}
	}
	if failure != nil {
		return nil, failure
	}
	for i := range systems {
		list = append(list, &s.Report.Failovers[first+i])
	}
	return list, nil
}

// failoverOf sums trials up; nil where there was none.
func (s *Session) failoverOf(ctx context.Context, workload string, sys System, stream StreamSpec, took []time.Duration) *Failover {
	if len(took) == 0 {
		return nil
	}
	// A server that does not tell its version right after a failure has told its durations all the same.
	version, _ := sys.Version(context.WithoutCancel(ctx))
	f := &Failover{Workload: workload, System: sys.Name(), Version: version, Durability: sys.Durability(stream)}
	h := NewHistogram()
	for _, d := range took {
		h.Record(d)
		f.Trials = append(f.Trials, micros(int64(d))/1e3)
	}
	f.Latency = h.Summary()
	f.Median, f.P99 = median(f.Trials), f.Latency.P99Us/1e3
	return f
}

// failover is one trial.
func (s *Session) failover(ctx context.Context, f failing, spec StreamSpec, o FailoverOptions) (took time.Duration, err error) {
	stream, leader, err := s.streamLedBy(ctx, f, spec)
	if err != nil {
		return 0, err
	}
	pub, err := stream.Publisher(ctx, PublisherSpec{Mode: Sync, Persist: true, Detour: true}) // so that the kill costs no connection
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, pub.Close(ctx)) }()
	w := &witness{pub: pub, value: o.Payloads.At(0), acked: make(chan time.Time, 1), ended: make(chan error, 1)}
	watchCtx, cancel := context.WithTimeoutCause(ctx, o.Before+trialTimeout,
		fmt.Errorf("no record was acknowledged in %s after a leader was killed", trialTimeout))
	defer cancel()
	go func() { w.ended <- w.run(watchCtx) }()
	if err := pause(ctx, o.Before); err != nil {
		cancel()
		return 0, errors.Join(err, <-w.ended)
	}
	start := time.Now()
	err = f.sys.kill(leader)
	w.after.Store(int64(time.Since(start)) + start.UnixNano())
	if err != nil {
		cancel()
		return 0, errors.Join(err, <-w.ended)
	}
	if err := <-w.ended; err != nil {
		return 0, errors.Join(err, context.Cause(watchCtx))
	}
	took = (<-w.acked).Sub(start)
	if err := f.sys.revive(ctx, leader); err != nil {
		return 0, err
	}
	if err := f.sys.awaitCopies(ctx, stream); err != nil {
		return 0, err
	}
	return took, stream.Delete(ctx)
}

// streamLedBy makes streams until one has a leader that is wanted.
func (s *Session) streamLedBy(ctx context.Context, f failing, spec StreamSpec) (stream Stream, leader int, err error) {
	for range streamTries {
		spec.Name = s.NewStreamName()
		if stream, err = f.sys.CreateStream(ctx, spec); err != nil {
			return nil, 0, err
		}
		if leader, err = f.sys.leaderOf(ctx, stream); err != nil {
			return nil, 0, err
		}
		wanted := true
		if f.wanted != nil {
			if wanted, err = f.wanted(ctx, leader); err != nil {
				return nil, 0, err
			}
		}
		if wanted {
			return stream, leader, nil
		}
		if err := stream.Delete(ctx); err != nil {
			return nil, 0, err
		}
	}
	return nil, 0, fmt.Errorf("none of %d streams was led by a server that was wanted", streamTries)
}

// witness sends one record after the other until one is acknowledged that it began to send after a moment.
type witness struct {
	pub   Publisher
	value []byte
	after atomic.Int64 // the moment, Unix nanoseconds; 0 until it is known
	acked chan time.Time
	ended chan error
}

func (w *witness) run(ctx context.Context) error {
	for {
		began := time.Now()
		if err := w.pub.Send(ctx, Outgoing{Value: w.value}); err != nil {
			return fmt.Errorf("a failover was seen by the client: %w", err)
		}
		if after := w.after.Load(); after > 0 && began.UnixNano() >= after {
			w.acked <- time.Now()
			return nil
		}
	}
}

// pause waits, or returns the context's error.
func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
