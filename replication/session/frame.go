package session

import (
	"math/bits"
	"sync"
	"sync/atomic"

	"github.com/sequitur-mq/sequitur/wire/peer"
)

// frame is a received push. It is used again once the reader and every replica that took
// batches from it are done with it.
type frame struct {
	buf   []byte
	class int
	pools *framePools
	push  peer.Push
	slots []slot
	refs  atomic.Int32
}

// slot is one entry's share of a frame, lent to a replica.
type slot struct {
	frame   *frame
	part    *part
	client  *client
	counter *atomic.Uint64 // of the seek
	bytes   uint32
}

// Release implements replica.Frame. The leader hears of it with the next report, which is
// due as the batches are durable now.
func (s *slot) Release() {
	p, f := s.part, s.frame
	s.counter.Add(uint64(s.bytes))
	s.client.received.Add(uint64(s.bytes))
	if s.bytes > 0 {
		p.Moved(true)
	}
	f.unref()
}

const (
	smallestFrame = 10 // classes are powers of two from 1 KiB
	largestFrame  = 21 // to 2 MiB; larger ones are not kept
)

// framePools keeps frames by the size of their memory.
type framePools [largestFrame + 1]sync.Pool

func (p *framePools) take(size int) *frame {
	class := max(smallestFrame, bits.Len(uint(max(size, 1)-1)))
	var f *frame
	if class <= largestFrame {
		f, _ = p[class].Get().(*frame)
	}
	if f == nil {
		f = &frame{class: class, pools: p, buf: make([]byte, size, max(size, min(1<<class, 1<<largestFrame)))}
	}
	f.buf = f.buf[:size]
	f.refs.Store(1)
	return f
}

func (f *frame) unref() {
	if f.refs.Add(-1) > 0 {
		return
	}
	clear(f.slots)
	if f.class <= largestFrame {
		f.pools[f.class].Put(f)
	}
}

// resize returns s with length n and zero items.
func resize(s []slot, n int) []slot {
	if n > cap(s) {
		return make([]slot, n)
	}
	s = s[:n]
	clear(s)
	return s
}
