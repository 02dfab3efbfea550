package consensus

import (
	"errors"
	"fmt"
	"math"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"github.com/sequitur-mq/sequitur/log"
	"github.com/sequitur-mq/sequitur/record"
)

// RaftLogID names the internal partition that holds Raft's log, term and vote.
var RaftLogID = log.ID{Topic: [16]byte{'_', '_', 'r', 'a', 'f', 't'}}

// ErrDamaged is returned by OpenRaft when committed entries or the snapshots are damaged
// beyond what this disk can mend by itself. What a voter has acknowledged must not be
// forgotten under its name, so there is one way on: give the broker an empty data
// directory (keep the old one), and it joins as a new disk.
var ErrDamaged = errors.New("this disk's copy of the cluster metadata is damaged; move the data directory away and start the broker with an empty one, so that it joins as a new disk")

// The values of the log partition.
const (
	valueTerm     uint8 = 1 // u64 current term
	valueVoteTerm uint8 = 2 // u64 term of the last vote
	valueVoteFor  uint8 = 3 // address of the candidate voted for
)

const (
	raftEntryVersion = 1
	raftEntryHeader  = 1 + 1 + 8 + 8
	// What is cached of the end of the log, which is what followers that keep up
	// and the machine read.
	cachedEntries = 1024
	cachedBytes   = 8 << 20
	// maxGap bounds the offsets that one batch takes up.
	maxGap = 1 << 20
)

// raftLog keeps Raft's log and votes in a partition: an entry is a batch of one record,
// its offset is the entry's index. (Its leader epoch is always 1: after a snapshot was
// installed terms may fall, which epochs must not.) It implements
// raft.LogStore and raft.StableStore. The first error of the storage is final: it is
// reported once, and nothing is stored from then on. What is there can be read still.
//
// A log that is to go on at a higher index, because a snapshot took the place of
// entries that never came, begins with a batch of no records that takes up the
// offsets between. What is before such a batch is gone.
type raftLog struct {
	p   *log.Partition
	now func() time.Time
	die func(error)
	// covered is the index up to which every snapshot that is kept has what the entries
	// say: later ones stay, so that the older snapshot can stand in for the newer one.
	// nil: all that Raft removes goes.
	covered func() uint64
	// hasty breaks the rule that nothing is acknowledged before it is durable, for a
	// test that shows that this is noticed.
	hasty bool

	appends sync.Mutex // held by who changes the log
	builder *record.Builder
	buf     []byte
	cut     bool // a suffix was removed and nothing appended since

	mu          sync.Mutex
	err         error
	first, next uint64 // the log is [first, next)
	cache       entryCache
}

// openRaftLog opens the log, made if it is not there. Entries up to index covered are in
// a snapshot.
func openRaftLog(store *log.Store, covered uint64, now func() time.Time, die func(error)) (*raftLog, error) {
	p, err := internalPartition(store, RaftLogID)
	if err != nil {
		return nil, err
	}
	l := &raftLog{p: p, now: now, die: die, builder: record.NewBuilder(4 << 10)}
	if err := l.load(covered); err != nil {
		return nil, fmt.Errorf("open the Raft log: %w", err)
	}
	return l, nil
}

func internalPartition(store *log.Store, id log.ID) (*log.Partition, error) {
	p, ok := store.Partition(id)
	if ok {
		return p, nil
	}
	if err := store.Create(log.Spec{ID: id, Config: logConfig()}); err != nil {
		return nil, fmt.Errorf("create an internal partition of the metadata: %w", err)
	}
	p, _ = store.Partition(id)
	return p, nil
}

// load reads the whole log once, so that nothing unreadable is left in it.
func (l *raftLog) load(covered uint64) error {
	l.first = uint64(l.p.Start())
	from := l.p.Start()
	for {
		err := l.p.Batches(from, l.loadBatch)
		var corrupt *log.CorruptError
		if !errors.As(err, &corrupt) {
			if err != nil {
				return err
			}
			break
		}
		if uint64(corrupt.To) > covered+1 {
			return fmt.Errorf("%w: %w", ErrDamaged, err)
		}
		from, l.first = corrupt.To, uint64(corrupt.To) // a snapshot has it
		l.cache = entryCache{}
	}
	l.next = uint64(l.p.End())
	switch {
	case l.next == 0 || l.next <= covered:
		if err := l.jump(covered + 1); err != nil {
			return err
		}
	case l.first > uint64(l.p.Start()):
		if err := l.p.AdvanceStart(int64(l.first), nil); err != nil {
			return err
		}
	}
	if l.first > covered+1 {
		return fmt.Errorf("%w: the log begins at %d, the newest snapshot that can be read ends at %d", ErrDamaged, l.first, covered)
	}
	return nil
}

