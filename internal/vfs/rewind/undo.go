package rewind

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
)

const sector = 512

// Report says what Undo found and did.
type Report struct {
	Changes int // noted
	AtRisk  int // of these, those not synced
	Undone  int // of these, those taken back, at least in part
}

// Undo takes back changes under root that were noted in side and were not synced: each sector and each name survives
// with the probability keep (0 to 1). The recording process must be dead. The side directory is removed: the next
// process records anew.
func Undo(root, side string, keep float64, rng *rand.Rand) (Report, error) {
	list, err := readEntries(filepath.Join(side, changesFile))
	if err != nil {
		return Report{}, fmt.Errorf("undo changes: %w", err)
	}
	u := &undoer{side: side, keep: keep, rng: rng, sizes: map[uint64]int64{}, survivors: map[uint64]bool{}}
	if err := u.findFiles(root); err != nil {
		return Report{}, fmt.Errorf("undo changes: %w", err)
	}
	u.markDurable(list)
	if err := u.undo(list); err != nil {
		return u.report, fmt.Errorf("undo changes: %w", err)
	}
	return u.report, os.RemoveAll(side)
}

type undoer struct {
	side   string
	keep   float64
	rng    *rand.Rand
	report Report

	// By inode.
	files     map[uint64]string // a name that opens it
	sizes     map[uint64]int64  // how far something survives
	survivors map[uint64]bool   // some change that was not synced survives
}

// findFiles gives every inode, those of removed files among them, a name that stays while others are undone. Entries
// name inodes because a file may have been renamed since.
func (u *undoer) findFiles(root string) error {
	u.files = map[uint64]string{}
	dir := filepath.Join(u.side, "inodes")
	if err := os.Mkdir(dir, 0o750); err != nil {
		return err
	}
	for _, from := range []string{root, filepath.Join(u.side, keptDir)} {
		err := filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
			if err != nil || !d.Type().IsRegular() {
				return err
			}
			info, err := d.Info()
			if err != nil {
				return err
			}
			inode := inodeOf(info)
			if _, known := u.files[inode]; known {
				return nil
			}
			u.files[inode] = filepath.Join(dir, strconv.FormatUint(inode, 10))
			return os.Link(path, u.files[inode])
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// markDurable decides which changes cannot be lost any more.
func (u *undoer) markDurable(list []*entry) {
	files, dirs, all := map[uint64]uint64{}, map[string]uint64{}, uint64(0)
	for _, e := range list {
		switch e.kind {
		case syncedFile:
			files[e.inode] = max(files[e.inode], e.before)
		case syncedDir:
			dirs[e.path] = max(dirs[e.path], e.before)
		case syncedAll:
			all = max(all, e.before)
		}
	}
	for _, e := range list {
		switch e.kind {
		case wrote:
			e.durable = e.number < max(files[e.inode], all)
		case renamed:
			// Atomic: durable with either directory.
			e.durable = e.number < max(dirs[filepath.Dir(e.path)], dirs[filepath.Dir(e.from)], all)
		case created, removed, madeDir, removedDir:
			e.durable = e.number < max(dirs[filepath.Dir(e.path)], all)
		default:
			continue
		}
		u.report.Changes++
		if !e.durable {
			u.report.AtRisk++
		}
	}
}

// undo goes back in time. Names are lost from a random point on, as a journaling file system would lose them.
func (u *undoer) undo(list []*entry) error {
	var names []*entry
	for _, e := range list {
		if !e.durable && e.kind != wrote && e.kind < syncedFile {
			names = append(names, e)
		}
	}
	lost := map[*entry]bool{}
	survive := 0
	for survive < len(names) && u.rng.Float64() < u.keep {
		survive++
	}
	for _, e := range names[survive:] {
		lost[e] = true
	}
	for i := len(list) - 1; i >= 0; i-- {
		e := list[i]
		var err error
		switch {
		case e.kind == wrote && !e.durable:
			err = u.undoWrite(e)
		case lost[e]:
			u.report.Undone++
			err = u.undoName(e)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// undoWrite restores some sectors of a change. As the newest change comes first, what an older one restores over a newer
// one is a sector of which neither survived. A cut survives or not as a whole, and it does if anything after it did.
func (u *undoer) undoWrite(e *entry) error {
	name, ok := u.files[e.inode]
	if !ok {
		return nil // removed for good
	}
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	if e.cut {
		if u.survivors[e.inode] || u.rng.Float64() < u.keep {
			u.survivors[e.inode] = true
			return nil
		}
		u.report.Undone++
		_, err := f.WriteAt(e.data, e.offset)
		return err
	}
	info, err := f.Stat()
	if err != nil {
		return err
	}
	undone := false
	for at, stop := e.offset, e.offset+e.length; at < stop; {
		end := min(at/sector*sector+sector, stop)
		if u.rng.Float64() < u.keep {
			u.survivors[e.inode] = true
			u.sizes[e.inode] = max(u.sizes[e.inode], min(end, info.Size()))
		} else {
			undone = true
			old := make([]byte, end-at)
			if done := at - e.offset; done < int64(len(e.data)) {
				copy(old, e.data[done:])
			}
			if _, err := f.WriteAt(old, at); err != nil {
				return err
			}
		}
		at = end
	}
	if undone {
		u.report.Undone++
	}
	return f.Truncate(max(u.sizes[e.inode], e.size))
}

func (u *undoer) undoName(e *entry) error {
	kept := filepath.Join(u.side, keptDir, strconv.FormatUint(e.number, 10))
	var err error
	switch e.kind {
	case created, madeDir:
		err = os.Remove(e.path)
	case removedDir:
		err = os.Mkdir(e.path, 0o750)
	case removed:
		err = os.Link(kept, e.path)
	case renamed:
		if err = os.Rename(e.path, e.from); err == nil && e.replaced {
			err = os.Link(kept, e.path)
		}
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil // its directory is gone, or the change was noted and never made
	}
	return err
}
