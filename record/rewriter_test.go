package record

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func TestRewriteAgainstModel(t *testing.T) {
	builder, c, d := NewBuilder(4096), NewCompressor(), NewDecompressor()
	defer d.Close()
	var w Rewriter
	rapid.Check(t, func(t *rapid.T) {
		model := genModel().Draw(t, "model")
		codec := Codec(rapid.IntRange(0, 2).Draw(t, "codec"))
		builder.Reset()
		if rapid.Bool().Draw(t, "extension") {
			builder.setExtension([]byte("vector"))
		}
		for _, m := range model {
			builder.Append(m.ts, m.key, m.value, m.headers)
		}
		batch, err := builder.Build(c, codec, 9, 2, 77)
		require.NoError(t, err)
		batch.Stamp(1234, 5, 6789)

		// Twice: what was rewritten must rewrite again.
		for round := range 2 {
			before := bytes.Clone(batch)
			var kept []modelRecord
			dropped := map[int64]bool{}
			for _, m := range model {
				if rapid.Bool().Draw(t, "keep") {
					kept = append(kept, m)
				} else {
					dropped[m.delta] = true
				}
			}
			at := 0
			out, err := w.Rewrite(bytes.Clone(before), DefaultLimits(), func(r *Record) bool {
				require.Equal(t, model[at].delta, r.OffsetDelta)
				require.Equal(t, model[at].key, r.Key)
				at++
				return !dropped[r.OffsetDelta]
			})
			require.NoError(t, err)
			require.Equal(t, len(model), at)
			if len(dropped) == 0 {
				require.Equal(t, Batch(before), out, "nothing removed, nothing changed")
			}
			out, rest, err := Parse(bytes.Clone(out), DefaultLimits())
			require.NoError(t, err)
			require.Empty(t, rest)
			require.NoError(t, out.Verify())
			requireRecords(t, out, d, kept)
			old := Batch(before)
			require.Equal(t, old.BaseOffset(), out.BaseOffset())
			require.Equal(t, old.LastOffset(), out.LastOffset())
			require.Equal(t, old.AppendTime(), out.AppendTime())
			require.Equal(t, old.LeaderEpoch(), out.LeaderEpoch())
			require.Equal(t, old.ProducerID(), out.ProducerID())
			require.Equal(t, old.ProducerEpoch(), out.ProducerEpoch())
			require.Equal(t, old.BaseSequence(), out.BaseSequence())
			require.Equal(t, old.NextSequence(), out.NextSequence())
			require.Equal(t, old.BaseTimestamp(), out.BaseTimestamp())
			require.Equal(t, old.Extension(), out.Extension(), "round %d", round)
			batch, model = out, kept
		}
	})
}

func TestRewriteKeepsBitsAndFailsOnDamage(t *testing.T) {
	var w Rewriter
	b := NewBuilder(0)
	b.SetTransactional()
	b.SetControl()
	b.Append(1, nil, nil, nil)
	b.Append(2, nil, nil, nil)
	batch, err := b.Build(nil, CodecNone, 0, 0, 0)
	require.NoError(t, err)
	out, err := w.Rewrite(batch, DefaultLimits(), func(r *Record) bool { return r.OffsetDelta == 1 })
	require.NoError(t, err)
	require.True(t, out.Attributes().Control())
	require.True(t, out.Attributes().Transactional())
	require.Equal(t, int64(2), out.MaxTimestamp())

	batch[HeaderSize] = 0xff
	_, err = w.Rewrite(batch, DefaultLimits(), func(*Record) bool { return true })
	require.ErrorIs(t, err, ErrCorrupt)
}
