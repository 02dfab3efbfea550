package sequitur

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

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
