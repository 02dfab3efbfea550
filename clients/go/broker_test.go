package sequitur_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	sequitur "github.com/sequitur-mq/sequitur/clients/go"

	"github.com/sequitur-mq/sequitur/broker"
	"github.com/sequitur-mq/sequitur/wire"
)

// startBroker runs a real broker for the test, on a free port or the given address.
func startBroker(t testing.TB, dir, listen string) *broker.Broker {
	t.Helper()
	cfg := broker.DefaultConfig()
	cfg.DataDir, cfg.Listen, cfg.HTTP = dir, listen, ""
	cfg.Logger = slog.New(slog.DiscardHandler)
	b, err := broker.Start(context.Background(), cfg)
	require.NoError(t, err)
	t.Cleanup(func() { stopBroker(b) })
	return b
}

const anyPort = "127.0.0.1:0"

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

// through makes all connections go to a proxy.
func through(addr string) sequitur.Option {
	var d net.Dialer
	return sequitur.WithDialer(func(ctx context.Context, network, _ string) (net.Conn, error) {
		return d.DialContext(ctx, network, addr)
	})
}

var quick = []sequitur.Option{
	sequitur.WithRetryBackoff(time.Millisecond, 10*time.Millisecond), sequitur.WithBreaker(5, 5*time.Millisecond),
}

// logs reads everything in a topic.
func logs(t *testing.T, c *sequitur.Client, topic string, partitions int) [][]string {
	k, err := c.NewConsumer(t.Context(), []string{topic}, sequitur.UntilEnd())
	require.NoError(t, err)
	defer k.Close()
	all := make([][]string, partitions)
	for r, err := range k.Records(t.Context()) {
		require.NoError(t, err)
		require.Equal(t, int64(len(all[r.Partition])), r.Offset)
		all[r.Partition] = append(all[r.Partition], string(r.Value))
	}
	return all
}

// Connections are cut at random points, and the broker is stopped and started again.
func TestOrderWithRealBroker(t *testing.T) {
	for _, parts := range []int{3, 80} {
		t.Run(fmt.Sprintf("%d partitions", parts), func(t *testing.T) {
			dir := t.TempDir()
			b := startBroker(t, dir, anyPort)
			addr := b.Addr()
			clean := connect(t, addr)
			require.NoError(t, clean.CreateTopic(t.Context(), "storm", topic(uint32(parts))))
			proxy := sequitur.StartCutter(t, func() string { return addr }, 40, 30_000)
			var c *sequitur.Client
			for c == nil { // Connect tries once only
				c, _ = sequitur.Connect(t.Context(), addr, append(quick, through(proxy.Addr()))...)
			}
			defer c.Close()
			p, err := c.NewProducer(sequitur.WithBatchBytes(2 << 10))
			require.NoError(t, err)
			h := sequitur.NewHistory()
			const senders, each = 3, 4000
			half := make(chan struct{}, senders)
			var wg sync.WaitGroup
			for g := range senders {
				wg.Go(func() {
					for i := range each {
						if i == each/2 {
							half <- struct{}{}
						}
						v := fmt.Sprintf("s%d/%d", g, i)
						r := sequitur.Record{Topic: "storm", Key: fmt.Append(nil, i%200), Value: []byte(v)}
						if err := p.SendAsync(t.Context(), r, h.Outcome(v)); err != nil {
							h.Outcome(v)(sequitur.Ack{}, err)
						}
					}
				})
			}
			<-half
			stopBroker(b)
			startBroker(t, dir, addr)
			wg.Wait()
			require.NoError(t, p.Close(t.Context()))
			require.Empty(t, h.Failed())
			require.Len(t, h.Acked(), senders*each)
			require.NoError(t, h.Check(logs(t, clean, "storm", parts)))
		})
	}
}

// Answers are lost until the delivery timeout: what comes later keeps its place, for
// producers with and without a name.
func TestUnknownOutcomeWithRealBroker(t *testing.T) {
	for _, name := range []string{"", "billing"} {
		b := startBroker(t, t.TempDir(), anyPort)
		clean := connect(t, b.Addr())
		require.NoError(t, clean.CreateTopic(t.Context(), "storm", topic(1)))
		proxy := sequitur.StartCutter(t, b.Addr, 0, 1<<40)
		c := connect(t, b.Addr(), append(quick, through(proxy.Addr()))...)
		var opts []sequitur.ProducerOption
		if name != "" {
			opts = append(opts, sequitur.WithName(name))
		}
		p, err := c.NewProducer(opts...)
		require.NoError(t, err)
		h := sequitur.NewHistory()
		send := func(v string) error {
			ack, err := p.Send(t.Context(), sequitur.Record{Topic: "storm", Value: []byte(v)})
			h.Outcome(v)(ack, err)
			return err
		}
		require.NoError(t, send("s/0"))
		proxy.Drop(true)
		timedOut := make(chan error)
		go func() { timedOut <- send("s/1") }()
		for end := int64(0); end < 2; {
			ends, err := clean.ListOffsets(t.Context(), "storm", sequitur.End())
			require.NoError(t, err)
			end = ends[0].Offset
		}
		p.EndDelivery()
		require.ErrorIs(t, <-timedOut, sequitur.ErrTimeout)
		proxy.Drop(false)
		c.DropSilent()
		require.NoError(t, send("s/2"))
		require.NoError(t, p.Close(t.Context()))
		require.NoError(t, h.Check(logs(t, clean, "storm", 1)))
	}
}

