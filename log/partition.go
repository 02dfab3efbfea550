package log

import (
	"fmt"
	"sync"
	"sync/atomic"
)

// Partition is one partition's log. Appends, truncation and configuration changes come from one owner at a time;
// reads run at any time from any goroutine. An idle partition costs a few hundred bytes: everything else is made at
// first use.
//
// Locks: write is held by whoever changes the log's bytes, mu guards what readers share. write is taken before mu,
// mu before the journal's queue; nothing else is taken under them but leaf locks (open files, memory tail).
type Partition struct {
	s      *Store
	id     ID
	number uint32 // in journal entries

	durable    atomic.Int64 // end of what has the durability that the topic promises
	durableCap atomic.Int64 // while truncations are pending: nothing beyond the lowest is durable

	write sync.Mutex
	mu    sync.Mutex

	// Guarded by mu; those marked (write) change only under both, so either lock suffices to read them.
	config     Config // (write)
	journaled  bool   // (write) batches go through the journal; lags behind config.Fsync, see SetConfig
	changed    bool   // on the journal's list for the next checkpoint
	deleted    bool   // (write)
	generation uint32 // (write) of new segments
	start, end int64  // end: (write)
	lastTime   int64  // (write)
	lastEpoch  uint32 // (write)
	applied    uint64 // sequence number of the last journal entry reflected here
	sealed     bool   // (write) the next append begins a new segment
	truncating int    // truncations that are not durable yet
	segments   []*segment
	epochs     []EpochStart
	values     []value
	holes      []Hole
	snapshot   *snapshot
	cuts       []cutMark // truncations that snapshot files may be older than, by generation and end
	unsynced   bool      // on the flusher's list

	// Owned by the checkpointer.
	record         []byte    // as in the last checkpoint
	snapshotFile   int64     // offset of the newest producers file, or less where truncations took it away; -1 if none
	snapshotDue    *snapshot // to be saved as a file once the checkpoint that captured it is durable
	directorySaved bool      // the directory's name is durable

	snapshotter func() (int64, []byte)
	retainBelow func() int64 // see SetRetentionLimit
	recent      *recent
	hints       *hints
	compact     *compactState
	strays      []segmentName // (write) files found at recovery that are not part of the log, not removed yet
}

// EpochStart says at which offset a leader's epoch began.
type EpochStart struct {
	Epoch uint32
	First int64
}

// Hole is a range of offsets that was found damaged and is not served.
type Hole struct {
	From, To int64 // offsets [From, To)
	File     string
	Position int64
}

// value is one of a partition's small durable facts.
type value struct {
	key  uint8
	data []byte
}

// snapshot is a view's state that covers everything below offset.
type snapshot struct {
	offset     int64
	generation uint32 // of the partition when it was taken
	state      []byte
}

// ID is the partition's name.
func (p *Partition) ID() ID { return p.id }

// Start is the log start: the lowest offset that may be read.
func (p *Partition) Start() int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.start
}

// End is the offset that the next append takes.
func (p *Partition) End() int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.end
}

// Durable is the end of what has the durability that the topic promises. Durable <= End.
func (p *Partition) Durable() int64 { return min(p.durable.Load(), p.durableCap.Load()) }

// raiseDurable notes that the log is durable up to end.
func (p *Partition) raiseDurable(end int64) {
	for {
		now := p.durable.Load()
		if now >= end || p.durable.CompareAndSwap(now, end) {
			return
		}
	}
}

// LastAppendTime is the append time of the last batch in Unix nanoseconds, 0 if there never was one.
func (p *Partition) LastAppendTime() int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.lastTime
}

// LastEpoch is the leader epoch of the last batch.
func (p *Partition) LastEpoch() uint32 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.lastEpoch
}

// Epochs lists the leader epochs present in the log with their first offsets, ascending.
func (p *Partition) Epochs() []EpochStart {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]EpochStart(nil), p.epochs...)
}

// Config is the configuration as last set.
func (p *Partition) Config() Config {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.config
}

// Holes lists the damaged ranges found so far.
func (p *Partition) Holes() []Hole {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]Hole(nil), p.holes...)
}

// PartitionStat describes a partition.
type PartitionStat struct {
	Start, End, Durable int64
	Bytes               int64 // in segments
	Segments            int
	LastAppendTime      int64
	Holes               []Hole
}

