package log

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/sequitur-mq/sequitur/internal/vfs"
	"github.com/sequitur-mq/sequitur/record"
)

// workload drives a store through everything that changes its files, and notes in the model what was asked for and
// what was acknowledged.
type workload struct {
	dir   string
	fs    *vfs.Mem
	rng   *rand.Rand
	model *model
	store *Store
	clock atomic.Int64
	tune  func(*Options)
	wrap  func(vfs.FS) vfs.FS // may be nil

	builder *record.Builder
	comp    *record.Compressor
	seqs    map[ID]uint32
	epochs  map[ID]uint32
	full    bool // the disk may be full: refusals are fine
	refused int
}

const (
	partAlways       = iota // fsync always, small segments: rolls, truncation, prefix deletes, values
	partInterval            // fsync interval
	partNever               // fsync never
	partRetained            // retention by size
	partCompact             // key compaction
	partCompactNever        // key compaction without the journal
	partChanging            // changes its fsync mode
	partDeleted             // deleted and created again, several times
	partCount
)

func workloadID(n int) ID { return ID{Topic: [16]byte{15: byte(n + 1)}, Partition: uint32(n)} }

func workloadConfig(n int) Config {
	c := Config{SegmentBytes: 8 << 10, FsyncInterval: time.Millisecond}
	switch n {
	case partInterval:
		c.Fsync = FsyncInterval
	case partNever:
		c.Fsync = FsyncNever
	case partRetained:
		c.RetentionBytes = 12 << 10
	case partCompact, partCompactNever:
		c.Compact, c.TombstoneRetention = true, 1000*time.Hour
		if n == partCompactNever {
			c.Fsync = FsyncNever
		}
	}
	return c.withDefaults()
}

func newWorkload(fsys *vfs.Mem, seed uint64) *workload {
	w := &workload{
		dir: "/var/data", fs: fsys, rng: rand.New(rand.NewPCG(seed, 7)), model: newModel(),
		builder: record.NewBuilder(0), comp: record.NewCompressor(), seqs: map[ID]uint32{}, epochs: map[ID]uint32{},
	}
	w.clock.Store(1_700_000_000_000_000_000)
	return w
}

func (w *workload) options(fsys vfs.FS) Options {
	o := Options{
		FS:               fsys,
		Now:              func() time.Time { return time.Unix(0, w.clock.Load()) },
		JournalFileBytes: minJournalFileBytes, JournalMaxBytes: 3 * minJournalFileBytes,
		TailBytes: 16 << 10, ReserveBytes: -1, BallastBytes: -1,
		CheckpointInterval: 1000 * time.Hour, RetentionInterval: 1000 * time.Hour,
		ScrubInterval: -1, CompactInterval: -1,
	}
	if w.wrap != nil {
		o.FS = w.wrap(fsys)
	}
	if w.tune != nil {
		w.tune(&o)
	}
	return o
}

// errStopped ends a workload whose store has failed.
var errStopped = errors.New("workload stopped")

// run opens the store and does rounds of random work. It returns nil, or errStopped once storage failed.
func (w *workload) run(rounds int) (err error) {
	defer func() {
		if errors.Is(err, ErrStorageFailed) || errors.Is(err, vfs.ErrCrashed) {
			err = errStopped
		}
	}()
	if w.store, err = Open(w.dir, w.options(w.fs)); err != nil {
		return err
	}
	w.ready()
	if err := w.create(partAlways, partInterval, partNever, partRetained, partCompact, partCompactNever, partChanging, partDeleted); err != nil {
		return err
	}
	w.ready()
	for range rounds {
		if err := w.step(); err != nil {
			return err
		}
	}
	return nil
}

// step does one thing. The weights make appends the rule, so that the journal goes round.
func (w *workload) step() error {
	switch n := w.rng.IntN(100); {
	case n < 62:
		return w.burst()
	case n < 68:
		return w.put()
	case n < 72:
		return w.truncate()
	case n < 75:
		return w.advance()
	case n < 77:
		return w.reset()
	case n < 80:
		return w.reconfigure()
	case n < 88:
		return w.checkpoint()
	case n < 92:
		w.store.Retain()
		return w.store.Err()
	case n < 96:
		return w.background(w.store.Compact(true))
	case n < 98:
		return w.recreate()
	}
	return w.reopen()
}

func (w *workload) background(err error) error {
	if w.full && (vfs.IsDiskFull(err) || errors.Is(err, ErrStorageFull)) {
		w.refused++
		return nil
	}
	return err
}

