package sequitur

import (
	"context"
	"fmt"
	"io"
	"testing"
)

// BenchmarkEnqueue is the part of SendAsync under the lock: a record of 128 bytes into
// the open batch. Full batches are dropped.
func BenchmarkEnqueue(b *testing.B) {
	for _, keyed := range []bool{false, true} {
		b.Run(fmt.Sprintf("keyed=%v", keyed), func(b *testing.B) {
			s := startServer(b)
			s.create("t", config(16))
			p := newProducer(b, connect(b, s.addr()))
			defer p.abandon()
			r := Record{Topic: "t", Value: make([]byte, 128)}
			if keyed {
				r.Key = []byte("customer-4711")
			}
			ctx := context.Background()
			if err := p.resolve(ctx, "t"); err != nil {
				b.Fatal(err)
			}
			for _, t := range p.topics {
				for i := range t.parts {
					p.newPartition(t, int32(i)).recovering = true // never sendable
				}
			}
			b.ReportAllocs()
			b.SetBytes(128)
			for b.Loop() {
				if err := p.SendAsync(ctx, r, nil); err != nil {
					b.Fatal(err)
				}
				if p.buffered < 4<<20 {
					continue
				}
				p.mu.Lock()
				for _, t := range p.topics["t"].parts {
					for _, q := range t.queue {
						p.countDelivered(q)
						p.recycle(q)
					}
					t.queue = t.queue[:0]
				}
				p.mu.Unlock()
			}
		})
	}
}

// BenchmarkSendAsync is the whole client side with a server that only acknowledges, on
// the same processors.
func BenchmarkSendAsync(b *testing.B) {
	for _, parts := range []uint32{1, 16, 4096} {
		b.Run(fmt.Sprintf("partitions=%d", parts), func(b *testing.B) {
			s := startServer(b)
			s.discard = true
			s.create("t", config(parts))
			p := newProducer(b, connect(b, s.addr()))
			ctx := context.Background()
			r := Record{Topic: "t", Value: make([]byte, 128), Key: make([]byte, 8)}
			if parts == 1 {
				r.Key = nil
			}
			n := 0
			done := func(_ Ack, err error) {
				if err != nil {
					b.Error(err)
				}
			}
			b.ReportAllocs()
			b.SetBytes(128)
			for b.Loop() {
				if r.Key != nil {
					n++
					r.Key[0], r.Key[1] = byte(n), byte(n>>8)
				}
				if err := p.SendAsync(ctx, r, done); err != nil {
					b.Fatal(err)
				}
			}
			if err := p.Close(ctx); err != nil {
				b.Fatal(err)
			}
			b.ReportMetric(float64(s.count(3)), "requests")
		})
	}
}

// BenchmarkSend is one outstanding record at a time.
func BenchmarkSend(b *testing.B) {
	s := startServer(b)
	s.discard = true
	s.create("t", config(1))
	p := newProducer(b, connect(b, s.addr()))
	ctx := context.Background()
	r := Record{Topic: "t", Value: make([]byte, 128)}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := p.Send(ctx, r); err != nil {
			b.Fatal(err)
		}
	}
	if err := p.Close(ctx); err != nil {
		b.Fatal(err)
	}
}

// BenchmarkDecode is the reader's side of Poll and Records: batches that are there
// already are checked and decoded.
func BenchmarkDecode(b *testing.B) {
	s := startServer(b)
	s.create("t", config(1))
	c := connect(b, s.addr())
	const count = 100_000
	p := newProducer(b, c)
	ctx := context.Background()
	for range count {
		if err := p.SendAsync(ctx, Record{Topic: "t", Value: make([]byte, 128)}, nil); err != nil {
			b.Fatal(err)
		}
	}
	if err := p.Close(ctx); err != nil {
		b.Fatal(err)
	}
	var all []byte
	for _, batch := range s.topics["t"].parts[0].batches {
		all = append(all, batch...)
	}
	k, err := c.NewConsumer(ctx, []string{"t"}, UntilEnd())
	if err != nil {
		b.Fatal(err)
	}
	defer k.Close()
	k.started = true // no fetching: the queue is filled by hand
	again := func() {
		part := k.parts[0]
		part.position.Store(0)
		k.push(chunk{part: part, batches: all, jump: -1})
	}
	b.Run("poll", func(b *testing.B) {
		buf := make([]Record, 512)
		b.ReportAllocs()
		for n := 0; n < b.N; {
			again()
			for {
				got, err := k.Poll(ctx, buf)
				n += got
				if err == io.EOF {
					break
				}
				if err != nil {
					b.Fatal(err)
				}
			}
		}
	})
	b.Run("records", func(b *testing.B) {
		b.ReportAllocs()
		for n := 0; n < b.N; {
			again()
			for _, err := range k.Records(ctx) {
				if err != nil {
					b.Fatal(err)
				}
				n++
			}
		}
	})
}
