package log

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sequitur-mq/sequitur/internal/vfs"
	"github.com/sequitur-mq/sequitur/record"
)

// flips is what became of the flipped bits of one kind of file.
type flips struct{ refused, holes, harmless int }

// TestBitFlips inverts bits in every kind of file. Each is found and named, or did no harm; it is never served, and
// nothing is thrown away because of it: with the bit set right everything is there again.
func TestBitFlips(t *testing.T) {
	seed := crashSeed(t)
	rng := rand.New(rand.NewPCG(seed, 21))
	share := 1
	if fullCrashSuite() {
		share = 100
	}
	for _, clean := range []bool{true, false} {
		fsys := vfs.NewMem(vfs.MemOptions{})
		w := newWorkload(fsys, seed)
		w.tune = func(o *Options) { o.JournalMaxBytes = 1 << 30 } // no checkpoint that was not asked for
		require.NoError(t, w.run(120))
		disk := fsys
		var recent position
		if !clean {
			require.NoError(t, w.store.checkpoints.once(false))
			w.store.checkpoints.running.Lock() // a deletion has asked for one, which may come any time
			recent = w.store.checkpoints.position
			for range 40 {
				require.NoError(t, w.burst())
			}
			w.store.chores.drain()
			disk = fsys.Crash(1, rng)
			w.store.checkpoints.running.Unlock()
		}
		require.NoError(t, w.close())
		fc := &flipChecker{w: w, disk: disk, rng: rng, want: map[ID]*found{}, kinds: map[string]*flips{}}
		fc.expect(t)
		byKind := filesByKind(t, disk, w.dir)
		for _, kind := range slices.Sorted(maps.Keys(byKind)) { // one order for a seed
			files := byKind[kind]
			for range flipsOf[kind] * share {
				name := files[rng.IntN(len(files))]
				info, err := disk.Stat(name)
				require.NoError(t, err)
				bit := rng.Int64N(info.Size() * 8)
				require.NoError(t, fc.flip(name, bit), "seed %d, clean %v: bit %d (byte %d) of %s", seed, clean, bit, bit/8, name)
			}
		}
		if !clean {
			name, off := fc.groupBehind(t, recent)
			require.NoError(t, fc.flip(name, (off+groupHeaderSize+entryHeaderSize)*8), "seed %d: the first group behind the checkpoint in %s", seed, name)
			require.Positive(t, fc.kinds[journalSuffix].refused, "a group that others follow is damaged")
		}
		for kind, f := range fc.kinds {
			t.Logf("clean %v, %s: %d refused at opening, %d made holes, %d harmless", clean, kind, f.refused, f.holes, f.harmless)
		}
		require.Positive(t, fc.kinds[segmentSuffix].holes)
		require.Positive(t, fc.kinds[checkpointFile].refused)
		require.Positive(t, fc.kinds[identityFile].refused)
	}
}

// flipsOf says how many bits of each kind of file are flipped.
var flipsOf = map[string]int{segmentSuffix: 40, journalSuffix: 40, indexSuffix: 10, "producers": 10, checkpointFile: 8, identityFile: 8}

func kindOf(name string) string {
	base := filepath.Base(name)
	if _, ok := parseSnapshotName(base); ok {
		return "producers"
	}
	if ext := filepath.Ext(base); ext != "" {
		return ext
	}
	return base
}

func filesByKind(t *testing.T, fsys vfs.FS, dir string) map[string][]string {
	files := map[string][]string{}
	for _, name := range walkFiles(t, fsys, dir) {
		if info, err := fsys.Stat(name); err == nil && info.Size() > 0 {
			files[kindOf(name)] = append(files[kindOf(name)], name)
		}
	}
	return files
}

type flipChecker struct {
	w     *workload
	disk  *vfs.Mem
	rng   *rand.Rand
	want  map[ID]*found
	kinds map[string]*flips
	last  map[string]int64 // journal file -> where its last group begins

	// The flip is in the last group of a journal file: that cannot be told from one that was not written whole.
	inLastGroup bool
}

