package log

import (
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/sequitur-mq/sequitur/internal/vfs"
	"github.com/sequitur-mq/sequitur/record"
	"github.com/stretchr/testify/require"
)

var errDisk = errors.New("input/output error")

// The first failed write or sync is final: what waits fails, later calls fail, nothing is tried again, and the owner
// is told once. What was acknowledged before is there at the next start.
func TestFirstFailureIsFinal(t *testing.T) {
	for _, c := range []struct {
		name     string
		noDirect bool
		mode     FsyncMode
		op       vfs.Op
		file     string
	}{
		{"journal write", false, FsyncAlways, vfs.OpWrite, journalSuffix},
		{"journal sync", true, FsyncAlways, vfs.OpSync, journalSuffix},
		{"segment write", false, FsyncAlways, vfs.OpWrite, segmentSuffix},
		{"segment write, never", false, FsyncNever, vfs.OpWrite, segmentSuffix},
		{"checkpoint's segment sync", false, FsyncAlways, vfs.OpSync, segmentSuffix},
		{"checkpoint sync", false, FsyncAlways, vfs.OpSync, "checkpoint.tmp"},
		{"checkpoint rename", false, FsyncAlways, vfs.OpRename, "checkpoint.tmp"},
	} {
		t.Run(c.name, func(t *testing.T) {
			fsys := vfs.NewMem(vfs.MemOptions{NoDirect: c.noDirect})
			o := smallOptions(fsys)
			told := make(chan error, 2)
			o.OnFatal = func(err error) { told <- err }
			s := openStore(t, "/data", o)
			require.NoError(t, s.Create(Spec{ID: testID(1), Config: Config{Fsync: c.mode}}))
			f := newProducer(t, partition(t, s, testID(1)))
			want := f.appendMany(5, 1, 100)
			var hits atomic.Int32
			fsys.SetFault(func(op vfs.Op, name string) error {
				if op == c.op && strings.HasSuffix(name, c.file) {
					hits.Add(1)
					return errDisk
				}
				return nil
			})
			err := appendWait(f.p, f.batch(5, 1, 100))
			if err == nil {
				err = s.checkpoints.once(false)
			}
			require.ErrorIs(t, err, ErrStorageFailed)
			require.ErrorIs(t, err, errDisk)
			require.ErrorIs(t, <-told, errDisk)
			require.ErrorIs(t, s.Err(), ErrStorageFailed)
			require.EqualValues(t, 1, hits.Load())
			_, err = f.p.Append(f.batch(f.p.End(), 1, 100), nil)
			require.ErrorIs(t, err, ErrStorageFailed)
			require.ErrorIs(t, s.Create(Spec{ID: testID(2)}), ErrStorageFailed)
			require.ErrorIs(t, s.Delete(testID(1)), ErrStorageFailed)
			require.ErrorIs(t, f.p.PutValue(1, []byte{1}, nil), ErrStorageFailed)
			require.ErrorIs(t, f.p.TruncateTo(0, nil), ErrStorageFailed)
			require.Equal(t, want, readAll(t, f.p)[:len(want)], "reads go on")
			require.ErrorIs(t, s.Close(), ErrStorageFailed)
			require.EqualValues(t, 1, hits.Load(), "nothing is retried")
			require.Empty(t, told, "the owner is told once")
			fsys.SetFault(nil)
			s = openStore(t, "/data", o)
			require.Equal(t, want, readAll(t, partition(t, s, testID(1)))[:len(want)])
			require.NoError(t, s.Close())
		})
	}
}

