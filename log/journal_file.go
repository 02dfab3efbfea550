package log

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"math"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sequitur-mq/sequitur/internal/vfs"
)

const (
	journalMagic    = "SQTRJNL1"
	journalVersion  = 1
	journalSuffix   = ".jnl"
	fileHeaderSize  = 84
	headerCopyAt    = 2048 // second copy of the file header, in another sector of the same block
	journalDataFrom = journalBlock
)

// position is a place in the journal: the next group to be written, or to be read.
type position struct {
	lap   uint64 // of the file
	off   int64
	group uint64 // number of the group that goes there
}

// fileHeader opens a journal file. It is written anew each time the file is taken into use.
type fileHeader struct {
	lap  uint64 // counts the uses of all files; 0 = never used
	size int64
	disk [16]byte // disk UUID of the store
	salt uint64
	prev position // where the previous lap ended: the chain that shows a missing piece

	groupLap, groupSalt uint64 // not stored: lap and salt as the groups have them, see identify
}

func (h fileHeader) encode() []byte {
	b := append(make([]byte, 0, fileHeaderSize), journalMagic...)
	b = appendU32(b, journalVersion)
	b = appendU32(b, 0)
	b = appendU64(b, h.lap)
	b = appendI64(b, h.size)
	b = append(b, h.disk[:]...)
	b = appendU64(b, h.salt)
	b = appendU64(b, h.prev.lap)
	b = appendI64(b, h.prev.off)
	b = appendU64(b, h.prev.group)
	return appendU32(b, crc32.Checksum(b, castagnoli))
}

// putBlock writes both copies into the first block of a file.
func (h fileHeader) putBlock(block []byte) {
	clear(block[:journalBlock])
	copy(block, h.encode())
	copy(block[headerCopyAt:], h.encode())
}

func parseFileHeader(b []byte) (h fileHeader, err error) {
	if len(b) < fileHeaderSize || string(b[:8]) != journalMagic {
		return h, errors.New("no journal file header")
	}
	if v := binary.LittleEndian.Uint32(b[8:]); v != journalVersion {
		return h, fmt.Errorf("journal version %d, this program reads %d: %w", v, journalVersion, ErrVersion)
	}
	if crc32.Checksum(b[:fileHeaderSize-4], castagnoli) != binary.LittleEndian.Uint32(b[fileHeaderSize-4:]) {
		return h, errors.New("journal file header damaged")
	}
	d := decoder{b: b[16 : fileHeaderSize-4]}
	h.lap, h.size = d.u64(), d.i64()
	copy(h.disk[:], d.take(16))
	h.salt = d.u64()
	h.prev = position{lap: d.u64(), off: d.i64(), group: d.u64()}
	h.groupLap, h.groupSalt = h.lap, h.salt
	return h, d.err
}

// parseHeaderBlock reads the newer of the two copies. A torn rewrite leaves one of either use; neither copy being
// readable is damage, unless the block is blank. used is false for a file that was never taken into use.
func parseHeaderBlock(block []byte) (h fileHeader, used bool, err error) {
	a, errA := parseFileHeader(block)
	b, errB := parseFileHeader(block[headerCopyAt:])
	switch {
	case errA == nil && (errB != nil || a.lap >= b.lap):
		return a, true, nil
	case errB == nil:
		return b, true, nil
	case len(bytes.Trim(block, "\x00")) == 0:
		return h, false, nil
	}
	return h, false, errA
}

// journalFile is a journal file that is open.
type journalFile struct {
	name   string
	f      vfs.File
	direct bool // a write is durable when it returns
	fileHeader
}

func journalFileName(dir string, n int) string {
	return filepath.Join(dir, fmt.Sprintf("%04d%s", n, journalSuffix))
}

// listJournal opens all files of the journal directory and sorts them: used ones by lap, and blank ones. Files that a
// crash left half made are removed.
func (j *journal) listJournal(o Options) (used, blank []*journalFile, err error) {
	entries, err := j.fs.ReadDir(j.dir)
	if err != nil {
		return nil, nil, fmt.Errorf("list journal: %w", err)
	}
	for _, e := range entries {
		number, isJournal := strings.CutSuffix(e.Name(), journalSuffix)
		n, convErr := strconv.Atoi(number)
		if !isJournal || convErr != nil {
			continue
		}
		j.lastFile = max(j.lastFile, n)
		jf, inUse, err := j.openFile(filepath.Join(j.dir, e.Name()))
		switch {
		case err != nil:
			return nil, nil, err
		case inUse:
			used = append(used, jf)
		case jf.size == o.JournalFileBytes:
			blank = append(blank, jf)
		default:
			jf.f.Close()
			if err := j.fs.Remove(jf.name); err != nil {
				return nil, nil, fmt.Errorf("remove unfinished journal file: %w", err)
			}
		}
	}
	slices.SortFunc(used, func(a, b *journalFile) int {
		if a.lap < b.lap {
			return -1
		}
		return 1
	})
	return used, blank, nil
}