func (l *raftLog) loadBatch(b record.Batch) error {
	if b.Count() == 0 {
		l.first = uint64(b.NextOffset())
		l.cache = entryCache{}
		return nil
	}
	e, err := decodeEntry(append(record.Batch{}, b...))
	if err == nil {
		l.cache.add(e)
	}
	return err
}

// FirstIndex implements raft.LogStore.
func (l *raftLog) FirstIndex() (uint64, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.first == l.next {
		return 0, nil
	}
	return l.first, nil
}

// LastIndex implements raft.LogStore.
func (l *raftLog) LastIndex() (uint64, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.first == l.next {
		return 0, nil
	}
	return l.next - 1, nil
}

// IsMonotonic implements raft.MonotonicLogStore: there are no gaps.
func (l *raftLog) IsMonotonic() bool { return true }

// GetLog implements raft.LogStore. The data must not be changed.
func (l *raftLog) GetLog(index uint64, out *raft.Log) error {
	l.mu.Lock()
	first, next := l.first, l.next
	cached := l.cache.get(index)
	l.mu.Unlock()
	switch {
	case index < first || index >= next:
		return raft.ErrLogNotFound
	case cached != nil:
		*out = *cached
		return nil
	}
	e, err := l.read(index)
	if errors.Is(err, log.ErrOutOfRange) {
		return raft.ErrLogNotFound // removed meanwhile
	}
	if err != nil {
		return l.fail(fmt.Errorf("read Raft log entry %d: %w", index, err))
	}
	*out = *e
	return nil
}

func (l *raftLog) read(index uint64) (*raft.Log, error) {
	c, err := l.p.Read(int64(index), int64(index)+1, 1, true)
	if err != nil {
		return nil, err
	}
	defer c.Release()
	b, err := c.AppendTo(nil)
	if err != nil {
		return nil, err
	}
	batch, _, err := record.Parse(b, record.Limits{MaxBatchBytes: math.MaxInt32, MaxRecordsBytes: math.MaxInt32, MaxRecords: math.MaxInt32})
	if err != nil {
		return nil, err
	}
	return decodeEntry(batch)
}

// StoreLog implements raft.LogStore.
func (l *raftLog) StoreLog(e *raft.Log) error { return l.StoreLogs([]*raft.Log{e}) }

// StoreLogs implements raft.LogStore. The entries are durable when it returns. On a full
// disk it fails and may be called again.
func (l *raftLog) StoreLogs(entries []*raft.Log) error {
	if len(entries) == 0 {
		return nil
	}
	l.appends.Lock()
	defer l.appends.Unlock()
	if err := l.failed(); err != nil {
		return err
	}
	if index := entries[0].Index; index != l.next {
		if l.first != l.next || index < l.next {
			return l.fail(fmt.Errorf("store Raft log entry %d: the log is [%d, %d)", index, l.first, l.next))
		}
		if err := l.jump(index); err != nil {
			return l.fail(err)
		}
	}
	if err := l.append(entries); err != nil {
		err = fmt.Errorf("store Raft log entries from %d on: %w", entries[0].Index, err)
		if errors.Is(err, log.ErrStorageFull) && !l.cut {
			return err
		}
		// After a removal Raft takes the removed entries for there still if what was
		// to follow them is not.
		return l.fail(err)
	}
	l.cut = false
	l.mu.Lock()
	defer l.mu.Unlock()
	l.next += uint64(len(entries))
	for _, e := range entries {
		kept := *e
		l.cache.add(&kept)
	}
	return nil
}

// append appends entries that continue the log. The caller holds appends.
func (l *raftLog) append(entries []*raft.Log) error {
	at := max(l.now().UnixNano(), l.p.LastAppendTime())
	out := l.buf[:0]
	for i, e := range entries {
		if e.Index != entries[0].Index+uint64(i) {
			return fmt.Errorf("entry %d after %d", e.Index, entries[0].Index+uint64(i)-1)
		}
		l.builder.Reset()
		l.builder.Append(at/1e6, nil, encodeEntry(e), nil)
		b, err := l.builder.Build(nil, record.CodecNone, 0, 0, 0)
		if err != nil {
			return err
		}
		b.Stamp(int64(e.Index), 1, at)
		out = append(out, b...)
	}
	if cap(out) <= 1<<20 {
		l.buf = out
	}
	if l.hasty {
		_, err := l.p.Append(append([]byte{}, out...), make(done, 1))
		return err
	}
	return appendAndWait(l.p, out)
}

