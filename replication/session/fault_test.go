package session

import (
	"errors"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sequitur-mq/sequitur/internal/vfs"
	"github.com/sequitur-mq/sequitur/log"
	"github.com/sequitur-mq/sequitur/replication/replica"
)

// faulty is a connection that a test breaks. Each Read and Write passes its bytes.
type faulty struct {
	net.Conn
	before func(b []byte, write bool) error
}

func (f *faulty) Read(b []byte) (int, error) {
	n, err := f.Conn.Read(b)
	if err == nil {
		if err = f.before(b[:n], false); err != nil {
			f.Close()
			return 0, err
		}
	}
	return n, err
}

func (f *faulty) Write(b []byte) (int, error) {
	err := f.before(b, true)
	if err == errSwallow {
		return len(b), nil
	}
	if err != nil {
		f.Close()
		return 0, err
	}
	return f.Conn.Write(b)
}

var (
	errCut     = errors.New("cut by the test")
	errSwallow = errors.New("not to be sent, and nobody notices")
)

// Every connection is cut after some bytes, at every byte of the first hundreds and then
// at growing distances, while records are appended and acknowledged.
func TestCutAtAnyByte(t *testing.T) {
	b := newBed(t, 3, inMemory(t), Options{BackoffMin: time.Microsecond, BackoffMax: time.Millisecond})
	var healed atomic.Bool
	var cuts atomic.Int64
	b.wrap = func(c net.Conn) net.Conn {
		left := cuts.Add(1)
		if left > 400 {
			left *= left / 100
		}
		var mu sync.Mutex
		return &faulty{c, func(p []byte, _ bool) error {
			mu.Lock()
			defer mu.Unlock()
			if left -= int64(len(p)); left < 0 && !healed.Load() {
				return errCut
			}
			return nil
		}}
	}
	k := b.partitions(1)[0]
	leader := b.elect(k, b.nodes...)
	waitFor(t, leader.at(k), 0)
	end := int64(1)
	for cuts.Load() < 800 {
		b.append(k, replica.AcksQuorum, batch(3, 100))
		end += 3
	}
	healed.Store(true)
	b.requireSame(k, end, b.nodes...)
}

// Bits are flipped in what passes; nothing of it may get into a log.
func TestFlippedBits(t *testing.T) {
	b := newBed(t, 3, inMemory(t), Options{BackoffMin: time.Microsecond, BackoffMax: time.Millisecond})
	var healed atomic.Bool
	var flips, seeds atomic.Int64
	b.wrap = func(c net.Conn) net.Conn {
		rng := rand.New(rand.NewPCG(uint64(seeds.Add(1)), 5))
		var mu sync.Mutex
		return &faulty{c, func(p []byte, write bool) error {
			mu.Lock()
			defer mu.Unlock()
			// What is written belongs to the caller, so only what is read is changed.
			if !write && len(p) > 0 && rng.IntN(6) == 0 && !healed.Load() {
				p[rng.IntN(len(p))] ^= 1 << rng.IntN(8)
				flips.Add(1)
			}
			return nil
		}}
	}
	k := b.partitions(1)[0]
	leader := b.elect(k, b.nodes...)
	waitFor(t, leader.at(k), 0)
	end := int64(1)
	for flips.Load() < 300 {
		b.append(k, replica.AcksQuorum, batch(3, 100))
		end += 3
	}
	healed.Store(true)
	b.requireSame(k, end, b.nodes...)
}

func TestCatchUpFromFarBehind(t *testing.T) {
	b := newBed(t, 3, inMemory(t), Options{Window: 200 << 10, PartitionWindow: 50 << 10, ChunkBytes: 20 << 10})
	b.config = log.Config{SegmentBytes: 256 << 10}
	keys := b.partitions(3)
	late := b.nodes[2]
	end := int64(1)
	for _, k := range keys {
		waitFor(t, b.elect(k, b.nodes[:2]...).at(k), 0)
	}
	for range 300 {
		for _, k := range keys {
			b.append(k, replica.AcksQuorum, batch(4, 1000))
		}
		end += 4
	}
	for _, k := range keys {
		b.assign(k, late)
	}
	for _, k := range keys {
		b.requireSame(k, end, b.nodes...)
	}
}

