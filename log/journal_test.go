package log

import (
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"testing"

	"github.com/sequitur-mq/sequitur/internal/vfs"
	"github.com/stretchr/testify/require"
)

// filled makes a store in memory with batches appended one group at a time, and returns it still open.
func filled(t *testing.T, fsys *vfs.Mem, batches int) (*Store, *producer, []byte) {
	s := openStore(t, "/data", smallOptions(fsys))
	require.NoError(t, s.Create(Spec{ID: testID(1)}))
	f := newProducer(t, partition(t, s, testID(1)))
	return s, f, f.appendMany(batches, 1, 100)
}

// liveFile returns the name of the journal file that is being written and the position of the next group.
func liveFile(s *Store) (string, position) {
	s.journal.mu.Lock()
	defer s.journal.mu.Unlock()
	return s.journal.live[len(s.journal.live)-1].name, s.journal.at
}

func TestTornLastGroupIsDropped(t *testing.T) {
	for keep := range 9 {
		t.Run(fmt.Sprint(keep), func(t *testing.T) {
			fsys := vfs.NewMem(vfs.MemOptions{})
			s, f, want := filled(t, fsys, 10)
			name, at := liveFile(s)
			// The next group begins, and only some of its sectors reach the disk.
			next := f.batch(f.p.End(), 20, 200)
			require.NoError(t, appendWait(f.p, next))
			require.Greater(t, len(next), 4096)
			crash(t, s)
			file, err := fsys.OpenReadWrite(name)
			require.NoError(t, err)
			rng := rand.New(rand.NewPCG(uint64(keep), 0))
			lost := rng.IntN(8) // one sector at least
			for sector := range padded(int64(len(next))) / 512 {
				if int(sector) == lost || rng.IntN(8) > keep {
					_, err := file.WriteAt(make([]byte, 512), at.off+sector*512)
					require.NoError(t, err)
				}
			}
			require.NoError(t, file.Close())

			s = openStore(t, "/data", smallOptions(fsys))
			p := partition(t, s, testID(1))
			require.EqualValues(t, 10, p.End(), "a group is there whole or not at all")
			require.Equal(t, want, readAll(t, p))
			f.p = p
			want = append(want, f.append(1, 100)...)
			crash(t, s)
			s = openStore(t, "/data", smallOptions(fsys))
			require.Equal(t, want, readAll(t, partition(t, s, testID(1))))
			require.NoError(t, s.Close())
		})
	}
}

func TestDamagedJournalIsRefused(t *testing.T) {
	fsys := vfs.NewMem(vfs.MemOptions{})
	s, _, _ := filled(t, fsys, 10)
	name, at := liveFile(s)
	crash(t, s)
	for group := range at.off / journalBlock {
		if group == 0 || group == at.off/journalBlock-1 {
			continue // the header has a copy; the last group cannot be told from a torn one
		}
		bit := (group*journalBlock + 60) * 8
		require.NoError(t, fsys.FlipBit(name, bit))
		_, err := Open("/data", smallOptions(fsys))
		require.ErrorIs(t, err, ErrCorrupt)
		require.ErrorContains(t, err, filepath.Base(name))
		require.ErrorContains(t, err, fmt.Sprintf("byte %d", group*journalBlock))
		require.NoError(t, fsys.FlipBit(name, bit))
	}
	s = openStore(t, "/data", smallOptions(fsys))
	require.EqualValues(t, 10, partition(t, s, testID(1)).End())
	require.NoError(t, s.Close())
}

func TestJournalHeaderHasCopy(t *testing.T) {
	fsys := vfs.NewMem(vfs.MemOptions{})
	s, _, want := filled(t, fsys, 10)
	name, _ := liveFile(s)
	crash(t, s)
	require.NoError(t, fsys.FlipBit(name, 20*8))
	s = openStore(t, "/data", smallOptions(fsys))
	require.Equal(t, want, readAll(t, partition(t, s, testID(1))))
	crash(t, s)
	require.NoError(t, fsys.FlipBit(name, (headerCopyAt+20)*8))
	_, err := Open("/data", smallOptions(fsys))
	require.ErrorIs(t, err, ErrCorrupt)
	require.ErrorContains(t, err, filepath.Base(name))
}

func TestMissingJournalFileIsRefused(t *testing.T) {
	fsys := vfs.NewMem(vfs.MemOptions{})
	s, f, _ := filled(t, fsys, 10)
	first, _ := liveFile(s)
	s.checkpoints.running.Lock() // none is taken
	f.appendMany(2, 1, 200<<10)
	second, _ := liveFile(s)
	require.NotEqual(t, first, second)
	s.fail(errDisk)
	s.checkpoints.running.Unlock()
	crash(t, s)
	require.NoError(t, fsys.Rename(first, "/away"))
	_, err := Open("/data", smallOptions(fsys))
	require.ErrorIs(t, err, ErrCorrupt)
	require.NoError(t, fsys.Rename("/away", first))
	s = openStore(t, "/data", smallOptions(fsys))
	require.EqualValues(t, 12, partition(t, s, testID(1)).End())
	require.NoError(t, s.Close())
}

// Stale groups of earlier laps lie at the same places as new ones would. They never validate: the lap is in the header
// and the salt is in the checksum.
func TestStaleLapsNeverValidate(t *testing.T) {
	block := make([]byte, journalBlock)
	h := groupHeader{length: groupHeaderSize, lap: 7, number: 3, firstSeq: 1}
	putEntriesCRC(block, h.put(block, 99, 8192))
	for _, c := range []struct {
		lap, salt uint64
		at        int64
		ok        bool
	}{{7, 99, 8192, true}, {8, 99, 8192, false}, {7, 98, 8192, false}, {7, 99, 4096, false}} {
		got, crc, ok := parseGroupHeader(block, c.lap, c.salt, c.at)
		require.Equal(t, c.ok, ok)
		if ok {
			_, whole := walkGroup(block[:got.length], got, crc, nil)
			require.True(t, whole)
		}
	}
}

