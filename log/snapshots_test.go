package log

import (
	"bytes"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sequitur-mq/sequitur/internal/vfs"
	"github.com/sequitur-mq/sequitur/record"
)

// viewed is a partition with a view: a checksum over all batches.
type viewed struct {
	p    *Partition
	mu   sync.Mutex
	want []record.Batch
}

func viewOfBatches(batches []record.Batch) []byte {
	var sum uint32
	for _, b := range batches {
		sum = crc32.Update(sum, castagnoli, b)
	}
	return appendU32(nil, sum)
}

func (v *viewed) snapshot() (int64, []byte) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if len(v.want) == 0 {
		return -1, nil
	}
	return v.want[len(v.want)-1].NextOffset(), viewOfBatches(v.want)
}

// check compares the states that are offered at end with those of the log.
func (v *viewed) check(end int64) error {
	offset, state := v.p.SnapshotAt(end)
	if offset > end || offset > v.p.End() {
		return fmt.Errorf("state for offset %d, asked for %d, log ends at %d", offset, end, v.p.End())
	}
	if state == nil {
		if offset != v.p.Start() {
			return fmt.Errorf("no state, but offset %d", offset)
		}
		return nil
	}
	n := 0
	for n < len(v.want) && v.want[n].NextOffset() <= offset {
		n++
	}
	if n == 0 || v.want[n-1].NextOffset() != offset {
		return fmt.Errorf("state for offset %d, where no batch ends", offset)
	}
	if !bytes.Equal(state, viewOfBatches(v.want[:n])) {
		return fmt.Errorf("state for offset %d, asked for %d, is of another log", offset, end)
	}
	return nil
}

// snapshotRounds appends, truncates, takes checkpoints and crashes, and checks each time what states are offered.
func snapshotRounds(seed uint64, tune *switches) (err error) {
	rng := rand.New(rand.NewPCG(seed, 9))
	fsys := vfs.NewMem(vfs.MemOptions{})
	options := func() Options {
		o := smallOptions(fsys)
		o.switches = tune
		return o
	}
	s, err := Open("/data", options())
	if err != nil {
		return err
	}
	if err := s.Create(Spec{testID(1), Config{SegmentBytes: 4 << 10}}); err != nil {
		return err
	}
	v := &viewed{}
	v.p, _ = s.Partition(testID(1))
	v.p.SetSnapshotter(v.snapshot)
	f := newProducer(nil, v.p)
	f.rng = rng
	for range 120 {
		switch n := rng.IntN(10); {
		case n < 5:
			for range 1 + rng.IntN(4) {
				f.p = v.p
				b := record.Batch(f.batch(v.p.End(), 1+rng.IntN(2), 700))
				v.mu.Lock()
				v.want = append(v.want, b)
				err = appendWait(v.p, b)
				v.mu.Unlock()
			}
		case n < 7:
			err = s.checkpoints.once(false)
		case n < 9 && len(v.want) > 0:
			v.mu.Lock()
			n := rng.IntN(min(len(v.want), 12)) + max(0, len(v.want)-12)
			done := make(waiter, 1)
			if err = v.p.TruncateTo(v.want[n].BaseOffset(), done); err == nil {
				err = <-done
			}
			v.want = v.want[:n:n]
			v.mu.Unlock()
		case n == 9:
			fsys = fsys.Crash(keeps[rng.IntN(len(keeps))], rng)
			s.fail(fmt.Errorf("crashed by the test"))
			s.Close()
			if s, err = Open("/data", options()); err == nil {
				v.p, _ = s.Partition(testID(1))
				v.p.SetSnapshotter(v.snapshot)
			}
		}
		if err != nil {
			return err
		}
		for range 3 {
			if err := v.check(rng.Int64N(v.p.End() + 2)); err != nil {
				s.Close()
				return err
			}
		}
		if err := v.check(maxOffset); err != nil {
			s.Close()
			return err
		}
	}
	return s.Close()
}

// Whatever is cut off, and wherever it crashes, no state that is offered describes anything that the log does not have.
func TestSnapshotsAfterTruncation(t *testing.T) {
	for seed := range uint64(40) {
		require.NoError(t, snapshotRounds(seed, nil), "seed %d", seed)
	}
	for seed := range uint64(40) {
		if err := snapshotRounds(seed, &switches{anySnapshot: true}); err != nil {
			t.Logf("without the rule: seed %d: %v", seed, err)
			return
		}
	}
	require.Fail(t, "the rule is off and nothing noticed")
}

// A state may be captured before the journal has what it describes. If that is lost, the state is not found again when
// something else has grown in its place.
func TestSnapshotOfWhatWasLost(t *testing.T) {
	require.NoError(t, lostSnapshot(t, nil))
	err := lostSnapshot(t, &switches{earlyFiles: true})
	require.Error(t, err, "the rule is off and nothing noticed")
	t.Log("without the rule:", err)
}

func lostSnapshot(t *testing.T, tune *switches) error {
	fsys := vfs.NewMem(vfs.MemOptions{})
	o := smallOptions(fsys)
	o.switches = tune
	s := openStore(t, "/data", o)
	require.NoError(t, s.Create(Spec{testID(1), Config{SegmentBytes: 4 << 10}}))
	v := &viewed{p: partition(t, s, testID(1))}
	f := newProducer(t, v.p)
	grow := func(batches int) {
		for range batches {
			b := f.batch(f.p.End(), 1, 1500)
			require.NoError(t, appendWait(f.p, b))
			v.want = append(v.want, b)
		}
	}
	grow(5)
	v.p.SetSnapshotter(v.snapshot)
	require.NoError(t, s.checkpoints.once(false))

	// The journal hangs while a checkpoint captures more; the process dies before the checkpoint is there.
	hold := make(chan struct{})
	live, _ := liveFile(s)
	var image *vfs.Mem
	fsys.SetFault(func(op vfs.Op, name string) error {
		if op == vfs.OpWrite && name == live {
			<-hold
		}
		if op == vfs.OpWrite && strings.Contains(name, "checkpoint") && image == nil {
			image = fsys.Crash(1, rand.New(rand.NewPCG(1, 1)))
		}
		return nil
	})
	known := append([]record.Batch(nil), v.want...)
	var last waiter
	for range 4 {
		b := f.batch(f.p.End(), 1, 1500)
		last = make(waiter, 1)
		_, err := f.p.Append(b, last)
		require.NoError(t, err)
		v.want = append(v.want, b)
	}
	require.NoError(t, s.checkpoints.once(false))
	close(hold)
	require.NoError(t, <-last)
	require.NoError(t, s.Close())
	require.NotNil(t, image)

	o.FS = image
	s = openStore(t, "/data", o)
	v.p, v.want = partition(t, s, testID(1)), known
	require.EqualValues(t, len(known), v.p.End(), "what the journal did not have is gone")
	f.p = v.p
	grow(8) // others at the same offsets
	v.p.SetSnapshotter(v.snapshot)
	require.NoError(t, s.checkpoints.once(false))
	defer func() { require.NoError(t, s.Close()) }()
	for end := v.p.Start(); end <= v.p.End(); end++ {
		if err := v.check(end); err != nil {
			return err
		}
	}
	return nil
}
