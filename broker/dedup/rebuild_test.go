package dedup

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/dgraph-io/badger/v4"
	"github.com/stretchr/testify/require"

	"github.com/sequitur-mq/sequitur/log"
	"github.com/sequitur-mq/sequitur/record"
	"github.com/sequitur-mq/sequitur/replication/replica"
	"github.com/sequitur-mq/sequitur/wire"
)

// fill sends n ids, id-0 to id-(n-1), in batches.
func fill(t testing.TB, b *bed, n int) {
	for at := 0; at < n; {
		var ids []string
		for ; at < n && len(ids) < 500; at++ {
			ids = append(ids, fmt.Sprint("id-", at))
		}
		b.mustSend(t, ids...)
	}
}

func requireKnown(t testing.TB, b *bed, n int) {
	for i := 0; i < n; i += 1 + n/50 {
		offset, ok, err := b.known(fmt.Sprint("id-", i))
		require.NoError(t, err)
		require.True(t, ok, i)
		require.Equal(t, int64(i), offset)
	}
}

// A deleted view is rebuilt in the background; sends with ids wait for it, others do
// not.
func TestRebuildInTheBackground(t *testing.T) {
	const n = 3*inlineOffsets + 17
	b := newBed(t, log.Config{}, Options{})
	fill(t, b, n)
	require.NoError(t, b.close())
	require.NoError(t, os.RemoveAll(b.viewDir()))
	require.NoError(t, b.open())

	_, err := b.trySend(b.batch(record.CodecNone, 0, 0, "id-5"))
	require.ErrorIs(t, err, wire.ErrOverloaded)
	require.ErrorContains(t, err, "being read from its log")
	require.Positive(t, err.(*wire.Error).RetryAfter)
	plain, err := b.trySend(b.batch(record.CodecNone, 0, 0, ""))
	require.NoError(t, err)
	require.Equal(t, int64(n), plain.BaseOffset)

	again := b.mustSend(t, "id-5", fmt.Sprint("id-", n-1), "new")
	require.Equal(t, []wire.DuplicateRecord{{Index: 0, Offset: 5}, {Index: 1, Offset: n - 1}}, again.duplicates)
	requireKnown(t, b, n)
	s := b.index.Stats()
	require.Equal(t, uint64(1), s.Rebuilt)
	require.Zero(t, s.Rebuilding)
}

// A clean restart has nothing to walk: the position is at the end, behind the batches
// without ids too.
func TestCleanRestartWalksNothing(t *testing.T) {
	b := newBed(t, log.Config{}, Options{})
	fill(t, b, 100)
	for range 2 * inlineOffsets / 100 {
		b.mustSend(t, make([]string, 100)...)
	}
	require.NoError(t, b.restart())
	requireKnown(t, b, 100)
	require.Equal(t, b.replica.Log().End(), b.view.position.offset)
	require.Zero(t, b.index.Stats().Rebuilt)
}

// Close in the middle of a rebuild ends it; the next one goes on where it was.
func TestCloseWhileRebuilding(t *testing.T) {
	const n = 2 * inlineOffsets
	b := newBed(t, log.Config{}, Options{})
	fill(t, b, n)
	require.NoError(t, b.close())
	require.NoError(t, os.RemoveAll(b.viewDir()))
	require.NoError(t, b.open())
	_, err := b.trySend(b.batch(record.CodecNone, 0, 0, "id-5"))
	require.ErrorIs(t, err, wire.ErrOverloaded)
	require.NoError(t, b.restart())
	requireKnown(t, b, n)
}

// checkCommits crashes after each transaction of the application of a batch of many ids, with
// the batch in the log and with another one in its place: the view must agree with either.
func checkCommits(t require.TestingT, tmp func() string, breaks breakage) error {
	rng := rand.New(rand.NewPCG(1, 1))
	var b *bed
	var views []string
	root := tmp()
	b, err := openBed(tmp(), log.Config{}, Options{breaks: breaks, afterCommit: func() {
		to := filepath.Join(root, fmt.Sprint(len(views)))
		if err := copyDir(b.viewDir(), to); err == nil {
			views = append(views, to)
		}
	}})
	require.NoError(t, err)
	small := make([]string, 10)
	big := make([]string, 2*maxTransaction+100)
	for i := range small {
		small[i] = fmt.Sprint("small-", i)
	}
	for i := range big {
		big[i] = fmt.Sprint("big-", i)
	}
	_, err = b.send(b.batch(record.CodecNone, 0, 0, small...))
	require.NoError(t, err)
	b.drain()
	without := b.mem.Crash(1, rng)
	_, err = b.send(b.batch(record.CodecNone, 0, 0, big...))
	require.NoError(t, err)
	b.drain()
	with := b.mem.Crash(1, rng)
	require.NoError(t, b.close())
	require.GreaterOrEqual(t, len(views), 4)

	for i, view := range views[1:] {
		for _, lost := range []bool{false, true} {
			mem := with
			if lost {
				mem = without
			}
			c := &bed{mem: mem.Crash(1, rng), dir: tmp(), clock: b.clock, window: b.window, builder: record.NewBuilder(0), options: Options{breaks: breaks}}
			require.NoError(t, copyDir(view, c.viewDir()))
			require.NoError(t, c.open())
			if lost {
				// In its place and, as the clock stands still, of its time.
				_, _, err := c.replica.Append(c.batch(record.CodecNone, 0, 0, make([]string, len(big))...), replica.AcksQuorum, nil, 0)
				require.NoError(t, err)
			}
			err := c.agree(small, big, lost)
			require.NoError(t, c.close())
			if err != nil {
				return fmt.Errorf("after commit %d, log lost the batch: %t: %w", i+1, lost, err)
			}
		}
	}
	return nil
}

