package broker

import (
	"math/bits"
	"sync/atomic"
	"time"
)

// Latencies are counted in microseconds in buckets that are 1/8 of a doubling
// wide (at most 12.5 % off), from 1 us to about 17 minutes.
const (
	histogramSub     = 8
	histogramBuckets = 28 * histogramSub
)

// A histogram counts durations; every method may be called concurrently.
type histogram struct {
	sum    atomic.Uint64 // nanoseconds
	counts [histogramBuckets]atomic.Uint64
}

func (h *histogram) observe(d time.Duration) {
	h.sum.Add(uint64(max(d, 0)))
	h.counts[histogramBucket(d)].Add(1)
}

func histogramBucket(d time.Duration) int {
	us := uint64(max(d, 0) / time.Microsecond)
	if us < histogramSub {
		return int(us)
	}
	// Invariant: histogramSub <= us>>shift < 2*histogramSub.
	shift := bits.Len64(us) - bits.Len64(histogramSub)
	return min((shift+1)*histogramSub+int(us>>shift)-histogramSub, histogramBuckets-1)
}

// histogramBound returns the exclusive upper bound of a bucket.
func histogramBound(bucket int) time.Duration {
	if bucket < histogramSub {
		return time.Duration(bucket+1) * time.Microsecond
	}
	shift := bucket/histogramSub - 1
	return time.Duration((bucket%histogramSub+histogramSub+1)<<shift) * time.Microsecond
}

func (h *histogram) snapshot() Distribution {
	s := Distribution{Sum: time.Duration(h.sum.Load())}
	for i := range h.counts {
		if n := h.counts[i].Load(); n > 0 {
			s.Count += n
			s.Buckets = append(s.Buckets, Bucket{Bound: histogramBound(i), Count: n})
		}
	}
	return s
}
