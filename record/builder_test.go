package record

import (
	"bytes"
	"math"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestBuilderRefuses(t *testing.T) {
	b := NewBuilder(0)
	_, err := b.Build(nil, CodecNone, 0, 0, 0)
	require.ErrorContains(t, err, "no records")
	require.NoError(t, b.AppendRaw(5, 1, nil, nil, nil))
	require.Error(t, b.AppendRaw(5, 1, nil, nil, nil), "offset deltas ascend")
	require.Error(t, b.AppendRaw(math.MaxUint32+1, 1, nil, nil, nil))
	b.SetLastOffsetDelta(4)
	_, err = b.Build(nil, CodecNone, 0, 0, 0)
	require.ErrorContains(t, err, "last offset delta 4")
	b.Reset()
	require.Zero(t, b.Len())
	require.Equal(t, HeaderSize, b.Size())
	_, err = b.Build(nil, CodecNone, 0, 0, 0)
	require.ErrorContains(t, err, "no records")
}

func TestBatchWithoutRecordsKeepsItsOffsets(t *testing.T) {
	b := NewBuilder(0)
	b.SetBaseTimestamp(77)
	b.SetLastOffsetDelta(9)
	batch, err := b.Build(NewCompressor(), CodecZstd, 1, 2, 3)
	require.NoError(t, err)
	batch.Stamp(100, 1, 1)
	got, _, err := Parse(batch, DefaultLimits())
	require.NoError(t, err)
	require.NoError(t, got.Verify())
	require.Equal(t, int64(110), got.NextOffset())
	require.Equal(t, uint32(13), got.NextSequence())
	require.False(t, got.Dense())
	requireRecords(t, got, nil, nil)
}

func TestSparseOffsets(t *testing.T) {
	b := NewBuilder(0)
	require.NoError(t, b.AppendRaw(3, 10, []byte("k"), nil, nil))
	require.NoError(t, b.AppendRaw(8, 5, nil, []byte{}, nil))
	b.SetLastOffsetDelta(20)
	b.SetTransactional()
	batch, err := b.Build(nil, CodecNone, 1, 2, 3)
	require.NoError(t, err)
	require.True(t, batch.Attributes().Transactional())
	require.False(t, batch.Attributes().Control())
	require.Equal(t, int64(10), batch.MaxTimestamp())
	requireRecords(t, batch, nil, []modelRecord{{delta: 3, ts: 10, key: []byte("k")}, {delta: 8, ts: 5, value: []byte{}}})
}

func TestControlRecords(t *testing.T) {
	b := NewBuilder(0)
	want := EpochStart{Epoch: 7, Leader: 3, ReplicaSetVersion: 9}
	b.AppendControl(1, ControlEpochStart, want.AppendTo(nil))
	batch, err := b.Build(nil, CodecNone, 0, 0, 0)
	require.NoError(t, err)
	require.True(t, batch.Attributes().Control())
	var reader Reader
	var rec Record
	require.NoError(t, reader.Reset(batch, nil, DefaultLimits()))
	ok, err := reader.Next(&rec)
	require.NoError(t, err)
	require.True(t, ok)
	kind, err := ParseControlKey(rec.Key)
	require.NoError(t, err)
	require.Equal(t, ControlEpochStart, kind)
	require.Equal(t, "epoch-start", kind.String())
	got, err := ParseEpochStart(rec.Value)
	require.NoError(t, err)
	require.Equal(t, want, got)

	_, err = ParseControlKey([]byte{1, 0, 1})
	require.ErrorIs(t, err, ErrNotControl)
	_, err = ParseControlKey([]byte{2, 0, 1, 0})
	require.ErrorIs(t, err, ErrNotControl)
	_, err = ParseEpochStart(make([]byte, 11))
	require.Error(t, err)
}

func TestHotPathDoesNotAllocate(t *testing.T) {
	headers := []Header{{Key: MessageIDHeader, Value: []byte("id")}, {Key: "other", Value: nil}}
	key, value := []byte("key"), bytes.Repeat([]byte{'v'}, 120)
	b, c, d := NewBuilder(64<<10), NewCompressor(), NewDecompressor()
	defer d.Close()
	var reader Reader
	var rec Record
	for _, codec := range []Codec{CodecNone, CodecS2, CodecZstd} {
		round := func() {
			b.Reset()
			for i := range 200 {
				b.Append(int64(i), key, value, headers)
			}
			batch, err := b.Build(c, codec, 1, 1, 1)
			if err != nil {
				t.Fatal(err)
			}
			batch.Stamp(1, 1, 1)
			got, _, err := Parse(batch, DefaultLimits())
			if err != nil || got.Verify() != nil || reader.Reset(got, d, DefaultLimits()) != nil {
				t.Fatal("batch does not read back")
			}
			n := 0
			for ok, err := reader.Next(&rec); ok; ok, err = reader.Next(&rec) {
				if err != nil {
					t.Fatal(err)
				}
				n++
			}
			if n != 200 {
				t.Fatalf("%d records", n)
			}
		}
		round()
		// The codecs keep scratch memory in pools, which the race detector empties at
		// will: a few per batch are theirs, none is per record.
		allocs := testing.AllocsPerRun(20, round)
		require.Less(t, allocs, 20.0, "allocations per batch of 200 records with %v", codec)
	}
}

// Around the sizes at which the record's length takes one byte more.
func TestEveryRecordLengthWidth(t *testing.T) {
	for _, r := range [][2]int{{0, 150}, {8100, 8250}, {1<<20 - 80, 1<<20 + 10}} {
		for n := r[0]; n < r[1]; n++ {
			b := NewBuilder(0)
			value := bytes.Repeat([]byte{byte(n)}, n)
			b.Append(1, nil, value, nil)
			b.Append(1, []byte("after"), nil, nil)
			batch, err := b.Build(nil, CodecNone, 0, 0, 0)
			require.NoError(t, err)
			var reader Reader
			var rec Record
			require.NoError(t, reader.Reset(batch, nil, DefaultLimits()))
			ok, err := reader.Next(&rec)
			require.NoError(t, err)
			require.True(t, ok)
			if !bytes.Equal(value, rec.Value) || rec.Key != nil {
				t.Fatalf("value of %d bytes changed", n)
			}
			ok, err = reader.Next(&rec)
			require.NoError(t, err)
			require.True(t, ok)
			require.Equal(t, []byte("after"), rec.Key)
		}
	}
}
