package broker

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sequitur-mq/sequitur/record"
	"github.com/sequitur-mq/sequitur/wire"
)

// until waits for a condition that another goroutine brings about.
func until(t testing.TB, what string, condition func() bool) {
	t.Helper()
	require.Eventually(t, condition, patience, time.Millisecond, what)
}

// parked waits until n fetches of all connections wait for records.
func parked(t testing.TB, b *Broker, n int) {
	t.Helper()
	until(t, "fetches are parked", func() bool {
		count := 0
		b.server.each(func(c *conn) {
			c.mu.Lock()
			count += c.parked.n
			c.mu.Unlock()
		})
		return count == n
	})
}

func TestLongPoll(t *testing.T) {
	b := startBroker(t)
	reader, writer := connect(t, b), connect(t, b)
	id := writer.create("t", 2)
	for offset := range int64(5) {
		correlation := reader.send(wire.KindFetch, fetchRequestFor(id, 1, offset, patience))
		parked(t, b, 1)
		writer.mustProduce(id, 0, "elsewhere")
		require.Equal(t, offset, writer.mustProduce(id, 1, "x"))
		var resp wire.FetchResponse
		f := reader.receive(correlation, &resp)
		require.Equal(t, []string{fmt.Sprint(offset, ":x")}, values(t, f.batches))
		require.Equal(t, offset+1, resp.Parts[0].HighWatermark)
	}
}

func TestLongPollEndsEmpty(t *testing.T) {
	b := startBroker(t)
	c := connect(t, b)
	id := c.create("t", 1)
	var resp wire.FetchResponse
	for range 3 {
		f := c.call(wire.KindFetch, fetchRequestFor(id, 0, 0, time.Millisecond), &resp)
		require.Empty(t, resp.Parts)
		require.Empty(t, f.batches)
	}
	require.Positive(t, b.handler.metrics.fetchParked.Load())
	c.call(wire.KindFetch, &wire.FetchRequest{MaxWaitMs: 1000}, &resp)
	require.Empty(t, resp.Parts, "a fetch of nothing does not wait")
}

// A fetch waits for its minimum over all partitions, and no longer than for that.
func TestFetchMinBytes(t *testing.T) {
	b := startBroker(t)
	reader, writer := connect(t, b), connect(t, b)
	id := writer.create("t", 3)
	size := len(anonymous().batch(t, "x"))
	req := &wire.FetchRequest{MaxWaitMs: uint32(patience.Milliseconds()), MinBytes: uint32(3 * size), MaxBytes: 1 << 20}
	for partition := range uint32(3) {
		req.Parts = append(req.Parts, wire.FetchPart{Topic: id, Partition: partition, MaxBytes: 1 << 20})
	}
	correlation := reader.send(wire.KindFetch, req)
	writer.mustProduce(id, 0, "x")
	writer.mustProduce(id, 2, "x")
	parked(t, b, 1)
	writer.mustProduce(id, 2, "x")
	var resp wire.FetchResponse
	f := reader.receive(correlation, &resp)
	require.Len(t, f.batches, 3*size)
	require.Len(t, resp.Parts, 2, "partitions with nothing are left out")
}

func TestFetchLimits(t *testing.T) {
	b := startBroker(t, func(c *Config) { c.MaxFetchBytes = 64 << 10 })
	c := connect(t, b)
	id := c.create("t", 4)
	value := strings.Repeat("v", 10_000)
	size := len(anonymous().batch(t, value))
	for partition := range uint32(4) {
		for range 10 {
			c.mustProduce(id, partition, value)
		}
	}
	fetch := func(maxBytes, partBytes uint32, parts int) (wire.FetchResponse, int) {
		req := &wire.FetchRequest{MaxBytes: maxBytes}
		for partition := range parts {
			req.Parts = append(req.Parts, wire.FetchPart{Topic: id, Partition: uint32(partition), MaxBytes: partBytes})
		}
		var resp wire.FetchResponse
		f := c.call(wire.KindFetch, req, &resp)
		return resp, len(f.batches) / size
	}
	_, n := fetch(1, 1, 1)
	require.Equal(t, 1, n, "at least one batch")
	_, n = fetch(1<<30, uint32(3*size+1), 1)
	require.Equal(t, 3, n)
	_, n = fetch(1<<30, 0, 1)
	require.Equal(t, 6, n, "the broker's own limit")
	// With room for one partition only, each gets its turn.
	seen := map[uint32]bool{}
	for range 4 {
		resp, n := fetch(uint32(2*size), 0, 4)
		require.Equal(t, 2, n)
		seen[resp.Parts[0].Index] = true
	}
	require.Len(t, seen, 4)

	var resp statusOnly
	c.call(wire.KindFetch, &wire.FetchRequest{Parts: make([]wire.FetchPart, maxFetchParts+1)}, &resp)
	require.Equal(t, wire.CodeInvalidRequest, resp.Code)
}

