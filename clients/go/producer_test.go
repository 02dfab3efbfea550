package sequitur

import (
	"context"
	"fmt"
	"maps"
	"math"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/sequitur-mq/sequitur/record"
	"github.com/sequitur-mq/sequitur/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func config(partitions uint32) wire.TopicConfig {
	cfg := wire.DefaultTopicConfig()
	cfg.Partitions = partitions
	return cfg
}

func connect(t testing.TB, addr string, opts ...Option) *Client {
	c, err := Connect(t.Context(), addr, opts...)
	require.NoError(t, err)
	t.Cleanup(func() { c.Close() })
	return c
}

func newProducer(t testing.TB, c *Client, opts ...ProducerOption) *Producer {
	p, err := c.NewProducer(opts...)
	require.NoError(t, err)
	return p
}

func TestSendAndSendAsync(t *testing.T) {
	s := startServer(t)
	s.create("orders", config(1))
	c := connect(t, s.addr())
	p := newProducer(t, c)
	for i := range 10 {
		ack, err := p.Send(t.Context(), Record{Topic: "orders", Value: fmt.Append(nil, i)})
		require.NoError(t, err)
		require.Equal(t, int64(i), ack.Offset)
		require.WithinDuration(t, time.Now(), ack.AppendTime, time.Minute)
	}
	var acks []Ack // callbacks run one after the other
	for i := range 1000 {
		require.NoError(t, p.SendAsync(t.Context(), Record{Topic: "orders", Value: fmt.Append(nil, i+10)}, func(a Ack, err error) {
			require.NoError(t, err)
			acks = append(acks, a)
		}))
	}
	require.NoError(t, p.Close(t.Context()))
	require.Len(t, acks, 1000)
	for i, a := range acks {
		require.Equal(t, int64(i+10), a.Offset)
	}
	for i, v := range s.log("orders", 0) {
		require.Equal(t, fmt.Sprint(i), v)
	}
	_, err := p.Send(t.Context(), Record{Topic: "orders"})
	require.ErrorIs(t, err, ErrClosed)
	require.NoError(t, p.Close(context.Background()))
}

func TestKeysMessageIDsAndHeaders(t *testing.T) {
	s := startServer(t)
	s.create("orders", config(8))
	c := connect(t, s.addr())
	for _, codec := range []Codec{CodecNone, CodecS2, CodecZstd} {
		p := newProducer(t, c, WithCompression(codec))
		h := []Header{{Key: "a", Value: []byte("1")}, {Key: "b"}}
		at := time.UnixMilli(1_700_000_000_123)
		first, err := p.Send(t.Context(), Record{Topic: "orders", Key: []byte("k"), Value: []byte("v"), Headers: h, MessageID: "m" + codec.String(), Timestamp: at})
		require.NoError(t, err)
		require.False(t, first.Duplicate)
		again, err := p.Send(t.Context(), Record{Topic: "orders", Key: []byte("k"), MessageID: "m" + codec.String()})
		require.NoError(t, err)
		require.True(t, again.Duplicate)
		require.Equal(t, first.Offset, again.Offset)
		require.Equal(t, first.Partition, again.Partition, "same key, same partition")
		require.NoError(t, p.Close(t.Context()))

		k := newConsumer(t, c, "orders", WithPartitions(first.Partition), From(Offset(first.Offset)))
		for r, err := range k.Records(t.Context()) {
			require.NoError(t, err)
			require.Equal(t, Record{
				Topic: "orders", Partition: first.Partition, Offset: first.Offset, Timestamp: at, AppendTime: r.AppendTime,
				Key: []byte("k"), Value: []byte("v"), Headers: h, MessageID: "m" + codec.String(),
			}, r)
			break
		}
	}
	p := newProducer(t, c)
	a, err := p.Send(t.Context(), Record{Topic: "orders", MessageID: "only an id"})
	require.NoError(t, err)
	require.Equal(t, int32(s.topics["orders"].hash([]byte("only an id"))), a.Partition)
	_, err = p.Send(t.Context(), Record{Topic: "nowhere"})
	require.ErrorIs(t, err, ErrUnknownTopic)
	require.ErrorContains(t, err, "send to nowhere: UNKNOWN_TOPIC: the topic does not exist; create it or check its name")
	_, err = p.Send(t.Context(), Record{Topic: "orders", Value: make([]byte, 2<<20)})
	require.ErrorIs(t, err, ErrBatchTooLarge)
	require.NoError(t, p.Close(t.Context()))

	p = newProducer(t, c, WithManualPartition())
	a, err = p.Send(t.Context(), Record{Topic: "orders", Partition: 5, Key: []byte("k")})
	require.NoError(t, err)
	require.Equal(t, int32(5), a.Partition)
	_, err = p.Send(t.Context(), Record{Topic: "orders", Partition: 8})
	require.ErrorIs(t, err, ErrUnknownPartition)
	require.NoError(t, p.Close(t.Context()))
}

