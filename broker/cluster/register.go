package cluster

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"

	"github.com/sequitur-mq/sequitur/consensus"
	"github.com/sequitur-mq/sequitur/wire"
	"github.com/sequitur-mq/sequitur/wire/peer"
)

// maxVoters bounds who decides about the metadata; further brokers follow it.
const maxVoters = 5

func newUUID() (id wire.UUID) {
	rand.Read(id[:])
	return id
}

// fatal reports whether an error of registering cannot be mended by trying again.
func fatal(err error) bool {
	return errors.Is(err, wire.ErrInvalidConfig) || errors.Is(err, wire.ErrUnsupportedVersion)
}

// refused reports whether a controller asks for a registration first.
func refused(err error) bool { return errors.Is(err, wire.ErrInvalidRequest) }

// register makes this life of the process known to the controller.
func (n *Node) register() error {
	return n.registerAt(n.candidates())
}

// candidates are the addresses at which the controller may be found, the
// likeliest first.
func (n *Node) candidates() (addrs []string) {
	add := func(addr string) {
		if addr != "" && !slices.Contains(addrs, addr) {
			addrs = append(addrs, addr)
		}
	}
	_, leader := n.o.Meta.Leader()
	add(leader)
	n.o.Meta.View(func(m *consensus.Machine) {
		for _, b := range m.Brokers() {
			if b.Node != n.o.Node {
				add(b.ClusterAddr)
			}
		}
	})
	for _, addr := range n.o.Join {
		add(addr)
	}
	return addrs
}

// registerAt registers with the controller, which one of the addresses is or
// knows. A new disk registers twice: once to learn of which cluster it is, and
// when that is durable, to take part in it.
func (n *Node) registerAt(addrs []string) error {
	if n.o.Meta.IsLeader() {
		_, err := n.admit(n.ctx, n.request())
		return err
	}
	err := errors.New("no controller is known")
	for i := 0; i < len(addrs) && i < 16; i++ {
		var resp peer.RegisterResponse
		if resp, err = n.registerWith(addrs[i]); err == nil {
			if n.Cluster() != (wire.UUID{}) {
				return nil
			}
			if err := n.belong(resp.Cluster); err != nil {
				return err
			}
			n.o.Logger.Info("cluster joined", "cluster", resp.Cluster.String(), "node", n.o.Node, "disk", resp.Disk)
			_, err = n.registerWith(addrs[i])
			return err
		}
		if fatal(err) {
			return err
		}
		if who, whoErr := n.Who(n.ctx, addrs[i]); whoErr == nil && who.ControllerAddr != "" && !slices.Contains(addrs, who.ControllerAddr) {
			addrs = append(addrs, who.ControllerAddr)
		}
	}
	return err
}

func (n *Node) request() *peer.RegisterRequest {
	b := n.self()
	return &peer.RegisterRequest{
		Node: b.Node, Disk: b.DiskUUID, Cluster: n.Cluster(), Addr: b.Addr, ClusterAddr: b.ClusterAddr,
		Rack: b.Rack, Version: b.Version, Session: b.Session,
	}
}

func (n *Node) registerWith(addr string) (resp peer.RegisterResponse, err error) {
	ctx, cancel := context.WithTimeout(n.ctx, registerTimeout)
	defer cancel()
	if err := n.o.Peers.Call(ctx, addr, peer.KindRegister, n.request(), &resp); err != nil {
		return resp, err
	}
	if err := resp.Err(); err != nil {
		return resp, fmt.Errorf("register with the broker at %s: %w", addr, err)
	}
	return resp, nil
}

// admit registers a broker, on the broker that leads Raft.
func (n *Node) admit(ctx context.Context, req *peer.RegisterRequest) (*peer.RegisterResponse, error) {
	own := n.Cluster()
	switch {
	case !n.o.Meta.IsLeader() || own == (wire.UUID{}):
		return nil, wire.Errorf(wire.CodeNotLeader, "broker %d is not the controller", n.o.Node)
	case req.Node == 0 || req.Disk == (wire.UUID{}):
		return nil, wire.Errorf(wire.CodeInvalidConfig, "node id and disk are missing")
	case req.Cluster != (wire.UUID{}) && req.Cluster != own:
		return nil, wire.Errorf(wire.CodeInvalidConfig, "the data directory of broker %d belongs to cluster %v, this is cluster %v: give it an empty directory, or the addresses of its own cluster", req.Node, req.Cluster, own)
	}
	var old consensus.Broker
	var known bool
	voters := 0
	n.o.Meta.View(func(m *consensus.Machine) {
		old, known = m.Broker(req.Node)
		for _, b := range m.Brokers() {
			if b.Voter && b.Node != req.Node {
				voters++
			}
		}
	})
	if known && old.DiskUUID != req.Disk {
		if who, err := n.Who(ctx, old.ClusterAddr); err == nil && who.Node == req.Node && who.Disk == wire.UUID(old.DiskUUID) {
			return nil, wire.Errorf(wire.CodeInvalidConfig, "another broker with node id %d lives at %s: give each broker a node id of its own", req.Node, old.ClusterAddr)
		}
		n.o.Logger.Warn("broker comes back with another disk: its old replicas are lost and will be made anew", "node", req.Node, "addr", req.ClusterAddr)
	}
	res, err := n.o.Meta.Do(ctx, consensus.RegisterBroker{Broker: consensus.Broker{
		Node: req.Node, DiskUUID: req.Disk, Addr: req.Addr, ClusterAddr: req.ClusterAddr,
		Rack: req.Rack, Version: req.Version, Session: req.Session, Voter: voters < maxVoters,
	}})
	if err == nil {
		err = res.Errors[0]
	}
	if err != nil {
		return nil, err
	}
	return &peer.RegisterResponse{Cluster: own, Disk: res.Broker.Disk, Voter: res.Broker.Voter}, nil
}
