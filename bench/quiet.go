package bench

import (
	"context"
	"time"
)

const (
	quietCores  = 0.15 // the machine's background noise
	quietLook   = 500 * time.Millisecond
	quietInARow = 3
)

// awaitQuiet returns once the machine did next to nothing for a while, or when patience is over. On a machine that
// others use too, that is the difference between measuring a server and measuring its neighbours. What the neighbours
// do during the round all the same is reported with it (Round.OtherCores).
func awaitQuiet(ctx context.Context, patience time.Duration) {
	quiet := 0
	for end := time.Now().Add(patience); quiet < quietInARow && time.Now().Before(end); {
		before, at := machineCPU(), time.Now()
		select {
		case <-ctx.Done():
			return
		case <-time.After(quietLook):
		}
		if (machineCPU() - before).Seconds() < quietCores*time.Since(at).Seconds() {
			quiet++
		} else {
			quiet = 0
		}
	}
}
