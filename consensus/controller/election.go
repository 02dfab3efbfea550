package controller

import (
	"cmp"
	"errors"
	"slices"
	"time"

	"github.com/sequitur-mq/sequitur/consensus"
	"github.com/sequitur-mq/sequitur/replication"
	"github.com/sequitur-mq/sequitur/wire"
)

// ballot is what is known of a voter in the current epoch.
type ballot struct {
	member  replication.Member
	state   ballotState
	session uint64 // of the broker that voted
	vote    replication.Vote
	tries   int
	at      time.Duration // not to be asked again before
}

type ballotState uint8

const (
	open   ballotState = iota // to be asked
	queued                    // for the next request
	asked
	voted
)

// Pauses before a voter is asked again that gave no vote.
const (
	askAgainMin = 20 * time.Millisecond
	askAgainMax = time.Second
)

func (p *part) openBallots() {
	p.ballots = p.ballots[:0]
	for _, m := range p.meta.Set.Voters() {
		p.ballots = append(p.ballots, ballot{member: m})
	}
}

// elect asks voters that were not asked, and decides once enough have voted.
func (c *Controller) elect(p *part) {
	for i := range p.ballots {
		b := c.brokers[p.ballots[i].member.Node]
		switch {
		case p.ballots[i].state != open, b == nil, b.state == dead, !c.present(p.ballots[i].member):
		case p.ballots[i].tries > 0 && c.s.Break.NoRefence:
		case c.now < p.ballots[i].at:
			c.wakeAt(p, p.ballots[i].at)
		default:
			p.ballots[i].state = queued
			b.queue = append(b.queue, p)
		}
	}
	c.decide(p)
}

// present says whether the member's broker has that disk still. What was on a wiped
// one never votes: the new disk under the old name would vote data away.
func (c *Controller) present(m replication.Member) bool {
	b := c.brokers[m.Node]
	return b != nil && (b.Disk == m.Disk || c.s.Break.WipedKeepsName)
}

// decide proposes the leader, if it can be said who that is.
func (c *Controller) decide(p *part) {
	e := replication.NewElection(p.meta.Epoch, p.meta.Set)
	missing := false
	for i := range p.ballots {
		switch ballot := &p.ballots[i]; {
		case !c.usable(ballot.member):
		case ballot.state == voted:
			e.Add(ballot.vote)
		default:
			missing = true
		}
	}
	best, ok := e.Winner()
	if c.s.Break.ElectWithoutMajority && !ok {
		best, ok = firstVote(p)
	}
	if !ok {
		p.decided = false
		return
	}
	if !p.decided {
		p.decided, p.majority = true, c.now
	}
	wait := c.s.ElectionWait
	if p.planned {
		wait = c.s.HandoverWait
	}
	if missing && c.now < p.majority+wait {
		c.wakeAt(p, p.majority+wait)
		return
	}
	if c.mustWait(&c.elects, p) {
		return
	}
	winner := c.choose(p, best)
	p.chosen = chosen{winner.member, winner.session}
	p.pending = true
	c.countLeader(winner.member, 1)
	c.elects.next = append(c.elects.next, p)
	c.elects.elect = append(c.elects.elect, consensus.ElectLeader{
		Topic: p.topic.id, Partition: p.number, Epoch: p.meta.Epoch, Leader: winner.member,
	})
}

func firstVote(p *part) (replication.Member, bool) {
	for i := range p.ballots {
		if p.ballots[i].state == voted {
			return p.ballots[i].member, true
		}
	}
	return replication.Member{}, false
}

// choose picks among the voters whose logs are as far as the best one's: the preferred
// one, then who stays, then who leads least.
func (c *Controller) choose(p *part, best replication.Member) *ballot {
	top := slices.IndexFunc(p.ballots, func(b ballot) bool { return b.member == best })
	winner := &p.ballots[top]
	rank := func(b *ballot) (int, int) {
		on := c.brokers[b.member.Node]
		switch {
		case b.member == p.prefer:
			return 0, 0
		case on.mustNotLead() || p.avoids(b.member):
			return 2, on.leads
		}
		return 1, on.leads
	}
	for i := range p.ballots {
		b := &p.ballots[i]
		if b == winner || b.state != voted || b.vote.Suspect || !c.usable(b.member) ||
			b.vote.LastEpoch != p.ballots[top].vote.LastEpoch || b.vote.End != p.ballots[top].vote.End {
			continue
		}
		r1, l1 := rank(b)
		r2, l2 := rank(winner)
		if cmp.Or(cmp.Compare(r1, r2), cmp.Compare(l1, l2), p.order(b.member)-p.order(winner.member)) < 0 {
			winner = b
		}
	}
	return winner
}

