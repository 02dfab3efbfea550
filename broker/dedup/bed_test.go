package dedup

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/sequitur-mq/sequitur/internal/vfs"
	"github.com/sequitur-mq/sequitur/log"
	"github.com/sequitur-mq/sequitur/record"
	"github.com/sequitur-mq/sequitur/replication/replica"
	"github.com/sequitur-mq/sequitur/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const dataDir = "/data"

var partitionID = log.ID{Topic: [16]byte{7}, Partition: 2}

// A clock that tests move. It starts now and only goes ahead of the real one, because
// Badger expires by the real one.
type clock struct{ ns atomic.Int64 }

func newClock() *clock {
	c := &clock{}
	c.ns.Store(time.Now().UnixNano())
	return c
}

func (c *clock) now() time.Time          { return time.Unix(0, c.ns.Load()) }
func (c *clock) advance(d time.Duration) { c.ns.Add(int64(d)) }

// bed is one partition on a crashable disk, with a view in a real directory.
type bed struct {
	mem     *vfs.Mem
	dir     string // parent of the view's directories
	views   int    // number of the present one
	clock   *clock
	window  time.Duration
	options Options
	config  log.Config

	store   *log.Store
	replica *replica.Replica
	index   *Index
	view    *Partition
	builder *record.Builder
	sent    int64 // records built: their timestamps, so that no two batches are the same
}

// openBed must be closed by the caller.
func openBed(dir string, config log.Config, o Options) (*bed, error) {
	b := &bed{mem: vfs.NewMem(vfs.MemOptions{}), dir: dir, clock: newClock(), window: time.Hour, options: o, config: config, builder: record.NewBuilder(0)}
	return b, b.open()
}

func newBed(t testing.TB, config log.Config, o Options) *bed {
	b, err := openBed(t.TempDir(), config, o)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, b.close()) })
	return b
}

func (b *bed) viewDir() string { return filepath.Join(b.dir, fmt.Sprint("view-", b.views)) }

func (b *bed) open() (err error) {
	b.store, err = log.Open(dataDir, log.Options{
		FS: b.mem, Now: b.clock.now, JournalFileBytes: 1 << 20, JournalMaxBytes: 4 << 20, TailBytes: 64 << 10,
		ReserveBytes: -1, BallastBytes: -1, ScrubInterval: -1, CompactInterval: -1,
		CheckpointInterval: 1000 * time.Hour, RetentionInterval: 1000 * time.Hour,
	})
	if err != nil {
		return err
	}
	p, ok := b.store.Partition(partitionID)
	if !ok {
		if err := b.store.Create(log.Spec{ID: partitionID, Config: b.config}); err != nil {
			return err
		}
		p, _ = b.store.Partition(partitionID)
	}
	if b.replica, err = openReplica(p, b); err != nil {
		return err
	}
	o := b.options
	o.Dir, o.Now = b.viewDir(), b.clock.now
	b.index = New(o)
	b.view = b.index.Partition(b.replica, b.window)
	return nil
}

func openReplica(p *log.Partition, b *bed) (*replica.Replica, error) {
	return replica.Open(p, replica.Options{Now: b.clock.now, Solo: true})
}

func (b *bed) close() error {
	err := b.index.Close()
	b.replica.Close()
	return errors.Join(err, b.store.Close())
}

func (b *bed) restart() error {
	if err := b.close(); err != nil {
		return err
	}
	return b.open()
}

// crash loses power: of the log's disk as much survives as keep says, of the view what
// its files hold, or (wipe) nothing.
func (b *bed) crash(keep float64, wipe bool, rng *rand.Rand) error {
	b.quiesce()
	after := b.mem.Crash(keep, rng)
	before := b.viewDir()
	b.views++
	var err error
	if !wipe {
		err = copyDir(before, b.viewDir())
	}
	b.view.mu.Unlock()
	if err = errors.Join(err, b.close()); err != nil {
		return err
	}
	b.mem = after
	return b.open()
}

// copyDir copies what a killed process leaves behind: the files without the lock. It
// starts over while files come and go, so that all are of one moment.
func copyDir(from, to string) error {
	for {
		before, err := listDir(from)
		if err != nil {
			return err
		}
		if err := os.RemoveAll(to); err != nil {
			return err
		}
		if err := os.MkdirAll(to, 0o755); err != nil {
			return err
		}
		for name := range before {
			var data []byte
			if data, err = os.ReadFile(filepath.Join(from, name)); err != nil {
				break
			}
			if err := os.WriteFile(filepath.Join(to, name), data, 0o644); err != nil {
				return err
			}
		}
		after, listErr := listDir(from)
		if listErr != nil {
			return listErr
		}
		if err == nil && maps.Equal(before, after) {
			return nil
		}
	}
}

