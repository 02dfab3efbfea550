package replica

import (
	"errors"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/sequitur-mq/sequitur/internal/vfs"
	"github.com/sequitur-mq/sequitur/log"
	"github.com/sequitur-mq/sequitur/record"
	"github.com/sequitur-mq/sequitur/txn"
	"github.com/stretchr/testify/require"
)

func TestAppendReadReopen(t *testing.T) {
	b := openBed(t, vfs.NewMem(vfs.MemOptions{}), log.Config{}, Options{})
	require.Equal(t, Result{BaseOffset: 0}, withoutTime(b.append(t, batch(7, 1, 0, 3))))
	require.Equal(t, Result{BaseOffset: 3}, withoutTime(b.append(t, batch(0, 0, 0, 2))))
	require.Equal(t, Result{BaseOffset: 5}, withoutTime(b.append(t, batch(7, 1, 3, 1))))
	require.Equal(t, int64(6), b.HighWatermark())
	require.Equal(t, uint32(1), b.Epoch())
	want := map[int64]string{0: "7.1.0", 1: "7.1.1", 2: "7.1.2", 3: "0.0.0", 4: "0.0.1", 5: "7.1.3"}
	require.Equal(t, want, b.values(t))

	_, err := b.Read(7, 100, false)
	require.ErrorIs(t, err, log.ErrOutOfRange)
	chunk, err := b.Read(6, 100, false)
	require.NoError(t, err)
	require.Zero(t, chunk.Len())
	chunk.Release()

	hash := b.ProducersHash()
	b = b.reopen(t, Options{})
	require.Equal(t, hash, b.ProducersHash(), "live state and replay agree")
	require.Equal(t, int64(6), b.HighWatermark())
	require.Equal(t, want, b.values(t))
	require.Equal(t, Result{BaseOffset: 5, Duplicate: true}, withoutTime(b.append(t, batch(7, 1, 3, 1))))
	require.Equal(t, Result{BaseOffset: 6}, withoutTime(b.append(t, batch(7, 1, 4, 1))))
}

func withoutTime(r Result) Result {
	r.AppendTime = 0
	return r
}

func TestRefusalsChangeNothing(t *testing.T) {
	b := openBed(t, vfs.NewMem(vfs.MemOptions{}), log.Config{}, Options{})
	b.append(t, batch(7, 2, 0, 3))
	hash := b.ProducersHash()
	for name, c := range map[string]struct {
		batches []byte
		want    error
	}{
		"gap":             {batch(7, 2, 5, 1), txn.ErrSequenceGap},
		"other shape":     {batch(7, 2, 1, 1), txn.ErrStaleSequence},
		"fenced":          {batch(7, 1, 3, 1), txn.ErrFenced},
		"nothing":         {nil, record.ErrCorrupt},
		"cut off":         {batch(7, 2, 3, 1)[:90], record.ErrCorrupt},
		"cut off later":   {concat(batch(7, 2, 3, 1), batch(7, 2, 4, 1)[:50]), record.ErrCorrupt},
		"two producers":   {concat(batch(7, 2, 3, 1), batch(8, 1, 0, 1)), ErrMixedBatches},
		"gap inside":      {concat(batch(7, 2, 3, 1), batch(7, 2, 5, 1)), ErrMixedBatches},
		"known, then new": {concat(batch(7, 2, 0, 3), batch(7, 2, 3, 1)), ErrMixedBatches},
		"named, then not": {concat(batch(7, 2, 3, 1), batch(0, 0, 0, 1)), ErrMixedBatches},
	} {
		_, pending, err := b.Append(c.batches, AcksQuorum, newListener(), 1)
		require.ErrorIs(t, err, c.want, name)
		require.False(t, pending, name)
	}
	require.Equal(t, hash, b.ProducersHash())
	require.Equal(t, int64(3), b.Log().End())
}

func TestSeveralBatchesTogether(t *testing.T) {
	b := openBed(t, vfs.NewMem(vfs.MemOptions{}), log.Config{}, Options{})
	together := func() []byte { return concat(batch(7, 1, 0, 2), batch(7, 1, 2, 3), batch(7, 1, 5, 1)) }
	require.Equal(t, int64(0), b.append(t, together()).BaseOffset)
	require.Equal(t, int64(6), b.HighWatermark())
	require.Equal(t, Result{BaseOffset: 0, Duplicate: true}, withoutTime(b.append(t, together())))
	require.Equal(t, Result{BaseOffset: 2, Duplicate: true}, withoutTime(b.append(t, batch(7, 1, 2, 3))))
	require.Equal(t, int64(6), b.append(t, concat(batch(0, 0, 0, 1), batch(0, 0, 0, 1))).BaseOffset)
	require.Len(t, b.values(t), 8)
}

