package controller

import (
	"time"

	"github.com/sequitur-mq/sequitur/consensus"
	"github.com/sequitur-mq/sequitur/replication"
	"github.com/sequitur-mq/sequitur/wire"
)

// Kinds of what administrators ask of a controller, with bodies in JSON.
const (
	AdminStatus uint16 = 1 // nothing -> Status
	AdminChange uint16 = 2 // Request -> nothing
)

// Action is what an administrator wants.
type Action string

// The actions.
const (
	Add        Action = "add"         // give replicas to a broker that has joined: Rebalance, after a check of Node
	Remove     Action = "remove"      // drain Node, then forget it
	Drain      Action = "drain"       // move everything away from Node
	Rebalance  Action = "rebalance"   // even out replicas
	MoveLeader Action = "move-leader" // have Node lead Topic/Partition
	Cancel     Action = "cancel"      // stop moves, drains and removals: of Node, or all if it is 0
)

// Request is an order of an administrator.
type Request struct {
	Action    Action    `json:"action"`
	Node      uint32    `json:"node,omitempty"`
	Topic     wire.UUID `json:"topic,omitzero"`
	Partition uint32    `json:"partition,omitempty"`
}

// request waits for a command of its own.
type request struct {
	reply   uint64
	command uint64
}

// removal is a broker that is to be forgotten once it holds nothing.
type removal struct {
	command uint64
	again   time.Duration
}

// Request carries out an order. The Reply with id says that it is under way, or done if
// that is a matter of moments; Status shows how it goes on.
func (c *Controller) Request(now time.Duration, id uint64, r Request) {
	if !c.active {
		c.reply(id, wire.Errorf(wire.CodeNotLeader, "this broker is not the controller"))
		return
	}
	c.now = now
	b := c.brokers[r.Node]
	if b == nil && r.Action != Rebalance && (r.Action != Cancel || r.Node != 0) {
		c.reply(id, wire.Errorf(wire.CodeInvalidRequest, "there is no broker %d; `broker cluster status` lists them", r.Node))
		return
	}
	switch r.Action {
	case Add, Rebalance:
		c.orderRebalance(id, r, b)
	case Drain, Remove:
		c.orderDrain(id, r.Action, b)
	case MoveLeader:
		c.orderLeader(id, r, b)
	case Cancel:
		c.orderCancel(id, r.Node)
	default:
		c.reply(id, wire.Errorf(wire.CodeUnsupported, "%q is no action of this version", r.Action))
	}
}

func (c *Controller) reply(id uint64, err error) {
	c.effects = append(c.effects, Reply{ID: id, Err: err})
}

func (c *Controller) orderRebalance(id uint64, r Request, b *broker) {
	if r.Action == Add && (b.state != alive || b.Draining) {
		c.reply(id, wire.Errorf(wire.CodeInvalidRequest, "broker %d is %s: start it, or cancel its drain, first", b.Node, b.status()))
		return
	}
	n := c.planMoves(true, "rebalance")
	c.note("rebalance: %d partitions are to move", n)
	c.balance.quiet = min(c.balance.quiet, c.now-c.s.BalanceAfter)
	c.reply(id, nil)
}

func (c *Controller) orderDrain(id uint64, action Action, b *broker) {
	rest, held := 0, 0
	for _, o := range c.nodes {
		if o != b && !o.Draining && !o.lost {
			rest++
		}
	}
	largest := ""
	c.all(func(p *part) {
		if p.involves(b.Node) && p.topic.rf > rest && largest == "" {
			largest, held = p.topic.name, p.topic.rf
		}
	})
	if largest != "" {
		c.reply(id, wire.Errorf(wire.CodeInvalidRequest,
			"without broker %d there would be %d brokers, and topic %q has %d replicas: add a broker or lower its replication factor first", b.Node, rest, largest, held))
		return
	}
	if action == Remove {
		c.orders[b.Node] = removal{}
	}
	if b.Draining {
		c.reply(id, nil)
		return
	}
	c.note("broker %d is to be drained", b.Node)
	c.requests = append(c.requests, request{id, c.propose(consensus.SetBroker{Node: b.Node, Draining: true})})
}