// All that wait for the failed group hear of it, in order and once.
func TestFailureReachesAllWaiters(t *testing.T) {
	fsys := vfs.NewMem(vfs.MemOptions{})
	s := openStore(t, "/data", smallOptions(fsys))
	require.NoError(t, s.Create(Spec{ID: testID(1)}))
	f := newProducer(t, partition(t, s, testID(1)))
	f.append(1, 100)
	hold := make(chan struct{})
	live, _ := liveFile(s)
	fsys.SetFault(func(op vfs.Op, name string) error {
		if op == vfs.OpWrite && name == live {
			<-hold
			return errDisk
		}
		return nil
	})
	var mu sync.Mutex
	var order []int
	var wg sync.WaitGroup
	for i := range 100 {
		wg.Add(1)
		_, err := f.p.Append(f.batch(int64(i+1), 1, 5000), completeFunc(func(err error) {
			mu.Lock()
			order = append(order, i)
			mu.Unlock()
			if !errors.Is(err, ErrStorageFailed) {
				t.Errorf("append %d: %v", i, err)
			}
			wg.Done()
		}))
		require.NoError(t, err)
	}
	close(hold)
	wg.Wait()
	require.IsIncreasing(t, order)
	require.Len(t, order, 100)
	require.EqualValues(t, 1, f.p.Durable())
	require.ErrorIs(t, s.Close(), ErrStorageFailed)
}

type completeFunc func(error)

func (f completeFunc) Complete(err error) { f(err) }

// A full disk refuses appends and nothing else, and is over when there is space again.
func TestStorageFull(t *testing.T) {
	fsys := vfs.NewMem(vfs.MemOptions{Capacity: 12 << 20})
	o := smallOptions(fsys)
	o.ReserveBytes, o.BallastBytes = 3<<20, 256<<10
	s := openStore(t, "/data", o)
	c := Config{SegmentBytes: 1 << 20}
	require.NoError(t, s.Create(Spec{ID: testID(1), Config: c}, Spec{ID: testID(2), Config: Config{Essential: true}}))
	f, essential := newProducer(t, partition(t, s, testID(1))), newProducer(t, partition(t, s, testID(2)))
	var want []byte
	for {
		b := f.batch(f.p.End(), 1, 100<<10)
		if err := appendWait(f.p, b); err != nil {
			require.ErrorIs(t, err, ErrStorageFull)
			break
		}
		want = append(want, b...)
		s.reserve.look() // as often as the disk fills
	}
	free, _, err := fsys.Free("/data")
	require.NoError(t, err)
	require.Greater(t, free, uint64(2<<20), "the reserve is left")
	require.True(t, s.Stats().Full)
	require.NoError(t, s.Err(), "a full disk is no failure")
	require.Equal(t, want, readAll(t, f.p))
	essential.append(1, 100)
	control := record.NewBuilder(100)
	control.AppendControl(1, record.ControlEpochStart, record.EpochStart{Epoch: 2}.AppendTo(nil))
	marker, err := control.Build(record.NewCompressor(), record.CodecNone, 0, 0, 0)
	require.NoError(t, err)
	marker.Stamp(f.p.End(), 2, f.now)
	require.NoError(t, appendWait(f.p, marker), "markers go on")
	wait(t, func(c Completion) error { return f.p.PutValue(1, []byte("x"), c) })
	wait(t, func(c Completion) error { return f.p.AdvanceStart(f.p.End()/2, c) })
	settle(t, s)
	s.reserve.look()
	require.False(t, s.Stats().Full, "there is space again")
	f.epoch = 2
	f.append(1, 1000)
	require.NoError(t, s.Close())
}

// A disk that fills up under a write refuses that append; the log is as it was before it.
func TestDiskFullUnderAnAppend(t *testing.T) {
	fsys := vfs.NewMem(vfs.MemOptions{})
	o := smallOptions(fsys)
	s := openStore(t, "/data", o)
	require.NoError(t, s.Create(Spec{ID: testID(1), Config: Config{SegmentBytes: 16 << 10}}))
	f := newProducer(t, partition(t, s, testID(1)))
	want := f.appendMany(20, 1, 1000)
	for _, op := range []vfs.Op{vfs.OpWrite, vfs.OpCreate} {
		fsys.SetFault(func(got vfs.Op, name string) error {
			if got == op && strings.HasSuffix(name, segmentSuffix) {
				return syscall.ENOSPC
			}
			return nil
		})
		for {
			b := f.batch(f.p.End(), 1, 1000)
			if err := appendWait(f.p, b); err != nil {
				require.ErrorIs(t, err, ErrStorageFull)
				f.now -= 1e6
				break
			}
			want = append(want, b...)
		}
		require.True(t, s.Stats().Full)
		require.Equal(t, want, readAll(t, f.p))
		fsys.SetFault(nil)
		require.Eventually(t, func() bool { return !s.Stats().Full }, 10*time.Second, 10*time.Millisecond)
		want = append(want, f.append(1, 1000)...)
	}
	crash(t, s)
	s = openStore(t, "/data", o)
	require.Equal(t, want, readAll(t, partition(t, s, testID(1))))
	require.NoError(t, s.Close())
}

