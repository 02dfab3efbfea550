package sequitur

import (
	"time"
)

// deliver hands a batch that has its outcome to those who wait for it; unlock does the
// part that must not happen under the lock. Batches of a partition come in order.
func (p *Producer) deliver(b *batch) {
	b.holds = 1
	b.event = ProduceEvent{
		Topic: b.part.topic.name, Partition: b.part.index, Records: b.records(), Attempts: b.attempts,
		Took: time.Duration(p.client.now() - b.opened), Duplicates: len(b.duplicates),
	}
	if !b.inflight { // else it may be being built
		b.event.Bytes = len(b.built)
	}
	if b.err != nil {
		b.event.Err = b.err
	}
	p.delivered = append(p.delivered, b)
	if b.err != nil && p.lost == nil && b.records() > len(b.entries)+len(b.waiters) {
		p.lost = b.err
	}
	if len(b.entries) == 0 {
		return
	}
	b.holds++
	p.calls = append(p.calls, b)
	if !p.calling {
		p.calling = true
		p.wg.Add(1)
		go p.runCallbacks()
	}
}

// unlock releases the lock and wakes up the sends that wait for what was delivered
// under it.
func (p *Producer) unlock() {
	if len(p.delivered) == 0 {
		p.mu.Unlock()
		return
	}
	list := p.delivered
	p.delivered, p.spare = p.spare, nil
	p.mu.Unlock()
	for _, b := range list {
		for _, w := range b.waiters {
			ack, err := b.ack(w.index)
			p.waiters.complete(w.waiter, ack, err)
		}
		p.hooks.Produced(b.event)
	}
	p.mu.Lock()
	for _, b := range list {
		p.release(b)
	}
	clear(list)
	p.spare = list[:0]
	p.mu.Unlock()
}

// runCallbacks runs the callbacks of delivered batches until there are none left.
func (p *Producer) runCallbacks() {
	defer p.wg.Done()
	p.mu.Lock()
	for len(p.calls) > 0 {
		list := p.calls
		p.calls, p.spareCalls = p.spareCalls, nil
		p.mu.Unlock()
		for i, b := range list {
			for _, e := range b.entries {
				e.done(b.ack(e.index))
			}
			list[i] = nil
			p.mu.Lock()
			p.release(b)
			p.mu.Unlock()
		}
		p.mu.Lock()
		p.spareCalls = list[:0]
	}
	p.calling = false
	p.mu.Unlock()
}

// release drops one hold on a delivered batch. Lock held.
func (p *Producer) release(b *batch) {
	if b.holds--; b.holds > 0 {
		return
	}
	p.countDelivered(b)
	if b.inflight {
		b.spent = true // its memory may still be being written
		return
	}
	p.recycle(b)
}

// recycle takes the memory of a batch back. Lock held.
func (p *Producer) recycle(b *batch) {
	p.buffered -= b.charged
	p.noteMemory()
	p.pool.put(b)
	p.pool.drop(max(p.opts.maxBuffered-p.buffered, p.opts.maxBuffered/8))
	p.grantRoom()
}

// failAll fails everything for good, and what is sent from now on. Lock held.
func (p *Producer) failAll(err *Error) {
	if p.failure != nil {
		return
	}
	p.failure = err
	p.endStaging()
	for _, topic := range p.topics {
		topic.failAll(err)
	}
	p.grantRoom()
}

// failAll fails all batches of the topic. Lock held.
func (topic *topicState) failAll(err *Error) {
	for _, t := range topic.parts {
		if t != nil {
			t.failWaiting(err, true)
			t.deliverHead()
		}
	}
}

// failWaiting fails the partition's batches, those in flight only if asked to.
func (t *partition) failWaiting(err *Error, inflight bool) {
	if t.open() != nil {
		t.seal()
	}
	for _, b := range t.queue {
		if !b.done && (inflight || !b.inflight) {
			t.fail(b, err)
		}
	}
}