func (c *Controller) orderLeader(id uint64, r Request, b *broker) {
	p := c.part(r.Topic, r.Partition)
	switch {
	case p == nil:
		c.reply(id, wire.ErrUnknownPartition)
	case p.meta.Leader == b.Member():
		c.reply(id, nil)
	case !p.isVoter(b.Member()):
		c.reply(id, wire.Errorf(wire.CodeInvalidRequest, "broker %d holds no replica of %v; it is on %v", b.Node, p, p.meta.Nodes()))
	case !c.healthy(p, b.Member()):
		c.reply(id, wire.Errorf(wire.CodeInvalidRequest, "broker %d is %s, or its replica of %v is damaged", b.Node, b.status(), p))
	case p.meta.Leader.IsZero() || p.handover != nil:
		c.reply(id, wire.Errorf(wire.CodeOverloaded, "the leader of %v is changing already; try again", p))
	default:
		p.handover = &handover{from: p.meta.Leader, to: b.Member(), until: c.now + moveLeaderTry, why: "ordered", reply: id}
		c.touch(p)
	}
}

// moveLeaderTry is how long it is tried to move a leader.
const moveLeaderTry = 10 * time.Second

func (p *part) isVoter(m replication.Member) bool { return p.meta.Set.IsVoter(m) }

// orderCancel drops the moves that are not joint yet: those are nearly done, and can only
// be ended forwards.
func (c *Controller) orderCancel(id uint64, node uint32) {
	c.all(func(p *part) {
		if p.target != nil && (node == 0 || p.involves(node)) && len(p.meta.Set.Joining) == 0 {
			c.setTarget(p, nil, "")
		}
	})
	last := uint64(0)
	for _, b := range c.nodes {
		if node == 0 || b.Node == node {
			delete(c.orders, b.Node)
			if b.Draining {
				last = c.propose(consensus.SetBroker{Node: b.Node, Draining: false})
			}
		}
	}
	c.wakeMoves()
	if last == 0 {
		c.reply(id, nil)
		return
	}
	c.requests = append(c.requests, request{id, last})
}

// requestDecided answers the administrator whose command was decided.
func (c *Controller) requestDecided(id uint64, r consensus.Result, err error) {
	for node, o := range c.orders {
		if o.command == id {
			c.removed(node, r, err)
			return
		}
	}
	for i, q := range c.requests {
		if q.command == id {
			if err == nil && len(r.Errors) > 0 {
				err = r.Errors[0]
			}
			c.reply(q.reply, err)
			c.requests = append(c.requests[:i], c.requests[i+1:]...)
			return
		}
	}
}

// runOrders forgets brokers that are to be removed and hold nothing any more.
func (c *Controller) runOrders() {
	for _, b := range c.nodes {
		c.runLeaving(b)
		o, ordered := c.orders[b.Node]
		if !ordered || o.command != 0 || c.now < o.again || !b.Draining || c.holds(b.Node) {
			continue
		}
		o.command = c.propose(consensus.RemoveBroker{Node: b.Node})
		c.orders[b.Node] = o
	}
}

func (c *Controller) removed(node uint32, r consensus.Result, err error) {
	if err == nil && len(r.Errors) > 0 {
		err = r.Errors[0]
	}
	if err != nil {
		c.warn("broker %d is not removed yet: %v", node, err)
		c.orders[node] = removal{again: c.now + time.Second}
		return
	}
	delete(c.orders, node)
}

func (c *Controller) holds(node uint32) (found bool) {
	c.all(func(p *part) { found = found || p.involves(node) })
	return found
}

// abandon answers everybody who waits, as the controller leaves its office.
func (c *Controller) abandon() (replies []Effect) {
	gone := wire.Errorf(wire.CodeNotLeader, "the controller has moved to another broker; ask again")
	for _, q := range c.requests {
		replies = append(replies, Reply{ID: q.reply, Err: gone})
	}
	for _, b := range c.nodes {
		if b.leaving != nil {
			for _, id := range b.leaving.replies {
				replies = append(replies, Reply{ID: id, Err: gone})
			}
		}
	}
	c.all(func(p *part) {
		if p.handover != nil && p.handover.reply != 0 {
			replies = append(replies, Reply{ID: p.handover.reply, Err: gone})
		}
	})
	return replies
}
