package consensus

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/raft"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/sequitur-mq/sequitur/internal/vfs"
	"github.com/sequitur-mq/sequitur/log"
)

func noDeath(t testing.TB) func(error) {
	return func(err error) { t.Errorf("storage failed: %v", err) }
}

// withRaftLog runs fn on a Raft log over the file system, and checks the directory after it.
func withRaftLog(t testing.TB, fs *vfs.Mem, covered uint64, fn func(*raftLog)) {
	t.Helper()
	store := openStore(t, fs)
	l, err := openRaftLog(store, covered, time.Now, noDeath(t))
	require.NoError(t, err)
	fn(l)
	require.NoError(t, store.Close())
	report, err := log.Check(testDir, log.CheckOptions{FS: fs, Records: true})
	require.NoError(t, err)
	for _, f := range report.Findings {
		require.LessOrEqual(t, f.Severity, log.SeverityNote, f.String())
	}
}

func entries(from uint64, count int, term uint64) (list []*raft.Log) {
	for i := range count {
		index := from + uint64(i)
		list = append(list, &raft.Log{
			Index: index, Term: term, Type: raft.LogType(index % 3), Data: fmt.Appendf(nil, "%d of %d", index, term), AppendedAt: time.Unix(7, int64(index)).UTC(),
		})
	}
	return list
}

func requireLog(t require.TestingT, l *raftLog, want []*raft.Log) {
	first, err := l.FirstIndex()
	require.NoError(t, err)
	last, err := l.LastIndex()
	require.NoError(t, err)
	if len(want) == 0 {
		require.Zero(t, first)
		require.Zero(t, last)
		return
	}
	require.Equal(t, want[0].Index, first)
	require.Equal(t, want[len(want)-1].Index, last)
	for _, e := range want {
		var got raft.Log
		require.NoError(t, l.GetLog(e.Index, &got))
		require.Equal(t, *e, got)
	}
	var none raft.Log
	require.ErrorIs(t, l.GetLog(first-1, &none), raft.ErrLogNotFound)
	require.ErrorIs(t, l.GetLog(last+1, &none), raft.ErrLogNotFound)
}

func TestRaftLogIsKept(t *testing.T) {
	fs := vfs.NewMem(vfs.MemOptions{})
	long := entries(1, 1, 1)
	long[0].Data = bytes.Repeat([]byte("x"), MaxCommandBytes)
	long[0].Extensions = []byte("extension")
	withRaftLog(t, fs, 0, func(l *raftLog) {
		requireLog(t, l, nil)
		require.NoError(t, l.StoreLogs(long))
		require.NoError(t, l.StoreLogs(entries(2, 10, 1)))
		require.NoError(t, l.StoreLog(entries(12, 1, 3)[0]))
		require.NoError(t, l.SetUint64([]byte("CurrentTerm"), 3))
		require.NoError(t, l.Set([]byte("LastVoteCand"), []byte("somebody")))
		require.Error(t, l.Set([]byte("something else"), nil))
	})
	want := append(append(long, entries(2, 10, 1)...), entries(12, 1, 3)...)
	withRaftLog(t, fs, 0, func(l *raftLog) {
		requireLog(t, l, want)
		l.cache = entryCache{}
		requireLog(t, l, want) // from disk
		term, err := l.GetUint64([]byte("CurrentTerm"))
		require.NoError(t, err)
		require.EqualValues(t, 3, term)
		none, err := l.GetUint64([]byte("LastVoteTerm"))
		require.NoError(t, err)
		require.Zero(t, none)
		voted, err := l.Get([]byte("LastVoteCand"))
		require.NoError(t, err)
		require.Equal(t, "somebody", string(voted))
	})
}

func TestRaftLogIsCutAndReset(t *testing.T) {
	fs := vfs.NewMem(vfs.MemOptions{})
	withRaftLog(t, fs, 0, func(l *raftLog) {
		require.NoError(t, l.StoreLogs(entries(1, 20, 5)))
		require.NoError(t, l.DeleteRange(15, 20))
		require.NoError(t, l.StoreLogs(entries(15, 2, 6)))
		require.NoError(t, l.DeleteRange(0, 4))
		require.NoError(t, l.DeleteRange(1, 3), "twice is no error")
		require.Error(t, l.DeleteRange(7, 8), "a hole is")
		requireLog(t, l, append(entries(5, 10, 5), entries(15, 2, 6)...))
	})
	// A snapshot up to 1000 was installed; entries of older terms than those that are gone may follow.
	withRaftLog(t, fs, 4, func(l *raftLog) {
		require.NoError(t, l.DeleteRange(5, 16))
		requireLog(t, l, nil)
		require.NoError(t, l.StoreLogs(entries(1001, 3, 4)))
		requireLog(t, l, entries(1001, 3, 4))
	})
	withRaftLog(t, fs, 1000, func(l *raftLog) { requireLog(t, l, entries(1001, 3, 4)) })
	// The crash came before the log was cleared: what the snapshot covers goes at the opening.
	withRaftLog(t, fs, 5000, func(l *raftLog) {
		requireLog(t, l, nil)
		require.NoError(t, l.StoreLogs(entries(5001, 1, 4)))
	})
	withRaftLog(t, fs, 5000, func(l *raftLog) { requireLog(t, l, entries(5001, 1, 4)) })
	// Far ahead: further than one batch reaches.
	far := uint64(3*maxGap + 5)
	withRaftLog(t, fs, far, func(l *raftLog) { require.NoError(t, l.StoreLogs(entries(far+1, 1, 9))) })
	withRaftLog(t, fs, far, func(l *raftLog) { requireLog(t, l, entries(far+1, 1, 9)) })
}

