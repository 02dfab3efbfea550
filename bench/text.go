package bench

import (
	"fmt"
	"io"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
)

// WriteText writes the report for people.
func (r *Report) WriteText(w io.Writer) error {
	var b strings.Builder
	r.head(&b)
	if r.Physical != nil {
		r.Physical.text(&b)
	}
	for i := range r.Results {
		r.Results[i].text(&b)
	}
	for _, c := range r.Creations {
		c.text(&b)
	}
	for _, c := range r.Restarts {
		c.text(&b)
	}
	for i := range r.Failovers {
		r.Failovers[i].text(&b)
	}
	for i := range r.Disturbances {
		r.Disturbances[i].text(&b)
	}
	r.ratios(&b)
	r.targets(&b)
	fmt.Fprintf(&b, "\ntook %s\n", time.Duration(r.Seconds*float64(time.Second)).Round(100*time.Millisecond))
	_, err := io.WriteString(w, b.String())
	return err
}

func (r *Report) head(b *strings.Builder) {
	fmt.Fprintf(b, "%s  %s\n", r.Started.Format(time.RFC3339), strings.Join(r.Command, " "))
	fmt.Fprintf(b, "machine: %s\n", r.Host)
	for _, warning := range r.Warnings {
		fmt.Fprintf(b, "WARNING: %s\n", warning)
	}
}

func (p *Physical) text(b *strings.Builder) {
	fmt.Fprintf(b, "\nlimits of this machine, same run\n")
	if p.Flush4K != nil {
		fmt.Fprintf(b, "  durable write of 4 KiB (%s, recycled file)  %s\n", p.FlushKind, p.Flush4K)
	}
	if p.Flush64K != nil {
		fmt.Fprintf(b, "  durable write of 64 KiB                              %s\n", p.Flush64K)
	}
	if p.RoundTrip != nil {
		fmt.Fprintf(b, "  loopback round trip, other end in %-19s%s\n", p.RoundTripPeer, p.RoundTrip)
	}
	if p.JournalMBs > 0 {
		fmt.Fprintf(b, "  journal of 1 MiB groups  %.0f MB/s; with every byte also in a segment file  %.0f MB/s\n",
			p.JournalMBs, p.JournalSegmentsMBs)
		fmt.Fprintf(b, "  one core  memcpy %.1f GB/s, crc32c %.1f GB/s\n", p.MemcpyGBs, p.CRC32CGBs)
	}
}

// String is the summary on one line.
func (l *Latency) String() string {
	if l == nil {
		return "-"
	}
	return fmt.Sprintf("p50 %s  p90 %s  p99 %s  p99.9 %s  max %s",
		span(l.P50Us), span(l.P90Us), span(l.P99Us), span(l.P999Us), span(l.MaxUs))
}

// caption says what was measured on what.
func caption(b *strings.Builder, workload, system, version, durability string, settings map[string]string) {
	fmt.Fprintf(b, "\n%s on %s", workload, system)
	if version != "" {
		fmt.Fprintf(b, " (%s)", version)
	}
	fmt.Fprintf(b, "\n  durability: %s\n", durability)
	if len(settings) > 0 {
		var parts []string
		for _, key := range slices.Sorted(maps.Keys(settings)) {
			parts = append(parts, key+" "+settings[key])
		}
		fmt.Fprintf(b, "  with: %s\n", strings.Join(parts, ", "))
	}
}

func (r *Result) text(b *strings.Builder) {
	caption(b, r.Workload, r.System, r.Version, r.Durability, r.Settings)
	m := r.Median
	if n := len(r.Rounds); n > 1 {
		fmt.Fprintf(b, "  medians of %d rounds (records/s:", n)
		for _, round := range r.Rounds {
			fmt.Fprintf(b, " %s", grouped(round.PerSecond))
		}
		fmt.Fprint(b, ")\n")
	}
	fmt.Fprintf(b, "  %s records/s, %.1f MB/s (%s records in %.2f s)\n", grouped(m.PerSecond), m.MBPerSec, whole(m.Records), m.Seconds)
	if m.Latency != nil {
		fmt.Fprintf(b, "  latency  %s\n", m.Latency)
	}
	if m.AckLatency != nil {
		fmt.Fprintf(b, "  ack      %s\n", m.AckLatency)
	}
	if m.SendLag != nil {
		fmt.Fprintf(b, "  of that, generator behind schedule  p50 %s  p99 %s\n", span(m.SendLag.P50Us), span(m.SendLag.P99Us))
	}
	if m.FirstUs > 0 {
		fmt.Fprintf(b, "  first record after %s\n", span(m.FirstUs))
	}
	m.costs(b)
}

func (r Round) costs(b *strings.Builder) {
	server := "server not on this machine"
	if r.ServerCPU != nil {
		server = fmt.Sprintf("server %.2f CPU s per million records (%.2f cores), memory %s, peak %s",
			*r.ServerCPU, *r.ServerCores, mebibytes(r.ServerRSS), mebibytes(r.ServerPeak))
	}
	fmt.Fprintf(b, "  %s\n  client %.2f CPU s per million", server, r.ClientCPU)
	fmt.Fprintf(b, "; heap objects per record: client %.3f", r.ClientAllocs)
	if r.ServerAllocs != nil {
		fmt.Fprintf(b, ", server %.3f", *r.ServerAllocs)
	}
	fmt.Fprint(b, "\n")
	if r.OtherCores != nil {
		fmt.Fprintf(b, "  everything else on the machine: %.2f cores\n", *r.OtherCores)
	}
}

