package vfs

import (
	"errors"
	"io/fs"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
)

// ErrCrashed is the error of every operation on a Mem whose crash has come (see [Mem.CrashAt]).
var ErrCrashed = errors.New("simulated crash")

const (
	sectorSize = 512  // what a disk writes whole or not at all
	blockSize  = 4096 // what the file system hands out
)

// MemOptions are the properties of a Mem. The zero value is an unlimited disk that accepts direct writes.
type MemOptions struct {
	// Capacity is the size of the disk in bytes, 0 = unlimited. Files use whole blocks of 4 KiB; holes use none.
	Capacity int64
	// NoDirect makes OpenDirect fall back, as on a file system without O_DIRECT.
	NoDirect bool
}

// Mem is a crashable file system in memory. See the package documentation for what it considers durable, and Crash,
// CrashAt, FailAt, SetFault, SetDuring, SetCapacity and FlipBit for what can be done to it. Safe for concurrent use.
type Mem struct {
	noDirect bool
	faults   faults

	mu       sync.RWMutex
	root     *node
	seq      uint64 // orders changes over the whole file system
	capacity int64
	used     int64 // bytes in blocks of files that have a name or a handle
}

// node is a file or directory. All fields are guarded by Mem.mu.
type node struct {
	dir bool

	// Files: data is what readers see, durable what the disk has, pending the changes between the two, in order.
	data, durable []byte
	pending       []*change
	blocks        map[int64]struct{} // allocated blocks
	handles       int
	linked        bool
	exclusive     bool // flock
	shared        int

	// Directories: the same for names.
	entries, durableEntries map[string]*node
	pendingNames            []*nameChange
}

// nameChange is one change of a directory, or of two for a rename between directories.
type nameChange struct {
	seq      uint64
	from     *node // directory that loses fromName, nil for a new file
	fromName string
	to       *node // directory in which toName becomes target, nil for a removal
	toName   string
	target   *node
}

// NewMem returns an empty Mem.
func NewMem(o MemOptions) *Mem {
	return &Mem{noDirect: o.NoDirect, capacity: o.Capacity, root: newDir()}
}

func newDir() *node {
	return &node{dir: true, linked: true, entries: map[string]*node{}, durableEntries: map[string]*node{}}
}

func pathError(op, name string, err error) error {
	return &fs.PathError{Op: op, Path: name, Err: err}
}

func split(name string) []string {
	clean := filepath.ToSlash(filepath.Clean("/" + filepath.ToSlash(name)))
	if clean == "/" {
		return nil
	}
	return strings.Split(clean[1:], "/")
}

// find returns the node of name, or nil with the reason.
func (m *Mem) find(name string) (*node, error) {
	n := m.root
	for _, part := range split(name) {
		if !n.dir {
			return nil, syscall.ENOTDIR
		}
		next, ok := n.entries[part]
		if !ok {
			return nil, fs.ErrNotExist
		}
		n = next
	}
	return n, nil
}

// parent returns the directory of name and the last element.
func (m *Mem) parent(name string) (*node, string, error) {
	parts := split(name)
	if len(parts) == 0 {
		return nil, "", fs.ErrInvalid
	}
	dir, err := m.find(strings.Join(parts[:len(parts)-1], "/"))
	if err != nil {
		return nil, "", err
	}
	if !dir.dir {
		return nil, "", syscall.ENOTDIR
	}
	return dir, parts[len(parts)-1], nil
}

// change records a name change and applies it to what is seen now.
func (m *Mem) changeName(c *nameChange) {
	m.seq++
	c.seq = m.seq
	if c.from != nil {
		c.from.pendingNames = append(c.from.pendingNames, c)
	}
	if c.to != nil && c.to != c.from {
		c.to.pendingNames = append(c.to.pendingNames, c)
	}
	var replaced *node
	if c.to != nil {
		replaced = c.to.entries[c.toName]
	} else {
		replaced = c.from.entries[c.fromName]
	}
	c.apply(func(d *node) map[string]*node { return d.entries })
	if replaced != nil && replaced != c.target {
		replaced.linked = false
		m.release(replaced)
	}
}

func (c *nameChange) apply(entries func(dir *node) map[string]*node) {
	if c.from != nil {
		delete(entries(c.from), c.fromName)
	}
	if c.to != nil {
		entries(c.to)[c.toName] = c.target
	}
}

// release gives a file's blocks back when nothing refers to it any more.
func (m *Mem) release(n *node) {
	if !n.linked && n.handles == 0 {
		m.used -= int64(len(n.blocks)) * blockSize
		n.blocks = nil
	}
}

