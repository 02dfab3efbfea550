package cluster

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/sequitur-mq/sequitur/consensus"
	"github.com/sequitur-mq/sequitur/consensus/controller"
	"github.com/sequitur-mq/sequitur/wire"
	"github.com/sequitur-mq/sequitur/wire/peer"
)

const (
	// controllerWait is how long a question waits for a controller: longer than an
	// election takes, shorter than people wait.
	controllerWait = 1500 * time.Millisecond
	// voterWait is how long a voter is given to show that it is there.
	voterWait = 300 * time.Millisecond
)

// Admin asks the controller, wherever it is if forward is set. The error is
// CodeTimeout, and nothing was changed, if there is none for controllerWait.
func (n *Node) Admin(ctx context.Context, kind uint16, body []byte, forward bool) ([]byte, error) {
	if !forward {
		if n.o.Meta.IsLeader() {
			return n.o.Controller.Admin(ctx, kind, body)
		}
		return nil, wire.Errorf(wire.CodeNotLeader, "no controller is known at present: ask again")
	}
	patience, cancel := context.WithTimeout(ctx, controllerWait)
	defer cancel()
	for {
		if n.o.Meta.IsLeader() {
			return n.o.Controller.Admin(ctx, kind, body)
		}
		if _, addr := n.o.Meta.Leader(); addr != "" {
			try := ctx // a change takes its time
			if kind == controller.AdminStatus {
				try = patience
			}
			answer, err := n.adminAt(try, addr, kind, body)
			if !again(kind, err) {
				return answer, err
			}
		}
		select {
		case <-time.After(retryEvery):
		case <-patience.Done():
			return nil, n.noController(ctx)
		}
	}
}

// again says that a question which failed was not carried out, or does no harm when it
// is carried out twice.
func again(kind uint16, err error) bool {
	if errors.Is(err, syscall.ECONNREFUSED) {
		return true
	}
	return kind == controller.AdminStatus && errors.Is(err, wire.ErrNotLeader)
}

func (n *Node) adminAt(ctx context.Context, addr string, kind uint16, body []byte) ([]byte, error) {
	var resp peer.AdminResponse
	err := n.o.Peers.Call(ctx, addr, peer.KindAdmin, &peer.AdminRequest{Kind: kind, Body: body}, &resp)
	if errors.Is(err, syscall.ECONNREFUSED) {
		return nil, err
	}
	if err != nil {
		return nil, wire.Errorf(wire.CodeNotLeader, "the controller does not answer, ask again: %v", err)
	}
	return resp.Body, resp.Err()
}

// noController says why nobody can answer, as far as this broker sees.
func (n *Node) noController(ctx context.Context) error {
	var voters []consensus.Broker
	n.o.Meta.View(func(m *consensus.Machine) {
		for _, b := range m.Brokers() {
			if b.Voter {
				voters = append(voters, b)
			}
		}
	})
	ctx, cancel := context.WithTimeout(ctx, voterWait)
	defer cancel()
	states := make([]string, len(voters))
	var all sync.WaitGroup
	for i, b := range voters {
		all.Go(func() {
			state := "this broker"
			if b.Node != n.o.Node {
				state = "answers"
				if who, err := n.Who(ctx, b.ClusterAddr); err != nil || who.Node != b.Node {
					state = "unreachable"
				}
			}
			states[i] = fmt.Sprintf("%d (%s)", b.Node, state)
		})
	}
	all.Wait()
	return wire.Errorf(wire.CodeTimeout, "no controller: a majority of the Raft voters must be up; voters: %s", strings.Join(states, ", "))
}
