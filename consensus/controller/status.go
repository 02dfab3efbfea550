package controller

import (
	"slices"
	"time"

	"github.com/sequitur-mq/sequitur/consensus"
	"github.com/sequitur-mq/sequitur/partitions"
	"github.com/sequitur-mq/sequitur/replication"
	"github.com/sequitur-mq/sequitur/wire"
)

// Status is what `broker cluster status --json` shows.
type Status struct {
	Term       uint64         `json:"term"` // of the controller
	Controller uint32         `json:"controller"`
	Applied    uint64         `json:"applied"` // commands of the metadata
	Brokers    []BrokerStatus `json:"brokers"`
	Partitions PartitionCount `json:"partitions"`
	Moves      []MoveStatus   `json:"moves"`
}

// BrokerStatus is one broker of Status.
type BrokerStatus struct {
	Node        uint32 `json:"node"`
	Disk        uint32 `json:"disk"`
	Addr        string `json:"addr"`
	ClusterAddr string `json:"cluster_addr"`
	Rack        string `json:"rack,omitempty"`
	Version     string `json:"version"`
	// State is alive, suspect, dead, unknown, leaving, draining,
	// removing or full.
	State      string `json:"state"`
	StateMs    int64  `json:"state_ms"` // for how long it has been alive, dead, ...
	Voter      bool   `json:"voter"`
	Leaders    int    `json:"leaders"`
	Replicas   int    `json:"replicas"`
	AppliedLag uint64 `json:"applied_lag"` // metadata commands
	DiskFree   uint64 `json:"disk_free_bytes"`
	Suspects   int    `json:"damaged_replicas"`
}

// PartitionCount counts partitions.
type PartitionCount struct {
	Total           int `json:"total"`
	WithoutLeader   int `json:"without_leader"`   // none is elected, or its broker is dead
	UnderReplicated int `json:"under_replicated"` // a member is away, or there are fewer than wanted
	Unavailable     int `json:"unavailable"`      // no majority of the members lives
	Moving          int `json:"moving"`
}

// MoveStatus is a partition whose replicas are to be elsewhere.
type MoveStatus struct {
	Topic     string   `json:"topic"`
	Partition uint32   `json:"partition"`
	Reason    string   `json:"reason"`
	Stage     string   `json:"stage"` // waiting, learning, joint, ending
	Add       []uint32 `json:"add,omitempty"`
	Drop      []uint32 `json:"drop,omitempty"`
	ForMs     int64    `json:"for_ms"`
}

// Status describes the cluster as the controller sees it.
func (c *Controller) Status(now time.Duration) Status {
	s := Status{Term: c.term, Applied: c.applied, Brokers: []BrokerStatus{}, Moves: []MoveStatus{}}
	replicas := map[uint32]int{}
	c.all(func(p *part) {
		c.countPart(p, &s.Partitions)
		for _, node := range p.meta.Nodes() {
			replicas[node]++
		}
		if m, moving := c.moveStatus(now, p); moving {
			s.Moves = append(s.Moves, m)
		}
	})
	s.Partitions.Moving = len(s.Moves)
	for _, b := range c.nodes {
		lag := uint64(0)
		if b.beat.Applied < c.applied && b.state == alive {
			lag = c.applied - b.beat.Applied
		}
		state := b.status()
		if _, ordered := c.orders[b.Node]; ordered {
			state = "removing"
		}
		s.Brokers = append(s.Brokers, BrokerStatus{
			Node: b.Node, Disk: b.Disk, Addr: b.Addr, ClusterAddr: b.ClusterAddr, Rack: b.Rack, Version: b.Version,
			State: state, StateMs: (now - b.since).Milliseconds(), Voter: b.Voter, Leaders: b.leads, Replicas: replicas[b.Node],
			AppliedLag: lag, DiskFree: b.beat.DiskFree, Suspects: len(b.suspects),
		})
	}
	return s
}

func (b *broker) status() string {
	switch {
	case b.state != alive:
		return b.state.String()
	case b.leaving != nil:
		return "leaving"
	case b.Draining:
		return "draining"
	case b.beat.Full:
		return "full"
	}
	return alive.String()
}

func (c *Controller) countPart(p *part, n *PartitionCount) {
	n.Total++
	if b := c.brokers[p.meta.Leader.Node]; p.meta.Leader.IsZero() || b == nil || b.state == dead {
		n.WithoutLeader++
	}
	away := func(m replication.Member) bool { return !c.healthy(p, m) }
	if len(p.meta.Set.Members) < p.topic.rf || slices.ContainsFunc(p.meta.Set.Members, away) {
		n.UnderReplicated++
	}
	if !c.electable(p, &p.meta.Set) {
		n.Unavailable++
	}
}

func (c *Controller) moveStatus(now time.Duration, p *part) (MoveStatus, bool) {
	s := &p.meta.Set
	target := c.wanted(p)
	if p.target == nil && len(s.Joining) == 0 && len(s.Learners) == 0 {
		return MoveStatus{}, false
	}
	m := MoveStatus{Topic: p.topic.name, Partition: p.number, Reason: p.reason, Stage: "waiting", ForMs: (now - p.since).Milliseconds()}
	switch {
	case len(s.Joining) > 0:
		m.Stage = "joint"
	case len(s.Learners) > 0:
		m.Stage = "learning"
	case slices.Equal(target, s.Members):
		m.Stage = "ending" // until the leader serves
	}
	m.Add, m.Drop = nodesOf(without(target, s.Members)), nodesOf(without(s.Members, target))
	return m, true
}

func nodesOf(members []replication.Member) (nodes []uint32) {
	for _, m := range members {
		nodes = append(nodes, m.Node)
	}
	return nodes
}

// PlaceTopic places the partitions of a new topic on brokers that are not draining, by
// what they hold according to the metadata. The error says that there are too few.
func PlaceTopic(m *consensus.Machine, id wire.UUID, n uint32, rf int) ([]consensus.Partition, error) {
	var nodes []partitions.Node
	disks := map[uint32]replication.Member{}
	at := map[uint32]int{}
	for _, b := range m.Brokers() {
		if !b.Draining {
			at[b.Node] = len(nodes)
			disks[b.Node] = b.Member()
			nodes = append(nodes, partitions.Node{ID: b.Node, Rack: b.Rack})
		}
	}
	if len(nodes) < rf {
		return nil, wire.Errorf(wire.CodeInvalidConfig,
			"%d replicas need %d brokers, and there are %d that take some: start more brokers, or lower the replication factor", rf, rf, len(nodes))
	}
	for t := range m.Topics() {
		for i := range t.Partitions {
			for k, member := range t.Partitions[i].Set.Members {
				if n, known := at[member.Node]; known {
					nodes[n].Load++
					if k == 0 {
						nodes[n].Leaders++
					}
				}
			}
		}
	}
	placed := make([]consensus.Partition, n)
	for i, replicas := range partitions.PlaceTopic(nodes, id, n, rf) {
		members := make([]replication.Member, len(replicas))
		for k, node := range replicas {
			members[k] = disks[node]
		}
		placed[i].Set = replication.ReplicaSet{Members: members}
	}
	return placed, nil
}
