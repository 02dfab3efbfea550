package controller

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/sequitur-mq/sequitur/consensus"
	"github.com/sequitur-mq/sequitur/replication"
	"github.com/sequitur-mq/sequitur/wire"
)

// ErrRegister says to a broker that it is not the one that is registered under its
// number: it has to register, again.
var ErrRegister = errors.New("the broker is not registered with this disk and session")

type liveness uint8

const (
	unknown liveness = iota // to a new controller
	alive
	suspect // its connection broke, or it is silent for long; asked
	dead
)

func (l liveness) String() string { return [...]string{"unknown", "alive", "suspect", "dead"}[l] }

// broker is a registered broker.
type broker struct {
	consensus.Broker
	state liveness
	since time.Duration // in this state
	heard time.Duration // last sign of life of the registered session
	first time.Duration // its first heartbeat to this controller

	probing uint64        // id of the probe under way
	probed  time.Duration // when the last one ended
	missed  bool          // dead for so long that nothing new is given to it
	lost    bool          // dead for so long that its replicas are given to others
	leaving *leaving

	fence  uint64   // id of the SendFence under way
	fenced []*part  // what it asks about
	epochs []uint32 // ... and the epochs
	queue  []*part  // to be asked next

	leads    int // partitions led, with those decided already
	learns   int // partitions that it is a learner of
	teaches  int // partitions with learners that it leads
	beat     Heartbeat
	suspects map[*part]bool
}

// Heartbeat is what a broker says about itself.
type Heartbeat struct {
	Node, Disk uint32
	Session    uint64
	Applied    uint64
	DiskFree   uint64
	Partitions uint32
	Leaders    uint32
	Full       bool        // its disk takes no more records
	Serving    []FenceItem // leaders here whose start record is committed
	CaughtUp   []CaughtUp
	Suspects   []Suspect // all there are
}

// CaughtUp is a learner with a small lag, as its leader sees it.
type CaughtUp struct {
	FenceItem
	Member replication.Member
}

// Suspect is a replica with damaged data: it neither votes nor leads.
type Suspect struct {
	Topic     wire.UUID
	Partition uint32
}

func (c *Controller) putBroker(b consensus.Broker, state liveness) *broker {
	own := &broker{Broker: b, state: state, since: c.now, heard: c.now}
	c.brokers[b.Node] = own
	at, _ := slices.BinarySearchFunc(c.nodes, b.Node, func(o *broker, node uint32) int { return cmp.Compare(o.Node, node) })
	c.nodes = slices.Insert(c.nodes, at, own)
	return own
}

// syncBroker takes over what the metadata say about a broker.
func (c *Controller) syncBroker(m *consensus.Machine, node uint32) {
	now, there := m.Broker(node)
	b := c.brokers[node]
	switch {
	case !there && b == nil:
		return
	case !there:
		c.note("broker %d was removed", node)
		delete(c.brokers, node)
		c.nodes = slices.DeleteFunc(c.nodes, func(o *broker) bool { return o == b })
		c.endLeaving(b)
	case b == nil:
		c.note("broker %d is new, at %s", node, now.ClusterAddr)
		c.recount(c.putBroker(now, alive))
	case now.Session != b.Session || now.Disk != b.Disk:
		if now.Disk != b.Disk {
			c.warn("broker %d came back with an empty disk", node)
		} else {
			c.note("broker %d was restarted", node)
		}
		b.Broker = now
		c.restarted(b)
	case now == b.Broker:
		return
	default:
		b.Broker = now
	}
	c.replan = true
	c.touchReplicas(node)
}

// restarted forgets what another life of a broker's process has said.
func (c *Controller) restarted(b *broker) {
	c.endLeaving(b)
	b.probing, b.fence, b.fenced, b.epochs, b.suspects = 0, 0, nil, nil, nil
	b.beat, b.first = Heartbeat{}, 0
	c.setState(b, alive)
	b.heard = c.now
	if c.s.Break.KeepRestartedVotes {
		return
	}
	c.all(func(p *part) {
		for i := range p.ballots {
			if p.ballots[i].member.Node == b.Node {
				p.ballots[i] = ballot{member: p.ballots[i].member}
			}
		}
	})
}

