package bench

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// RestartOptions describes a restart with data.
type RestartOptions struct {
	Bytes    uint64 // of values to store before
	Payloads *Payloads
	Stream   StreamSpec
	Rounds   int
	// Load runs for this long before each kill, so that it hits a broker at work.
	Load time.Duration
}

// Restart is the time from starting the process to the first answered fetch.
type Restart struct {
	StoredBytes uint64    `json:"storedBytes"`
	Records     uint64    `json:"records"`
	Clean       []float64 `json:"cleanSeconds"`
	Killed      []float64 `json:"killedSeconds"`
	CleanMedian float64   `json:"cleanMedianSeconds"`
	KillMedian  float64   `json:"killedMedianSeconds"`
}

// MeasureRestart stores data in a fresh broker, then restarts it, cleanly and after SIGKILL under load in turn.
func (s *Session) MeasureRestart(ctx context.Context, launcher Launcher, o RestartOptions) (r *Restart, err error) {
	local, err := StartLocal(ctx, launcher, s.Dir)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, local.Close()) }()
	r = &Restart{Records: o.Bytes / uint64(max(o.Payloads.MeanBytes(), 1))}
	o.Stream.Name = s.NewStreamName()
	s.Progress.Step("storing %.1f GB to restart with", float64(o.Bytes)/1e9)
	stream, err := local.CreateStream(ctx, o.Stream)
	if err != nil {
		return nil, err
	}
	fill := ProduceSpec{
		Stream: o.Stream, Payloads: o.Payloads, Mode: Async, Producers: 1, Keys: keysFor(o.Stream.Partitions),
		Duration: time.Hour, Count: r.Records,
	}
	stored, err := Produce(ctx, local.System, stream, fill, s.Progress)
	if err != nil {
		return nil, fmt.Errorf("store data to restart with: %w", err)
	}
	r.StoredBytes = stored.Bytes
	fill.Count, fill.Duration = 0, o.Load
	for n := range o.Rounds {
		s.Progress.Step("restart %d of %d, clean", n+1, o.Rounds)
		clean, err := s.timeRestart(ctx, local, o.Stream, false)
		if err != nil {
			return nil, fmt.Errorf("restart after a clean stop: %w", err)
		}
		s.Progress.Step("restart %d of %d, after kill -9 under load", n+1, o.Rounds)
		killed, err := s.timeKill(ctx, local, o.Stream, fill)
		if err != nil {
			return nil, fmt.Errorf("restart after kill -9: %w", err)
		}
		r.Clean, r.Killed = append(r.Clean, clean.Seconds()), append(r.Killed, killed.Seconds())
	}
	r.CleanMedian, r.KillMedian = median(r.Clean), median(r.Killed)
	s.Progress.Done()
	return r, nil
}

// timeKill kills the broker while records are sent to it, and times the start.
func (s *Session) timeKill(ctx context.Context, local *Local, spec StreamSpec, load ProduceSpec) (time.Duration, error) {
	loadCtx, cancel := context.WithCancel(ctx)
	defer cancel()
	ended := make(chan struct{})
	endless := load
	endless.Duration = time.Hour // until cancelled
	go func() {
		defer close(ended)
		stream := &sequiturStream{sys: local.System.(*sequiturSystem), spec: spec}
		// Fails when the broker dies, which is the point.
		_, _ = Produce(loadCtx, local.System, stream, endless, nil)
	}()
	select {
	case <-time.After(max(load.Duration, 100*time.Millisecond)):
	case <-ctx.Done():
	}
	err := local.Process.Kill()
	cancel()
	<-ended
	if err != nil {
		return 0, err
	}
	return s.timeRestart(ctx, local, spec, true)
}

// timeRestart starts the broker, which is stopped before unless it was killed, and fetches the first record.
func (s *Session) timeRestart(ctx context.Context, local *Local, spec StreamSpec, dead bool) (time.Duration, error) {
	var err error
	if dead {
		err = local.System.Close()
	} else {
		err = local.Halt(false)
	}
	if err != nil {
		return 0, err
	}
	start := time.Now()
	if err := local.start(ctx); err != nil {
		return 0, err
	}
	stream := &sequiturStream{sys: local.System.(*sequiturSystem), spec: spec}
	consumer, err := stream.Consumer(ctx, Ordered)
	if err != nil {
		return 0, err
	}
	defer consumer.Close()
	var took time.Duration
	err = consumer.Run(ctx, func([]byte) bool {
		took = time.Since(start)
		return false
	})
	return took, err
}
