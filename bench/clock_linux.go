package bench

import (
	"context"
	"runtime"
	"time"

	"golang.org/x/sys/unix"
)

// longestNap bounds how long a sleeper takes to see that its context ended.
const longestNap = 20 * time.Millisecond

// systemClock sleeps with clock_nanosleep. The runtime's own timers are rounded up to a whole millisecond on an idle
// processor, which at 10,000 records a second would send bursts of ten and spoil the figure being measured.
type systemClock struct{}

func (systemClock) Now() time.Time { return time.Now() }

func (systemClock) SleepUntil(ctx context.Context, t time.Time) error {
	// The kernel lets a thread oversleep by its slack, 50 us unless told otherwise.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	_ = unix.Prctl(unix.PR_SET_TIMERSLACK, 1, 0, 0, 0)
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		rest := time.Until(t)
		if rest <= 0 {
			return nil
		}
		nap := unix.NsecToTimespec(int64(min(rest, longestNap)))
		// An interrupted nap is continued by the loop.
		_ = unix.ClockNanosleep(unix.CLOCK_MONOTONIC, 0, &nap, nil)
	}
}
