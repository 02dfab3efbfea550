package replica

import (
	"bytes"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sequitur-mq/sequitur/internal/vfs"
	"github.com/sequitur-mq/sequitur/log"
	"github.com/sequitur-mq/sequitur/record"
	"github.com/stretchr/testify/require"
)

const dataDir = "/data"

var partitionID = log.ID{Topic: [16]byte{1}, Partition: 3}

// storeOptions is a small store without background work of its own, so that its
// operations follow from the appends alone.
func storeOptions(fs vfs.FS) log.Options {
	return log.Options{
		FS: fs, JournalFileBytes: 64 << 10, JournalMaxBytes: 256 << 10, TailBytes: 64 << 10,
		ReserveBytes: -1, BallastBytes: -1, ScrubInterval: -1, CompactInterval: -1,
		CheckpointInterval: 1000 * time.Hour, RetentionInterval: 1000 * time.Hour,
	}
}

// bed is a store with one partition and its replica.
type bed struct {
	fs    *vfs.Mem
	store *log.Store
	*Replica
}

func openBed(t testing.TB, fs *vfs.Mem, config log.Config, o Options) *bed {
	t.Helper()
	b, err := tryOpenBed(fs, config, o)
	require.NoError(t, err)
	t.Cleanup(func() { b.store.Close() })
	return b
}

func tryOpenBed(fs *vfs.Mem, config log.Config, o Options) (*bed, error) {
	store, err := log.Open(dataDir, storeOptions(fs))
	if err != nil {
		return nil, err
	}
	p, ok := store.Partition(partitionID)
	if !ok {
		if err := store.Create(log.Spec{ID: partitionID, Config: config}); err != nil {
			store.Close()
			return nil, err
		}
		p, _ = store.Partition(partitionID)
	}
	o.Solo = o.Self.IsZero()
	r, err := Open(p, o)
	if err != nil {
		store.Close()
		return nil, err
	}
	return &bed{fs: fs, store: store, Replica: r}, nil
}

// reopen closes the store cleanly and opens it again.
func (b *bed) reopen(t testing.TB, o Options) *bed {
	t.Helper()
	b.Replica.Close()
	require.NoError(t, b.store.Close())
	return openBed(t, b.fs, log.Config{}, o)
}

// batch builds a batch of a producer, one record per sequence number.
func batch(id uint64, epoch, seq uint32, records int) record.Batch {
	b := record.NewBuilder(0)
	for i := range records {
		b.Append(int64(i), fmt.Appendf(nil, "%d", id), fmt.Appendf(nil, "%d.%d.%d", id, epoch, seq+uint32(i)), nil)
	}
	out, err := b.Build(nil, record.CodecNone, id, epoch, seq)
	if err != nil {
		panic(err)
	}
	return bytes.Clone(out)
}

func concat(batches ...record.Batch) (all []byte) {
	for _, b := range batches {
		all = append(all, b...)
	}
	return all
}

// answer is what a waiter or watcher was told.
type answer struct {
	token  int
	result Result
	err    error
}

// listener collects answers. It serves as Waiter and Watcher.
type listener chan answer

func newListener() listener { return make(listener, 1024) }

func (l listener) Appended(token int, result Result, err error) { l <- answer{token, result, err} }
func (l listener) Passed(token int)                             { l <- answer{token: token} }

func (l listener) requireNone(t testing.TB) {
	t.Helper()
	require.Empty(t, l)
}

// append appends and waits for the outcome.
func (b *bed) append(t testing.TB, batches []byte) Result {
	t.Helper()
	result, err := b.tryAppend(batches)
	require.NoError(t, err)
	return result
}

func (b *bed) tryAppend(batches []byte) (Result, error) {
	l := newListener()
	result, pending, err := b.Append(batches, AcksQuorum, l, 0)
	if !pending || err != nil {
		return result, err
	}
	a := <-l
	return a.result, a.err
}

// values reads all record values up to the high watermark, by offset.
func (b *bed) values(t testing.TB) map[int64]string {
	t.Helper()
	found := map[int64]string{}
	var reader record.Reader
	var rec record.Record
	for at := b.Start(); at < b.HighWatermark(); {
		chunk, err := b.Read(at, 1<<20, true)
		require.NoError(t, err)
		data, err := chunk.AppendTo(nil)
		require.NoError(t, err)
		at = chunk.Next()
		chunk.Release()
		for len(data) > 0 {
			var batch record.Batch
			batch, data, err = record.Parse(data, record.DefaultLimits())
			require.NoError(t, err)
			require.NoError(t, batch.Verify())
			require.NoError(t, reader.Reset(batch, nil, record.DefaultLimits()))
			for {
				ok, err := reader.Next(&rec)
				require.NoError(t, err)
				if !ok {
					break
				}
				found[batch.BaseOffset()+rec.OffsetDelta] = string(rec.Value)
			}
		}
	}
	return found
}

// gate holds back the journal's writes while it is shut.
type gate struct {
	mu   sync.Mutex
	open chan struct{} // closed while the gate is open
}

func gateJournal(fs *vfs.Mem) *gate {
	g := &gate{open: make(chan struct{})}
	close(g.open)
	fs.SetFault(func(op vfs.Op, name string) error {
		if op == vfs.OpWrite && strings.Contains(name, "/journal/") {
			g.mu.Lock()
			open := g.open
			g.mu.Unlock()
			<-open
		}
		return nil
	})
	return g
}

func (g *gate) shut() {
	g.mu.Lock()
	g.open = make(chan struct{})
	g.mu.Unlock()
}

func (g *gate) unlock() { close(g.open) }
