package vfs

import (
	"errors"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
)

// Overlay is a view of another file system on which everything can be done and nothing of which reaches that one:
// writes stay in memory, in pages of 4 KiB. The checker runs recovery on it, to judge what a start would make of a
// directory without touching it. The file system below must not change meanwhile. Locks are not taken. Safe for concurrent use.
type Overlay struct {
	base FS

	mu    sync.Mutex
	files map[string]*layer // changed, new or renamed files
	dirs  map[string]bool   // new directories
	gone  map[string]bool   // what lies here or below in base is hidden
}

// layer is a file with its changes.
type layer struct {
	base     string // its name in the file system below, empty if there is nothing
	baseSize int64  // so much of it still shows
	size     int64
	pages    map[int64][]byte
	written  int64
}

// NewOverlay returns an unchanged view of base.
func NewOverlay(base FS) *Overlay {
	return &Overlay{base: base, files: map[string]*layer{}, dirs: map[string]bool{}, gone: map[string]bool{}}
}

// OverlayChange is what was done to a file.
type OverlayChange struct {
	Name    string
	Size    int64 // now
	Was     int64 // in the file system below, -1 if the file is new
	Written int64 // bytes
}

// Changes lists the files that were written or resized, and the names removed, sorted.
func (o *Overlay) Changes() (changed []OverlayChange, removed []string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, name := range slices.Sorted(maps.Keys(o.files)) {
		l := o.files[name]
		c := OverlayChange{Name: name, Size: l.size, Was: -1, Written: l.written}
		if info, err := o.base.Stat(name); err == nil {
			c.Was = info.Size()
		}
		if l.written > 0 || c.Was != c.Size {
			changed = append(changed, c)
		}
	}
	return changed, slices.Sorted(maps.Keys(o.gone))
}

func clean(name string) string { return filepath.Clean(name) }

// hidden reports whether what base has under name no longer shows. The caller holds mu, as for all below.
func (o *Overlay) hidden(name string) bool {
	for {
		if o.gone[name] {
			return true
		}
		up := filepath.Dir(name)
		if up == name {
			return false
		}
		name = up
	}
}

// stat returns the layer of a changed file, or what base says.
func (o *Overlay) stat(name string) (*layer, fs.FileInfo, error) {
	if l, ok := o.files[name]; ok {
		return l, memInfo{name: filepath.Base(name), size: l.size}, nil
	}
	if o.dirs[name] {
		return nil, memInfo{name: filepath.Base(name), dir: true}, nil
	}
	if up := filepath.Dir(name); up != name {
		_, info, err := o.stat(up)
		if err != nil {
			return nil, nil, err
		}
		if !info.IsDir() {
			return nil, nil, syscall.ENOTDIR
		}
	}
	if o.hidden(name) {
		return nil, nil, fs.ErrNotExist
	}
	info, err := o.base.Stat(name)
	return nil, info, err
}

func (o *Overlay) parentIsDir(name string) error {
	_, info, err := o.stat(filepath.Dir(name))
	if err == nil && !info.IsDir() {
		err = syscall.ENOTDIR
	}
	return err
}

// layerOf is the layer of a file, made if it has none yet.
func (o *Overlay) layerOf(name string) (*layer, error) {
	l, info, err := o.stat(name)
	switch {
	case err != nil:
		return nil, err
	case info.IsDir():
		return nil, syscall.EISDIR
	case l == nil:
		l = &layer{base: name, baseSize: info.Size(), size: info.Size(), pages: map[int64][]byte{}}
		o.files[name] = l
	}
	return l, nil
}

func (o *Overlay) openLayer(name string, create bool) (File, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	key := clean(name)
	l, err := o.layerOf(key)
	if create && errors.Is(err, fs.ErrNotExist) {
		if err = o.parentIsDir(key); err == nil {
			l = &layer{pages: map[int64][]byte{}}
			o.files[key] = l
		}
	} else if create && err == nil {
		l.truncate(0)
	}
	if err != nil {
		return nil, pathError("open", name, cause(err))
	}
	f := &overlayFile{fs: o, layer: l, name: name}
	if l.base != "" {
		if f.below, err = o.base.Open(l.base); err != nil {
			return nil, err
		}
	}
	return f, nil
}

