package broker

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/sequitur-mq/sequitur/broker/cluster"
	"github.com/sequitur-mq/sequitur/broker/controller"
	"github.com/sequitur-mq/sequitur/consensus"
	machine "github.com/sequitur-mq/sequitur/consensus/controller"
	"github.com/sequitur-mq/sequitur/log"
	"github.com/sequitur-mq/sequitur/replication"
	"github.com/sequitur-mq/sequitur/replication/replica"
	"github.com/sequitur-mq/sequitur/replication/session"
	"github.com/sequitur-mq/sequitur/wire"
	"github.com/sequitur-mq/sequitur/wire/peer"
)

// ErrNotAdmitted says that this broker cannot be one of the cluster as it is
// configured.
var ErrNotAdmitted = errors.New("not admitted to the cluster")

// prepareClustered checks that the data directory can be that of this broker, and
// makes it if it is new.
func (b *Broker) prepareClustered(dir string) error {
	id, err := log.PrepareIdentity(b.cfg.fs, dir, uint32(b.cfg.NodeID))
	if err != nil {
		return err
	}
	if id.Node != uint32(b.cfg.NodeID) {
		return fmt.Errorf("the data directory %s is that of node %d, not of node-id %d: use the directory or the number that belong together", b.cfg.DataDir, id.Node, b.cfg.NodeID)
	}
	return nil
}

// openClustered opens the copy of the cluster's metadata in the store, and
// everything that follows it. Nothing of it moves before begin.
func (b *Broker) openClustered(ports *ports) (c *clustered, err error) {
	id := b.store.Identity()
	c = &clustered{listener: ports.cluster, peers: cluster.NewPeers(), began: make(chan struct{}), session: newSession(), log: b.log}
	c.life, c.end = context.WithCancel(context.Background())
	c.following = newFollowing(b.topics, id.Disk, b.log)
	c.following.sessions, c.following.breaks = c, b.cfg.breaks
	b.topics.cluster = c.following
	stream := consensus.NewStreamLayer(c.listener.Addr(), func(ctx context.Context, addr string) (net.Conn, error) {
		return cluster.Dial(ctx, addr, peer.StreamRaft)
	})
	c.listener.Handle(peer.StreamRaft, stream.Hand)
	c.raft, err = consensus.OpenRaft(b.store, consensus.RaftOptions{
		Node: id.Node, DiskUUID: id.Disk, Stream: stream, OnChanges: b.changed, OnFatal: b.fail, Logger: b.log,
		OnLeader: func(leads bool, term uint64) {
			<-c.began
			c.driver.SetLeader(leads, term)
		},
		Forward: func(ctx context.Context, addr string, command []byte) (uint64, []byte, error) {
			return cluster.Forward(ctx, c.peers, addr, command)
		},
	})
	if err != nil {
		return nil, err
	}
	c.meta = c.raft
	settings := machine.Settings{ReplaceAfter: time.Duration(b.cfg.ReplaceAfter)}
	c.driver = controller.New(controller.Options{Self: id.Node, Metadata: c.raft, RPC: c, Logger: b.log, Registerer: b.registry, Settings: settings})
	c.raft.View(func(m *consensus.Machine) { c.following.know(m) })
	return c, nil
}

// beginClustered lets the metadata go on and joins the cluster. Clients are served
// when that is done.
func (b *Broker) beginClustered(c *clustered) error {
	id := b.store.Identity()
	o := cluster.Options{
		Node: id.Node, Disk: id.Disk, Cluster: id.Cluster, SetCluster: c.belong(b.store), Session: c.session,
		Addr: b.handler.advertise, Rack: b.cfg.Rack, Version: b.cfg.Version, Join: b.cfg.joinAddresses(),
		Listener: c.listener, Peers: c.peers, Meta: c.raft, Replicas: c.following, Controller: c.driver,
		JoinOnly: b.wasDamaged(), Logger: b.log, OnReady: b.serve,
		OnFatal: func(err error) { b.fail(fmt.Errorf("%w: %w", ErrNotAdmitted, err)) },
	}
	stats := c.raft.Stats()
	o.Founding = stats.Voters == 1 && stats.NonVoters == 0
	if id.Cluster != (wire.UUID{}) && stats.Voters == 0 && stats.Last == 0 {
		if err := b.importStandalone(&o); err != nil {
			return err
		}
	}
	c.node = cluster.NewNode(o)
	c.listener.Handle(peer.StreamSession, c.serveSession)
	c.begin()
	c.raft.Start()
	c.node.Start()
	c.repairs.Go(func() { c.repair(b.store) })
	return nil
}