// Recovery after every lap of a journal that goes round many times.
func TestRecoveryInEveryLap(t *testing.T) {
	fsys := vfs.NewMem(vfs.MemOptions{})
	s := openStore(t, "/data", smallOptions(fsys))
	require.NoError(t, s.Create(Spec{ID: testID(1), Config: Config{SegmentBytes: 300 << 10}}))
	f := newProducer(t, partition(t, s, testID(1)))
	var want []byte
	for range 12 {
		want = append(want, f.appendMany(9, 1, 30<<10)...)
		crash(t, s)
		s = openStore(t, "/data", smallOptions(fsys))
		f.p = partition(t, s, testID(1))
		require.Equal(t, want, readAll(t, f.p))
	}
	entries, err := fsys.ReadDir("/data/journal")
	require.NoError(t, err)
	require.LessOrEqual(t, len(entries), 8, "journal files are recycled: %v", entries)
	require.NoError(t, s.Close())
}

func TestLargeAppends(t *testing.T) {
	both(t, func(t *testing.T, dir string, o Options) {
		s := openStore(t, dir, o)
		require.NoError(t, s.Create(Spec{ID: testID(1), Config: Config{SegmentBytes: 1 << 20}}))
		p := partition(t, s, testID(1))
		f := newProducer(t, p)
		_, err := p.Append(f.batch(0, 1, 256<<10), nil)
		require.ErrorIs(t, err, ErrTooLarge)
		f.now -= 1e6
		want := f.append(1, 200<<10)
		var several []byte
		for i := range int64(30) {
			several = append(several, f.batch(p.End()+i, 1, 20<<10)...)
		}
		require.NoError(t, appendWait(p, several)) // several entries, several groups
		want = append(want, several...)
		require.EqualValues(t, 31, p.Durable())
		require.Equal(t, want, readAll(t, p))
		crash(t, s)
		s = openStore(t, dir, o)
		require.Equal(t, want, readAll(t, partition(t, s, testID(1))))
		require.NoError(t, s.Close())
	})
}

func TestBufferedMode(t *testing.T) {
	for _, fsys := range []vfs.FS{vfs.NewMem(vfs.MemOptions{NoDirect: true}), vfs.OS()} {
		dir := t.TempDir()
		o := smallOptions(fsys)
		o.JournalBuffered = fsys == vfs.OS()
		s := openStore(t, dir, o)
		require.Equal(t, "fdatasync", s.Stats().JournalMode)
		require.NoError(t, s.Create(Spec{ID: testID(1)}))
		want := newProducer(t, partition(t, s, testID(1))).appendMany(30, 2, 20<<10)
		if mem, ok := fsys.(*vfs.Mem); ok {
			fsys = mem.Crash(0, rand.New(rand.NewPCG(0, 0))) // what was acknowledged was synced
			s.fail(fmt.Errorf("end of this one"))
			s.Close()
		} else {
			crash(t, s)
		}
		o.FS = fsys
		s = openStore(t, dir, o)
		require.Equal(t, want, readAll(t, partition(t, s, testID(1))))
		require.NoError(t, s.Close())
	}
}

// A lost power supply takes with it everything that was not synced; nothing acknowledged is among it.
func TestPowerFailure(t *testing.T) {
	for _, keep := range []float64{0, 0.2, 0.5, 0.8, 1} {
		fsys := vfs.NewMem(vfs.MemOptions{})
		s := openStore(t, "/data", smallOptions(fsys))
		require.NoError(t, s.Create(Spec{ID: testID(1), Config: Config{SegmentBytes: 64 << 10}}))
		f := newProducer(t, partition(t, s, testID(1)))
		var want []byte
		rng := rand.New(rand.NewPCG(3, uint64(keep*10)))
		for range 8 {
			want = append(want, f.appendMany(20, 2, 2000)...)
			if rng.IntN(2) == 0 {
				require.NoError(t, s.checkpoints.once(false))
				want = append(want, f.append(1, 10)...)
			}
			after := fsys.Crash(keep, rng)
			crash(t, s)
			fsys = after
			s = openStore(t, "/data", smallOptions(fsys))
			f.p = partition(t, s, testID(1))
			require.Equal(t, want, readAll(t, f.p))
		}
		require.NoError(t, s.Close())
	}
}

func TestGroupCommit(t *testing.T) {
	fsys := vfs.NewMem(vfs.MemOptions{})
	s := openStore(t, "/data", smallOptions(fsys))
	specs := make([]Spec, 64)
	for i := range specs {
		specs[i] = Spec{ID: testID(uint32(i))}
	}
	require.NoError(t, s.Create(specs...))
	before := s.Stats()
	// While the first write is held up, the others queue; they go out as one group.
	hold, held := make(chan struct{}), make(chan struct{})
	live, _ := liveFile(s)
	first := true
	fsys.SetFault(func(op vfs.Op, name string) error {
		if name == live && op == vfs.OpWrite && first {
			first = false
			close(held)
			<-hold
		}
		return nil
	})
	done := make(waiter, len(specs))
	for i, spec := range specs {
		f := newProducer(t, partition(t, s, spec.ID))
		_, err := f.p.Append(f.batch(0, 1, 100), done)
		require.NoError(t, err)
		if i == 0 {
			<-held
		}
	}
	close(hold)
	for range specs {
		require.NoError(t, <-done)
	}
	after := s.Stats()
	require.EqualValues(t, 2, after.Groups-before.Groups)
	require.EqualValues(t, len(specs), after.Appends-before.Appends)
	require.NoError(t, s.Close())
}
