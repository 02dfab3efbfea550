package rewind

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"

	"github.com/sequitur-mq/sequitur/internal/vfs"
)

// Record wraps the real file system so that changes can be undone. side is a directory on the same file system as the
// data, outside of it; it is made if missing and must be empty.
func Record(side string) (vfs.FS, error) {
	if err := os.MkdirAll(filepath.Join(side, keptDir), 0o750); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(filepath.Join(side, changesFile), os.O_WRONLY|os.O_CREATE|os.O_EXCL|os.O_APPEND, 0o640)
	if err != nil {
		return nil, fmt.Errorf("record changes: %w", err)
	}
	return &recorder{FS: vfs.OS(), side: side, out: f}, nil
}

const (
	changesFile = "changes"
	keptDir     = "kept"
)

// recorder is the file system that notes its changes. The mutex makes note and change one step, so that the notes are
// in the order of the changes.
type recorder struct {
	vfs.FS
	side string

	mu   sync.Mutex
	out  *os.File
	next uint64 // number of the next entry
	buf  bytes.Buffer
}

// note appends an entry and returns its number. The caller holds mu.
func (r *recorder) note(e entry) (uint64, error) {
	r.buf.Reset()
	e.appendTo(&r.buf)
	if _, err := r.out.Write(r.buf.Bytes()); err != nil {
		return 0, fmt.Errorf("record changes: %w", err)
	}
	r.next++
	return r.next - 1, nil
}

// synced runs a sync and notes that what came before it cannot be lost any more.
func (r *recorder) synced(kind kind, path string, inode uint64, run func() error) error {
	r.mu.Lock()
	before := r.next
	r.mu.Unlock()
	if err := run(); err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	_, err := r.note(entry{kind: kind, path: path, inode: inode, before: before})
	return err
}

func inodeOf(info fs.FileInfo) uint64 { return info.Sys().(*syscall.Stat_t).Ino }

// keep links a file into the side directory under the number of the entry that is noted next. The caller holds mu.
func (r *recorder) keep(name string) error {
	return os.Link(name, filepath.Join(r.side, keptDir, strconv.FormatUint(r.next, 10)))
}

func (r *recorder) Create(name string) (vfs.File, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	name = absolute(name)
	old, err := os.ReadFile(name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		f, err := r.FS.Create(name)
		if err != nil {
			return nil, err
		}
		wrapped, err := r.wrap(f)
		if err != nil {
			return nil, err
		}
		_, err = r.note(entry{kind: created, path: name, inode: wrapped.inode})
		return wrapped, err
	case err != nil:
		return nil, err
	}
	f, err := r.FS.OpenReadWrite(name)
	if err != nil {
		return nil, err
	}
	wrapped, err := r.wrap(f)
	if err != nil {
		return nil, err
	}
	if _, err := r.note(entry{kind: wrote, cut: true, inode: wrapped.inode, size: int64(len(old)), length: int64(len(old)), data: old}); err != nil {
		return nil, err
	}
	return wrapped, f.Truncate(0)
}

func (r *recorder) OpenReadWrite(name string) (vfs.File, error) {
	f, err := r.FS.OpenReadWrite(name)
	if err != nil {
		return nil, err
	}
	return r.wrap(f)
}

func (r *recorder) OpenDirect(name string) (vfs.File, bool, error) {
	f, direct, err := r.FS.OpenDirect(name)
	if err != nil || direct {
		return f, direct, err
	}
	wrapped, err := r.wrap(f)
	return wrapped, false, err
}

func (r *recorder) wrap(f vfs.File) (*file, error) {
	info, err := f.OSFile().Stat()
	if err != nil {
		return nil, err
	}
	return &file{File: f, r: r, inode: inodeOf(info)}, nil
}

