package log

import (
	"sync/atomic"
	"time"
)

// counters are read by Stats.
type counters struct {
	tailHits, tailMisses atomic.Uint64
	holes                atomic.Uint64
	compact              compactStats
	scrub                scrubStats
}

// Stats describes the store. Counters are since Open.
type Stats struct {
	JournalMode     string // "direct+dsync" or "fdatasync"
	Partitions      int
	Groups          uint64 // commit groups written
	Appends         uint64 // entries in them
	JournalBytes    uint64 // in them, without padding
	JournalPadding  uint64
	JournalLive     int64  // bytes that recovery would read at most
	JournalFiles    int    // in use and blank
	Stalls          uint64 // times the writer waited for a blank file or a checkpoint
	Sync            Latency
	Checkpoints     uint64
	Checkpoint      Latency
	CheckpointBytes int64
	TailHits        uint64 // reads served from the memory tail
	TailMisses      uint64
	TailBytes       int64 // memory of the tail
	OpenFiles       int
	DiskFree        uint64
	Full            bool // appends are refused
	Holes           uint64
	Recovery        time.Duration // what Open took
	Compact         CompactStats
	Scrub           ScrubStats
}

// Stats reads the counters.
func (s *Store) Stats() Stats {
	j := s.journal
	st := Stats{
		JournalMode: j.mode(), Groups: j.stats.groups.Load(), Appends: j.stats.appends.Load(), JournalBytes: j.stats.bytes.Load(),
		JournalPadding: j.stats.padding.Load(), Stalls: j.stats.stalls.Load(), Sync: j.stats.sync.Read(),
		Checkpoints: s.checkpoints.count.Load(), Checkpoint: s.checkpoints.took.Read(), CheckpointBytes: s.checkpoints.bytes.Load(),
		TailHits: s.counters.tailHits.Load(), TailMisses: s.counters.tailMisses.Load(), TailBytes: s.tail.size(),
		OpenFiles: s.files.open(), DiskFree: s.reserve.free.Load(), Full: s.reserve.full.Load(),
		Holes: s.counters.holes.Load(), Recovery: s.started,
	}
	st.Compact, st.Scrub = s.counters.compact.stats(), s.counters.scrub.stats()
	s.mu.RLock()
	st.Partitions = len(s.partitions)
	s.mu.RUnlock()
	j.mu.Lock()
	st.JournalLive, st.JournalFiles = j.liveBytes(), len(j.live)+len(j.free)
	j.mu.Unlock()
	return st
}