// The ballast is given up for a checkpoint that would not fit otherwise.
func TestBallast(t *testing.T) {
	fsys := vfs.NewMem(vfs.MemOptions{})
	o := smallOptions(fsys)
	o.BallastBytes = 1 << 20
	s := openStore(t, "/data", o)
	require.NoError(t, s.Create(Spec{ID: testID(1)}))
	newProducer(t, partition(t, s, testID(1))).appendMany(5, 1, 100)
	require.Eventually(t, s.reserve.ballast.Load, 10*time.Second, time.Millisecond)
	var gone atomic.Bool
	fsys.SetFault(func(op vfs.Op, name string) error {
		if op == vfs.OpRemove && strings.HasSuffix(name, "ballast") {
			gone.Store(true)
		}
		if op == vfs.OpWrite && strings.HasSuffix(name, "checkpoint.tmp") && !gone.Load() {
			return syscall.ENOSPC
		}
		return nil
	})
	before := s.Stats().Checkpoints
	require.NoError(t, s.checkpoints.once(false))
	require.Equal(t, before+1, s.Stats().Checkpoints)
	fsys.SetFault(nil)
	require.NoError(t, s.Close())
}

func TestDamagedBatchIsNotServed(t *testing.T) {
	for _, where := range []struct {
		name string
		bit  int // within the batch
	}{{"stamp", 9 * 8}, {"length", 0}, {"payload", 200 * 8}, {"payload checksum", 33 * 8}} {
		t.Run(where.name, func(t *testing.T) {
			fsys := vfs.NewMem(vfs.MemOptions{})
			o := smallOptions(fsys)
			s := openStore(t, "/data", o)
			require.NoError(t, s.Create(Spec{ID: testID(1), Config: Config{SegmentBytes: 32 << 10}}))
			f := newProducer(t, partition(t, s, testID(1)))
			want := f.appendMany(100, 2, 500)
			require.NoError(t, s.Close())
			offsets, positions := boundaries(t, want)
			for _, bad := range []int{0, 7, 30, 99} {
				base, at := segmentAt(f.p, offsets[bad], want)
				name := (&segment{p: f.p, segmentState: segmentState{segmentName: segmentName{base: base}}}).path()
				require.NoError(t, fsys.FlipBit(name, int64((positions[bad]-at)*8+where.bit)))
				s := openStore(t, "/data", o)
				p := partition(t, s, testID(1))
				got, err := readFrom(p, 0, 5000, false)
				require.ErrorIs(t, err, ErrCorrupt)
				require.Equal(t, want[:positions[bad]], got)
				damage := new(CorruptError)
				require.ErrorAs(t, err, &damage)
				require.Equal(t, name, damage.File)
				require.EqualValues(t, positions[bad]-at, damage.Position)
				require.Equal(t, offsets[bad], damage.From)
				require.Equal(t, offsets[bad]+2, damage.To)
				require.Equal(t, []Hole{{From: damage.From, To: damage.To, File: name, Position: damage.Position}}, p.Holes())
				rest, err := readFrom(p, damage.To, 5000, false)
				require.NoError(t, err, "reading goes on behind the hole")
				require.Equal(t, want[positions[bad+1]:], rest)
				_, err = p.Read(damage.From, p.End(), 100, false)
				require.ErrorIs(t, err, ErrCorrupt)
				require.NoError(t, fsys.FlipBit(name, int64((positions[bad]-at)*8+where.bit)))
				require.NoError(t, s.Close())
			}
		})
	}
}

