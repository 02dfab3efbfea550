package broker

import (
	"math/bits"
	"sync"
)

// Frame buffers come from pools of size classes, four to a doubling, so that
// at most a fifth of a buffer is unused and a frame of 64 KiB plus its header
// does not cost 128 KiB.
const (
	minBufferShift = 10 // 1 KiB
	maxBufferShift = 26 // 64 MiB
	bufferClasses  = (maxBufferShift-minBufferShift)*4 + 1
)

// A buffer holds the bytes of one frame until everything that reads from it
// has finished.
type buffer struct {
	bytes []byte // whole capacity
	class int
}

// buffers is a set of pools of frame buffers, one pool per size class.
type buffers struct {
	pools [bufferClasses]sync.Pool
}

// bufferClass returns the smallest class that holds n bytes.
func bufferClass(n int) int {
	if n <= 1<<minBufferShift {
		return 0
	}
	// Invariant: 1<<shift < n <= 1<<(shift+1); quarters of 1<<shift between.
	shift := bits.Len(uint(n-1)) - 1
	quarter := (n - 1 - 1<<shift) >> (shift - 2)
	return (shift-minBufferShift)*4 + quarter + 1
}

// bufferClassSize returns how many bytes a buffer of the class holds.
func bufferClassSize(class int) int {
	shift, quarter := minBufferShift+class/4, class%4
	return 1<<shift + quarter<<(shift-2)
}

// bufferCost returns how much memory a frame of n bytes holds while it is in
// flight: the size of its buffer, not of the frame.
func bufferCost(n int) int64 { return int64(bufferClassSize(bufferClass(n))) }

// get returns a buffer of at least n bytes; n is at most 64 MiB.
func (p *buffers) get(n int) *buffer {
	class := bufferClass(n)
	if b, ok := p.pools[class].Get().(*buffer); ok {
		return b
	}
	return &buffer{bytes: make([]byte, bufferClassSize(class)), class: class}
}

// put gives a buffer back. The caller must not touch it afterwards.
func (p *buffers) put(b *buffer) { p.pools[b.class].Put(b) }
