package sequitur

import (
	"context"
	"fmt"
	"io"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/sequitur-mq/sequitur/wire"
)

// fill sends n records "0".."n-1" without keys to a topic.
func fill(t testing.TB, c *Client, topic string, n int, opts ...ProducerOption) {
	p := newProducer(t, c, opts...)
	for i := range n {
		require.NoError(t, p.SendAsync(t.Context(), Record{Topic: topic, Value: fmt.Append(nil, i)}, nil))
	}
	require.NoError(t, p.Close(t.Context()))
}

func newConsumer(t testing.TB, c *Client, topic string, opts ...ConsumerOption) *Consumer {
	k, err := c.NewConsumer(t.Context(), []string{topic}, opts...)
	require.NoError(t, err)
	t.Cleanup(func() { k.Close() })
	return k
}

func TestConsumeUntilEnd(t *testing.T) {
	s := startServer(t)
	s.create("orders", config(1))
	c := connect(t, s.addr())
	fill(t, c, "orders", 10_000)
	k := newConsumer(t, c, "orders", UntilEnd())
	n := 0
	for r, err := range k.Records(t.Context()) {
		require.NoError(t, err)
		require.Equal(t, fmt.Sprint(n), string(r.Value))
		require.Equal(t, int64(n), r.Offset)
		n++
	}
	require.Equal(t, 10_000, n)
	require.Equal(t, []PartitionPosition{{"orders", 0, 10_000, 10_000}}, k.Positions())
	_, err := k.Poll(t.Context(), make([]Record, 1))
	require.ErrorIs(t, err, io.EOF)
}

func TestBreakAndResume(t *testing.T) {
	s := startServer(t)
	s.create("orders", config(1))
	c := connect(t, s.addr())
	fill(t, c, "orders", 100)
	k := newConsumer(t, c, "orders")
	buf := make([]Record, 7)
	for n := 0; n < 100; {
		for r, err := range k.Records(t.Context()) {
			require.NoError(t, err)
			require.Equal(t, int64(n), r.Offset)
			n++
			break
		}
		if n == 100 {
			break
		}
		got, err := k.Poll(t.Context(), buf)
		require.NoError(t, err)
		for _, r := range buf[:got] {
			require.Equal(t, int64(n), r.Offset)
			n++
		}
	}
	// Following: the next record is waited for.
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() { fill(t, c, "orders", 1) })
	for r, err := range k.Records(ctx) {
		if err != nil {
			require.ErrorIs(t, err, context.Canceled)
			require.ErrorIs(t, err, ErrCanceled)
			break
		}
		require.Equal(t, int64(100), r.Offset)
		cancel()
	}
	require.Error(t, ctx.Err())
}

// recorder is a client's hooks that keep what consumers report.
type recorder struct {
	NoHooks
	mu      sync.Mutex
	skipped [][2]int64
	resets  [][2]int64
}

func (r *recorder) CorruptSkipped(_ string, _ int32, from, to int64, _ error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.skipped = append(r.skipped, [2]int64{from, to})
}

func (r *recorder) PositionReset(_ string, _ int32, from, to int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.resets = append(r.resets, [2]int64{from, to})
}

// offsets reads to the end, or the first error.
func offsets(ctx context.Context, k *Consumer) (list []int64, err error) {
	for r, err := range k.Records(ctx) {
		if err != nil {
			return list, err
		}
		list = append(list, r.Offset)
	}
	return list, nil
}

func upTo(from, to int64) (list []int64) {
	for ; from < to; from++ {
		list = append(list, from)
	}
	return list
}

// batched fills a topic with batches of ten records.
func batched(t testing.TB, c *Client, topic string, batches int) {
	p := newProducer(t, c, WithLinger(time.Hour))
	for range batches {
		for range 10 {
			require.NoError(t, p.SendAsync(t.Context(), Record{Topic: topic, Value: []byte("v")}, nil))
		}
		require.NoError(t, p.Flush(t.Context()))
	}
	require.NoError(t, p.Close(t.Context()))
}

