package controller

import (
	"slices"
	"time"

	"github.com/sequitur-mq/sequitur/partitions"
	"github.com/sequitur-mq/sequitur/replication"
)

// plan gives targets to partitions that are not held as they should be: on brokers that
// are draining, lost, removed or came back with an empty disk, or with another number
// of replicas than the topic asks for. Where there is nobody to take a replica over,
// all stays as it is.
func (c *Controller) plan() {
	if !c.replan || slices.ContainsFunc(c.nodes, func(b *broker) bool { return b.state == unknown }) {
		return
	}
	c.replan = false
	c.all(func(p *part) {
		if p.target != nil && len(p.meta.Set.Joining) == 0 && (!c.reachable(p.target) || c.givenUp(p)) {
			c.setTarget(p, nil, "") // a newcomer is gone: choose again
		}
		if p.target == nil && len(p.meta.Set.Learners) > 0 && len(p.meta.Set.Joining) == 0 {
			c.adopt(p)
		}
	})
	c.planMoves(false, "")
}

// newcomerPatience is how long a newcomer may be dead before another one is chosen.
const newcomerPatience = 30 * time.Second

// givenUp says whether a newcomer is away for so long that another one is to be found.
func (c *Controller) givenUp(p *part) bool {
	return slices.ContainsFunc(without(p.target, p.meta.Set.Members), func(m replication.Member) bool {
		b := c.brokers[m.Node]
		return b != nil && b.missed
	})
}

// reachable says whether every member's broker is there with that disk, and not lost.
func (c *Controller) reachable(members []replication.Member) bool {
	return !slices.ContainsFunc(members, func(m replication.Member) bool {
		b := c.brokers[m.Node]
		return b == nil || b.Member() != m || b.lost
	})
}

// beginFirst begins the first epoch of a new partition. Whoever placed it did not know
// who lives: if its brokers are dead, it is placed anew. There is nothing in it yet.
func (c *Controller) beginFirst(p *part) {
	members := p.meta.Set.Members
	if c.electable(p, &p.meta.Set) || p.meta.Set.Version > 0 || slices.ContainsFunc(members, c.doubtful) {
		c.begin(p, "")
		return
	}
	if c.fresh == nil {
		loads := c.loads()
		var nodes []partitions.Node
		for _, b := range c.nodes {
			if b.state == alive && !b.mustNotLead() {
				nodes = append(nodes, partitions.Node{ID: b.Node, Rack: b.Rack, Load: loads[b.Node], Leaders: b.leads})
			}
		}
		c.fresh = partitions.NewPlacement(nodes)
	}
	c.fresh.Expect(1, len(members))
	nodes := c.fresh.Place(p.topic.id, p.number, len(members))
	if len(nodes) < len(members) {
		return // until brokers come
	}
	set := replication.ReplicaSet{}
	for _, node := range nodes {
		set.Members = append(set.Members, c.member(node))
	}
	if c.proposeSet(p, set, replication.Member{}) {
		c.tell(p, "placed on other brokers, as those chosen are dead")
	}
}

// adopt carries on a move that a former controller has begun: the learners are known,
// whom they replace is not. That are members which are gone for good, or else those
// with the most replicas.
func (c *Controller) adopt(p *part) {
	s := &p.meta.Set
	learners := slices.DeleteFunc(slices.Clone(s.Learners), func(m replication.Member) bool { return !c.reachable([]replication.Member{m}) })
	target := slices.DeleteFunc(slices.Clone(s.Members), func(m replication.Member) bool {
		// One node holds one replica: a learner on it takes the place of a disk that is gone.
		return slices.ContainsFunc(learners, func(l replication.Member) bool { return l.Node == m.Node })
	})
	target = append(target, learners...)
	loads := c.loads()
	for len(target) > max(p.topic.rf, len(learners)) {
		worst := -1
		for i, m := range target[:len(target)-len(learners)] {
			if worst < 0 || c.rank(p, m, loads) > c.rank(p, target[worst], loads) {
				worst = i
			}
		}
		if worst < 0 {
			break
		}
		target = slices.Delete(target, worst, worst+1)
	}
	c.setTarget(p, target, "carried on")
}

