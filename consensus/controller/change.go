package controller

import (
	"slices"
	"time"

	"github.com/sequitur-mq/sequitur/replication"
)

// changeSet takes the next step towards the wanted members, if it can be taken, and
// says whether it did. The leader lives.
//
//	{old} -> {old} + learners -> {old, new} -> {new}
func (c *Controller) changeSet(p *part) bool {
	s := &p.meta.Set
	if len(s.Joining) > 0 {
		return c.leaveJoint(p)
	}
	if p.target == nil || !p.serving() {
		return false
	}
	newcomers := without(p.target, s.Members)
	switch {
	case len(newcomers) == 0 && len(p.target) == len(s.Members):
		if len(s.Learners) > 0 {
			return c.proposeSet(p, replication.ReplicaSet{Members: s.Members}, p.meta.Leader)
		}
		c.endMove(p)
		return false
	case len(without(newcomers, s.Learners)) > 0 && !c.s.Break.JoinUnlearned:
		for _, m := range newcomers {
			if !c.usable(m) {
				return false // its coming touches the partition
			}
		}
		if !c.mayMove(p, newcomers) {
			return false
		}
		return c.proposeSet(p, replication.ReplicaSet{Members: s.Members, Learners: newcomers}, p.meta.Leader)
	case len(without(newcomers, p.caughtUp)) > 0 && !c.s.Break.JoinUnlearned:
		return false
	}
	joint := replication.ReplicaSet{Members: s.Members, Joining: p.target}
	return c.proposeSet(p, joint, c.keep(p, p.target))
}

// leaveJoint ends a joint set. Only when its start record is committed, by majorities
// of both, does a majority of the new set hold all that was committed by the old one.
func (c *Controller) leaveJoint(p *part) bool {
	s := &p.meta.Set
	if !p.serving() && !c.s.Break.LeaveJointUnserved {
		return false
	}
	if !slices.Contains(s.Joining, p.meta.Leader) && c.moveAway(p, s.Joining) {
		return true
	}
	return c.proposeSet(p, replication.ReplicaSet{Members: s.Joining}, c.keep(p, s.Joining))
}

// finishJoint ends a joint set whose leader is gone, if its start record was committed
// and no majority of both sets is left to elect another one.
func (c *Controller) finishJoint(p *part) bool {
	s := &p.meta.Set
	return len(s.Joining) > 0 && p.serving() && !c.electable(p, s) &&
		c.proposeSet(p, replication.ReplicaSet{Members: s.Joining}, replication.Member{})
}

// undoJoint goes back to the old set if the joint one can elect nobody and the old one
// can. That is safe at any time: what is committed in a joint epoch is on a majority of
// the old set too. The change begins again when its members are there.
func (c *Controller) undoJoint(p *part) bool {
	s := &p.meta.Set
	if len(s.Joining) == 0 || c.electable(p, s) || slices.ContainsFunc(s.Voters(), c.doubtful) {
		return false
	}
	old, joined := replication.ReplicaSet{Members: s.Members}, replication.ReplicaSet{Members: s.Joining}
	if !c.electable(p, &old) || p.serving() && c.electable(p, &joined) {
		return false
	}
	if !c.backsOff(p) {
		c.tell(p, "back to %v, as no majority of %v lives", s.Members, s.Joining)
		c.proposeSet(p, old, c.keep(p, s.Members))
	}
	return true
}

// doubtful says whether it will soon be known if the member's broker lives.
func (c *Controller) doubtful(m replication.Member) bool {
	b := c.brokers[m.Node]
	return b != nil && b.Disk == m.Disk && (b.state == unknown || b.state == suspect)
}

// triesToMoveAway bounds how often a leader that is not in the new set is asked to
// hand over before it is dropped with what it alone has, none of which is committed.
const triesToMoveAway = 3

// moveAway has a leader elected that stays in the set, and says whether it tried.
func (c *Controller) moveAway(p *part, to []replication.Member) bool {
	if p.handover == nil {
		p.handover = &handover{from: p.meta.Leader, until: c.now + time.Minute}
	}
	if p.handover.tries >= triesToMoveAway {
		return false
	}
	p.handover.to = c.keep(p, to)
	c.handOver(p)
	return true
}

// keep returns the leader if it is one of members, else the healthy one of them that
// leads least.
func (c *Controller) keep(p *part, members []replication.Member) (best replication.Member) {
	if slices.Contains(members, p.meta.Leader) {
		return p.meta.Leader
	}
	for _, m := range members {
		if c.healthy(p, m) && (best.IsZero() || c.brokers[m.Node].leads < c.brokers[best.Node].leads) {
			best = m
		}
	}
	return best
}

// proposeSet begins an epoch with another replica set, if it can elect a leader.
func (c *Controller) proposeSet(p *part, s replication.ReplicaSet, prefer replication.Member) bool {
	if !c.electable(p, &s) {
		return false
	}
	s = s.Clone()
	if c.proposeEpoch(p, &s) {
		p.prefer, p.planned = prefer, true
	}
	return true
}

// endMove is called when the members are as wanted.
func (c *Controller) endMove(p *part) {
	c.tell(p, "moved to %v (%s)", p.meta.Set.Members, p.reason)
	p.target, p.reason = nil, ""
	c.checkMembers(p)
	c.wakeMoves()
}

