package broker

import (
	"context"

	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sequitur-mq/sequitur/internal/vfs"
	"github.com/sequitur-mq/sequitur/log"
	"github.com/sequitur-mq/sequitur/wire"
)

// memConfig is a broker on a crashable file system in memory.
func memConfig(t testing.TB, fs vfs.FS) Config {
	cfg := testConfig(t)
	cfg.DataDir, cfg.fs, cfg.ReserveBytes = "/data", fs, 0
	return cfg
}

// holdJournal makes writes of the journal wait until release is called.
func holdJournal(fs *vfs.Mem) (release func()) {
	gate := make(chan struct{})
	fs.SetFault(func(op vfs.Op, name string) error {
		if op == vfs.OpWrite && strings.Contains(name, "/journal/") {
			<-gate
		}
		return nil
	})
	return sync.OnceFunc(func() {
		fs.SetFault(nil)
		close(gate)
	})
}

// What is not durable in time is answered TIMEOUT, part by part; a retry under
// the same sequence gets the original's offset.
func TestProduceTimeout(t *testing.T) {
	fs := vfs.NewMem(vfs.MemOptions{})
	b := startConfig(t, memConfig(t, fs))
	c := connect(t, b)
	slow := c.create("slow", 1)
	quick := c.create("quick", 1, func(tc *wire.TopicConfig) { tc.Fsync = wire.FsyncNever })
	p := c.initProducer("")
	release := holdJournal(fs)
	defer release()
	one, two := p.batch(t, "a"), anonymous().batch(t, "b")
	req := &wire.ProduceRequest{Acks: wire.AcksQuorum, TimeoutMs: 5, Parts: []wire.ProducePart{
		{Topic: slow, Bytes: uint32(len(one))}, {Topic: quick, Bytes: uint32(len(two))},
	}}
	var resp wire.ProduceResponse
	c.call(wire.KindProduce, req, &resp, one, two)
	require.Equal(t, wire.CodeTimeout, resp.Parts[0].Code)
	require.NoError(t, resp.Parts[1].Err())
	require.Positive(t, b.server.budget.stats().used, "the frame is held until the journal has let go of it")

	retry := produceRequestFor(slow, 0, one)
	correlation := c.send(wire.KindProduce, retry, one)
	release()
	c.receive(correlation, &resp)
	require.NoError(t, resp.Parts[0].Err())
	require.True(t, resp.Parts[0].Duplicate())
	require.Zero(t, resp.Parts[0].BaseOffset)
	until(t, "memory is given back", func() bool { return b.server.budget.stats().used == 0 })
	_, got := c.fetch(slow, 0, 0)
	require.Equal(t, []string{"0:a"}, got)
}

// Records are not shown to consumers before they are durable.
func TestFetchSeesOnlyDurable(t *testing.T) {
	fs := vfs.NewMem(vfs.MemOptions{})
	b := startConfig(t, memConfig(t, fs))
	writer, reader := connect(t, b), connect(t, b)
	id := writer.create("t", 1)
	release := holdJournal(fs)
	defer release()
	batch := anonymous().batch(t, "a")
	correlation := writer.send(wire.KindProduce, produceRequestFor(id, 0, batch), batch)
	until(t, "the record is in the log", func() bool {
		p, ok := b.store.Partition(log.ID{Topic: id})
		return ok && p.End() == 1
	})
	_, got := reader.fetch(id, 0, 0)
	require.Empty(t, got)
	release()
	writer.receive(correlation, &wire.ProduceResponse{})
	_, got = reader.fetch(id, 0, 0)
	require.Equal(t, []string{"0:a"}, got)
}

// A failed write ends the broker: what waits is answered STORAGE_FAILED, nothing
// is acknowledged after it, and the caller is told.
func TestStorageFailure(t *testing.T) {
	fs := vfs.NewMem(vfs.MemOptions{})
	cfg := memConfig(t, fs)
	b, err := Start(context.Background(), cfg)
	require.NoError(t, err)
	c := connect(t, b)
	id := c.create("t", 1)
	c.mustProduce(id, 0, "before")
	fs.SetFault(func(op vfs.Op, name string) error {
		if op == vfs.OpWrite && strings.Contains(name, "/journal/") {
			return syscall.EIO
		}
		return nil
	})
	for range 2 {
		res := c.produce(id, 0, anonymous().batch(t, "lost"))
		require.Equal(t, wire.CodeStorageFailed, res.Code, res.Message)
	}
	failure := <-b.Err()
	require.ErrorIs(t, failure, log.ErrStorageFailed)
	require.ErrorIs(t, failure, syscall.EIO)
	require.Error(t, b.Health())
	require.Error(t, b.Ready())
	require.True(t, b.Snapshot().Storage.Failed)
	_, got := c.fetch(id, 0, 0)
	require.Equal(t, []string{"0:before"}, got)
	require.Error(t, b.Close())
	fs.SetFault(nil)

	c = connect(t, startConfig(t, cfg))
	_, got = c.fetch(id, 0, 0)
	require.Equal(t, "0:before", got[0])
}

