package log

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/sequitur-mq/sequitur/record"
)

// The model of the crash suite: for every partition the changes that were asked for, in order, and which of them were
// acknowledged. What a crash may leave is the state after the acknowledged changes and any number of the following
// ones, never anything else.

type changeKind uint8

const (
	didCreate changeKind = iota + 1
	didDelete
	didAppend
	didTruncate
	didStart
	didValue
	didConfig
	didReset
)

// modelChange is one change of one partition.
type modelChange struct {
	kind   changeKind
	batch  record.Batch // didAppend
	hard   bool         // didAppend: the acknowledgement means durable
	offset int64        // didTruncate: new end; didStart, didReset: new start
	key    uint8
	value  []byte
	config Config
	epochs []EpochStart // didStart: table to begin with, where the model has no appends to learn it from

	acked   bool
	refused bool // it failed at once; without the journal its bytes may be found after a crash all the same
}

type modelPartition struct {
	changes []*modelChange
}

type model struct {
	mu    sync.Mutex
	parts map[ID]*modelPartition
	ids   []ID
}

func newModel() *model { return &model{parts: map[ID]*modelPartition{}} }

// begin notes changes before they are asked for.
func (m *model) begin(id ID, changes ...*modelChange) {
	m.mu.Lock()
	defer m.mu.Unlock()
	p := m.parts[id]
	if p == nil {
		p = &modelPartition{}
		m.parts[id] = p
		m.ids = append(m.ids, id)
	}
	p.changes = append(p.changes, changes...)
}

// refuse takes back changes that failed at once: they must have had no effect.
func (m *model) refuse(id ID, soft bool, changes ...*modelChange) {
	m.mu.Lock()
	defer m.mu.Unlock()
	p := m.parts[id]
	if soft {
		for _, c := range changes {
			c.refused = true
		}
		return
	}
	p.changes = slices.DeleteFunc(p.changes, func(c *modelChange) bool { return slices.Contains(changes, c) })
}

func (m *model) ack(changes ...*modelChange) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, c := range changes {
		c.acked = true
	}
}

// modelAck acknowledges changes when the log says that they are durable.
type modelAck struct {
	m       *model
	changes []*modelChange
	done    chan error // may be nil
}

func (a *modelAck) Complete(err error) {
	if err == nil {
		a.m.ack(a.changes...)
	}
	if a.done != nil {
		a.done <- err
	}
}

// snapshot copies what was promised so far. A disk image taken after it must hold all of that.
func (m *model) snapshot() *model {
	m.mu.Lock()
	defer m.mu.Unlock()
	out := newModel()
	out.ids = slices.Clone(m.ids)
	for id, p := range m.parts {
		q := &modelPartition{changes: make([]*modelChange, len(p.changes))}
		for i, c := range p.changes {
			twin := *c
			q.changes[i] = &twin
		}
		out.parts[id] = q
	}
	return out
}

// modelState is a partition's state after some of its changes.
type modelState struct {
	exists  bool
	start   int64
	end     int64
	batches []record.Batch
	hard    []bool // of the batch at the same place
	values  map[uint8][]byte
	config  Config
	epochs  []EpochStart // of all records ever kept, those below the start included
}

func (s *modelState) apply(c *modelChange) {
	switch c.kind {
	case didCreate:
		*s = modelState{exists: true, config: c.config, values: map[uint8][]byte{}}
	case didDelete:
		*s = modelState{}
	case didAppend:
		s.batches = append(s.batches, c.batch)
		s.hard = append(s.hard, c.hard)
		s.end = c.batch.NextOffset()
		if n := len(s.epochs); n == 0 || s.epochs[n-1].Epoch < c.batch.LeaderEpoch() {
			s.epochs = append(s.epochs[:n:n], EpochStart{c.batch.LeaderEpoch(), c.batch.BaseOffset()})
		}
	case didTruncate:
		for n := len(s.batches); n > 0 && s.batches[n-1].NextOffset() > c.offset; n-- {
			s.batches, s.hard = s.batches[:n-1], s.hard[:n-1]
		}
		s.end = min(s.end, c.offset)
		s.epochs = epochsOf(s.epochs, 0, c.offset)
	case didStart:
		s.start = max(s.start, c.offset)
		s.end = max(s.end, s.start)
		s.epochs = append(s.epochs, c.epochs...)
		for len(s.batches) > 0 && s.batches[0].NextOffset() <= s.start {
			s.batches, s.hard = s.batches[1:], s.hard[1:]
		}
	case didReset:
		s.start, s.end, s.batches, s.hard, s.epochs = c.offset, c.offset, nil, nil, nil
	case didValue:
		s.values[c.key] = c.value
		if len(c.value) == 0 {
			delete(s.values, c.key)
		}
	case didConfig:
		s.config = c.config
	}
}

