package broker

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	sequitur "github.com/sequitur-mq/sequitur/clients/go"
	"github.com/sequitur-mq/sequitur/consensus/controller"
	"github.com/sequitur-mq/sequitur/wire"
)

// moveLeader has the next member lead a partition.
func (bed *clusterBed) moveLeader(topic string, partition int) {
	bed.t.Helper()
	p := bed.topic(topic).Partitions[partition]
	to := p.Set.Members[(slices.Index(p.Set.Members, p.Leader)+1)%len(p.Set.Members)]
	bed.order(controller.Request{Action: controller.MoveLeader, Topic: bed.topic(topic).ID, Partition: uint32(partition), Node: to.Node})
	bed.eventually("the leader has moved", func(context.Context, *Broker) bool {
		return bed.topic(topic).Partitions[partition].Leader == to
	})
}

// Message ids are recognised by whoever leads, also by one that led before.
func TestMessageIDsFollowTheLeader(t *testing.T) {
	bed := startCluster(t, 3)
	c := bed.client()
	ctx, cancel := context.WithTimeout(context.Background(), 4*patience)
	defer cancel()
	cfg := sequitur.DefaultTopicConfig()
	cfg.ReplicationFactor, cfg.DedupWindow = 3, time.Hour
	require.NoError(t, c.CreateTopic(ctx, "orders", cfg))
	first := map[int]sequitur.Ack{}
	send := func(from, to int, duplicate bool) {
		t.Helper()
		p, err := c.NewProducer() // another one each time: its sequence knows nothing
		require.NoError(t, err)
		defer p.Close(ctx)
		for i := from; i < to; i++ {
			ack, err := p.Send(ctx, sequitur.Record{Topic: "orders", Value: fmt.Append(nil, i), MessageID: fmt.Sprint("id-", i)})
			require.NoError(t, err)
			require.Equal(t, duplicate, ack.Duplicate, "message %d", i)
			if !duplicate {
				first[i] = ack
			}
			require.Equal(t, first[i].Offset, ack.Offset, "message %d", i)
		}
	}
	n := 0
	for range 4 { // over all brokers and back to the first
		send(n, n+20, false)
		n += 20
		bed.moveLeader("orders", 0)
		send(0, n, true)
	}
}

// A named producer that starts anew, through another broker, fences the old one.
func TestNamedProducersFenceInCluster(t *testing.T) {
	bed := startCluster(t, 3)
	c := bed.client()
	bed.create(c, "orders", 3, 3)
	ctx, cancel := context.WithTimeout(context.Background(), 4*patience)
	defer cancel()
	old, err := c.NewProducer(sequitur.WithName("billing"))
	require.NoError(t, err)
	for i := range 6 {
		_, err := old.Send(ctx, sequitur.Record{Topic: "orders", Key: keyOf(i), Value: []byte("old")})
		require.NoError(t, err)
	}
	fresh, err := bed.client().NewProducer(sequitur.WithName("billing"))
	require.NoError(t, err)
	for i := range 6 {
		_, err := fresh.Send(ctx, sequitur.Record{Topic: "orders", Key: keyOf(i), Value: []byte("new")})
		require.NoError(t, err)
	}
	for i := range 6 {
		_, err := old.Send(ctx, sequitur.Record{Topic: "orders", Key: keyOf(i), Value: []byte("old")})
		require.ErrorIs(t, err, sequitur.ErrProducerFenced)
	}
	require.NoError(t, fresh.Close(ctx))
	_ = old.Close(ctx)
}