// checkpoint takes one while appends go on, or by itself.
func (w *workload) checkpoint() error {
	if w.rng.IntN(2) == 0 {
		return w.background(w.store.checkpoints.once(false))
	}
	done := make(chan error, 1)
	go func() { done <- w.store.checkpoints.once(false) }()
	err := w.burst()
	return errors.Join(err, w.background(<-done))
}

func (w *workload) create(parts ...int) error {
	var specs []Spec
	var changes []*modelChange
	for _, n := range parts {
		c := &modelChange{kind: didCreate, config: workloadConfig(n)}
		w.model.begin(workloadID(n), c)
		changes = append(changes, c)
		specs = append(specs, Spec{workloadID(n), workloadConfig(n)})
	}
	if err := w.store.Create(specs...); err != nil {
		return err
	}
	w.model.ack(changes...)
	return nil
}

// recreate deletes a partition, and creates one of the same name where its directory is gone already.
func (w *workload) recreate() error {
	id := workloadID(partDeleted)
	if _, ok := w.store.Partition(id); ok {
		c := &modelChange{kind: didDelete}
		w.model.begin(id, c)
		if err := w.store.Delete(id); err != nil {
			return err
		}
		w.model.ack(c)
		return nil
	}
	err := w.create(partDeleted)
	if errors.Is(err, ErrExists) {
		p := w.model.parts[id]
		w.model.refuse(id, false, p.changes[len(p.changes)-1])
		return nil
	}
	return err
}

// burst appends to some partitions without waiting, then waits for all.
func (w *workload) burst() error {
	n := 1 + w.rng.IntN(6)
	done := make(chan error, n)
	pending := 0
	for range n {
		part := w.rng.IntN(partCount)
		waits, err := w.append(part, done)
		if err != nil {
			return err
		}
		if waits {
			pending++
		}
	}
	return drain(done, pending)
}

func drain(done chan error, n int) (err error) {
	for range n {
		err = errors.Join(err, <-done)
	}
	return err
}

// append adds one batch, or several at once that may exceed a commit group.
func (w *workload) append(part int, done chan error) (pending bool, err error) {
	id := workloadID(part)
	p, ok := w.store.Partition(id)
	if !ok {
		return false, nil
	}
	var batches []byte
	var changes []*modelChange
	n, next := 1, p.End()
	switch w.rng.IntN(24) {
	case 0:
		n = 2 + w.rng.IntN(30)
	case 1, 2:
		n = 2 + w.rng.IntN(3)
	}
	for range n {
		b, err := w.batch(p, part, next)
		if err != nil {
			return false, err
		}
		next = b.NextOffset()
		batches = append(batches, b...)
		changes = append(changes, &modelChange{kind: didAppend, batch: b})
	}
	w.model.begin(id, changes...)
	pending, err = p.Append(batches, &modelAck{w.model, changes, done})
	switch {
	case errors.Is(err, ErrStorageFull) && w.full:
		w.refused++
		w.model.refuse(id, p.Config().Fsync != FsyncAlways, changes...)
		return false, nil
	case err != nil:
		return false, err
	case pending:
		w.model.mu.Lock()
		for _, c := range changes {
			c.hard = true
		}
		w.model.mu.Unlock()
	default:
		w.model.ack(changes...)
	}
	return pending, nil
}

// batch makes the next batch of a partition: some records under few keys, now and then a tombstone, all codecs.
func (w *workload) batch(p *Partition, part int, base int64) (record.Batch, error) {
	w.builder.Reset()
	now := w.clock.Add(1_000_000)
	for range 1 + w.rng.IntN(5) {
		key := fmt.Appendf(nil, "key-%d", w.rng.IntN(12))
		value := make([]byte, w.rng.IntN(700))
		for i := range value {
			value[i] = byte(w.rng.IntN(7)) // compressible
		}
		switch w.rng.IntN(12) {
		case 0:
			value = nil
		case 1:
			key = nil
		}
		w.builder.Append(now/1e6, key, value, nil)
	}
	id := p.ID()
	built, err := w.builder.Build(w.comp, record.Codec(w.rng.IntN(3)), uint64(part+1), 1, w.seqs[id])
	if err != nil {
		return nil, err
	}
	b := append(record.Batch(nil), built...)
	w.seqs[id] = b.NextSequence()
	if base == p.End() && w.rng.IntN(20) == 0 {
		w.epochs[id] = max(w.epochs[id], p.LastEpoch()) + 1
	}
	b.Stamp(base, max(w.epochs[id], p.LastEpoch()), now)
	return b, nil
}

