package sequitur

import (
	"time"

	"github.com/sequitur-mq/sequitur/wire"
)

// gapDoubt is how long a replicated partition's leader must insist on lacking what was
// acknowledged until it is believed: one that was deposed and does not know it yet lacks
// the latest records too.
const gapDoubt = 2 * time.Second

// askMetadata holds a partition until the topic's metadata are fresh; they are asked for
// after wait. Lock held.
func (t *partition) askMetadata(wait time.Duration) {
	t.stale, t.huntAt = true, t.p.client.now()+int64(wait)
	t.wantMetadata(t.huntAt)
}

// wantMetadata asks for the topic's metadata at a time of the client's clock, without
// holding the partition. Lock held.
func (t *partition) wantMetadata(at int64) {
	var avoid *node
	if t.sender != nil {
		avoid = t.sender.node
	}
	t.p.client.scout.want(t.p, t.topic.name, at, avoid)
}

// learned implements user.
func (p *Producer) learned(name string, info *topicInfo, err *Error) {
	p.mu.Lock()
	defer p.unlock()
	topic := p.topics[name]
	if topic == nil || p.failure != nil {
		return
	}
	if err == nil && info.uuid != topic.uuid {
		err = replaced("send to", name, "records meant for the old one are not written to the new one")
	}
	if err != nil && err.Code == Code(wire.CodeUnknownTopic.String()) {
		p.unstage()
		delete(p.topics, name)
		p.stage.topic.CompareAndSwap(topic, nil)
		topic.failure = err
		if p.last == topic {
			p.last = nil
		}
		topic.failAll(err)
		return
	}
	if err == nil {
		topic.update(info, p)
	}
	now := p.client.now()
	for _, t := range topic.parts {
		if t == nil {
			continue
		}
		switch {
		case err == nil:
			t.reconsider(now)
		case t.stale:
			t.cause = err
			t.askMetadata(t.hunt.failed(0))
		case t.sender.down && t.busy():
			t.wantMetadata(now + int64(t.hunt.failed(0)))
		}
	}
}

// reconsider follows the leader that fresh metadata name, or keeps looking for it.
func (t *partition) reconsider(now int64) {
	lead := &t.topic.info.parts[t.index]
	switch {
	case lead.Epoch != t.epoch, lead.Leader != 0 && t.sender == nil:
		t.hunt.succeeded()
		t.stale = false
		t.findSender()
		t.settle()
	case t.stale && now >= t.huntAt:
		t.stale = false // perhaps the same one serves by now
		t.findSender()
		t.settle()
	case t.stale:
		t.wantMetadata(t.huntAt)
	case t.sender.down && t.busy():
		t.wantMetadata(now + int64(t.hunt.failed(0)))
	}
}

// busy reports whether there is something to send, or in flight.
func (t *partition) busy() bool { return t.open() != nil || len(t.queue) > 0 || t.wire > 0 }

// suspect implements user.
func (p *Producer) suspect(n *node) {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.senders[n]
	if s == nil || s.inflight == 0 {
		return
	}
	now := p.client.now()
	for _, topic := range p.topics {
		for _, t := range topic.parts {
			switch {
			case t == nil || t.wire == 0:
			case t.sender == s:
				t.wantMetadata(now)
			case s.conn != nil: // it may have led the partition, which waits for its answer
				s.conn.forsaken.CompareAndSwap(0, now)
			}
		}
	}
}

// doubtGap reports whether a leader that lacks acknowledged records is not believed yet.
func (t *partition) doubtGap() bool {
	now := t.p.client.now()
	if t.gapSince == 0 {
		t.gapSince = now
	}
	if !t.topic.info.replicated(t.index) || now-t.gapSince > int64(gapDoubt) {
		t.gapSince = 0
		return false
	}
	t.askMetadata(t.hunt.failed(0))
	return true
}

// update takes over fresh metadata of the same topic.
func (topic *topicState) update(info *topicInfo, p *Producer) {
	topic.info = info
	for len(topic.parts) < len(info.parts) {
		topic.parts, topic.open = append(topic.parts, nil), append(topic.open, nil)
	}
	topic.setLimits(p)
	topic.route.Store(&topicRoute{info.partitioner, int32(len(topic.parts))})
}