// cause strips the path of an error from below, which is about the same name.
func cause(err error) error {
	var pe *fs.PathError
	if errors.As(err, &pe) {
		return pe.Err
	}
	return err
}

// Create implements FS.
func (o *Overlay) Create(name string) (File, error) { return o.openLayer(name, true) }

// Open implements FS.
func (o *Overlay) Open(name string) (File, error) { return o.openLayer(name, false) }

// OpenReadWrite implements FS.
func (o *Overlay) OpenReadWrite(name string) (File, error) { return o.openLayer(name, false) }

// OpenDirect implements FS; it is never direct.
func (o *Overlay) OpenDirect(name string) (File, bool, error) {
	f, err := o.openLayer(name, false)
	return f, false, err
}

// Remove implements FS.
func (o *Overlay) Remove(name string) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	key := clean(name)
	_, info, err := o.stat(key)
	if err == nil && info.IsDir() {
		var list []fs.DirEntry
		if list, err = o.list(key); err == nil && len(list) > 0 {
			err = syscall.ENOTEMPTY
		}
	}
	if err != nil {
		return pathError("remove", name, cause(err))
	}
	o.drop(key)
	return nil
}

func (o *Overlay) drop(name string) {
	delete(o.files, name)
	delete(o.dirs, name)
	o.gone[name] = true
}

// RemoveAll implements FS.
func (o *Overlay) RemoveAll(name string) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	key := clean(name)
	if _, _, err := o.stat(key); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return pathError("remove", name, cause(err))
	}
	below := func(n string) bool { return strings.HasPrefix(n, key+string(filepath.Separator)) }
	maps.DeleteFunc(o.files, func(n string, _ *layer) bool { return below(n) })
	maps.DeleteFunc(o.dirs, func(n string, _ bool) bool { return below(n) })
	o.drop(key)
	return nil
}

// Rename implements FS, for files only.
func (o *Overlay) Rename(from, to string) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	source, target := clean(from), clean(to)
	if err := o.parentIsDir(source); err != nil {
		return pathError("rename", from, cause(err))
	}
	if err := o.parentIsDir(target); err != nil {
		return pathError("rename", from, cause(err))
	}
	l, err := o.layerOf(source)
	if err == nil {
		if _, info, statErr := o.stat(target); statErr == nil && info.IsDir() {
			err = fs.ErrExist
		}
	}
	if err != nil {
		return pathError("rename", from, cause(err))
	}
	if source != target {
		o.drop(source)
		o.files[target] = l
	}
	return nil
}

// MkdirAll implements FS.
func (o *Overlay) MkdirAll(dir string) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	var missing []string
	for key := clean(dir); ; key = filepath.Dir(key) {
		_, info, err := o.stat(key)
		if err == nil && !info.IsDir() {
			err = syscall.ENOTDIR
		} else if err == nil {
			break
		}
		if !errors.Is(err, fs.ErrNotExist) || filepath.Dir(key) == key {
			return pathError("mkdir", dir, cause(err))
		}
		missing = append(missing, key)
	}
	for _, key := range missing {
		o.dirs[key] = true
	}
	return nil
}

// ReadDir implements FS.
func (o *Overlay) ReadDir(dir string) ([]fs.DirEntry, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	list, err := o.list(clean(dir))
	if err != nil {
		return nil, pathError("readdir", dir, cause(err))
	}
	return list, nil
}

func (o *Overlay) list(dir string) ([]fs.DirEntry, error) {
	_, info, err := o.stat(dir)
	if err != nil {
		return nil, err
	}
	if !info.IsDir() {
		return nil, syscall.ENOTDIR
	}
	found := map[string]fs.DirEntry{}
	if !o.hidden(dir) {
		below, err := o.base.ReadDir(dir)
		if err != nil && !o.dirs[dir] {
			return nil, err
		}
		for _, e := range below {
			if !o.gone[filepath.Join(dir, e.Name())] {
				found[e.Name()] = e
			}
		}
	}
	for name, l := range o.files {
		if filepath.Dir(name) == dir {
			found[filepath.Base(name)] = fs.FileInfoToDirEntry(memInfo{name: filepath.Base(name), size: l.size})
		}
	}
	for name := range o.dirs {
		if filepath.Dir(name) == dir {
			found[filepath.Base(name)] = fs.FileInfoToDirEntry(memInfo{name: filepath.Base(name), dir: true})
		}
	}
	list := make([]fs.DirEntry, 0, len(found))
	for _, name := range slices.Sorted(maps.Keys(found)) {
		list = append(list, found[name])
	}
	return list, nil
}

