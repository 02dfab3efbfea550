package bench

import (
	"cmp"
	"context"
	"fmt"
	"runtime"
	"slices"
	"time"
)

// Round is what one run of a workload measured. Fields that a workload or a server does not give are nil or 0.
type Round struct {
	Records   uint64  `json:"records"`
	Bytes     uint64  `json:"bytes"` // of values
	Seconds   float64 `json:"seconds"`
	PerSecond float64 `json:"perSecond"`
	MBPerSec  float64 `json:"mbPerSecond"`
	// Latency is of acknowledgements (produce) or from intended sending to reception (end to end).
	Latency *Latency `json:"latency,omitempty"`
	// AckLatency is of acknowledgements in an end-to-end run.
	AckLatency *Latency `json:"ackLatency,omitempty"`
	// SendLag is how late the generator itself was against its schedule (open loop only); part of Latency.
	SendLag *Latency `json:"sendLag,omitempty"`
	// FirstUs is from the start of consuming to the first record.
	FirstUs float64 `json:"firstUs,omitempty"`
	// Processor seconds per million records; server's only where it runs on this machine or tells.
	ServerCPU *float64 `json:"serverCpuPerMillion,omitempty"`
	ClientCPU float64  `json:"clientCpuPerMillion"`
	// ServerCores is how many processors the server kept busy on average.
	ServerCores *float64 `json:"serverCores,omitempty"`
	// OtherCores is how many processors everything else on this machine kept busy, kernel threads included: what it
	// takes away is missing from the figures.
	OtherCores *float64 `json:"otherCores,omitempty"`
	ServerRSS  uint64   `json:"serverRss,omitempty"`
	ServerPeak uint64   `json:"serverPeakRss,omitempty"` // since the server started
	// Heap objects allocated per record, everything counted (also the measuring itself).
	ClientAllocs float64  `json:"clientAllocsPerRecord"`
	ServerAllocs *float64 `json:"serverAllocsPerRecord,omitempty"`
}

// meter takes the readings around the timed part of a round.
type meter struct {
	sys     System
	start   time.Time
	cpu     time.Duration
	machine time.Duration // 0 where not told
	mallocs uint64
	server  Usage
	known   bool
}

func startMeter(ctx context.Context, sys System) (*meter, error) {
	m := &meter{sys: sys}
	var err error
	if m.server, m.known, err = sys.Usage(ctx); err != nil {
		return nil, fmt.Errorf("read what the server uses: %w", err)
	}
	m.mallocs, m.cpu, m.machine = ownMallocs(), ownCPU(), machineCPU()
	m.start = time.Now()
	return m, nil
}

// stop ends the timed part and returns the round's figures.
func (m *meter) stop(ctx context.Context, records, bytes uint64) (Round, error) {
	seconds := time.Since(m.start).Seconds()
	millions := max(float64(records), 1) / 1e6
	r := Round{Records: records, Bytes: bytes, Seconds: seconds}
	own, machine := (ownCPU() - m.cpu).Seconds(), (machineCPU() - m.machine).Seconds()
	r.ClientCPU = own / millions
	r.ClientAllocs = float64(ownMallocs()-m.mallocs) / max(float64(records), 1)
	if seconds > 0 {
		r.PerSecond, r.MBPerSec = float64(records)/seconds, float64(bytes)/1e6/seconds
	}
	if !m.known {
		return r, nil
	}
	after, _, err := m.sys.Usage(ctx)
	if err != nil {
		return r, fmt.Errorf("read what the server used: %w", err)
	}
	spent := (after.CPU - m.server.CPU).Seconds()
	cpu, cores := spent/millions, spent/seconds
	r.ServerCPU, r.ServerCores = &cpu, &cores
	r.ServerRSS, r.ServerPeak = after.RSS, after.PeakRSS
	if m.machine > 0 {
		others := max(machine-own-spent, 0) / seconds
		r.OtherCores = &others
	}
	if after.Mallocs > 0 {
		allocs := float64(after.Mallocs-m.server.Mallocs) / max(float64(records), 1)
		r.ServerAllocs = &allocs
	}
	return r, nil
}