// rank says how dispensable a member is.
func (c *Controller) rank(p *part, m replication.Member, loads map[uint32]int) int {
	const replicas = 1 << 30 // more than there are
	b := c.brokers[m.Node]
	switch {
	case b == nil || b.Member() != m:
		return 4 * replicas
	case b.lost:
		return 3 * replicas
	case b.Draining:
		return 2 * replicas
	case m == p.meta.Leader:
		return 0
	}
	return replicas + loads[m.Node]
}

func (c *Controller) loads() map[uint32]int {
	loads := map[uint32]int{}
	c.all(func(p *part) {
		for _, m := range c.wanted(p) {
			loads[m.Node]++
		}
	})
	return loads
}

// wanted is the members as they are to be in the end.
func (c *Controller) wanted(p *part) []replication.Member {
	switch {
	case p.target != nil:
		return p.target
	case len(p.meta.Set.Joining) > 0:
		return p.meta.Set.Joining
	}
	return p.meta.Set.Members
}

// planMoves asks for a plan and sets targets by it, and says how many it set.
func (c *Controller) planMoves(balance bool, reason string) (moves int) {
	nodes := make([]partitions.Node, 0, len(c.nodes))
	for _, b := range c.nodes {
		if !b.Draining && !b.lost {
			nodes = append(nodes, partitions.Node{ID: b.Node, Rack: b.Rack, Closed: b.state != alive || b.leaving != nil || b.beat.Full})
		}
	}
	var assignments []partitions.Assignment
	c.all(func(p *part) {
		a := partitions.Assignment{Topic: p.topic.id, Partition: p.number, Leader: p.meta.Leader.Node, Want: p.topic.rf}
		for _, m := range c.wanted(p) {
			a.Replicas = append(a.Replicas, m.Node)
		}
		assignments = append(assignments, a)
	})
	for _, m := range partitions.Plan(nodes, assignments, balance) {
		p := c.part(m.Topic, m.Partition)
		was := c.wanted(p)
		if p.target != nil || len(p.meta.Set.Joining) > 0 || len(m.Replicas) < min(p.topic.rf, len(was)) {
			continue
		}
		target := make([]replication.Member, len(m.Replicas))
		for i, node := range m.Replicas {
			target[i] = c.member(node)
		}
		c.setTarget(p, target, c.reasonFor(p, m, reason))
		moves++
	}
	c.all(func(p *part) {
		if p.target == nil && len(p.meta.Set.Joining) == 0 && c.replaceDisks(p) {
			moves++
		}
	})
	return moves
}

// replaceDisks has members that were wiped replaced by the new disks of their brokers.
func (c *Controller) replaceDisks(p *part) bool {
	target := slices.Clone(p.meta.Set.Members)
	for i, m := range target {
		if now := c.member(m.Node); !now.IsZero() && now != m {
			target[i] = now
		}
	}
	if slices.Equal(target, p.meta.Set.Members) {
		return false
	}
	c.setTarget(p, target, "disk replaced")
	return true
}

func (c *Controller) reasonFor(p *part, m partitions.Move, reason string) string {
	for _, node := range m.Drop {
		switch b := c.brokers[node]; {
		case b == nil:
			return "broker removed"
		case b.Draining:
			return "drain"
		case b.lost:
			return "broker lost"
		}
	}
	if len(m.Replicas) != len(p.meta.Set.Members) {
		return "replication factor"
	}
	return reason
}

func (c *Controller) setTarget(p *part, target []replication.Member, reason string) {
	p.target, p.reason, p.since = target, reason, c.now
	if target == nil && len(p.meta.Set.Learners) > 0 && len(p.meta.Set.Joining) == 0 {
		// The learners are not wanted any more.
		p.target, p.reason = slices.Clone(p.meta.Set.Members), "cancelled"
	}
	c.touch(p)
}