// Stat implements FS.
func (o *Overlay) Stat(name string) (fs.FileInfo, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	_, info, err := o.stat(clean(name))
	if err != nil {
		return nil, pathError("stat", name, cause(err))
	}
	return info, nil
}

// SyncDir implements FS; there is nothing to sync.
func (o *Overlay) SyncDir(dir string) error { _, err := o.Stat(dir); return err }

// SyncFS implements FS; there is nothing to sync.
func (o *Overlay) SyncFS(dir string) error { return o.SyncDir(dir) }

// Free implements FS with what the file system below says.
func (o *Overlay) Free(dir string) (free, total uint64, err error) { return o.base.Free(dir) }

// Lock implements FS without locking anything: changes go nowhere.
func (o *Overlay) Lock(string) (io.Closer, error) { return io.NopCloser(nil), nil }

// LockShared implements FS without locking anything.
func (o *Overlay) LockShared(string) (io.Closer, error) { return io.NopCloser(nil), nil }

func (l *layer) truncate(size int64) {
	l.baseSize = min(l.baseSize, size)
	for at, page := range l.pages {
		switch {
		case at >= size:
			delete(l.pages, at)
		case at+blockSize > size:
			clear(page[size-at:])
		}
	}
	l.size = size
}

type overlayFile struct {
	fs    *Overlay
	layer *layer
	name  string
	below File // nil if the file is new
}

func (f *overlayFile) Name() string                      { return f.name }
func (f *overlayFile) Fd() (uintptr, bool)               { return 0, false }
func (f *overlayFile) OSFile() *os.File                  { return nil }
func (f *overlayFile) Sync() error                       { return nil }
func (f *overlayFile) StartWriteback(int64, int64) error { return nil }

func (f *overlayFile) Close() error {
	if f.below != nil {
		return f.below.Close()
	}
	return nil
}

func (f *overlayFile) Size() (int64, error) {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	return f.layer.size, nil
}

func (f *overlayFile) Truncate(size int64) error {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	f.layer.truncate(size)
	return nil
}

func (f *overlayFile) Preallocate(off, n int64) error {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	f.layer.truncate(max(f.layer.size, off+n))
	return nil
}

func (f *overlayFile) ReadAt(p []byte, off int64) (int, error) {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	if off < 0 {
		return 0, pathError("read", f.name, fs.ErrInvalid)
	}
	n := int(min(int64(len(p)), max(0, f.layer.size-off)))
	if err := f.readBelow(p[:n], off); err != nil {
		return 0, err
	}
	for at := off / blockSize * blockSize; at < off+int64(n) && len(f.layer.pages) > 0; at += blockSize {
		if page := f.layer.pages[at]; page != nil {
			from := max(at, off)
			copy(p[from-off:n], page[from-at:])
		}
	}
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// readBelow fills p with what the file system below has there, zeros elsewhere.
func (f *overlayFile) readBelow(p []byte, off int64) error {
	have := int64(0)
	if f.below != nil {
		have = min(int64(len(p)), max(0, f.layer.baseSize-off))
	}
	clear(p[have:])
	if have == 0 {
		return nil
	}
	n, err := f.below.ReadAt(p[:have], off)
	if int64(n) == have {
		return nil
	}
	if err == nil || errors.Is(err, io.EOF) {
		err = pathError("read", f.name, io.ErrUnexpectedEOF) // it shrank
	}
	return err
}

func (f *overlayFile) WriteAt(p []byte, off int64) (int, error) {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	if off < 0 {
		return 0, pathError("write", f.name, fs.ErrInvalid)
	}
	l := f.layer
	for done := 0; done < len(p); {
		at := (off + int64(done)) / blockSize * blockSize
		page := l.pages[at]
		if page == nil {
			page = make([]byte, blockSize)
			if err := f.readBelow(page, at); err != nil {
				return done, err
			}
			l.pages[at] = page
		}
		done += copy(page[off+int64(done)-at:], p[done:])
	}
	if len(p) > 0 {
		l.size = max(l.size, off+int64(len(p)))
		l.written += int64(len(p))
	}
	return len(p), nil
}
