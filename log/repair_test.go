package log

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sequitur-mq/sequitur/internal/vfs"
	"github.com/sequitur-mq/sequitur/record"
)

// damages are what may happen to the segments of a log that had 40 batches of 2 records in segments of 10 and of 3
// epochs, with its start in the middle of a batch.
var damages = map[string]func(t *testing.T, disk *vfs.Mem, segments []*segment){
	"payload":            func(t *testing.T, disk *vfs.Mem, g []*segment) { flipBatch(t, disk, g[1], 3, record.HeaderSize+20) },
	"header":             func(t *testing.T, disk *vfs.Mem, g []*segment) { flipBatch(t, disk, g[1], 3, 10) },
	"first of a file":    func(t *testing.T, disk *vfs.Mem, g []*segment) { flipBatch(t, disk, g[1], 0, 10) },
	"last of a file":     func(t *testing.T, disk *vfs.Mem, g []*segment) { flipBatch(t, disk, g[1], 9, 10) },
	"last of the log":    func(t *testing.T, disk *vfs.Mem, g []*segment) { flipBatch(t, disk, g[3], 9, 10) },
	"first of the log":   func(t *testing.T, disk *vfs.Mem, g []*segment) { flipBatch(t, disk, g[0], 2, 10) },
	"missing":            func(t *testing.T, disk *vfs.Mem, g []*segment) { require.NoError(t, disk.Remove(g[2].path())) },
	"first missing":      func(t *testing.T, disk *vfs.Mem, g []*segment) { require.NoError(t, disk.Remove(g[0].path())) },
	"last missing":       func(t *testing.T, disk *vfs.Mem, g []*segment) { require.NoError(t, disk.Remove(g[3].path())) },
	"end missing":        func(t *testing.T, disk *vfs.Mem, g []*segment) { shorten(t, disk, g[1], g[1].size/2) },
	"end of log missing": func(t *testing.T, disk *vfs.Mem, g []*segment) { shorten(t, disk, g[3], g[3].size-5) },
	"empty file":         func(t *testing.T, disk *vfs.Mem, g []*segment) { shorten(t, disk, g[3], 0) },
	"two in a file": func(t *testing.T, disk *vfs.Mem, g []*segment) {
		flipBatch(t, disk, g[1], 2, 10)
		flipBatch(t, disk, g[1], 7, record.HeaderSize+20)
	},
	"middle and end": func(t *testing.T, disk *vfs.Mem, g []*segment) {
		flipBatch(t, disk, g[3], 2, record.HeaderSize+20)
		flipBatch(t, disk, g[3], 3, record.HeaderSize+20)
		shorten(t, disk, g[3], g[3].size-5)
	},
	"several files": func(t *testing.T, disk *vfs.Mem, g []*segment) {
		flipBatch(t, disk, g[1], 2, 10)
		require.NoError(t, disk.Remove(g[2].path()))
		flipBatch(t, disk, g[3], 1, 10)
	},
}

// flipBatch flips a bit of the n-th batch of a segment of batches of one size.
func flipBatch(t *testing.T, disk *vfs.Mem, g *segment, n, at int64) {
	require.NoError(t, disk.FlipBit(g.path(), (g.size/10*n+at)*8))
}

func shorten(t *testing.T, disk *vfs.Mem, g *segment, size int64) {
	f, err := disk.OpenReadWrite(g.path())
	require.NoError(t, err)
	require.NoError(t, errors.Join(f.Truncate(size), f.Sync(), f.Close()))
}

// damagedLog is a log as a process finds it that starts after something happened to it.
type damagedLog struct {
	disk *vfs.Mem
	want []byte // all batches
	end  int64
}

func newDamagedLog(t *testing.T, mode FsyncMode, damage func(*testing.T, *vfs.Mem, []*segment)) *damagedLog {
	fsys := vfs.NewMem(vfs.MemOptions{})
	s, err := Open("/data", smallOptions(fsys))
	require.NoError(t, err)
	require.NoError(t, s.Create(Spec{ID: testID(1), Config: Config{Fsync: mode, SegmentBytes: 7100}}))
	f := newProducer(t, partition(t, s, testID(1)))
	d := &damagedLog{}
	for n := range 40 {
		f.epoch = uint32(1 + n/15)
		b := f.batch(f.p.End(), 2, 292)
		for len(b) != 700 { // ten of them to a segment
			require.Less(t, len(b), 710)
			b = stamped(f.batch(f.p.End(), 2, 292+(700-len(b))/2), f.p.End(), f.epoch, f.now)
		}
		require.NoError(t, appendWait(f.p, b))
		d.want = append(d.want, b...)
	}
	require.Len(t, f.p.segments, 4)
	wait(t, func(c Completion) error { return f.p.AdvanceStart(5, c) })
	require.NoError(t, s.checkpoints.once(false))
	s.chores.drain()
	segments := f.p.segments
	d.end = f.p.End()
	require.NoError(t, s.Close())
	d.disk = fsys
	damage(t, d.disk, segments)
	return d
}

