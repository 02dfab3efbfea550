package session

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sequitur-mq/sequitur/internal/vfs"
	"github.com/sequitur-mq/sequitur/log"
	"github.com/sequitur-mq/sequitur/record"
	"github.com/sequitur-mq/sequitur/replication"
	"github.com/sequitur-mq/sequitur/replication/replica"
)

// chaos is a partition on three nodes whose leaders change, whose connections break and
// whose power fails while producers send.
type chaos struct {
	*bed
	rng *rand.Rand
	k   Key

	mu      sync.Mutex
	now     *replica.Replica // the leader
	changed chan struct{}    // closed when there is another
	conns   map[net.Conn]struct{}
}

// sender keeps one batch outstanding and sends it until it is acknowledged.
type sender struct {
	id    uint64
	acked []int64 // offset by batch
}

func (s *sender) batch(n int) record.Batch {
	b := record.NewBuilder(0)
	for i := range 2 {
		b.Append(1, nil, fmt.Appendf(nil, "%d.%d.%d", s.id, n, i), nil)
	}
	out, err := b.Build(nil, record.CodecNone, s.id, 1, uint32(2*n))
	if err != nil {
		panic(err)
	}
	return bytes.Clone(out)
}

func (s *sender) run(c *chaos, total int) error {
	for n := range total {
		for {
			c.mu.Lock()
			r, changed := c.now, c.changed
			c.mu.Unlock()
			w := make(waiter, 1)
			result, pending, err := r.Append(s.batch(n), replica.AcksQuorum, w, 0)
			if pending {
				select {
				case o := <-w:
					result, err = o.result, o.err
				case <-changed: // as a client that finds its connection broken
					continue
				}
			}
			if err == nil {
				s.acked = append(s.acked, result.BaseOffset)
				break
			}
			switch {
			case errors.Is(err, replica.ErrNotServing):
				moved := make(watcher, 1)
				var watch replica.Watch
				if r.Watch(&watch, r.HighWatermark(), moved, 0) {
					select {
					case <-moved:
					case <-changed:
					}
				}
			case errors.Is(err, replica.ErrNotLeader), errors.Is(err, replica.ErrClosed),
				errors.Is(err, log.ErrClosed), errors.Is(err, log.ErrStorageFailed), errors.Is(err, vfs.ErrCrashed):
				<-changed
			default:
				return fmt.Errorf("producer %d batch %d: %w", s.id, n, err)
			}
		}
	}
	return nil
}

// vote has nodes elect a leader, and tells others afterwards.
func (c *chaos) vote(among, also []*node) bool {
	c.epoch[c.k]++
	e := replication.NewElection(c.epoch[c.k], c.set)
	for _, n := range among {
		votes := make(chan replication.Vote, 1)
		n.at(c.k).Fence(c.epoch[c.k], func(v replication.Vote, err error) { votes <- v })
		e.Add(<-votes)
	}
	winner, ok := e.Winner()
	if !ok {
		return false
	}
	c.leader[c.k] = c.nodes[winner.Node-1]
	c.assign(c.k, among...)
	c.mu.Lock()
	c.now = c.leader[c.k].at(c.k)
	close(c.changed)
	c.changed = make(chan struct{})
	c.mu.Unlock()
	c.assign(c.k, also...)
	return true
}

// elect changes the leader, by a majority or by all.
func (c *chaos) elect() {
	nodes := make([]*node, 3)
	for i, j := range c.rng.Perm(3) {
		nodes[i] = c.nodes[j]
	}
	n := 2 + c.rng.IntN(2)
	also := nodes[n:]
	if c.rng.IntN(3) == 0 {
		also = nil
	}
	c.vote(nodes[:n], also)
}