func (r *Report) ratios(b *strings.Builder) {
	if len(r.Ratios) == 0 {
		return
	}
	fmt.Fprint(b, "\nside by side (ratio above 1: the first is better)\n")
	t := tabwriter.NewWriter(b, 0, 0, 2, ' ', tabwriter.AlignRight|tabwriter.Debug)
	fmt.Fprint(t, "workload\tfigure\tfirst\tsecond\tvalue\tvalue\tratio\t\n")
	for _, q := range r.Ratios {
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\t%.2fx\t\n", q.Workload, q.Figure, q.A, q.B, grouped(q.AValue), grouped(q.BValue), q.Ratio)
	}
	t.Flush()
}

func (r *Report) targets(b *strings.Builder) {
	if len(r.Targets) == 0 {
		return
	}
	fmt.Fprint(b, "\ntargets\n")
	met := 0
	for _, t := range r.Targets {
		verdict := "MISSED"
		switch {
		case t.Skipped:
			verdict = "------"
		case t.Met:
			verdict = "met   "
			met++
		}
		fmt.Fprintf(b, "  %s  %s\n            want %s; measured %s\n", verdict, t.Name, t.Want, t.Measured)
		if t.Detail != "" {
			fmt.Fprintf(b, "            %s\n", t.Detail)
		}
	}
	fmt.Fprintf(b, "  %d of %d met\n", met, len(r.Targets))
}

func (c Creation) text(b *strings.Builder) {
	fmt.Fprintf(b, "\n%s partitions in %s topics\n", whole(uint64(c.Partitions)), whole(uint64(c.Topics)))
	fmt.Fprintf(b, "  created in %.2f s: %s/s\n", c.Seconds, grouped(c.PerSecond))
	fmt.Fprintf(b, "  idle memory %s before, %s after: %.1f KiB per partition\n",
		mebibytes(c.RSSBefore), mebibytes(c.RSSAfter), c.PerPartition/1024)
	fmt.Fprintf(b, "  stopped and started again in %.2f s; idle memory then %s: %.1f KiB per partition\n",
		c.ReopenSeconds, mebibytes(c.RSSReopened), c.PerPartitionReopened/1024)
}

func (c Restart) text(b *strings.Builder) {
	fmt.Fprintf(b, "\nrestart with %.1f GB (%s records) stored, until the first answered fetch\n",
		float64(c.StoredBytes)/1e9, whole(c.Records))
	fmt.Fprintf(b, "  after a clean stop         %.3f s (%.3f)\n", c.CleanMedian, c.Clean)
	fmt.Fprintf(b, "  after kill -9 under load   %.3f s (%.3f)\n", c.KillMedian, c.Killed)
}

func (f *Failover) text(b *strings.Builder) {
	caption(b, f.Workload, f.System, f.Version, f.Durability, f.Settings)
	fmt.Fprintf(b, "  %d trials, ms: %.0f\n", len(f.Trials), f.Trials)
	fmt.Fprintf(b, "  median %s, p99 %s\n", span(f.Median*1e3), span(f.P99*1e3))
}

func (d *Disturbance) text(b *strings.Builder) {
	caption(b, d.Workload, d.System, d.Version, d.Durability, d.Settings)
	fmt.Fprintf(b, "  %s sends in %.1f s, %s failed", whole(d.Sends), d.Seconds, whole(d.Errors))
	if d.FirstError != "" {
		fmt.Fprintf(b, ": %s", d.FirstError)
	}
	fmt.Fprintf(b, "\n  steps, s: %.2f\n", d.Steps)
	fmt.Fprintf(b, "  ack meanwhile  %s\n", d.Latency)
	fmt.Fprintf(b, "  ack before     %s\n", d.Calm)
	if d.SendLag != nil {
		fmt.Fprintf(b, "  of that, generator behind schedule  p50 %s  p99 %s\n", span(d.SendLag.P50Us), span(d.SendLag.P99Us))
	}
}

// span writes microseconds readably.
func span(us float64) string {
	switch {
	case us < 1000:
		return strconv.FormatFloat(us, 'f', 0, 64) + " us"
	case us < 1e6:
		return strconv.FormatFloat(us/1e3, 'f', 2, 64) + " ms"
	default:
		return strconv.FormatFloat(us/1e6, 'f', 2, 64) + " s"
	}
}

func mebibytes(n uint64) string { return fmt.Sprintf("%.0f MiB", float64(n)/(1<<20)) }

// grouped writes a whole number with commas; small ones with what digits they need.
func grouped(v float64) string {
	if v < 100 {
		return strconv.FormatFloat(v, 'f', 1, 64)
	}
	return whole(uint64(math.Round(v)))
}

// whole writes a whole number with commas.
func whole(v uint64) string {
	s := strconv.FormatUint(v, 10)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}
