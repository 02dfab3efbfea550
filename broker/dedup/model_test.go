package dedup

import (
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sequitur-mq/sequitur/log"
	"github.com/sequitur-mq/sequitur/record"
	"github.com/sequitur-mq/sequitur/replication/replica"
	"github.com/sequitur-mq/sequitur/wire"
)

// model says what a view must answer: it is recomputed from the log after
// everything that may have changed the log.
type model struct {
	bed    *bed
	places map[string]place // of the last stored record of each id
	rng    *rand.Rand

	producer uint64
	seq      uint32
}

// recompute reads the log.
func (m *model) recompute() error {
	ids, times, err := m.bed.stored()
	if err != nil {
		return err
	}
	m.places = map[string]place{}
	for offset, id := range ids {
		if id != "" && offset >= m.places[id].offset {
			m.places[id] = place{offset, times[offset]}
		}
	}
	return nil
}

// find says whether an id is a duplicate now.
func (m *model) find(id string) (place, bool) {
	at, ok := m.places[id]
	return at, ok && at.time >= m.bed.clock.now().Add(-m.bed.window).UnixNano()
}

// check compares the view with the recomputation from the log, for every id there is.
func (m *model) check() error {
	if err := m.recompute(); err != nil {
		return err
	}
	ids := make([]string, idPool)
	for i := range ids {
		ids[i] = poolID(i)
	}
	known, err := m.bed.knownAll(ids...)
	if err != nil {
		return err
	}
	for i, id := range ids {
		want, ok := m.find(id)
		if offset, found := known[int64(i)]; found != ok || ok && offset != want.offset {
			return fmt.Errorf("id %q: the view says %t at %d, the log %t at %d", id, found, offset, ok, want.offset)
		}
	}
	return nil
}

const idPool = 24

func poolID(i int) string {
	if i%6 == 5 { // longer than a plain key
		return fmt.Sprintf("%0300d", i)
	}
	return fmt.Sprint("id-", i)
}

// send sends one to three batches together and compares the answer.
func (m *model) send() error {
	codec := record.Codec(m.rng.IntN(3))
	producer := uint64(m.rng.IntN(2)) * m.producer
	var part []byte
	var all []string
	seq := m.seq
	for range 1 + m.rng.IntN(3) {
		var ids []string
		for range 1 + m.rng.IntN(5) {
			id := ""
			if m.rng.IntN(6) > 0 {
				id = poolID(m.rng.IntN(idPool))
			}
			ids = append(ids, id)
		}
		part = append(part, m.bed.batch(codec, producer, seq, ids...)...)
		seq += uint32(len(ids))
		all = append(all, ids...)
	}
	if err := m.sendPart(slices.Clone(part), all); err != nil {
		return err
	}
	if producer != 0 {
		m.seq = seq
		if m.rng.IntN(3) == 0 {
			return m.sendAgain(part, all)
		}
	}
	return nil
}

func (m *model) sendPart(part []byte, all []string) error {
	var want []wire.DuplicateRecord
	base := m.bed.replica.Log().End()
	inside := map[string]int64{}
	for i, id := range all {
		if id == "" {
			continue
		}
		first, again := inside[id]
		if at, ok := m.find(id); ok {
			want = append(want, wire.DuplicateRecord{Index: uint32(i), Offset: at.offset})
		} else if again {
			want = append(want, wire.DuplicateRecord{Index: uint32(i), Offset: first})
		} else {
			inside[id] = base + int64(i)
		}
	}
	got, err := m.bed.send(part)
	if err != nil {
		return err
	}
	if got.BaseOffset != base || got.Duplicate {
		return fmt.Errorf("appended at %d (duplicate %t), expected %d", got.BaseOffset, got.Duplicate, base)
	}
	if !slices.Equal(got.duplicates, want) {
		return fmt.Errorf("send %q at %d: duplicates %v, expected %v", all, base, got.duplicates, want)
	}
	for id, offset := range inside {
		m.places[id] = place{offset, got.AppendTime}
	}
	if end := m.bed.replica.Log().End(); end != base+int64(len(all)) {
		return fmt.Errorf("%d records took offsets %d to %d", len(all), base, end)
	}
	return nil
}

