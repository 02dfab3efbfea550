package bench

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"time"
)

// ReportFormat is the version of the JSON report; it grows when the meaning of a field changes.
const ReportFormat = 1

// Report is everything that one run of the bench command found.
type Report struct {
	Format   int       `json:"format"`
	Started  time.Time `json:"started"`
	Seconds  float64   `json:"seconds"`
	Command  []string  `json:"command"`
	Host     Host      `json:"host"`
	Warnings []string  `json:"warnings,omitempty"`
	Physical *Physical `json:"physical,omitempty"`
	Results  []Result  `json:"results,omitempty"`
	Ratios   []Ratio   `json:"ratios,omitempty"`
	// Creations and Restarts are of the runs that measure them.
	Creations []Creation `json:"creations,omitempty"`
	Restarts  []Restart  `json:"restarts,omitempty"`
	// Failovers and Disturbances are of clusters.
	Failovers    []Failover    `json:"failovers,omitempty"`
	Disturbances []Disturbance `json:"disturbances,omitempty"`
	Targets      []Target      `json:"targets,omitempty"`
}

// Result is one workload on one system.
type Result struct {
	Workload   string            `json:"workload"`
	System     string            `json:"system"`
	Version    string            `json:"version,omitempty"`
	Durability string            `json:"durability"`
	Settings   map[string]string `json:"settings,omitempty"`
	Rounds     []Round           `json:"rounds"`
	Median     Round             `json:"median"`
}

// Ratio compares two results of one workload: how many times better A is than B (above 1 is better for A, whether the
// figure is a rate or a time).
type Ratio struct {
	Workload string  `json:"workload"`
	Figure   string  `json:"figure"`
	A        string  `json:"a"`
	B        string  `json:"b"`
	AValue   float64 `json:"aValue"`
	BValue   float64 `json:"bValue"`
	Ratio    float64 `json:"ratio"`
}

// Target holds a figure that the project means to reach against what was measured.
type Target struct {
	Name     string `json:"name"`
	Want     string `json:"want"`
	Measured string `json:"measured"`
	Met      bool   `json:"met"`
	// Skipped targets were not measured; Measured says why.
	Skipped bool `json:"skipped,omitempty"`
	// Detail tells where the figure comes from.
	Detail string `json:"detail,omitempty"`
}

// NewReport starts a report; dir is where the data of the run lies.
func NewReport(command []string, dir string) *Report {
	r := &Report{Format: ReportFormat, Started: time.Now().UTC().Truncate(time.Second), Command: command, Host: DescribeHost(dir)}
	if w := r.Host.Warning(); w != "" {
		r.Warnings = append(r.Warnings, w)
	}
	return r
}

// Add appends a result with the median of its rounds. Only the median keeps its curves.
func (r *Report) Add(result Result) *Result {
	result.Median = MedianRound(result.Rounds)
	for _, round := range result.Rounds {
		for _, l := range []*Latency{round.Latency, round.AckLatency, round.SendLag} {
			if l != nil {
				l.Curve = nil
			}
		}
	}
	for _, l := range []*Latency{result.Median.AckLatency, result.Median.SendLag} {
		if l != nil {
			l.Curve = nil
		}
	}
	r.Results = append(r.Results, result)
	return &r.Results[len(r.Results)-1]
}

// WriteJSON writes the report to a file, or to standard output for "-".
func (r *Report) WriteJSON(name string) error {
	if name == "-" {
		return r.encode(os.Stdout)
	}
	f, err := os.Create(name)
	if err != nil {
		return fmt.Errorf("write report: %w", err)
	}
	if err := r.encode(f); err != nil {
		f.Close()
		return fmt.Errorf("write report %s: %w", name, err)
	}
	return f.Close()
}

func (r *Report) encode(w io.Writer) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	return enc.Encode(r)
}

// compareRates says how many times the throughput of b the throughput of a is.
func compareRates(a, b *Result) Ratio {
	x, y := a.Median.PerSecond, b.Median.PerSecond
	return Ratio{Workload: a.Workload, Figure: "records/s", A: a.System, B: b.otherName(a), AValue: x, BValue: y, Ratio: quotient(x, y)}
}

// compareLatencies compares p50 and p99; ok is false where one side has none.
func compareLatencies(a, b *Result) (p50, p99 Ratio, ok bool) {
	x, y := a.Median.Latency, b.Median.Latency
	if x == nil || y == nil {
		return Ratio{}, Ratio{}, false
	}
	base := Ratio{Workload: a.Workload, A: a.System, B: b.otherName(a)}
	p50, p99 = base, base
	p50.Figure, p50.AValue, p50.BValue, p50.Ratio = "p50 us", x.P50Us, y.P50Us, quotient(y.P50Us, x.P50Us)
	p99.Figure, p99.AValue, p99.BValue, p99.Ratio = "p99 us", x.P99Us, y.P99Us, quotient(y.P99Us, x.P99Us)
	return p50, p99, true
}

// otherName names b beside a: with its workload where that is another one.
func (b *Result) otherName(a *Result) string {
	if b.Workload == a.Workload {
		return b.System
	}
	return b.System + ", " + b.Workload
}

// quotient is 0 where it has no meaning, so that it can be written as JSON.
func quotient(a, b float64) float64 {
	if b == 0 {
		return 0
	}
	return a / b
}
