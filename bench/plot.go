package bench

import (
	"fmt"
	"math"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/plotutil"
	"gonum.org/v1/plot/vg"
)

const (
	plotWidth  = 24 * vg.Centimeter
	plotHeight = 14 * vg.Centimeter
	// smallestUs is where the logarithmic axis of time begins.
	smallestUs = 0.1
	// smallestRest keeps the last point of a curve on the logarithmic axis.
	smallestRest = 1e-9
)

// WritePlot draws the latency of every result as a percentile curve (both axes logarithmic, so that the tail is seen)
// into a PNG file. It fails where no result has a latency.
func (r *Report) WritePlot(name string) error {
	p := plot.New()
	p.Title.Text = "Latency by percentile"
	p.X.Label.Text = "percentile"
	p.Y.Label.Text = "milliseconds"
	p.Y.Scale, p.Y.Tick.Marker = plot.LogScale{}, plot.LogTicks{Prec: -1}
	p.Add(plotter.NewGrid())
	p.Legend.Top, p.Legend.Left = true, true
	deepest := 0.0
	for i, c := range r.curves() {
		points := curvePoints(c.latency)
		if len(points) == 0 {
			continue
		}
		line, err := plotter.NewLine(points)
		if err != nil {
			return fmt.Errorf("plot %s: %w", c.name, err)
		}
		line.Color, line.Width = plotutil.Color(i), vg.Points(1.5)
		line.Dashes = plotutil.Dashes(i / len(plotutil.DefaultColors))
		p.Add(line)
		p.Legend.Add(c.name, line)
		deepest = max(deepest, points[len(points)-1].X)
	}
	if deepest == 0 {
		return fmt.Errorf("plot %s: no result has latencies to draw", name)
	}
	p.X.Min, p.X.Max = 0, max(deepest, 1)
	p.X.Tick.Marker = percentileTicks{}
	if err := p.Save(plotWidth, plotHeight, name); err != nil {
		return fmt.Errorf("write plot: %w (name it .png)", err)
	}
	return nil
}

// curve is the latency of something.
type curve struct {
	name    string
	latency *Latency
}

func (r *Report) curves() (list []curve) {
	for i := range r.Results {
		list = append(list, curve{r.Results[i].System + ": " + r.Results[i].Workload, r.Results[i].Median.Latency})
	}
	for _, f := range r.Failovers {
		list = append(list, curve{f.System + ": " + f.Workload, f.Latency})
	}
	for _, d := range r.Disturbances {
		list = append(list, curve{d.System + ": " + d.Workload, d.Latency})
	}
	return list
}

// curvePoints puts a curve on the axis "number of nines".
func curvePoints(l *Latency) plotter.XYs {
	if l == nil {
		return nil
	}
	var points plotter.XYs
	for _, c := range l.Curve {
		ms := max(c.Us, smallestUs) / 1e3
		points = append(points, plotter.XY{X: -math.Log10(max(1-c.Quantile, smallestRest)), Y: ms})
	}
	return points
}

// percentileTicks labels an axis of "number of nines" with percentiles.
type percentileTicks struct{}

func (percentileTicks) Ticks(low, high float64) []plot.Tick {
	ticks := []plot.Tick{}
	for _, q := range []struct {
		percentile float64
		label      string
	}{{0, "0"}, {50, "50"}, {90, "90"}, {99, "99"}, {99.9, "99.9"}, {99.99, "99.99"}, {99.999, "99.999"}, {99.9999, "99.9999"}} {
		x := -math.Log10(1 - q.percentile/100)
		if x >= low && x <= high {
			ticks = append(ticks, plot.Tick{Value: x, Label: q.label})
		}
	}
	return ticks
}
