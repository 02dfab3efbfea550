package log

import (
	"math/bits"
	"sync/atomic"
	"time"
)

// Histogram counts durations in buckets a 32nd of their power of two wide, without locks. The zero value is ready.
type Histogram struct {
	buckets [40 << histogramBits]atomic.Uint64
	sum     atomic.Int64
}

const histogramBits = 5

// Add counts one duration.
func (h *Histogram) Add(d time.Duration) {
	h.buckets[bucketOf(d)].Add(1)
	h.sum.Add(int64(d))
}

func bucketOf(d time.Duration) int {
	v := uint64(max(d, 1<<histogramBits))
	exp := bits.Len64(v) - 1
	b := (exp-histogramBits+1)<<histogramBits | int(v>>(exp-histogramBits))&(1<<histogramBits-1)
	return min(b, 40<<histogramBits-1)
}

// bucketStart is the smallest duration of a bucket; below 32 ns all share the first ones.
func bucketStart(b int) time.Duration {
	exp, frac := b>>histogramBits+histogramBits-1, b&(1<<histogramBits-1)
	return time.Duration((1<<histogramBits + frac)) << (exp - histogramBits)
}

// Latency is a reading of a Histogram.
type Latency struct {
	Count                    uint64
	Sum, P50, P99, P999, Max time.Duration
}

// Read returns the counts and quantiles so far, each quantile at most a 32nd too high.
func (h *Histogram) Read() Latency {
	var counts [40 << histogramBits]uint64
	l := Latency{Sum: time.Duration(h.sum.Load())}
	for i := range h.buckets {
		counts[i] = h.buckets[i].Load()
		l.Count += counts[i]
	}
	var seen uint64
	for i, n := range counts {
		if n == 0 {
			continue
		}
		upper := bucketStart(i + 1)
		for _, q := range []struct {
			at  *time.Duration
			per uint64 // of 1000
		}{{&l.P50, 500}, {&l.P99, 990}, {&l.P999, 999}, {&l.Max, 1000}} {
			if *q.at == 0 && (seen+n)*1000 >= l.Count*q.per {
				*q.at = upper
			}
		}
		seen += n
	}
	return l
}
