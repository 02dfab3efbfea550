package bench

import (
	"context"
	"fmt"
	"sync"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

func (st *jetStreamStream) Consumer(ctx context.Context, kind ConsumerKind) (Consumer, error) {
	nc, err := st.connect(ctx, "bench consumer", false)
	if err != nil {
		return nil, err
	}
	return &jetStreamConsumer{nc: nc, stream: st, kind: kind}, nil
}

// jetStreamConsumer reads the streams either by a push ordered consumer or by a pull consumer with explicit acks.
type jetStreamConsumer struct {
	nc     *nats.Conn
	stream *jetStreamStream
	kind   ConsumerKind
}

func (c *jetStreamConsumer) Run(ctx context.Context, fn func(value []byte) bool) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var mu sync.Mutex // several streams call from several goroutines
	finished := false
	take := func(value []byte) bool {
		mu.Lock()
		defer mu.Unlock()
		if finished {
			return false
		}
		if !fn(value) {
			finished = true
			cancel()
			return false
		}
		return true
	}
	start := c.runOrdered
	if c.kind == PullExplicit {
		start = c.runPull
	}
	stop, err := start(ctx, take)
	defer stop()
	if err != nil {
		return err
	}
	<-ctx.Done()
	mu.Lock()
	defer mu.Unlock()
	if finished {
		return nil
	}
	return ctx.Err()
}

// runOrdered subscribes push ordered consumers (no acks, flow control and heartbeats by the client).
func (c *jetStreamConsumer) runOrdered(_ context.Context, take func([]byte) bool) (stop func(), err error) {
	var subs []*nats.Subscription
	stop = func() {
		for _, sub := range subs {
			// Fails only where the connection is closed already.
			_ = sub.Unsubscribe()
		}
	}
	js, err := c.nc.JetStream()
	if err != nil {
		return stop, fmt.Errorf("open JetStream: %w", err)
	}
	for i, subject := range c.stream.subjects {
		sub, err := js.Subscribe(subject, func(m *nats.Msg) { take(m.Data) },
			nats.OrderedConsumer(), nats.BindStream(c.stream.names[i]))
		if err != nil {
			return stop, fmt.Errorf("subscribe push ordered consumer to %s: %w", subject, err)
		}
		subs = append(subs, sub)
	}
	return stop, nil
}

// runPull consumes with an explicit ack for every message.
func (c *jetStreamConsumer) runPull(ctx context.Context, take func([]byte) bool) (stop func(), err error) {
	var running []jetstream.ConsumeContext
	stop = func() {
		for _, r := range running {
			r.Stop()
		}
	}
	js, err := jetstream.New(c.nc)
	if err != nil {
		return stop, fmt.Errorf("open JetStream: %w", err)
	}
	for _, name := range c.stream.names {
		cons, err := js.CreateConsumer(ctx, name, jetstream.ConsumerConfig{
			AckPolicy: jetstream.AckExplicitPolicy, DeliverPolicy: jetstream.DeliverAllPolicy, MaxAckPending: 10_000,
		})
		if err != nil {
			return stop, fmt.Errorf("create pull consumer on %s: %w", name, err)
		}
		r, err := cons.Consume(func(m jetstream.Msg) {
			if take(m.Data()) {
				// An ack that cannot be sent shows as a missing message.
				_ = m.Ack()
			}
		}, jetstream.PullMaxMessages(5_000))
		if err != nil {
			return stop, fmt.Errorf("consume from %s: %w", name, err)
		}
		running = append(running, r)
	}
	return stop, nil
}

func (c *jetStreamConsumer) Close() error {
	c.nc.Close()
	return nil
}
