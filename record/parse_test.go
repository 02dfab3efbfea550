package record

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math"
	"testing"

	"github.com/stretchr/testify/require"
)

func testBatch(tb testing.TB, codec Codec) Batch {
	tb.Helper()
	b := NewBuilder(1024)
	for i := range 20 {
		b.Append(1000+int64(i), []byte("key"), bytes.Repeat([]byte{'x'}, 50), []Header{{Key: "h", Value: []byte("v")}})
	}
	batch, err := b.Build(NewCompressor(), codec, 5, 6, 7)
	require.NoError(tb, err)
	require.Equal(tb, codec, batch.Attributes().Codec())
	batch.Stamp(100, 2, 3)
	return bytes.Clone(batch)
}

func TestParseRefuses(t *testing.T) {
	le := binary.LittleEndian
	for name, c := range map[string]struct {
		damage func(Batch) []byte
		want   error
	}{
		"empty":                 {func(b Batch) []byte { return nil }, ErrShort},
		"three bytes":           {func(b Batch) []byte { return b[:3] }, ErrShort},
		"header cut":            {func(b Batch) []byte { return b[:HeaderSize-1] }, ErrShort},
		"one byte missing":      {func(b Batch) []byte { return b[:len(b)-1] }, ErrShort},
		"length below header":   {func(b Batch) []byte { le.PutUint32(b, HeaderSize-1); return b }, ErrCorrupt},
		"length zero":           {func(b Batch) []byte { le.PutUint32(b, 0); return b }, ErrCorrupt},
		"length over limit":     {func(b Batch) []byte { le.PutUint32(b, 8<<20+1); return b[:4] }, ErrTooLarge},
		"format":                {func(b Batch) []byte { b[atFormat] = 2; return b }, ErrCorrupt},
		"stamp flags":           {func(b Batch) []byte { b[atStampFlags] = 2; return b }, ErrCorrupt},
		"reserved":              {func(b Batch) []byte { b[atReserved2] = 1; return b }, ErrCorrupt},
		"attributes":            {func(b Batch) []byte { b[atAttributes+1] = 0x80; return b }, ErrCorrupt},
		"codec":                 {func(b Batch) []byte { b[atAttributes] = 3; return b }, ErrCorrupt},
		"negative offset":       {func(b Batch) []byte { le.PutUint64(b[atBaseOffset:], 1<<63); return b }, ErrCorrupt},
		"offset overflow":       {func(b Batch) []byte { le.PutUint64(b[atBaseOffset:], math.MaxInt64-19); return b }, ErrCorrupt},
		"too many offsets":      {func(b Batch) []byte { le.PutUint32(b[atLastDelta:], 1<<20); return b }, ErrTooLarge},
		"all offsets":           {func(b Batch) []byte { le.PutUint32(b[atLastDelta:], math.MaxUint32); return b }, ErrTooLarge},
		"count over offsets":    {func(b Batch) []byte { le.PutUint32(b[atCount:], 21); return b }, ErrCorrupt},
		"count over bytes":      {func(b Batch) []byte { le.PutUint32(b[atCount:], 1e6); le.PutUint32(b[atLastDelta:], 1e6); return b }, ErrCorrupt},
		"no records in bytes":   {func(b Batch) []byte { le.PutUint32(b[atCount:], 0); return b }, ErrCorrupt},
		"records size":          {func(b Batch) []byte { le.PutUint32(b[atRecordsSize:], b.RecordsSize()+1); return b }, ErrCorrupt},
		"records size bomb":     {func(b Batch) []byte { le.PutUint32(b[atRecordsSize:], 64<<20+1); return b }, ErrTooLarge},
		"extension beyond end":  {func(b Batch) []byte { le.PutUint32(b[atExtensionSize:], math.MaxUint32); return b }, ErrCorrupt},
		"extension eats record": {func(b Batch) []byte { le.PutUint32(b[atExtensionSize:], 1); return b }, ErrCorrupt},
	} {
		t.Run(name, func(t *testing.T) {
			in := c.damage(testBatch(t, CodecNone))
			batch, rest, err := Parse(in, DefaultLimits())
			require.ErrorIs(t, err, c.want)
			require.Nil(t, batch)
			require.Equal(t, len(in), len(rest))
		})
	}
}

// Every single flipped bit of a stamped batch must be found by Parse or Verify: by the
// CRC of the part it is in, and the bits of the CRCs themselves.
func TestEveryFlippedBitIsFound(t *testing.T) {
	whole := testBatch(t, CodecNone)
	for bit := range len(whole) * 8 {
		b := bytes.Clone(whole)
		b[bit/8] ^= 1 << (bit % 8)
		got, _, err := Parse(b, DefaultLimits())
		if err == nil {
			err = got.Verify()
		}
		require.Error(t, err, "bit %d of byte %d", bit%8, bit/8)
		if bit/8 >= 4 && !errors.Is(err, ErrTooLarge) {
			require.ErrorIs(t, err, ErrCorrupt)
		}
	}
}

func TestStampAndProducerAreUnderTheirOwnCRC(t *testing.T) {
	b := testBatch(t, CodecNone)
	payload := b.PayloadCRC()
	b.Stamp(7, 8, 9)
	require.NoError(t, b.Verify())
	require.Equal(t, payload, b.PayloadCRC(), "stamping must not touch the producer's CRC")
	b.SetProducer(1, 2, math.MaxUint32)
	require.NoError(t, b.Verify())
	require.Equal(t, uint32(19), b.NextSequence(), "sequences wrap")
	require.Equal(t, int64(26), b.LastOffset())

	b[atBaseSequence]++
	require.NoError(t, b.VerifyStamp())
	require.ErrorIs(t, b.VerifyPayload(), ErrCorrupt)
	require.ErrorContains(t, b.Verify(), "payload CRC")
	b.Stamp(1, 1, 1)
	require.ErrorIs(t, b.VerifyPayload(), ErrCorrupt, "stamping must not hide damage")
	b[atLeaderEpoch]++
	require.ErrorContains(t, b.Verify(), "stamp CRC")
}

func TestParseWalksThroughConcatenatedBatches(t *testing.T) {
	one, two := testBatch(t, CodecNone), testBatch(t, CodecZstd)
	all := append(bytes.Clone(one), two...)
	first, rest, err := Parse(all, DefaultLimits())
	require.NoError(t, err)
	require.Equal(t, one, first)
	n, ok := PeekLength(rest)
	require.True(t, ok)
	require.Equal(t, len(two), int(n))
	second, rest, err := Parse(rest, DefaultLimits())
	require.NoError(t, err)
	require.Equal(t, two, second)
	require.Empty(t, rest)
	_, ok = PeekLength(rest)
	require.False(t, ok)
	// Appending to a parsed batch must not run into the next one.
	require.Equal(t, len(first), cap(first))
}