// epochsOf lists the epochs of the records in [start, end), and that of the one before start.
func epochsOf(table []EpochStart, start, end int64) (list []EpochStart) {
	for i, e := range table {
		if e.First < end && (i+1 == len(table) || table[i+1].First >= start) {
			list = append(list, e)
		}
	}
	return list
}

// skipRefused passes over refused appends, shows the states in which some of them came about, and returns how many
// more than one there are.
func (s *modelState) skipRefused(changes []*modelChange, show func(*modelState)) (more int) {
	with := *s
	with.batches, with.hard = slices.Clone(s.batches), slices.Clone(s.hard)
	for i, c := range changes {
		if !c.refused {
			break
		}
		if c.batch.BaseOffset() != with.end { // the next attempt
			with = *s
			with.batches, with.hard = slices.Clone(s.batches), slices.Clone(s.hard)
		}
		with.apply(c)
		show(&with)
		more = i
	}
	return more
}

// newestState is the state after everything asked for.
func (p *modelPartition) newestState() *modelState {
	s := &modelState{}
	for _, c := range p.changes {
		if !c.refused {
			s.apply(c)
		}
	}
	return s
}

// found is what a store holds of a partition.
type found struct {
	start, end int64
	batches    []record.Batch
	values     map[uint8][]byte
	epochs     []EpochStart
	lastEpoch  uint32
}

// readPartition reads a whole partition the way consumers do.
func readPartition(p *Partition) (*found, error) {
	f := &found{start: p.Start(), end: p.End(), values: map[uint8][]byte{}, epochs: p.Epochs(), lastEpoch: p.LastEpoch()}
	for key := range uint8(8) {
		if v := p.Value(key); len(v) > 0 {
			f.values[key] = bytes.Clone(v)
		}
	}
	for at := f.start; at < f.end; {
		c, err := p.Read(at, f.end, 64<<10, true)
		if err != nil {
			return nil, fmt.Errorf("read partition %s from %d: %w", p.ID(), at, err)
		}
		if c.Len() == 0 { // only a gap that compaction left
			if c.Next() <= at {
				c.Release()
				return nil, fmt.Errorf("read partition %s from %d: nothing before the end at %d", p.ID(), at, f.end)
			}
			at = c.Next()
			c.Release()
			continue
		}
		b, err := c.AppendTo(nil)
		next := c.Next()
		c.Release()
		if err != nil {
			return nil, fmt.Errorf("read partition %s from %d: %w", p.ID(), at, err)
		}
		for len(b) > 0 {
			var batch record.Batch
			if batch, b, err = record.Parse(b, storedLimits()); err != nil {
				return nil, err
			}
			if batch.NextOffset() <= at {
				return nil, fmt.Errorf("read partition %s from %d: batch %d..%d", p.ID(), at, batch.BaseOffset(), batch.LastOffset())
			}
			f.batches = append(f.batches, batch)
		}
		if next <= at {
			return nil, fmt.Errorf("read partition %s from %d: next is %d", p.ID(), at, next)
		}
		at = next
	}
	return f, nil
}

// checkSnapshot checks that the view's state that recovery offers is of the log as it is now.
func (f *found) checkSnapshot(p *Partition) error {
	offset, state := p.Snapshot()
	if state == nil || offset <= f.start || p.Config().Compact {
		return nil
	}
	for _, b := range f.batches {
		if b.NextOffset() == offset {
			if want := snapshotOf(b); !bytes.Equal(state, want) {
				return fmt.Errorf("partition %s: snapshot for offset %d is of another log: %s, want %s", p.ID(), offset, state, want)
			}
			return nil
		}
	}
	return fmt.Errorf("partition %s: snapshot for offset %d, where no batch ends; the log is [%d, %d)", p.ID(), offset, f.start, f.end)
}