// Records without a key stay with a partition until its batch is sent.
func TestStickyPartition(t *testing.T) {
	s := startServer(t)
	s.create("orders", config(4))
	s.hang = func(k wire.Kind) bool { return k == wire.KindProduce }
	p := newProducer(t, connect(t, s.addr()))
	h := newHistory()
	send := func(i int) {
		v := fmt.Sprintf("s/%d", i)
		require.NoError(t, p.SendAsync(t.Context(), Record{Topic: "orders", Value: []byte(v)}, h.outcome(v)))
	}
	send(0)
	s.waitFor(func() bool { return len(s.held) == 1 })
	for i := range 100 {
		send(i + 1) // behind the first: one batch, in another partition
	}
	s.serveHeld()
	require.NoError(t, p.Close(t.Context()))
	used := map[int32]int{}
	for _, a := range h.acked {
		used[a.Partition]++
	}
	require.Len(t, used, 2)
	require.Equal(t, 2, s.count(wire.KindProduce))
}

func TestFencing(t *testing.T) {
	s := startServer(t)
	s.create("orders", config(2))
	c := connect(t, s.addr())
	old := newProducer(t, c, WithName("billing"))
	send := func(p *Producer) error {
		_, err := p.Send(t.Context(), Record{Topic: "orders", Key: []byte("k")})
		return err
	}
	require.NoError(t, send(old))
	fresh := newProducer(t, c, WithName("billing"))
	require.NoError(t, send(fresh))
	for range 3 { // for good
		err := send(old)
		require.ErrorIs(t, err, ErrProducerFenced)
		var e *Error
		require.ErrorAs(t, err, &e)
		require.False(t, e.Retriable)
		require.False(t, e.MaybeDone)
	}
	require.NoError(t, send(fresh))
	require.NoError(t, old.Close(t.Context()))
	require.NoError(t, fresh.Close(t.Context()))
	require.Len(t, append(s.log("orders", 0), s.log("orders", 1)...), 3)
}

// A named producer that needs a new epoch after a timeout does not fence a successor
// that took over meanwhile.
func TestSuccessorIsNotFencedByTimeout(t *testing.T) {
	s := startServer(t)
	s.create("orders", config(1))
	c := connect(t, s.addr(), WithRetryBackoff(time.Millisecond, 5*time.Millisecond))
	old := newProducer(t, c, WithName("billing"))
	s.set(func() { s.mute = true })
	timedOut := make(chan error)
	go func() {
		_, err := old.Send(t.Context(), Record{Topic: "orders", Value: []byte("s/1")})
		timedOut <- err
	}()
	s.waitFor(func() bool { return s.topics["orders"].parts[0].end == 1 })
	old.endDelivery()
	require.ErrorIs(t, <-timedOut, ErrTimeout)
	s.set(func() { s.mute = false })
	fresh := newProducer(t, c, WithName("billing"))
	_, err := fresh.Send(t.Context(), Record{Topic: "orders", Value: []byte("s/2")})
	require.NoError(t, err)
	c.dropSilent() // only now the old one learns that its batch needs a new epoch
	_, err = old.Send(t.Context(), Record{Topic: "orders", Value: []byte("s/3")})
	require.ErrorIs(t, err, ErrProducerFenced)
	_, err = fresh.Send(t.Context(), Record{Topic: "orders", Value: []byte("s/4")})
	require.NoError(t, err)
	require.Equal(t, []string{"s/1", "s/2", "s/4"}, s.log("orders", 0))
	require.NoError(t, fresh.Close(t.Context()))
	require.NoError(t, old.Close(t.Context()))
}