// batches are those that hold offsets [from, to).
func (d *damagedLog) batches(t require.TestingT, from, to int64) (list []byte) {
	for rest := d.want; len(rest) > 0; {
		b, after, err := record.Parse(rest, storedLimits())
		require.NoError(t, err)
		if b.NextOffset() > from && b.BaseOffset() < to {
			list = append(list, b...)
		}
		rest = after
	}
	return list
}

// open opens the log and lets the scrub find what is damaged.
func (d *damagedLog) open(disk *vfs.Mem, o *switches) (*Store, *Partition, error) {
	options := smallOptions(disk)
	options.switches = o
	s, err := Open("/data", options)
	if err != nil {
		return nil, nil, err
	}
	p, _ := s.Partition(testID(1))
	return s, p, s.Scrub(0)
}

// repairAll repairs range after range.
func (d *damagedLog) repairAll(t *testing.T, p *Partition) (repairs int) {
	for {
		from, to, err := p.Damaged()
		require.NoError(t, err)
		if from == to {
			require.Empty(t, p.Holes())
			return repairs
		}
		require.Less(t, repairs, 20, "repairs find no end")
		wait(t, func(c Completion) error { return p.RepairHole(from, to, d.batches(t, from, to), c) })
		repairs++
	}
}

// Whatever is damaged is replaced by what another replica has, and stays so.
func TestRepairHole(t *testing.T) {
	for name, damage := range damages {
		for _, mode := range []FsyncMode{FsyncAlways, FsyncNever} {
			t.Run(name+"/"+mode.String(), func(t *testing.T) {
				d := newDamagedLog(t, mode, damage)
				s, p, err := d.open(d.disk, nil)
				require.NoError(t, err)
				require.NotEmpty(t, p.Holes())
				require.Equal(t, d.end, p.End())
				require.Positive(t, d.repairAll(t, p))
				all := d.batches(t, 5, d.end)
				check := func() {
					t.Helper()
					require.Equal(t, all, readAll(t, p))
					for from := p.Start(); from < p.End(); from++ {
						got, err := readFrom(p, from, 1000, true)
						require.NoError(t, err)
						require.True(t, bytes.HasSuffix(all, got))
					}
					require.Equal(t, []EpochStart{{1, 0}, {2, 30}, {3, 60}}, p.Epochs())
				}
				check()
				f := newProducer(t, p)
				f.epoch, f.now = 3, p.LastAppendTime()+1
				all = append(all, f.appendMany(3, 2, 300)...)
				check()
				require.NoError(t, s.checkpoints.once(false))
				s.chores.drain()
				require.Len(t, mustReadLogs(t, d.disk, p.dir()), len(p.segmentNames()), "the damaged files are gone")
				for range 2 {
					crash(t, s)
					s, p, err = d.open(d.disk, nil)
					require.NoError(t, err)
					require.Empty(t, p.Holes())
					check()
					require.NoError(t, s.checkpoints.once(false))
				}
				require.NoError(t, s.Close())
				checkClean(t, d.disk, "/data")
			})
		}
	}
}

// A crash at any moment of a repair leaves the hole or what fills it, and the repair can be made again.
func TestRepairSurvivesCrashes(t *testing.T) {
	for name, damage := range damages {
		for _, mode := range []FsyncMode{FsyncAlways, FsyncNever} {
			t.Run(name+"/"+mode.String(), func(t *testing.T) {
				images, err := crashRepair(t, mode, damage, nil)
				require.NoError(t, err)
				require.Greater(t, images, 10)
			})
		}
	}
}

// A repair that is not synced before it takes its place must be noticed.
func TestRepairTeeth(t *testing.T) {
	_, err := crashRepair(t, FsyncAlways, damages["missing"], &switches{lazyRepair: true})
	require.Error(t, err)
}

// crashRepair repairs a log, takes images of what a power failure would leave at each operation, and judges them.
func crashRepair(t *testing.T, mode FsyncMode, damage func(*testing.T, *vfs.Mem, []*segment), o *switches) (images int, err error) {
	d := newDamagedLog(t, mode, damage)
	s, p, err := d.open(d.disk, o)
	require.NoError(t, err)
	rng := rand.New(rand.NewPCG(crashSeed(t), 31))
	type taken struct {
		disk     *vfs.Mem
		repaired [][2]int64 // durably
		at       string
	}
	var mu sync.Mutex
	var list []taken
	var repaired [][2]int64
	d.disk.SetDuring(func(op vfs.Op, name string) {
		mu.Lock()
		defer mu.Unlock()
		for _, keep := range keeps {
			list = append(list, taken{d.disk.Crash(keep, rng), repaired, fmt.Sprintf("%s %s, keeping %v", op, name, keep)})
		}
	})
	for {
		from, to, err := p.Damaged()
		require.NoError(t, err)
		if from == to {
			break
		}
		wait(t, func(c Completion) error { return p.RepairHole(from, to, d.batches(t, from, to), c) })
		mu.Lock()
		repaired = append(repaired[:len(repaired):len(repaired)], [2]int64{from, to})
		mu.Unlock()
	}
	require.NoError(t, s.checkpoints.once(false))
	s.chores.drain()
	d.disk.SetDuring(nil)
	require.NoError(t, s.Close())
	for _, image := range list {
		if err := d.judge(t, image.disk, image.repaired); err != nil {
			return len(list), fmt.Errorf("crash at %s: %w", image.at, err)
		}
	}
	return len(list), nil
}

