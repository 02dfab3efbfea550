package bench

import (
	"sync"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

const (
	lowestLatency  = int64(1)                // ns
	highestLatency = int64(10 * time.Minute) // longer waits are counted as this long
	latencyDigits  = 3
)

// Histogram counts durations in an HDR histogram: three significant digits from 1 ns to 10 minutes; durations outside
// are counted as the nearest bound, never dropped. It is safe for concurrent use.
type Histogram struct {
	mu sync.Mutex
	h  *hdrhistogram.Histogram
}

// NewHistogram returns an empty histogram.
func NewHistogram() *Histogram {
	return &Histogram{h: hdrhistogram.New(lowestLatency, highestLatency, latencyDigits)}
}

// Record counts one duration.
func (h *Histogram) Record(d time.Duration) {
	v := min(max(int64(d), 0), highestLatency)
	h.mu.Lock()
	defer h.mu.Unlock()
	// Within bounds by the line above, so this cannot fail.
	_ = h.h.RecordValue(v)
}

// Merge adds everything counted in other, which is left as it was.
func (h *Histogram) Merge(other *Histogram) {
	other.mu.Lock()
	snapshot := other.h.Export()
	other.mu.Unlock()
	h.mu.Lock()
	defer h.mu.Unlock()
	h.h.Merge(hdrhistogram.Import(snapshot))
}

// Count is the number of durations recorded.
func (h *Histogram) Count() int64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.h.TotalCount()
}

// Latency is a summary of a histogram, in microseconds.
type Latency struct {
	Count  int64   `json:"count"`
	MinUs  float64 `json:"minUs"`
	MeanUs float64 `json:"meanUs"`
	P50Us  float64 `json:"p50Us"`
	P90Us  float64 `json:"p90Us"`
	P99Us  float64 `json:"p99Us"`
	P999Us float64 `json:"p999Us"`
	MaxUs  float64 `json:"maxUs"`
	// Curve holds the whole distribution for plots.
	Curve []CurvePoint `json:"curve,omitempty"`
}

// CurvePoint says that Quantile (0..1) of the durations were at most Us microseconds.
type CurvePoint struct {
	Quantile float64 `json:"q"`
	Us       float64 `json:"us"`
}

// Summary returns the summary, or nil where nothing was recorded.
func (h *Histogram) Summary() *Latency {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.h.TotalCount() == 0 {
		return nil
	}
	at := func(percent float64) float64 { return micros(h.h.ValueAtQuantile(percent)) }
	l := &Latency{
		Count: h.h.TotalCount(), MinUs: micros(h.h.Min()), MeanUs: h.h.Mean() / 1e3,
		P50Us: at(50), P90Us: at(90), P99Us: at(99), P999Us: at(99.9), MaxUs: micros(h.h.Max()),
	}
	for _, q := range curveQuantiles(l.Count) {
		l.Curve = append(l.Curve, CurvePoint{Quantile: q, Us: at(q * 100)})
	}
	return l
}

// curveQuantiles are the points of a percentile curve that count samples can support: evenly spread on the axis
// log(1/(1-q)), up to the last sample.
func curveQuantiles(count int64) []float64 {
	const perDecade = 10
	quantiles := []float64{0}
	rest := 1.0 // 1 - quantile
	for decade := int64(1); decade <= count; decade *= 10 {
		for i := range perDecade {
			q := 1 - rest*(1-0.9*float64(i)/perDecade)
			if q > 0 {
				quantiles = append(quantiles, q)
			}
		}
		rest /= 10
	}
	return quantiles
}

func micros(ns int64) float64 { return float64(ns) / 1e3 }
