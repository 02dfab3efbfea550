package cluster

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sequitur-mq/sequitur/consensus"
	"github.com/sequitur-mq/sequitur/wire"
	"github.com/sequitur-mq/sequitur/wire/peer"
)

// Metadata is the cluster's metadata as a node needs it.
type Metadata interface {
	consensus.Driver
	Bootstrap() error
	IsLeader() bool
	// Leader is the node that leads Raft and its cluster address, 0 if none is known.
	Leader() (node uint32, addr string)
	Applied() uint64
	// ApplyForwarded proposes an encoded command of another broker.
	ApplyForwarded(ctx context.Context, command []byte) (index uint64, result []byte, err error)
	TransferLeadership() error
}

// Replicas are the replicas on this broker.
type Replicas interface {
	// Fence has them adopt epochs, and answers when all of it is durable.
	Fence(ctx context.Context, req *peer.FenceRequest, resp *peer.FenceResponse)
	// Read reads batches of a log, for the repair of another replica.
	Read(req *peer.ReadRequest) (*peer.ReadResponse, error)
	// Report fills in what a heartbeat says about them.
	Report(req *peer.HeartbeatRequest)
	// Sent says that the controller of a term has taken a heartbeat in.
	Sent(req *peer.HeartbeatRequest, term uint64)
	// Forgotten says that the controller knows nothing of them any more.
	Forgotten()
}

// Controller is what runs on the broker that leads Raft.
type Controller interface {
	Heartbeat(req *peer.HeartbeatRequest) peer.HeartbeatResponse
	Disconnected(node uint32)
	Leaving(ctx context.Context, node uint32) peer.LeavingResponse
	Admin(ctx context.Context, kind uint16, body []byte) ([]byte, error)
}

// Options configure a Node.
type Options struct {
	Node    uint32
	Disk    wire.UUID
	Cluster wire.UUID // zero: of none yet
	// SetCluster makes the membership of a cluster durable.
	SetCluster func(wire.UUID) error
	// Founding: Raft knows this broker alone, so it is the one that founds.
	Founding bool
	// JoinOnly: this broker was of a cluster before and may not found one.
	JoinOnly bool
	// FoundAs is the UUID of a cluster that is founded here; zero: a new one.
	FoundAs wire.UUID
	Session uint64 // tells this life of the process from others
	Addr    string // for clients
	Rack    string
	Version string
	Join    []string
	// Import is the state of a standalone broker that becomes a cluster.
	Import []byte

	Listener   *Listener
	Peers      *Peers
	Meta       Metadata
	Replicas   Replicas
	Controller Controller
	Logger     *slog.Logger
	OnFatal    func(error) // the broker cannot be of this cluster
	OnReady    func()      // the metadata is caught up: clients may be served
}

const (
	heartbeatEvery   = 100 * time.Millisecond
	heartbeatTimeout = 400 * time.Millisecond
	retryEvery       = 50 * time.Millisecond
	askTimeout       = time.Second
	registerTimeout  = 5 * time.Second
	complainEvery    = 2 * time.Second
	leavingTimeout   = 6 * time.Second
)

// A Node is this broker as one of a cluster: it joins, registers, says that it
// lives, and answers what the others ask.
type Node struct {
	o       Options
	cluster atomic.Pointer[wire.UUID]
	state   atomic.Pointer[string] // why it is not ready, nil when it is
	ctx     context.Context
	cancel  context.CancelFunc
	ended   sync.WaitGroup
	server  *Server

	complained time.Time // of the node's goroutine
}

// NewNode returns a node that does nothing yet.
func NewNode(o Options) *Node {
	n := &Node{o: o}
	n.cluster.Store(&o.Cluster)
	n.ctx, n.cancel = context.WithCancel(context.Background())
	n.wait("the broker has just started")
	n.server = &Server{Handle: n.handle, Lost: n.o.Controller.Disconnected, Log: o.Logger}
	return n
}

// Start serves the others and begins to join, which may take as long as the
// others are not there.
func (n *Node) Start() {
	n.o.Listener.Handle(peer.StreamRPC, n.server.Serve)
	n.ended.Go(n.run)
}

// Close ends the node's own goroutine. The listener goes on answering until it is
// closed.
func (n *Node) Close() {
	n.cancel()
	n.ended.Wait()
}

// Cluster is the cluster's UUID, zero if it is not known yet.
func (n *Node) Cluster() wire.UUID { return *n.cluster.Load() }

// Waiting says what the broker waits for before it serves clients, empty if it
// does.
func (n *Node) Waiting() string {
	if s := n.state.Load(); s != nil {
		return *s
	}
	return ""
}

// wait notes what is waited for, and says so now and then.
func (n *Node) wait(why string) {
	n.state.Store(&why)
	now := time.Now()
	if n.complained.IsZero() {
		n.complained = now
	}
	if now.Sub(n.complained) >= complainEvery {
		n.complained = now
		n.o.Logger.Warn("waiting for the cluster", "reason", why)
	}
}

func (n *Node) pause(d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-n.ctx.Done():
		return false
	}
}