// sendAgain repeats a part unchanged, as after a lost answer: the answer is the
// same, and nothing is appended.
func (m *model) sendAgain(part []byte, all []string) error {
	end := m.bed.replica.Log().End()
	got, err := m.bed.send(part)
	if err != nil {
		return err
	}
	base := end - int64(len(all))
	if !got.Duplicate || got.BaseOffset != base || m.bed.replica.Log().End() != end {
		return fmt.Errorf("repeat of a send at %d: answered %+v", base, got.Result)
	}
	var want []wire.DuplicateRecord
	for i, id := range all {
		if at, ok := m.find(id); ok && id != "" && at.offset != base+int64(i) {
			want = append(want, wire.DuplicateRecord{Index: uint32(i), Offset: at.offset})
		}
	}
	if !slices.Equal(got.duplicates, want) {
		return fmt.Errorf("repeat of %q at %d: duplicates %v, expected %v", all, base, got.duplicates, want)
	}
	return nil
}

// step does one thing.
func (m *model) step() error {
	b := m.bed
	switch n := m.rng.IntN(100); {
	case n < 65:
		return m.send()
	case n < 75:
		b.clock.advance(time.Duration(m.rng.Int64N(int64(b.window / 2))))
	case n < 80:
		b.drain()
	case n < 85:
		b.window = []time.Duration{time.Hour, 3 * time.Hour, 10 * time.Hour}[m.rng.IntN(3)]
		b.view.SetWindow(b.window)
		return m.check()
	case n < 88: // sends go past the view for a while
		b.view.SetWindow(0)
		if _, _, err := b.replica.Append(b.batch(record.CodecNone, 0, 0, poolID(m.rng.IntN(idPool)), "other"), replica.AcksQuorum, nil, 0); err != nil {
			return err
		}
		b.view.SetWindow(b.window)
		return m.check()
	case n < 91:
		if err := b.restart(); err != nil {
			return err
		}
		return m.check()
	case n < 94: // sends whose records are not acknowledged may be lost
		if err := b.crash([]float64{0, 0.2, 0.5, 0.8, 1}[m.rng.IntN(5)], m.rng.IntN(3) == 0, m.rng); err != nil {
			return err
		}
		m.newProducer()
		return m.check()
	case n < 97: // after a crash, something else takes the place of what was lost
		if err := b.crash(0, false, m.rng); err != nil {
			return err
		}
		m.newProducer()
		for range m.rng.IntN(12) {
			if _, _, err := b.replica.Append(b.batch(record.CodecNone, 0, 0, ""), replica.AcksQuorum, nil, 0); err != nil {
				return err
			}
		}
		return m.check()
	default:
		return m.check()
	}
	return nil
}

// newProducer begins anew, as a producer does that does not know what was stored.
func (m *model) newProducer() { m.producer, m.seq = m.producer+1, 0 }

// run plays a whole history.
func run(dir string, seed uint64, breaks breakage) (err error) {
	rng := rand.New(rand.NewPCG(seed, 1))
	config := log.Config{Fsync: []log.FsyncMode{log.FsyncAlways, log.FsyncNever}[rng.IntN(2)]}
	b, err := openBed(dir, config, Options{breaks: breaks})
	if err != nil {
		return err
	}
	defer func() {
		if closeErr := b.close(); err == nil {
			err = closeErr
		}
	}()
	m := &model{bed: b, places: map[string]place{}, rng: rng, producer: 1}
	for i := range 60 {
		if err := m.step(); err != nil {
			return fmt.Errorf("seed %d, step %d: %w", seed, i, err)
		}
	}
	b.drain()
	return m.check()
}

func TestViewAgainstModel(t *testing.T) {
	for seed := range uint64(15) {
		dir := t.TempDir()
		require.NoError(t, run(dir, seed, breakage{}))
		require.NoError(t, os.RemoveAll(dir))
	}
}

// Each rule, switched off, makes the histories above go wrong.
func TestModelNoticesBrokenRules(t *testing.T) {
	for name, breaks := range map[string]breakage{
		"pending ids are not remembered":       {noPending: true},
		"repeats inside a send are not seen":   {noRepeats: true},
		"no rebuild without a position":        {noRebuild: true},
		"ids never grow old":                   {noWindow: true},
		"offsets of earlier batches forgotten": {wrongOffset: true},
	} {
		t.Run(name, func(t *testing.T) {
			for seed := range uint64(200) {
				if run(t.TempDir(), seed, breaks) != nil {
					return
				}
			}
			t.Fatal("nobody noticed")
		})
	}
}
