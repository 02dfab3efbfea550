package session

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sequitur-mq/sequitur/internal/vfs"
	"github.com/sequitur-mq/sequitur/log"
	"github.com/sequitur-mq/sequitur/record"
	"github.com/sequitur-mq/sequitur/replication"
	"github.com/sequitur-mq/sequitur/replication/replica"
	"github.com/sequitur-mq/sequitur/wire"
	"github.com/sequitur-mq/sequitur/wire/peer"
)

var topic = [16]byte{7}

// node is one broker's share: a store, its replicas, a cluster port and the sessions to
// others.
type node struct {
	bed      *bed
	member   replication.Member
	store    *log.Store
	listener net.Listener
	manager  *Manager
	serving  sync.WaitGroup
	cancel   context.CancelFunc
	ctx      context.Context
	fatal    chan error

	fs *vfs.Mem // in memory only

	mu       sync.Mutex
	replicas map[Key]*replica.Replica
}

// Replica implements Replicas.
func (n *node) Replica(topic [16]byte, partition uint32) (*replica.Replica, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if r := n.replicas[Key{topic, partition}]; r != nil {
		return r, nil
	}
	return nil, wire.ErrUnknownPartition
}

// bed is a few nodes in one process, on real connections.
type bed struct {
	t       testing.TB
	nodes   []*node
	set     replication.ReplicaSet
	config  log.Config
	options Options
	wrap    func(net.Conn) net.Conn // of connections that followers make
	epoch   map[Key]uint32
	leader  map[Key]*node
}

func newBed(t testing.TB, nodes int, open func(i int) *log.Store, o Options) *bed {
	b := &bed{t: t, options: o, epoch: map[Key]uint32{}, leader: map[Key]*node{}, wrap: func(c net.Conn) net.Conn { return c }}
	b.set.Version = 1
	for i := range nodes {
		m := replication.Member{Node: uint32(i + 1), Disk: uint32(i + 1)}
		b.set.Members = append(b.set.Members, m)
		b.nodes = append(b.nodes, &node{bed: b, member: m, store: open(i), fatal: make(chan error, 100)})
	}
	for _, n := range b.nodes {
		n.start(t)
	}
	t.Cleanup(func() {
		for _, n := range b.nodes {
			n.stop()
			require.NoError(t, n.store.Close())
		}
	})
	return b
}

// inMemory opens small stores on file systems in memory.
func inMemory(t testing.TB) func(int) *log.Store {
	return func(int) *log.Store { return openStore(t, vfs.NewMem(vfs.MemOptions{})) }
}

func openStore(t testing.TB, fs vfs.FS) *log.Store {
	store, err := log.Open("/data", log.Options{
		FS: fs, JournalFileBytes: 1 << 20, JournalMaxBytes: 4 << 20, TailBytes: 256 << 10,
		ReserveBytes: -1, BallastBytes: -1, ScrubInterval: -1, CompactInterval: -1,
	})
	require.NoError(t, err)
	return store
}

func (n *node) start(t testing.TB) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	n.ctx, n.cancel = context.WithCancel(context.Background())
	n.mu.Lock()
	n.listener, n.replicas = listener, map[Key]*replica.Replica{}
	n.mu.Unlock()
	o := n.bed.options
	o.Self, o.Cluster = n.member, wire.UUID{9}
	n.manager = NewManager(n.bed.dial, o)
	n.serving.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			n.serving.Go(func() { n.serve(conn, o) })
		}
	})
}

func (n *node) serve(conn net.Conn, o Options) {
	var preamble [peer.PreambleSize]byte
	if _, err := conn.Read(preamble[:]); err != nil {
		conn.Close()
		return
	}
	if err := Serve(n.ctx, conn, n, o); err != nil {
		n.bed.t.Logf("%v: session ended: %v", n.member, err)
	}
}

func (b *bed) dial(ctx context.Context, to uint32) (net.Conn, error) {
	var d net.Dialer
	n := b.nodes[to-1]
	n.mu.Lock()
	addr := n.listener.Addr().String()
	n.mu.Unlock()
	conn, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	conn = b.wrap(conn)
	if _, err := conn.Write(peer.AppendPreamble(nil, peer.StreamSession)); err != nil {
		conn.Close()
		return nil, err
	}
	return conn, nil
}

func (n *node) stop() {
	n.manager.Close()
	n.listener.Close()
	n.cancel()
	n.serving.Wait()
}

// partition creates one on all nodes.
func (b *bed) partitions(count int) (keys []Key) {
	for i := range count {
		keys = append(keys, Key{topic, uint32(i)})
	}
	for _, n := range b.nodes {
		var specs []log.Spec
		for _, k := range keys {
			specs = append(specs, log.Spec{ID: log.ID(k), Config: b.config})
		}
		require.NoError(b.t, n.store.Create(specs...))
		for _, k := range keys {
			n.open(b.t, k)
		}
	}
	return keys
}

