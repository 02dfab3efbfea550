package cluster

import (
	"context"
	"errors"
	"fmt"
	"syscall"
	"time"

	"github.com/sequitur-mq/sequitur/consensus"
	"github.com/sequitur-mq/sequitur/wire"
	"github.com/sequitur-mq/sequitur/wire/peer"
)

// handle answers the requests of other brokers.
func (n *Node) handle(from *Caller, kind wire.Kind, body []byte) (wire.Message, error) {
	switch kind {
	case peer.KindWho:
		return decoded(body, n.answerWho)
	case peer.KindRegister:
		return decoded(body, func(req *peer.RegisterRequest) (wire.Message, error) {
			from.Is(req.Node)
			ctx, cancel := context.WithTimeout(n.ctx, registerTimeout)
			defer cancel()
			resp, err := n.admit(ctx, req)
			if err != nil {
				return nil, err
			}
			return resp, nil
		})
	case peer.KindHeartbeat:
		return decoded(body, func(req *peer.HeartbeatRequest) (wire.Message, error) {
			from.Is(req.Node)
			return n.heard(req)
		})
	case peer.KindFence:
		return decoded(body, func(req *peer.FenceRequest) (wire.Message, error) {
			var resp peer.FenceResponse
			n.o.Replicas.Fence(n.ctx, req, &resp)
			return &resp, nil
		})
	case peer.KindForward:
		return decoded(body, n.forwarded)
	case peer.KindLeaving:
		return decoded(body, func(req *peer.LeavingRequest) (wire.Message, error) { return n.leaving(n.ctx, req.Node) })
	case peer.KindRead:
		return decoded(body, func(req *peer.ReadRequest) (wire.Message, error) {
			resp, err := n.o.Replicas.Read(req)
			if err != nil {
				return nil, err
			}
			return resp, nil
		})
	case peer.KindAdmin:
		return decoded(body, func(req *peer.AdminRequest) (wire.Message, error) {
			answer, err := n.Admin(n.ctx, req.Kind, req.Body, false)
			if err != nil {
				return nil, err
			}
			return &peer.AdminResponse{Body: answer}, nil
		})
	}
	return nil, wire.Errorf(wire.CodeUnsupportedVersion, "request kind %d of the cluster port is not served", kind)
}

// decoded decodes a request and answers it.
func decoded[T any, M interface {
	*T
	wire.Message
}](body []byte, fn func(M) (wire.Message, error)) (wire.Message, error) {
	req := M(new(T))
	if err := req.Decode(body); err != nil {
		return nil, err
	}
	return fn(req)
}

func (n *Node) answerWho(req *peer.WhoRequest) (wire.Message, error) {
	if _, err := wire.Negotiate(req.MinVersion, req.MaxVersion, peer.MinVersion, peer.MaxVersion); err != nil {
		return nil, err
	}
	node, addr := n.o.Meta.Leader()
	return &peer.WhoResponse{
		Version: peer.MaxVersion, Node: n.o.Node, Disk: n.o.Disk, Cluster: n.Cluster(), ClusterAddr: n.o.Listener.Addr(),
		Controller: node, ControllerAddr: addr, Session: n.o.Session,
	}, nil
}

// heard takes in a heartbeat, on the broker that leads Raft.
func (n *Node) heard(req *peer.HeartbeatRequest) (*peer.HeartbeatResponse, error) {
	if !n.o.Meta.IsLeader() {
		return nil, wire.Errorf(wire.CodeNotLeader, "broker %d is not the controller", n.o.Node)
	}
	resp := n.o.Controller.Heartbeat(req)
	return &resp, nil
}

func (n *Node) forwarded(req *peer.ForwardRequest) (wire.Message, error) {
	ctx, cancel := context.WithTimeout(n.ctx, registerTimeout)
	defer cancel()
	index, result, err := n.o.Meta.ApplyForwarded(ctx, req.Command)
	if err != nil {
		return nil, err
	}
	return &peer.ForwardResponse{Index: index, Result: result}, nil
}

// Forward sends a command to the broker that leads Raft.
func (n *Node) Forward(ctx context.Context, leader string, command []byte) (index uint64, result []byte, err error) {
	return Forward(ctx, n.o.Peers, leader, command)
}

// Forward sends a metadata command to the broker at an address.
func Forward(ctx context.Context, peers *Peers, leader string, command []byte) (index uint64, result []byte, err error) {
	var resp peer.ForwardResponse
	if err := peers.Call(ctx, leader, peer.KindForward, &peer.ForwardRequest{Command: command}, &resp); err != nil {
		return 0, nil, err
	}
	return resp.Index, resp.Result, resp.Err()
}

// heartbeat tells the controller that this broker lives.
func (n *Node) heartbeat() (*peer.HeartbeatResponse, error) {
	req := &peer.HeartbeatRequest{Node: n.o.Node, Session: n.o.Session, Applied: n.o.Meta.Applied()}
	n.o.Replicas.Report(req)
	var resp peer.HeartbeatResponse
	if n.o.Meta.IsLeader() {
		resp = n.o.Controller.Heartbeat(req)
	} else {
		_, addr := n.o.Meta.Leader()
		if addr == "" {
			return nil, errNoController
		}
		ctx, cancel := context.WithTimeout(n.ctx, heartbeatTimeout)
		defer cancel()
		if err := n.o.Peers.Call(ctx, addr, peer.KindHeartbeat, req, &resp); err != nil {
			return nil, err
		}
	}
	if err := resp.Err(); err != nil {
		return nil, err
	}
	n.o.Replicas.Sent(req, resp.Term)
	return &resp, nil
}

