package consensus

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"os"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sequitur-mq/sequitur/internal/vfs"
	"github.com/sequitur-mq/sequitur/log"
	"github.com/sequitur-mq/sequitur/replication"
)

// testWait bounds what a test waits for; nothing depends on its length.
const testWait = 30 * time.Second

// bed is a cluster in one process: real Raft over loopback connections, real stores on
// file systems in memory.
type bed struct {
	t    testing.TB
	edit func(*RaftOptions)
	// anyDisk breaks the rule that streams reach only the disk they are meant for.
	anyDisk bool
	nodes   []*node

	mu     sync.Mutex
	byAddr map[string]*node
	cut    map[[2]string]bool // from, to: connections fail
}

// node is a broker: its listener stays while its process comes and goes.
type node struct {
	bed      *bed
	id       uint32
	listener net.Listener
	fs       *vfs.Mem
	disk     [16]byte

	mu      sync.Mutex
	store   *log.Store
	raft    *Raft
	stream  *StreamLayer
	changes []Change
	leads   []bool
	fatal   chan error
	lost    func(command []byte) bool // whether the answer to a forwarded command is lost
}

func newBed(t testing.TB, edit func(*RaftOptions)) *bed {
	b := &bed{t: t, edit: edit, byAddr: map[string]*node{}, cut: map[[2]string]bool{}}
	t.Cleanup(func() {
		for _, n := range b.nodes {
			n.stop()
			_ = n.listener.Close()
		}
	})
	return b
}

// add adds a broker with an empty disk, not started.
func (b *bed) add() *node {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(b.t, err)
	n := &node{bed: b, id: uint32(len(b.nodes) + 1), listener: l}
	n.wipe()
	b.nodes = append(b.nodes, n)
	b.mu.Lock()
	b.byAddr[n.addr()] = n
	b.mu.Unlock()
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go n.hand(conn)
		}
	}()
	return n
}

func (n *node) addr() string { return n.listener.Addr().String() }

// wipe gives a stopped broker an empty disk.
func (n *node) wipe() {
	n.fs = vfs.NewMem(vfs.MemOptions{})
	for i := range n.disk {
		n.disk[i] = byte(rand.Uint32())
	}
}

func (n *node) hand(conn net.Conn) {
	from := make([]byte, 64) // who dials, so that cables can be cut
	if _, err := readFull(conn, from); err != nil {
		_ = conn.Close()
		return
	}
	n.mu.Lock()
	stream := n.stream
	n.mu.Unlock()
	if stream == nil || n.bed.isCut(trimmed(from), n.addr()) {
		_ = conn.Close()
		return
	}
	stream.Hand(conn)
}

func readFull(conn net.Conn, b []byte) (int, error) {
	for n := 0; n < len(b); {
		m, err := conn.Read(b[n:])
		if err != nil {
			return n, err
		}
		n += m
	}
	return len(b), nil
}

func trimmed(b []byte) string {
	for i, c := range b {
		if c == 0 {
			return string(b[:i])
		}
	}
	return string(b)
}

func (b *bed) isCut(from, to string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.cut[[2]string{from, to}]
}

var errCut = errors.New("cable is cut")

func (n *node) dial(ctx context.Context, addr string) (net.Conn, error) {
	if n.bed.isCut(n.addr(), addr) {
		return nil, errCut
	}
	n.bed.mu.Lock()
	to := n.bed.byAddr[addr]
	n.bed.mu.Unlock()
	if to.running() == nil {
		return nil, &net.OpError{Op: "dial", Err: syscall.ECONNREFUSED} // its listener outlives it
	}
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	from := make([]byte, 64)
	copy(from, n.addr())
	if _, err := conn.Write(from); err != nil {
		_ = conn.Close()
		return nil, err
	}
	return conn, nil
}

func (n *node) forward(ctx context.Context, addr string, command []byte) (uint64, []byte, error) {
	n.bed.mu.Lock()
	to := n.bed.byAddr[addr]
	n.bed.mu.Unlock()
	r := to.running()
	if r == nil || n.bed.isCut(n.addr(), addr) {
		return 0, nil, errCut
	}
	index, result, err := r.ApplyForwarded(ctx, command)
	if n.lost != nil && n.lost(command) {
		return 0, nil, errCut
	}
	return index, result, err
}

func (n *node) running() *Raft {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.raft
}

// open starts the broker's process up to where its machine goes on.
func (n *node) open() (*Raft, error) {
	store, err := log.Open(testDir, log.Options{
		FS: n.fs, JournalFileBytes: 8 << 20, TailBytes: 1 << 20, ReserveBytes: -1, BallastBytes: -1, ScrubInterval: -1,
	})
	if err != nil {
		return nil, err
	}
	stream := NewStreamLayer(n.addr(), n.dial)
	stream.anyDisk = n.bed.anyDisk
	n.fatal = make(chan error, 1)
	o := RaftOptions{
		Node: n.id, DiskUUID: n.disk, Stream: stream, Forward: n.forward, ProposeTimeout: testWait,
		OnFatal: func(err error) { n.fatal <- err },
		OnChanges: func(changes []Change) {
			n.mu.Lock()
			defer n.mu.Unlock()
			n.changes = append(n.changes, changes...)
		},
		OnLeader: func(leads bool, _ uint64) {
			n.mu.Lock()
			defer n.mu.Unlock()
			n.leads = append(n.leads, leads)
		},
	}
	if testing.Verbose() {
		o.Logger = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelInfo})).With("node", n.id)
	}
	if n.bed.edit != nil {
		n.bed.edit(&o)
	}
	r, err := OpenRaft(store, o)
	if err != nil {
		_ = store.Close()
		return nil, err
	}
	n.mu.Lock()
	n.store, n.raft, n.stream, n.changes, n.leads = store, r, stream, nil, nil
	n.mu.Unlock()
	return r, nil
}