func (b *bed) agree(small, big []string, lost bool) error {
	offsets, err := b.knownAll(slices.Concat(small, big)...)
	if err != nil {
		return err
	}
	for i := range len(small) + len(big) {
		offset, ok := offsets[int64(i)]
		if want := i < len(small) || !lost; ok != want || ok && offset != int64(i) {
			return fmt.Errorf("id %d: found %t at %d, expected %t", i, ok, offset, want)
		}
	}
	return nil
}

func TestCrashAfterEachCommit(t *testing.T) {
	require.NoError(t, checkCommits(t, t.TempDir, breakage{}))
}

func TestCommitCheckNoticesBrokenRules(t *testing.T) {
	require.Error(t, checkCommits(t, t.TempDir, breakage{noPartial: true}))
	require.Error(t, checkCommits(t, t.TempDir, breakage{positionFirst: true, noPartial: true}))
	require.Error(t, checkCommits(t, t.TempDir, breakage{noStamp: true}))
	require.Error(t, checkCommits(t, t.TempDir, breakage{timeOnly: true}))
}

// Retention deletes the batch before the position: what can no longer be compared is
// not trusted. A live view remembers ids of deleted records.
func TestRetention(t *testing.T) {
	b := newBed(t, log.Config{}, Options{})
	b.mustSend(t, "a")
	b.drain()
	require.NoError(t, b.replica.Log().AdvanceStart(1, nil))
	require.Len(t, b.mustSend(t, "a").duplicates, 1)
	require.NoError(t, b.restart())
	require.Zero(t, b.generation())
	require.NoError(t, b.replica.Log().AdvanceStart(b.replica.Log().End(), nil))
	require.Empty(t, b.mustSend(t, "a").duplicates)
	require.Equal(t, uint32(1), b.generation())
	require.Len(t, b.mustSend(t, "a").duplicates, 1)
}

// generation is that of the view's position, which its writer moves on meanwhile.
func (b *bed) generation() uint32 {
	b.view.mu.Lock()
	defer b.view.mu.Unlock()
	return b.view.position.generation
}

// Damage in the log is stepped over: ids beside it are found.
func TestDamagedLog(t *testing.T) {
	const n = 2 * inlineOffsets
	b := newBed(t, log.Config{SegmentBytes: 64 << 10}, Options{})
	fill(t, b, n)
	require.NoError(t, b.close())
	require.NoError(t, os.RemoveAll(b.viewDir()))
	dir := filepath.Join(dataDir, "partitions", partitionID.String())
	require.NoError(t, b.mem.FlipBit(filepath.Join(dir, fmt.Sprintf("%020d.log", 0)), 8*1000))
	require.NoError(t, b.open())
	_, ok, err := b.known(fmt.Sprint("id-", n-1))
	require.NoError(t, err)
	require.True(t, ok)
	_, ok, err = b.known("id-0")
	require.NoError(t, err)
	require.False(t, ok, "the log cannot tell")
}

// A store that answers nonsense is made anew from the log, while running and at the start.
func TestDamagedStore(t *testing.T) {
	b := newBed(t, log.Config{}, Options{})
	fill(t, b, 100)
	b.drain()
	require.NoError(t, b.index.db.Update(func(txn *badger.Txn) error {
		return txn.Set(appendKey(nil, partitionID, 0, []byte("id-7")), []byte("nonsense"))
	}))
	_, err := b.trySend(b.batch(record.CodecNone, 0, 0, "id-7"))
	require.ErrorIs(t, err, wire.ErrOverloaded)
	require.ErrorContains(t, err, "damaged")
	requireKnown(t, b, 100)
	require.Len(t, b.mustSend(t, "id-7").duplicates, 1)

	for name, harm := range map[string]func(dir string) error{
		"manifest": func(dir string) error { return os.WriteFile(filepath.Join(dir, "MANIFEST"), []byte("nonsense"), 0o644) },
		"position": func(dir string) error { return editStore(dir, recordKey(partitionID), []byte("nonsense")) },
		"layout":   func(dir string) error { return editStore(dir, layoutKey, []byte{layout + 1}) },
		"opening":  func(dir string) error { return os.WriteFile(dir+".opening", nil, 0o644) },
	} {
		t.Run(name, func(t *testing.T) {
			require.NoError(t, b.close())
			require.NoError(t, harm(b.viewDir()))
			require.NoError(t, b.open())
			requireKnown(t, b, 100)
			_, err := os.Stat(b.viewDir() + ".opening")
			require.ErrorIs(t, err, os.ErrNotExist)
		})
	}
}