// importStandalone founds a cluster with what a broker by itself has stored.
func (b *Broker) importStandalone(o *cluster.Options) error {
	if _, there := b.store.Partition(consensus.LogID); !there {
		return nil
	}
	for _, addr := range o.Join {
		if addr != o.Listener.Addr() {
			return fmt.Errorf("the data directory %s is that of a broker by itself: found a cluster with it, without join, and let the others join it", b.cfg.DataDir)
		}
	}
	m, err := consensus.ReadMachine(b.store)
	if err != nil {
		return fmt.Errorf("take over the metadata of a broker by itself: %w", err)
	}
	o.Import, o.FoundAs, o.Cluster = m.Snapshot(), o.Cluster, wire.UUID{}
	return nil
}

func newSession() uint64 {
	var b [8]byte
	for {
		rand.Read(b[:])
		if n := binary.LittleEndian.Uint64(b[:]); n != 0 {
			return n
		}
	}
}

// belong makes the membership of a cluster durable.
func (c *clustered) belong(store *log.Store) func(wire.UUID) error {
	return func(id wire.UUID) error { return store.SetCluster(id) }
}

// Fence implements controller.RPC.
func (c *clustered) Fence(ctx context.Context, node uint32, req *peer.FenceRequest) (*peer.FenceResponse, error) {
	return c.node.Fence(ctx, node, req)
}

// Probe implements controller.RPC.
func (c *clustered) Probe(ctx context.Context, node uint32) (uint64, error) {
	return c.node.Probe(ctx, node)
}

// sessionOptions are those of this broker as a replica.
func (c *clustered) sessionOptions() (session.Options, bool) {
	self := c.following.self.Load()
	if self == nil {
		return session.Options{}, false
	}
	return session.Options{Self: *self, Cluster: c.node.Cluster(), Nonce: c.session, Logger: c.log, PartitionWindow: 4 << 20, Window: 16 << 20}, true
}

// sessionsOf makes the manager of the sessions in which this broker follows, once
// it knows which member it is.
func (c *clustered) manager() *session.Manager {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.sessions == nil && !c.closed {
		if o, ok := c.sessionOptions(); ok {
			c.sessions = session.NewManager(c.dialSession, o)
		}
	}
	return c.sessions
}

func (c *clustered) dialSession(ctx context.Context, node uint32) (net.Conn, error) {
	addr := ""
	c.raft.View(func(m *consensus.Machine) {
		if b, ok := m.Broker(node); ok {
			addr = b.ClusterAddr
		}
	})
	if addr == "" {
		return nil, fmt.Errorf("broker %d is not registered", node)
	}
	return cluster.Dial(ctx, addr, peer.StreamSession)
}

// Follow implements sessions.
func (c *clustered) Follow(id log.ID, r *replica.Replica, leader replication.Member) {
	if m := c.manager(); m != nil {
		m.Follow(session.Key(id), r, leader)
	}
}

// Unfollow implements sessions.
func (c *clustered) Unfollow(id log.ID) {
	c.mu.Lock()
	m := c.sessions
	c.mu.Unlock()
	if m != nil {
		m.Unfollow(session.Key(id))
	}
}

// Replica implements session.Replicas.
func (c *clustered) Replica(topic [16]byte, number uint32) (*replica.Replica, error) {
	p, err := c.following.topics.find(topic, number)
	if err != nil {
		return nil, err
	}
	return p.use()
}

// serveSession serves a broker that follows this one.
func (c *clustered) serveSession(conn net.Conn) {
	o, ok := c.sessionOptions()
	if !ok {
		return
	}
	err := session.Serve(c.life, conn, c, o)
	if err != nil && !errors.Is(err, net.ErrClosed) {
		c.log.Warn("replication session ended", "addr", conn.RemoteAddr(), "error", err)
	}
}

// leave has others take over before a planned stop.
func (b *Broker) leave(ctx context.Context) {
	if b.handler.clustered == nil || b.waiting() != "" || b.Health() != nil {
		return
	}
	b.handler.leaving.Store(true)
	if err := b.handler.clustered.node.Leave(ctx); err != nil {
		b.log.Warn("the partitions led here were not handed over: others take over once the broker is gone", "error", err)
	}
}

// ports are what the broker listens on.
type ports struct {
	clients net.Listener
	cluster *cluster.Listener // nil without a cluster
}

func (b *Broker) listen(ctx context.Context) (*ports, error) {
	clients, err := (&net.ListenConfig{}).Listen(ctx, "tcp", b.cfg.Listen)
	if err != nil {
		return nil, fmt.Errorf("listen for clients: %w", err)
	}
	p := &ports{clients: clients}
	if b.cfg.clustered() {
		if p.cluster, err = cluster.Listen(ctx, b.cfg.ClusterListen, b.cfg.ClusterAdvertise, b.log, cluster.Limits{}); err != nil {
			return nil, errors.Join(err, clients.Close())
		}
	}
	return p, nil
}

func (p *ports) close() {
	p.clients.Close()
	if p.cluster != nil {
		p.cluster.Close()
	}
}
