package sequitur

import (
	"context"
	"fmt"
	"io"
	"testing"

	"github.com/stretchr/testify/require"
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
	go fill(t, c, "orders", 1)
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