// run is the node's life: into a cluster, known to it, caught up, alive.
func (n *Node) run() {
	if err := n.enter(); err != nil {
		if n.ctx.Err() == nil {
			n.o.OnFatal(err)
		}
		return
	}
	registered, ready := false, false
	for n.ctx.Err() == nil {
		if !registered {
			err := n.register()
			if registered = err == nil; !registered {
				if fatal(err) && n.ctx.Err() == nil {
					n.o.OnFatal(err)
					return
				}
				n.wait(err.Error())
				n.pause(retryEvery)
				continue
			}
		}
		resp, err := n.heartbeat()
		if err != nil {
			// A controller that has not heard of this life of the process yet.
			if registered = !refused(err); !registered {
				n.o.Replicas.Forgotten()
			}
		}
		if err == nil && !ready {
			applied := n.o.Meta.Applied()
			if ready = applied >= resp.Applied; ready {
				n.state.Store(nil)
				n.o.OnReady()
			} else {
				n.wait(fmt.Sprintf("metadata is applied up to entry %d of %d", applied, resp.Applied))
				n.pause(retryEvery)
				continue
			}
		}
		if err != nil && !ready {
			n.wait(err.Error())
		}
		n.pause(heartbeatEvery)
	}
}

// enter makes the directory one of a cluster, if it is not yet.
func (n *Node) enter() error {
	if n.Cluster() != (wire.UUID{}) {
		return nil
	}
	if n.o.Founding || n.o.Import != nil {
		return n.found() // perhaps it began to, and was interrupted
	}
	for n.ctx.Err() == nil {
		step, err := NextStep(Newcomer{Node: n.o.Node, Disk: n.o.Disk}, n.ask())
		switch {
		case err != nil:
			return err
		case step.Found && n.o.JoinOnly:
			n.wait("none of the brokers to join is in a cluster, and this one may not found one: it was of one, and its content is damaged")
		case step.Found:
			return n.found()
		case len(step.Register) > 0:
			err := n.registerAt(step.Register)
			if err == nil {
				return nil
			}
			if fatal(err) {
				return err
			}
			n.wait(err.Error())
		default:
			n.wait(step.Wait)
		}
		n.pause(retryEvery)
	}
	return n.ctx.Err()
}

// found founds a cluster of this broker. Whatever is interrupted here is done
// again: the directory is of the cluster when all of it is there.
func (n *Node) found() error {
	if !n.o.Founding {
		if err := n.o.Meta.Bootstrap(); err != nil {
			return fmt.Errorf("found a cluster: %w", err)
		}
	}
	for !n.o.Meta.IsLeader() {
		n.wait("a cluster is being founded")
		if !n.pause(time.Millisecond) {
			return n.ctx.Err()
		}
	}
	var res consensus.Result
	b := n.self()
	b.Voter = true
	res, err := n.o.Meta.Do(n.ctx, consensus.RegisterBroker{Broker: b})
	if err == nil {
		err = res.Errors[0]
	}
	if err == nil && n.o.Import != nil {
		if res, err = n.o.Meta.Do(n.ctx, consensus.ImportState{Snapshot: n.o.Import}); err == nil {
			err = res.Errors[0]
		}
		if errors.Is(err, wire.ErrTopicExists) {
			err = nil // that was done before
		}
	}
	if err != nil {
		return fmt.Errorf("found a cluster: %w", err)
	}
	id := n.o.FoundAs
	if id == (wire.UUID{}) {
		id = newUUID()
	}
	n.o.Logger.Info("cluster founded", "cluster", id.String(), "node", n.o.Node)
	return n.belong(id)
}

func (n *Node) belong(cluster wire.UUID) error {
	if err := n.o.SetCluster(cluster); err != nil {
		return err
	}
	n.cluster.Store(&cluster)
	return nil
}

// self is this broker as it registers.
func (n *Node) self() consensus.Broker {
	return consensus.Broker{
		Node: n.o.Node, DiskUUID: n.o.Disk, Addr: n.o.Addr, ClusterAddr: n.o.Listener.Addr(),
		Rack: n.o.Rack, Version: n.o.Version, Session: n.o.Session,
	}
}

// ask asks every address that was given who is there, all at once.
func (n *Node) ask() []Asked {
	asked := make([]Asked, len(n.o.Join))
	var all sync.WaitGroup
	for i, addr := range n.o.Join {
		asked[i].Addr = addr
		all.Add(1)
		go func() {
			defer all.Done()
			if who, err := n.Who(n.ctx, addr); err == nil {
				asked[i].Who = &who
			}
		}()
	}
	all.Wait()
	return asked
}

// Who asks the broker at an address who it is.
func (n *Node) Who(ctx context.Context, addr string) (who peer.WhoResponse, err error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	req := &peer.WhoRequest{MinVersion: peer.MinVersion, MaxVersion: peer.MaxVersion}
	if err := n.o.Peers.Call(ctx, addr, peer.KindWho, req, &who); err != nil {
		return who, err
	}
	return who, who.Err()
}