// powerLoss lets a node lose what it has not synced, or some of it, and starts it again.
func (c *chaos) powerLoss(n *node) {
	n.fs.CrashNow() // from here on it syncs, and so promises, nothing
	after := n.fs.Crash([]float64{0, 0.3, 0.7, 1}[c.rng.IntN(4)], c.rng)
	n.at(c.k).Close()
	n.stop()
	_ = n.store.Close()
	n.fs, n.store = after, openStore(c.t, after)
	n.start(c.t)
	n.open(c.t, c.k)
}

// cut breaks all connections.
func (c *chaos) cut() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for conn := range c.conns {
		conn.Close()
	}
	clear(c.conns)
}

func (c *chaos) step() {
	switch c.rng.IntN(8) {
	case 0, 1, 2:
		c.elect()
	case 3:
		c.cut()
	case 4:
		c.powerLoss(c.nodes[c.rng.IntN(3)])
		c.elect()
	case 5:
		if c.rng.IntN(3) == 0 { // everywhere at once
			for _, n := range c.nodes {
				c.powerLoss(n)
			}
			c.elect()
		}
	default:
		// Let it be for some records.
		c.mu.Lock()
		r := c.now
		c.mu.Unlock()
		var watch replica.Watch
		w := make(watcher, 1)
		if r.State().Serving && r.Watch(&watch, r.HighWatermark()+int64(c.rng.IntN(20)), w, 0) {
			c.cut()
			if r.Unwatch(&watch) {
				return
			}
			<-w
		}
	}
}

func runChaos(t *testing.T, seed uint64, steps, total int) {
	var disks []*vfs.Mem
	b := newBed(t, 3, func(int) *log.Store {
		disks = append(disks, vfs.NewMem(vfs.MemOptions{}))
		return openStore(t, disks[len(disks)-1])
	}, Options{BackoffMin: 1, BackoffMax: 1e6})
	for i, n := range b.nodes {
		n.fs = disks[i]
	}
	c := &chaos{bed: b, rng: rand.New(rand.NewPCG(seed, 7)), changed: make(chan struct{}), conns: map[net.Conn]struct{}{}}
	b.wrap = func(conn net.Conn) net.Conn {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.conns[conn] = struct{}{}
		return conn
	}
	c.k = b.partitions(1)[0]
	require.True(t, c.vote(b.nodes, nil))
	var sending sync.WaitGroup
	var over atomic.Int32
	senders := []*sender{{id: 1}, {id: 2}, {id: 3}}
	for _, s := range senders {
		sending.Go(func() {
			defer over.Add(1)
			if err := s.run(c, total); err != nil {
				t.Error(err)
			}
		})
	}
	for i := 0; i < steps && over.Load() < 3; i++ {
		c.step()
	}
	require.True(t, c.vote(b.nodes, nil)) // all is well again
	sending.Wait()
	r := b.leader[c.k].at(c.k)
	waitFor(t, r, r.State().End-1)
	b.requireSame(c.k, r.HighWatermark(), b.nodes...)
	exactlyOnce(t, r, senders, total)
}

// exactlyOnce checks the promise: each batch once, in the order of its producer, where it
// was acknowledged.
func exactlyOnce(t *testing.T, r *replica.Replica, senders []*sender, total int) {
	next := map[uint64]int{}
	require.NoError(t, r.Log().Batches(0, func(b record.Batch) error {
		id := b.ProducerID()
		if id == 0 {
			return nil // start of an epoch
		}
		n := next[id]
		if b.BaseSequence() != uint32(2*n) || n >= total || senders[id-1].acked[n] != b.BaseOffset() {
			return fmt.Errorf("offset %d: producer %d sequence %d, expected batch %d at %d", b.BaseOffset(), id, b.BaseSequence(), n, senders[id-1].acked[min(n, total-1)])
		}
		next[id]++
		return nil
	}))
	for _, s := range senders {
		require.Equal(t, total, next[s.id], "producer %d", s.id)
	}
}

func TestChaos(t *testing.T) {
	for seed := range uint64(4) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) { runChaos(t, seed, 50, 250) })
	}
}
