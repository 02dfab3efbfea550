package controller

import (
	"fmt"
	"slices"
	"time"

	"github.com/sequitur-mq/sequitur/consensus"
	"github.com/sequitur-mq/sequitur/replication"
)

// part is a partition as the controller sees it.
type part struct {
	topic  *topic
	number uint32
	meta   consensus.Partition
	gone   bool // with its topic

	dirty, waits bool
	wake         time.Duration
	pending      bool // in a command that is gathered or under way

	// Of the current epoch.
	ballots  []ballot // one per voter, while there is no leader
	majority time.Duration
	decided  bool // a majority has voted since majority
	// overtaken says that a replica refuses to vote, as one does whose disk comes from
	// elsewhere and has a later epoch. Epochs are begun until it takes part.
	overtaken bool
	chosen    chosen
	session   uint64        // of the leader's broker when it was elected; 0 not known
	elected   time.Duration // when that was seen
	found     bool          // it was elected before this controller came into office
	caughtUp  []replication.Member

	// Across epochs.
	served    servedEpoch
	attempts  int           // epochs begun since a leader served
	notBefore time.Duration // the next one
	prefer    replication.Member
	planned   bool // the epoch was begun without need: wait longer for votes
	handover  *handover
	target    []replication.Member // what the members shall be, nil: what they are
	reason    string
	since     time.Duration
}

type servedEpoch struct {
	epoch uint32
	by    replication.Member
}

// chosen is whom the controller decided upon.
type chosen struct {
	member  replication.Member
	session uint64
}

func (p *part) String() string { return fmt.Sprintf("%s/%d", p.topic.name, p.number) }

func (p *part) item() FenceItem {
	return FenceItem{Topic: p.topic.id, Partition: p.number, Epoch: p.meta.Epoch}
}

// serving says whether the leader's start record is committed.
func (p *part) serving() bool {
	return !p.meta.Leader.IsZero() && p.served == servedEpoch{p.meta.Epoch, p.meta.Leader}
}

func (p *part) involves(node uint32) bool {
	on := func(m replication.Member) bool { return m.Node == node }
	s := &p.meta.Set
	return slices.ContainsFunc(s.Members, on) || slices.ContainsFunc(s.Joining, on) || slices.ContainsFunc(s.Learners, on) ||
		slices.ContainsFunc(p.target, on) || on(p.meta.Leader)
}

// putPart takes over what the metadata say about a partition.
func (c *Controller) putPart(p *part, now consensus.Partition) {
	old := p.meta
	if now.Epoch == old.Epoch && now.Leader == old.Leader && now.Set.Version == old.Set.Version && old.Set.Members != nil {
		return
	}
	p.meta = now
	c.touch(p)
	c.countLeader(old.Leader, -1)
	c.countLeader(now.Leader, 1)
	if now.Epoch != old.Epoch {
		p.ballots, p.majority, p.decided, p.caughtUp, p.session, p.overtaken = nil, 0, false, nil, 0, false
	}
	if len(old.Set.Joining) > 0 && len(now.Set.Joining) == 0 {
		c.checkMembers(p)
	}
	if now.Leader.IsZero() {
		if now.Epoch > 0 {
			p.openBallots()
		}
		return
	}
	p.ballots = nil
	p.elected = c.now
	p.found = c.arriving
	p.prefer, p.planned = replication.Member{}, false
	if b := c.brokers[now.Leader.Node]; b != nil {
		p.session = b.Session
	}
	if p.chosen.member == now.Leader {
		p.session = p.chosen.session // with which it voted
	}
	p.chosen = chosen{}
	if p.serving() {
		p.attempts, p.notBefore = 0, 0
	}
}

func (c *Controller) countLeader(m replication.Member, by int) {
	if b := c.brokers[m.Node]; b != nil && !m.IsZero() {
		b.leads += by
	}
}

// recount counts what a broker leads that has become known after its partitions.
func (c *Controller) recount(b *broker) {
	c.all(func(p *part) {
		if p.meta.Leader.Node == b.Node {
			b.leads++
		}
	})
}

// usable says whether a member's broker lives, with that disk.
func (c *Controller) usable(m replication.Member) bool {
	b := c.brokers[m.Node]
	return b != nil && b.state == alive && (b.Disk == m.Disk || c.s.Break.WipedKeepsName)
}

// healthy is usable without damaged data.
func (c *Controller) healthy(p *part, m replication.Member) bool {
	return c.usable(m) && !c.brokers[m.Node].suspects[p]
}