func TestRaftLogRefusesGaps(t *testing.T) {
	store := openStore(t, vfs.NewMem(vfs.MemOptions{}))
	var died error
	l, err := openRaftLog(store, 0, time.Now, func(err error) { died = err })
	require.NoError(t, err)
	require.NoError(t, l.StoreLogs(entries(1, 5, 1)))
	require.Error(t, l.StoreLogs(entries(9, 1, 1)))
	require.Error(t, died)
	require.ErrorIs(t, l.StoreLogs(entries(6, 1, 1)), died, "the first failure is final")
	require.NoError(t, store.Close())
}

func TestRaftLogWithoutItsBeginningIsRefused(t *testing.T) {
	fs := vfs.NewMem(vfs.MemOptions{})
	withRaftLog(t, fs, 0, func(l *raftLog) {
		require.NoError(t, l.StoreLogs(entries(1, 20, 1)))
		require.NoError(t, l.DeleteRange(1, 10))
	})
	store := openStore(t, fs)
	_, err := openRaftLog(store, 9, time.Now, noDeath(t))
	require.ErrorIs(t, err, ErrDamaged)
	require.NoError(t, store.Close())
}

// Against a model, with restarts between.
func TestRaftLogModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		fs := vfs.NewMem(vfs.MemOptions{})
		store, l := openForModel(t, fs, 0)
		var model []*raft.Log
		covered, term := uint64(0), uint64(1)
		for range rapid.IntRange(1, 30).Draw(t, "steps") {
			next := covered + 1
			if n := len(model); n > 0 {
				next = model[n-1].Index + 1
			}
			switch rapid.IntRange(0, 5).Draw(t, "step") {
			case 0, 1:
				more := entries(next, rapid.IntRange(1, 6).Draw(t, "entries"), term)
				require.NoError(t, l.StoreLogs(more))
				model = append(model, more...)
			case 2:
				if len(model) > 0 {
					at := rapid.IntRange(0, len(model)-1).Draw(t, "suffix from")
					if model[at].Index <= covered {
						continue
					}
					require.NoError(t, l.DeleteRange(model[at].Index, next-1))
					model = model[:at]
					term++
				}
			case 3:
				if len(model) > 1 {
					at := rapid.IntRange(0, len(model)-2).Draw(t, "prefix to")
					covered = max(covered, model[at].Index)
					require.NoError(t, l.DeleteRange(model[0].Index, model[at].Index))
					model = model[at+1:]
				}
			case 4:
				covered = next + rapid.Uint64Range(0, 20).Draw(t, "jump")
				if len(model) > 0 {
					require.NoError(t, l.DeleteRange(model[0].Index, next-1))
				}
				model, term = nil, rapid.Uint64Range(1, term).Draw(t, "older term")
			case 5:
				require.NoError(t, store.Close())
				store, l = openForModel(t, fs, covered)
			}
			requireLog(t, l, model)
		}
		require.NoError(t, store.Close())
	})
}

func openForModel(t *rapid.T, fs *vfs.Mem, covered uint64) (*log.Store, *raftLog) {
	store, err := log.Open(testDir, log.Options{FS: fs, JournalFileBytes: 1 << 20, TailBytes: 1 << 20, ReserveBytes: -1, BallastBytes: -1, ScrubInterval: -1})
	require.NoError(t, err)
	l, err := openRaftLog(store, covered, time.Now, func(err error) { panic(err) })
	require.NoError(t, err)
	return store, l
}

// raftState is a state that a Raft log may be found in.
type raftState struct {
	covered uint64
	entries []*raft.Log
	term    uint64
	vote    string
}

// raftCrasher runs a workload on a Raft log and looks, in the middle of operations of the
// disk, at what a power failure would leave.
type raftCrasher struct {
	mu             sync.Mutex
	states         []raftState // in order; one of them is found
	acked, started int         // indexes into states
	images         int
	err            error
}

func (c *raftCrasher) begin(states ...raftState) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.states = append(c.states, states...)
	c.started = len(c.states) - 1
}

