package sequitur

import (
	"github.com/sequitur-mq/sequitur/wire"
)

// askMetadata holds a partition until the topic's metadata are fresh. Lock held.
func (p *Producer) askMetadata(t *partition) {
	t.stale = true
	p.refresh[t.topic] = struct{}{}
	if p.refreshing || p.failure != nil {
		return
	}
	p.refreshing = true
	p.wg.Add(1)
	go p.refreshAll()
}

// refreshAll refreshes topics until none is waiting.
func (p *Producer) refreshAll() {
	defer p.wg.Done()
	retry := p.client.newRetrier()
	for {
		p.mu.Lock()
		if p.failure != nil || len(p.refresh) == 0 {
			p.refreshing = false
			p.mu.Unlock()
			return
		}
		var topics []*topicState
		for t := range p.refresh {
			topics = append(topics, t)
		}
		p.mu.Unlock()
		failed := false
		for _, t := range topics {
			failed = !p.refreshOne(t) || failed
		}
		if !failed {
			retry.succeeded()
		} else if pause(p.ctx, retry.failed(0)) != nil {
			p.mu.Lock()
			p.refreshing = false
			p.mu.Unlock()
			return
		}
	}
}

// refreshOne refreshes a topic; false if it has to be tried again.
func (p *Producer) refreshOne(topic *topicState) bool {
	info, err := p.client.refreshTopic(p.ctx, "send to", topic.name, topic.info)
	p.mu.Lock()
	defer p.unlock()
	delete(p.refresh, topic)
	if err == nil && info.uuid != topic.uuid {
		err = wireError("send to", topic.name, -1, wire.Errorf(wire.CodeUnknownTopic,
			"the topic was deleted and created again; records meant for the old one are not written to the new one"))
	}
	if err != nil {
		e := wireError("send to", topic.name, -1, err)
		if e.Code == Code(wire.CodeUnknownTopic.String()) {
			p.unstage()
			delete(p.topics, topic.name)
			p.stage.topic.CompareAndSwap(topic, nil)
			topic.failure = e
			if p.last == topic {
				p.last = nil
			}
			topic.failAll(e)
			return true
		}
		p.refresh[topic] = struct{}{}
		for _, t := range topic.parts {
			if t != nil && t.stale {
				t.cause = e
			}
		}
		return false
	}
	topic.update(info, p)
	for _, t := range topic.parts {
		if t != nil && t.stale {
			t.stale = false
			t.findSender()
			t.settle()
		}
	}
	_, again := p.refresh[topic] // some partition has no leader
	return !again
}

// update takes over fresh metadata of the same topic.
func (topic *topicState) update(info *topicInfo, p *Producer) {
	topic.info = info
	for len(topic.parts) < len(info.leaders) {
		topic.parts, topic.open = append(topic.parts, nil), append(topic.open, nil)
	}
	topic.setLimits(p)
	topic.route.Store(&topicRoute{info.partitioner, int32(len(topic.parts))})
}
