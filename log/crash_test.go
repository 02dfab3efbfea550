package log

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sequitur-mq/sequitur/internal/vfs"
)

// TestWorkloadWithoutCrash: the suite's workload alone does what it says, and leaves a clean directory.
func TestWorkloadWithoutCrash(t *testing.T) {
	for seed := range uint64(3) {
		fsys := vfs.NewMem(vfs.MemOptions{})
		w := newWorkload(fsys, seed)
		require.NoError(t, w.run(300))
		require.NoError(t, w.model.verify(w.store, true))
		st := w.store.Stats()
		require.NoError(t, w.close())
		require.NoError(t, checkImage(fsys, w.dir))
		t.Logf("seed %d: %d operations, %d groups, %d checkpoints, %d stalls, compaction %+v", seed, fsys.Ops(), st.Groups, st.Checkpoints, st.Stalls, st.Compact)
		require.NoError(t, reopened(w, fsys, true))
	}
}

// checkImage runs the checker on a directory that nobody has open.
func checkImage(fsys vfs.FS, dir string) error {
	r, err := Check(dir, CheckOptions{FS: fsys, Records: true})
	if err != nil {
		if isNotExist(err) {
			return nil // crashed before the directory was there
		}
		return err
	}
	return r.Err()
}

// reopened opens what a crash left, compares it with the model, appends, closes, and does all that again.
func reopened(w *workload, image *vfs.Mem, processOnly bool) error {
	again := w.successor(image)
	var err error
	if again.store, err = Open(w.dir, w.options(image)); err != nil {
		return err
	}
	if err := again.model.verify(again.store, processOnly); err != nil {
		return errors.Join(fmt.Errorf("after reopening: %w", err), again.close())
	}
	return again.close()
}

// successor is a workload that goes on with an image of the file system.
func (w *workload) successor(image *vfs.Mem) *workload {
	again := newWorkload(image, w.rng.Uint64())
	again.dir, again.tune, again.model = w.dir, w.tune, w.model.snapshot()
	again.clock.Store(w.clock.Load())
	return again
}

var _ = rand.N[int]