// A follower serves what it knows as committed to those who ask it to, waits for
// the rest, and never says that an offset beyond it does not exist.
func TestFollowersServeReaders(t *testing.T) {
	bed := startCluster(t, 3)
	c := bed.client()
	bed.create(c, "orders", 1, 3)
	l := startLoad(t, c, "orders", 0)
	<-time.After(100 * time.Millisecond)
	n := int64(l.end())
	topic := bed.topic("orders")
	leader := int(topic.Partitions[0].Leader.Node) - 1
	follower := connect(t, bed.brokers[(leader+1)%3])

	var resp wire.FetchResponse
	follower.call(wire.KindFetch, fetchRequestFor(topic.ID, 0, 0, 0), &resp)
	require.Equal(t, wire.CodeNotLeader, resp.Parts[0].Code)

	req := fetchRequestFor(topic.ID, 0, n, time.Duration(patience)) // the last record: the first one starts the epoch
	req.Flags = wire.FetchFromFollower
	f := follower.call(wire.KindFetch, req, &resp)
	require.Equal(t, wire.CodeNone, resp.Parts[0].Code, resp.Parts[0].Message)
	require.NotEmpty(t, f.batches)
	require.Equal(t, n+1, resp.Parts[0].HighWatermark)

	req = fetchRequestFor(topic.ID, 0, n+100, 20*time.Millisecond)
	req.Flags = wire.FetchFromFollower
	follower.call(wire.KindFetch, req, &resp)
	require.Equal(t, wire.CodeOffsetNotAvailable, resp.Parts[0].Code)

	var ends wire.ListOffsetsResponse
	ask := &wire.ListOffsetsRequest{Parts: []wire.ListOffsetsPart{{Topic: topic.ID, Kind: wire.OffsetEnd}}}
	follower.call(wire.KindListOffsets, ask, &ends)
	require.Equal(t, wire.CodeNotLeader, ends.Parts[0].Code)
	connect(t, bed.brokers[leader]).call(wire.KindListOffsets, ask, &ends)
	require.Equal(t, n+1, ends.Parts[0].Offset)
}

// A leader that nobody hears any more knows no end: it says so instead of naming
// an old one.
func TestEndNeedsAMajority(t *testing.T) {
	bed := startCluster(t, 3)
	c := bed.client()
	bed.create(c, "orders", 1, 3)
	l := startLoad(t, c, "orders", 0)
	<-time.After(20 * time.Millisecond)
	l.end()
	topic := bed.topic("orders")
	leader := int(topic.Partitions[0].Leader.Node) - 1
	asker := connect(t, bed.brokers[leader])
	bed.kill((leader + 1) % 3)
	bed.kill((leader + 2) % 3)
	var ends wire.ListOffsetsResponse
	asker.call(wire.KindListOffsets, &wire.ListOffsetsRequest{Parts: []wire.ListOffsetsPart{{Topic: topic.ID, Kind: wire.OffsetEnd}}}, &ends)
	require.Equal(t, wire.CodeTimeout, ends.Parts[0].Code)
}

// Every message is sent by two producers, while leaders die: it is stored once.
func TestMessageIDsSurviveKilledLeaders(t *testing.T) {
	bed := startCluster(t, 3)
	c := bed.client()
	ctx, cancel := context.WithTimeout(context.Background(), 4*patience)
	defer cancel()
	cfg := sequitur.DefaultTopicConfig()
	cfg.ReplicationFactor, cfg.DedupWindow = 3, time.Hour
	require.NoError(t, c.CreateTopic(ctx, "orders", cfg))
	stop := make(chan struct{})
	results := make(chan map[int]int64, 2)
	for range 2 {
		go func() {
			at := map[int]int64{}
			defer func() { results <- at }()
			p, err := c.NewProducer()
			if err != nil {
				t.Error(err)
				return
			}
			defer p.Close(ctx)
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				case <-time.After(100 * time.Microsecond):
				}
				ack, err := p.Send(ctx, sequitur.Record{Topic: "orders", Value: fmt.Append(nil, i), MessageID: fmt.Sprint("id-", i)})
				if err != nil {
					t.Errorf("message %d: %v", i, err)
					return
				}
				at[i] = ack.Offset
			}
		}()
	}
	for range 4 {
		<-time.After(150 * time.Millisecond)
		victim := bed.leader(c, "orders", 0)
		require.GreaterOrEqual(t, victim, 0)
		bed.kill(victim)
		<-time.After(200 * time.Millisecond)
		bed.start(victim)
		bed.await()
	}
	close(stop)
	one, two := <-results, <-results
	for i, offset := range one {
		if other, ok := two[i]; ok {
			require.Equal(t, offset, other, "message %d", i)
		}
	}
	consumer, err := c.NewConsumer(ctx, []string{"orders"}, sequitur.UntilEnd())
	require.NoError(t, err)
	defer consumer.Close()
	seen := map[string]bool{}
	for r, err := range consumer.Records(ctx) {
		require.NoError(t, err)
		require.False(t, seen[r.MessageID], "%s is stored twice", r.MessageID)
		seen[r.MessageID] = true
	}
	t.Logf("%d and %d messages acknowledged, %d stored", len(one), len(two), len(seen))
	require.GreaterOrEqual(t, len(seen), max(len(one), len(two)))
}