func TestStartPositions(t *testing.T) {
	s := startServer(t)
	s.create("orders", config(1))
	c := connect(t, s.addr())
	batched(t, c, "orders", 10)
	middle := time.Unix(0, s.topics["orders"].parts[0].batches[5].AppendTime())
	for _, x := range []struct {
		from Position
		want int64
	}{{Start(), 0}, {End(), 100}, {Offset(37), 37}, {Offset(100), 100}, {At(middle), 50}, {At(time.Now().Add(time.Hour)), 100}, {At(time.Unix(0, 0)), 0}} {
		got, err := offsets(t.Context(), newConsumer(t, c, "orders", From(x.from), UntilEnd()))
		require.NoError(t, err)
		require.Equal(t, upTo(x.want, 100), got, "from %v", x.from)
	}
	_, err := c.NewConsumer(t.Context(), []string{"orders"}, WithPartitions(1))
	require.ErrorIs(t, err, ErrUnknownPartition)
	_, err = c.NewConsumer(t.Context(), []string{"nowhere"})
	require.ErrorIs(t, err, ErrUnknownTopic)
	_, err = c.NewConsumer(t.Context(), nil)
	require.ErrorIs(t, err, ErrMisuse)
}

func TestSeekInsideALoop(t *testing.T) {
	s := startServer(t)
	s.create("orders", config(1))
	c := connect(t, s.addr())
	batched(t, c, "orders", 10)
	k := newConsumer(t, c, "orders")
	var got []int64
	for r, err := range k.Records(t.Context()) {
		require.NoError(t, err)
		got = append(got, r.Offset)
		switch len(got) {
		case 3:
			require.NoError(t, k.Seek(t.Context(), "orders", 0, Offset(77)))
		case 5:
			require.NoError(t, k.Seek(t.Context(), "orders", 0, Start()))
		}
		if len(got) == 6 {
			break
		}
	}
	require.Equal(t, []int64{0, 1, 2, 77, 78, 0}, got)
	require.Equal(t, int64(1), k.Positions()[0].Offset)
	require.ErrorIs(t, k.Seek(t.Context(), "orders", 1, Start()), ErrUnknownPartition)
}

func TestCorruption(t *testing.T) {
	s := startServer(t)
	s.create("orders", config(1))
	var seen recorder
	c := connect(t, s.addr(), WithHooks(&seen))
	batched(t, c, "orders", 10)
	s.holes[holeKey{"orders", 0}] = [2]int64{40, 60}

	k := newConsumer(t, c, "orders", UntilEnd())
	got, err := offsets(t.Context(), k)
	require.Equal(t, upTo(0, 40), got)
	require.ErrorIs(t, err, ErrCorrupt)
	var e *Error
	require.ErrorAs(t, err, &e)
	require.Equal(t, [2]int64{40, 60}, [2]int64{e.From, e.To})
	require.ErrorContains(t, err, "fetch orders/0: CORRUPT: offsets 40 to 59 are damaged")
	require.ErrorContains(t, err, "0.log at 4711")
	_, err = offsets(t.Context(), k)
	require.ErrorIs(t, err, ErrCorrupt, "until somebody decides")
	require.NoError(t, k.Seek(t.Context(), "orders", 0, Offset(e.To)))
	got, err = offsets(t.Context(), k)
	require.NoError(t, err)
	require.Equal(t, upTo(60, 100), got)

	got, err = offsets(t.Context(), newConsumer(t, c, "orders", UntilEnd(), WithSkipCorrupt()))
	require.NoError(t, err)
	require.Equal(t, append(upTo(0, 40), upTo(60, 100)...), got)
	require.Equal(t, [][2]int64{{40, 60}}, seen.skipped)
}