func TestAppendTimeNeverFalls(t *testing.T) {
	var clock atomic.Int64
	clock.Store(1000)
	now := func() time.Time { return time.Unix(0, clock.Load()) }
	b := openBed(t, vfs.NewMem(vfs.MemOptions{}), log.Config{}, Options{Now: now})
	require.Equal(t, int64(1000), b.append(t, batch(7, 1, 0, 1)).AppendTime)
	clock.Store(400)
	require.Equal(t, int64(1000), b.append(t, batch(7, 1, 1, 1)).AppendTime)
	b = b.reopen(t, Options{Now: now})
	require.Equal(t, int64(1000), b.append(t, batch(7, 1, 2, 1)).AppendTime)
	clock.Store(3000)
	require.Equal(t, int64(3000), b.append(t, batch(7, 1, 3, 1)).AppendTime)
	require.Equal(t, int64(1000), b.append(t, batch(7, 1, 2, 1)).AppendTime, "a duplicate has the original's time")

	offset, at, err := b.OffsetByTime(1001)
	require.NoError(t, err)
	require.Equal(t, []int64{3, 3000}, []int64{offset, at})
	offset, at, err = b.OffsetByTime(3001)
	require.NoError(t, err)
	require.Equal(t, []int64{4, -1}, []int64{offset, at})
}

// Nobody is answered before the journal is synced, and a repeat of a batch that is
// still on its way waits like the batch itself.
func TestDuplicateOfABatchInFlightWaits(t *testing.T) {
	b := openBed(t, vfs.NewMem(vfs.MemOptions{}), log.Config{}, Options{})
	g := gateJournal(b.fs)
	l := newListener()
	g.shut()
	for token, sent := range []record.Batch{batch(7, 1, 0, 2), batch(7, 1, 2, 2), batch(7, 1, 0, 2)} {
		_, pending, err := b.Append(sent, AcksQuorum, l, token)
		require.NoError(t, err)
		require.True(t, pending)
	}
	l.requireNone(t)
	require.Equal(t, int64(4), b.Log().End())
	require.Equal(t, int64(0), b.HighWatermark())
	chunk, err := b.Read(0, 1000, false)
	require.NoError(t, err)
	require.Zero(t, chunk.Len(), "nothing is read beyond the high watermark")
	chunk.Release()
	g.unlock()
	got := map[int]Result{}
	for range 3 {
		a := <-l
		require.NoError(t, a.err)
		got[a.token] = withoutTime(a.result)
	}
	require.Equal(t, map[int]Result{0: {}, 1: {BaseOffset: 2}, 2: {Duplicate: true}}, got)
}

// A batch that the log refuses leaves no trace in the producer state: what is sent
// under its sequence next is new, not a duplicate.
func TestProducerStateFollowsTheLog(t *testing.T) {
	run := func(t *testing.T, breaks breakage) error {
		b := openBed(t, vfs.NewMem(vfs.MemOptions{}), log.Config{}, Options{breaks: breaks})
		b.append(t, batch(7, 1, 0, 1))
		large := record.NewBuilder(0)
		large.Append(1, nil, make([]byte, 100<<10), nil) // more than a journal file
		refused, err := large.Build(nil, record.CodecNone, 7, 1, 1)
		require.NoError(t, err)
		_, pending, err := b.Append(refused, AcksQuorum, newListener(), 0)
		require.ErrorIs(t, err, log.ErrTooLarge)
		require.False(t, pending)
		l := newListener()
		_, pending, err = b.Append(batch(7, 1, 1, 1), AcksQuorum, l, 0)
		require.NoError(t, err)
		if b.Log().End() != 2 {
			return errors.New("taken for a duplicate")
		}
		require.True(t, pending)
		require.Equal(t, Result{BaseOffset: 1}, withoutTime((<-l).result))
		require.Len(t, b.values(t), 2)
		return nil
	}
	require.NoError(t, run(t, breakage{}))
	require.Error(t, run(t, breakage{aheadOfLog: true}), "the rule is off and nothing noticed")
}

// A full disk refuses an append as if it had not been tried; it is not final.
func TestStorageFull(t *testing.T) {
	b := openBed(t, vfs.NewMem(vfs.MemOptions{}), log.Config{}, Options{})
	b.append(t, batch(7, 1, 0, 1))
	hash := b.ProducersHash()
	var once atomic.Bool
	b.fs.SetFault(func(op vfs.Op, name string) error {
		if op == vfs.OpWrite && strings.HasSuffix(name, ".log") && once.CompareAndSwap(false, true) {
			return syscall.ENOSPC
		}
		return nil
	})
	_, pending, err := b.Append(batch(7, 1, 1, 1), AcksQuorum, newListener(), 0)
	require.ErrorIs(t, err, log.ErrStorageFull)
	require.False(t, pending)
	require.Equal(t, hash, b.ProducersHash())
	b = b.reopen(t, Options{})
	require.Equal(t, Result{BaseOffset: 1}, withoutTime(b.append(t, batch(7, 1, 1, 1))))
}