func TestFetchErrors(t *testing.T) {
	b := startBroker(t)
	c := connect(t, b)
	id := c.create("t", 2)
	c.mustProduce(id, 0, "a", "b")
	req := &wire.FetchRequest{MaxWaitMs: 10_000, MaxBytes: 1 << 20, Parts: []wire.FetchPart{
		{Topic: id, Partition: 1}, {Topic: id, Partition: 0, Offset: 3}, {Topic: id, Partition: 9}, {Topic: wire.UUID{1}}, {Topic: id, Offset: -1}, {Topic: id},
	}}
	var resp wire.FetchResponse
	f := c.call(wire.KindFetch, req, &resp)
	codes := map[uint32]wire.Code{}
	for _, p := range resp.Parts {
		codes[p.Index] = p.Code
		if p.Code == wire.CodeOffsetOutOfRange {
			require.EqualValues(t, 2, p.HighWatermark)
		}
	}
	require.Equal(t, map[uint32]wire.Code{
		1: wire.CodeOffsetOutOfRange, 2: wire.CodeUnknownPartition, 3: wire.CodeUnknownTopic, 4: wire.CodeOffsetOutOfRange, 5: wire.CodeNone,
	}, codes)
	require.Equal(t, []string{"0:a", "1:b"}, values(t, f.batches))
}

// A topic deleted under a parked fetch answers it.
func TestFetchOfDeletedTopic(t *testing.T) {
	b := startBroker(t)
	reader, c := connect(t, b), connect(t, b)
	id := c.create("t", 1)
	correlation := reader.send(wire.KindFetch, fetchRequestFor(id, 0, 0, patience))
	parked(t, b, 1)
	var deleted wire.DeleteTopicsResponse
	c.call(wire.KindDeleteTopics, &wire.DeleteTopicsRequest{Topics: []string{"t"}}, &deleted)
	require.NoError(t, deleted.Topics[0].Err())
	var resp wire.FetchResponse
	reader.receive(correlation, &resp)
	require.Equal(t, wire.CodeUnknownTopic, resp.Parts[0].Code)
}

// A fetch of many partitions with data in memory and in files comes whole.
func TestFetchLarge(t *testing.T) {
	cfg := testConfig(t)
	b := startConfig(t, cfg)
	c := connect(t, b)
	id := c.create("t", 8, func(tc *wire.TopicConfig) { tc.SegmentBytes = 1 << 20 })
	value := strings.Repeat("0123456789abcdef", 6_000)
	for i := range 160 {
		c.mustProduce(id, uint32(i%8), value)
	}
	check := func(c *client) {
		req := &wire.FetchRequest{MaxBytes: 15 << 20}
		for partition := range uint32(8) {
			req.Parts = append(req.Parts, wire.FetchPart{Topic: id, Partition: partition})
		}
		var resp wire.FetchResponse
		f := c.call(wire.KindFetch, req, &resp)
		require.Len(t, resp.Parts, 8)
		got := values(t, f.batches)
		require.GreaterOrEqual(t, len(got), 80, "a segment of each")
		for _, v := range got {
			_, v, _ = strings.Cut(v, ":")
			require.Equal(t, value, v)
		}
	}
	check(c)
	require.NoError(t, b.Close())
	check(connect(t, startConfig(t, cfg)))
}