// Bytes damaged on the way are noticed; they are asked for again, checked by the broker.
func TestDamageOnTheWay(t *testing.T) {
	s := startServer(t)
	s.create("orders", config(1))
	c := connect(t, s.addr())
	batched(t, c, "orders", 10)
	damage := func(at int, always bool) {
		s.set(func() {
			s.fetchBits = nil
			s.mangle = func(verify bool, batches []byte) {
				if len(batches) > at && (always || !verify) {
					batches[at] ^= 1
				}
			}
		})
	}
	damage(500, false)
	k := newConsumer(t, c, "orders", UntilEnd(), WithFetchBytes(1<<20, 300))
	got, err := offsets(t.Context(), k)
	require.NoError(t, err)
	require.Equal(t, upTo(0, 100), got)
	s.set(func() { require.Contains(t, s.fetchBits, wire.FetchVerify) })

	damage(100, true)
	got, err = offsets(t.Context(), newConsumer(t, c, "orders", UntilEnd()))
	require.ErrorIs(t, err, ErrCorrupt)
	require.ErrorContains(t, err, "check network and memory")
	require.Empty(t, got)
}

func TestOffsetOutOfRange(t *testing.T) {
	s := startServer(t)
	s.create("orders", config(1))
	var seen recorder
	c := connect(t, s.addr(), WithHooks(&seen))
	batched(t, c, "orders", 10)
	s.set(func() { s.topics["orders"].parts[0].start = 50 })
	k := newConsumer(t, c, "orders", From(Offset(20)), UntilEnd())
	_, err := offsets(t.Context(), k)
	require.ErrorIs(t, err, ErrOffsetOutOfRange)
	require.ErrorContains(t, err, "offset 20 is outside of the partition, which has 50 to 100")
	require.NoError(t, k.Seek(t.Context(), "orders", 0, Start()))
	got, err := offsets(t.Context(), k)
	require.NoError(t, err)
	require.Equal(t, upTo(50, 100), got)

	got, err = offsets(t.Context(), newConsumer(t, c, "orders", From(Offset(20)), UntilEnd(), WithOutOfRange(OutOfRangeToStart)))
	require.NoError(t, err)
	require.Equal(t, upTo(50, 100), got)
	got, err = offsets(t.Context(), newConsumer(t, c, "orders", From(Offset(200)), UntilEnd(), WithOutOfRange(OutOfRangeToEnd)))
	require.NoError(t, err)
	require.Empty(t, got)
	got, err = offsets(t.Context(), newConsumer(t, c, "orders", From(Offset(20)), UntilEnd(), WithOutOfRange(OutOfRangeToEnd)))
	require.NoError(t, err)
	require.Empty(t, got)
	require.Equal(t, [][2]int64{{20, 50}, {20, 100}}, seen.resets)
}

// Every partition gets its turn, and what is fetched ahead is bounded.
func TestFairAndBounded(t *testing.T) {
	s := startServer(t)
	s.create("orders", config(20))
	c := connect(t, s.addr())
	p := newProducer(t, c, WithManualPartition(), WithBatchBytes(2000))
	const each = 1000
	for i := range 20 * each {
		require.NoError(t, p.SendAsync(t.Context(), Record{Topic: "orders", Partition: int32(i % 20), Value: make([]byte, 100)}, nil))
	}
	require.NoError(t, p.Close(t.Context()))
	const prefetch = 30_000
	k := newConsumer(t, c, "orders", UntilEnd(), WithPrefetchBytes(prefetch), WithFetchBytes(10_000, 4000))
	next := map[int32]int64{}
	n := 0
	for r, err := range k.Records(t.Context()) {
		require.NoError(t, err)
		require.Equal(t, next[r.Partition], r.Offset)
		next[r.Partition]++
		n++
		k.mu.Lock()
		require.LessOrEqual(t, k.buffered, prefetch+2500)
		k.mu.Unlock()
		if n == 20*each/2 {
			// How even the shares are depends on which answers come first; that nobody
			// starves does not.
			require.Len(t, next, 20)
			for partition, done := range next {
				require.GreaterOrEqual(t, done, int64(each/10), "partition %d", partition)
			}
		}
	}
	require.Equal(t, 20*each, n)
}