func TestFencingAndDuplicatesWithRealBroker(t *testing.T) {
	b := startBroker(t, t.TempDir(), anyPort)
	c := connect(t, b.Addr())
	cfg := topic(4)
	cfg.DedupWindow = time.Hour
	require.NoError(t, c.CreateTopic(t.Context(), "orders", cfg))
	old, err := c.NewProducer(sequitur.WithName("billing"))
	require.NoError(t, err)
	r := sequitur.Record{Topic: "orders", MessageID: "order 1", Value: []byte("first")}
	first, err := old.Send(t.Context(), r)
	require.NoError(t, err)
	require.False(t, first.Duplicate)
	fresh, err := c.NewProducer(sequitur.WithName("billing"))
	require.NoError(t, err)
	again, err := fresh.Send(t.Context(), r)
	require.NoError(t, err)
	require.True(t, again.Duplicate)
	require.Equal(t, first.Offset, again.Offset)
	require.Equal(t, first.Partition, again.Partition)
	_, err = old.Send(t.Context(), r)
	require.ErrorIs(t, err, sequitur.ErrProducerFenced)
	require.NoError(t, old.Close(t.Context()))
	require.NoError(t, fresh.Close(t.Context()))
}

func TestAdminWithRealBroker(t *testing.T) {
	b := startBroker(t, t.TempDir(), anyPort)
	c := connect(t, b.Addr())
	ctx := t.Context()
	require.NoError(t, c.CreateTopic(ctx, "orders", topic(4)))
	err := c.CreateTopic(ctx, "orders", topic(4))
	require.ErrorIs(t, err, sequitur.ErrTopicExists)
	require.ErrorContains(t, err, "create topic orders: TOPIC_EXISTS")
	require.ErrorIs(t, c.CreateTopic(ctx, "a/b", topic(1)), sequitur.ErrInvalidTopicName)
	require.ErrorIs(t, c.CreateTopic(ctx, "x", topic(1<<20)), sequitur.ErrInvalidConfig)
	require.NoError(t, c.ValidateTopics(ctx, sequitur.NewTopic{Name: "y", Config: topic(1)}))
	require.ErrorIs(t, c.ValidateTopics(ctx, sequitur.NewTopic{Name: "orders", Config: topic(1)}), sequitur.ErrTopicExists)
	err = c.CreateTopics(ctx, sequitur.NewTopic{Name: "orders", Config: topic(1)}, sequitur.NewTopic{Name: "y", Config: topic(1)})
	require.ErrorIs(t, err, sequitur.ErrTopicExists)
	_, err = c.DescribeTopic(ctx, "y")
	require.NoError(t, err, "the others are created")

	cfg := topic(4)
	cfg.RetentionTime = time.Hour
	require.NoError(t, c.AlterTopic(ctx, "orders", cfg, wire.MaskRetentionTime))
	d, err := c.DescribeTopic(ctx, "orders")
	require.NoError(t, err)
	require.Equal(t, time.Hour, d.Config.RetentionTime)
	require.Len(t, d.Stats, 4)
	_, err = c.DescribeTopic(ctx, "nowhere")
	require.ErrorIs(t, err, sequitur.ErrUnknownTopic)
	topics, err := c.ListTopics(ctx)
	require.NoError(t, err)
	require.GreaterOrEqual(t, len(topics), 2)
	brokers, err := c.ListBrokers(ctx)
	require.NoError(t, err)
	require.Len(t, brokers, 1)
	info, err := c.DescribeBroker(ctx, "")
	require.NoError(t, err)
	require.NotEmpty(t, info.JournalMode)
	_, err = c.DescribeBroker(ctx, brokers[0].Addr)
	require.NoError(t, err)

	p, err := c.NewProducer()
	require.NoError(t, err)
	ack, err := p.Send(ctx, sequitur.Record{Topic: "orders", Key: []byte("k")})
	require.NoError(t, err)
	ends, err := c.ListOffsets(ctx, "orders", sequitur.End())
	require.NoError(t, err)
	require.Len(t, ends, 4)
	require.Equal(t, int64(1), ends[ack.Partition].Offset)
	starts, err := c.ListOffsets(ctx, "orders", sequitur.At(ack.AppendTime), ack.Partition)
	require.NoError(t, err)
	require.Equal(t, []sequitur.PartitionOffset{{Partition: ack.Partition, Offset: 0, Time: ack.AppendTime}}, starts)
	_, err = c.ListOffsets(ctx, "orders", sequitur.Offset(1))
	require.ErrorIs(t, err, sequitur.ErrMisuse)

	require.NoError(t, c.DeleteTopic(ctx, "orders"))
	require.ErrorIs(t, c.DeleteTopic(ctx, "orders"), sequitur.ErrUnknownTopic)
	_, err = p.Send(ctx, sequitur.Record{Topic: "orders", Key: []byte("k")})
	require.ErrorIs(t, err, sequitur.ErrUnknownTopic)
	require.NoError(t, p.Close(ctx))
}

// BenchmarkBroker is client and broker together on the same processors, records of 128
// bytes, fsync always.
func BenchmarkBroker(b *testing.B) {
	for _, parts := range []uint32{1, 16, 256, 4096} {
		b.Run(fmt.Sprintf("produce/partitions=%d", parts), func(b *testing.B) {
			c := connect(b, startBroker(b, b.TempDir(), anyPort).Addr())
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
		c := connect(b, startBroker(b, b.TempDir(), anyPort).Addr())
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
		c := connect(b, startBroker(b, b.TempDir(), anyPort).Addr())
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
