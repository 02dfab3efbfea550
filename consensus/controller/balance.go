package controller

import (
	"slices"
	"time"

	"github.com/sequitur-mq/sequitur/consensus"
	"github.com/sequitur-mq/sequitur/partitions"
)

// balance is the evening out of leaders once all is quiet.
type balance struct {
	quiet time.Duration // since then no leader had to be replaced
	next  time.Duration // the next look
}

// Leaders are balanced so many at a time, and so long is tried with each.
const (
	balancedAtATime = 32
	balanceTry      = 300 * time.Millisecond
	balancePause    = time.Second
)

// balanceLeaders has leaders handed over from brokers that lead many partitions to
// such that lead few, when nothing has happened for a while and every broker lives.
func (c *Controller) balanceLeaders() {
	due := max(c.balance.quiet+c.s.BalanceAfter, c.balance.next)
	if c.s.BalanceAfter < 0 || c.now < due || c.begins.id != 0 || c.elects.id != 0 || len(c.nodes) < 2 {
		return
	}
	c.balance.next = c.now + balancePause
	var nodes []partitions.Node
	for _, b := range c.nodes {
		if b.state == unknown || b.state == suspect || c.now-b.since < c.s.BalanceAfter {
			return
		}
		if b.state == alive && !b.mustNotLead() {
			nodes = append(nodes, partitions.Node{ID: b.Node, Rack: b.Rack})
		}
	}
	var assignments []partitions.Assignment
	busy := false
	c.all(func(p *part) {
		busy = busy || p.handover != nil || p.meta.Leader.IsZero() && c.electable(p, &p.meta.Set)
		a := partitions.Assignment{Topic: p.topic.id, Partition: p.number, Leader: p.meta.Leader.Node}
		for _, m := range p.meta.Set.Members {
			if c.healthy(p, m) {
				a.Replicas = append(a.Replicas, m.Node)
			}
		}
		if !p.serving() || len(p.meta.Set.Joining) > 0 || p.target != nil || !slices.Contains(a.Replicas, a.Leader) {
			a.Replicas = []uint32{a.Leader} // stays
		}
		assignments = append(assignments, a)
	})
	if busy {
		return
	}
	moves := partitions.BalanceLeaders(nodes, assignments)
	if len(moves) == 0 {
		c.balance.next = c.now + c.s.BalanceAfter
		return
	}
	c.note("balancing leaders: %d are to move", len(moves))
	for _, m := range moves[:min(len(moves), balancedAtATime)] {
		p := c.part(m.Topic, m.Partition)
		p.handover = &handover{from: p.meta.Leader, to: c.member(m.To), until: c.now + balanceTry, why: "balance"}
		c.touch(p)
	}
}

// chooseVoters keeps as many voters of Raft as there should be: a broker that is lost or
// is to be drained gives its vote to another one. One at a time.
func (c *Controller) chooseVoters() {
	if c.voter != 0 || c.now < c.voterAt {
		return
	}
	var spare, bad *broker
	voters := 0
	for _, b := range c.nodes {
		sound := b.state == alive && !b.Draining && b.leaving == nil
		switch {
		case b.Voter && (b.lost || b.Draining) && bad == nil:
			bad = b
		case !b.Voter && sound && spare == nil:
			spare = b
		}
		if b.Voter {
			voters++
		}
	}
	switch {
	case spare == nil:
		return
	case voters < c.s.Voters:
		c.setVoter(spare, true)
	case bad != nil:
		c.setVoter(bad, false)
	}
}

// voterPause is the time between two changes of voters: Raft takes one at a time.
const voterPause = 2 * time.Second

func (c *Controller) setVoter(b *broker, voter bool) {
	c.voterAt = c.now + voterPause
	c.voter = c.propose(consensus.SetVoter{Member: b.Member(), Voter: voter})
}
