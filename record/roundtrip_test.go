package record

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// modelRecord is what a batch must give back.
type modelRecord struct {
	delta      int64
	ts         int64
	key, value []byte
	headers    []Header
}

func genBytes(max int) *rapid.Generator[[]byte] {
	return rapid.Custom(func(t *rapid.T) []byte {
		if rapid.IntRange(0, 4).Draw(t, "null") == 0 {
			return nil
		}
		if rapid.Bool().Draw(t, "repeat") {
			n := rapid.IntRange(0, max).Draw(t, "n")
			return append([]byte{}, bytes.Repeat([]byte{byte(n)}, n)...)
		}
		return append([]byte{}, rapid.SliceOfN(rapid.Byte(), 0, min(max, 64)).Draw(t, "bytes")...)
	})
}

func genHeaders() *rapid.Generator[[]Header] {
	return rapid.Custom(func(t *rapid.T) []Header {
		n := rapid.SampledFrom([]int{0, 0, 0, 1, 2, 12}).Draw(t, "headers")
		var headers []Header
		for range n {
			key := rapid.SampledFrom([]string{"", "a", MessageIDHeader, "content-type", string(make([]byte, 200))}).Draw(t, "header")
			headers = append(headers, Header{Key: key, Value: genBytes(200).Draw(t, "hv")})
		}
		return headers
	})
}

func genModel() *rapid.Generator[[]modelRecord] {
	return rapid.Custom(func(t *rapid.T) []modelRecord {
		n := rapid.IntRange(1, 40).Draw(t, "records")
		base := rapid.Int64().Draw(t, "base")
		var model []modelRecord
		for i := range n {
			ts := base + int64(rapid.IntRange(-300, 300).Draw(t, "dt"))
			if rapid.IntRange(0, 20).Draw(t, "wild") == 0 {
				ts = rapid.Int64().Draw(t, "ts")
			}
			model = append(model, modelRecord{
				delta: int64(i), ts: ts,
				key: genBytes(40).Draw(t, "key"), value: genBytes(20_000).Draw(t, "value"),
				headers: genHeaders().Draw(t, "hs"),
			})
		}
		return model
	})
}

func (m modelRecord) hasID() bool {
	for _, h := range m.headers {
		if h.Key == MessageIDHeader {
			return true
		}
	}
	return false
}

// requireRecords reads the batch and compares it with the model.
func requireRecords(t require.TestingT, batch Batch, d *Decompressor, model []modelRecord) {
	var reader Reader
	var rec Record
	require.NoError(t, reader.Reset(batch, d, DefaultLimits()))
	ids := false
	for _, want := range model {
		ok, err := reader.Next(&rec)
		require.NoError(t, err)
		require.True(t, ok)
		require.Equal(t, want.delta, rec.OffsetDelta)
		require.Equal(t, want.ts, batch.BaseTimestamp()+rec.TimestampDelta)
		require.Equal(t, want.key, rec.Key)
		require.Equal(t, want.value, rec.Value)
		require.Equal(t, len(want.headers), len(rec.Headers))
		for i := range want.headers {
			require.Equal(t, want.headers[i], rec.Headers[i])
		}
		ids = ids || want.hasID()
	}
	ok, err := reader.Next(&rec)
	require.NoError(t, err)
	require.False(t, ok)
	require.Equal(t, ids, batch.Attributes().MessageIDs())
	require.Equal(t, uint32(len(model)), batch.Count())
}

func TestRoundTrip(t *testing.T) {
	builder, c, d := NewBuilder(4096), NewCompressor(), NewDecompressor()
	defer d.Close()
	rapid.Check(t, func(t *rapid.T) {
		model := genModel().Draw(t, "model")
		codec := Codec(rapid.IntRange(0, 2).Draw(t, "codec"))
		builder.Reset()
		maxTS := model[0].ts
		for _, m := range model {
			before := builder.Size()
			builder.Append(m.ts, m.key, m.value, m.headers)
			require.LessOrEqual(t, builder.Size()-before, MaxRecordSize(m.key, m.value, m.headers))
			maxTS = max(maxTS, m.ts)
		}
		require.Equal(t, len(model), builder.Len())
		batch, err := builder.Build(c, codec, 9, 2, 77)
		require.NoError(t, err)
		require.LessOrEqual(t, len(batch), builder.Size(), "compression must never grow a batch")
		batch.Stamp(1234, 5, 6789)

		got, rest, err := Parse(append(bytes.Clone(batch), 1, 2, 3), DefaultLimits())
		require.NoError(t, err)
		require.Equal(t, []byte{1, 2, 3}, rest)
		require.Equal(t, batch, got)
		require.NoError(t, got.Verify())
		require.Equal(t, int64(1234), got.BaseOffset())
		require.Equal(t, int64(1234+len(model)), got.NextOffset())
		require.Equal(t, uint32(5), got.LeaderEpoch())
		require.Equal(t, int64(6789), got.AppendTime())
		require.Equal(t, maxTS, got.MaxTimestamp())
		require.Equal(t, uint64(9), got.ProducerID())
		require.Equal(t, uint32(2), got.ProducerEpoch())
		require.Equal(t, uint32(77), got.BaseSequence())
		require.Equal(t, uint32(77+len(model)), got.NextSequence())
		require.True(t, got.Dense())
		requireRecords(t, got, d, model)
	})
}