func (c *raftCrasher) end() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.acked = c.started
}

// look takes an image of the disk and judges it.
func (c *raftCrasher) look(fs *vfs.Mem, keep float64, rng *rand.Rand) {
	c.mu.Lock()
	from := c.acked
	c.mu.Unlock()
	image := fs.Crash(keep, rng)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil || len(c.states) == 0 {
		return
	}
	c.images++
	allowed := c.states[from : c.started+1]
	if err := judge(image, allowed); err != nil {
		c.err = fmt.Errorf("image %d, keeping %v: %w", c.images, keep, err)
	}
}

func judge(image *vfs.Mem, allowed []raftState) error {
	store, err := log.Open(testDir, log.Options{FS: image, JournalFileBytes: 1 << 20, TailBytes: 1 << 20, ReserveBytes: -1, BallastBytes: -1, ScrubInterval: -1})
	if err != nil {
		return err
	}
	defer store.Close()
	l, err := openRaftLog(store, allowed[len(allowed)-1].covered, time.Now, func(error) {})
	if err != nil {
		return err
	}
	var last error
	for _, s := range allowed {
		if last = s.matches(l); last == nil {
			return nil
		}
	}
	return fmt.Errorf("none of %d states, the last because: %w", len(allowed), last)
}

func (s *raftState) matches(l *raftLog) error {
	term, _ := l.GetUint64([]byte("CurrentTerm"))
	vote, _ := l.Get([]byte("LastVoteCand"))
	if term != s.term || string(vote) != s.vote {
		return fmt.Errorf("term %d and vote %q, want %d and %q", term, vote, s.term, s.vote)
	}
	next := s.covered + 1
	for _, e := range s.entries {
		next = e.Index + 1
		var got raft.Log
		if err := l.GetLog(e.Index, &got); err != nil {
			return fmt.Errorf("entry %d: %w", e.Index, err)
		}
		if got.Term != e.Term || !bytes.Equal(got.Data, e.Data) {
			return fmt.Errorf("entry %d is %q of term %d", e.Index, got.Data, got.Term)
		}
	}
	if l.next != next { // the beginning may be removed later than was said
		return fmt.Errorf("log is [%d, %d), want the end at %d", l.first, l.next, next)
	}
	return nil
}

// run runs the workload; the error says what a power failure would have lost.
func (c *raftCrasher) run(seed uint64, hasty bool) error {
	rng := rand.New(rand.NewPCG(seed, 1))
	fs := vfs.NewMem(vfs.MemOptions{})
	store, err := log.Open(testDir, log.Options{FS: fs, JournalFileBytes: 1 << 20, TailBytes: 1 << 20, ReserveBytes: -1, BallastBytes: -1, ScrubInterval: -1})
	if err != nil {
		return err
	}
	l, err := openRaftLog(store, 0, time.Now, func(error) {})
	if err != nil {
		return err
	}
	l.hasty = hasty
	var hook sync.Mutex
	looks := rand.New(rand.NewPCG(seed, 2))
	fs.SetDuring(func(vfs.Op, string) {
		hook.Lock()
		defer hook.Unlock()
		c.look(fs, []float64{0, 0.5, 1}[looks.IntN(3)], looks)
	})
	now := raftState{term: 0}
	c.begin(now)
	step := func(states []raftState, do func() error) {
		c.begin(states...)
		err = errors.Join(err, do())
		c.end()
		now = states[len(states)-1]
	}
	for round := range 60 {
		next := now.covered + 1
		if n := len(now.entries); n > 0 {
			next = now.entries[n-1].Index + 1
		}
		to := now
		switch rng.IntN(8) {
		case 0, 1, 2, 3:
			more := entries(next, 1+rng.IntN(4), max(now.term, 1))
			more[0].Data = append(more[0].Data, make([]byte, rng.IntN(20_000))...)
			var states []raftState
			for i := range more {
				to.entries = append(append([]*raft.Log{}, now.entries...), more[:i+1]...)
				states = append(states, to)
			}
			step(states, func() error { return l.StoreLogs(more) })
		case 4:
			to.term = now.term + 1
			step([]raftState{to}, func() error { return l.SetUint64([]byte("CurrentTerm"), to.term) })
		case 5:
			to.vote = fmt.Sprint("candidate ", round)
			step([]raftState{to}, func() error { return l.Set([]byte("LastVoteCand"), []byte(to.vote)) })
		case 6:
			if n := len(now.entries); n > 0 {
				at := rng.IntN(n)
				to.entries = now.entries[:at:at]
				step([]raftState{to}, func() error { return l.DeleteRange(now.entries[at].Index, next-1) })
			}
		case 7:
			if n := len(now.entries); n > 1 && rng.IntN(3) > 0 {
				at := rng.IntN(n - 1)
				to.covered, to.entries = now.entries[at].Index, now.entries[at+1:]
				step([]raftState{to}, func() error { return l.DeleteRange(now.entries[0].Index, to.covered) })
			} else if n > 0 {
				to.covered, to.entries = next+rng.Uint64N(10), nil
				step([]raftState{to}, func() error { return l.DeleteRange(now.entries[0].Index, next-1) })
			}
		}
	}
	fs.SetDuring(nil)
	err = errors.Join(err, store.Close())
	c.mu.Lock()
	defer c.mu.Unlock()
	return errors.Join(err, c.err)
}