// checkMembers has a plan made if the members are not, or no longer, as they should be:
// while a change was under way, no other was looked at.
func (c *Controller) checkMembers(p *part) {
	members := p.meta.Set.Members
	if p.target != nil && !c.reachable(p.target) || len(members) != p.topic.rf || !c.reachable(members) || slices.ContainsFunc(members, func(m replication.Member) bool { return c.brokers[m.Node].Draining }) {
		c.replan = true
	}
}

// wakeMoves has all partitions judged that wait for others to have moved.
func (c *Controller) wakeMoves() {
	c.all(func(p *part) {
		if p.target != nil {
			c.touch(p)
		}
	})
}

// countMoves counts who learns and who teaches, if that is going to be asked.
func (c *Controller) countMoves(dirty []*part) {
	if !slices.ContainsFunc(dirty, func(p *part) bool { return p.target != nil }) {
		return
	}
	for _, b := range c.nodes {
		b.learns, b.teaches = 0, 0
	}
	c.all(func(p *part) { c.countMove(p.meta.Leader, p.meta.Set.Learners) })
}

func (c *Controller) countMove(leader replication.Member, learners []replication.Member) {
	if len(learners) == 0 {
		return
	}
	if b := c.brokers[leader.Node]; b != nil {
		b.teaches++
	}
	for _, m := range learners {
		if b := c.brokers[m.Node]; b != nil {
			b.learns++
		}
	}
}

// mayMove takes a place among the moves of the brokers that take part, if all have one.
func (c *Controller) mayMove(p *part, newcomers []replication.Member) bool {
	limit := c.s.MovesPerBroker
	if len(p.meta.Set.Learners) == 0 { // else it has its place already
		if c.brokers[p.meta.Leader.Node].teaches >= limit {
			return false // whoever ends a move wakes the others
		}
		for _, m := range newcomers {
			if c.brokers[m.Node].learns >= limit {
				return false
			}
		}
		c.countMove(p.meta.Leader, newcomers)
	}
	return true
}

// without returns the members of a that are not in b.
func without(a, b []replication.Member) (left []replication.Member) {
	for _, m := range a {
		if !slices.Contains(b, m) {
			left = append(left, m)
		}
	}
	return left
}

// handover is a leader that is to give way without need.
type handover struct {
	from  replication.Member
	to    replication.Member // zero: whoever is as far
	tries int
	again time.Duration // not before
	until time.Duration
	why   string
	// forced: as long as its broker must lead nothing
	forced bool
	reply  uint64 // to the administrator who ordered it, 0: nobody
}

// handOver begins the epoch in which another leader is elected, if one is wanted.
// The leader stays where it was if nobody else has all of its log; that is tried again.
func (c *Controller) handOver(p *part) {
	h := p.handover
	if h == nil && c.mustGiveWay(p.meta.Leader) {
		h = &handover{from: p.meta.Leader, until: c.now + 24*time.Hour, why: "its broker is to lead nothing", forced: true}
		p.handover = h
	}
	if h != nil && h.forced && !c.mustGiveWay(h.from) {
		p.handover = nil // its broker stays after all
		return
	}
	if h == nil {
		return
	}
	c.wakeAt(p, h.until)
	switch {
	case p.meta.Leader != h.from && (h.reply == 0 || p.meta.Leader == h.to):
		c.endHandover(p, nil)
		return
	case c.now >= h.until:
		c.endHandover(p, errBehind)
		return
	case !p.serving() || !c.electable(p, &p.meta.Set) || !c.hasHeir(p, h):
		return
	case c.now < h.again:
		c.wakeAt(p, h.again)
		return
	}
	if c.proposeEpoch(p, nil) {
		p.prefer, p.planned = h.to, true
		h.again = c.now + doubled(handoverAgainMin, h.tries, handoverAgainMax)
		h.tries++
	}
}

// Pauses between tries to hand over a partition.
const (
	handoverAgainMin = 20 * time.Millisecond
	handoverAgainMax = 2 * time.Second
)

// avoids says whether a member is to give way to whoever is as far as it.
func (p *part) avoids(m replication.Member) bool {
	return p.handover != nil && p.handover.to.IsZero() && m == p.handover.from
}

func (c *Controller) mustGiveWay(leader replication.Member) bool {
	b := c.brokers[leader.Node]
	return b != nil && b.mustNotLead()
}

// hasHeir says whether somebody lives who may be elected instead.
func (c *Controller) hasHeir(p *part, h *handover) bool {
	if !h.to.IsZero() {
		return c.healthy(p, h.to)
	}
	return slices.ContainsFunc(p.meta.Set.Voters(), func(m replication.Member) bool {
		return m != h.from && c.healthy(p, m) && !c.mustGiveWay(m)
	})
}

func (c *Controller) endHandover(p *part, err error) {
	h := p.handover
	p.handover = nil
	if h.reply != 0 {
		c.effects = append(c.effects, Reply{ID: h.reply, Err: err})
	}
	if err == nil && h.why != "" {
		c.tell(p, "leadership went from %v to %v: %s", h.from, p.meta.Leader, h.why)
	}
}
