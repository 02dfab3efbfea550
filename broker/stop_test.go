package broker

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sequitur-mq/sequitur/consensus"
	"github.com/sequitur-mq/sequitur/log"
	"github.com/sequitur-mq/sequitur/wire"
)

// A graceful stop answers what is in flight, ends long polls, and leaves nothing
// to recover. Every answered record is there afterwards, once.
func TestGracefulStop(t *testing.T) {
	cfg := testConfig(t)
	b := startConfig(t, cfg)
	setup := connect(t, b)
	id := setup.create("t", 4)
	poll := connect(t, b)
	correlation := poll.send(wire.KindFetch, fetchRequestFor(id, 3, 0, patience))
	parked(t, b, 1)

	const producers = 4
	acked := make([][]string, producers)
	var wg sync.WaitGroup
	started := make(chan struct{}, producers)
	for i := range producers {
		c := connect(t, b)
		p := c.initProducer("")
		wg.Go(func() {
			for n := 0; ; n++ {
				value := fmt.Sprint(i, "-", n)
				batch := p.batch(t, value)
				frame := wire.AppendFrame(nil, wire.FrameHeader{Kind: wire.KindProduce, Version: 1}, produceRequestFor(id, uint32(i%3), batch), len(batch))
				if _, err := c.nc.Write(append(frame, batch...)); err != nil {
					break
				}
				f, err := c.read()
				if err != nil {
					break // the connection was closed: what was sent last may or may not be there
				}
				var resp wire.ProduceResponse
				if err := errors.Join(resp.Decode(f.metadata), resp.Err()); err != nil {
					t.Error(err)
					break
				}
				if err := resp.Parts[0].Err(); err != nil {
					t.Error(err)
					break
				}
				acked[i] = append(acked[i], fmt.Sprint(resp.Parts[0].BaseOffset, ":", value))
				if n == 20 {
					started <- struct{}{}
				}
			}
			c.nc.Close()
		})
	}
	for range producers {
		<-started
	}
	require.NoError(t, b.Close())
	wg.Wait()
	var resp wire.FetchResponse
	poll.receive(correlation, &resp)
	require.NoError(t, resp.Err())
	poll.closed()
	require.Error(t, b.Ready())
	_, err := net.Dial("tcp", b.Addr())
	require.Error(t, err)

	b = startConfig(t, cfg)
	c := connect(t, b)
	stored := map[string]int{}
	for partition := range uint32(3) {
		_, got := c.fetch(id, partition, 0)
		for _, v := range got {
			stored[v]++
		}
	}
	for i := range acked {
		require.Greater(t, len(acked[i]), 20)
		for _, v := range acked[i] {
			require.Equal(t, 1, stored[v], v)
		}
	}
}

// A connection that does not end is cut off when the time is over.
func TestStopIsBounded(t *testing.T) {
	b := startBroker(t, func(c *Config) { c.ShutdownTimeout = Duration(time.Millisecond) })
	c := connect(t, b)
	id := c.create("t", 1)
	value := string(make([]byte, 900_000))
	for range 10 {
		c.mustProduce(id, 0, value)
	}
	for range 10 {
		c.send(wire.KindFetch, &wire.FetchRequest{MaxBytes: 8 << 20, Parts: []wire.FetchPart{{Topic: id}}})
	}
	require.NoError(t, b.Close())
	require.NoError(t, b.Close(), "a second stop is none")
}

func TestStartRefused(t *testing.T) {
	cfg := testConfig(t)
	b := startConfig(t, cfg)
	_, err := Start(context.Background(), cfg)
	require.ErrorIs(t, err, log.ErrLocked)

	taken := testConfig(t)
	taken.Listen = b.Addr()
	_, err = Start(context.Background(), taken)
	require.ErrorContains(t, err, "in use")
	_, err = os.Stat(filepath.Join(taken.DataDir, "identity"))
	require.ErrorIs(t, err, os.ErrNotExist, "the directory was not touched")

	open := testConfig(t)
	open.Listen = "0.0.0.0:0"
	_, err = Start(context.Background(), open)
	require.ErrorContains(t, err, "insecure-listen")
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_, err = Start(ctx, testConfig(t))
	require.Error(t, err)
}