// order is where a member stands in the set: the first one is the preferred leader.
func (p *part) order(m replication.Member) int {
	if i := slices.Index(p.meta.Set.Members, m); i >= 0 {
		return i
	}
	return len(p.meta.Set.Members)
}

// sendFence asks a broker for all votes that are wanted from it, in one request.
func (c *Controller) sendFence(b *broker) {
	if b.fence != 0 || len(b.queue) == 0 {
		return
	}
	var items []FenceItem
	for _, p := range b.queue {
		i := c.ballotOf(p, b)
		if p.gone || i < 0 || p.ballots[i].state != queued {
			continue
		}
		if b.state == dead {
			p.ballots[i].state = open
			continue
		}
		p.ballots[i].state = asked
		items = append(items, p.item())
		b.fenced, b.epochs = append(b.fenced, p), append(b.epochs, p.meta.Epoch)
	}
	b.queue = nil
	if len(items) > 0 {
		b.fence = c.id()
		c.effects = append(c.effects, SendFence{ID: b.fence, Node: b.Node, Term: c.term, Items: items})
	}
}

// ballotOf is the index of the ballot of a broker's disk, -1 if it has none.
func (c *Controller) ballotOf(p *part, b *broker) int {
	i := slices.IndexFunc(p.ballots, func(o ballot) bool { return o.member == b.Member() })
	if i < 0 && c.s.Break.WipedKeepsName {
		i = slices.IndexFunc(p.ballots, func(o ballot) bool { return o.member.Node == b.Node })
	}
	return i
}

// Fenced tells what a broker answered to a SendFence: as whom it votes and, in the
// order of the items, how; or the error for which nobody knows what it did.
func (c *Controller) Fenced(now time.Duration, node uint32, id uint64, from replication.Member, ballots []Ballot, err error) {
	b := c.brokers[node]
	if !c.active || b == nil || b.fence != id {
		return
	}
	c.now = now
	if err != nil || len(ballots) != len(b.fenced) {
		c.note("broker %d was asked to vote: %v", node, err)
		c.fenceFailed(b)
		return
	}
	parts, epochs := b.fenced, b.epochs
	b.fence, b.fenced, b.epochs = 0, nil, nil
	for k, p := range parts {
		i := c.ballotOf(p, b)
		if p.gone || i < 0 || p.meta.Epoch != epochs[k] || p.ballots[i].state != asked {
			continue
		}
		c.touch(p)
		ballot := &p.ballots[i]
		vote := ballots[k].Vote
		if c.s.Break.WipedKeepsName {
			from, vote.From = ballot.member, ballot.member
		}
		switch {
		case ballots[k].Err != nil, from != ballot.member, vote.Epoch != p.meta.Epoch:
			c.askLater(p, ballot)
			p.overtaken = p.overtaken || refusedForGood(ballots[k].Err) && ballot.tries >= triesUntilOvertaken
		default:
			ballot.state, ballot.vote, ballot.session = voted, vote, b.Session
			ballot.vote.From = from
		}
	}
}

// triesUntilOvertaken is how often a replica must refuse to vote until its fence is taken
// to be above the epoch that the metadata know.
const triesUntilOvertaken = 6

// refusedForGood tells the refusal of a replica from one that its broker does not know yet.
func refusedForGood(err error) bool {
	return err != nil && !errors.Is(err, wire.ErrUnknownPartition) && !errors.Is(err, wire.ErrUnknownTopic)
}

func (c *Controller) askLater(p *part, b *ballot) {
	b.state, b.at = open, c.now+doubled(askAgainMin, b.tries, askAgainMax)
	b.tries++
	c.touch(p)
}

// fenceFailed opens the ballots of a request that has no answer.
func (c *Controller) fenceFailed(b *broker) {
	parts := b.fenced
	b.fence, b.fenced, b.epochs = 0, nil, nil
	for _, p := range parts {
		if i := c.ballotOf(p, b); !p.gone && i >= 0 && p.ballots[i].state == asked {
			c.askLater(p, &p.ballots[i])
		}
	}
}