// A leader that is cut off goes on appending; when it comes back it has to give up what
// was never committed, and who waits for it is told.
func TestDivergence(t *testing.T) {
	b := newBed(t, 3, inMemory(t), Options{})
	k := b.partitions(1)[0]
	for range 5 {
		old := b.elect(k, b.nodes...)
		waitFor(t, old.at(k), old.at(k).State().End-1)
		b.append(k, replica.AcksAll, batch(1, 100))
		var rest []*node
		for _, n := range b.nodes {
			if n != old {
				n.manager.Unfollow(k) // cut off from the leader
				rest = append(rest, n)
			}
		}
		w := make(waiter, 10)
		for token := range 3 {
			_, pending, err := old.at(k).Append(batch(2, 10), replica.AcksQuorum, w, token)
			require.NoError(t, err)
			require.True(t, pending)
		}
		next := b.elect(k, rest...)
		waitFor(t, next.at(k), next.at(k).State().End-1)
		b.append(k, replica.AcksQuorum, batch(1, 7))
		b.assign(k, old)
		for range 3 {
			o := <-w
			require.ErrorIs(t, o.err, replica.ErrNotLeader)
		}
		b.requireSame(k, next.at(k).HighWatermark(), b.nodes...)
	}
}

// Nobody waits for a follower whose disk has stopped, and what is sent to it is bounded.
func TestSlowFollower(t *testing.T) {
	stopped := vfs.NewMem(vfs.MemOptions{})
	var gate atomic.Pointer[chan struct{}]
	stopped.SetFault(func(op vfs.Op, name string) error {
		if g := gate.Load(); g != nil && op == vfs.OpWrite && strings.Contains(name, "/journal/") {
			<-*g
		}
		return nil
	})
	b := newBed(t, 3, func(i int) *log.Store {
		if i == 2 {
			return openStore(t, stopped)
		}
		return openStore(t, vfs.NewMem(vfs.MemOptions{}))
	}, Options{Window: 200 << 10, PartitionWindow: 50 << 10, ChunkBytes: 20 << 10})
	keys := b.partitions(8)
	for _, k := range keys {
		b.epoch[k] = 1
		for _, n := range b.nodes {
			done := make(chan error, 1)
			n.at(k).Fence(1, fenced(done))
			require.NoError(t, <-done)
		}
		b.leader[k] = b.nodes[0]
		b.assign(k, b.nodes...)
		waitFor(t, b.nodes[0].at(k), 0)
		b.append(k, replica.AcksAll, batch(1, 1))
	}
	g := make(chan struct{})
	gate.Store(&g)
	end := b.leader[keys[0]].at(keys[0]).State().End
	for range 60 {
		for _, k := range keys {
			b.append(k, replica.AcksQuorum, batch(4, 1000)) // 2 MiB in all
		}
		end += 4
	}
	gate.Store(nil)
	close(g)
	for _, k := range keys {
		b.requireSame(k, end, b.nodes...)
	}
}

// A connection on which nothing comes any more is given up, and another one made.
func TestSilence(t *testing.T) {
	b := newBed(t, 3, inMemory(t), Options{Idle: 10 * time.Millisecond, Silence: 60 * time.Millisecond})
	var dead atomic.Bool
	var dials atomic.Int64
	b.wrap = func(c net.Conn) net.Conn {
		mine := dials.Add(1)
		return &faulty{c, func(_ []byte, write bool) error {
			if write && dead.Load() && mine <= 2 {
				return errSwallow
			}
			return nil
		}}
	}
	k := b.partitions(1)[0]
	leader := b.elect(k, b.nodes...)
	waitFor(t, leader.at(k), 0)
	b.append(k, replica.AcksAll, batch(1, 10))
	dead.Store(true) // from here on the leader hears nothing from the first connections
	b.append(k, replica.AcksAll, batch(1, 10))
	require.GreaterOrEqual(t, dials.Load(), int64(4))
	b.requireSame(k, 3, b.nodes...)
}
