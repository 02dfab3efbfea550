package sequitur

import (
	"context"
	"time"

	"github.com/cenkalti/backoff/v5"
)

// retrier spaces the attempts at one thing: the first retry is immediate, later ones
// wait exponentially longer with jitter. It has one owner.
type retrier struct {
	exp      backoff.ExponentialBackOff
	failures int
}

func (c *Client) newRetrier() retrier {
	return retrier{exp: backoff.ExponentialBackOff{
		InitialInterval:     c.opts.backoffFirst,
		RandomizationFactor: 0.5,
		Multiplier:          2,
		MaxInterval:         c.opts.backoffMax,
	}}
}

// failed returns how long to wait after one more failure. The wait is at least what
// the broker asked for.
func (r *retrier) failed(retryAfter time.Duration) time.Duration {
	r.failures++
	if r.failures == 1 {
		r.exp.Reset()
		return retryAfter
	}
	return max(r.exp.NextBackOff(), retryAfter)
}

// refused is failed for refusals by a broker that has too much to do: not even the
// first retry is immediate.
func (r *retrier) refused(retryAfter time.Duration) time.Duration {
	if r.failures == 0 {
		r.failed(0)
	}
	return r.failed(retryAfter)
}

func (r *retrier) succeeded() { r.failures = 0 }

// pause waits for d unless the context ends first, which it reports.
func pause(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