func (j *journal) openFile(name string) (jf *journalFile, used bool, err error) {
	jf = &journalFile{name: name}
	if j.buffered {
		jf.f, err = j.fs.OpenReadWrite(name)
	} else {
		jf.f, jf.direct, err = j.fs.OpenDirect(name)
	}
	if err != nil {
		return nil, false, fmt.Errorf("open journal file: %w", err)
	}
	fail := func(err error) (*journalFile, bool, error) {
		jf.f.Close()
		return nil, false, err
	}
	if jf.size, err = jf.f.Size(); err != nil {
		return fail(fmt.Errorf("open journal file: %w", err))
	}
	if jf.size < journalBlock {
		return jf, false, nil
	}
	block := vfs.AlignedBuffer(journalBlock)
	if _, err := jf.f.ReadAt(block, 0); err != nil {
		return fail(fmt.Errorf("read journal file header: %w", err))
	}
	size := jf.size
	h, used, err := parseHeaderBlock(block)
	if err != nil {
		return fail(fmt.Errorf("%s: %w: %w", name, err, ErrCorrupt))
	}
	if !used {
		return jf, false, nil
	}
	if h.disk != j.disk {
		return fail(damaged(name, 0, "journal file belongs to disk %x, this one is %x: files of two stores were mixed", h.disk, j.disk))
	}
	if h.size != size {
		return fail(damaged(name, size, "journal file has %d bytes, its header says %d", size, h.size))
	}
	jf.fileHeader = h
	j.identify(&jf.fileHeader)
	return jf, true, nil
}

// createFile makes a blank file whose blocks have all been written, so that overwriting them changes no metadata.
func (j *journal) createFile(size int64) (*journalFile, error) {
	j.lastFile++
	name := journalFileName(j.dir, j.lastFile)
	err := j.zeroFile(name, size)
	if err == nil {
		err = j.fs.SyncDir(j.dir)
	}
	if err != nil {
		if vfs.IsDiskFull(err) {
			j.fs.Remove(name)
		}
		return nil, fmt.Errorf("create journal file: %w", err)
	}
	jf, _, err := j.openFile(name)
	return jf, err
}

func (j *journal) zeroFile(name string, size int64) error {
	f, err := j.fs.Create(name)
	if err != nil {
		return err
	}
	err = f.Preallocate(0, size)
	if err == nil {
		err = j.writeZeros(f, name, size)
	}
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

// writeZeros fills the file past the page cache where it can: zeros in it would only push out what readers want.
func (j *journal) writeZeros(f vfs.File, name string, size int64) error {
	zeros := vfs.AlignedBuffer(int(min(size, 1<<20)))
	if !j.buffered {
		if df, direct, err := j.fs.OpenDirect(name); err == nil && direct {
			defer df.Close()
			f = df
		} else if err == nil {
			df.Close()
		}
	}
	for at := int64(0); at < size; at += int64(len(zeros)) {
		if _, err := f.WriteAt(zeros[:min(int64(len(zeros)), size-at)], at); err != nil {
			return err
		}
	}
	return nil
}

func newSalt() uint64 { return rand.Uint64() }

// chooseMode decides between direct, durable writes and buffered ones with fdatasync, by measuring both on a blank
// file. Files that no descriptor stands behind (tests) are taken at their word.
func (j *journal) chooseMode(jf *journalFile) error {
	if _, isReal := jf.f.Fd(); j.buffered || !jf.direct || !isReal {
		j.buffered = j.buffered || !jf.direct
		return nil
	}
	bf, err := j.fs.OpenReadWrite(jf.name)
	if err != nil {
		return fmt.Errorf("probe journal: %w", err)
	}
	defer bf.Close()
	slower, err := directIsSlower(jf.f, bf)
	if err != nil {
		return fmt.Errorf("probe journal: %w", err)
	}
	if slower {
		j.buffered = true
		return j.reopen(jf)
	}
	return nil
}

// directIsSlower writes blank blocks to a blank file in both ways by turns and compares the best time of each: whatever
// else the machine does makes single times longer, never shorter. A file that opened for direct writes but does not
// take them counts as slower.
func directIsSlower(direct, buffered vfs.File) (bool, error) {
	const rounds = 8
	block := vfs.AlignedBuffer(journalBlock)
	write := func(f vfs.File, round int64) (time.Duration, error) {
		start := time.Now()
		_, err := f.WriteAt(block, (1+round)*journalBlock)
		return time.Since(start), err
	}
	bestDirect, bestBuffered := time.Duration(math.MaxInt64), time.Duration(math.MaxInt64)
	for i := range int64(rounds) {
		took, err := write(direct, i)
		if err != nil {
			return true, nil
		}
		bestDirect = min(bestDirect, took)
		start := time.Now()
		if _, err := write(buffered, i); err != nil {
			return false, err
		}
		if err := buffered.Sync(); err != nil {
			return false, err
		}
		bestBuffered = min(bestBuffered, time.Since(start))
	}
	return bestDirect > bestBuffered+bestBuffered/4, nil
}

// reopen opens the file again after the mode has changed.
func (j *journal) reopen(jf *journalFile) error {
	if err := jf.f.Close(); err != nil {
		return err
	}
	again, _, err := j.openFile(jf.name)
	if err != nil {
		return err
	}
	*jf = *again
	return nil
}

func isNotExist(err error) bool { return errors.Is(err, fs.ErrNotExist) }
