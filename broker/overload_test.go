package broker

import (
	"net"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sequitur-mq/sequitur/wire"
)

// A consumer that does not read its answers does not keep others from theirs,
// holds bounded memory, and is disconnected in the end.
func TestSlowConsumer(t *testing.T) {
	b := startBroker(t, func(c *Config) { c.WriteTimeout = Duration(500 * time.Millisecond) })
	fast := connect(t, b)
	id := fast.create("t", 1)
	value := strings.Repeat("v", 500_000)
	for range 40 {
		fast.mustProduce(id, 0, value)
	}
	slow := connect(t, b)
	require.NoError(t, slow.nc.(*net.TCPConn).SetReadBuffer(4096))
	for range 20 {
		slow.send(wire.KindFetch, &wire.FetchRequest{MaxBytes: 15 << 20, Parts: []wire.FetchPart{{Topic: id}}})
	}
	for i := range 100 {
		require.EqualValues(t, 40+i, fast.mustProduce(id, 0, "x"))
	}
	_, got := fast.fetch(id, 0, 139)
	require.Equal(t, []string{"139:x"}, got)
	until(t, "the slow consumer is disconnected", func() bool { return b.server.connections() == 1 })
	require.Zero(t, b.handler.fetchBudget.stats().used)
}

// A producer that does not read its answers is not read from any more; its
// answers wait in bounded memory.
func TestSlowProducer(t *testing.T) {
	b := startBroker(t, func(c *Config) { c.WriteTimeout = Duration(time.Minute) })
	slow, fast := connect(t, b), connect(t, b)
	id := fast.create("t", 1)
	require.NoError(t, slow.nc.(*net.TCPConn).SetReadBuffer(4096))
	// Metadata requests are small and their answers are not.
	create := &wire.CreateTopicsRequest{}
	for i := range 500 {
		create.Topics = append(create.Topics, wire.NewTopic{Name: strings.Repeat("n", 190) + time.Duration(i).String()})
	}
	var created wire.CreateTopicsResponse
	fast.call(wire.KindCreateTopics, create, &created)
	request := wire.AppendFrame(nil, wire.FrameHeader{Kind: wire.KindMetadata, Version: 1}, &wire.MetadataRequest{}, 0)
	require.NoError(t, slow.nc.SetWriteDeadline(time.Now().Add(300*time.Millisecond)))
	for n := 0; n < 1<<26; n += len(request) {
		if _, err := slow.nc.Write(request); err != nil {
			break // the broker does not read any more
		}
	}
	b.server.each(func(c *conn) {
		c.mu.Lock()
		defer c.mu.Unlock()
		require.Less(t, c.out.bytes, 3*maxOutboxBytes)
	})
	fast.mustProduce(id, 0, "x")
}

// holdMemory sends the beginnings of large frames until the broker's memory is
// used up.
func holdMemory(t *testing.T, b *Broker) (held []*client) {
	for b.server.budget.stats().limit-b.server.budget.stats().used > int64(b.cfg.MaxFrameBytes)+int64(b.cfg.MemoryBytes)/4 {
		c := connect(t, b)
		size := uint32(b.cfg.MaxFrameBytes)
		used := b.server.budget.stats().used
		_, err := c.nc.Write(wire.AppendFrameHeader(nil, wire.FrameHeader{Length: size, Kind: wire.KindProduce, Version: 1, MetadataLength: 30}))
		require.NoError(t, err)
		until(t, "the frame holds memory", func() bool { return b.server.budget.stats().used > used })
		held = append(held, c)
	}
	return held
}

// Without memory, large requests are answered OVERLOADED in bounded time while
// small ones still get through; connections that hold memory for frames that
// do not come are cut off.
func TestOverload(t *testing.T) {
	b := startBroker(t, func(c *Config) {
		c.MaxFrameBytes, c.MemoryBytes = 1<<20, 4<<20
		c.OverloadWait = Duration(20 * time.Millisecond)
	})
	c := connect(t, b)
	id := c.create("t", 1)
	holdMemory(t, b)
	large := anonymous().batch(t, strings.Repeat("v", 900_000))
	req := produceRequestFor(id, 0, large)
	var resp wire.ProduceResponse
	c.call(wire.KindProduce, req, &resp, large)
	require.Equal(t, wire.CodeOverloaded, resp.Code)
	require.EqualValues(t, time.Duration(b.cfg.RetryAfter).Milliseconds(), resp.RetryAfterMs)
	require.Positive(t, b.Snapshot().Errors["OVERLOADED"])
	c.mustProduce(id, 0, "small ones get through")
	// With acks none there is no answer, but the frame is read over.
	req.Acks = wire.AcksNone
	c.send(wire.KindProduce, req, large)
	c.mustProduce(id, 0, "still in step")

	until(t, "large ones get through again", func() bool {
		req.Acks = wire.AcksQuorum
		c.call(wire.KindProduce, req, &resp, large)
		return resp.Code == wire.CodeNone
	})
	require.Positive(t, b.Snapshot().ConnectionsEvicted)
}

// One connection may not have more in flight than its share.
func TestConnectionShare(t *testing.T) {
	b := startBroker(t, func(c *Config) { c.MaxInflightRequests = 3 })
	c, other := connect(t, b), connect(t, b)
	id := other.create("t", 1)
	for range 10 {
		c.send(wire.KindFetch, fetchRequestFor(id, 0, 0, patience))
	}
	parked(t, b, 3)
	other.mustProduce(id, 0, "x")
	for range 10 {
		f, err := c.read()
		require.NoError(t, err)
		require.NotEmpty(t, f.batches)
	}
}

func TestFetchMemoryIsBounded(t *testing.T) {
	b := startBroker(t, func(c *Config) { c.FetchMemoryBytes = 1 << 20 })
	c := connect(t, b)
	id := c.create("t", 1)
	req := fetchRequestFor(id, 0, 0, patience)
	for len(req.Parts) < 2000 {
		req.Parts = append(req.Parts, req.Parts[0])
	}
	var resp statusOnly
	c.call(wire.KindFetch, req, &resp)
	require.Equal(t, wire.CodeOverloaded, resp.Code)
	require.Zero(t, b.handler.fetchBudget.stats().used)
	c.mustProduce(id, 0, "x")
}

func TestMaxConnections(t *testing.T) {
	b := startBroker(t, func(c *Config) { c.MaxConnections = 2 })
	connect(t, b)
	second := connect(t, b)
	dial(t, b).closed()
	second.nc.Close()
	until(t, "a connection is free", func() bool { return b.server.connections() == 1 })
	connect(t, b)
	require.EqualValues(t, 1, b.Snapshot().ConnectionsRefused)
}