func (m *Mem) open(op Op, name string, create, write bool) (*memFile, error) {
	if err := m.begin(op, name); err != nil {
		return nil, pathError("open", name, err)
	}
	m.mu.Lock()
	f, err := m.openLocked(name, create, write)
	m.mu.Unlock()
	if err == nil && create {
		err = m.during(op, name)
	}
	if err != nil {
		return nil, pathError("open", name, err)
	}
	return f, nil
}

func (m *Mem) openLocked(name string, create, write bool) (*memFile, error) {
	dir, base, err := m.parent(name)
	if err != nil {
		return nil, err
	}
	n, ok := dir.entries[base]
	switch {
	case ok && n.dir:
		return nil, syscall.EISDIR
	case !ok && !create:
		return nil, fs.ErrNotExist
	case !ok:
		n = &node{linked: true, blocks: map[int64]struct{}{}}
		m.changeName(&nameChange{to: dir, toName: base, target: n})
	case create && len(n.data) > 0:
		m.truncate(n, 0).inFlight = false
	}
	n.handles++
	return &memFile{fs: m, node: n, name: name, write: write}, nil
}

// Create implements FS.
func (m *Mem) Create(name string) (File, error) { return opened(m.open(OpCreate, name, true, true)) }

// Open implements FS.
func (m *Mem) Open(name string) (File, error) { return opened(m.open(OpOpen, name, false, false)) }

// OpenReadWrite implements FS.
func (m *Mem) OpenReadWrite(name string) (File, error) {
	return opened(m.open(OpOpen, name, false, true))
}

// OpenDirect implements FS.
func (m *Mem) OpenDirect(name string) (File, bool, error) {
	f, err := m.open(OpOpen, name, false, true)
	if err != nil {
		return nil, false, err
	}
	f.direct = !m.noDirect
	return f, f.direct, nil
}

func opened(f *memFile, err error) (File, error) {
	if err != nil {
		return nil, err
	}
	return f, nil
}

// Remove implements FS.
func (m *Mem) Remove(name string) error {
	return m.changing(OpRemove, name, func() error {
		dir, base, err := m.parent(name)
		if err != nil {
			return err
		}
		n, ok := dir.entries[base]
		if !ok {
			return fs.ErrNotExist
		}
		if n.dir && len(n.entries) > 0 {
			return syscall.ENOTEMPTY
		}
		m.changeName(&nameChange{from: dir, fromName: base})
		return nil
	})
}

// RemoveAll implements FS. It is many changes for a crash, but one operation for the counters.
func (m *Mem) RemoveAll(name string) error {
	return m.changing(OpRemove, name, func() error {
		dir, base, err := m.parent(name)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		if n, ok := dir.entries[base]; ok {
			m.removeTree(dir, base, n)
		}
		return nil
	})
}

func (m *Mem) removeTree(dir *node, base string, n *node) {
	for _, child := range slices.Sorted(maps.Keys(n.entries)) {
		m.removeTree(n, child, n.entries[child])
	}
	m.changeName(&nameChange{from: dir, fromName: base})
}

// Rename implements FS.
func (m *Mem) Rename(from, to string) error {
	return m.changing(OpRename, from, func() error {
		fromDir, fromBase, err := m.parent(from)
		if err != nil {
			return err
		}
		toDir, toBase, err := m.parent(to)
		if err != nil {
			return err
		}
		n, ok := fromDir.entries[fromBase]
		if !ok {
			return fs.ErrNotExist
		}
		if n.dir && len(split(to)) > len(split(from)) && slices.Equal(split(to)[:len(split(from))], split(from)) {
			return syscall.EINVAL // into itself
		}
		if old, ok := toDir.entries[toBase]; ok {
			switch {
			case old.dir:
				return fs.ErrExist // as os.Rename, which does not replace directories
			case n.dir:
				return syscall.ENOTDIR
			case old == n:
				return nil
			}
		}
		m.changeName(&nameChange{from: fromDir, fromName: fromBase, to: toDir, toName: toBase, target: n})
		return nil
	})
}

// MkdirAll implements FS.
func (m *Mem) MkdirAll(dir string) error {
	m.mu.RLock()
	n, err := m.find(dir)
	m.mu.RUnlock()
	if err == nil && n.dir {
		return nil // nothing to do is no operation, lest the counters depend on how often it is called
	}
	return m.changing(OpMkdir, dir, func() error {
		n := m.root
		for _, part := range split(dir) {
			next, ok := n.entries[part]
			if !ok {
				next = newDir()
				m.changeName(&nameChange{to: n, toName: part, target: next})
			}
			if !next.dir {
				return syscall.ENOTDIR
			}
			n = next
		}
		return nil
	})
}

