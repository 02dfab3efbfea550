package vfs

import (
	"errors"
	"io"
	"io/fs"
	"sync"
	"time"
)

// Lock implements FS. A crash releases it, as the end of a process does.
func (m *Mem) Lock(name string) (io.Closer, error) {
	m.mu.RLock()
	_, err := m.find(name)
	m.mu.RUnlock()
	op := OpOpen
	if errors.Is(err, fs.ErrNotExist) {
		op = OpCreate
	}
	return m.lock(op, name, true)
}

// LockShared implements FS.
func (m *Mem) LockShared(name string) (io.Closer, error) { return m.lock(OpOpen, name, false) }

func (m *Mem) lock(op Op, name string, exclusive bool) (io.Closer, error) {
	if err := m.begin(op, name); err != nil {
		return nil, pathError("lock", name, err)
	}
	m.mu.Lock()
	n, err := m.find(name)
	if err != nil && op == OpCreate {
		var f *memFile
		if f, err = m.openLocked(name, true, true); err == nil {
			n = f.node
			n.handles--
		}
	}
	switch {
	case err != nil:
	case n.exclusive || exclusive && n.shared > 0:
		err = ErrLocked
	case exclusive:
		n.exclusive = true
	default:
		n.shared++
	}
	m.mu.Unlock()
	if err == nil && op == OpCreate {
		err = m.during(op, name)
	}
	if err != nil {
		return nil, pathError("lock", name, err)
	}
	return &memLock{fs: m, node: n, exclusive: exclusive}, nil
}

type memLock struct {
	fs        *Mem
	node      *node
	exclusive bool
	once      sync.Once
}

func (l *memLock) Close() error {
	l.once.Do(func() {
		l.fs.mu.Lock()
		defer l.fs.mu.Unlock()
		if l.exclusive {
			l.node.exclusive = false
		} else {
			l.node.shared--
		}
	})
	return nil
}

type memInfo struct {
	name string
	size int64
	dir  bool
}

func (n *node) info(name string) fs.FileInfo {
	return memInfo{name: name, size: int64(len(n.data)), dir: n.dir}
}

func (i memInfo) Name() string       { return i.name }
func (i memInfo) Size() int64        { return i.size }
func (i memInfo) IsDir() bool        { return i.dir }
func (i memInfo) ModTime() time.Time { return time.Time{} }
func (i memInfo) Sys() any           { return nil }
func (i memInfo) Mode() fs.FileMode {
	if i.dir {
		return fs.ModeDir | 0o750
	}
	return 0o640
}