func (r *recorder) Remove(name string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	name = absolute(name)
	info, err := os.Lstat(name)
	if err != nil {
		return err
	}
	if info.IsDir() {
		if err := r.FS.Remove(name); err != nil {
			return err
		}
		_, err := r.note(entry{kind: removedDir, path: name})
		return err
	}
	if err := r.keep(name); err != nil {
		return err
	}
	if _, err := r.note(entry{kind: removed, path: name, inode: inodeOf(info)}); err != nil {
		return err
	}
	return r.FS.Remove(name)
}

func (r *recorder) RemoveAll(name string) error {
	var list []string
	err := filepath.WalkDir(absolute(name), func(path string, _ fs.DirEntry, err error) error {
		list = append(list, path)
		return err
	})
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	for i := len(list) - 1; i >= 0 && err == nil; i-- {
		err = r.Remove(list[i])
	}
	return err
}

func (r *recorder) Rename(from, to string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	from, to = absolute(from), absolute(to)
	e := entry{kind: renamed, path: to, from: from}
	if info, err := os.Lstat(to); err == nil && !info.IsDir() {
		if err := r.keep(to); err != nil {
			return err
		}
		e.replaced = true
	}
	if _, err := r.note(e); err != nil {
		return err
	}
	return r.FS.Rename(from, to)
}

func (r *recorder) MkdirAll(dir string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	var missing []string
	for d := absolute(dir); ; d = filepath.Dir(d) {
		if _, err := os.Lstat(d); !errors.Is(err, fs.ErrNotExist) {
			break
		}
		missing = append(missing, d)
	}
	for i := len(missing) - 1; i >= 0; i-- {
		if err := r.FS.MkdirAll(missing[i]); err != nil {
			return err
		}
		if _, err := r.note(entry{kind: madeDir, path: missing[i]}); err != nil {
			return err
		}
	}
	return nil
}

func (r *recorder) SyncDir(dir string) error {
	return r.synced(syncedDir, absolute(dir), 0, func() error { return r.FS.SyncDir(dir) })
}

func (r *recorder) SyncFS(dir string) error {
	return r.synced(syncedAll, "", 0, func() error { return r.FS.SyncFS(dir) })
}

func (r *recorder) Lock(name string) (io.Closer, error) { return r.FS.Lock(name) }

// absolute is the path under which a name is noted.
func absolute(name string) string {
	if abs, err := filepath.Abs(name); err == nil {
		return abs
	}
	return name
}

// file is an open file whose changes are noted.
type file struct {
	vfs.File
	r     *recorder
	inode uint64
}

// change notes what [off, off+n) holds, and the size, before run changes them.
func (f *file) change(off, n int64, cut bool, run func() error) error {
	f.r.mu.Lock()
	defer f.r.mu.Unlock()
	size, err := f.File.Size()
	if err != nil {
		return err
	}
	e := entry{kind: wrote, cut: cut, inode: f.inode, size: size, offset: off, length: n}
	if there := min(n, size-off); there > 0 {
		e.data = make([]byte, there)
		if _, err := f.File.ReadAt(e.data, off); err != nil && err != io.EOF {
			return err
		}
	}
	if _, err := f.r.note(e); err != nil {
		return err
	}
	return run()
}

func (f *file) WriteAt(b []byte, off int64) (n int, err error) {
	err = f.change(off, int64(len(b)), false, func() error {
		n, err = f.File.WriteAt(b, off)
		return err
	})
	return n, err
}

func (f *file) Truncate(size int64) error {
	now, err := f.File.Size()
	if err != nil {
		return err
	}
	return f.change(min(size, now), max(size, now)-min(size, now), size < now, func() error { return f.File.Truncate(size) })
}

func (f *file) Preallocate(off, n int64) error {
	size, err := f.File.Size()
	if err != nil {
		return err
	}
	return f.change(size, max(0, off+n-size), false, func() error { return f.File.Preallocate(off, n) })
}

func (f *file) Sync() error { return f.r.synced(syncedFile, "", f.inode, f.File.Sync) }
