package broker

import (
	"cmp"
	"os"
	"runtime"
	runtimemetrics "runtime/metrics"
	"slices"
	"time"

	"github.com/sequitur-mq/sequitur/wire"
)

// DescribeBroker, version 1: what the broker's process is, holds and uses.

func (h *handler) describeBroker(r request) error {
	var req wire.DescribeBrokerRequest
	if err := r.decode(&req); err != nil {
		return err
	}
	d := h.describe()
	resp := wire.DescribeBrokerResponse{
		PID: uint32(d.PID), UptimeMs: uint64(d.Uptime.Milliseconds()),
		CPUUserUs: uint64(d.CPUUser.Microseconds()), CPUSystemUs: uint64(d.CPUSystem.Microseconds()),
		RSSBytes: d.RSS, PeakRSSBytes: d.PeakRSS, DataDir: d.DataDir, JournalMode: d.JournalMode,
		Partitions: uint32(d.Partitions), GoVersion: d.GoVersion, Connections: uint32(d.Connections),
		DiskFree: d.DiskFree, Version: d.Version,
	}
	for name, value := range d.Stats {
		resp.Stats = append(resp.Stats, wire.Stat{Name: name, Value: value})
	}
	slices.SortFunc(resp.Stats, func(a, b wire.Stat) int { return cmp.Compare(a.Name, b.Name) })
	r.answer(&resp)
	return nil
}

// Description is what a broker says about itself.
type Description struct {
	PID         int
	Uptime      time.Duration
	CPUUser     time.Duration // of the process, since its start
	CPUSystem   time.Duration
	RSS         uint64 // bytes
	PeakRSS     uint64 // bytes
	DataDir     string
	JournalMode string // for example "direct+dsync" or "fdatasync"
	Partitions  int
	GoVersion   string
	Connections int
	DiskFree    uint64 // bytes
	Version     string
	Stats       map[string]float64
}

// heapFigures are the heap objects allocated since the start, and the bytes that live or dead objects take now.
func heapFigures() (mallocs, bytes float64) {
	samples := []runtimemetrics.Sample{
		{Name: "/gc/heap/allocs:objects"}, {Name: "/gc/heap/tiny/allocs:objects"}, {Name: "/memory/classes/heap/objects:bytes"},
	}
	runtimemetrics.Read(samples)
	values := make([]float64, len(samples))
	for i, s := range samples {
		if s.Value.Kind() == runtimemetrics.KindUint64 {
			values[i] = float64(s.Value.Uint64())
		}
	}
	return values[0] + values[1], values[2]
}

// Describe describes the broker and its process.
func (b *Broker) Describe() Description {
	u := processUsage()
	st := b.store.Stats()
	s := b.Snapshot()
	stats := s.stats()
	stats["go_mallocs"], stats["go_heap_bytes"] = heapFigures()
	return Description{
		PID: os.Getpid(), Uptime: time.Since(b.started), CPUUser: u.user, CPUSystem: u.system,
		RSS: u.rss, PeakRSS: u.peak, DataDir: b.cfg.DataDir, JournalMode: st.JournalMode,
		Partitions: int(s.Partitions), GoVersion: runtime.Version(), Connections: int(s.Connections),
		DiskFree: st.DiskFree, Version: b.cfg.Version, Stats: stats,
	}
}
