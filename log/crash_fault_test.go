package log

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sequitur-mq/sequitur/internal/vfs"
)

// operations is how many operations a workload takes.
func operations(t *testing.T, seed uint64, rounds int, tune func(*Options)) int64 {
	t.Helper()
	fsys := vfs.NewMem(vfs.MemOptions{})
	w := newWorkload(fsys, seed)
	w.tune = tune
	require.NoError(t, w.run(rounds))
	require.NoError(t, w.close())
	return fsys.Ops()
}

// sampled lists the numbers from 1 to n at which something is to go wrong.
func sampled(rng *rand.Rand, n int64, count int) (list []int64) {
	if fullCrashSuite() {
		for k := int64(1); k <= n; k++ {
			list = append(list, k)
		}
		return list
	}
	for range count {
		list = append(list, 1+rng.Int64N(n))
	}
	return list
}

// TestFailureAtEveryOperation: a write, sync or change of names fails, for once or from then on. Either that did not
// matter, or nothing more is acknowledged; all that was is there after a restart, with or without a power failure.
func TestFailureAtEveryOperation(t *testing.T) {
	const rounds = 80
	seed := crashSeed(t)
	rng := rand.New(rand.NewPCG(seed, 11))
	latched := 0
	list := sampled(rng, operations(t, seed, rounds, nil), 60)
	for _, k := range list {
		failed, err := failAt(seed, rounds, k, rng)
		require.NoError(t, err, "seed %d, failure at operation %d", seed, k)
		if failed {
			latched++
		}
	}
	t.Logf("%d of %d failures were final", latched, len(list))
	require.Greater(t, latched, len(list)/2, "the failures hit something")
}

func failAt(seed uint64, rounds int, k int64, rng *rand.Rand) (latched bool, err error) {
	fsys := vfs.NewMem(vfs.MemOptions{NoDirect: rng.IntN(2) == 0})
	w := newWorkload(fsys, seed)
	if rng.IntN(2) == 0 {
		fsys.FailAt(k, syscall.EIO)
	} else {
		fsys.SetFault(func(op vfs.Op, _ string) error {
			if op.Mutating() && fsys.Ops() >= k {
				return syscall.EIO
			}
			return nil
		})
	}
	err = w.run(rounds)
	if err == nil {
		err = w.close()
	}
	if err != nil && !errors.Is(err, errStopped) && !errors.Is(err, ErrStorageFailed) && !errors.Is(err, syscall.EIO) {
		return false, fmt.Errorf("workload: %w", err)
	}
	latched = err != nil
	if w.store != nil && errors.Is(w.store.Err(), ErrStorageFailed) {
		if err := w.refusesEverything(); err != nil {
			return true, err
		}
	}
	w.close() // reports the failure again
	keep := keeps[rng.IntN(len(keeps))]
	image := fsys.Crash(keep, rng)
	if err := w.survives(image, keep, rng.Uint64()); err != nil {
		return latched, fmt.Errorf("restart, keeping %v: %w", keep, err)
	}
	return latched, nil
}

// refusesEverything checks that a failed store takes nothing more.
func (w *workload) refusesEverything() error {
	for _, id := range w.store.IDs() {
		p, _ := w.store.Partition(id)
		b, err := w.batch(p, 0, p.End())
		if err != nil {
			return err
		}
		if _, err := p.Append(b, nil); !errors.Is(err, ErrStorageFailed) {
			return fmt.Errorf("append after the failure: %v", err)
		}
		if err := p.PutValue(1, []byte("x"), nil); !errors.Is(err, ErrStorageFailed) {
			return fmt.Errorf("value after the failure: %v", err)
		}
		if err := p.AdvanceStart(p.End(), nil); !errors.Is(err, ErrStorageFailed) {
			return fmt.Errorf("start after the failure: %v", err)
		}
	}
	if err := w.store.Create(Spec{ID: ID{Partition: 99}}); !errors.Is(err, ErrStorageFailed) {
		return fmt.Errorf("create after the failure: %v", err)
	}
	if err := w.store.Delete(workloadID(partAlways)); !errors.Is(err, ErrStorageFailed) {
		return fmt.Errorf("delete after the failure: %v", err)
	}
	return nil
}

// TestDiskFullAtEveryStage: the disk ends at some size while the workload runs. What does not fit is refused, what was
// acknowledged stays, and with space again appends are taken as if nothing had happened, with or without a restart.
func TestDiskFullAtEveryStage(t *testing.T) {
	const rounds = 80
	seed := crashSeed(t)
	rng := rand.New(rand.NewPCG(seed, 12))
	fsys := vfs.NewMem(vfs.MemOptions{})
	w := newWorkload(fsys, seed)
	w.tune = smallReserve
	require.NoError(t, w.run(rounds))
	most := fsys.Used()
	require.NoError(t, w.close())
	refused := 0
	list := sampled(rng, most/4096, 50)
	for _, blocks := range list {
		n, err := fillDisk(seed, rounds, blocks*4096, rng)
		require.NoError(t, err, "seed %d, disk of %d blocks", seed, blocks)
		refused += n
	}
	t.Logf("%d disks refused something", refused)
	require.Greater(t, refused, len(list)/2)
}

func smallReserve(o *Options) {
	o.ReserveBytes, o.BallastBytes = 96<<10, 64<<10
}

func fillDisk(seed uint64, rounds int, capacity int64, rng *rand.Rand) (refused int, err error) {
	fsys := vfs.NewMem(vfs.MemOptions{Capacity: capacity, NoDirect: rng.IntN(2) == 0})
	w := newWorkload(fsys, seed)
	w.full = true
	w.tune = func(o *Options) {
		smallReserve(o)
		// Entries that were accepted before the disk filled up wait for room in the journal. Somebody frees a little.
		o.switches = &switches{noRoom: func(s *Store) {
			fsys.SetCapacity(fsys.Used() + 2*minJournalFileBytes)
			s.journal.retryFile()
		}}
	}
	err = w.run(rounds)
	if w.refused > 0 {
		refused = 1
	}
	if errors.Is(err, ErrStorageFull) && (w.store == nil || errors.Is(w.store.Err(), ErrClosed)) {
		// The store cannot open: there is no room for the journal. With room it can, and all is there.
		if fsys.SetCapacity(0); w.store == nil {
			return 1, nil
		}
		w.full = false
		return 1, w.survives(fsys, 1, rng.Uint64())
	}
	failed := errors.Is(err, errStopped) || errors.Is(err, ErrStorageFailed) || vfs.IsDiskFull(err)
	if err != nil && !failed {
		return refused, fmt.Errorf("workload: %w", err)
	}
	if failed {
		return refused, fmt.Errorf("a full disk is no failure of storage: %w", err)
	}
	if err := w.model.verify(w.store, true); err != nil {
		return refused, fmt.Errorf("while full: %w", err)
	}
	keep := keeps[rng.IntN(len(keeps))]
	promised := w.successor(nil, rng.Uint64())
	image := fsys.Crash(keep, rng)
	fsys.SetCapacity(0)
	w.store.reserve.look()
	w.full = false
	for range 5 {
		if err := w.burst(); err != nil {
			return refused, fmt.Errorf("with space again: %w", err)
		}
	}
	if err := errors.Join(w.model.verify(w.store, true), w.close()); err != nil {
		return refused, fmt.Errorf("with space again: %w", err)
	}
	image.SetCapacity(0)
	promised.full = false
	if err := promised.survives(image, keep, rng.Uint64()); err != nil {
		return refused, fmt.Errorf("restart with space again, keeping %v: %w", keep, err)
	}
	return refused, nil
}