// What a broker lost though it had acknowledged it (topics with fsync interval) is
// reported, and sending goes on.
func TestBrokerLostAcknowledged(t *testing.T) {
	s := startServer(t)
	s.create("orders", config(1))
	var resets resetCounter
	c := connect(t, s.addr(), WithHooks(&resets), WithRetryBackoff(time.Millisecond, 5*time.Millisecond))
	p := newProducer(t, c)
	send := func(v string) {
		_, err := p.Send(t.Context(), Record{Topic: "orders", Value: []byte(v)})
		require.NoError(t, err)
	}
	send("s/0")
	send("s/1")
	s.set(func() { // back to the state after s/0
		part := s.topics["orders"].parts[0]
		part.batches = part.batches[:1]
		part.end = part.batches[0].NextOffset()
		for _, known := range part.producers {
			known.next, known.recent = part.batches[0].NextSequence(), known.recent[:1]
		}
	})
	send("s/2")
	require.NoError(t, p.Close(t.Context()))
	require.Equal(t, []string{"s/0", "s/2"}, s.log("orders", 0))
	require.Equal(t, int64(1), resets.lost.Load())
}

type resetCounter struct {
	NoHooks
	lost atomic.Int64
}

func (r *resetCounter) ProducerReset(_ string, _ int32, lost bool, _ error) {
	if lost {
		r.lost.Add(1)
	}
}

// A refusal for good fails its batch only; the next one takes its numbers.
func TestRefusedForGood(t *testing.T) {
	s := startServer(t)
	s.create("orders", config(1))
	bad := 3
	s.onProduce = func(string, uint32, record.Batch) wire.Code {
		if bad--; bad == 0 {
			return wire.CodeCorruptMessage
		}
		return wire.CodeNone
	}
	p := newProducer(t, connect(t, s.addr()), WithBatchBytes(1<<10))
	h := newHistory()
	for i := range 2000 {
		v := fmt.Sprintf("s/%d", i)
		require.NoError(t, p.SendAsync(t.Context(), Record{Topic: "orders", Value: []byte(v)}, h.outcome(v)))
	}
	require.NoError(t, p.Close(t.Context()))
	require.NotEmpty(t, h.failed)
	for _, err := range h.failed {
		require.ErrorIs(t, err, ErrCorruptMessage)
	}
	require.NoError(t, h.check([][]string{s.log("orders", 0)}))
	require.Len(t, s.log("orders", 0), 2000-len(h.failed))
}

func TestBoundedMemory(t *testing.T) {
	s := startServer(t)
	s.create("orders", config(4))
	s.hang = func(k wire.Kind) bool { return k == wire.KindProduce }
	c := connect(t, s.addr())
	const limit = 100 << 10
	full := newProducer(t, c, WithMaxBufferedBytes(limit), WithBlockOnFull(false))
	var err error
	sent := 0
	for i := 0; err == nil; i++ {
		err = full.SendAsync(t.Context(), Record{Topic: "orders", Key: fmt.Append(nil, i), Value: make([]byte, 100)}, nil)
		sent++
	}
	require.ErrorIs(t, err, ErrBufferFull)
	full.mu.Lock()
	require.LessOrEqual(t, full.buffered, int64(limit*2))
	full.mu.Unlock()
	require.Greater(t, sent, 100)

	blocks := newProducer(t, c, WithMaxBufferedBytes(limit))
	ctx, cancel := context.WithCancel(t.Context())
	blocked := make(chan error)
	go func() {
		for {
			if err := blocks.SendAsync(ctx, Record{Topic: "orders", Value: make([]byte, 1000)}, nil); err != nil {
				blocked <- err
				return
			}
		}
	}()
	waitUntil(t, blocks, func() bool { return len(blocks.room) == 1 })
	cancel()
	err = <-blocked
	require.ErrorIs(t, err, context.Canceled)
	require.ErrorContains(t, err, "buffer was full")
	// Room comes with acknowledgements.
	go func() {
		blocked <- blocks.SendAsync(t.Context(), Record{Topic: "orders", Value: make([]byte, 50_000)}, nil)
	}()
	waitUntil(t, blocks, func() bool { return len(blocks.room) == 1 })
	s.serveHeld()
	require.NoError(t, <-blocked)
	require.NoError(t, blocks.Close(t.Context()))
	require.NoError(t, full.Close(t.Context()))
	require.Zero(t, blocks.buffered)
	require.Zero(t, full.buffered)
}

