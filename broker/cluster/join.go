package cluster

import (
	"fmt"
	"slices"
	"strings"

	"github.com/sequitur-mq/sequitur/wire"
	"github.com/sequitur-mq/sequitur/wire/peer"
)

// Newcomer is a broker whose directory belongs to no cluster yet.
type Newcomer struct {
	Node uint32
	Disk wire.UUID
}

// Asked is what came of asking one of the addresses to join.
type Asked struct {
	Addr string
	Who  *peer.WhoResponse // nil: it did not answer
}

// JoinStep is what a newcomer does next.
type JoinStep struct {
	Found    bool     // found a cluster
	Register []string // addresses of brokers in a cluster, one of which takes registrations or knows who does
	Wait     string   // neither can be done yet, for this reason
}

// NextStep decides what a newcomer does, from what the addresses that it was told
// have answered. The error says what the operator has to change.
func NextStep(self Newcomer, asked []Asked) (JoinStep, error) {
	var step JoinStep
	var cluster wire.UUID
	var silent []string
	lowest := self.Node
	for _, a := range asked {
		if a.Who == nil {
			silent = append(silent, a.Addr)
			continue
		}
		if a.Who.Disk == self.Disk {
			continue
		}
		if a.Who.Node == self.Node && a.Who.Cluster == (wire.UUID{}) {
			return step, fmt.Errorf("the broker at %s has node id %d too: give each broker a node id of its own", a.Addr, self.Node)
		}
		if a.Who.Cluster == (wire.UUID{}) {
			lowest = min(lowest, a.Who.Node)
			continue
		}
		if cluster != (wire.UUID{}) && cluster != a.Who.Cluster {
			return step, fmt.Errorf("the addresses to join belong to different clusters: %s is of cluster %v, another of %v", a.Addr, a.Who.Cluster, cluster)
		}
		cluster = a.Who.Cluster
		if c := a.Who.ControllerAddr; c != "" && !slices.Contains(step.Register, c) {
			step.Register = append([]string{c}, step.Register...)
		}
		if !slices.Contains(step.Register, a.Addr) {
			step.Register = append(step.Register, a.Addr)
		}
	}
	switch {
	case len(step.Register) > 0:
	case len(silent) > 0:
		step.Wait = "no answer from " + strings.Join(silent, ", ") + ", which may know a cluster"
	case lowest == self.Node:
		step.Found = true
	default:
		step.Wait = fmt.Sprintf("node %d is to found the cluster", lowest)
	}
	return step, nil
}
