package broker

import (
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sequitur-mq/sequitur/record"
	"github.com/sequitur-mq/sequitur/wire"
)

func withWindow(d time.Duration) func(*wire.TopicConfig) {
	return func(c *wire.TopicConfig) { c.DedupWindow = d }
}

// idBatch makes a batch of records whose values are their message ids.
func (p *producer) idBatch(t testing.TB, ids ...string) record.Batch {
	t.Helper()
	b := record.NewBuilder(1 << 10)
	for i, id := range ids {
		b.Append(int64(i), nil, []byte(id), []record.Header{{Key: record.MessageIDHeader, Value: []byte(id)}})
	}
	built, err := b.Build(nil, record.CodecNone, p.id, p.epoch, p.seq)
	require.NoError(t, err)
	if p.id != 0 {
		p.seq = built.NextSequence()
	}
	return built
}

func TestMessageIDs(t *testing.T) {
	cfg := testConfig(t)
	b := startConfig(t, cfg)
	c := connect(t, b)
	plain, topic := c.create("plain", 1), c.create("deduplicated", 2, withWindow(time.Hour))

	// Without a window ids are headers like any other, and no index is opened.
	for range 2 {
		require.Empty(t, c.produce(plain, 0, anonymous().idBatch(t, "a")).Duplicates)
	}
	_, err := os.Stat(filepath.Join(cfg.DataDir, "views"))
	require.ErrorIs(t, err, os.ErrNotExist)
	require.False(t, b.Snapshot().Dedup.Open)

	p := c.initProducer("")
	first := c.produce(topic, 0, p.idBatch(t, "a", "b"))
	require.NoError(t, first.Err())
	require.Empty(t, first.Duplicates)

	second := p.idBatch(t, "c", "a")
	res := c.produce(topic, 0, second)
	require.NoError(t, res.Err())
	require.Equal(t, int64(2), res.BaseOffset)
	require.False(t, res.Duplicate())
	require.Equal(t, []wire.DuplicateRecord{{Index: 1, Offset: 0}}, res.Duplicates)

	// The same send again, as after a lost answer, has the same answer.
	again := c.produce(topic, 0, second)
	require.True(t, again.Duplicate())
	require.Equal(t, res.BaseOffset, again.BaseOffset)
	require.Equal(t, res.Duplicates, again.Duplicates)

	// Another producer, another partition, another topic.
	require.Equal(t, []wire.DuplicateRecord{{Index: 0, Offset: 1}}, c.produce(topic, 0, anonymous().idBatch(t, "b")).Duplicates)
	require.Empty(t, c.produce(topic, 1, anonymous().idBatch(t, "b")).Duplicates)

	_, stored := c.fetch(topic, 0, 0)
	require.Equal(t, []string{"0:a", "1:b", "2:c"}, stored)
	s := b.Snapshot()
	require.True(t, s.Dedup.Open)
	require.Equal(t, uint64(2), s.Dedup.Duplicates, "the repeat of a whole send does not count")
	require.Equal(t, uint64(2+3+1), s.ProducedRecords)
}

func TestMessageIDsSurviveRestartAndDeletedViews(t *testing.T) {
	cfg := testConfig(t)
	b := startConfig(t, cfg)
	c := connect(t, b)
	topic := c.create("topic", 1, withWindow(time.Hour))
	c.produce(topic, 0, anonymous().idBatch(t, "a", "b"))
	for _, wipe := range []bool{false, true} {
		require.NoError(t, b.Close())
		views := filepath.Join(cfg.DataDir, "views")
		_, err := os.Stat(views)
		require.NoError(t, err)
		if wipe {
			require.NoError(t, os.RemoveAll(views))
		}
		b = startConfig(t, cfg)
		c = connect(t, b)
		require.Equal(t, []wire.DuplicateRecord{{Index: 0, Offset: 1}, {Index: 1, Offset: 0}}, c.produce(topic, 0, anonymous().idBatch(t, "b", "a")).Duplicates)
	}
	_, stored := c.fetch(topic, 0, 0)
	require.Equal(t, []string{"0:a", "1:b"}, stored)
}

func TestMessageIDWindowIsAltered(t *testing.T) {
	b := startBroker(t)
	c := connect(t, b)
	topic := c.create("topic", 1)
	alter := func(window time.Duration) {
		config := wire.DefaultTopicConfig()
		config.DedupWindow = window
		var resp wire.AlterTopicResponse
		c.call(wire.KindAlterTopic, &wire.AlterTopicRequest{Name: "topic", Config: config, Mask: wire.MaskDedupWindow}, &resp)
		require.NoError(t, resp.Err())
	}
	require.Empty(t, c.produce(topic, 0, anonymous().idBatch(t, "a")).Duplicates)
	alter(time.Hour) // what is stored already counts
	require.Len(t, c.produce(topic, 0, anonymous().idBatch(t, "a", "b")).Duplicates, 1)
	alter(0)
	require.Empty(t, c.produce(topic, 0, anonymous().idBatch(t, "c")).Duplicates)
	alter(2 * time.Hour)
	require.Len(t, c.produce(topic, 0, anonymous().idBatch(t, "a", "b", "c")).Duplicates, 3)
}

func TestMessageIDsOfDeletedTopics(t *testing.T) {
	b := startBroker(t)
	c := connect(t, b)
	topic := c.create("topic", 1, withWindow(time.Hour))
	c.produce(topic, 0, anonymous().idBatch(t, "a"))
	var resp wire.DeleteTopicsResponse
	c.call(wire.KindDeleteTopics, &wire.DeleteTopicsRequest{Topics: []string{"topic"}}, &resp)
	require.NoError(t, resp.Err())
	res := c.produce(topic, 0, anonymous().idBatch(t, "a"))
	require.ErrorIs(t, res.Err(), wire.ErrUnknownTopic)
	topic = c.create("topic", 1, withWindow(time.Hour))
	require.Empty(t, c.produce(topic, 0, anonymous().idBatch(t, "a")).Duplicates, "a topic of the same name is another one")
}

// Clients that race with the same ids: each id is stored once, and all learn the same address.
func TestMessageIDsOfManyClients(t *testing.T) {
	b := startBroker(t)
	topic := connect(t, b).create("topic", 1, withWindow(time.Hour))
	const clients = 6
	ids := []string{"a", "b", "c", "d", "e", "f", "g", "h"}
	addresses := make([]map[string]int64, clients)
	var wait sync.WaitGroup
	for i := range clients {
		c := connect(t, b)
		addresses[i] = map[string]int64{}
		wait.Go(func() {
			for from := 0; from+4 <= len(ids); from += 2 {
				res := c.produce(topic, 0, anonymous().idBatch(t, ids[from:from+4]...))
				for j, id := range ids[from : from+4] {
					addresses[i][id] = res.BaseOffset + int64(j)
				}
				for _, d := range res.Duplicates {
					addresses[i][ids[from+int(d.Index)]] = d.Offset
				}
			}
		})
	}
	wait.Wait()
	_, stored := connect(t, b).fetch(topic, 0, 0)
	require.Len(t, stored, len(ids))
	for _, a := range addresses[1:] {
		require.Equal(t, addresses[0], a)
	}
}