// endDelivery ends the delivery timeout of everything that waits.
func (p *Producer) endDelivery() {
	p.mu.Lock()
	defer p.unlock()
	for _, topic := range p.topics {
		for _, t := range topic.parts {
			if t != nil {
				t.expire(p.client.now())
			}
		}
	}
}

// dropSilent ends the request timeout of everything that waits.
func (c *Client) dropSilent() {
	c.mu.Lock()
	conns := slices.Collect(maps.Keys(c.conns))
	c.mu.Unlock()
	for _, k := range conns {
		k.overdue(math.MaxInt64)
	}
}

// waitUntil polls a state of the producer that nothing signals.
func waitUntil(t *testing.T, p *Producer, cond func() bool) {
	require.Eventually(t, func() bool {
		p.mu.Lock()
		defer p.mu.Unlock()
		return cond()
	}, time.Minute, time.Millisecond)
}

func TestContexts(t *testing.T) {
	s := startServer(t)
	s.create("orders", config(1))
	c := connect(t, s.addr())
	p := newProducer(t, c)
	_, err := p.Send(t.Context(), Record{Topic: "orders", Value: []byte("s/0")})
	require.NoError(t, err)
	s.set(func() { s.hang = func(k wire.Kind) bool { return k == wire.KindProduce } })
	ctx, cancel := context.WithCancel(t.Context())
	gone := make(chan error)
	go func() {
		_, err := p.Send(ctx, Record{Topic: "orders", Value: []byte("s/1")})
		gone <- err
	}()
	s.waitFor(func() bool { return len(s.held) == 1 })
	cancel()
	var e *Error
	require.ErrorAs(t, <-gone, &e)
	require.ErrorIs(t, e, context.Canceled)
	require.True(t, e.MaybeDone)
	require.ErrorIs(t, p.Flush(ctx), context.Canceled)
	_, err = p.Send(ctx, Record{Topic: "orders"})
	require.ErrorAs(t, err, &e)
	require.False(t, e.MaybeDone, "nothing was queued")
	s.serveHeld()
	require.NoError(t, p.Close(t.Context()))
	require.Equal(t, []string{"s/0", "s/1"}, s.log("orders", 0), "it stayed queued")
}

// Close gives up what is not acknowledged when its context ends, and says so.
func TestCloseGivesUp(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	s := startServer(t)
	s.create("orders", config(1))
	s.hang = func(k wire.Kind) bool { return k == wire.KindProduce }
	c := connect(t, s.addr())
	p := newProducer(t, c)
	failed := make(chan error, 100)
	for range 100 {
		require.NoError(t, p.SendAsync(t.Context(), Record{Topic: "orders"}, func(_ Ack, err error) { failed <- err }))
	}
	s.waitFor(func() bool { return len(s.held) == 1 })
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorIs(t, p.Close(ctx), context.Canceled)
	for range 100 {
		require.ErrorIs(t, <-failed, ErrClosed)
	}
	// A client closes what is left open.
	orphan := newProducer(t, c)
	require.NoError(t, orphan.SendAsync(t.Context(), Record{Topic: "orders"}, func(_ Ack, err error) { failed <- err }))
	require.NoError(t, c.Close())
	require.ErrorIs(t, <-failed, ErrClosed)
	_, err := c.NewProducer()
	require.ErrorIs(t, err, ErrClosed)
	s.close()
}