func editStore(dir string, key, value []byte) error {
	db, err := badger.Open(storeOptions(dir, New(Options{}).o.Logger))
	if err != nil {
		return err
	}
	return errors.Join(db.Update(func(txn *badger.Txn) error { return txn.Set(key, value) }), db.Close())
}

// An index that cannot be opened refuses sends with ids, and recovers once it can.
func TestStoreThatCannotBeOpened(t *testing.T) {
	b := newBed(t, log.Config{}, Options{})
	require.NoError(t, os.WriteFile(b.viewDir(), []byte("a file"), 0o644))
	_, err := b.trySend(b.batch(record.CodecNone, 0, 0, "a"))
	require.ErrorIs(t, err, wire.ErrOverloaded)
	require.ErrorContains(t, err, "cannot be opened")
	require.NoError(t, os.Remove(b.viewDir()))
	require.Empty(t, b.mustSend(t, "a").duplicates)
}

// Entries carry the end of their window, so that Badger drops them.
func TestEntriesExpire(t *testing.T) {
	b := newBed(t, log.Config{}, Options{})
	o := b.mustSend(t, "a")
	b.drain()
	require.NoError(t, b.index.db.View(func(txn *badger.Txn) error {
		item, err := txn.Get(appendKey(nil, partitionID, 0, []byte("a")))
		if err != nil {
			return err
		}
		end := o.AppendTime + int64(b.window)
		require.GreaterOrEqual(t, item.ExpiresAt(), uint64(end/int64(time.Second)))
		require.LessOrEqual(t, item.ExpiresAt(), uint64(end/int64(time.Second))+1)
		return nil
	}))
}

// Ids that were applied under a short window expire early. The position says so until the
// log was walked for the longer one, whatever is applied in between.
func TestLongerWindow(t *testing.T) {
	for _, breaks := range []breakage{{}, {oldWindow: true}} {
		b := newBed(t, log.Config{}, Options{breaks: breaks})
		short := b.window
		b.mustSend(t, "a")
		b.drain()
		b.quiesce()
		b.view.applying = true
		b.view.mu.Unlock()
		b.mustSend(t, "b")
		b.window = 10 * short
		b.view.SetWindow(b.window)
		b.view.mu.Lock()
		b.view.applying = false
		b.view.mu.Unlock()
		require.NoError(t, b.index.applyAll(b.index.db, 1, []*Partition{b.view}))
		b.quiesce() // the loop may have been faster
		b.view.mu.Unlock()
		at, ok, err := loadPosition(b.index.db, recordKey(partitionID))
		require.NoError(t, err)
		require.True(t, ok)
		require.Equal(t, breaks.oldWindow, at.window != int64(short))

		b.clock.advance(5 * short)
		offset, ok, err := b.known("a")
		require.NoError(t, err)
		require.True(t, ok)
		require.Zero(t, offset)
		at, _, err = loadPosition(b.index.db, recordKey(partitionID))
		require.NoError(t, err)
		require.Equal(t, int64(b.window), at.window)
	}
}

// Many partitions share one store.
func TestManyPartitions(t *testing.T) {
	b := newBed(t, log.Config{}, Options{})
	var views []*Partition
	for i := range 50 {
		id := log.ID{Topic: [16]byte{9}, Partition: uint32(i)}
		require.NoError(t, b.store.Create(log.Spec{ID: id}))
		p, _ := b.store.Partition(id)
		c := *b
		var err error
		c.replica, err = openReplica(p, b)
		require.NoError(t, err)
		c.view = b.index.Partition(c.replica, b.window)
		require.Empty(t, c.mustSend(t, "same").duplicates)
		require.Len(t, c.mustSend(t, "same").duplicates, 1)
		views = append(views, c.view)
	}
	for _, v := range views {
		c := *b
		c.view = v
		c.drain()
		_, ok, err := c.known("same")
		require.NoError(t, err)
		require.True(t, ok)
	}
}

func FuzzPosition(f *testing.F) {
	f.Add(position{generation: 3, partial: true, offset: 9, last: stamp{1, 2}, window: 7}.bytes())
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		if p, err := parsePosition(b); err == nil {
			require.Equal(t, b, p.bytes())
		}
		if p, err := parsePlace(b); err == nil {
			require.Equal(t, b, p.bytes())
		}
	})
}