func (fc *flipChecker) expect(t *testing.T) {
	disk := fc.disk.Crash(1, fc.rng)
	s, err := Open(fc.w.dir, fc.w.options(disk))
	require.NoError(t, err)
	for _, id := range s.IDs() {
		p, _ := s.Partition(id)
		fc.want[id], err = readPartition(p)
		require.NoError(t, err)
	}
	require.NoError(t, s.Close())
	fc.last = map[string]int64{}
	for _, name := range walkFiles(t, fc.disk, filepath.Join(fc.w.dir, journalDir)) {
		fc.last[name] = lastGroup(t, fc.disk, name)
	}
}

// lastGroup is where the last group of a journal file begins.
func lastGroup(t *testing.T, fsys vfs.FS, name string) int64 {
	f, err := fsys.Open(name)
	require.NoError(t, err)
	defer f.Close()
	block := vfs.AlignedBuffer(journalBlock)
	_, err = f.ReadAt(block, 0)
	require.NoError(t, err)
	h, used, err := parseHeaderBlock(block)
	require.NoError(t, err)
	if !used {
		return 0
	}
	r := newJournalReader(f, name, h, journalDataFrom, nil)
	last := int64(journalDataFrom)
	for {
		at := r.at
		_, _, ok, err := r.next()
		require.NoError(t, err)
		if !ok {
			return last
		}
		last = at
	}
}

// groupBehind finds a group at or behind a position that has others of the same lap behind it.
func (fc *flipChecker) groupBehind(t *testing.T, at position) (name string, off int64) {
	laps := map[uint64]string{}
	for name := range fc.last {
		f, err := fc.disk.Open(name)
		require.NoError(t, err)
		block := vfs.AlignedBuffer(journalBlock)
		_, err = f.ReadAt(block, 0)
		require.NoError(t, err)
		h, used, err := parseHeaderBlock(block)
		require.NoError(t, err)
		require.NoError(t, f.Close())
		if used {
			laps[h.lap] = name
		}
	}
	if name = laps[at.lap]; at.off < fc.last[name] {
		return name, at.off
	}
	name = laps[at.lap+1]
	require.Greater(t, fc.last[name], int64(journalDataFrom), "after 40 bursts no lap has two groups")
	return name, journalDataFrom
}

func (fc *flipChecker) kind(name string) *flips {
	kind := kindOf(name)
	if fc.kinds[kind] == nil {
		fc.kinds[kind] = &flips{}
	}
	return fc.kinds[kind]
}

func (fc *flipChecker) flip(name string, bit int64) error {
	disk := fc.disk.Crash(1, fc.rng)
	if err := disk.FlipBit(name, bit); err != nil {
		return err
	}
	at, isJournal := fc.last[name]
	fc.inLastGroup = isJournal && bit/8 >= at
	report, err := Check(fc.w.dir, CheckOptions{FS: disk, Records: true})
	if err != nil && !errors.Is(err, ErrVersion) {
		return fmt.Errorf("check: %w", err)
	}
	outcome := fc.kind(name)
	damage, err := fc.judge(disk, name)
	switch {
	case err != nil:
		return err
	case damage == "refused":
		outcome.refused++
	case damage == "holes":
		outcome.holes++
	default:
		outcome.harmless++
	}
	if damage != "" && !namesFile(report, name) {
		return fmt.Errorf("the checker does not name the file: %v", report.Findings)
	}
	// With the bit set right all is as it was: nothing was truncated or removed on the ground of the damage.
	if err := disk.FlipBit(name, bit); err != nil {
		return nil // the file itself was rightly removed or replaced: an old checkpoint, a stray
	}
	s, err := Open(fc.w.dir, fc.w.options(disk))
	if err != nil {
		return fmt.Errorf("with the bit set right again: %w", err)
	}
	defer s.Close()
	if damage == "holes" || damage == "refused" {
		if holes, err := fc.compare(s, ""); err != nil || holes > 0 {
			return fmt.Errorf("with the bit set right again: %d holes, %w", holes, err)
		}
	}
	return nil
}

