package log

import (
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sequitur-mq/sequitur/internal/vfs"
)

// limitedRetention fills a partition of which only a part is committed, lets everything expire, and returns the limit
// and the start that retention made of it.
func limitedRetention(t *testing.T, c Config, o *switches) (limit, start int64) {
	var now atomic.Int64
	options := smallOptions(vfs.NewMem(vfs.MemOptions{}))
	options.Now = func() time.Time { return time.Unix(0, now.Load()) }
	options.switches = o
	s := openStore(t, "/data", options)
	require.NoError(t, s.Create(Spec{ID: testID(1), Config: c}))
	f := newProducer(t, partition(t, s, testID(1)))
	f.appendMany(40, 2, 1000)
	now.Store(f.now + int64(2*time.Hour))
	var committed atomic.Int64
	f.p.SetRetentionLimit(committed.Load)
	s.Retain()
	start = f.p.Start()
	if o == nil {
		require.Zero(t, start, "nothing is committed")
	}
	limit = f.p.End() / 2
	committed.Store(limit)
	s.Retain()
	start = f.p.Start()
	if o == nil {
		require.Positive(t, start, "what is committed goes")
		committed.Store(f.p.End())
		s.Retain()
		require.Greater(t, f.p.Start(), limit)
	}
	require.NoError(t, s.Close())
	return limit, start
}

// Retention removes nothing that the owner has not declared committed.
func TestRetentionLimit(t *testing.T) {
	for name, c := range map[string]Config{
		"by time": {SegmentBytes: 10 << 10, RetentionTime: time.Hour},
		"by size": {SegmentBytes: 10 << 10, RetentionBytes: 10 << 10},
	} {
		t.Run(name, func(t *testing.T) {
			limit, start := limitedRetention(t, c, nil)
			require.LessOrEqual(t, start, limit)
			limit, start = limitedRetention(t, c, &switches{retainAll: true})
			require.Greater(t, start, limit, "without the rule the test would notice")
		})
	}
}

// A log of which retention has left nothing still knows the epoch of its last record, over truncations to its end,
// checkpoints, crashes and restarts.
func TestEpochOutlivesItsRecords(t *testing.T) {
	for _, mode := range []FsyncMode{FsyncAlways, FsyncNever} {
		t.Run(mode.String(), func(t *testing.T) {
			both(t, func(t *testing.T, dir string, o Options) {
				s := openStore(t, dir, o)
				require.NoError(t, s.Create(Spec{ID: testID(1), Config: Config{Fsync: mode}}))
				f := newProducer(t, partition(t, s, testID(1)))
				for f.epoch = 3; f.epoch < 6; f.epoch++ {
					f.appendMany(2, 2, 100)
				}
				check := func(want ...EpochStart) {
					t.Helper()
					require.Equal(t, want, f.p.Epochs())
					require.Equal(t, want[len(want)-1].Epoch, f.p.LastEpoch())
				}
				check(EpochStart{3, 0}, EpochStart{4, 4}, EpochStart{5, 8})
				wait(t, func(c Completion) error { return f.p.AdvanceStart(8, c) })
				check(EpochStart{4, 4}, EpochStart{5, 8})
				wait(t, func(c Completion) error { return f.p.TruncateTo(8, c) })
				check(EpochStart{4, 4})
				f.epoch = 5
				f.appendMany(2, 2, 100)
				wait(t, func(c Completion) error { return f.p.AdvanceStart(12, c) })
				for range 2 {
					check(EpochStart{5, 8})
					crash(t, s)
					s = openStore(t, dir, o)
					f.p = partition(t, s, testID(1))
				}
				require.NoError(t, s.checkpoints.once(false))
				crash(t, s)
				s = openStore(t, dir, o)
				f.p = partition(t, s, testID(1))
				check(EpochStart{5, 8})
				f.epoch = 6
				f.append(2, 100)
				check(EpochStart{5, 8}, EpochStart{6, 12})
				wait(t, func(c Completion) error { return f.p.TruncateTo(12, c) })
				check(EpochStart{5, 8})
				require.NoError(t, s.Close())
			})
		})
	}
}

// The power fails before anything of an unjournaled log was written, but after its start was moved to its end: what is
// known of the epochs was in the journal.
func TestEpochOfLostRecords(t *testing.T) {
	fsys := vfs.NewMem(vfs.MemOptions{})
	s := openStore(t, "/data", smallOptions(fsys))
	require.NoError(t, s.Create(Spec{ID: testID(1), Config: Config{Fsync: FsyncNever}}))
	f := newProducer(t, partition(t, s, testID(1)))
	f.append(2, 100)
	f.epoch = 4
	f.append(2, 100)
	wait(t, func(c Completion) error { return f.p.AdvanceStart(4, c) })
	image := fsys.Crash(0, f.rng)
	require.NoError(t, s.Close())
	s = openStore(t, "/data", smallOptions(image))
	p := partition(t, s, testID(1))
	require.EqualValues(t, 4, p.End())
	require.EqualValues(t, 4, p.LastEpoch())
	require.Equal(t, []EpochStart{{4, 2}}, p.Epochs())
	require.NoError(t, s.Close())
}
