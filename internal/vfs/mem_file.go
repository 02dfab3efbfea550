package vfs

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"slices"
	"syscall"
	"unsafe"
)

// change is one not yet durable change of a file: a write (whole sectors as they were after it) or a new size.
type change struct {
	seq      uint64
	resize   bool
	size     int64 // of the file after the change
	off      int64 // of image, a multiple of the sector size
	image    []byte
	before   []byte // what the sectors held before, shorter if the file was
	sizeWas  int64
	inFlight bool // the call that makes it has not returned
}

func (c *change) sectors() int { return (len(c.image) + sectorSize - 1) / sectorSize }

// applySector puts the i-th sector of a write into d and returns d, grown as needed. What the sector holds past the end
// of a shorter file are zeros, also where d is longer: sectors are written whole.
func (c *change) applySector(d []byte, i int) []byte {
	lo := int64(i * sectorSize)
	hi := min(lo+sectorSize, int64(len(c.image)))
	d = resized(d, max(int64(len(d)), c.off+hi))
	copy(d[c.off+lo:], c.image[lo:hi])
	clear(d[c.off+hi : max(c.off+hi, min(int64(len(d)), c.off+lo+sectorSize))])
	return d
}

func (c *change) applyAll(d []byte) []byte {
	if c.resize {
		return resized(d, c.size)
	}
	for i := range c.sectors() {
		d = c.applySector(d, i)
	}
	return d
}

// resized is d with the given length, zeros beyond what it held.
func resized(d []byte, size int64) []byte {
	if size <= int64(len(d)) {
		return d[:size]
	}
	was := len(d)
	if size > int64(cap(d)) {
		grown := make([]byte, size, size+size/4)
		copy(grown, d)
		return grown
	}
	d = d[:size]
	clear(d[was:])
	return d
}

// sync makes the changes up to and with seq durable.
func (n *node) sync(seq uint64) {
	kept := n.pending[:0:0]
	for _, c := range n.pending {
		if c.seq > seq || c.inFlight {
			kept = append(kept, c)
			continue
		}
		n.durable = c.applyAll(n.durable)
	}
	n.pending = kept
}

// truncate sets the size; fallocate's blocks are allocate's affair.
func (m *Mem) truncate(n *node, size int64) *change {
	m.seq++
	c := &change{seq: m.seq, resize: true, size: size, sizeWas: int64(len(n.data)), inFlight: true}
	for b := range n.blocks {
		if b*blockSize >= size {
			delete(n.blocks, b)
			m.used -= blockSize
		}
	}
	n.data = resized(n.data, size)
	n.pending = append(n.pending, c)
	return c
}

// allocate gives a file blocks for [off, off+size) and returns how many bytes of it found room.
func (m *Mem) allocate(n *node, off, size int64) (int64, error) {
	for b := off / blockSize; b*blockSize < off+size; b++ {
		if _, ok := n.blocks[b]; ok {
			continue
		}
		if m.capacity > 0 && m.used+blockSize > m.capacity {
			return max(0, b*blockSize-off), syscall.ENOSPC
		}
		n.blocks[b] = struct{}{}
		m.used += blockSize
	}
	return size, nil
}

// write changes what is seen now and remembers the change as pending.
func (m *Mem) write(n *node, p []byte, off int64) *change {
	m.seq++
	size := int64(len(n.data))
	end := off + int64(len(p))
	lo := off / sectorSize * sectorSize
	c := &change{seq: m.seq, off: lo, sizeWas: size, inFlight: true}
	if lo < size {
		hi := min((end+sectorSize-1)/sectorSize*sectorSize, size)
		c.before = append(c.before, n.data[lo:hi]...)
	}
	n.data = resized(n.data, max(size, end))
	copy(n.data[off:], p)
	c.size = int64(len(n.data))
	c.image = append(c.image, n.data[lo:min((end+sectorSize-1)/sectorSize*sectorSize, c.size)]...)
	n.pending = append(n.pending, c)
	return c
}

type memFile struct {
	fs     *Mem
	node   *node
	name   string
	write  bool
	direct bool
	closed bool // guarded by fs.mu
}

func (f *memFile) Name() string                { return f.name }
func (f *memFile) Fd() (uintptr, bool)         { return 0, false }
func (f *memFile) OSFile() *os.File            { return nil }
func (f *memFile) fail(op Op, err error) error { return pathError(op.String(), f.name, err) }

func (f *memFile) Close() error {
	m := f.fs
	m.mu.Lock()
	defer m.mu.Unlock()
	if f.closed {
		return pathError("close", f.name, fs.ErrClosed)
	}
	f.closed = true
	f.node.handles--
	m.release(f.node)
	return nil
}

func (f *memFile) Size() (int64, error) {
	f.fs.mu.RLock()
	defer f.fs.mu.RUnlock()
	if f.closed {
		return 0, pathError("stat", f.name, fs.ErrClosed)
	}
	return int64(len(f.node.data)), nil
}

