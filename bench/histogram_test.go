package bench

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestHistogramSummary(t *testing.T) {
	h := NewHistogram()
	for i := 1; i <= 1000; i++ {
		h.Record(time.Duration(i) * time.Microsecond)
	}
	s := h.Summary()
	require.EqualValues(t, 1000, s.Count)
	for _, q := range []struct{ want, got float64 }{
		{1, s.MinUs}, {500, s.P50Us}, {900, s.P90Us}, {990, s.P99Us}, {999, s.P999Us}, {1000, s.MaxUs}, {500.5, s.MeanUs},
	} {
		require.InEpsilon(t, q.want, q.got, 0.002, "three digits")
	}
}

func TestHistogramCountsWhatIsOutOfBounds(t *testing.T) {
	h := NewHistogram()
	h.Record(-time.Second)
	h.Record(0)
	h.Record(24 * time.Hour)
	s := h.Summary()
	require.EqualValues(t, 3, s.Count)
	require.Zero(t, s.MinUs)
	require.InEpsilon(t, micros(highestLatency), s.MaxUs, 0.002)
}

func TestHistogramMerge(t *testing.T) {
	a, b := NewHistogram(), NewHistogram()
	a.Record(time.Millisecond)
	b.Record(3 * time.Millisecond)
	a.Merge(b)
	require.EqualValues(t, 2, a.Count())
	require.EqualValues(t, 1, b.Count())
	require.InEpsilon(t, 3000, a.Summary().MaxUs, 0.002)
}

func TestEmptyHistogramHasNoSummary(t *testing.T) {
	require.Nil(t, NewHistogram().Summary())
}

func TestCurveGoesAsFarAsTheSamples(t *testing.T) {
	for _, c := range []struct {
		count   int64
		deepest float64
	}{{1, 0.8}, {100, 0.99}, {100_000, 0.99999}} {
		q := curveQuantiles(c.count)
		require.IsIncreasing(t, q)
		require.Zero(t, q[0])
		last := q[len(q)-1]
		require.GreaterOrEqual(t, last, c.deepest)
		require.Less(t, last, 1.0)
	}
}

func BenchmarkHistogramRecord(b *testing.B) {
	h := NewHistogram()
	b.ReportAllocs()
	for i := range b.N {
		h.Record(time.Duration(i))
	}
}
