package broker

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	sequitur "github.com/sequitur-mq/sequitur/clients/go"
)

// Three brokers found a cluster, a topic is on all of them, and its records are
// acknowledged at every level and read back.
func TestClusterOfThree(t *testing.T) {
	began := time.Now()
	bed := startCluster(t, 3)
	t.Logf("three brokers serve after %v", time.Since(began))
	c := bed.client()
	began = time.Now()
	bed.create(c, "orders", 3, 3)
	t.Logf("topic created in %v", time.Since(began))
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for _, acks := range []sequitur.Acks{sequitur.AcksQuorum, sequitur.AcksAll, sequitur.AcksLeader} {
		p, err := c.NewProducer(sequitur.WithAcks(acks))
		require.NoError(t, err)
		for i := range 50 {
			began := time.Now()
			_, err := p.Send(ctx, sequitur.Record{Topic: "orders", Key: keyOf(i), Value: fmt.Append(nil, i)})
			require.NoError(t, err)
			if i%25 == 0 {
				t.Logf("acks %v: %v", acks, time.Since(began))
			}
		}
		require.NoError(t, p.Close(ctx))
	}
}

// A load sends numbered records until it is stopped, and notes what was
// acknowledged where.
type load struct {
	t     *testing.T
	p     *sequitur.Producer
	topic string
	stop  chan struct{}
	done  chan struct{}
	acked []sequitur.Ack // by number

	mu   sync.Mutex
	gaps []time.Duration // from sending to acknowledgement
}

// longest is the longest time from sending to acknowledgement since the given
// record, and the number of records so far.
func (l *load) longest(from int) (longest time.Duration, to int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, g := range l.gaps[from:] {
		longest = max(longest, g)
	}
	return longest, len(l.gaps)
}

func startLoad(t *testing.T, c *sequitur.Client, topic string, pause time.Duration) *load {
	p, err := c.NewProducer()
	require.NoError(t, err)
	l := &load{t: t, p: p, topic: topic, stop: make(chan struct{}), done: make(chan struct{})}
	go l.run(pause)
	return l
}

func (l *load) run(pause time.Duration) {
	defer close(l.done)
	ctx, cancel := context.WithTimeout(context.Background(), 4*patience)
	defer cancel()
	for i := 0; ; i++ {
		select {
		case <-l.stop:
			return
		case <-time.After(pause):
		}
		began := time.Now()
		ack, err := l.p.Send(ctx, sequitur.Record{Topic: l.topic, Key: keyOf(i), Value: fmt.Append(nil, i)})
		if err != nil {
			l.t.Errorf("record %d: %v", i, err)
			return
		}
		l.mu.Lock()
		l.gaps = append(l.gaps, time.Since(began))
		l.mu.Unlock()
		l.acked = append(l.acked, ack)
	}
}

// end stops the load and returns how many records were acknowledged.
func (l *load) end() int {
	close(l.stop)
	<-l.done
	require.NoError(l.t, l.p.Close(context.Background()))
	return len(l.acked)
}

// check reads the topic and compares it with what was acknowledged: each record
// once, at its address, and those of a key in order.
func (l *load) check(c *sequitur.Client) {
	l.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	consumer, err := c.NewConsumer(ctx, []string{l.topic}, sequitur.UntilEnd())
	require.NoError(l.t, err)
	defer consumer.Close()
	seen := map[string]bool{}
	last := map[string]int{}
	for r, err := range consumer.Records(ctx) {
		require.NoError(l.t, err)
		var n int
		_, err := fmt.Sscan(string(r.Value), &n)
		require.NoError(l.t, err)
		require.False(l.t, seen[string(r.Value)], "record %d twice", n)
		seen[string(r.Value)] = true
		if before, ok := last[string(r.Key)]; ok {
			require.Greater(l.t, n, before, "key %s", r.Key)
		}
		last[string(r.Key)] = n
		if n < len(l.acked) {
			require.Equal(l.t, l.acked[n].Offset, r.Offset)
			require.Equal(l.t, l.acked[n].Partition, r.Partition)
		}
	}
	for n := range l.acked {
		require.True(l.t, seen[fmt.Sprint(n)], "record %d was acknowledged and is lost", n)
	}
}

// The leader goes without a word, again and again: producers notice nothing but
// a pause, and what was acknowledged stays.
func TestKilledLeaders(t *testing.T) {
	bed := startCluster(t, 3)
	c := bed.client()
	bed.create(c, "orders", 3, 3)
	l := startLoad(t, c, "orders", 200*time.Microsecond)
	for range 3 {
		<-time.After(300 * time.Millisecond)
		victim := bed.leader(c, "orders", 0)
		require.GreaterOrEqual(t, victim, 0)
		bed.kill(victim)
		<-time.After(500 * time.Millisecond)
		bed.start(victim)
		bed.await()
	}
	n := l.end()
	longest, _ := l.longest(0)
	t.Logf("%d records acknowledged, longest pause %v", n, longest)
	l.check(c)
}