// jump makes the log empty at index. The caller holds appends, or is alone.
func (l *raftLog) jump(index uint64) error {
	if l.p.End() > l.p.Start() {
		if err := wait(func(c log.Completion) error { return l.p.TruncateTo(l.p.Start(), c) }); err != nil {
			return err
		}
	}
	for at := uint64(l.p.End()); at < index; at = uint64(l.p.End()) {
		l.builder.Reset()
		l.builder.SetLastOffsetDelta(uint32(min(index-at, maxGap) - 1))
		b, err := l.builder.Build(nil, record.CodecNone, 0, 0, 0)
		if err != nil {
			return err
		}
		b.Stamp(int64(at), 1, max(l.now().UnixNano(), l.p.LastAppendTime()))
		if err := appendAndWait(l.p, b); err != nil {
			return err
		}
	}
	if err := wait(func(c log.Completion) error { return l.p.AdvanceStart(int64(index), c) }); err != nil {
		return err
	}
	l.mu.Lock()
	l.first, l.next, l.cache = index, index, entryCache{}
	l.mu.Unlock()
	return nil
}

// DeleteRange implements raft.LogStore, for a prefix, a suffix or everything.
func (l *raftLog) DeleteRange(from, to uint64) error {
	l.appends.Lock()
	defer l.appends.Unlock()
	l.mu.Lock()
	first, next, err := l.first, l.next, l.err
	l.mu.Unlock()
	if err != nil {
		return err
	}
	from, to = max(from, first), min(to, next-1)
	switch {
	case from > to || first == next:
		return nil
	case to == next-1: // all of it, when from is first
		l.forget(first, from)
		l.cut = true
		err = wait(func(c log.Completion) error { return l.p.TruncateTo(int64(from), c) })
	case from == first:
		if l.covered != nil {
			to = min(to, l.covered())
		}
		if to < first {
			return nil
		}
		l.forget(to+1, next)
		err = l.p.AdvanceStart(int64(to+1), latch{l})
	default:
		return fmt.Errorf("delete Raft log entries %d to %d of [%d, %d): neither at its beginning nor at its end", from, to, first, next)
	}
	if err != nil {
		return l.fail(fmt.Errorf("delete Raft log entries %d to %d: %w", from, to, err))
	}
	return nil
}

// forget sets the bounds of the log.
func (l *raftLog) forget(first, next uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.first, l.next = first, next
	l.cache.keep(first, next)
}

// latch makes a failure of the storage known that nobody waits for.
type latch struct{ l *raftLog }

// Complete implements log.Completion.
func (c latch) Complete(err error) {
	if err != nil {
		_ = c.l.fail(err)
	}
}

// fail latches the first error, and returns it.
func (l *raftLog) fail(err error) error {
	if errors.Is(err, log.ErrClosed) {
		return err // on purpose
	}
	l.mu.Lock()
	first := l.err == nil
	if first {
		l.err = err
	}
	err = l.err
	l.mu.Unlock()
	if first {
		l.die(err)
	}
	return err
}

func (l *raftLog) failed() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.err
}

// Set implements raft.StableStore.
func (l *raftLog) Set(key, value []byte) error {
	k, err := stableKey(key)
	if err != nil {
		return err
	}
	if err := l.failed(); err != nil {
		return err
	}
	if string(l.p.Value(k)) == string(value) {
		return nil // durable already: nobody else sets it
	}
	if l.hasty {
		return l.p.PutValue(k, value, nil)
	}
	if err := wait(func(c log.Completion) error { return l.p.PutValue(k, value, c) }); err != nil {
		return l.fail(fmt.Errorf("store Raft's %s: %w", key, err))
	}
	return nil
}

// Get implements raft.StableStore.
func (l *raftLog) Get(key []byte) ([]byte, error) {
	k, err := stableKey(key)
	if err != nil {
		return nil, err
	}
	if l.failed() != nil {
		return nil, l.failed() // it may be one that did not get durable
	}
	return l.p.Value(k), nil
}

// SetUint64 implements raft.StableStore.
func (l *raftLog) SetUint64(key []byte, value uint64) error {
	return l.Set(key, le.AppendUint64(nil, value))
}

// GetUint64 implements raft.StableStore.
func (l *raftLog) GetUint64(key []byte) (uint64, error) {
	b, err := l.Get(key)
	if err != nil || len(b) == 0 {
		return 0, err
	}
	d := &decoder{b: b}
	value := d.u64()
	return value, d.err
}

func stableKey(key []byte) (uint8, error) {
	switch string(key) {
	case "CurrentTerm":
		return valueTerm, nil
	case "LastVoteTerm":
		return valueVoteTerm, nil
	case "LastVoteCand":
		return valueVoteFor, nil
	}
	return 0, fmt.Errorf("Raft wants to store %q, for which there is no place", key)
}