// start starts the broker's process.
func (n *node) start() *Raft {
	r, err := n.open()
	require.NoError(n.bed.t, err)
	r.Start()
	return r
}

// stop ends the process as it should end.
func (n *node) stop() {
	n.mu.Lock()
	r, store := n.raft, n.store
	n.raft, n.stream, n.store = nil, nil, nil
	n.mu.Unlock()
	if r != nil {
		r.Close()
		_ = store.Close() // fails after a crash
	}
}

// kill ends the process without warning. Of what was not flushed some is lost if the
// power failed with it.
func (n *node) kill(power bool) {
	keep := 1.0
	if power {
		keep = 0.5
	}
	n.fs.CrashNow() // first: from here on nothing is durable, and so nothing is promised
	left := n.fs.Crash(keep, rand.New(rand.NewPCG(rand.Uint64(), 1)))
	n.stop()
	n.fs = left
}

// found makes a cluster of n brokers, all of them registered.
func found(t testing.TB, count int, edit func(*RaftOptions)) *bed {
	b := newBed(t, edit)
	for range count {
		b.add()
	}
	for i, n := range b.nodes {
		r := n.start()
		if i == 0 {
			require.NoError(t, r.Bootstrap())
		}
	}
	for _, n := range b.nodes {
		b.register(n, true)
	}
	b.voters(count)
	return b
}

// register registers a broker, by way of the one that leads.
func (b *bed) register(n *node, voter bool) Broker {
	b.t.Helper()
	r := b.do(b.nodes[0], RegisterBroker{Broker{
		Node: n.id, DiskUUID: n.disk, Addr: "client", ClusterAddr: n.addr(), Voter: voter,
	}})
	require.NoError(b.t, r.Errors[0])
	return r.Broker
}

// do has a command carried out, proposed on a broker.
func (b *bed) do(n *node, c Command) Result {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), testWait)
	defer cancel()
	r, err := n.running().Do(ctx, c)
	require.NoError(b.t, err)
	return r
}

// eventually waits until a condition holds.
func (b *bed) eventually(what string, ok func() bool) {
	b.t.Helper()
	require.Eventually(b.t, ok, testWait, 5*time.Millisecond, what)
}

// voters waits until Raft has that many voters, and all brokers see that.
func (b *bed) voters(count int) {
	b.t.Helper()
	b.eventually(fmt.Sprintf("%d voters", count), func() bool {
		for _, n := range b.nodes {
			if r := n.running(); r != nil && r.Stats().Voters != count {
				return false
			}
		}
		return b.leader() != nil
	})
}

// leader returns the running broker that leads, nil if there is none or it is not agreed.
func (b *bed) leader() (leader *node) {
	for _, n := range b.nodes {
		if r := n.running(); r != nil && r.IsLeader() {
			if leader != nil {
				return nil
			}
			leader = n
		}
	}
	return leader
}

func (b *bed) awaitLeader() *node {
	b.t.Helper()
	b.eventually("a leader", func() bool { return b.leader() != nil })
	return b.leader()
}

// agree waits until all running brokers have the same state, and returns it.
func (b *bed) agree() (state *Machine) {
	b.t.Helper()
	b.eventually("the same state everywhere", func() bool {
		hashes := map[uint64]bool{}
		for _, n := range b.nodes {
			if r := n.running(); r != nil {
				r.View(func(m *Machine) { hashes[m.Hash()] = true; state = m })
			}
		}
		return len(hashes) == 1
	})
	copied := NewMachine()
	require.NoError(b.t, copied.Restore(state.Snapshot()))
	return copied
}

// cutOff cuts or mends all cables of a broker.
func (b *bed) cutOff(n *node, cut bool) {
	b.mu.Lock()
	for _, other := range b.nodes {
		b.cut[[2]string{n.addr(), other.addr()}] = cut && other != n
		b.cut[[2]string{other.addr(), n.addr()}] = cut && other != n
	}
	b.mu.Unlock()
	for _, other := range b.nodes { // connections that are up, too
		other.mu.Lock()
		stream := other.stream
		other.mu.Unlock()
		if stream != nil {
			stream.breakAll()
		}
	}
}

// breakAll breaks all connections.
func (l *StreamLayer) breakAll() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for c := range l.conns {
		_ = c.Conn.Close()
	}
}

func raftTopic(name string, id byte) *Topic {
	t := testTopic(name, id, 2)
	for i := range t.Partitions {
		t.Partitions[i] = Partition{Set: replication.ReplicaSet{Members: []replication.Member{member(1, 1)}}}
	}
	return t
}

func create(name string, id byte) Command { return CreateTopics{[]*Topic{raftTopic(name, id)}} }
