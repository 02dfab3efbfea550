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
	size := recordSize(r)
	p.mu.Lock()
	// The usual case touches as little memory as possible: with many partitions each
	// load is a cache miss.
	if t := p.last; t != nil && t.name == r.Topic && p.failure == nil && !p.closing && !p.staged {
		if i := p.choose(t, r); uint32(i) < uint32(len(t.open)) {
			if b := t.open[i]; b != nil && b.builder.Size()+size <= b.room {
				s := b.add(p, r, done, w, false)
				p.mu.Unlock()
				return s, nil
			}
		}
	}
	return p.enqueueSlowly(ctx, r, size, done, w)
}

// enqueueSlowly is enqueue where a batch must be begun or grown, or nothing is known of
// the topic yet, or the record cannot be taken. It releases the lock.
func (p *Producer) enqueueSlowly(ctx context.Context, r *Record, size int, done func(Ack, error), w *waiter) (*sender, error) {
	var reserved int64
	for {
		p.unstage() // whose records came before this one
		t := p.last
		if t == nil || t.name != r.Topic {
			if t = p.topics[r.Topic]; t == nil {
				p.unlock()
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
			p.unlock()
			p.giveBack(reserved)
			return nil, err
		}
		part, err := p.route(t, r, size)
		if err != nil {
			p.unlock()
			p.giveBack(reserved)
			return nil, err
		}
		growth := part.growth(size)
		if growth <= reserved || len(p.room) == 0 && p.fits(growth) {
			p.buffered -= reserved
			b, changed := part.batchFor(size)
			s := b.add(p, r, done, w, changed)
			b.charge(p)
			if reserved > 0 {
				p.grantRoom() // of what was reserved too much
			}
			if p.stages(t) {
				p.beginStaging(t)
			}
			p.unlock()
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

// recordSlack is what the builder may need besides the record.
const recordSlack = 10

// recordOverhead is recordSize of an empty record.
var recordOverhead = recordSlack + record.MaxRecordSize(nil, nil, nil)

// recordSize bounds what a record takes in a batch, and what the builder needs for it.
func recordSize(r *Record) int {
	n := recordSlack + record.MaxRecordSize(r.Key, r.Value, r.Headers)
	if r.MessageID != "" {
		n += 10 + len(record.MessageIDHeader) + len(r.MessageID)
	}
	return n
}

// choose returns the number of the record's partition. Lock held.
func (p *Producer) choose(t *topicState, r *Record) int32 {
	switch {
	case p.opts.manual:
		return r.Partition
	case r.Key != nil:
		return p.byKey(t, r.Key)
	case r.MessageID != "":
		p.idBytes = append(p.idBytes[:0], r.MessageID...)
		return p.byKey(t, p.idBytes)
	}
	return t.sticky
}

// route finds the partition of a record. Lock held.
func (p *Producer) route(t *topicState, r *Record, size int) (*partition, error) {
	i, n := p.choose(t, r), int32(len(t.parts))
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

// batchFor returns the batch that takes the next record, for which there is room, and
// whether that is another one than before. Lock held.
func (t *partition) batchFor(size int) (b *batch, changed bool) {
	if b = t.open(); b != nil && b.builder.Size()+size > t.topic.target {
		t.seal()
		b = nil
	}
	if b != nil {
		return b, false
	}
	p := t.p
	b = p.pool.get(t.usualSize)
	b.part, b.sender, b.opened, b.flush = t, t.sender, p.client.now(), p.flush
	p.outstanding++
	t.topic.open[t.index] = b
	p.sweep.arm(p, p.sweepEvery())
	return b, true
}

// add appends the record. It returns the sender if the caller may send in its name.
// Lock held.
func (b *batch) add(p *Producer, r *Record, done func(Ack, error), w *waiter, changed bool) *sender {
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
	b.append(ms, r.Key, r.Value, headers, done, w)
	return b.appended(changed, w != nil)
}

func (b *batch) append(ms int64, key, value []byte, headers []Header, done func(Ack, error), w *waiter) {
	before := b.builder.Size()
	b.builder.Append(ms, key, value, headers)
	if b.sender != nil {
		b.sender.openBytes += b.builder.Size() - before
	}
	if done != nil {
		b.entries = append(b.entries, entry{done, uint32(b.builder.Len() - 1)})
	}
	if w != nil {
		b.waiters = append(b.waiters, waitEntry{w, uint32(b.builder.Len() - 1)})
	}
}

// appended sees to the sending after an append; changed says that the batch is a new
// one. It returns the sender if the caller may, and wants to, send in its name.
func (b *batch) appended(changed, direct bool) *sender {
	s := b.sender
	if s == nil || !changed && s.openBytes < s.eager {
		return nil
	}
	b.part.makeReady()
	if direct && s.mayGoDirectly() {
		s.sending = true
		return s
	}
	s.wakeIfReady()
	return nil
}

// charge counts the batch's memory, after a record for which it had to grow. What
// entries and waiters take meanwhile is counted then too.
func (b *batch) charge(p *Producer) {
	b.room = min(b.part.topic.target, b.builder.Size()+b.builder.Room())
	now := b.memory()
	p.buffered += now - b.charged
	b.charged = now
	p.noteMemory()
}

// noteMemory keeps the stage from taking more than there is room for. Lock held.
func (p *Producer) noteMemory() {
	if short := p.buffered > p.opts.maxBuffered; p.staged && short != p.short.Load() {
		p.short.Store(short)
	}
}

// roomWaiter is a send that waits for memory.
type roomWaiter struct {
	need    int64
	granted chan struct{} // closed when need is reserved for it
}

// fits reports whether so much more memory may be used; a single record always may.
func (p *Producer) fits(more int64) bool {
	return p.buffered+more <= p.opts.maxBuffered || p.buffered == p.stageCost
}

// waitForRoom is called with the lock held and returns with it held, save for errors.
// Waiters are served in their order; what they need is reserved for them.
func (p *Producer) waitForRoom(ctx context.Context, topic string, need, reserved int64) (int64, error) {
	p.unreserve(reserved)
	if !p.opts.block {
		p.unlock()
		return 0, &Error{Code: CodeBufferFull, Op: "send to", Topic: topic, Partition: -1, Retriable: true,
			Message: fmt.Sprintf("%d bytes wait for their acknowledgement; send again when some came", p.opts.maxBuffered)}
	}
	w := &roomWaiter{need: need, granted: make(chan struct{})}
	p.room = append(p.room, w)
	for _, s := range p.senders {
		s.wakeIfReady() // linger is over when memory is short
	}
	p.unlock()
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
