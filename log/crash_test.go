package log

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sequitur-mq/sequitur/internal/vfs"
)

// The crash suite. docs/testing.md says what it covers and how to run all of it: SEQUITUR_CRASH=full.

// keeps are the shares of unsynced data that a crash leaves; 1 is the death of the process alone.
var keeps = []float64{0, 0.2, 0.5, 0.8, 1}

// fullCrashSuite reports whether every operation is to be crashed at, not a sample.
func fullCrashSuite() bool { return os.Getenv("SEQUITUR_CRASH") == "full" }

// crashSeed is fixed, so that a failure repeats; SEQUITUR_CRASH_SEED overrides it.
func crashSeed(t testing.TB) uint64 {
	t.Helper()
	if v := os.Getenv("SEQUITUR_CRASH_SEED"); v != "" {
		seed, err := strconv.ParseUint(v, 10, 64)
		require.NoError(t, err)
		return seed
	}
	return 1
}

// TestWorkloadWithoutCrash: the suite's workload alone does what it says, and leaves a clean directory.
func TestWorkloadWithoutCrash(t *testing.T) {
	for seed := range uint64(8) {
		fsys := vfs.NewMem(vfs.MemOptions{})
		w := newWorkload(fsys, seed)
		require.NoError(t, w.run(250))
		require.NoError(t, w.model.verify(w.store, true))
		st := w.store.Stats()
		require.NoError(t, w.close())
		require.NoError(t, w.checkImage(fsys))
		require.NoError(t, w.reopened(fsys, 1, 1))
		t.Logf("seed %d: %d operations; since the last opening %d groups, %d checkpoints, %d stalls, compaction %+v",
			seed, fsys.Ops(), st.Groups, st.Checkpoints, st.Stalls, st.Compact)
	}
}

// crashSuite crashes one run of a workload in the middle of its operations, and judges every image.
type crashSuite struct {
	seed   uint64
	rounds int
	mem    vfs.MemOptions
	tune   func(*Options)
	sample float64 // share of operations crashed at
	keeps  []float64
	wrap   func(vfs.FS) vfs.FS // what the workload's store sees of the file system, may be nil
	enough int                 // failures, to stop at

	images  atomic.Int64
	stopped atomic.Bool
	mu      sync.Mutex
	failed  []error
}

// image is what a crash left, and what had been promised by then.
type image struct {
	w    *workload
	disk *vfs.Mem
	keep float64
	seed uint64
	name string
}

// run returns the failures found.
func (c *crashSuite) run() error {
	fsys := vfs.NewMem(c.mem)
	w := newWorkload(fsys, c.seed)
	w.tune, w.wrap = c.tune, c.wrap
	jobs := make(chan image, 16)
	var workers sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		workers.Go(func() {
			for j := range jobs {
				c.judge(j)
			}
		})
	}
	rng, op := rand.New(rand.NewPCG(c.seed, 3)), 0
	var mu sync.Mutex
	fsys.SetDuring(func(kind vfs.Op, name string) {
		mu.Lock()
		defer mu.Unlock()
		op++
		if rng.Float64() >= c.sample || c.stopped.Load() {
			return
		}
		for _, keep := range c.keeps {
			seed := rng.Uint64()
			promised := w.successor(nil, seed) // before the image is taken: the image must hold all of it
			disk := fsys.Crash(keep, rand.New(rand.NewPCG(seed, 4)))
			promised.fs = disk
			jobs <- image{promised, disk, keep, seed, fmt.Sprintf("crash at operation %d, %s %s, keeping %v", op, kind, name, keep)}
		}
	})
	err := w.run(c.rounds)
	if err == nil {
		err = w.close()
	} else {
		err = errors.Join(err, w.close())
	}
	fsys.SetDuring(nil)
	close(jobs)
	workers.Wait()
	if err != nil {
		err = fmt.Errorf("workload: %w", err)
	}
	return errors.Join(append([]error{err}, c.failed...)...)
}

func (c *crashSuite) judge(j image) {
	if c.stopped.Load() {
		return
	}
	c.images.Add(1)
	err := j.w.survives(j.disk, j.keep, j.seed)
	if err == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.failed = append(c.failed, fmt.Errorf("seed %d, %s: %w", c.seed, j.name, err))
	c.stopped.Store(len(c.failed) >= c.enough)
}

// survives judges an image: the checker finds nothing wrong, and every promise is kept after recovery, also after a
// recovery that was itself cut short.
func (w *workload) survives(disk *vfs.Mem, keep float64, seed uint64) error {
	rng := rand.New(rand.NewPCG(seed, 5))
	if err := w.checkImage(disk); err != nil {
		return fmt.Errorf("the checker on the image: %w", err)
	}
	if rng.IntN(3) == 0 {
		var err error
		if disk, err = w.crashInRecovery(disk, keep, rng); err != nil {
			return err
		}
	}
	return w.reopened(disk, keep, seed)
}

