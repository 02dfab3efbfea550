package controller

import (
	"time"

	"github.com/sequitur-mq/sequitur/wire"
)

var errBehind = wire.Errorf(wire.CodeTimeout, "the wanted replica never had all of the leader's log, or is away; try again when there is less load")

// stayed is the time after which a broker counts as one that did not leave after all.
const stayed = 30 * time.Second

// leaving is the planned stop of a broker.
type leaving struct {
	until   time.Duration
	replies []uint64
}

// Leaving tells that a broker is going to stop. What it leads is handed over; the
// Reply with id comes when that is done, or when it takes too long.
func (c *Controller) Leaving(now time.Duration, id uint64, node uint32) {
	b := c.brokers[node]
	if !c.active || b == nil {
		c.effects = append(c.effects, Reply{ID: id, Err: wire.Errorf(wire.CodeNotLeader, "broker %d is not known, or this is not the controller", node)})
		return
	}
	c.now = now
	if b.leaving == nil {
		c.note("broker %d is leaving, it leads %d partitions", node, b.leads)
		b.leaving = &leaving{until: now + c.s.LeavingTimeout}
	}
	b.leaving.replies = append(b.leaving.replies, id)
	c.touchReplicas(node)
}

// runLeaving answers brokers that lead nothing more which others could lead.
func (c *Controller) runLeaving(b *broker) {
	if b.leaving != nil && c.now >= b.leaving.until+stayed {
		c.note("broker %d said that it would leave, and has stayed", b.Node)
		c.endLeaving(b)
		c.touchReplicas(b.Node)
	}
	if b.leaving == nil || len(b.leaving.replies) == 0 {
		return
	}
	if c.now < b.leaving.until && c.ledWithHeirs(b) {
		return
	}
	c.answerLeaving(b)
}

func (c *Controller) answerLeaving(b *broker) {
	for _, id := range b.leaving.replies {
		c.effects = append(c.effects, Reply{ID: id, Leaders: b.leads})
	}
	b.leaving.replies = nil
}

// ledWithHeirs says whether the broker leads, or may be elected in, a partition that
// another one could lead.
func (c *Controller) ledWithHeirs(b *broker) (found bool) {
	c.all(func(p *part) {
		if found || p.meta.Leader != b.Member() && !(p.meta.Leader.IsZero() && p.involves(b.Node)) {
			return
		}
		found = c.electable(p, &p.meta.Set) && c.hasHeir(p, &handover{from: b.Member()})
	})
	return found
}

// endLeaving forgets that a broker was leaving: it has left, or has come back.
func (c *Controller) endLeaving(b *broker) {
	if b.leaving != nil {
		c.answerLeaving(b)
		b.leaving = nil
	}
}
