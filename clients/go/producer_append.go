package sequitur

import (
	"context"
	"fmt"
	"time"

	"github.com/sequitur-mq/sequitur/record"
	"github.com/sequitur-mq/sequitur/wire"
)

// enqueue copies a record into the open batch of its partition. It returns the sender
// if w is set and the caller may send at once, in the sender's name.
func (p *Producer) enqueue(ctx context.Context, r *Record, done func(Ack, error), w *waiter) (*sender, error) {
	if ctx.Err() != nil {
		return nil, canceled(ctx, "send to", r.Topic)
	}
	var reserved int64
	size := recordSize(r)
	p.mu.Lock()
	for {
		t := p.last
		if t == nil || t.name != r.Topic {
			if t = p.topics[r.Topic]; t == nil {
				p.mu.Unlock()
				if err := p.resolve(ctx, r.Topic); err != nil {
					p.giveBack(reserved)
					return nil, err
				}
				p.mu.Lock()
				continue
			}
			p.last = t
		}
		if p.failure != nil || p.closing {
			err := p.closedError(r.Topic)
			p.mu.Unlock()
			p.giveBack(reserved)
			return nil, err
		}
		part, err := p.route(t, r, size)
		if err != nil {
			p.mu.Unlock()
			p.giveBack(reserved)
			return nil, err
		}
		growth := part.growth(size)
		if growth <= reserved || len(p.room) == 0 && p.fits(growth) {
			p.buffered -= reserved
			s := p.add(t, part, r, size, done, w)
			if reserved > 0 {
				p.grantRoom() // of what was reserved too much
			}
			p.mu.Unlock()
			return s, nil
		}
		if reserved, err = p.waitForRoom(ctx, r.Topic, growth, reserved); err != nil {
			return nil, err
		}
	}
}

func (p *Producer) closedError(topic string) error {
	e := closed("send to", "the producer")
	if p.failure != nil {
		*e = *p.failure
		e.Op, e.MaybeDone = "send to", false
	}
	e.Topic = topic
	return e
}

// resolve learns about a topic at its first record.
func (p *Producer) resolve(ctx context.Context, name string) error {
	info, err := p.client.topic(ctx, "send to", name)
	if err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.topics[name] == nil {
		p.newTopicState(info)
	}
	return nil
}

// recordSize bounds what a record takes in a batch.
func recordSize(r *Record) int {
	n := record.MaxRecordSize(r.Key, r.Value, r.Headers)
	if r.MessageID != "" {
		n += 10 + len(record.MessageIDHeader) + len(r.MessageID)
	}
	return n
}

// route finds the partition of a record. Lock held.
func (p *Producer) route(t *topicState, r *Record, size int) (*partition, error) {
	n := int32(len(t.parts))
	var i int32
	switch {
	case p.opts.manual:
		i = r.Partition
	case r.Key != nil:
		i = p.byKey(t, r.Key)
	case r.MessageID != "":
		p.idBytes = append(p.idBytes[:0], r.MessageID...)
		i = p.byKey(t, p.idBytes)
	default:
		i = t.sticky
	}
	if uint32(i) >= uint32(n) {
		return nil, &Error{Code: Code(wire.CodeUnknownPartition.String()), Op: "send to", Topic: t.name, Partition: i,
			Message: fmt.Sprintf("the topic has the partitions 0 to %d; check the number or the partitioner", n-1)}
	}
	if size+record.HeaderSize > t.limit {
		return nil, &Error{Code: Code(wire.CodeBatchTooLarge.String()), Op: "send to", Topic: t.name, Partition: i,
			Message: fmt.Sprintf("the record takes up to %d bytes, the topic allows batches of %d; send smaller records or raise the topic's max-batch-bytes", size, t.limit)}
	}
	part := t.parts[i]
	if part == nil {
		part = p.newPartition(t, i)
	}
	return part, nil
}

func (p *Producer) byKey(t *topicState, key []byte) int32 {
	if p.opts.partitioner != nil {
		return p.opts.partitioner(t.name, key, int32(len(t.parts)))
	}
	return int32(t.info.partitioner.Partition(key))
}

// moveSticky chooses the partition for the next records without key: the next one that
// is not held up. Lock held.
func (t *topicState) moveSticky() {
	n := int32(len(t.parts))
	for range n {
		t.sticky = (t.sticky + 1) % n
		if part := t.parts[t.sticky]; part == nil || !part.heldUp() {
			return
		}
	}
	t.sticky = (t.sticky + 1) % n
}

