package txn

import (
	"math"
	"testing"

	"github.com/sequitur-mq/sequitur/record"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// header builds the header of a stamped batch: all that Apply reads.
func header(id uint64, epoch, seq, lastDelta uint32, offset, at int64) record.Batch {
	b := record.NewBuilder(0)
	b.SetBaseTimestamp(0)
	b.SetLastOffsetDelta(lastDelta)
	batch, err := b.Build(nil, record.CodecNone, id, epoch, seq)
	if err != nil {
		panic(err)
	}
	batch.Stamp(offset, 1, at)
	return batch
}

func TestRuleByRule(t *testing.T) {
	p := NewProducers(2)
	check := func(epoch, seq, lastDelta uint32) (Verdict, error) { return p.Check(7, epoch, seq, lastDelta) }
	accept := func(epoch, seq, lastDelta uint32, offset int64) {
		t.Helper()
		v, err := check(epoch, seq, lastDelta)
		require.NoError(t, err)
		require.False(t, v.Duplicate)
		p.Apply(header(7, epoch, seq, lastDelta, offset, offset*10))
	}
	accept(1, math.MaxUint32-5, 3, 100) // unknown: any sequence
	accept(1, math.MaxUint32-1, 9, 104) // runs over the end of the circle
	v, err := check(1, math.MaxUint32-1, 9)
	require.NoError(t, err)
	require.Equal(t, Verdict{Duplicate: true, BaseOffset: 104, AppendTime: 1040}, v)
	accept(1, 8, 0, 200)
	v, err = check(1, math.MaxUint32-1, 9)
	require.NoError(t, err)
	require.Equal(t, int64(104), v.BaseOffset)

	_, err = check(1, math.MaxUint32-5, 3)
	require.ErrorIs(t, err, ErrStaleSequence, "left the window")
	_, err = check(1, 8, 1)
	require.ErrorIs(t, err, ErrStaleSequence, "another batch under a used sequence")
	_, err = check(1, 10, 0)
	require.ErrorIs(t, err, ErrSequenceGap)
	require.ErrorContains(t, err, "sequence 10, expected 9")

	accept(2, 500, 0, 300) // a higher epoch starts where it likes
	_, err = check(1, 9, 0)
	require.ErrorIs(t, err, ErrFenced)
	require.ErrorContains(t, err, "(epoch 2)")
	p.Apply(header(7, 1, 9, 0, 301, 1)) // a fenced batch changes nothing
	_, err = check(2, 0, 0)
	require.ErrorIs(t, err, ErrStaleSequence, "behind by the shorter way")
	accept(2, 501, 0, 302)

	v, err = p.Check(0, 0, 5, 5)
	require.NoError(t, err)
	require.Equal(t, Verdict{}, v)
	p.Apply(header(0, 0, 5, 5, 400, 1))
	require.Equal(t, 1, p.Len())
}

func TestLoosen(t *testing.T) {
	p := NewProducers(4)
	p.Apply(header(7, 2, 0, 0, 0, 1))
	p.Apply(header(7, 2, 1, 0, 1, 1))
	p.Loosen()
	q := NewProducers(4)
	require.NoError(t, q.Restore(p.Snapshot()))
	require.Equal(t, p.Hash(), q.Hash())
	v, err := q.Check(7, 2, 0, 0)
	require.NoError(t, err)
	require.True(t, v.Duplicate)
	_, err = q.Check(7, 1, 2, 0)
	require.ErrorIs(t, err, ErrFenced)
	_, err = q.Check(7, 2, math.MaxUint32, 0)
	require.ErrorIs(t, err, ErrStaleSequence)
	for _, seq := range []uint32{2, 10} {
		v, err = q.Check(7, 2, seq, 0)
		require.NoError(t, err)
		require.False(t, v.Duplicate)
	}
	q.Apply(header(7, 2, 10, 0, 20, 1))
	_, err = q.Check(7, 2, 12, 0)
	require.ErrorIs(t, err, ErrSequenceGap, "once")
	_, err = q.Check(7, 2, 1, 0)
	require.ErrorIs(t, err, ErrStaleSequence, "what came before the jump is no neighbour")
	q.Apply(header(8, 1, 0, 0, 21, 1))
	_, err = q.Check(8, 1, 5, 0)
	require.ErrorIs(t, err, ErrSequenceGap, "those that came later are not loose")
}

func TestExpire(t *testing.T) {
	p := NewProducers(0)
	p.Apply(header(1, 0, 0, 0, 0, 1000))
	p.Apply(header(2, 0, 0, 0, 1, 2000))
	require.Equal(t, 0, p.Expire(2000, 1000))
	require.Equal(t, 1, p.Expire(2500, 1000))
	_, err := p.Check(1, 0, 77, 0)
	require.NoError(t, err, "a forgotten producer goes on")
	_, err = p.Check(2, 0, 77, 0)
	require.ErrorIs(t, err, ErrSequenceGap)
}

func TestTheOldestAreForgottenBeyondTheLimit(t *testing.T) {
	live, replay := NewProducers(2), NewProducers(2)
	live.limit, replay.limit = 10, 10
	var log []record.Batch
	for i := range uint64(100) {
		b := header(1+i*7%40, 1, uint32(i), 0, int64(i), int64(i/3))
		log = append(log, b)
		live.Apply(b)
		require.LessOrEqual(t, live.Len(), 10)
		require.NotNil(t, live.byID[b.ProducerID()], "never the one that just wrote")
	}
	require.Greater(t, live.Len(), 5)
	for i, b := range log {
		if i == 55 {
			snapshot := replay.Snapshot()
			replay = NewProducers(2)
			replay.limit = 10
			require.NoError(t, replay.Restore(snapshot))
		}
		replay.Apply(b)
	}
	require.Equal(t, live.Hash(), replay.Hash())
}

// model is the rule without rings and maps: everything ever stored, searched through.
type model struct {
	window int
	log    []record.Batch
}

func (m *model) check(id uint64, epoch, seq, lastDelta uint32) (Verdict, error) {
	var mine []record.Batch // of the newest epoch
	newest := int64(-1)
	for _, b := range m.log {
		if b.ProducerID() != id || id == 0 {
			continue
		}
		if int64(b.ProducerEpoch()) > newest {
			newest, mine = int64(b.ProducerEpoch()), nil
		}
		mine = append(mine, b)
	}
	if len(mine) == 0 || int64(epoch) > newest {
		return Verdict{}, nil
	}
	if int64(epoch) < newest {
		return Verdict{}, ErrFenced
	}
	want := mine[len(mine)-1].NextSequence()
	if seq == want {
		return Verdict{}, nil
	}
	for _, b := range mine[max(0, len(mine)-m.window):] {
		if b.BaseSequence() == seq && b.LastOffsetDelta() == lastDelta {
			return Verdict{true, b.BaseOffset(), b.AppendTime()}, nil
		}
	}
	if int32(seq-want) > 0 {
		return Verdict{}, ErrSequenceGap
	}
	return Verdict{}, ErrStaleSequence
}

func TestAgainstModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		window := rapid.IntRange(1, 6).Draw(t, "window")
		p, m := NewProducers(window), &model{window: window}
		start := rapid.SampledFrom([]uint32{0, 1000, math.MaxUint32 - 10, math.MaxInt32 - 5}).Draw(t, "start")
		next := map[uint64]uint32{}
		var offset int64
		for range rapid.IntRange(1, 120).Draw(t, "steps") {
			id := rapid.Uint64Range(0, 3).Draw(t, "id")
			epoch := rapid.SampledFrom([]uint32{1, 1, 1, 1, 1, 2, 3}).Draw(t, "epoch")
			delta := rapid.Uint32Range(0, 3).Draw(t, "delta")
			if _, ok := next[id]; !ok {
				next[id] = start
			}
			seq := next[id] + uint32(rapid.IntRange(-12, 6).Draw(t, "seq"))
			if rapid.IntRange(0, 2).Draw(t, "straight") > 0 {
				seq = next[id]
			}
			want, wantErr := m.check(id, epoch, seq, delta)
			got, err := p.Check(id, epoch, seq, delta)
			if wantErr != nil {
				require.ErrorIs(t, err, wantErr)
				continue
			}
			require.NoError(t, err)
			require.Equal(t, want, got)
			if got.Duplicate {
				continue
			}
			b := header(id, epoch, seq, delta, offset, offset+5)
			p.Apply(b)
			m.log = append(m.log, b)
			next[id] = b.NextSequence()
			offset = b.NextOffset()
		}
		// Replay from nothing, and from a snapshot taken anywhere, gives the same state.
		at := rapid.IntRange(0, len(m.log)).Draw(t, "snapshot at")
		replay := NewProducers(window)
		for i, b := range m.log {
			if i == at {
				restored := NewProducers(window)
				require.NoError(t, restored.Restore(replay.Snapshot()))
				require.Equal(t, replay.Hash(), restored.Hash())
				replay = restored
			}
			replay.Apply(b)
		}
		require.Equal(t, p.Snapshot(), replay.Snapshot())
		require.Equal(t, p.Hash(), replay.Hash())
	})
}

func TestCheckDoesNotAllocate(t *testing.T) {
	p := NewProducers(0)
	b := header(9, 1, 0, 9, 0, 1)
	seq := uint32(0)
	round := func() {
		if v, err := p.Check(9, 1, seq, 9); err != nil || v.Duplicate {
			t.Fatal(v, err)
		}
		b.SetProducer(9, 1, seq)
		p.Apply(b)
		seq += 10
	}
	for range 2 * DefaultWindow {
		round()
	}
	require.Zero(t, testing.AllocsPerRun(100, round))
}

func BenchmarkCheckApply(b *testing.B) {
	p := NewProducers(0)
	for id := range uint64(1000) {
		p.Apply(header(id+1, 1, 0, 0, 0, 1))
	}
	batch := header(500, 1, 1, 0, 0, 1)
	b.ReportAllocs()
	for seq := uint32(1); b.Loop(); seq++ {
		if _, err := p.Check(500, 1, seq, 0); err != nil {
			b.Fatal(err)
		}
		batch.SetProducer(500, 1, seq)
		p.Apply(batch)
	}
}