func (w *workload) put() error {
	id := workloadID(w.rng.IntN(partCount))
	p, ok := w.store.Partition(id)
	if !ok {
		return nil
	}
	c := &modelChange{kind: didValue, key: uint8(w.rng.IntN(3)), value: fmt.Appendf(nil, "v%d", w.rng.IntN(1000))}
	if w.rng.IntN(5) == 0 {
		c.value = nil
	}
	return w.journaled(id, c, func(a Completion) error { return p.PutValue(c.key, c.value, a) })
}

// journaled asks for a change and waits for it.
func (w *workload) journaled(id ID, c *modelChange, ask func(Completion) error) error {
	done := make(chan error, 1)
	w.model.begin(id, c)
	if err := ask(&modelAck{w.model, []*modelChange{c}, done}); err != nil {
		if w.full && vfs.IsDiskFull(err) {
			w.model.refuse(id, false, c)
			return nil
		}
		return err
	}
	return <-done
}

// truncate cuts a suffix at a batch boundary.
func (w *workload) truncate() error {
	part := []int{partAlways, partNever, partInterval, partChanging}[w.rng.IntN(4)]
	id := workloadID(part)
	p, ok := w.store.Partition(id)
	if !ok {
		return nil
	}
	state := w.model.parts[id].newestState()
	n := len(state.batches)
	if n == 0 {
		return nil
	}
	c := &modelChange{kind: didTruncate, offset: state.batches[n-1-w.rng.IntN(min(n, 12))].BaseOffset()}
	if c.offset < state.start {
		return nil
	}
	return w.journaled(id, c, func(a Completion) error { return p.TruncateTo(c.offset, a) })
}

// advance moves the log start.
func (w *workload) advance() error {
	part := []int{partAlways, partNever, partInterval, partChanging}[w.rng.IntN(4)]
	id := workloadID(part)
	p, ok := w.store.Partition(id)
	if !ok {
		return nil
	}
	state := w.model.parts[id].newestState()
	if state.end <= state.start {
		return nil
	}
	c := &modelChange{kind: didStart, offset: state.start + w.rng.Int64N(state.end-state.start+1)/2}
	return w.journaled(id, c, func(a Completion) error { return p.AdvanceStart(c.offset, a) })
}

// reset begins a log anew, within what it was or beyond its end.
func (w *workload) reset() error {
	part := []int{partAlways, partNever, partInterval, partChanging, partCompact, partCompactNever}[w.rng.IntN(6)]
	id := workloadID(part)
	p, ok := w.store.Partition(id)
	if !ok {
		return nil
	}
	state := w.model.parts[id].newestState()
	c := &modelChange{kind: didReset, offset: state.start + w.rng.Int64N(2*(state.end-state.start)+10)}
	return w.journaled(id, c, func(a Completion) error { return p.Reset(c.offset, a) })
}

func (w *workload) reconfigure() error {
	id := workloadID(partChanging)
	p, ok := w.store.Partition(id)
	if !ok {
		return nil
	}
	c := &modelChange{kind: didConfig, config: workloadConfig(partChanging)}
	c.config.Fsync = FsyncMode(w.rng.IntN(3))
	w.model.begin(id, c)
	if err := p.SetConfig(c.config); err != nil {
		return err
	}
	w.model.ack(c)
	return nil
}

func (w *workload) reopen() error {
	if err := w.background(w.store.Close()); err != nil { // without room for its last checkpoint it says so
		return err
	}
	s, err := Open(w.dir, w.options(w.fs))
	if err != nil {
		return fmt.Errorf("reopen: %w", err)
	}
	w.store = s
	w.ready()
	return nil
}

// ready prepares a store that was just opened.
func (w *workload) ready() {
	for n := range partCount {
		if p, ok := w.store.Partition(workloadID(n)); ok {
			p.SetSnapshotter(w.snapshotter(p))
		}
	}
}

// snapshotter captures a state by which verify can tell which batch was the last one below the offset.
func (w *workload) snapshotter(p *Partition) func() (int64, []byte) {
	return func() (int64, []byte) {
		w.model.mu.Lock()
		defer w.model.mu.Unlock()
		state := w.model.parts[p.ID()].newestState()
		end := p.End()
		for n := len(state.batches); n > 0; n-- {
			if b := state.batches[n-1]; b.NextOffset() <= end {
				return b.NextOffset(), snapshotOf(b)
			}
		}
		return -1, nil
	}
}

// snapshotOf is the state that a view would be in after a batch.
func snapshotOf(b record.Batch) []byte {
	return fmt.Appendf(nil, "[%d, %d) at %d, checksum %08x", b.BaseOffset(), b.NextOffset(), b.AppendTime(), b.PayloadCRC())
}

// close ends the store, whatever became of it.
func (w *workload) close() error {
	if w.store == nil {
		return nil
	}
	return w.store.Close()
}
