package broker

import (
	"encoding/binary"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sequitur-mq/sequitur/record"
	"github.com/sequitur-mq/sequitur/wire"
)

func TestProduceAndFetch(t *testing.T) {
	for _, fsync := range []wire.Fsync{wire.FsyncAlways, wire.FsyncInterval, wire.FsyncNever} {
		t.Run(fsync.String(), func(t *testing.T) {
			b := startBroker(t)
			c := connect(t, b)
			id := c.create("t", 2, func(tc *wire.TopicConfig) { tc.Fsync = fsync })
			for _, acks := range []wire.Acks{wire.AcksLeader, wire.AcksQuorum, wire.AcksAll} {
				batch := anonymous().batch(t, "x")
				req := produceRequestFor(id, 1, batch)
				req.Acks = acks
				var resp wire.ProduceResponse
				c.call(wire.KindProduce, req, &resp, batch)
				require.NoError(t, resp.Parts[0].Err())
				require.Positive(t, resp.Parts[0].AppendTime)
			}
			require.EqualValues(t, 3, c.mustProduce(id, 1, "a", "b"))
			res, got := c.fetch(id, 1, 0)
			require.NoError(t, res.Err())
			require.Equal(t, []string{"0:x", "1:x", "2:x", "3:a", "4:b"}, got)
			require.EqualValues(t, 5, res.HighWatermark)
			require.Zero(t, res.LogStart)
			_, got = c.fetch(id, 1, 4)
			require.Equal(t, []string{"3:a", "4:b"}, got, "whole batches, from the one that holds the offset")
			_, got = c.fetch(id, 0, 0)
			require.Empty(t, got)
		})
	}
}

func TestProduceManyParts(t *testing.T) {
	b := startBroker(t)
	c := connect(t, b)
	one, two := c.create("one", 2), c.create("two", 1)
	good, more := anonymous().batch(t, "a"), anonymous().batch(t, "b", "c")
	both := append(append([]byte{}, good...), more...)
	req := &wire.ProduceRequest{Acks: wire.AcksQuorum, Parts: []wire.ProducePart{
		{Topic: one, Partition: 1, Bytes: uint32(len(both))},
		{Topic: one, Partition: 2, Bytes: uint32(len(good))},
		{Topic: wire.UUID{9}, Bytes: uint32(len(good))},
		{Topic: two, Bytes: uint32(len(more))},
		{Topic: two, Bytes: 0},
	}}
	var resp wire.ProduceResponse
	c.call(wire.KindProduce, req, &resp, both, good, good, more)
	require.NoError(t, resp.Err())
	codes := []wire.Code{}
	for _, p := range resp.Parts {
		codes = append(codes, p.Code)
	}
	require.Equal(t, []wire.Code{wire.CodeNone, wire.CodeUnknownPartition, wire.CodeUnknownTopic, wire.CodeNone, wire.CodeInvalidRequest}, codes)
	require.Contains(t, resp.Parts[1].Message, "has no partition 2: it has 2")
	require.EqualValues(t, -1, resp.Parts[1].BaseOffset)
	_, got := c.fetch(one, 1, 0)
	require.Equal(t, []string{"0:a", "1:b", "2:c"}, got)
	_, got = c.fetch(two, 0, 0)
	require.Equal(t, []string{"0:b", "1:c"}, got)

	c.call(wire.KindProduce, &wire.ProduceRequest{Acks: wire.AcksAll}, &resp)
	require.Empty(t, resp.Parts)
}

func TestProduceRefused(t *testing.T) {
	b := startBroker(t)
	c := connect(t, b)
	id := c.create("t", 1, func(tc *wire.TopicConfig) { tc.MaxBatchBytes = 1024 })
	build := func(change func(*record.Builder)) record.Batch {
		builder := record.NewBuilder(1024)
		change(builder)
		builder.Append(1, nil, []byte("value"), nil)
		batch, err := builder.Build(nil, record.CodecNone, 0, 0, 0)
		require.NoError(t, err)
		return batch
	}
	plain := build(func(*record.Builder) {})
	flipped := append(record.Batch{}, plain...)
	flipped[len(flipped)-1] ^= 1
	future := append(record.Batch{}, plain...)
	future[4]++
	unreadable := append(record.Batch{}, plain...)
	unreadable[record.HeaderSize]++ // the length of its record
	unreadable.SetProducer(0, 0, 0) // under a CRC that is right
	for name, test := range map[string]struct {
		batch []byte
		code  wire.Code
	}{
		"flipped bit":     {flipped, wire.CodeCorruptMessage},
		"other format":    {future, wire.CodeCorruptMessage},
		"bad record":      {unreadable, wire.CodeCorruptMessage},
		"cut off":         {plain[:len(plain)-1], wire.CodeCorruptMessage},
		"bytes behind":    {append(append([]byte{}, plain...), 1), wire.CodeCorruptMessage},
		"too large":       {anonymous().batch(t, string(make([]byte, 1024))), wire.CodeBatchTooLarge},
		"control":         {build((*record.Builder).SetControl), wire.CodeInvalidRequest},
		"transactional":   {build((*record.Builder).SetTransactional), wire.CodeUnsupported},
		"holes":           {build(func(b *record.Builder) { b.SetLastOffsetDelta(5) }), wire.CodeInvalidRequest},
		"unknown id":      {(&producer{id: 99999}).batch(t, "x"), wire.CodeUnknownProducer},
		"absurd length":   {binary.LittleEndian.AppendUint32(nil, 1<<31), wire.CodeBatchTooLarge},
		"no batch at all": {make([]byte, 200), wire.CodeCorruptMessage},
	} {
		t.Run(name, func(t *testing.T) {
			res := c.produce(id, 0, test.batch)
			require.Equal(t, test.code, res.Code, res.Message)
			require.Contains(t, res.Message, "")
		})
	}
	_, got := c.fetch(id, 0, 0)
	require.Empty(t, got, "nothing was stored")
	c.mustProduce(id, 0, "still served")
}