// A crash between the metadata and the log heals at the next start: partitions
// that are missing are made, those of deleted topics go, and what nobody knows
// is left alone.
func TestReconcileAtStart(t *testing.T) {
	cfg := testConfig(t)
	b := startConfig(t, cfg)
	c := connect(t, b)
	half, gone := c.create("half", 3), c.create("gone", 2)
	c.mustProduce(half, 0, "kept")
	c.mustProduce(gone, 0, "deleted")
	stranger := log.ID{Topic: [16]byte{9, 9, 9}, Partition: 4}
	require.NoError(t, b.store.Create(log.Spec{ID: stranger}))
	// As if the broker had died after the metadata entry: with the log behind.
	require.NoError(t, b.store.Delete(log.ID{Topic: half, Partition: 1}, log.ID{Topic: half, Partition: 2}))
	b.meta.Close()
	b.meta, _ = consensus.OpenLocal(b.store, consensus.LocalOptions{})
	r, err := b.meta.Do(context.Background(), consensus.DeleteTopics{IDs: []wire.UUID{gone}})
	require.NoError(t, err)
	require.NoError(t, r.Errors[0])
	require.NoError(t, b.Close())

	for range 2 {
		b = startConfig(t, cfg)
		c = connect(t, b)
		for partition := range uint32(3) {
			_, ok := b.store.Partition(log.ID{Topic: half, Partition: partition})
			require.True(t, ok)
		}
		_, got := c.fetch(half, 0, 0)
		require.Equal(t, "0:kept", got[0])
		c.mustProduce(half, 2, "x")
		for partition := range uint32(2) {
			_, ok := b.store.Partition(log.ID{Topic: gone, Partition: partition})
			require.False(t, ok)
		}
		_, ok := b.store.Partition(stranger)
		require.True(t, ok)
		until(t, "tombstones are dropped", func() bool {
			n := 0
			b.meta.View(func(m *consensus.Machine) {
				for range m.Deleted() {
					n++
				}
			})
			return n == 0
		})
		require.NoError(t, b.Close())
	}
}

// A partition whose log could not be made with its topic is made at its first
// use.
func TestPartitionMadeAtFirstUse(t *testing.T) {
	b := startBroker(t)
	c := connect(t, b)
	id := c.create("t", 2)
	require.NoError(t, b.store.Delete(log.ID{Topic: id, Partition: 1}))
	until(t, "the partition is made", func() bool {
		res := c.produce(id, 1, anonymous().batch(t, "x"))
		return res.Err() == nil
	})
}

// Topics may be deleted while they are being produced to and fetched from: every
// answer is a success or UNKNOWN_TOPIC.
func TestDeleteUnderLoad(t *testing.T) {
	b := startBroker(t)
	admin := connect(t, b)
	for round := range 5 {
		id := admin.create("t", 2)
		var wg sync.WaitGroup
		var ready sync.WaitGroup
		for i := range 4 {
			c := connect(t, b)
			ready.Add(1)
			wg.Go(func() {
				var once sync.Once
				for {
					var code wire.Code
					if i%2 == 0 {
						code = c.produce(id, uint32(i/2), anonymous().batch(t, "x")).Code
					} else {
						res, _ := c.fetch(id, uint32(i/2), 0)
						code = res.Code
					}
					once.Do(ready.Done)
					if code == wire.CodeUnknownTopic {
						return
					}
					if code != wire.CodeNone {
						t.Errorf("round %d: %v", round, code)
						return
					}
				}
			})
		}
		ready.Wait()
		var deleted wire.DeleteTopicsResponse
		admin.call(wire.KindDeleteTopics, &wire.DeleteTopicsRequest{Topics: []string{"t"}}, &deleted)
		require.NoError(t, deleted.Topics[0].Err())
		wg.Wait()
	}
}