// address is the cluster address of a broker that is registered.
func (n *Node) address(node uint32) (addr string, err error) {
	n.o.Meta.View(func(m *consensus.Machine) {
		if b, ok := m.Broker(node); ok {
			addr = b.ClusterAddr
			return
		}
		err = fmt.Errorf("broker %d is not registered", node)
	})
	return addr, err
}

// Fence implements the controller's way to the replicas of a broker.
func (n *Node) Fence(ctx context.Context, node uint32, req *peer.FenceRequest) (*peer.FenceResponse, error) {
	var resp peer.FenceResponse
	if node == n.o.Node {
		n.o.Replicas.Fence(ctx, req, &resp)
		return &resp, nil
	}
	addr, err := n.address(node)
	if err != nil {
		return nil, err
	}
	if err := n.o.Peers.Call(ctx, addr, peer.KindFence, req, &resp); err != nil {
		return nil, err
	}
	return &resp, resp.Err()
}

// Probe asks a broker over a connection of its own which life of its process
// this is. A refused connection says that there is none.
func (n *Node) Probe(ctx context.Context, node uint32) (session uint64, err error) {
	if node == n.o.Node {
		return n.o.Session, nil
	}
	addr, err := n.address(node)
	if err != nil {
		return 0, err
	}
	who, err := whoIsThere(ctx, addr)
	if err != nil {
		return 0, err
	}
	if err := who.Err(); err != nil {
		return 0, err
	}
	if who.Node != node {
		return 0, fmt.Errorf("at %s is broker %d, not %d: %w", addr, who.Node, node, syscall.ECONNREFUSED)
	}
	return who.Session, nil
}

// probePause is how long a probe waits that was cut off before it was answered.
const probePause = 5 * time.Millisecond

// whoIsThere asks who listens at an address, over connections of its own. One that
// is cut off says nothing yet: a process that dies closes its connections before
// its port, so it is asked again until it answers, refuses, or ctx ends.
func whoIsThere(ctx context.Context, addr string) (who peer.WhoResponse, err error) {
	req := &peer.WhoRequest{MinVersion: peer.MinVersion, MaxVersion: peer.MaxVersion}
	for {
		fresh := NewPeers()
		err = fresh.Call(ctx, addr, peer.KindWho, req, &who)
		fresh.Close()
		if !errors.Is(err, ErrUnreachable) || errors.Is(err, syscall.ECONNREFUSED) {
			return who, err
		}
		select {
		case <-time.After(probePause):
		case <-ctx.Done():
			return who, err
		}
	}
}

// leaving takes the leadership of everything from a broker, on the one that leads
// Raft.
func (n *Node) leaving(ctx context.Context, node uint32) (*peer.LeavingResponse, error) {
	if !n.o.Meta.IsLeader() {
		return nil, wire.Errorf(wire.CodeNotLeader, "broker %d is not the controller", n.o.Node)
	}
	ctx, cancel := context.WithTimeout(ctx, leavingTimeout)
	defer cancel()
	resp := n.o.Controller.Leaving(ctx, node)
	return &resp, nil
}

// Leave prepares a planned stop: others take over what this broker leads, and
// then Raft if it leads that. It returns when that is done, or cannot be.
func (n *Node) Leave(ctx context.Context) error {
	alone := true
	n.o.Meta.View(func(m *consensus.Machine) {
		for _, b := range m.Brokers() {
			alone = alone && b.Node == n.o.Node
		}
	})
	if alone {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, leavingTimeout)
	defer cancel()
	var err error
	for missing := 0; ctx.Err() == nil && missing < int(controllerPatience/retryEvery); {
		if err = n.leave(ctx); err == nil {
			return nil
		}
		if errors.Is(err, errNoController) {
			missing++ // perhaps the others have stopped already
		}
		select {
		case <-ctx.Done():
		case <-time.After(retryEvery):
		}
	}
	return err
}

// controllerPatience is how long a broker that is to stop looks for a controller.
const controllerPatience = time.Second

var errNoController = errors.New("no controller is known")

func (n *Node) leave(ctx context.Context) error {
	if n.o.Meta.IsLeader() {
		resp, err := n.leaving(ctx, n.o.Node)
		if err == nil {
			err = resp.Err()
		}
		if err != nil {
			return err
		}
		if err := n.o.Meta.TransferLeadership(); err != nil {
			// Nothing is lost by it: another one leads as soon as this one is gone.
			n.o.Logger.Info("the lead of the metadata is not handed over", "error", err)
		}
		return nil
	}
	_, addr := n.o.Meta.Leader()
	if addr == "" {
		return errNoController
	}
	var resp peer.LeavingResponse
	if err := n.o.Peers.Call(ctx, addr, peer.KindLeaving, &peer.LeavingRequest{Node: n.o.Node}, &resp); err != nil {
		return errors.Join(errNoController, err)
	}
	return resp.Err()
}
