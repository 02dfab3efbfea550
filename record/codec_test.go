package record

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"testing"

	"github.com/klauspost/compress/s2"
	"github.com/klauspost/compress/zstd"
	"github.com/stretchr/testify/require"
)

func TestParseCodec(t *testing.T) {
	for _, c := range []Codec{CodecNone, CodecS2, CodecZstd} {
		got, err := ParseCodec(c.String())
		require.NoError(t, err)
		require.Equal(t, c, got)
	}
	_, err := ParseCodec("gzip")
	require.ErrorContains(t, err, "use none, s2 or zstd")
	require.Equal(t, "codec(7)", Codec(7).String())
}

// withSection replaces the records section of b and declares its size.
func withSection(b Batch, section []byte, size int) Batch {
	out := Batch(append(bytes.Clone(b[:HeaderSize]), section...))
	binary.LittleEndian.PutUint32(out[atLength:], uint32(len(out)))
	binary.LittleEndian.PutUint32(out[atRecordsSize:], uint32(size))
	out.sealPayload()
	out.sealStamp()
	return out
}

func zstdFrame(tb testing.TB, src []byte, opts ...zstd.EOption) []byte {
	tb.Helper()
	enc, err := zstd.NewWriter(nil, append(opts, zstd.WithEncoderConcurrency(1))...)
	require.NoError(tb, err)
	defer enc.Close()
	return enc.EncodeAll(src, nil)
}

// zstdStream has no content size in its frame header, unlike zstdFrame.
func zstdStream(tb testing.TB, src []byte) []byte {
	tb.Helper()
	var out bytes.Buffer
	enc, err := zstd.NewWriter(&out, zstd.WithEncoderConcurrency(1))
	require.NoError(tb, err)
	for len(src) > 0 {
		n := min(len(src), 100_000)
		_, err = enc.Write(src[:n])
		require.NoError(tb, err)
		require.NoError(tb, enc.Flush())
		src = src[n:]
	}
	require.NoError(tb, enc.Close())
	return out.Bytes()
}

func TestDecompressionBelievesNobody(t *testing.T) {
	d := NewDecompressor()
	defer d.Close()
	bomb := make([]byte, 32<<20)
	lim := Limits{MaxBatchBytes: 8 << 20, MaxRecordsBytes: 1 << 20, MaxRecords: 1 << 20}
	sections := map[string]struct {
		codec   Codec
		section []byte
	}{
		"s2 bomb":          {CodecS2, s2.Encode(nil, bomb)},
		"s2 length only":   {CodecS2, binary.AppendUvarint(nil, 1<<31)},
		"zstd bomb":        {CodecZstd, zstdFrame(t, bomb)},
		"zstd stream bomb": {CodecZstd, zstdStream(t, bomb)},
		"zstd many frames": {CodecZstd, bytes.Repeat(zstdFrame(t, make([]byte, 4096)), 1000)},
		"garbage s2":       {CodecS2, bytes.Repeat([]byte{0xfe}, 500)},
		"garbage zstd":     {CodecZstd, bytes.Repeat([]byte{0xfe}, 500)},
		"empty zstd":       {CodecZstd, nil},
		"empty s2":         {CodecS2, nil},
	}
	for name, c := range sections {
		t.Run(name, func(t *testing.T) {
			base := testBatch(t, c.codec)
			// The header tells the truth of the bomb: over the limit.
			_, err := d.Records(nil, withSection(base, c.section, len(bomb)), lim)
			require.ErrorIs(t, err, ErrTooLarge)
			// The header lies: small, or as large as may be.
			for _, size := range []int{140, 4097, lim.MaxRecordsBytes} {
				b := withSection(base, c.section, size)
				_, _, err := Parse(b, lim)
				require.NoError(t, err, "the header alone cannot tell")
				out, err := d.Records(nil, b, lim)
				require.ErrorIs(t, err, ErrCorrupt)
				require.Nil(t, out)
				var reader Reader
				require.ErrorIs(t, reader.Reset(b, d, lim), ErrCorrupt)
				require.LessOrEqual(t, cap(d.buf), lim.MaxRecordsBytes)
			}
		})
	}
}

func TestDecompressionStaysInItsRoom(t *testing.T) {
	d := NewDecompressor()
	defer d.Close()
	for _, codec := range []Codec{CodecS2, CodecZstd} {
		b := testBatch(t, codec)
		size := int(b.RecordsSize())
		dst := bytes.Repeat([]byte{0xaa}, 10+size+10)
		out, err := d.Records(dst[:10], b, DefaultLimits())
		require.NoError(t, err)
		require.Len(t, out, size)
		require.Same(t, &dst[10], &out[0])
		require.Equal(t, bytes.Repeat([]byte{0xaa}, 10), dst[:10])
		require.Equal(t, bytes.Repeat([]byte{0xaa}, 10), dst[10+size:])
	}
}

func TestBuildFallsBackToNoneWhenCompressionDoesNotShrink(t *testing.T) {
	noise := make([]byte, 5000)
	for i := range noise {
		noise[i] = byte(rand.Uint32())
	}
	for _, codec := range []Codec{CodecS2, CodecZstd} {
		b := NewBuilder(100)
		b.Append(1, nil, noise, nil)
		batch, err := b.Build(NewCompressor(), codec, 0, 0, 0)
		require.NoError(t, err)
		require.Equal(t, CodecNone, batch.Attributes().Codec())
		require.Equal(t, b.Size(), len(batch))
		requireRecords(t, batch, nil, []modelRecord{{ts: 1, value: noise}})
	}
}

func TestCompressionNeedsCompressor(t *testing.T) {
	b := NewBuilder(100)
	b.Append(1, nil, nil, nil)
	_, err := b.Build(nil, CodecS2, 0, 0, 0)
	require.ErrorContains(t, err, "no compressor")
	_, err = b.Build(NewCompressor(), Codec(6), 0, 0, 0)
	require.ErrorContains(t, err, "codec(6)")
}
