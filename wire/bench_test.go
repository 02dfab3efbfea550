package wire

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// hotMessages are the messages of the produce and fetch paths, with as many
// parts as a busy client sends.
func hotMessages() map[string]Message {
	const parts = 16
	produce, produced := &ProduceRequest{Acks: AcksQuorum, TimeoutMs: 30_000}, &ProduceResponse{}
	fetch, fetched := &FetchRequest{MaxWaitMs: 500, MinBytes: 1, MaxBytes: 1 << 20}, &FetchResponse{}
	for i := range uint32(parts) {
		produce.Parts = append(produce.Parts, ProducePart{UUID{1}, i, 16 << 10})
		produced.Parts = append(produced.Parts, ProduceResult{BaseOffset: int64(i) << 20, AppendTime: 1_700_000_000_123_456_789, Duplicates: []DuplicateRecord{{i, 5}}})
		fetch.Parts = append(fetch.Parts, FetchPart{UUID{1}, i, int64(i) << 20, 64 << 10})
		fetched.Parts = append(fetched.Parts, FetchResult{Index: i, HighWatermark: int64(i) << 20, Bytes: 64 << 10})
	}
	return map[string]Message{"ProduceRequest": produce, "ProduceResponse": produced, "FetchRequest": fetch, "FetchResponse": fetched}
}

func TestHotMessagesDoNotAllocate(t *testing.T) {
	for name, m := range hotMessages() {
		buf := AppendFrame(nil, FrameHeader{Kind: KindFetch}, m, 0)
		encoded := append([]byte(nil), buf[FrameHeaderSize:]...)
		into := newLike(m)
		require.NoError(t, into.Decode(encoded))
		require.Zero(t, testing.AllocsPerRun(100, func() {
			buf = AppendFrame(buf[:0], FrameHeader{Kind: KindFetch}, m, 0)
			if into.Decode(encoded) != nil {
				t.Error("decode failed")
			}
		}), name)
	}
}

func BenchmarkEncode(b *testing.B) {
	for name, m := range hotMessages() {
		b.Run(name, func(b *testing.B) {
			var buf []byte
			b.ReportAllocs()
			for b.Loop() {
				buf = AppendFrame(buf[:0], FrameHeader{Kind: KindFetch}, m, 0)
			}
			b.SetBytes(int64(len(buf)))
		})
	}
}

func BenchmarkDecode(b *testing.B) {
	for name, m := range hotMessages() {
		b.Run(name, func(b *testing.B) {
			encoded := m.AppendTo(nil)
			into := newLike(m)
			b.SetBytes(int64(len(encoded)))
			b.ReportAllocs()
			for b.Loop() {
				if err := into.Decode(encoded); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkFrameHeader(b *testing.B) {
	frame := AppendFrame(nil, FrameHeader{Kind: KindFetch, Version: 1}, &FetchResponse{}, 100)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := ParseFrameHeader(frame, FrameLimits{}); err != nil {
			b.Fatal(err)
		}
	}
}