// electable says whether a majority of the set (of both sets if joint) is healthy.
func (c *Controller) electable(p *part, s *replication.ReplicaSet) bool {
	for _, set := range [][]replication.Member{s.Members, s.Joining} {
		n := 0
		for _, m := range set {
			if c.healthy(p, m) {
				n++
			}
		}
		if len(set) > 0 && n <= len(set)/2 {
			return c.s.Break.BeginWithoutMajority
		}
	}
	return true
}

// judgePart decides what a partition needs next. It is called whenever anything that
// matters to it has changed, and does nothing twice.
func (c *Controller) judgePart(p *part) {
	switch {
	case p.pending:
	case p.meta.Epoch == 0:
		c.beginFirst(p)
	case c.undoJoint(p):
	case p.meta.Leader.IsZero() && p.overtaken:
		c.begin(p, "a replica refuses to vote in this epoch")
	case p.meta.Leader.IsZero():
		c.elect(p)
	default:
		if why := c.leaderGone(p); why != "" {
			if !c.finishJoint(p) {
				c.begin(p, why)
			}
			return
		}
		if !c.changeSet(p) {
			c.handOver(p)
		}
	}
}

// leaderGone says why the leader cannot go on, "" if it can.
func (c *Controller) leaderGone(p *part) string {
	leader := p.meta.Leader
	b := c.brokers[leader.Node]
	switch {
	case b == nil:
		return "its leader's broker was removed"
	case b.Disk != leader.Disk && !c.s.Break.WipedKeepsName:
		return "its leader lost its disk"
	case b.state == dead:
		return "its leader is dead"
	case b.Session != p.session && !c.s.Break.KeepRestartedLeader:
		return "its leader was restarted"
	case b.suspects[p]:
		return "its leader's data are damaged"
	case b.state == alive && !p.serving():
		due := p.elected + doubled(c.s.ServeTimeout, p.attempts, 30*time.Second)
		if p.found && b.first > 0 {
			due = min(due, b.first+c.s.ServeTimeout/foundServes)
		}
		if c.now >= due {
			return "its leader does not come to serve"
		}
		c.wakeAt(p, due)
	}
	return ""
}

// foundServes is the part of ServeTimeout in which a leader that a new controller finds
// has to report: it has served for long, or was restarted while nobody saw it.
const foundServes = 4

// begin begins an epoch because there must be another leader.
func (c *Controller) begin(p *part, why string) {
	if !c.electable(p, &p.meta.Set) {
		return // until brokers come back: their coming touches the partition
	}
	if c.backsOff(p) {
		return
	}
	if why != "" {
		c.tell(p, "another leader is needed: %s", why)
	}
	c.balance.quiet = c.now
	c.proposeEpoch(p, nil)
}

// backsOff says whether it is too early for another epoch, and counts it if it is not.
func (c *Controller) backsOff(p *part) bool {
	if c.now < p.notBefore && !c.s.Break.NoBackoff {
		c.wakeAt(p, p.notBefore)
		return true
	}
	p.notBefore = c.now + doubled(c.s.BackoffMin, p.attempts, c.s.BackoffMax)
	p.attempts++
	return false
}

// tally counts what happens to many partitions at a time, for one line in the log.
type tally struct {
	what  string
	first *part
	count int
}

// tell notes what happens to a partition.
func (c *Controller) tell(p *part, format string, args ...any) {
	what := fmt.Sprintf(format, args...)
	i := slices.IndexFunc(c.tallies, func(t tally) bool { return t.what == what })
	if i < 0 {
		c.tallies = append(c.tallies, tally{what: what, first: p})
		i = len(c.tallies) - 1
	}
	c.tallies[i].count++
}

func (c *Controller) noteTallies() {
	for _, t := range c.tallies {
		if t.count == 1 {
			c.note("%v: %s", t.first, t.what)
		} else {
			c.note("%v and %d more partitions: %s", t.first, t.count-1, t.what)
		}
	}
	c.tallies = nil
}

// proposeEpoch puts a partition into the next BeginEpochs.
func (c *Controller) proposeEpoch(p *part, set *replication.ReplicaSet) bool {
	if c.mustWait(&c.begins, p) {
		return false
	}
	p.pending = true
	c.begins.next = append(c.begins.next, p)
	c.begins.begin = append(c.begins.begin, consensus.BeginEpoch{
		Topic: p.topic.id, Partition: p.number, Seen: p.meta.Epoch, Set: set,
	})
	return true
}