func TestProduceAcksNone(t *testing.T) {
	b := startBroker(t)
	c := connect(t, b)
	id := c.create("t", 1)
	batch := anonymous().batch(t, "a")
	req := produceRequestFor(id, 0, batch)
	req.Acks = wire.AcksNone
	c.send(wire.KindProduce, req, batch)
	bad := produceRequestFor(wire.UUID{1}, 0, batch)
	bad.Acks = wire.AcksNone
	c.send(wire.KindProduce, bad, batch)
	require.EqualValues(t, 1, c.mustProduce(id, 0, "b"), "the next answer is to the next request")
	_, got := c.fetch(id, 0, 0)
	require.Equal(t, []string{"0:a", "1:b"}, got)
}

func TestIdempotentRetries(t *testing.T) {
	b := startBroker(t)
	c := connect(t, b)
	id := c.create("t", 2)
	p := c.initProducer("")
	require.NotZero(t, p.id)
	require.NotEqual(t, p.id, c.initProducer("").id)
	first, second := p.batch(t, "a", "b"), p.batch(t, "c")
	require.EqualValues(t, 0, c.produce(id, 0, first).BaseOffset)
	original := c.produce(id, 0, second)
	require.EqualValues(t, 2, original.BaseOffset)

	c2 := connect(t, b)
	res := c2.produce(id, 0, second)
	require.True(t, res.Duplicate())
	require.Equal(t, original.BaseOffset, res.BaseOffset)
	require.Equal(t, original.AppendTime, res.AppendTime)
	res = c2.produce(id, 0, first)
	require.True(t, res.Duplicate())
	require.Zero(t, res.BaseOffset)

	p.seq += 10
	require.Equal(t, wire.CodeSequenceGap, c.produce(id, 0, p.batch(t, "gap")).Code)
	_, got := c.fetch(id, 0, 0)
	require.Equal(t, []string{"0:a", "1:b", "2:c"}, got)
	require.EqualValues(t, 2, b.Snapshot().DuplicateBatches)
}

// A named producer fences its predecessor on every partition, also where it has
// not written itself, and after a restart.
func TestNamedProducersFence(t *testing.T) {
	cfg := testConfig(t)
	b := startConfig(t, cfg)
	c := connect(t, b)
	id := c.create("t", 2)
	old := c.initProducer("shop")
	require.NoError(t, errOf(c.produce(id, 0, old.batch(t, "a"))))
	young := c.initProducer("shop")
	require.Equal(t, old.id, young.id)
	require.Equal(t, old.epoch+1, young.epoch)
	for partition := range uint32(2) {
		require.Equal(t, wire.CodeProducerFenced, c.produce(id, partition, old.batch(t, "late")).Code)
	}
	require.NoError(t, errOf(c.produce(id, 0, young.batch(t, "b"))))
	require.NoError(t, b.Close())

	b = startConfig(t, cfg)
	c = connect(t, b)
	require.Equal(t, wire.CodeProducerFenced, c.produce(id, 1, old.batch(t, "late")).Code)
	require.NoError(t, errOf(c.produce(id, 0, young.batch(t, "c"))), "the sequence goes on after a restart")
	require.Equal(t, young.epoch+1, c.initProducer("shop").epoch)
	require.Equal(t, wire.CodeProducerFenced, c.produce(id, 1, young.batch(t, "late")).Code)
	_, got := c.fetch(id, 0, 0)
	require.Equal(t, []string{"0:a", "1:b", "2:c"}, got)
}

func errOf(r wire.ProduceResult) error { return r.Err() }

// Teeth: without the broker's own check an old epoch gets through on partitions
// that the new one has not written to.
func TestFencingHasTeeth(t *testing.T) {
	b := startBroker(t)
	c := connect(t, b)
	id := c.create("t", 1)
	old := c.initProducer("shop")
	c.initProducer("shop")
	b.handler.producers.named.remove(old.id)
	require.NoError(t, errOf(c.produce(id, 0, old.batch(t, "late"))))
}

// Ids survive a restart without being given out twice.
func TestProducerIDsAcrossRestart(t *testing.T) {
	cfg := testConfig(t)
	seen := map[uint64]bool{}
	for range 3 {
		b := startConfig(t, cfg)
		c := connect(t, b)
		for range 5 {
			p := c.initProducer("")
			require.False(t, seen[p.id])
			seen[p.id] = true
		}
		require.NoError(t, b.Close())
	}
}

func TestPipelining(t *testing.T) {
	b := startBroker(t)
	c := connect(t, b)
	id := c.create("t", 1)
	p := c.initProducer("")
	const requests = 200
	sent := map[uint32]uint32{}
	for i := range uint32(requests) {
		batch := p.batch(t, "x")
		sent[c.send(wire.KindProduce, produceRequestFor(id, 0, batch), batch)] = i
	}
	for range requests {
		f, err := c.read()
		require.NoError(t, err)
		var resp wire.ProduceResponse
		require.NoError(t, resp.Decode(f.metadata))
		require.NoError(t, resp.Parts[0].Err())
		require.EqualValues(t, sent[f.Correlation], resp.Parts[0].BaseOffset)
		delete(sent, f.Correlation)
	}
	require.Empty(t, sent)
}