// A consumer behind a network that keeps breaking misses nothing and repeats nothing.
func TestConsumeUnderCuts(t *testing.T) {
	s := startServer(t)
	proxy := startCutter(t, s.addr, 15, 60_000)
	s.create("orders", config(2))
	quick := []Option{WithRetryBackoff(time.Millisecond, 5*time.Millisecond), WithBreaker(5, 5*time.Millisecond)}
	fill(t, connect(t, s.addr()), "orders", 20_000, WithBatchBytes(1<<10))
	s.set(func() { s.advertise = proxy.addr() })
	// Connect tries once only, and so do the first steps of a consumer.
	var c *Client
	var err error
	for c == nil {
		c, _ = Connect(t.Context(), proxy.addr(), quick...)
	}
	defer c.Close()
	k := newConsumer(t, c, "orders", UntilEnd(), WithFetchBytes(20_000, 5000))
	next := map[int32]int64{}
	n := 0
	for r, e := range k.Records(t.Context()) {
		require.NoError(t, e)
		require.Equal(t, next[r.Partition], r.Offset)
		next[r.Partition]++
		n++
	}
	require.NoError(t, err)
	require.Equal(t, 20_000, n)
	require.Less(t, proxy.cuts.Load(), int64(10), "there were no cuts")
}

func TestConsumerMisuseAndClose(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	s := startServer(t)
	s.create("orders", config(1))
	c := connect(t, s.addr())
	batched(t, c, "orders", 1)
	k := newConsumer(t, c, "orders")
	for _, err := range k.Records(t.Context()) {
		require.NoError(t, err)
		_, err = k.Poll(t.Context(), make([]Record, 1))
		require.ErrorIs(t, err, ErrMisuse)
		break
	}
	got, err := k.Poll(t.Context(), make([]Record, 100))
	require.NoError(t, err)
	require.Equal(t, 9, got)
	waits := make(chan error)
	go func() {
		_, err := k.Poll(t.Context(), make([]Record, 1))
		waits <- err
	}()
	require.NoError(t, k.Close())
	require.ErrorIs(t, <-waits, ErrClosed)
	_, err = k.Poll(t.Context(), make([]Record, 1))
	require.ErrorIs(t, err, ErrClosed)

	ctx, cancel := context.WithCancel(t.Context())
	k = newConsumer(t, c, "orders", From(End()))
	go func() {
		_, err := k.Poll(ctx, make([]Record, 1))
		waits <- err
	}()
	cancel()
	require.ErrorIs(t, <-waits, context.Canceled)
	go func() {
		_, err := k.Poll(t.Context(), make([]Record, 1))
		waits <- err
	}()
	require.NoError(t, c.Close())
	require.ErrorIs(t, <-waits, ErrClosed)
	s.close()
}

func TestConsumerOfDeletedTopic(t *testing.T) {
	s := startServer(t)
	s.create("orders", config(1))
	c := connect(t, s.addr())
	batched(t, c, "orders", 1)
	k := newConsumer(t, c, "orders")
	got, err := k.Poll(t.Context(), make([]Record, 100))
	require.NoError(t, err)
	require.Equal(t, 10, got)
	s.set(func() { delete(s.topics, "orders") })
	_, err = k.Poll(t.Context(), make([]Record, 100))
	require.ErrorIs(t, err, ErrUnknownTopic)
}

// Keys and values may be kept: later records do not change them.
func TestRecordsMayBeKept(t *testing.T) {
	s := startServer(t)
	s.create("orders", config(1))
	c := connect(t, s.addr())
	for _, codec := range []Codec{CodecNone, CodecS2, CodecZstd} {
		fill(t, c, "orders", 3000, WithCompression(codec), WithBatchBytes(1<<10))
	}
	k := newConsumer(t, c, "orders", UntilEnd(), WithFetchBytes(8000, 8000))
	var kept []Record
	for r, err := range k.Records(t.Context()) {
		require.NoError(t, err)
		kept = append(kept, r)
	}
	require.Len(t, kept, 9000)
	for i, r := range kept {
		require.Equal(t, fmt.Sprint(i%3000), string(r.Value))
	}
}
