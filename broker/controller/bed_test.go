package controller

import (
	"context"
	"errors"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sequitur-mq/sequitur/consensus"
	"github.com/sequitur-mq/sequitur/consensus/controller"
	"github.com/sequitur-mq/sequitur/replication"
	"github.com/sequitur-mq/sequitur/wire"
	"github.com/sequitur-mq/sequitur/wire/peer"
)

// metadata is a consensus.Driver in memory: commands take a moment and are then
// applied, in order, and reported to everybody.
type metadata struct {
	mu      sync.Mutex
	machine *consensus.Machine
	index   uint64
	tell    []func([]consensus.Change)
	queue   chan func()
	done    sync.WaitGroup
	err     error // proposals fail
}

func newMetadata() *metadata {
	m := &metadata{machine: consensus.NewMachine(), queue: make(chan func(), 100)}
	m.done.Go(func() {
		for fn := range m.queue {
			pass(2 * time.Millisecond) // the time that consensus takes, in the test's own clock
			fn()
		}
	})
	return m
}

func (m *metadata) View(fn func(*consensus.Machine)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	fn(m.machine)
}

func (m *metadata) Propose(c consensus.Command, done func(consensus.Result, error)) {
	m.queue <- func() {
		m.mu.Lock()
		if m.err != nil {
			m.mu.Unlock()
			done(consensus.Result{}, m.err)
			return
		}
		m.index++
		r, err := m.machine.Apply(m.index, consensus.Encode(c))
		tell := slices.Clone(m.tell)
		m.mu.Unlock()
		for _, fn := range tell {
			fn(r.Changes)
		}
		done(r, err)
	}
}

func (m *metadata) Do(ctx context.Context, c consensus.Command) (r consensus.Result, err error) {
	done := make(chan struct{})
	m.Propose(c, func(got consensus.Result, gotErr error) { r, err = got, gotErr; close(done) })
	<-done
	return r, err
}

func (m *metadata) Close() { close(m.queue); m.done.Wait() }

func (m *metadata) follow(d *Driver) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.tell = append(m.tell, d.Changed)
}

// bed is a driver with brokers whose logs are all equal and always in step.
type bed struct {
	t    *testing.T
	meta *metadata

	mu      sync.Mutex
	driver  *Driver
	brokers map[uint32]*fakeBroker
	ended   sync.WaitGroup
}

type fakeBroker struct {
	node    uint32
	disk    uint32
	session uint64
	up      bool
	hang    bool // answers nothing
	adopted map[peer.PartitionID]uint32
	stop    chan struct{}
}

func newBed(t *testing.T, nodes ...uint32) *bed {
	b := &bed{t: t, meta: newMetadata(), brokers: map[uint32]*fakeBroker{}}
	b.driver = b.newDriver()
	b.driver.SetLeader(true, 1)
	for _, n := range nodes {
		b.start(n)
	}
	return b
}

func (b *bed) newDriver() *Driver {
	d := New(Options{Self: 1, Metadata: b.meta, RPC: b})
	b.meta.follow(d)
	return d
}

func (b *bed) close() {
	for n := range b.brokers {
		b.kill(n)
	}
	b.ended.Wait()
	b.driver.Close()
	b.meta.Close()
}

func (b *bed) current() *Driver {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.driver
}

// start starts a broker, which registers and sends heartbeats.
func (b *bed) start(node uint32) {
	b.mu.Lock()
	f := b.brokers[node]
	if f == nil {
		f = &fakeBroker{node: node}
		b.brokers[node] = f
	}
	f.session++
	f.up, f.hang, f.stop = true, false, make(chan struct{})
	f.adopted = map[peer.PartitionID]uint32{}
	session, stop := f.session, f.stop
	b.mu.Unlock()
	r, err := b.meta.Do(context.Background(), consensus.RegisterBroker{Broker: consensus.Broker{
		Node: node, DiskUUID: [16]byte{byte(node)}, Session: session, Voter: true,
	}})
	require.NoError(b.t, err)
	require.NoError(b.t, r.Errors[0])
	f.disk = r.Broker.Disk
	b.ended.Go(func() {
		ticker := time.NewTicker(100 * time.Millisecond)
		defer ticker.Stop()
		for {
			select {
			case <-stop:
				return
			case <-ticker.C:
				b.heartbeat(f, session)
			}
		}
	})
}

