package log

import (
	"math/rand/v2"
	"path/filepath"
	"sync"
	"testing"

	"github.com/sequitur-mq/sequitur/internal/vfs"
	"github.com/sequitur-mq/sequitur/record"
	"github.com/stretchr/testify/require"
)

// boundaries lists the base offsets of the batches, and the end.
func boundaries(t *testing.T, log []byte) (offsets []int64, positions []int) {
	at := 0
	for at < len(log) {
		b, _, err := record.Parse(log[at:], storedLimits())
		require.NoError(t, err)
		offsets, positions = append(offsets, b.BaseOffset()), append(positions, at)
		at += len(b)
	}
	return append(offsets, offsets[len(offsets)-1]+2), append(positions, at)
}

func TestTruncateAndAppendAgain(t *testing.T) {
	for _, mode := range []FsyncMode{FsyncAlways, FsyncInterval} {
		t.Run(mode.String(), func(t *testing.T) {
			both(t, func(t *testing.T, dir string, o Options) {
				s := openStore(t, dir, o)
				require.NoError(t, s.Create(Spec{ID: testID(1), Config: Config{Fsync: mode, SegmentBytes: 8 << 10}}))
				f := newProducer(t, partition(t, s, testID(1)))
				want := f.appendMany(40, 2, 300)
				rng := rand.New(rand.NewPCG(9, uint64(mode)))
				for round := range 25 {
					offsets, positions := boundaries(t, want)
					i := rng.IntN(len(offsets))
					end := offsets[i]
					f.epoch++
					wait(t, func(c Completion) error { return f.p.TruncateTo(end, c) })
					want = want[:positions[i]]
					require.Equal(t, end, f.p.End())
					require.Equal(t, end, f.p.Durable())
					if i > 0 {
						last := record.Batch(want[positions[i-1]:])
						require.Equal(t, last.AppendTime(), f.p.LastAppendTime())
						require.Equal(t, last.LeaderEpoch(), f.p.LastEpoch())
					}
					require.Equal(t, want, readAll(t, f.p))
					want = append(want, f.appendMany(1+rng.IntN(20), 2, 300)...)
					switch round % 5 {
					case 1:
						require.NoError(t, s.checkpoints.once(false))
					case 2:
						crash(t, s)
						s = openStore(t, dir, o)
					case 4:
						require.NoError(t, s.Close())
						s = openStore(t, dir, o)
					}
					f.p = partition(t, s, testID(1))
					require.Equal(t, want, readAll(t, f.p), "round %d", round)
				}
				require.NoError(t, s.Close())
			})
		})
	}
}

func TestTruncateRefusals(t *testing.T) {
	s := openStore(t, "/data", smallOptions(vfs.NewMem(vfs.MemOptions{})))
	require.NoError(t, s.Create(Spec{ID: testID(1)}))
	p := partition(t, s, testID(1))
	newProducer(t, p).appendMany(3, 2, 10)
	require.ErrorIs(t, p.TruncateTo(7, nil), ErrOutOfRange)
	require.ErrorIs(t, p.TruncateTo(3, nil), ErrOutOfRange, "within a batch")
	wait(t, func(c Completion) error { return p.AdvanceStart(2, c) })
	require.ErrorIs(t, p.TruncateTo(0, nil), ErrOutOfRange)
	require.EqualValues(t, 6, p.End())
	require.NoError(t, s.Close())
}

// Until a truncation is durable, the bytes that it cuts off are intact: a crash that takes the truncation back finds
// them as they were, also where something else was appended since.
func TestTruncationThatDidNotGetDurable(t *testing.T) {
	fsys := vfs.NewMem(vfs.MemOptions{})
	s := openStore(t, "/data", smallOptions(fsys))
	require.NoError(t, s.Create(Spec{ID: testID(1)}))
	f := newProducer(t, partition(t, s, testID(1)))
	want := f.appendMany(10, 2, 300)
	require.NoError(t, s.checkpoints.once(false)) // the journal no longer has them
	hold := make(chan struct{})
	live, _ := liveFile(s)
	fsys.SetFault(func(op vfs.Op, name string) error {
		if op == vfs.OpWrite && name == live {
			<-hold
		}
		return nil
	})
	truncated, appended := make(waiter, 1), make(waiter, 1)
	require.NoError(t, f.p.TruncateTo(4, truncated))
	f.epoch++
	pending, err := f.p.Append(f.batch(4, 2, 500), appended)
	require.NoError(t, err)
	require.True(t, pending)
	require.EqualValues(t, 6, f.p.End())
	require.EqualValues(t, 4, f.p.Durable(), "what was cut off no longer counts, what replaces it not yet")
	for _, keep := range []float64{0, 0.5, 1} {
		after := fsys.Crash(keep, rand.New(rand.NewPCG(1, 1)))
		s := openStore(t, "/data", smallOptions(after))
		require.Equal(t, want, readAll(t, partition(t, s, testID(1))))
		require.NoError(t, s.Close())
	}
	close(hold)
	require.NoError(t, <-truncated)
	require.NoError(t, <-appended)
	require.EqualValues(t, 6, f.p.Durable())
	require.NoError(t, s.Close())
}

