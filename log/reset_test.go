package log

import (
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sequitur-mq/sequitur/internal/vfs"
)

// A log begins anew: within what it was, at its end and far beyond it, with the same end after a crash, a checkpoint
// and a clean stop.
func TestReset(t *testing.T) {
	for _, mode := range []FsyncMode{FsyncAlways, FsyncNever} {
		t.Run(mode.String(), func(t *testing.T) {
			both(t, func(t *testing.T, dir string, o Options) {
				s := openStore(t, dir, o)
				require.NoError(t, s.Create(Spec{ID: testID(1), Config: Config{Fsync: mode, SegmentBytes: 4 << 10}}))
				f := newProducer(t, partition(t, s, testID(1)))
				f.p.SetSnapshotter(func() (int64, []byte) { return f.p.End(), []byte("state") })
				f.appendMany(20, 2, 300)
				wait(t, func(c Completion) error { return f.p.PutValue(1, []byte("fence"), c) })
				require.NoError(t, s.checkpoints.once(false))
				f.appendMany(5, 2, 300)
				for round, start := range []int64{30, 30, 60, 1 << 40} {
					f.epoch, f.now = 7, 1e9+int64(round) // below what was appended before
					if round == 0 {
						f.epoch = 1
					}
					wait(t, func(c Completion) error { return f.p.Reset(start, c) })
					var want []byte
					check := func() {
						t.Helper()
						require.Equal(t, []int64{start, f.p.End(), f.p.End()}, []int64{f.p.Start(), f.p.End(), f.p.Durable()})
						require.Equal(t, want, append([]byte(nil), readAll(t, f.p)...))
						require.Equal(t, "fence", string(f.p.Value(1)))
						if len(want) == 0 {
							require.Zero(t, f.p.LastEpoch())
							require.Empty(t, f.p.Epochs())
							require.Zero(t, f.p.LastAppendTime())
							offset, state := f.p.Snapshot()
							require.Equal(t, start, offset)
							require.Nil(t, state, "of the log before")
						}
					}
					check()
					reopen := func(how func()) {
						t.Helper()
						how()
						s = openStore(t, dir, o)
						f.p = partition(t, s, testID(1))
						check()
					}
					reopen(func() { crash(t, s) })
					reopen(func() { require.NoError(t, s.checkpoints.once(false)); crash(t, s) })
					reopen(func() { require.NoError(t, s.Close()) })
					want = f.appendMany(10, 2, 300)
					check()
					reopen(func() { crash(t, s) })
				}
				require.ErrorIs(t, f.p.Reset(5, nil), ErrOutOfRange)
				require.NoError(t, s.checkpoints.once(false))
				require.NoError(t, s.checkpoints.once(false))
				s.chores.drain()
				require.Len(t, mustReadLogs(t, o.FS, f.p.dir()), len(f.p.segmentNames()), "the old files are gone")
				require.NoError(t, s.Close())
			})
		})
	}
}

func mustReadLogs(t *testing.T, fsys vfs.FS, dir string) (names []string) {
	for _, name := range mustReadDir(t, fsys, dir) {
		if _, suffix, ok := parseSegmentName(name); ok && suffix == segmentSuffix {
			names = append(names, name)
		}
	}
	return names
}

// Until a reset is durable the old log is intact, whatever was appended since.
func TestResetThatDidNotGetDurable(t *testing.T) {
	fsys := vfs.NewMem(vfs.MemOptions{})
	s := openStore(t, "/data", smallOptions(fsys))
	require.NoError(t, s.Create(Spec{ID: testID(1)}))
	f := newProducer(t, partition(t, s, testID(1)))
	want := f.appendMany(10, 2, 300)
	require.NoError(t, s.checkpoints.once(false))
	hold := make(chan struct{})
	live, _ := liveFile(s)
	fsys.SetFault(func(op vfs.Op, name string) error {
		if op == vfs.OpWrite && name == live {
			<-hold
		}
		return nil
	})
	reset, appended := make(waiter, 1), make(waiter, 1)
	require.NoError(t, f.p.Reset(4, reset))
	_, err := f.p.Append(f.batch(4, 2, 500), appended)
	require.NoError(t, err)
	require.EqualValues(t, 6, f.p.End())
	require.EqualValues(t, 4, f.p.Durable(), "what was there no longer counts, what replaces it not yet")
	for _, keep := range []float64{0, 0.5, 1} {
		again := openStore(t, "/data", smallOptions(fsys.Crash(keep, rand.New(rand.NewPCG(1, 1)))))
		require.Equal(t, want, readAll(t, partition(t, again, testID(1))))
		require.NoError(t, again.Close())
	}
	close(hold)
	require.NoError(t, <-reset)
	require.NoError(t, <-appended)
	require.EqualValues(t, 6, f.p.Durable())
	require.NoError(t, s.Close())
}