// verify checks a reopened store against what was promised. processOnly: the page cache survived, so that even what
// no sync covered must be there.
func (m *model) verify(s *Store, processOnly bool) error {
	var errs []error
	known := map[ID]bool{}
	for _, id := range m.ids {
		known[id] = true
		if err := m.verifyPartition(s, id, processOnly); err != nil {
			errs = append(errs, err)
		}
	}
	for _, id := range s.IDs() {
		if !known[id] {
			errs = append(errs, fmt.Errorf("partition %s was never created", id))
		}
	}
	return errors.Join(errs...)
}

func (m *model) verifyPartition(s *Store, id ID, processOnly bool) error {
	p := m.parts[id]
	acked := 0 // so many changes must be there
	for i, c := range p.changes {
		if c.acked && (processOnly || c.kind != didAppend || c.hard) {
			acked = i + 1
		}
	}
	var got *found
	if part, ok := s.Partition(id); ok {
		var err error
		if got, err = readPartition(part); err != nil {
			return err
		}
		if err := got.checkSnapshot(part); err != nil {
			return err
		}
	}
	state := &modelState{}
	var reasons []error
	allowed := false
	for i := 0; ; i++ {
		if i >= acked {
			if reason := state.allows(got, processOnly); reason == nil {
				return nil
			} else {
				reasons = append(reasons, fmt.Errorf("after %d changes: %w", i, reason))
			}
		}
		if i == len(p.changes) {
			break
		}
		if p.changes[i].refused {
			i += state.skipRefused(p.changes[i:], func(with *modelState) {
				allowed = allowed || i >= acked && with.allows(got, processOnly) == nil
			})
			continue
		}
		state.apply(p.changes[i])
	}
	if allowed {
		return nil
	}
	if len(reasons) > 4 {
		reasons = append(reasons[:2:2], reasons[len(reasons)-2:]...)
	}
	return fmt.Errorf("partition %s (%d of %d changes acknowledged) is in no allowed state: %w",
		id, acked, len(p.changes), errors.Join(reasons...))
}

// allows says why got cannot be what a crash left of this state.
func (s *modelState) allows(got *found, processOnly bool) error {
	if s.exists != (got != nil) {
		return fmt.Errorf("exists: %v, want %v", got != nil, s.exists)
	}
	if got == nil {
		return nil
	}
	if len(got.values) != len(s.values) {
		return fmt.Errorf("%d values, want %d", len(got.values), len(s.values))
	}
	for k, v := range s.values {
		if !bytes.Equal(got.values[k], v) {
			return fmt.Errorf("value %d is %q, want %q", k, got.values[k], v)
		}
	}
	if err := s.allowsStart(got); err != nil {
		return err
	}
	floor := s.floor(processOnly)
	if got.end > s.end || got.end < floor {
		return fmt.Errorf("ends at %d, want %d to %d", got.end, floor, s.end)
	}
	if err := s.allowsEpochs(got); err != nil {
		return err
	}
	want := s.batches
	for len(want) > 0 && want[0].NextOffset() <= got.start {
		want = want[1:]
	}
	for n := len(want); n > 0 && want[n-1].NextOffset() > got.end; n-- {
		want = want[:n-1]
	}
	if s.config.Compact {
		return compactionOf(got.batches, want)
	}
	return sameBatches(got.batches, want)
}

// allowsStart: the log start is where it was put, or above it where retention may have moved it.
func (s *modelState) allowsStart(got *found) error {
	if got.start == s.start {
		return nil
	}
	if s.config.RetentionBytes == 0 || got.start < s.start {
		return fmt.Errorf("starts at %d, want %d", got.start, s.start)
	}
	kept := int64(0)
	onBatch := got.start == s.end
	for _, b := range s.batches {
		if b.BaseOffset() >= got.start {
			kept += int64(len(b))
		}
		onBatch = onBatch || b.BaseOffset() == got.start
	}
	if !onBatch || kept < s.config.RetentionBytes {
		return fmt.Errorf("starts at %d and keeps %d bytes, want %d bytes at least", got.start, kept, s.config.RetentionBytes)
	}
	return nil
}