// changing runs an operation on names with its faults around it.
func (m *Mem) changing(op Op, name string, change func() error) error {
	err := m.begin(op, name)
	if err == nil {
		m.mu.Lock()
		err = change()
		m.mu.Unlock()
	}
	if err == nil {
		err = m.during(op, name)
	}
	if err != nil {
		return pathError(op.String(), name, err)
	}
	return nil
}

// ReadDir implements FS.
func (m *Mem) ReadDir(dir string) ([]fs.DirEntry, error) {
	if err := m.begin(OpRead, dir); err != nil {
		return nil, pathError("readdir", dir, err)
	}
	m.mu.RLock()
	defer m.mu.RUnlock()
	n, err := m.find(dir)
	if err == nil && !n.dir {
		err = syscall.ENOTDIR
	}
	if err != nil {
		return nil, pathError("readdir", dir, err)
	}
	var list []fs.DirEntry
	for _, name := range slices.Sorted(maps.Keys(n.entries)) {
		list = append(list, fs.FileInfoToDirEntry(n.entries[name].info(name)))
	}
	return list, nil
}

// Stat implements FS.
func (m *Mem) Stat(name string) (fs.FileInfo, error) {
	if err := m.begin(OpRead, name); err != nil {
		return nil, pathError("stat", name, err)
	}
	m.mu.RLock()
	defer m.mu.RUnlock()
	n, err := m.find(name)
	if err != nil {
		return nil, pathError("stat", name, err)
	}
	return n.info(filepath.Base(name)), nil
}

// SyncDir implements FS.
func (m *Mem) SyncDir(dir string) error {
	err := m.begin(OpSyncDir, dir)
	var n *node
	if err == nil {
		m.mu.RLock()
		n, err = m.find(dir)
		m.mu.RUnlock()
	}
	if err == nil && !n.dir {
		err = syscall.ENOTDIR
	}
	if err == nil {
		err = m.during(OpSyncDir, dir)
	}
	if err != nil {
		return pathError("sync", dir, err)
	}
	m.mu.Lock()
	m.syncNames(n, m.seq)
	m.mu.Unlock()
	return nil
}

// syncNames makes the changes of a directory up to and with seq durable. A rename that another directory takes part
// in drags that one's earlier changes along: it must not survive by half.
func (m *Mem) syncNames(dir *node, seq uint64) {
	for len(dir.pendingNames) > 0 && dir.pendingNames[0].seq <= seq {
		c := dir.pendingNames[0]
		for _, other := range []*node{c.from, c.to} {
			if other != nil && other != dir {
				m.syncNames(other, c.seq-1)
				if len(other.pendingNames) > 0 && other.pendingNames[0] == c {
					other.pendingNames = other.pendingNames[1:]
				}
			}
		}
		dir.pendingNames = dir.pendingNames[1:]
		c.apply(func(d *node) map[string]*node { return d.durableEntries })
	}
}

// SyncFS implements FS.
func (m *Mem) SyncFS(dir string) error {
	err := m.begin(OpSyncFS, dir)
	m.mu.RLock()
	seq := m.seq
	if err == nil {
		_, err = m.find(dir)
	}
	m.mu.RUnlock()
	if err == nil {
		err = m.during(OpSyncFS, dir)
	}
	if err != nil {
		return pathError("syncfs", dir, err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.walk(m.root, func(n *node) {
		if n.dir {
			m.syncNames(n, seq)
		} else {
			n.sync(seq)
		}
	})
	return nil
}

func (m *Mem) walk(n *node, visit func(*node)) {
	visit(n)
	for _, child := range n.entries {
		m.walk(child, visit)
	}
}

// Free implements FS. An unlimited disk says 1 TiB.
func (m *Mem) Free(dir string) (free, total uint64, err error) {
	if err := m.begin(OpRead, dir); err != nil {
		return 0, 0, pathError("statfs", dir, err)
	}
	m.mu.RLock()
	defer m.mu.RUnlock()
	if _, err := m.find(dir); err != nil {
		return 0, 0, pathError("statfs", dir, err)
	}
	if m.capacity == 0 {
		return 1 << 40, 1 << 40, nil
	}
	return uint64(max(0, m.capacity-m.used)), uint64(m.capacity), nil
}