func (n *node) open(t testing.TB, k Key) {
	p, ok := n.store.Partition(log.ID(k))
	require.True(t, ok)
	r, err := replica.Open(p, replica.Options{Self: n.member, OnFatal: func(err error) {
		if !errors.Is(err, vfs.ErrCrashed) { // a test took its disk away
			n.fatal <- err
		}
	}})
	require.NoError(t, err)
	n.mu.Lock()
	n.replicas[k] = r
	n.mu.Unlock()
}

func (n *node) at(k Key) *replica.Replica {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.replicas[k]
}

// elect begins the next epoch among the given nodes, who is asked wins by the rule.
func (b *bed) elect(k Key, among ...*node) *node {
	b.epoch[k]++
	e := replication.NewElection(b.epoch[k], b.set)
	for _, n := range among {
		votes := make(chan replication.Vote, 1)
		n.at(k).Fence(b.epoch[k], func(v replication.Vote, err error) {
			if err != nil {
				b.t.Errorf("fence %v: %v", n.member, err)
			}
			votes <- v
		})
		e.Add(<-votes)
	}
	winner, ok := e.Winner()
	require.True(b.t, ok)
	b.leader[k] = b.nodes[winner.Node-1]
	b.assign(k, among...)
	return b.leader[k]
}

// assign tells nodes who leads.
func (b *bed) assign(k Key, to ...*node) {
	leader := b.leader[k].member
	for _, n := range to {
		require.NoError(b.t, n.at(k).Assign(replica.Assignment{Epoch: b.epoch[k], Leader: leader, Set: b.set}))
		if n.member == leader {
			n.manager.Unfollow(k)
		} else {
			n.manager.Follow(k, n.at(k), leader)
		}
	}
}

// wait for the high watermark of a replica to pass an offset.
func waitFor(t testing.TB, r *replica.Replica, beyond int64) {
	t.Helper()
	w := make(watcher, 1)
	deadline := time.NewTimer(20 * time.Second)
	defer deadline.Stop()
	for r.HighWatermark() <= beyond {
		var watch replica.Watch
		if !r.Watch(&watch, beyond, w, 0) {
			continue
		}
		select {
		case <-w:
		case <-deadline.C:
			t.Fatalf("high watermark %d, want beyond %d: %+v", r.HighWatermark(), beyond, r.State())
		}
	}
}

type watcher chan struct{}

func (w watcher) Passed(int) { w <- struct{}{} }

// waiter collects answers to appends.
type waiter chan outcome

type outcome struct {
	token  int
	result replica.Result
	err    error
}

func (w waiter) Appended(token int, result replica.Result, err error) {
	w <- outcome{token, result, err}
}

func batch(records, size int) record.Batch {
	b := record.NewBuilder(0)
	for i := range records {
		b.Append(int64(i), nil, bytes.Repeat([]byte{byte(i)}, size), nil)
	}
	out, err := b.Build(nil, record.CodecNone, 0, 0, 0)
	if err != nil {
		panic(err)
	}
	return bytes.Clone(out)
}

// append appends on the leader and waits for the answer.
func (b *bed) append(k Key, acks replica.Acks, batch record.Batch) replica.Result {
	b.t.Helper()
	r, err := b.tryAppend(k, acks, batch)
	require.NoError(b.t, err)
	return r
}

func (b *bed) tryAppend(k Key, acks replica.Acks, batch record.Batch) (replica.Result, error) {
	w := make(waiter, 1)
	result, pending, err := b.leader[k].at(k).Append(batch, acks, w, 0)
	if !pending || err != nil {
		return result, err
	}
	select {
	case o := <-w:
		return o.result, o.err
	case <-time.After(20 * time.Second):
		for _, n := range b.nodes {
			b.t.Logf("%v: %+v", n.member, n.at(k).State())
		}
		b.t.Fatal("no answer")
		return replica.Result{}, nil
	}
}

// content is a log's records up to an offset, to be compared.
func content(t testing.TB, r *replica.Replica, to int64) []string {
	t.Helper()
	var all []string
	require.NoError(t, r.Log().Batches(r.Start(), func(b record.Batch) error {
		if b.BaseOffset() < to {
			require.NoError(t, b.Verify())
			all = append(all, fmt.Sprintf("%d+%d epoch %d %x", b.BaseOffset(), b.LastOffsetDelta(), b.LeaderEpoch(), len(b)))
		}
		return nil
	}))
	return all
}

// requireSame waits until all nodes have committed up to an offset, and compares them.
func (b *bed) requireSame(k Key, end int64, nodes ...*node) {
	b.t.Helper()
	for _, n := range nodes {
		waitFor(b.t, n.at(k), end-1)
	}
	want := content(b.t, nodes[0].at(k), end)
	for _, n := range nodes {
		require.Equal(b.t, want, content(b.t, n.at(k), end), "%v", n.member)
		require.Equal(b.t, nodes[0].at(k).ProducersHash(), n.at(k).ProducersHash())
		select {
		case err := <-n.fatal:
			b.t.Fatalf("%v: %v", n.member, err)
		default:
		}
	}
}

func fenced(done chan<- error) func(replication.Vote, error) {
	return func(_ replication.Vote, err error) { done <- err }
}