func (f *memFile) ReadAt(p []byte, off int64) (int, error) {
	if err := f.fs.begin(OpRead, f.name); err != nil {
		return 0, f.fail(OpRead, err)
	}
	if f.direct && !aligned(p, off) {
		return 0, f.fail(OpRead, syscall.EINVAL)
	}
	f.fs.mu.RLock()
	defer f.fs.mu.RUnlock()
	switch {
	case f.closed:
		return 0, f.fail(OpRead, fs.ErrClosed)
	case off < 0:
		return 0, f.fail(OpRead, fs.ErrInvalid)
	case off >= int64(len(f.node.data)):
		if len(p) == 0 {
			return 0, nil
		}
		return 0, io.EOF
	}
	n := copy(p, f.node.data[off:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func aligned(p []byte, off int64) bool {
	return off%DirectAlign == 0 && len(p)%DirectAlign == 0 &&
		uintptr(unsafe.Pointer(unsafe.SliceData(p)))%DirectAlign == 0
}

// WriteAt implements File. Out of room it writes what fits, as a file system does.
func (f *memFile) WriteAt(p []byte, off int64) (int, error) {
	m := f.fs
	if err := m.begin(OpWrite, f.name); err != nil {
		return 0, f.fail(OpWrite, err)
	}
	switch {
	case !f.write:
		return 0, f.fail(OpWrite, fs.ErrPermission)
	case off < 0, f.direct && !aligned(p, off):
		return 0, f.fail(OpWrite, syscall.EINVAL)
	case len(p) == 0:
		return 0, nil
	}
	m.mu.Lock()
	if f.closed {
		m.mu.Unlock()
		return 0, f.fail(OpWrite, fs.ErrClosed)
	}
	fits, full := m.allocate(f.node, off, int64(len(p)))
	var c *change
	if fits > 0 {
		c = m.write(f.node, p[:fits], off)
	}
	m.mu.Unlock()
	if c == nil {
		return 0, f.fail(OpWrite, full)
	}
	if err := m.during(OpWrite, f.name); err != nil {
		return 0, f.fail(OpWrite, err)
	}
	m.mu.Lock()
	c.inFlight = false
	if f.direct {
		f.node.settle(c)
	}
	m.mu.Unlock()
	if full != nil {
		return int(fits), f.fail(OpWrite, full)
	}
	return len(p), nil
}

// settle makes one change durable ahead of the others. A new size before it comes along, for the file system commits
// that with the direct write, and then so do the writes around it, lest the order of the changes be lost.
func (n *node) settle(c *change) {
	if slices.ContainsFunc(n.pending, func(p *change) bool { return p.resize && p.seq < c.seq }) {
		n.sync(c.seq)
		return
	}
	for i, p := range n.pending {
		if p == c {
			n.pending = append(n.pending[:i:i], n.pending[i+1:]...)
			n.durable = c.applyAll(n.durable)
			return
		}
	}
}

// Sync implements File. After an injected error the changes it should have saved stay visible but no later Sync saves
// them, which is what a kernel does that marks failed pages clean.
func (f *memFile) Sync() error {
	m := f.fs
	err := m.begin(OpSync, f.name)
	m.mu.Lock()
	if f.closed {
		m.mu.Unlock()
		return f.fail(OpSync, fs.ErrClosed)
	}
	seq := m.seq
	if err != nil && !errors.Is(err, ErrCrashed) {
		f.node.forget(seq)
	}
	m.mu.Unlock()
	if err == nil {
		err = m.during(OpSync, f.name)
	}
	if err != nil {
		return f.fail(OpSync, err)
	}
	m.mu.Lock()
	f.node.sync(seq)
	m.mu.Unlock()
	return nil
}

func (n *node) forget(seq uint64) {
	kept := n.pending[:0:0]
	for _, c := range n.pending {
		if c.seq > seq || c.inFlight {
			kept = append(kept, c)
		}
	}
	n.pending = kept
}

// StartWriteback implements File; it changes nothing, since any unsynced sector may be on the disk anyway.
func (f *memFile) StartWriteback(int64, int64) error {
	if err := f.fs.begin(OpWriteback, f.name); err != nil {
		return f.fail(OpWriteback, err)
	}
	return nil
}

func (f *memFile) Truncate(size int64) error {
	return f.resize(OpTruncate, func() (*change, error) { return f.fs.truncate(f.node, size), nil })
}

func (f *memFile) Preallocate(off, n int64) error {
	return f.resize(OpPreallocate, func() (*change, error) {
		if _, err := f.fs.allocate(f.node, off, n); err != nil {
			return nil, err
		}
		return f.fs.truncate(f.node, max(off+n, int64(len(f.node.data)))), nil
	})
}

func (f *memFile) resize(op Op, change func() (*change, error)) error {
	m := f.fs
	if err := m.begin(op, f.name); err != nil {
		return f.fail(op, err)
	}
	if !f.write {
		return f.fail(op, fs.ErrPermission)
	}
	m.mu.Lock()
	if f.closed {
		m.mu.Unlock()
		return f.fail(op, fs.ErrClosed)
	}
	c, err := change()
	m.mu.Unlock()
	if err == nil {
		err = m.during(op, f.name)
	}
	if err != nil {
		return f.fail(op, err)
	}
	m.mu.Lock()
	c.inFlight = false
	m.mu.Unlock()
	return nil
}