func (b *bed) heartbeat(f *fakeBroker, session uint64) {
	req := &peer.HeartbeatRequest{Node: f.node, Disk: f.disk, Session: session}
	b.meta.View(func(m *consensus.Machine) {
		for t := range m.Topics() {
			for i, p := range t.Partitions {
				id := peer.PartitionID{Topic: t.ID, Partition: uint32(i)}
				if p.Leader.Node == f.node && b.adoptedBy(f, id) == p.Epoch {
					req.Serving = append(req.Serving, peer.EpochOf{ID: id, Epoch: p.Epoch})
				}
			}
		}
	})
	b.mu.Lock()
	hang := f.hang
	b.mu.Unlock()
	if !hang {
		b.current().Heartbeat(req)
	}
}

func (b *bed) adoptedBy(f *fakeBroker, id peer.PartitionID) uint32 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return f.adopted[id]
}

func (b *bed) kill(node uint32) {
	b.mu.Lock()
	f := b.brokers[node]
	was := f.up
	f.up = false
	b.mu.Unlock()
	if was {
		close(f.stop)
		b.current().Disconnected(node)
	}
}

func (b *bed) hang(node uint32) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.brokers[node].hang = true
}

// Fence and Probe are the brokers' side of RPC.

func (b *bed) Fence(ctx context.Context, node uint32, req *peer.FenceRequest) (*peer.FenceResponse, error) {
	pass(time.Millisecond) // the network
	b.mu.Lock()
	f := b.brokers[node]
	up, hang := f.up, f.hang
	b.mu.Unlock()
	switch {
	case !up:
		return nil, syscall.ECONNREFUSED
	case hang:
		<-ctx.Done()
		return nil, ctx.Err()
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	resp := &peer.FenceResponse{From: peer.Member{Node: node, Disk: f.disk}}
	for _, item := range req.Items {
		f.adopted[item.ID] = max(f.adopted[item.ID], item.Epoch)
		resp.Items = append(resp.Items, peer.FenceVote{Epoch: item.Epoch, LastEpoch: item.Epoch - 1, End: 7, Fence: f.adopted[item.ID]})
	}
	return resp, nil
}

func (b *bed) Probe(ctx context.Context, node uint32) (uint64, error) {
	pass(time.Millisecond) // the network
	b.mu.Lock()
	f := b.brokers[node]
	up, hang, session := f.up, f.hang, f.session
	b.mu.Unlock()
	switch {
	case !up:
		return 0, errors.Join(errors.New("probe"), syscall.ECONNREFUSED)
	case hang:
		<-ctx.Done()
		return 0, ctx.Err()
	}
	return session, nil
}

func (b *bed) createTopic(name string, n uint32, rf int) wire.UUID {
	var id wire.UUID
	copy(id[:], name)
	var placed []consensus.Partition
	b.meta.View(func(m *consensus.Machine) {
		var err error
		placed, err = controller.PlaceTopic(m, id, n, rf)
		require.NoError(b.t, err)
	})
	r, err := b.meta.Do(context.Background(), consensus.CreateTopics{Topics: []*consensus.Topic{{
		ID: id, Name: name, Partitions: placed, Config: wire.TopicConfig{Partitions: n, ReplicationFactor: uint16(rf)},
	}}})
	require.NoError(b.t, err)
	require.NoError(b.t, r.Errors[0])
	return id
}

func (b *bed) partitions(id wire.UUID) (all []consensus.Partition) {
	b.meta.View(func(m *consensus.Machine) {
		t, _ := m.TopicByID(id)
		all = slices.Clone(t.Partitions)
	})
	return all
}

// led says whether every partition has a leader on a broker that is up, and how many
// each leads.
func (b *bed) led(id wire.UUID) (leaders map[uint32]int, all bool) {
	leaders, all = map[uint32]int{}, true
	for _, p := range b.partitions(id) {
		b.mu.Lock()
		up := p.Leader != (replication.Member{}) && b.brokers[p.Leader.Node].up
		b.mu.Unlock()
		all = all && up
		leaders[p.Leader.Node]++
	}
	return leaders, all
}

// pass lets virtual time pass.
func pass(d time.Duration) { <-time.After(d) }
