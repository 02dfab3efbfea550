package log

import (
	"math/rand/v2"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sequitur-mq/sequitur/internal/vfs"
	"github.com/stretchr/testify/require"
)

// A killed process loses nothing, whatever the mode; only what the kernel had not written can go with the power.
func TestUnjournaledAppendsSurviveAKill(t *testing.T) {
	for _, mode := range []FsyncMode{FsyncInterval, FsyncNever} {
		both(t, func(t *testing.T, dir string, o Options) {
			s := openStore(t, dir, o)
			id := testID(uint32(mode))
			require.NoError(t, s.Create(Spec{ID: id, Config: Config{Fsync: mode, SegmentBytes: 16 << 10}}))
			f := newProducer(t, partition(t, s, id))
			groups := s.Stats().Groups
			var want []byte
			for round := range 4 {
				want = append(want, f.appendMany(30, 2, 500)...)
				require.Equal(t, f.p.End(), f.p.Durable())
				if round == 1 {
					require.NoError(t, s.checkpoints.once(false))
					want = append(want, f.appendMany(5, 2, 500)...)
				}
				require.Equal(t, groups, s.Stats().Groups, "batches bypass the journal")
				crash(t, s)
				s = openStore(t, dir, o)
				groups = s.Stats().Groups
				f.p = partition(t, s, id)
				require.Equal(t, want, readAll(t, f.p))
			}
			require.NoError(t, s.Close())
		})
	}
}

func TestPowerFailureLeavesAPrefixOfUnjournaled(t *testing.T) {
	for _, keep := range []float64{0, 0.3, 0.7} {
		fsys := vfs.NewMem(vfs.MemOptions{})
		o := smallOptions(fsys)
		s := openStore(t, "/data", o)
		require.NoError(t, s.Create(Spec{ID: testID(1), Config: Config{Fsync: FsyncNever, SegmentBytes: 16 << 10}}))
		f := newProducer(t, partition(t, s, testID(1)))
		want := f.appendMany(20, 2, 500)
		require.NoError(t, s.checkpoints.once(false))
		safe := len(want)
		want = append(want, f.appendMany(20, 2, 500)...)
		after := fsys.Crash(keep, rand.New(rand.NewPCG(5, uint64(keep*10))))
		crash(t, s)
		o.FS = after
		s = openStore(t, "/data", o)
		got := readAll(t, partition(t, s, testID(1)))
		require.GreaterOrEqual(t, len(got), safe)
		require.Equal(t, want[:len(got)], got)
		f.p = partition(t, s, testID(1))
		more := f.append(2, 500)
		require.Equal(t, append(got, more...), readAll(t, f.p))
		require.NoError(t, s.Close())
	}
}

// The flusher makes appends durable within the interval.
func TestIntervalIsFlushed(t *testing.T) {
	fsys := vfs.NewMem(vfs.MemOptions{})
	o := smallOptions(fsys)
	s := openStore(t, "/data", o)
	require.NoError(t, s.Create(Spec{ID: testID(1), Config: Config{Fsync: FsyncInterval, FsyncInterval: time.Millisecond}}))
	f := newProducer(t, partition(t, s, testID(1)))
	want := f.appendMany(20, 2, 500)
	g := f.p.active()
	require.Eventually(t, func() bool {
		f.p.mu.Lock()
		defer f.p.mu.Unlock()
		return g.synced == g.size
	}, 10*time.Second, time.Millisecond)
	after := fsys.Crash(0, rand.New(rand.NewPCG(0, 0)))
	crash(t, s)
	o.FS = after
	s = openStore(t, "/data", o)
	require.Equal(t, want, readAll(t, partition(t, s, testID(1))))
	require.NoError(t, s.Close())
}

