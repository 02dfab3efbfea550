package bench

import (
	"context"
	"time"
)

// Clock is the time that a pacer follows. Tests pass a virtual one.
type Clock interface {
	Now() time.Time
	// SleepUntil returns at t or as soon after as it can, or earlier with the context's error.
	SleepUntil(ctx context.Context, t time.Time) error
}

// Pacer is an open-loop schedule: record i is due at start + i/rate, whatever became of the records before it. A sender
// that fell behind is not made to wait until it has caught up, and latency is counted from the time that Next returns.
// A Pacer belongs to one goroutine.
type Pacer struct {
	clock Clock
	start time.Time
	rate  float64
	sent  int64
	now   time.Time // last reading; spares one per record while behind
}

// NewPacer starts a schedule of rate records per second at start. The rate must be positive.
func NewPacer(clock Clock, rate float64, start time.Time) *Pacer {
	return &Pacer{clock: clock, start: start, rate: rate}
}

// Next waits until the next record is due and returns its intended time.
func (p *Pacer) Next(ctx context.Context) (time.Time, error) {
	// Computed from the count, not added up, so that rounding never drifts.
	due := p.start.Add(time.Duration(float64(p.sent) / p.rate * float64(time.Second)))
	p.sent++
	if !p.now.Before(due) {
		return due, nil
	}
	if p.now = p.clock.Now(); !p.now.Before(due) {
		return due, ctx.Err()
	}
	if err := p.clock.SleepUntil(ctx, due); err != nil {
		return due, err
	}
	p.now = p.clock.Now()
	return due, nil
}