func namesFile(r Report, name string) bool {
	for _, f := range r.Findings {
		if f.Severity == SeverityDamage && (strings.HasSuffix(name, f.File) || strings.Contains(f.What, filepath.Base(name))) {
			return true
		}
	}
	return false
}

// judge opens the directory and reads all of it, twice: found damage is found again.
func (fc *flipChecker) judge(disk *vfs.Mem, name string) (damage string, err error) {
	for range 2 {
		s, err := Open(fc.w.dir, fc.w.options(disk))
		if errors.Is(err, ErrCorrupt) || errors.Is(err, ErrVersion) {
			if !strings.Contains(err.Error(), filepath.Base(name)) {
				return "", fmt.Errorf("the refusal does not name the file: %w", err)
			}
			return "refused", nil
		}
		if err != nil {
			return "", fmt.Errorf("open: %w", err)
		}
		err = s.Scrub(0)
		scrubbed := s.Stats().Scrub.Damages
		holes := 0
		if err == nil {
			holes, err = fc.compare(s, name)
		}
		if err == nil && holes > 0 && scrubbed == 0 { // the scrub also reads what lies below the start
			err = fmt.Errorf("reads found %d holes, the scrub %d damages", holes, scrubbed)
		}
		if err = errors.Join(err, s.Close()); err != nil {
			return "", err
		}
		if holes > 0 {
			damage = "holes"
		}
	}
	return damage, nil
}

// compare reads everything and counts holes. What is readable is what was written, and only the named file has holes.
func (fc *flipChecker) compare(s *Store, name string) (holes int, err error) {
	for id, want := range fc.want {
		p, ok := s.Partition(id)
		if !ok {
			if fc.inLastGroup {
				continue // its creation was in it
			}
			return holes, fmt.Errorf("partition %s is gone", id)
		}
		n, err := fc.comparePartition(p, want, name)
		holes += n
		if err != nil {
			return holes, fmt.Errorf("partition %s: %w", id, err)
		}
	}
	return holes, nil
}

func (fc *flipChecker) comparePartition(p *Partition, want *found, name string) (holes int, err error) {
	end := p.End()
	shorter := fc.inLastGroup
	if p.Config().Fsync != FsyncAlways && strings.HasPrefix(name, p.dir()) {
		shorter = true // what follows the last checkpoint may be cut off, see cutOff
	}
	if end != want.end && !shorter {
		return 0, fmt.Errorf("ends at %d, want %d", end, want.end)
	}
	expected := map[int64]record.Batch{}
	for _, b := range want.batches {
		expected[b.BaseOffset()] = b
	}
	seen := 0
	var missing []*CorruptError
	for at := p.Start(); at < end; {
		c, err := p.Read(at, end, 8<<10, false)
		var bad *CorruptError
		if errors.As(err, &bad) {
			if filepath.Base(bad.File) != filepath.Base(name) || bad.To <= at || bad.From > at && !p.Config().Compact {
				return 0, fmt.Errorf("read from %d: %w", at, err)
			}
			missing = append(missing, bad)
			at = bad.To
			continue
		}
		if err != nil {
			return 0, err
		}
		b, err := c.AppendTo(nil)
		next := c.Next()
		c.Release()
		if err != nil || next <= at {
			return 0, fmt.Errorf("read from %d: next %d, %w", at, next, err)
		}
		for len(b) > 0 {
			batch, rest, err := record.Parse(b, storedLimits())
			if err != nil {
				return 0, err
			}
			if !bytes.Equal(batch, expected[batch.BaseOffset()]) {
				return 0, fmt.Errorf("batch at %d was served with other bytes than were written", batch.BaseOffset())
			}
			seen, b = seen+1, rest
		}
		at = next
	}
	for _, b := range want.batches {
		for _, m := range missing {
			if b.BaseOffset() < m.To && b.NextOffset() > m.From {
				seen++
				break
			}
		}
	}
	if seen < len(want.batches) && !shorter {
		return 0, fmt.Errorf("%d of %d batches are neither readable nor in a hole", len(want.batches)-seen, len(want.batches))
	}
	return len(missing), nil
}