func ownMallocs() uint64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.Mallocs
}

// MedianRound takes the median of every figure on its own. The curve of the latency is that of the round whose p50 is
// the median.
func MedianRound(rounds []Round) Round {
	if len(rounds) == 0 {
		return Round{}
	}
	of := func(get func(Round) float64) float64 { return medianOf(rounds, get) }
	m := Round{
		Records:   uint64(of(func(r Round) float64 { return float64(r.Records) })),
		Bytes:     uint64(of(func(r Round) float64 { return float64(r.Bytes) })),
		Seconds:   of(func(r Round) float64 { return r.Seconds }),
		PerSecond: of(func(r Round) float64 { return r.PerSecond }),
		MBPerSec:  of(func(r Round) float64 { return r.MBPerSec }),
		FirstUs:   of(func(r Round) float64 { return r.FirstUs }),
		ClientCPU: of(func(r Round) float64 { return r.ClientCPU }), ClientAllocs: of(func(r Round) float64 { return r.ClientAllocs }),
		ServerRSS:  uint64(of(func(r Round) float64 { return float64(r.ServerRSS) })),
		ServerPeak: uint64(of(func(r Round) float64 { return float64(r.ServerPeak) })),
	}
	m.Latency = medianLatency(rounds, func(r Round) *Latency { return r.Latency })
	m.AckLatency = medianLatency(rounds, func(r Round) *Latency { return r.AckLatency })
	m.SendLag = medianLatency(rounds, func(r Round) *Latency { return r.SendLag })
	m.ServerCPU = medianKnown(rounds, func(r Round) *float64 { return r.ServerCPU })
	m.ServerCores = medianKnown(rounds, func(r Round) *float64 { return r.ServerCores })
	m.OtherCores = medianKnown(rounds, func(r Round) *float64 { return r.OtherCores })
	m.ServerAllocs = medianKnown(rounds, func(r Round) *float64 { return r.ServerAllocs })
	return m
}

func medianOf[T any](items []T, get func(T) float64) float64 {
	values := make([]float64, len(items))
	for i, item := range items {
		values[i] = get(item)
	}
	return median(values)
}

// median of an even number of values is the mean of the middle two; of none it is 0.
func median(values []float64) float64 {
	if len(values) == 0 {
		return 0
	}
	v := slices.Sorted(slices.Values(values))
	if n := len(v); n%2 == 0 {
		return (v[n/2-1] + v[n/2]) / 2
	}
	return v[len(v)/2]
}

func medianKnown(rounds []Round, get func(Round) *float64) *float64 {
	var known []float64
	for _, r := range rounds {
		if v := get(r); v != nil {
			known = append(known, *v)
		}
	}
	if len(known) == 0 {
		return nil
	}
	m := median(known)
	return &m
}

func medianLatency(rounds []Round, get func(Round) *Latency) *Latency {
	var known []*Latency
	for _, r := range rounds {
		if l := get(r); l != nil {
			known = append(known, l)
		}
	}
	if len(known) == 0 {
		return nil
	}
	of := func(field func(*Latency) float64) float64 { return medianOf(known, field) }
	m := &Latency{
		Count: int64(of(func(l *Latency) float64 { return float64(l.Count) })),
		MinUs: of(func(l *Latency) float64 { return l.MinUs }), MeanUs: of(func(l *Latency) float64 { return l.MeanUs }),
		P50Us: of(func(l *Latency) float64 { return l.P50Us }), P90Us: of(func(l *Latency) float64 { return l.P90Us }),
		P99Us: of(func(l *Latency) float64 { return l.P99Us }), P999Us: of(func(l *Latency) float64 { return l.P999Us }),
		MaxUs: of(func(l *Latency) float64 { return l.MaxUs }),
	}
	slices.SortFunc(known, func(a, b *Latency) int { return cmp.Compare(a.P50Us, b.P50Us) })
	m.Curve = known[len(known)/2].Curve
	return m
}