// A failed journal fails every pending append, each once, and all later ones.
func TestStorageFailure(t *testing.T) {
	b := openBed(t, vfs.NewMem(vfs.MemOptions{}), log.Config{}, Options{})
	b.append(t, batch(7, 1, 0, 1))
	g := gateJournal(b.fs)
	g.shut()
	l := newListener()
	var watch Watch
	require.True(t, b.Watch(&watch, 1, l, 99))
	for token, sent := range []record.Batch{batch(7, 1, 1, 1), batch(7, 1, 2, 1), batch(7, 1, 1, 1), batch(7, 1, 3, 1)} {
		_, pending, err := b.Append(sent, AcksQuorum, l, token)
		require.NoError(t, err)
		require.True(t, pending)
	}
	// The group that is being written has passed the gate's question; the next fails.
	b.fs.CrashNow()
	g.unlock()
	seen := map[int]bool{}
	for range 4 {
		a := <-l
		require.ErrorIs(t, a.err, log.ErrStorageFailed)
		require.Equal(t, Result{}, a.result)
		require.False(t, seen[a.token])
		seen[a.token] = true
	}
	require.Equal(t, int64(1), b.HighWatermark())
	_, pending, err := b.Append(batch(7, 1, 4, 1), AcksQuorum, l, 5)
	require.ErrorIs(t, err, log.ErrStorageFailed)
	require.False(t, pending)
	require.True(t, b.Unwatch(&watch))
	b.store.Close()
	l.requireNone(t)
}

func TestUnsyncedModesAnswerAtOnce(t *testing.T) {
	for _, mode := range []log.FsyncMode{log.FsyncNever, log.FsyncInterval} {
		b := openBed(t, vfs.NewMem(vfs.MemOptions{}), log.Config{Fsync: mode}, Options{})
		l := newListener()
		var watch Watch
		require.True(t, b.Watch(&watch, 0, l, 5))
		result, pending, err := b.Append(batch(7, 1, 0, 2), AcksQuorum, l, 0)
		require.NoError(t, err)
		require.False(t, pending)
		require.Equal(t, Result{}, withoutTime(result))
		require.Equal(t, int64(2), b.HighWatermark())
		require.Equal(t, answer{token: 5}, <-l, "watchers are called all the same")
		result, pending, err = b.Append(batch(7, 1, 0, 2), AcksQuorum, l, 0)
		require.NoError(t, err)
		require.False(t, pending)
		require.True(t, result.Duplicate)
		l.requireNone(t)
	}
}

func TestClosedReplica(t *testing.T) {
	b := openBed(t, vfs.NewMem(vfs.MemOptions{}), log.Config{}, Options{})
	g := gateJournal(b.fs)
	g.shut()
	l := newListener()
	_, pending, err := b.Append(batch(7, 1, 0, 1), AcksQuorum, l, 1)
	require.NoError(t, err)
	require.True(t, pending)
	var watch, late Watch
	require.True(t, b.Watch(&watch, 10, l, 2))
	b.Close()
	require.Equal(t, answer{token: 2}, <-l, "watchers learn of the end")
	require.False(t, b.Unwatch(&watch))
	require.False(t, b.Watch(&late, 10, l, 3))
	_, _, err = b.Append(batch(7, 1, 1, 1), AcksQuorum, l, 4)
	require.ErrorIs(t, err, ErrClosed)
	l.requireNone(t)
	g.unlock()
	a := <-l
	require.Equal(t, 1, a.token, "what is on its way is still answered")
	require.NoError(t, a.err)
}

func TestViolationStopsTheReplica(t *testing.T) {
	fatal := make(chan error, 2)
	b := openBed(t, vfs.NewMem(vfs.MemOptions{}), log.Config{}, Options{OnFatal: func(err error) { fatal <- err }})
	b.append(t, batch(7, 1, 0, 1))
	b.mu.Lock()
	b.violate(errors.New("broken"))
	b.violate(errors.New("again"))
	b.unlock()
	require.ErrorContains(t, <-fatal, "broken")
	_, _, err := b.Append(batch(7, 1, 1, 1), AcksQuorum, nil, 0)
	require.ErrorContains(t, err, "broken")
	require.Empty(t, fatal)
	require.Len(t, b.values(t), 1, "reading goes on")
}

func TestIdleProducersAreForgotten(t *testing.T) {
	var clock atomic.Int64
	clock.Store(1)
	now := func() time.Time { return time.Unix(0, clock.Load()) }
	b := openBed(t, vfs.NewMem(vfs.MemOptions{}), log.Config{}, Options{Now: now, ProducerIdle: time.Hour})
	b.append(t, batch(7, 1, 0, 1))
	b.append(t, batch(8, 1, 0, 1))
	clock.Add(int64(50 * time.Minute))
	b.append(t, batch(8, 1, 1, 1))
	clock.Add(int64(50 * time.Minute))
	b.append(t, batch(8, 1, 2, 1))
	require.Equal(t, 1, b.producers.Len())
	require.Equal(t, int64(4), b.append(t, batch(7, 1, 9, 1)).BaseOffset, "and may go on")
}