func (c *Controller) setState(b *broker, s liveness) {
	if b.state != s {
		b.state, b.since, b.missed, b.lost = s, c.now, false, false
	}
}

func (c *Controller) touchReplicas(node uint32) {
	c.all(func(p *part) {
		if p.involves(node) {
			c.touch(p)
		}
	})
}

// Heartbeat takes in what a broker says. The error is ErrRegister if the broker is not
// the registered one.
func (c *Controller) Heartbeat(now time.Duration, h *Heartbeat) error {
	if !c.active {
		return errors.New("not the controller")
	}
	c.now = now
	b := c.brokers[h.Node]
	if b == nil || h.Disk != 0 && b.Disk != h.Disk || b.Session != h.Session {
		return fmt.Errorf("heartbeat of broker %d: %w", h.Node, ErrRegister)
	}
	c.lives(b)
	if h.Full != b.beat.Full {
		c.noteFull(b, h.Full)
	}
	if b.first == 0 {
		b.first = now
		c.touchReplicas(b.Node)
	}
	for _, s := range h.Serving {
		if p := c.part(s.Topic, s.Partition); p != nil {
			c.reportServing(p, b.Member(), s.Epoch)
		}
	}
	for _, l := range h.CaughtUp {
		p := c.part(l.Topic, l.Partition)
		if p != nil && p.meta.Epoch == l.Epoch && p.meta.Leader == b.Member() && !slices.Contains(p.caughtUp, l.Member) {
			p.caughtUp = append(p.caughtUp, l.Member)
			c.touch(p)
		}
	}
	c.reportSuspects(b, h.Suspects)
	b.beat = *h
	b.beat.Serving, b.beat.CaughtUp, b.beat.Suspects = nil, nil, nil
	return nil
}

func (c *Controller) noteFull(b *broker, full bool) {
	b.beat.Full = full
	if full {
		c.warn("the disk of broker %d is full: others are to lead", b.Node)
	} else {
		c.note("the disk of broker %d has space again", b.Node)
		c.replan = true
	}
	c.touchReplicas(b.Node)
}

// mustNotLead says whether the broker is to lead nothing that another one can lead.
func (b *broker) mustNotLead() bool { return b.Draining || b.leaving != nil || b.beat.Full }

func (c *Controller) reportServing(p *part, by replication.Member, epoch uint32) {
	if epoch < p.served.epoch {
		return
	}
	p.served = servedEpoch{epoch, by}
	if p.serving() {
		p.attempts, p.notBefore = 0, 0
		c.touch(p)
	}
}

func (c *Controller) reportSuspects(b *broker, list []Suspect) {
	if len(list) == 0 && len(b.suspects) == 0 {
		return
	}
	old := b.suspects
	b.suspects = make(map[*part]bool, len(list))
	for _, s := range list {
		if p := c.part(s.Topic, s.Partition); p != nil {
			b.suspects[p] = true
		}
	}
	c.all(func(p *part) { // in order, as maps have none
		if old[p] == b.suspects[p] {
			return
		}
		c.touch(p)
		for i := range p.ballots {
			if p.ballots[i].member == b.Member() {
				p.ballots[i] = ballot{member: b.Member()} // votes anew
			}
		}
	})
}

// lives notes a sign of life of the registered session.
func (c *Controller) lives(b *broker) {
	b.heard = c.now
	if b.state == alive {
		return
	}
	was := b.state
	c.setState(b, alive)
	if was == dead {
		c.note("broker %d is back", b.Node)
	}
	if was != suspect {
		c.replan = true
	}
	c.askAgain(b)
	c.touchReplicas(b.Node)
}