// A full disk refuses produce with a retryable error, serves everything else,
// and recovers by itself.
func TestStorageFull(t *testing.T) {
	fs := vfs.NewMem(vfs.MemOptions{Capacity: 128 << 20})
	cfg := memConfig(t, fs)
	cfg.ReserveBytes = 32 << 20
	b := startConfig(t, cfg)
	c := connect(t, b)
	id, ballast := c.create("t", 1), c.create("ballast", 1)
	c.mustProduce(id, 0, "a")
	value := strings.Repeat("v", 1_000_000)
	code := wire.CodeNone
	for range 200 {
		res := c.produce(ballast, 0, anonymous().batch(t, value))
		if code = res.Code; code != wire.CodeNone {
			require.Contains(t, res.Message, "free disk space")
			break
		}
	}
	require.Equal(t, wire.CodeStorageFull, code)
	require.True(t, code.Retriable())
	require.ErrorIs(t, b.Ready(), log.ErrStorageFull)
	require.NoError(t, b.Health())
	_, got := c.fetch(id, 0, 0)
	require.Equal(t, []string{"0:a"}, got)
	c.initProducer("names go on")
	var deleted wire.DeleteTopicsResponse
	c.call(wire.KindDeleteTopics, &wire.DeleteTopicsRequest{Topics: []string{"ballast"}}, &deleted)
	require.NoError(t, deleted.Topics[0].Err())
	until(t, "produce goes on", func() bool {
		return c.produce(id, 0, anonymous().batch(t, "b")).Code == wire.CodeNone
	})
	require.NoError(t, b.Ready())
}

// Whenever the power goes, everything acknowledged is there afterwards, once, in
// order, and topics and producers are as they were told.
func TestPowerLossAnyTime(t *testing.T) {
	for seed := range uint64(25) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			rng := rand.New(rand.NewPCG(seed, 7))
			fs := vfs.NewMem(vfs.MemOptions{})
			b, err := Start(context.Background(), memConfig(t, fs))
			require.NoError(t, err)
			fs.CrashAt(1 + rng.Int64N(300))
			told := workUntilCrash(t, b)
			_ = b.Close() // its disk is gone
			keep := []float64{0, 0.2, 0.5, 0.8, 1}[rng.IntN(5)]
			checkTold(t, startConfig(t, memConfig(t, fs.Crash(keep, rng))), told)
		})
	}
}

// What a client was told before the crash.
type told struct {
	topics map[string]wire.UUID
	acked  map[string][]string // by topic
	epochs map[string]uint32   // of named producers
}

// workUntilCrash creates topics, produces and renames producers until something
// fails.
func workUntilCrash(t *testing.T, b *Broker) told {
	out := told{map[string]wire.UUID{}, map[string][]string{}, map[string]uint32{}}
	nc := connect(t, b)
	defer nc.nc.Close()
	require.NoError(t, nc.nc.SetDeadline(time.Now().Add(patience)))
	call := func(kind wire.Kind, req, resp wire.Message, batches ...[]byte) error {
		nc.send(kind, req, batches...)
		f, err := nc.read()
		if err == nil {
			err = resp.Decode(f.metadata)
		}
		return err
	}
	for i := 0; ; i++ {
		name := fmt.Sprint("topic-", i/10)
		if i%10 == 0 {
			var created wire.CreateTopicsResponse
			if call(wire.KindCreateTopics, &wire.CreateTopicsRequest{Topics: []wire.NewTopic{{Name: name}}}, &created) != nil ||
				created.Err() != nil || created.Topics[0].Err() != nil {
				return out
			}
			out.topics[name] = created.Topics[0].UUID
			var p wire.InitProducerResponse
			if call(wire.KindInitProducer, &wire.InitProducerRequest{Name: fmt.Sprint("p", i%30)}, &p) != nil || p.Err() != nil {
				return out
			}
			out.epochs[fmt.Sprint("p", i%30)] = p.Epoch
		}
		batch := anonymous().batch(t, fmt.Sprint(i))
		var produced wire.ProduceResponse
		if call(wire.KindProduce, produceRequestFor(out.topics[name], 0, batch), &produced, batch) != nil ||
			produced.Err() != nil || produced.Parts[0].Err() != nil {
			return out
		}
		out.acked[name] = append(out.acked[name], fmt.Sprint(produced.Parts[0].BaseOffset, ":", i))
	}
}

func checkTold(t *testing.T, b *Broker, told told) {
	c := connect(t, b)
	for name, id := range told.topics {
		var meta wire.MetadataResponse
		c.call(wire.KindMetadata, &wire.MetadataRequest{Topics: []string{name}}, &meta)
		require.NoError(t, meta.Topics[0].Err())
		require.Equal(t, id, meta.Topics[0].UUID)
		_, got := c.fetch(id, 0, 0)
		acked := told.acked[name]
		require.GreaterOrEqual(t, len(got), len(acked))
		require.LessOrEqual(t, len(got), len(acked)+1, "at most the one that was in flight besides")
		require.Equal(t, acked, got[:len(acked):len(acked)])
	}
	for name, epoch := range told.epochs {
		require.Greater(t, c.initProducer(name).epoch, epoch)
	}
}
