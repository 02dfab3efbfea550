package record

import (
	"bytes"
	"fmt"
	"testing"
)

func BenchmarkBuild(b *testing.B) {
	for _, size := range []int{128, 1024} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			key, value := []byte("key-0000"), bytes.Repeat([]byte{'v'}, size-8)
			builder := NewBuilder(256 << 10)
			b.ReportAllocs()
			b.SetBytes(int64(size))
			ts := int64(1_700_000_000_000)
			for i := 0; b.Loop(); i++ {
				if builder.Size() > 256<<10 {
					builder.Reset()
				}
				builder.Append(ts+int64(i&7), key, value, nil)
			}
		})
	}
}

func BenchmarkBuildHeaders(b *testing.B) {
	key, value := []byte("key-0000"), bytes.Repeat([]byte{'v'}, 120)
	headers := []Header{{Key: MessageIDHeader, Value: []byte("0123456789abcdef")}}
	builder := NewBuilder(256 << 10)
	b.ReportAllocs()
	for b.Loop() {
		if builder.Size() > 256<<10 {
			builder.Reset()
		}
		builder.Append(1_700_000_000_000, key, value, headers)
	}
}

func benchBatch(tb testing.TB, records, size int, codec Codec, headers []Header) Batch {
	tb.Helper()
	builder := NewBuilder(1 << 20)
	value := bytes.Repeat([]byte("0123456789abcdef"), size/16+1)[:size-8]
	for i := range records {
		builder.Append(1_700_000_000_000+int64(i%8), []byte("key-0000"), value, headers)
	}
	batch, err := builder.Build(NewCompressor(), codec, 7, 1, 0)
	if err != nil {
		tb.Fatal(err)
	}
	batch.Stamp(1000, 3, 1_700_000_000_000_000_000)
	return batch
}

func BenchmarkSeal(b *testing.B) {
	builder := NewBuilder(64 << 10)
	for builder.Size() < 64<<10 {
		builder.Append(1, []byte("key-0000"), make([]byte, 120), nil)
	}
	b.ReportAllocs()
	b.SetBytes(64 << 10)
	for b.Loop() {
		if _, err := builder.Build(nil, CodecNone, 7, 1, 0); err != nil {
			b.Fatal(err)
		}
	}
}

func benchRead(b *testing.B, batch Batch, records int) {
	var reader Reader
	var rec Record
	d := NewDecompressor()
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		if n == 0 {
			if err := reader.Reset(batch, d, DefaultLimits()); err != nil {
				b.Fatal(err)
			}
			n = records
		}
		if ok, err := reader.Next(&rec); !ok || err != nil {
			b.Fatal(ok, err)
		}
		n--
	}
}

func BenchmarkRead(b *testing.B) {
	for _, size := range []int{128, 1024} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			benchRead(b, benchBatch(b, 1000, size, CodecNone, nil), 1000)
		})
	}
	b.Run("headers", func(b *testing.B) {
		headers := []Header{{Key: MessageIDHeader, Value: []byte("0123456789abcdef")}}
		benchRead(b, benchBatch(b, 1000, 128, CodecNone, headers), 1000)
	})
	b.Run("s2", func(b *testing.B) {
		benchRead(b, benchBatch(b, 1000, 128, CodecS2, nil), 1000)
	})
	b.Run("zstd", func(b *testing.B) {
		benchRead(b, benchBatch(b, 1000, 128, CodecZstd, nil), 1000)
	})
}

func BenchmarkParseVerify(b *testing.B) {
	batch := benchBatch(b, 512, 128, CodecNone, nil)
	b.ReportAllocs()
	b.SetBytes(int64(len(batch)))
	for b.Loop() {
		got, _, err := Parse(batch, DefaultLimits())
		if err == nil {
			err = got.Verify()
		}
		if err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkRewrite(b *testing.B) {
	batch := benchBatch(b, 1000, 128, CodecNone, nil)
	var w Rewriter
	b.ReportAllocs()
	b.SetBytes(int64(len(batch)))
	for b.Loop() {
		out, err := w.Rewrite(batch, DefaultLimits(), func(r *Record) bool { return r.OffsetDelta%2 == 0 })
		if err != nil || out.Count() != 500 {
			b.Fatal(err)
		}
	}
}