// crashInRecovery lets recovery run into another crash, and returns what that one leaves.
func (w *workload) crashInRecovery(disk *vfs.Mem, keep float64, rng *rand.Rand) (*vfs.Mem, error) {
	disk.CrashAt(1 + rng.Int64N(60))
	s, err := Open(w.dir, w.options(disk))
	switch {
	case err == nil:
		disk.CrashAt(1)
		s.Close() // fails with the crash
	case !errors.Is(err, vfs.ErrCrashed) && !errors.Is(err, ErrStorageFailed):
		return nil, fmt.Errorf("recovery that is cut short: %w", err)
	}
	again := disk.Crash(keep, rng)
	if err := w.checkImage(again); err != nil {
		return nil, fmt.Errorf("the checker after a crash in recovery: %w", err)
	}
	return again, nil
}

// checkImage runs the checker on a directory that nobody has open.
func (w *workload) checkImage(fsys vfs.FS) error {
	r, err := Check(w.dir, CheckOptions{FS: fsys, Records: true, switches: w.options(fsys).switches})
	if isNotExist(err) || errors.Is(err, ErrNoData) {
		return nil // crashed before the directory was there, or a data directory
	}
	if err != nil {
		return err
	}
	for _, f := range r.Findings {
		// Indexes are not synced, nor is the end of partitions without the journal.
		torn := f.Severity == SeverityWarning && (filepath.Ext(f.File) == indexSuffix || filepath.Ext(f.File) == segmentSuffix)
		if f.Severity != SeverityNote && !torn {
			return errors.New(f.String())
		}
	}
	return nil
}

// reopened opens what a crash left, compares it with what was promised, goes on appending, closes, and compares again.
func (w *workload) reopened(disk *vfs.Mem, keep float64, seed uint64) (err error) {
	again := w.successor(disk, seed)
	if again.store, err = Open(w.dir, w.options(disk)); err != nil {
		return fmt.Errorf("reopen: %w", err)
	}
	if err := again.model.verify(again.store, keep >= 1); err != nil {
		return errors.Join(fmt.Errorf("after reopening: %w", err), again.close())
	}
	again.adopt()
	for range 3 {
		if err := again.burst(); err != nil {
			return errors.Join(fmt.Errorf("going on: %w", err), again.close())
		}
	}
	if err := again.close(); err != nil {
		return fmt.Errorf("close: %w", err)
	}
	if err := w.checkImage(disk); err != nil {
		return fmt.Errorf("the checker after going on: %w", err)
	}
	if again.store, err = Open(w.dir, w.options(disk)); err != nil {
		return fmt.Errorf("open after a clean close: %w", err)
	}
	return errors.Join(again.model.verify(again.store, true), again.close())
}

// successor is a workload that goes on with an image of the file system and the promises made so far.
func (w *workload) successor(disk *vfs.Mem, seed uint64) *workload {
	again := newWorkload(disk, seed)
	again.dir, again.tune, again.full = w.dir, w.tune, w.full
	again.model = w.model.snapshot()
	again.clock.Store(w.clock.Load())
	return again
}

// adopt makes what the store holds the promised state: it was verified to be an allowed one, and may not change any more.
func (w *workload) adopt() {
	for _, id := range w.model.ids {
		m := &modelPartition{}
		w.model.parts[id] = m
		p, ok := w.store.Partition(id)
		if !ok {
			continue
		}
		got, err := readPartition(p)
		if err != nil {
			continue // verify has read it
		}
		m.changes = append(m.changes, &modelChange{kind: didCreate, config: p.Config(), acked: true},
			&modelChange{kind: didStart, offset: got.start, epochs: got.epochs, acked: true})
		for key, value := range got.values {
			m.changes = append(m.changes, &modelChange{kind: didValue, key: key, value: value, acked: true})
		}
		for _, b := range got.batches {
			m.changes = append(m.changes, &modelChange{kind: didAppend, batch: b, hard: true, acked: true})
		}
	}
}

func (c *crashSuite) withDefaults() *crashSuite {
	if c.rounds == 0 {
		c.rounds = 160
	}
	if c.enough == 0 {
		c.enough = 3
	}
	if c.keeps == nil {
		c.keeps = keeps
	}
	if c.sample == 0 {
		c.sample = 0.04
	}
	if fullCrashSuite() {
		c.sample = 1
	}
	return c
}

// TestCrashAtEveryWrite: whatever is written, renamed, removed or synced, a crash in the middle of it costs nothing that
// was acknowledged.
func TestCrashAtEveryWrite(t *testing.T) {
	for name, c := range map[string]*crashSuite{
		"direct":   {},
		"buffered": {mem: vfs.MemOptions{NoDirect: true}},
	} {
		t.Run(name, func(t *testing.T) {
			c.seed = crashSeed(t)
			err := c.withDefaults().run()
			t.Logf("%d images judged", c.images.Load())
			require.NoError(t, err)
		})
	}
}
