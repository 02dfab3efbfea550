package consensus

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/sequitur-mq/sequitur/internal/vfs"
	"github.com/sequitur-mq/sequitur/log"
	"github.com/sequitur-mq/sequitur/wire"
)

// The library may never answer an entry that it takes while it stops; whoever waits for
// the answer is left behind, until the process ends.
func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/hashicorp/raft.(*deferError).Error"))
}

const testDir = "/data"

func openStore(t testing.TB, fs vfs.FS) *log.Store {
	t.Helper()
	store, err := log.Open(testDir, log.Options{
		FS: fs, JournalFileBytes: 8 << 20, TailBytes: 1 << 20, ReserveBytes: -1, BallastBytes: -1, ScrubInterval: -1,
	})
	require.NoError(t, err)
	return store
}

// withLocal runs fn on a driver over the file system and closes both after it.
func withLocal(t testing.TB, fs vfs.FS, o LocalOptions, fn func(*Local)) {
	t.Helper()
	store := openStore(t, fs)
	l, err := OpenLocal(store, o)
	require.NoError(t, err)
	fn(l)
	l.Close()
	require.NoError(t, store.Close())
}

func do(t testing.TB, l *Local, c Command) Result {
	t.Helper()
	r, err := l.Do(context.Background(), c)
	require.NoError(t, err)
	return r
}

func hash(l *Local) (h uint64) {
	l.View(func(m *Machine) { h = m.Hash() })
	return h
}

func TestLocalSurvivesRestart(t *testing.T) {
	fs := vfs.NewMem(vfs.MemOptions{})
	var before uint64
	withLocal(t, fs, LocalOptions{}, func(l *Local) {
		require.NoError(t, do(t, l, CreateTopics{[]*Topic{testTopic("a", 1, 3)}}).Errors[0])
		require.EqualValues(t, 1, do(t, l, InitProducer{Name: "p"}).Producer.Epoch)
		before = hash(l)
	})
	withLocal(t, fs, LocalOptions{}, func(l *Local) {
		require.Equal(t, before, hash(l))
		require.EqualValues(t, 2, do(t, l, InitProducer{Name: "p"}).Producer.Epoch)
		require.ErrorIs(t, do(t, l, CreateTopics{[]*Topic{testTopic("a", 2, 3)}}).Errors[0], wire.ErrTopicExists)
	})
}

// What was answered survives a crash that loses everything that was not synced.
func TestLocalSurvivesCrash(t *testing.T) {
	fs := vfs.NewMem(vfs.MemOptions{})
	store := openStore(t, fs)
	l, err := OpenLocal(store, LocalOptions{SnapshotBytes: 500})
	require.NoError(t, err)
	for i := range 40 {
		do(t, l, CreateTopics{[]*Topic{testTopic(fmt.Sprint("t", i), byte(i), 1)}})
	}
	want, crashed := hash(l), fs.Crash(0, rand.New(rand.NewPCG(1, 2)))
	l.Close()
	require.NoError(t, store.Close())
	withLocal(t, crashed, LocalOptions{}, func(l *Local) { require.Equal(t, want, hash(l)) })
}

func TestLocalSnapshotsBoundTheLog(t *testing.T) {
	fs := vfs.NewMem(vfs.MemOptions{})
	var want uint64
	withLocal(t, fs, LocalOptions{SnapshotBytes: 2000}, func(l *Local) {
		for i := range 50 {
			do(t, l, CreateTopics{[]*Topic{testTopic("a", byte(i), 300)}})
			do(t, l, DeleteTopics{[]wire.UUID{testTopic("a", byte(i), 0).ID}})
			do(t, l, PurgeTopics{[]wire.UUID{testTopic("a", byte(i), 0).ID}})
		}
		want = hash(l)
		require.Positive(t, l.partition.Start(), "commands were dropped")
	})
	withLocal(t, fs, LocalOptions{}, func(l *Local) {
		require.Equal(t, want, hash(l))
		do(t, l, InitProducer{Name: "p"})
	})
}

// A snapshot larger than a chunk counts, one of which chunks are missing does not.
func TestLocalChunkedSnapshot(t *testing.T) {
	fs := vfs.NewMem(vfs.MemOptions{})
	var want uint64
	withLocal(t, fs, LocalOptions{SnapshotBytes: 1 << 20}, func(l *Local) {
		create := CreateTopics{}
		for i := range 4 {
			create.Topics = append(create.Topics, testTopic(fmt.Sprint("t", i), byte(i), 40_000))
		}
		do(t, l, create)
		do(t, l, InitProducer{Name: "p"})
		want = hash(l)
		partial := append(le.AppendUint64(nil, 2), 0, 0, 0, 0, 2, 0, 0, 0, 'x')
		require.NoError(t, l.append(&proposal{l: l}, []byte{recordSnapshot}, partial))
	})
	withLocal(t, fs, LocalOptions{}, func(l *Local) {
		require.Equal(t, want, hash(l))
		require.EqualValues(t, 1, l.partition.Start(), "the first command was dropped")
		require.Greater(t, l.lastSize, chunkBytes)
	})
}

// Concurrent commands share group commits, are applied in the order of the log
// and reported to OnChanges in that order before their proposers hear of it.
func TestLocalConcurrentCommands(t *testing.T) {
	fs := vfs.NewMem(vfs.MemOptions{})
	var mu sync.Mutex
	seen := map[string]bool{}
	changes := 0
	o := LocalOptions{OnChanges: func(list []Change) {
		mu.Lock()
		defer mu.Unlock()
		for _, c := range list {
			seen[c.Topic.Name] = true
			changes++
		}
	}}
	withLocal(t, fs, o, func(l *Local) {
		var wg sync.WaitGroup
		for i := range 50 {
			wg.Go(func() {
				name := fmt.Sprint("t", i)
				r, err := l.Do(context.Background(), CreateTopics{[]*Topic{testTopic(name, byte(i), 1)}})
				if err != nil || r.Errors[0] != nil {
					t.Errorf("create %s: %v %v", name, err, r.Errors)
				}
				mu.Lock()
				defer mu.Unlock()
				if !seen[name] {
					t.Errorf("%s was answered before its change was reported", name)
				}
			})
		}
		wg.Wait()
		require.Equal(t, 50, changes)
	})
}

func TestLocalClosed(t *testing.T) {
	fs := vfs.NewMem(vfs.MemOptions{})
	withLocal(t, fs, LocalOptions{}, func(l *Local) {
		l.Close()
		_, err := l.Do(context.Background(), InitProducer{Name: "p"})
		require.ErrorIs(t, err, ErrClosed)
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		_, err = l.Do(ctx, InitProducer{Name: "p"})
		require.Error(t, err)
	})
}

func BenchmarkLocalCreateTopic(b *testing.B) {
	store, err := log.Open(b.TempDir(), log.Options{})
	require.NoError(b, err)
	l, err := OpenLocal(store, LocalOptions{})
	require.NoError(b, err)
	start := time.Now()
	i := 0
	for b.Loop() {
		t := testTopic(fmt.Sprint("t", i), 0, 1)
		le.PutUint32(t.ID[4:], uint32(i))
		do(b, l, CreateTopics{[]*Topic{t}})
		i++
	}
	b.ReportMetric(float64(i)/time.Since(start).Seconds(), "commands/s")
	l.Close()
	require.NoError(b, store.Close())
}