func TestSnapshots(t *testing.T) {
	both(t, func(t *testing.T, dir string, o Options) {
		s := openStore(t, dir, o)
		require.NoError(t, s.Create(Spec{ID: testID(1), Config: Config{SegmentBytes: 4 << 10}}))
		f := newProducer(t, partition(t, s, testID(1)))
		covered := int64(0)
		snapshotter := func() (int64, []byte) { return covered, appendI64(nil, covered) }
		check := func(want int64) {
			t.Helper()
			offset, state := f.p.Snapshot()
			require.Equal(t, want, offset)
			if want > 0 {
				require.Equal(t, appendI64(nil, want), state)
			}
		}
		check(0)
		f.p.SetSnapshotter(snapshotter)
		for range 5 {
			f.appendMany(5, 2, 1000)
			covered = f.p.End()
			require.NoError(t, s.checkpoints.once(false))
			check(covered)
		}
		crash(t, s)
		s = openStore(t, dir, o)
		f.p = partition(t, s, testID(1))
		check(50)
		for _, c := range []struct{ end, want int64 }{{50, 50}, {48, 40}, {40, 40}, {24, 20}, {6, 0}} {
			wait(t, func(done Completion) error { return f.p.TruncateTo(c.end, done) })
			check(c.want)
		}
		require.NoError(t, s.checkpoints.once(false)) // files go once no checkpoint speaks of them
		s.chores.drain()
		entries, err := o.FS.ReadDir(f.p.dir())
		require.NoError(t, err)
		for _, e := range entries {
			_, ok := parseSnapshotName(e.Name())
			require.False(t, ok, "left over: %s", e.Name())
		}
		require.NoError(t, s.Close())
	})
}

func TestStraysAreRemoved(t *testing.T) {
	fsys := vfs.NewMem(vfs.MemOptions{})
	s, f, want := filled(t, fsys, 3)
	dir := f.p.dir()
	crash(t, s)
	for _, name := range []string{"00000000000000000003.log", "00000000000000000000-4.log", "00000000000000000077.idx", snapshotFileName(99), "README"} {
		file, err := fsys.Create(filepath.Join(dir, name))
		require.NoError(t, err)
		require.NoError(t, file.Close())
	}
	s = openStore(t, "/data", smallOptions(fsys))
	require.Equal(t, want, readAll(t, partition(t, s, testID(1))))
	require.NoError(t, s.checkpoints.once(false)) // until then another recovery may need segments that this one gave up
	s.chores.drain()
	entries, err := fsys.ReadDir(dir)
	require.NoError(t, err)
	require.Len(t, entries, 2, "%v", entries)
	require.NoError(t, s.Close())
}

// truncateDuringCheckpoint truncates a partition while a checkpoint syncs what it has captured, lets the power fail and
// returns what the partition must hold and what it does.
func truncateDuringCheckpoint(t *testing.T, o *switches) (want, got []byte, err error) {
	fsys := vfs.NewMem(vfs.MemOptions{})
	options := smallOptions(fsys)
	options.switches = o
	s := openStore(t, "/data", options)
	require.NoError(t, s.Create(Spec{ID: testID(1)}, Spec{ID: testID(2)}))
	first, second := newProducer(t, partition(t, s, testID(1))), newProducer(t, partition(t, s, testID(2)))
	first.append(2, 300)
	want = second.appendMany(10, 2, 300)
	reached, hold := make(chan struct{}), make(chan struct{})
	blocking := first.p.segments[0].path()
	var once sync.Once
	fsys.SetFault(func(op vfs.Op, name string) error {
		if op == vfs.OpSync && name == blocking {
			once.Do(func() {
				close(reached)
				<-hold
			})
		}
		return nil
	})
	done := make(chan error, 1)
	go func() { done <- s.checkpoints.once(false) }()
	<-reached
	_, positions := boundaries(t, want)
	wait(t, func(c Completion) error { return second.p.TruncateTo(16, c) })
	want = want[:positions[8]]
	close(hold)
	require.NoError(t, <-done)
	image := fsys.Crash(0, rand.New(rand.NewPCG(1, 1)))
	require.Equal(t, want, readAll(t, second.p))
	require.NoError(t, s.Close())
	s, err = Open("/data", smallOptions(image))
	require.NoError(t, err)
	got, err = readFrom(partition(t, s, testID(2)), 0, 64<<10, true)
	require.NoError(t, s.Close())
	return want, got, err
}

// What a checkpoint captured must be durable even if a truncation cuts it meanwhile: the journal no longer has it.
func TestTruncationDuringACheckpoint(t *testing.T) {
	want, got, err := truncateDuringCheckpoint(t, nil)
	require.NoError(t, err)
	require.Equal(t, want, got)
	_, _, err = truncateDuringCheckpoint(t, &switches{skipCut: true})
	require.ErrorIs(t, err, ErrCorrupt, "without the rule the test would notice")
}
