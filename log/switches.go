package log

// switches break rules on purpose, for the tests that prove that the crash suite notices. They are all off outside this
// package's own tests.
type switches struct {
	sameSalt     bool         // journal laps are not told apart: neither by salt nor by lap number
	anySnapshot  bool         // saved snapshots of what was cut off pass for those of the log
	earlyFiles   bool         // snapshots are saved as files before the checkpoint that captured them is durable
	retainAll    bool         // retention knows no limit
	dropEpoch    bool         // the epoch of the record before the log start is forgotten
	skipCut      bool         // a checkpoint does not sync segments that are cut while it runs
	lazyRepair   bool         // a repaired segment takes its place without being synced
	lateSnapshot bool         // snapshots are taken after the state that a checkpoint captures
	noRoom       func(*Store) // called when the journal has found no room for a file
	keyBytes     int64        // memory of compaction's key map
}

// identify sets what tells the groups of this use of a file from those of other uses.
func (j *journal) identify(h *fileHeader) {
	h.groupLap, h.groupSalt = h.lap, h.salt
	if j.switches.sameSalt {
		h.groupLap, h.groupSalt = 1, 1
	}
}

// takeLateSnapshots puts what the owners say now into the records captured before.
func takeLateSnapshots(list []*Partition) {
	for _, p := range list {
		p.mu.Lock()
		snapshotter, data := p.snapshotter, p.record
		p.mu.Unlock()
		r, err := decodePartitionRecord(data)
		if snapshotter == nil || err != nil {
			continue
		}
		offset, state := snapshotter()
		r.snapshot = &snapshot{offset, r.generation, state}
		p.mu.Lock()
		p.record = r.encode()
		p.mu.Unlock()
	}
}