// Modes change under load; nothing that the mode of its day promised is lost, with or without power.
func TestModeChanges(t *testing.T) {
	modes := []FsyncMode{FsyncAlways, FsyncInterval, FsyncAlways, FsyncNever, FsyncInterval, FsyncAlways}
	for _, power := range []bool{false, true} {
		fsys := vfs.NewMem(vfs.MemOptions{})
		o := smallOptions(fsys)
		s := openStore(t, "/data", o)
		c := Config{SegmentBytes: 8 << 10}
		require.NoError(t, s.Create(Spec{ID: testID(1), Config: c}))
		f := newProducer(t, partition(t, s, testID(1)))
		var want []byte
		promised := 0
		for round := range 4 * len(modes) {
			c.Fsync = modes[round%len(modes)]
			require.NoError(t, f.p.SetConfig(c))
			if c.Fsync == FsyncAlways {
				promised = len(want) // made durable by the change itself
			}
			want = append(want, f.appendMany(7, 2, 300)...)
			if c.Fsync == FsyncAlways {
				promised = len(want)
			}
			if round%5 == 4 {
				require.NoError(t, s.checkpoints.once(false))
				promised = len(want)
			}
			if round%3 != 2 {
				continue
			}
			if !power {
				crash(t, s)
				promised = len(want)
			} else {
				after := fsys.Crash(0, rand.New(rand.NewPCG(1, 1)))
				crash(t, s)
				fsys = after
				o.FS = after
			}
			s = openStore(t, "/data", o)
			f.p = partition(t, s, testID(1))
			got := readAll(t, f.p)
			require.GreaterOrEqual(t, len(got), promised, "round %d", round)
			require.Equal(t, want[:len(got)], got)
			want = got
			require.Equal(t, c, f.p.Config().withoutDefaults(c))
		}
		require.NoError(t, s.Close())
	}
}

// withoutDefaults takes the fields that a test left to the defaults back out.
func (c Config) withoutDefaults(like Config) Config {
	if like.FsyncInterval == 0 {
		c.FsyncInterval = 0
	}
	return c
}

func TestRetention(t *testing.T) {
	both(t, func(t *testing.T, dir string, o Options) {
		var now atomic.Int64 // Unix nanoseconds; the store's goroutines read it too
		now.Store(1e9)
		o.Now = func() time.Time { return time.Unix(0, now.Load()) }
		for _, mode := range []FsyncMode{FsyncAlways, FsyncNever} {
			id := testID(uint32(mode))
			s := openStore(t, dir, o)
			c := Config{Fsync: mode, SegmentBytes: 10 << 10, RetentionBytes: 50 << 10}
			require.NoError(t, s.Create(Spec{ID: id, Config: c}))
			f := newProducer(t, partition(t, s, id))
			f.now = now.Load()
			var want []byte
			fill := func() {
				t.Helper()
				want = append(want, f.appendMany(40, 2, 1000)...)
				now.Store(f.now)
			}
			check := func() {
				t.Helper()
				st := f.p.Stat()
				_, err := f.p.Read(st.Start-1, st.End, 100, false)
				require.ErrorIs(t, err, ErrOutOfRange)
				got := readAll(t, f.p)
				require.EqualValues(t, st.Bytes, len(got), "only whole segments go")
				require.Equal(t, want[len(want)-len(got):], got)
			}
			fill()
			s.Retain()
			check()
			st := f.p.Stat()
			require.Less(t, st.Bytes, int64(50+10)<<10)
			require.GreaterOrEqual(t, st.Bytes, int64(50)<<10)
			crash(t, s)
			s = openStore(t, dir, o)
			f.p = partition(t, s, id)
			require.Equal(t, st.Start, f.p.Start())
			check()

			// By time: first nothing is old enough, then all but what came last, then everything.
			c.RetentionBytes, c.RetentionTime = 0, time.Hour
			require.NoError(t, f.p.SetConfig(c))
			s.Retain()
			require.Equal(t, st.Start, f.p.Start())
			middle := f.p.End()
			now.Add(int64(50 * time.Minute))
			f.now = now.Load()
			fill()
			now.Add(int64(20 * time.Minute))
			s.Retain()
			check()
			require.InDelta(t, middle, f.p.Start(), 20)
			now.Add(int64(2 * time.Hour))
			s.Retain()
			require.Equal(t, f.p.End(), f.p.Start(), "the active segment expires too")
			require.Zero(t, f.p.Stat().Bytes)
			end := f.p.End()
			require.NoError(t, s.checkpoints.once(false)) // files go once no checkpoint speaks of them
			s.chores.drain()
			entries, err := o.FS.ReadDir(f.p.dir())
			require.NoError(t, err)
			require.Empty(t, entries)
			want = want[:0]
			fill()
			check()
			crash(t, s)
			s = openStore(t, dir, o)
			f.p = partition(t, s, id)
			require.Equal(t, end, f.p.Start())
			check()
			require.NoError(t, s.Close())
		}
	})
}