// listDir returns the sizes of files by name; none if there is no directory.
func listDir(dir string) (map[string]int64, error) {
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	sizes := map[string]int64{}
	for _, e := range entries {
		info, err := e.Info()
		if errors.Is(err, fs.ErrNotExist) || e.Name() == "LOCK" {
			continue
		}
		if err != nil {
			return nil, err
		}
		sizes[e.Name()] = info.Size()
	}
	return sizes, nil
}

// quiesce returns with the view locked and the apply loop having nothing in its hands.
func (b *bed) quiesce() {
	for {
		b.view.mu.Lock()
		if !b.view.applying {
			return
		}
		b.view.mu.Unlock()
		runtime.Gosched()
	}
}

// drain waits until everything committed is in the store.
func (b *bed) drain() {
	for {
		b.quiesce()
		done := len(b.view.pending) == 0 || b.view.state != ready || b.view.seen != b.view.changes.Load()
		b.view.mu.Unlock()
		if done {
			return
		}
		b.view.Committed()
		runtime.Gosched()
	}
}

// batch builds a batch of records with the ids; an empty id is none.
func (b *bed) batch(codec record.Codec, producer uint64, seq uint32, ids ...string) []byte {
	b.builder.Reset()
	for _, id := range ids {
		var headers []record.Header
		if id != "" {
			headers = []record.Header{{Key: "other", Value: []byte("x")}, {Key: record.MessageIDHeader, Value: []byte(id)}}
		}
		b.sent++
		b.builder.Append(b.sent, []byte("key"), fmt.Appendf(nil, "value of %s", id), headers)
	}
	var c record.Compressor
	out, err := b.builder.Build(&c, codec, producer, 0, seq)
	if err != nil {
		panic(err)
	}
	return bytes.Clone(out)
}

// outcome is the answer to a send.
type outcome struct {
	replica.Result
	duplicates []wire.DuplicateRecord
}

type waiter chan answer

type answer struct {
	result replica.Result
	err    error
}

func (w waiter) Appended(_ int, r replica.Result, err error) { w <- answer{r, err} }

// trySend does what the broker does with a produce part.
func (b *bed) trySend(batches []byte) (outcome, error) {
	claim, found, err := b.view.Claim(batches, nil)
	if err != nil {
		return outcome{}, err
	}
	if claim != nil {
		batches = claim.Batches
	}
	w := make(waiter, 1)
	result, pending, err := b.replica.Append(batches, replica.AcksQuorum, w, 0)
	claim.Finish(result, err)
	if err == nil && pending {
		a := <-w
		result, err = a.result, a.err
		b.view.Committed()
	}
	if err != nil {
		return outcome{}, err
	}
	return outcome{result, AppendDuplicates(nil, found, result)}, nil
}

// send repeats while the view is being rebuilt.
func (b *bed) send(batches []byte) (outcome, error) {
	for {
		o, err := b.trySend(batches)
		if !errors.Is(err, wire.ErrOverloaded) {
			return o, err
		}
		runtime.Gosched()
	}
}

func (b *bed) mustSend(t testing.TB, ids ...string) outcome {
	o, err := b.send(b.batch(record.CodecNone, 0, 0, ids...))
	require.NoError(t, err)
	return o
}

// stored reads the ids of all records from the log, by offset.
func (b *bed) stored() (map[int64]string, map[int64]int64, error) {
	ids, times := map[int64]string{}, map[int64]int64{}
	var reader record.Reader
	var rec record.Record
	d := record.NewDecompressor()
	l := b.replica.Log()
	err := l.Batches(l.Start(), func(batch record.Batch) error {
		if err := reader.Reset(batch, d, record.DefaultLimits()); err != nil {
			return err
		}
		for {
			more, err := reader.Next(&rec)
			if err != nil || !more {
				return err
			}
			id, _ := rec.MessageID()
			ids[batch.BaseOffset()+rec.OffsetDelta] = string(id)
			times[batch.BaseOffset()+rec.OffsetDelta] = batch.AppendTime()
		}
	})
	return ids, times, err
}

// known asks the view for an id without storing anything.
func (b *bed) known(id string) (offset int64, ok bool, err error) {
	offsets, err := b.knownAll(id)
	offset, ok = offsets[0]
	return offset, ok, err
}

// knownAll asks for many ids and returns the offsets of those known, by index.
func (b *bed) knownAll(ids ...string) (map[int64]int64, error) {
	for {
		claim, found, err := b.view.Claim(b.batch(record.CodecNone, 0, 0, ids...), nil)
		if errors.Is(err, wire.ErrOverloaded) {
			runtime.Gosched()
			continue
		}
		if err != nil {
			return nil, err
		}
		claim.Finish(replica.Result{}, errors.New("not appended"))
		offsets := map[int64]int64{}
		for _, d := range found {
			offsets[d.Delta] = d.Offset
		}
		return offsets, nil
	}
}