// Stat describes the partition.
func (p *Partition) Stat() PartitionStat {
	p.mu.Lock()
	defer p.mu.Unlock()
	st := PartitionStat{
		Start: p.start, End: p.end, Durable: p.Durable(), Segments: len(p.segments),
		LastAppendTime: p.lastTime, Holes: append([]Hole(nil), p.holes...),
	}
	for _, g := range p.segments {
		st.Bytes += g.size
	}
	return st
}

// SetSnapshotter registers the owner's view for checkpoints. fn returns a state and the offset below which it covers
// everything; it is called from the checkpoint goroutine with no lock of the log held, and not from within Append.
// An offset below 0 means that there is nothing to keep.
func (p *Partition) SetSnapshotter(fn func() (offset int64, state []byte)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.snapshotter = fn
}

// Snapshot returns the newest state that is known for an offset at or below the end, to replay from there. An offset
// below Start says that the log no longer has all that followed the state. With none it returns the log start and nil.
// state must not be changed.
func (p *Partition) Snapshot() (offset int64, state []byte) { return p.SnapshotAt(maxOffset) }

// SnapshotAt is Snapshot for the log as it was when it ended at end: the newest state for an offset at or below end and
// below or at End. Whoever keeps a view over a truncation calls it after TruncateTo has returned, restores the state and
// applies Batches from offset on; nothing of what was cut off is in it, also after a crash. The newest state is that of
// the last checkpoint; where that covers too much, there is about one for each segment. It may read files.
func (p *Partition) SnapshotAt(end int64) (offset int64, state []byte) {
	for {
		p.mu.Lock()
		snap, start, generation, upto := p.snapshot, p.start, p.generation, min(end, p.end)
		saved := p.snapshotFile >= 0 || len(p.segments) > 1
		p.mu.Unlock()
		if (snap == nil || snap.offset > upto) && saved {
			snap = p.loadSnapshot(upto)
		}
		p.mu.Lock()
		same := p.generation == generation
		p.mu.Unlock()
		switch {
		case !same: // a truncation came in between
		case snap == nil || snap.offset > upto:
			return start, nil
		default:
			return snap.offset, snap.state
		}
	}
}

// PutValue stores a small fact about the partition (a fence, a replica-set version), or removes it if data is empty.
// Value shows it at once; it is durable when c completes. c may be nil.
func (p *Partition) PutValue(key uint8, data []byte, c Completion) error {
	if len(data)+1 > p.s.journal.maxEntry() {
		return fmt.Errorf("value of %d bytes: %w", len(data), ErrTooLarge)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.usable(); err != nil {
		return err
	}
	payload := encodeValue(key, data)
	if err := p.note(entryValue, payload, c); err != nil {
		return err
	}
	p.setValue(key, payload[1:])
	return nil
}

// Value returns what PutValue stored, nil if nothing. It must not be changed.
func (p *Partition) Value(key uint8) []byte {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, v := range p.values {
		if v.key == key {
			return v.data
		}
	}
	return nil
}

// setValue keeps data, which must not change any more. The caller holds mu.
func (p *Partition) setValue(key uint8, data []byte) {
	kept := make([]value, 0, len(p.values)+1)
	for _, v := range p.values {
		if v.key != key {
			kept = append(kept, v)
		}
	}
	if len(data) > 0 {
		kept = append(kept, value{key, data})
	}
	p.values = kept
}

// note queues an entry about this partition. The caller holds mu and has not changed anything yet.
func (p *Partition) note(kind entryKind, data []byte, c Completion) error {
	seq, err := p.s.journal.enqueue(ticket{kind: kind, number: p.number, crc: checksum(data), data: data, p: p, c: c})
	if err != nil {
		return fmt.Errorf("%s of partition %s: %w", kind, p.id, err)
	}
	p.applied = seq
	return nil
}

// usable tells whether the partition may still be changed. The caller holds mu or write.
func (p *Partition) usable() error {
	if err := p.s.Err(); err != nil {
		return err
	}
	if p.deleted {
		return fmt.Errorf("partition %s: %w", p.id, ErrUnknownPartition)
	}
	return nil
}

// noteEpoch keeps the epoch table. The caller holds mu.
func (p *Partition) noteEpoch(epoch uint32, first int64) {
	if n := len(p.epochs); n == 0 || p.epochs[n-1].Epoch < epoch {
		p.epochs = append(p.epochs, EpochStart{epoch, first})
	}
	p.lastEpoch = epoch
}
