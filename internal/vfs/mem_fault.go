package vfs

import (
	"slices"
	"sync"
	"syscall"
)

// Op is a kind of operation, for faults.
type Op uint8

// The kinds. OpCreate to OpSyncFS change something and are counted; the others are not.
const (
	OpCreate Op = iota + 1
	OpWrite
	OpSync
	OpTruncate
	OpPreallocate
	OpRename
	OpRemove
	OpMkdir
	OpSyncDir
	OpSyncFS
	OpOpen
	OpRead // ReadAt, ReadDir, Stat, Free
	OpWriteback
)

var opNames = [...]string{"", "create", "write", "sync", "truncate", "fallocate", "rename", "remove", "mkdir", "sync directory",
	"syncfs", "open", "read", "writeback"}

func (o Op) String() string {
	if int(o) < len(opNames) {
		return opNames[o]
	}
	return "op"
}

// Mutating reports whether the kind is counted by Ops, CrashAt and FailAt.
func (o Op) Mutating() bool { return o >= OpCreate && o <= OpSyncFS }

// faults is what goes wrong, and when. Its lock is never held while a hook runs.
type faults struct {
	mu      sync.Mutex
	ops     int64
	crashAt int64
	crashed bool
	done    chan struct{}
	planned []plannedFault
	before  func(Op, string) error
	during  func(Op, string)
}

type plannedFault struct {
	left  int64
	err   error
	kinds []Op
}

// Ops is the number of mutating operations begun so far.
func (m *Mem) Ops() int64 {
	m.faults.mu.Lock()
	defer m.faults.mu.Unlock()
	return m.faults.ops
}

// CrashAt stops the file system at the k-th mutating operation from now (1 = the next): that operation has its
// volatile effect, nothing of it is made durable, and it and everything later fails with ErrCrashed. Take what the
// disk kept with Crash. 0 cancels.
func (m *Mem) CrashAt(k int64) {
	m.faults.mu.Lock()
	defer m.faults.mu.Unlock()
	m.faults.crashAt = 0
	if k > 0 {
		m.faults.crashAt = m.faults.ops + k
	}
}

// CrashNow makes every later operation fail with ErrCrashed.
func (m *Mem) CrashNow() {
	m.faults.mu.Lock()
	defer m.faults.mu.Unlock()
	m.crashLocked()
}

// Crashed reports whether the crash has come.
func (m *Mem) Crashed() bool {
	m.faults.mu.Lock()
	defer m.faults.mu.Unlock()
	return m.faults.crashed
}

// CrashC is closed when the crash comes.
func (m *Mem) CrashC() <-chan struct{} {
	m.faults.mu.Lock()
	defer m.faults.mu.Unlock()
	if m.faults.done == nil {
		m.faults.done = make(chan struct{})
		if m.faults.crashed {
			close(m.faults.done)
		}
	}
	return m.faults.done
}

func (m *Mem) crashLocked() {
	if m.faults.crashed {
		return
	}
	m.faults.crashed = true
	if m.faults.done != nil {
		close(m.faults.done)
	}
}

// FailAt makes the k-th operation from now (1 = the next) of the given kinds (none given: every mutating kind) fail
// with err, once, without effect. Several plans may be set; each counts by itself.
func (m *Mem) FailAt(k int64, err error, kinds ...Op) {
	m.faults.mu.Lock()
	defer m.faults.mu.Unlock()
	m.faults.planned = append(m.faults.planned, plannedFault{left: k, err: err, kinds: kinds})
}

// SetFault installs a function that is asked before every operation, of any kind; what it returns, if not nil, is the
// operation's error, and the operation has no effect. It may be called concurrently. nil removes it.
func (m *Mem) SetFault(before func(op Op, name string) error) {
	m.faults.mu.Lock()
	defer m.faults.mu.Unlock()
	m.faults.before = before
}

// SetDuring installs a function that is called in the middle of every mutating operation: its effect is visible, but
// nothing of it is durable yet. Crash may be called from it, to see what a power cut at this moment leaves. It may be
// called concurrently. nil removes it.
func (m *Mem) SetDuring(during func(op Op, name string)) {
	m.faults.mu.Lock()
	defer m.faults.mu.Unlock()
	m.faults.during = during
}

// SetCapacity changes the size of the disk in bytes, 0 = unlimited. It may be less than what is in use.
func (m *Mem) SetCapacity(bytes int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.capacity = bytes
}

// Used is the number of bytes in allocated blocks.
func (m *Mem) Used() int64 {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return m.used
}

// FlipBit inverts one bit of a file, counted from the first byte's lowest, on the disk and in what readers see.
func (m *Mem) FlipBit(name string, bit int64) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	n, err := m.find(name)
	at, mask := bit/8, byte(1)<<(bit%8)
	switch {
	case err != nil:
	case n.dir:
		err = syscall.EISDIR
	case at >= int64(len(n.data)):
		err = syscall.EINVAL
	}
	if err != nil {
		return pathError("flip bit", name, err)
	}
	n.data[at] ^= mask
	if at < int64(len(n.durable)) {
		n.durable[at] ^= mask
	}
	for _, c := range n.pending {
		if i := at - c.off; i >= 0 && i < int64(len(c.image)) {
			c.image[i] ^= mask
		}
	}
	return nil
}

// begin counts an operation and decides whether it fails without effect.
func (m *Mem) begin(op Op, name string) error {
	f := &m.faults
	f.mu.Lock()
	if f.crashed {
		f.mu.Unlock()
		return ErrCrashed
	}
	if op.Mutating() {
		f.ops++
	}
	var err error
	for i := range f.planned {
		p := &f.planned[i]
		if p.left <= 0 || len(p.kinds) == 0 && !op.Mutating() || len(p.kinds) > 0 && !slices.Contains(p.kinds, op) {
			continue
		}
		if p.left--; p.left == 0 {
			err = p.err
		}
	}
	before := f.before
	f.mu.Unlock()
	if err == nil && before != nil {
		err = before(op, name)
	}
	return err
}

// during is the middle of a mutating operation: where a crash strikes.
func (m *Mem) during(op Op, name string) error {
	f := &m.faults
	f.mu.Lock()
	if f.crashAt > 0 && f.ops >= f.crashAt {
		m.crashLocked()
	}
	crashed, during := f.crashed, f.during
	f.mu.Unlock()
	if crashed {
		return ErrCrashed
	}
	if during != nil {
		during(op, name)
	}
	return nil
}
