package bench

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// virtualClock stands still unless it is slept on or moved.
type virtualClock struct {
	now    time.Time
	sleeps int
}

func (c *virtualClock) Now() time.Time { return c.now }

func (c *virtualClock) SleepUntil(ctx context.Context, t time.Time) error {
	c.sleeps++
	c.now = t
	return ctx.Err()
}

func (c *virtualClock) work(d time.Duration) { c.now = c.now.Add(d) }

func TestPacerKeepsTheScheduleWithoutDrift(t *testing.T) {
	start := time.Unix(1000, 0)
	clock := &virtualClock{now: start}
	const rate = 3 // its interval is not a whole number of nanoseconds
	p := NewPacer(clock, rate, start)
	for i := range 3_000_000 {
		due, err := p.Next(t.Context())
		require.NoError(t, err)
		if i%300_000 == 0 {
			require.InDelta(t, float64(i)/rate, due.Sub(start).Seconds(), 1e-6)
		}
	}
}

func TestPacerDoesNotWaitWhileBehind(t *testing.T) {
	start := time.Unix(1000, 0)
	clock := &virtualClock{now: start}
	p := NewPacer(clock, 1000, start)
	_, err := p.Next(t.Context())
	require.NoError(t, err)
	clock.work(10 * time.Millisecond) // the server stalls
	for i := 1; i <= 10; i++ {
		due, err := p.Next(t.Context())
		require.NoError(t, err)
		require.Equal(t, start.Add(time.Duration(i)*time.Millisecond), due, "the intended time, not the present")
	}
	require.Zero(t, clock.sleeps)
	_, err = p.Next(t.Context())
	require.NoError(t, err)
	require.Equal(t, 1, clock.sleeps, "caught up")
}

func TestPacerEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	clock := &virtualClock{now: time.Unix(1000, 0)}
	p := NewPacer(clock, 1, clock.now)
	_, err := p.Next(ctx)
	require.NoError(t, err)
	cancel()
	_, err = p.Next(ctx)
	require.ErrorIs(t, err, context.Canceled)
}

// A server that stalls once for a second in ten makes a tenth of the records late. Counting from the call instead of the
// intended time would hide all of them but one: that is coordinated omission, and this test shows that it is avoided.
func TestStallIsNotOmitted(t *testing.T) {
	const (
		rate    = 1000
		records = 10 * rate
		stallAt = 5 * rate
	)
	start := time.Unix(1000, 0)
	clock := &virtualClock{now: start}
	p := NewPacer(clock, rate, start)
	honest, coordinated := NewHistogram(), NewHistogram()
	for i := range records {
		due, err := p.Next(t.Context())
		require.NoError(t, err)
		called := clock.now
		clock.work(100 * time.Microsecond)
		if i == stallAt {
			clock.work(time.Second)
		}
		honest.Record(clock.now.Sub(due))
		coordinated.Record(clock.now.Sub(called))
	}
	require.Greater(t, honest.Summary().P90Us, 100_000.0)
	require.Less(t, coordinated.Summary().P999Us, 1_000.0, "what the figure would have been")
}

func TestSystemClockSleeps(t *testing.T) {
	clock := systemClock{}
	until := clock.Now().Add(2 * time.Millisecond)
	require.NoError(t, clock.SleepUntil(t.Context(), until))
	require.False(t, clock.Now().Before(until))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorIs(t, clock.SleepUntil(ctx, clock.Now().Add(time.Hour)), context.Canceled)
}