func TestNothingAcknowledgedByRaftIsLost(t *testing.T) {
	images := 0
	for seed := range uint64(4) {
		c := &raftCrasher{}
		require.NoError(t, c.run(seed, false), "seed %d", seed)
		images += c.images
	}
	require.Greater(t, images, 100)
	t.Logf("%d images of the disk", images)
}

func TestHastyAcknowledgementsAreNoticed(t *testing.T) {
	var err error
	for seed := uint64(0); err == nil && seed < 20; seed++ {
		err = (&raftCrasher{}).run(seed, true)
	}
	require.Error(t, err, "acknowledging before the flush has to be noticed")
}

func TestFailedRaftStorageStaysFailed(t *testing.T) {
	for _, op := range []func(*raftLog) error{
		func(l *raftLog) error { return l.StoreLogs(entries(6, 1, 1)) },
		func(l *raftLog) error { return l.SetUint64([]byte("CurrentTerm"), 7) },
		func(l *raftLog) error { return l.DeleteRange(5, 5) },
	} {
		fs := vfs.NewMem(vfs.MemOptions{})
		store := openStore(t, fs)
		deaths := make(chan error, 10)
		l, err := openRaftLog(store, 0, time.Now, func(err error) { deaths <- err })
		require.NoError(t, err)
		require.NoError(t, l.StoreLogs(entries(1, 5, 1)))
		fs.FailAt(1, errors.New("input/output error"))
		require.Error(t, op(l))
		require.Error(t, <-deaths)
		require.Error(t, l.StoreLogs(entries(6, 1, 1)))
		require.Error(t, l.SetUint64([]byte("CurrentTerm"), 8))
		require.Error(t, l.DeleteRange(1, 2))
		_, err = l.Get([]byte("CurrentTerm"))
		require.Error(t, err)
		require.Empty(t, deaths, "it is said once")
		_ = store.Close()
	}
}

func BenchmarkRaftLog(b *testing.B) {
	for _, size := range []int{1, 16} {
		b.Run(fmt.Sprintf("store=%d", size), func(b *testing.B) {
			store := openStore(b, vfs.NewMem(vfs.MemOptions{}))
			l, err := openRaftLog(store, 0, time.Now, noDeath(b))
			require.NoError(b, err)
			next := uint64(1)
			b.ReportAllocs()
			for b.Loop() {
				require.NoError(b, l.StoreLogs(entries(next, size, 1)))
				next += uint64(size)
			}
			require.NoError(b, store.Close())
		})
	}
	b.Run("get", func(b *testing.B) {
		store := openStore(b, vfs.NewMem(vfs.MemOptions{}))
		l, err := openRaftLog(store, 0, time.Now, noDeath(b))
		require.NoError(b, err)
		require.NoError(b, l.StoreLogs(entries(1, 100, 1)))
		var e raft.Log
		b.ReportAllocs()
		for b.Loop() {
			require.NoError(b, l.GetLog(50, &e))
		}
		require.NoError(b, store.Close())
	})
}

// A full disk is no failure: what did not fit is refused, and can be stored later. Except behind a
// removal, where Raft would go on with entries that are gone.
func TestAFullDiskIsNoFailure(t *testing.T) {
	for _, cut := range []bool{false, true} {
		fs := vfs.NewMem(vfs.MemOptions{})
		store := openStore(t, fs)
		var died error
		l, err := openRaftLog(store, 0, time.Now, func(err error) { died = err })
		require.NoError(t, err)
		require.NoError(t, l.StoreLogs(entries(1, 5, 1)))
		if cut {
			require.NoError(t, l.DeleteRange(5, 5))
		}
		fs.SetCapacity(1)
		big := entries(l.next, 1, 1)
		big[0].Data = make([]byte, 1<<20)
		require.ErrorIs(t, l.StoreLogs(big), log.ErrStorageFull)
		fs.SetCapacity(0)
		if cut {
			require.ErrorIs(t, died, log.ErrStorageFull)
		} else {
			require.NoError(t, died)
			require.Eventually(t, func() bool { return l.StoreLogs(big) == nil }, testWait, time.Millisecond)
			requireLog(t, l, append(entries(1, 5, 1), big...))
		}
		require.NoError(t, store.Close())
	}
}