// allowsEpochs: the log knows the epochs of its records and of the one before its start, even if none is left.
func (s *modelState) allowsEpochs(got *found) error {
	want, last := epochsOf(s.epochs, got.start, got.end), uint32(0)
	if n := len(want); n > 0 {
		last = want[n-1].Epoch
	}
	if !slices.Equal(got.epochs, want) || got.lastEpoch != last {
		return fmt.Errorf("has epochs %v, the last one %d, want %v", got.epochs, got.lastEpoch, want)
	}
	return nil
}

// floor is the lowest end that is allowed: what was appended without a promise may be cut off.
func (s *modelState) floor(processOnly bool) int64 {
	if processOnly {
		return s.end
	}
	floor := s.end
	for n := len(s.batches); n > 0 && !s.hard[n-1]; n-- {
		floor = s.batches[n-1].BaseOffset()
	}
	return floor
}

func sameBatches(got, want []record.Batch) error {
	for i := range want {
		if i >= len(got) {
			return fmt.Errorf("batch at %d is missing", want[i].BaseOffset())
		}
		if !bytes.Equal(got[i], want[i]) {
			return fmt.Errorf("batch at %d has base offset %d and other bytes than were written", want[i].BaseOffset(), got[i].BaseOffset())
		}
	}
	if len(got) > len(want) {
		return fmt.Errorf("batch at %d is one too many", got[len(want)].BaseOffset())
	}
	return nil
}

// keyed is a record of a compacted partition.
type keyed struct {
	key, value []byte
	timestamp  int64
	control    bool
}

func recordsOf(batches []record.Batch) (map[int64]keyed, []int64, error) {
	out := map[int64]keyed{}
	var order []int64
	var r record.Reader
	d := record.NewDecompressor()
	defer d.Close()
	for _, b := range batches {
		if err := b.Verify(); err != nil {
			return nil, nil, err
		}
		if err := r.Reset(b, d, storedLimits()); err != nil {
			return nil, nil, err
		}
		for {
			var rec record.Record
			ok, err := r.Next(&rec)
			if err != nil {
				return nil, nil, err
			}
			if !ok {
				break
			}
			offset := b.BaseOffset() + rec.OffsetDelta
			out[offset] = keyed{key: cloneOrNil(rec.Key), value: cloneOrNil(rec.Value),
				timestamp: b.BaseTimestamp() + rec.TimestampDelta, control: b.Attributes().Control()}
			order = append(order, offset)
		}
	}
	return out, order, nil
}

func cloneOrNil(b []byte) []byte {
	if b == nil {
		return nil
	}
	return append([]byte{}, b...)
}

// compactionOf checks that got is what compaction may make of want: offsets ascend, every record is one that was
// written at that offset, and whatever is gone was superseded by a later record of its key. Tombstones are
// not due in the crash suite.
func compactionOf(got, want []record.Batch) error {
	gotRecords, order, err := recordsOf(got)
	if err != nil {
		return err
	}
	wantRecords, wantOrder, err := recordsOf(want)
	if err != nil {
		return err
	}
	if !slices.IsSorted(order) {
		return fmt.Errorf("offsets do not ascend: %v", order)
	}
	newest := map[string]int64{}
	for _, o := range wantOrder {
		if r := wantRecords[o]; r.key != nil && !r.control {
			newest[string(r.key)] = o
		}
	}
	for _, o := range wantOrder {
		w := wantRecords[o]
		g, ok := gotRecords[o]
		if !ok {
			if w.key == nil || w.control || newest[string(w.key)] == o {
				return fmt.Errorf("record at %d is gone, and nothing supersedes it", o)
			}
			continue
		}
		if !bytes.Equal(g.key, w.key) || !bytes.Equal(g.value, w.value) || (g.value == nil) != (w.value == nil) || g.timestamp != w.timestamp {
			return fmt.Errorf("record at %d is not the one written there", o)
		}
	}
	for _, o := range order {
		if _, ok := wantRecords[o]; !ok {
			return fmt.Errorf("record at %d was never written", o)
		}
	}
	return nil
}
