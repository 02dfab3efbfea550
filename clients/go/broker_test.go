package sequitur_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	sequitur "github.com/sequitur-mq/sequitur/clients/go"

	"github.com/sequitur-mq/sequitur/broker"
)

// startBroker runs a real broker for the test.
func startBroker(t testing.TB, dir string) *broker.Broker {
	t.Helper()
	cfg := broker.DefaultConfig()
	cfg.DataDir, cfg.Listen, cfg.HTTP = dir, "127.0.0.1:0", ""
	cfg.Logger = slog.New(slog.NewTextHandler(io.Discard, nil))
	b, err := broker.Start(context.Background(), cfg)
	require.NoError(t, err)
	t.Cleanup(func() { stopBroker(b) })
	return b
}

func stopBroker(b *broker.Broker) {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	_ = b.Shutdown(ctx)
}

func connect(t testing.TB, addr string, opts ...sequitur.Option) *sequitur.Client {
	t.Helper()
	c, err := sequitur.Connect(context.Background(), addr, opts...)
	require.NoError(t, err)
	t.Cleanup(func() { c.Close() })
	return c
}

func topic(partitions uint32) sequitur.TopicConfig {
	cfg := sequitur.DefaultTopicConfig()
	cfg.Partitions = partitions
	return cfg
}

// BenchmarkBroker is client and broker together on the same processors, records of 128
// bytes, fsync always.
func BenchmarkBroker(b *testing.B) {
	for _, parts := range []uint32{1, 16, 256, 4096} {
		b.Run(fmt.Sprintf("produce/partitions=%d", parts), func(b *testing.B) {
			c := connect(b, startBroker(b, b.TempDir()).Addr())
			require.NoError(b, c.CreateTopic(context.Background(), "t", topic(parts)))
			p, err := c.NewProducer()
			require.NoError(b, err)
			ctx := context.Background()
			r := sequitur.Record{Topic: "t", Value: make([]byte, 128)}
			if parts > 1 {
				r.Key = make([]byte, 4)
			}
			b.ReportAllocs()
			n := 0
			for b.Loop() {
				if n++; parts > 1 {
					r.Key[0], r.Key[1] = byte(n), byte(n>>8)
				}
				if err := p.SendAsync(ctx, r, nil); err != nil {
					b.Fatal(err)
				}
			}
			require.NoError(b, p.Close(ctx))
			b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "records/s")
		})
	}
	b.Run("send", func(b *testing.B) {
		c := connect(b, startBroker(b, b.TempDir()).Addr())
		require.NoError(b, c.CreateTopic(context.Background(), "t", topic(1)))
		p, err := c.NewProducer()
		require.NoError(b, err)
		ctx := context.Background()
		b.ReportAllocs()
		for b.Loop() {
			if _, err := p.Send(ctx, sequitur.Record{Topic: "t", Value: make([]byte, 128)}); err != nil {
				b.Fatal(err)
			}
		}
		require.NoError(b, p.Close(ctx))
	})
	b.Run("consume", func(b *testing.B) {
		c := connect(b, startBroker(b, b.TempDir()).Addr())
		ctx := context.Background()
		require.NoError(b, c.CreateTopic(ctx, "t", topic(1)))
		p, err := c.NewProducer()
		require.NoError(b, err)
		const count = 1_000_000
		for range count {
			require.NoError(b, p.SendAsync(ctx, sequitur.Record{Topic: "t", Value: make([]byte, 128)}, nil))
		}
		require.NoError(b, p.Close(ctx))
		buf := make([]sequitur.Record, 512)
		b.ReportAllocs()
		b.ResetTimer()
		read := 0
		for read < b.N {
			k, err := c.NewConsumer(ctx, []string{"t"}, sequitur.UntilEnd())
			require.NoError(b, err)
			for {
				n, err := k.Poll(ctx, buf)
				read += n
				if err == io.EOF {
					break
				}
				require.NoError(b, err)
			}
			k.Close()
		}
		b.ReportMetric(float64(read)/b.Elapsed().Seconds(), "records/s")
	})
}