func TestFlushReportsFailuresWithoutCallback(t *testing.T) {
	s := startServer(t)
	s.create("orders", config(1))
	s.onProduce = func(string, uint32, record.Batch) wire.Code { return wire.CodeCorruptMessage }
	p := newProducer(t, connect(t, s.addr()))
	require.NoError(t, p.SendAsync(t.Context(), Record{Topic: "orders"}, nil))
	require.ErrorIs(t, p.Flush(t.Context()), ErrCorruptMessage)
	require.NoError(t, p.Flush(t.Context()), "once")
	require.NoError(t, p.Close(t.Context()))
}

func TestAcksNone(t *testing.T) {
	s := startServer(t)
	s.create("orders", config(1))
	p := newProducer(t, connect(t, s.addr()), WithAcks(AcksNone))
	ack, err := p.Send(t.Context(), Record{Topic: "orders", Value: []byte("s/0")})
	require.NoError(t, err)
	require.Equal(t, Ack{Topic: "orders", Offset: -1}, ack)
	for i := range 1000 {
		require.NoError(t, p.SendAsync(t.Context(), Record{Topic: "orders", Value: fmt.Appendf(nil, "s/%d", i+1)}, nil))
	}
	require.NoError(t, p.Close(t.Context()))
	s.waitFor(func() bool { return s.topics["orders"].parts[0].end == 1001 })
	require.NoError(t, newHistory().check([][]string{s.log("orders", 0)}))
}

func TestLinger(t *testing.T) {
	s := startServer(t)
	s.create("orders", config(1))
	p := newProducer(t, connect(t, s.addr()), WithLinger(time.Hour))
	for range 100 {
		require.NoError(t, p.SendAsync(t.Context(), Record{Topic: "orders"}, nil))
	}
	require.Zero(t, s.count(wire.KindProduce))
	require.NoError(t, p.Close(t.Context())) // flushes
	require.Equal(t, 1, s.count(wire.KindProduce))

	p = newProducer(t, connect(t, s.addr()), WithLinger(time.Millisecond))
	_, err := p.Send(t.Context(), Record{Topic: "orders"})
	require.NoError(t, err)
	require.NoError(t, p.Close(t.Context()))
}

// The topic is deleted, and created again, while records wait.
func TestTopicDeletedMeanwhile(t *testing.T) {
	s := startServer(t)
	s.create("orders", config(1))
	p := newProducer(t, connect(t, s.addr()))
	send := func() error {
		_, err := p.Send(t.Context(), Record{Topic: "orders", Value: []byte("s/0")})
		return err
	}
	require.NoError(t, send())
	s.set(func() { delete(s.topics, "orders") })
	require.ErrorIs(t, send(), ErrUnknownTopic)
	require.ErrorIs(t, send(), ErrUnknownTopic)
	s.create("orders", config(3))
	require.NoError(t, send())
	s.create("orders", config(3)) // under another UUID
	require.ErrorIs(t, send(), ErrUnknownTopic)
	require.NoError(t, send())
	require.NoError(t, p.Close(t.Context()))
}

func TestOptionsAreChecked(t *testing.T) {
	s := startServer(t)
	c := connect(t, s.addr())
	for _, o := range []ProducerOption{
		WithBatchBytes(10), WithMaxBufferedBytes(0), WithMaxInFlight(9), WithAcks(9), WithCompression(9), WithLinger(-1), WithDeliveryTimeout(0),
	} {
		_, err := c.NewProducer(o)
		require.ErrorIs(t, err, ErrMisuse)
	}
	_, err := c.NewProducer(WithName("x"), WithAcks(AcksNone))
	require.ErrorIs(t, err, ErrMisuse)
}