// segmentAt returns the base of the segment that holds offset, and where that begins in the whole log.
func segmentAt(p *Partition, offset int64, log []byte) (base int64, at int) {
	for _, g := range p.segments {
		if g.base > offset {
			break
		}
		base = g.base
	}
	for record.Batch(log[at:]).BaseOffset() < base {
		at += int(record.Batch(log[at:]).Length())
	}
	return base, at
}

func TestOpenRefusals(t *testing.T) {
	dir := t.TempDir()
	o := smallOptions(vfs.OS())
	s := openStore(t, dir, o)
	id := s.Identity()
	require.NotZero(t, id.Disk)
	_, err := Open(dir, o)
	require.ErrorIs(t, err, ErrLocked)
	require.NoError(t, s.Create(Spec{ID: testID(1)}))
	require.NoError(t, s.Close())
	s = openStore(t, dir, o)
	require.Equal(t, id, s.Identity())
	require.NoError(t, s.Close())
	for _, name := range []string{"identity", "checkpoint"} {
		b, err := readFile(o.FS, dir+"/"+name)
		require.NoError(t, err)
		for what, bad := range map[string][]byte{"empty": {}, "cut": b[:len(b)-1], "flipped": flipped(b, len(b)/2), "version": flipped(b, 8)} {
			require.NoError(t, writeFileAtomic(o.FS, dir+"/"+name, bad))
			_, err := Open(dir, o)
			require.Error(t, err, what)
			require.ErrorContains(t, err, name)
			require.True(t, errors.Is(err, ErrCorrupt) || errors.Is(err, ErrVersion), err)
		}
		require.NoError(t, writeFileAtomic(o.FS, dir+"/"+name, b))
	}
	require.NoError(t, o.FS.Rename(dir+"/identity", dir+"/away"))
	_, err = Open(dir, o)
	require.ErrorIs(t, err, ErrCorrupt)
	require.NoError(t, o.FS.Rename(dir+"/away", dir+"/identity"))
	s = openStore(t, dir, o)
	require.Len(t, s.IDs(), 1)
	require.NoError(t, s.Close())
}

func flipped(b []byte, at int) []byte {
	b = append([]byte(nil), b...)
	b[at] ^= 4
	return b
}

// After a failure nothing says any more what is durable: no checkpoint follows it.
func TestNoCheckpointAfterAFailure(t *testing.T) {
	fsys := vfs.NewMem(vfs.MemOptions{})
	s := openStore(t, "/data", smallOptions(fsys))
	require.NoError(t, s.Create(Spec{ID: testID(1)}, Spec{ID: testID(2)}))
	f := newProducer(t, partition(t, s, testID(1)))
	require.NoError(t, s.checkpoints.once(false))
	want := f.appendMany(10, 1, 100)
	before, err := readFile(fsys, "/data/checkpoint")
	require.NoError(t, err)
	fsys.SetFault(func(op vfs.Op, name string) error {
		if op == vfs.OpSync && strings.HasSuffix(name, segmentSuffix) {
			return errDisk
		}
		return nil
	})
	f.p.write.Lock()
	require.ErrorIs(t, f.p.syncSegments(), errDisk) // and the kernel has forgotten it
	f.p.write.Unlock()
	fsys.SetFault(nil)
	require.ErrorIs(t, s.checkpoints.once(false), ErrStorageFailed)
	after, err := readFile(fsys, "/data/checkpoint")
	require.NoError(t, err)
	require.Equal(t, before, after)
	require.ErrorIs(t, s.Close(), ErrStorageFailed)
	s = openStore(t, "/data", smallOptions(fsys))
	require.Equal(t, want, readAll(t, partition(t, s, testID(1))))
	require.NoError(t, s.Close())
}