// A flipped bit on disk is answered CORRUPT with the hole, not served, and read
// on behind.
func TestFetchCorrupt(t *testing.T) {
	cfg := testConfig(t)
	b := startConfig(t, cfg)
	c := connect(t, b)
	id := c.create("t", 1)
	for i := range 3 {
		c.mustProduce(id, 0, fmt.Sprint("value", i))
	}
	require.NoError(t, b.Close())
	files, err := filepath.Glob(filepath.Join(cfg.DataDir, "partitions", "*", "0", "*.log"))
	require.NoError(t, err)
	damaged := 0
	for _, file := range files {
		data, err := os.ReadFile(file)
		require.NoError(t, err)
		if i := strings.Index(string(data), "value1"); i > 0 {
			data[i] ^= 1
			require.NoError(t, os.WriteFile(file, data, 0o600))
			damaged++
		}
	}
	require.Equal(t, 1, damaged)
	b = startConfig(t, cfg)
	c = connect(t, b)
	res, got := c.fetch(id, 0, 1)
	require.Equal(t, wire.CodeCorrupt, res.Code, "%v", got)
	require.EqualValues(t, []int64{1, 2}, []int64{res.HoleFrom, res.HoleTo})
	require.Contains(t, res.Message, "damaged")
	_, got = c.fetch(id, 0, res.HoleTo)
	require.Equal(t, []string{"2:value2"}, got)
	_, got = c.fetch(id, 0, 0)
	require.Equal(t, []string{"0:value0"}, got)
	var describe wire.DescribeTopicsResponse
	c.call(wire.KindDescribeTopics, &wire.DescribeTopicsRequest{}, &describe)
	require.Len(t, describe.Topics[0].Stats[0].Holes, 1)
}

func TestFetchVerifyFlag(t *testing.T) {
	b := startBroker(t)
	c := connect(t, b)
	id := c.create("t", 1)
	c.mustProduce(id, 0, "a")
	req := fetchRequestFor(id, 0, 0, 0)
	req.Flags = wire.FetchVerify
	var resp wire.FetchResponse
	f := c.call(wire.KindFetch, req, &resp)
	require.Equal(t, []string{"0:a"}, values(t, f.batches))
}

// Many connections waiting for one partition are all woken by one append, also
// those that ask again while others are being woken.
func TestLongPollFanOut(t *testing.T) {
	b := startBroker(t)
	writer := connect(t, b)
	id := writer.create("t", 1)
	const readers, rounds = 20, 50
	done := make(chan error, readers)
	for range readers {
		c := connect(t, b)
		go func() {
			for offset := int64(0); offset < rounds; {
				frame := wire.AppendFrame(nil, wire.FrameHeader{Kind: wire.KindFetch, Version: 1}, fetchRequestFor(id, 0, offset, patience), 0)
				if _, err := c.nc.Write(frame); err != nil {
					done <- err
					return
				}
				f, err := c.read()
				if err != nil {
					done <- err
					return
				}
				for rest := f.batches; len(rest) > 0; {
					b, next, err := record.Parse(rest, record.DefaultLimits())
					if err != nil || b.BaseOffset() != offset {
						done <- fmt.Errorf("at %d: batch %d, %w", offset, b.BaseOffset(), err)
						return
					}
					offset, rest = b.NextOffset(), next
				}
			}
			done <- nil
		}()
	}
	for range rounds {
		writer.mustProduce(id, 0, "x")
	}
	for range readers {
		require.NoError(t, <-done)
	}
}

// Fetches that are answered leave nothing behind on the replica or in the pools'
// accounts.
func TestFetchGivesBackMemory(t *testing.T) {
	b := startBroker(t)
	c := connect(t, b)
	id := c.create("t", 100)
	req := &wire.FetchRequest{MaxWaitMs: uint32(patience.Milliseconds()), MaxBytes: 1 << 20}
	for partition := range uint32(100) {
		req.Parts = append(req.Parts, wire.FetchPart{Topic: id, Partition: partition, MaxBytes: 1 << 20})
	}
	gone := connect(t, b)
	for range 5 {
		gone.send(wire.KindFetch, req)
	}
	parked(t, b, 5)
	require.Positive(t, b.handler.fetchBudget.stats().used)
	gone.nc.Close()
	parked(t, b, 0)
	for round := range int64(3) {
		correlation := c.send(wire.KindFetch, req)
		parked(t, b, 1)
		producer := connect(t, b)
		producer.mustProduce(id, 7, "x")
		req.Parts[7].Offset = round + 1
		c.receive(correlation, &wire.FetchResponse{})
	}
	until(t, "memory is given back", func() bool {
		return b.handler.fetchBudget.stats().used == 0 && b.server.budget.stats().used == 0
	})
}