// judge opens an image: every offset is readable with the right bytes or in a hole, what was repaired is no hole, and
// the rest can be repaired.
func (d *damagedLog) judge(t *testing.T, disk *vfs.Mem, repaired [][2]int64) error {
	s, p, err := d.open(disk, nil)
	if err != nil {
		return err
	}
	defer s.Close()
	if p.Start() != 5 || p.End() != d.end {
		return fmt.Errorf("log is [%d, %d)", p.Start(), p.End())
	}
	for _, hole := range p.Holes() {
		for _, r := range repaired {
			if max(hole.From, 5) < r[1] && hole.To > r[0] {
				return fmt.Errorf("%v was repaired, and is damaged again: %v", r, hole)
			}
		}
	}
	for from := p.Start(); from < p.End(); {
		c, err := p.Read(from, p.End(), 1, true)
		var bad *CorruptError
		if errors.As(err, &bad) && bad.To > from {
			from = bad.To
			continue
		}
		if err != nil {
			return err
		}
		got, err := c.AppendTo(nil)
		next := c.Next()
		c.Release()
		if err != nil || !bytes.Equal(got, d.batches(t, from, next)) {
			return fmt.Errorf("other bytes at [%d, %d), %w", from, next, err)
		}
		from = next
	}
	d.repairAll(t, p)
	if got := readAll(t, p); !bytes.Equal(got, d.batches(t, 5, d.end)) {
		return errors.New("other bytes after a repair")
	}
	return nil
}

// What does not belong there is not taken, whatever its checksums say.
func TestRepairRefusals(t *testing.T) {
	d := newDamagedLog(t, FsyncAlways, damages["two in a file"])
	s, p, err := d.open(d.disk, nil)
	require.NoError(t, err)
	from, to, err := p.Damaged()
	require.NoError(t, err)
	require.Equal(t, []int64{24, 26}, []int64{from, to})
	good := d.batches(t, from, to)
	b := record.Batch(good)
	before := p.Stat()
	all := d.batches(t, 24, 36)
	otherBetween := bytes.Clone(all)
	record.Batch(otherBetween[700:]).Stamp(26, 1, record.Batch(all[700:]).AppendTime()+1)
	for what, c := range map[string]struct {
		from, to int64
		batches  []byte
		want     error
	}{
		"nothing":               {from, to, nil, ErrNoFit},
		"half a batch":          {from, to, good[:len(good)-1], ErrNoFit},
		"a flipped bit":         {from, to, append(bytes.Clone(good[:len(good)-1]), good[len(good)-1]^1), ErrNoFit},
		"too much":              {from, to, d.batches(t, 24, 28), ErrNoFit},
		"too little":            {from, to + 2, good, ErrNoFit},
		"another offset":        {from, to, d.batches(t, 26, 28), ErrNoFit},
		"another epoch":         {from, to, stamped(good, from, b.LeaderEpoch()+1, b.AppendTime()), ErrNoFit},
		"too early":             {from, to, stamped(good, from, b.LeaderEpoch(), 1), ErrNoFit},
		"too late":              {from, to, stamped(good, from, b.LeaderEpoch(), 1e18), ErrNoFit},
		"what is not damaged":   {10, 12, d.batches(t, 10, 12), ErrNoFit},
		"others between":        {24, 36, otherBetween, ErrNoFit},
		"beyond the end":        {78, 82, good, ErrOutOfRange},
		"below the start":       {4, 6, good, ErrOutOfRange},
		"more than one segment": {38, 42, d.batches(t, 38, 42), ErrOutOfRange},
	} {
		require.ErrorIs(t, p.RepairHole(c.from, c.to, c.batches, nil), c.want, what)
	}
	require.Equal(t, before, p.Stat())
	wait(t, func(c Completion) error { return p.RepairHole(24, 36, all, c) }) // both at once
	require.Zero(t, d.repairAll(t, p))
	require.Equal(t, d.batches(t, 5, d.end), readAll(t, p))
	require.NoError(t, s.Close())
	checkClean(t, d.disk, "/data")
}