// askAgain opens the ballots that a broker did not answer while it was down.
func (c *Controller) askAgain(b *broker) {
	c.all(func(p *part) {
		for i := range p.ballots {
			if ballot := &p.ballots[i]; ballot.member.Node == b.Node {
				ballot.at = 0
			}
		}
	})
}

func (c *Controller) dies(b *broker, why string) {
	c.warn("broker %d is dead: %s", b.Node, why)
	c.setState(b, dead)
	b.probing = 0
	c.fenceFailed(b)
	c.touchReplicas(b.Node)
}

// Disconnected tells that the connection by which a broker's heartbeats come broke.
func (c *Controller) Disconnected(now time.Duration, node uint32) {
	b := c.brokers[node]
	if !c.active || b == nil || b.state == dead {
		return
	}
	c.now = now
	if b.state == alive {
		c.setState(b, suspect)
	}
	c.probe(b)
}

func (c *Controller) probe(b *broker) {
	if b.probing == 0 {
		b.probing = c.id()
		c.effects = append(c.effects, SendProbe{ID: b.probing, Node: b.Node})
	}
}

// ProbeResult is what became of a probe.
type ProbeResult uint8

// The results of a probe.
const (
	ProbeSilent   ProbeResult = iota // no answer in time, or the network failed: nothing is known
	ProbeAnswered                    // by the session given
	ProbeRefused                     // nobody listens there
)

// Probed tells the result of a SendProbe.
func (c *Controller) Probed(now time.Duration, node uint32, id uint64, result ProbeResult, session uint64) {
	b := c.brokers[node]
	if !c.active || b == nil || b.probing != id {
		return
	}
	c.now = now
	b.probing, b.probed = 0, now
	switch {
	case result == ProbeAnswered && session == b.Session:
		c.lives(b)
	case b.state == dead:
	case result == ProbeAnswered:
		c.dies(b, "another process runs in its place and has not registered yet")
	case result == ProbeRefused:
		c.dies(b, "nobody listens at its address")
	}
}

// forgiveOwnStall keeps brokers alive whose silence may be the controller's own: its
// process stood still, and what they sent waits to be read.
func (c *Controller) forgiveOwnStall() {
	gap := c.now - c.ran
	if gap <= c.s.SessionTimeout/3 || c.s.Break.HoldOwnStalls {
		return
	}
	for _, b := range c.nodes {
		b.heard = min(b.heard+gap, c.now)
	}
}

// probeAgain is the pause after a probe that told nothing: a process that is being
// killed may have reset it.
const probeAgain = 20 * time.Millisecond

// inDoubt says whether it is to be found out whether the broker lives.
func (b *broker) inDoubt() bool {
	return (b.state == suspect || b.state == unknown) && b.probing == 0
}

// patience is the silence after which a broker is dead. A new controller probes all, and
// whoever lives answers that: a broker that does not was silent before already, or else
// there would be no new controller.
func (c *Controller) patience(b *broker) time.Duration {
	if b.state == unknown {
		return c.s.SessionTimeout / 2
	}
	return c.s.SessionTimeout
}

func (c *Controller) runBrokers() {
	for _, b := range c.nodes {
		silent := c.now - b.heard
		switch {
		case b.state == dead:
			if c.now-b.since >= newcomerPatience && !b.missed {
				b.missed, c.replan = true, true
			}
			if c.now-b.since >= c.s.ReplaceAfter && !b.lost {
				b.lost = true
				c.warn("broker %d is lost: its replicas are given to others", b.Node)
				c.replan = true
			}
		case silent >= c.patience(b) && !c.s.Break.KeepDeadLeader:
			c.dies(b, fmt.Sprintf("nothing heard for %v", silent.Round(time.Millisecond)))
		case b.inDoubt() && c.now >= b.probed+probeAgain:
			c.probe(b)
		case silent >= c.s.ProbeAfter && b.state == alive:
			c.setState(b, suspect)
			c.probe(b)
		}
	}
}