// add appends the record, for which there is room. Lock held.
func (p *Producer) add(t *topicState, part *partition, r *Record, size int, done func(Ack, error), w *waiter) *sender {
	changed := false
	b := part.open
	if b != nil && b.builder.Size()+size > t.target {
		part.seal()
		b, changed = nil, true
	}
	if b == nil {
		b = p.openBatch(part)
		changed = true
	}
	var ms int64
	switch {
	case !r.Timestamp.IsZero():
		ms = r.Timestamp.UnixMilli()
	case w == nil:
		ms = p.clock.now(p)
	default:
		ms = time.Now().UnixMilli()
	}
	headers := r.Headers
	if r.MessageID != "" {
		p.idBytes = append(p.idBytes[:0], r.MessageID...)
		headers = append(append(p.headers[:0], headers...), Header{Key: record.MessageIDHeader, Value: p.idBytes})
		p.headers = headers
	}
	before := b.builder.Size()
	b.builder.Append(ms, r.Key, r.Value, headers)
	if done != nil {
		b.entries = append(b.entries, entry{done, uint32(b.builder.Len() - 1)})
	}
	if w != nil {
		b.waiters = append(b.waiters, waitEntry{w, uint32(b.builder.Len() - 1)})
	}
	if now := b.memory(); now != b.charged {
		p.buffered += now - b.charged
		b.charged = now
	}
	s := part.sender
	if s == nil {
		return nil
	}
	s.openBytes += b.builder.Size() - before
	if !changed && s.openBytes < s.eager {
		return nil
	}
	part.makeReady()
	if w != nil && s.mayGoDirectly() {
		s.sending = true
		return s
	}
	s.wakeIfReady()
	return nil
}

// openBatch starts a batch. Lock held.
func (p *Producer) openBatch(part *partition) *batch {
	b := p.pool.get(part.lastSize)
	b.part, b.opened, b.flush = part, p.client.now(), p.flush
	b.charged = b.memory()
	p.buffered += b.charged
	p.outstanding++
	part.open = b
	p.sweep.arm(p, p.sweepEvery())
	return b
}

// roomWaiter is a send that waits for memory.
type roomWaiter struct {
	need    int64
	granted chan struct{} // closed when need is reserved for it
}

// fits reports whether so much more memory may be used; a single record always may.
func (p *Producer) fits(more int64) bool {
	return p.buffered+more <= p.opts.maxBuffered || p.buffered == 0
}

// waitForRoom is called with the lock held and returns with it held, save for errors.
// Waiters are served in their order; what they need is reserved for them.
func (p *Producer) waitForRoom(ctx context.Context, topic string, need, reserved int64) (int64, error) {
	p.unreserve(reserved)
	if !p.opts.block {
		p.mu.Unlock()
		return 0, &Error{Code: CodeBufferFull, Op: "send to", Topic: topic, Partition: -1, Retriable: true,
			Message: fmt.Sprintf("%d bytes wait for their acknowledgement; send again when some came", p.opts.maxBuffered)}
	}
	w := &roomWaiter{need: need, granted: make(chan struct{})}
	p.room = append(p.room, w)
	for _, s := range p.senders {
		s.wakeIfReady() // linger is over when memory is short
	}
	p.mu.Unlock()
	select {
	case <-w.granted:
		p.mu.Lock()
		return need, nil
	case <-ctx.Done():
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for i := range p.room {
		if p.room[i] == w {
			p.room = append(p.room[:i], p.room[i+1:]...)
			p.grantRoom()
			e := canceled(ctx, "send to", topic)
			e.Message = "the context ended while the producer's buffer was full; the record was not queued"
			return 0, e
		}
	}
	p.unreserve(need)
	return 0, canceled(ctx, "send to", topic)
}

func (p *Producer) unreserve(reserved int64) {
	if reserved > 0 {
		p.buffered -= reserved
		p.grantRoom()
	}
}

func (p *Producer) giveBack(reserved int64) {
	p.mu.Lock()
	p.unreserve(reserved)
	p.mu.Unlock()
}

// grantRoom serves waiting sends after memory was freed. Lock held.
func (p *Producer) grantRoom() {
	for len(p.room) > 0 {
		w := p.room[0]
		if !p.fits(w.need) && p.failure == nil {
			return
		}
		p.buffered += w.need
		p.room = p.room[1:]
		close(w.granted)
	}
}
