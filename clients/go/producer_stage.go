package sequitur

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/sequitur-mq/sequitur/partitions"
)

const (
	// stageFrom is the number of partitions from which records are staged.
	stageFrom = 64
	// A stage has so many chunks of so many bytes and records.
	stageChunks  = 16
	stageBytes   = 256 << 10
	stageRecords = 4 << 10
	// stageMemory is taken off the producer's buffer where a stage is used, which is
	// only where it does not matter much.
	stageMemory = stageChunks * (stageBytes + stageRecords*stagedBytes)
	stagedBytes = 40
)

// stage takes records of topics with many partitions one after the other; the sender
// then spreads them over the partitions' batches, many at a time.
//
// With thousands of partitions each record goes to other memory than the one before.
// Waiting for that memory under a lock, whose release waits for all stores to arrive,
// costs several times what the copying does. Here the caller writes to memory that is
// at hand, and the sender's loop has no lock in it, so that its cache misses overlap.
//
// Records go through the stage or past it; who goes past it empties it first.
type stage struct {
	topic atomic.Pointer[topicState] // the one whose records are staged, or nil

	mu     sync.Mutex // taken inside of Producer.mu
	closed bool
	hungry bool // a sender has nothing to do: signal at the first record
	used   bool // since the clock's last tick
	cur    *stageChunk
	full   []*stageChunk
	free   []*stageChunk
	made   int
	signal chan struct{} // holds a token when a sender should look
}

type stageChunk struct {
	records []stagedRecord
	data    []byte
}

type stagedRecord struct {
	topic *topicState
	done  func(Ack, error)
	ms    int64
	part  int32
	key   int32 // length of the key in data
	value int32 // length of the value behind it, -1: null
	at    int32 // place of the key in data
}

// topicRoute is what finding a record's partition takes, to be read without the lock.
type topicRoute struct {
	partitioner partitions.Partitioner
	partitions  int32
}

// stages reports whether records of a topic may be staged.
func (p *Producer) stages(t *topicState) bool {
	return len(t.parts) >= stageFrom && p.opts.maxBuffered >= 4*stageMemory && p.opts.linger == 0 && p.opts.acks != AcksNone
}

// beginStaging has the topic's records staged from now on. Lock held.
func (p *Producer) beginStaging(t *topicState) {
	if p.stage.topic.Load() == t || p.failure != nil || p.closing {
		return
	}
	if !p.staged {
		p.staged, p.stageCost = true, stageMemory
		p.buffered += stageMemory
	}
	p.stage.topic.Store(t)
}

// endStaging refuses further records and spreads those that are there. Lock held.
func (p *Producer) endStaging() {
	p.stage.topic.Store(nil)
	p.stage.mu.Lock()
	p.stage.closed = true
	p.stage.mu.Unlock()
	p.unstage()
}

// stageRecord takes a record; false if it has to go the other way.
func (p *Producer) stageRecord(ctx context.Context, r *Record, done func(Ack, error)) bool {
	t := p.stage.topic.Load()
	if t == nil || t.name != r.Topic || r.Key == nil || r.MessageID != "" || len(r.Headers) != 0 || ctx.Err() != nil {
		return false
	}
	ms := p.clock.ms.Load()
	if !r.Timestamp.IsZero() {
		ms = r.Timestamp.UnixMilli()
	}
	if ms == 0 || len(r.Key)+len(r.Value) > stageBytes/16 {
		return false
	}
	route := t.route.Load()
	var part int32
	switch {
	case p.opts.manual:
		part = r.Partition
	case p.opts.partitioner != nil:
		part = p.opts.partitioner(t.name, r.Key, route.partitions)
	default:
		part = int32(route.partitioner.Partition(r.Key))
	}
	if uint32(part) >= uint32(route.partitions) {
		return false
	}
	s := &p.stage
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return false
	}
	c := s.cur
	if c == nil || len(c.records) == cap(c.records) || len(c.data)+len(r.Key)+len(r.Value) > cap(c.data) {
		if c = s.next(p); c == nil {
			s.mu.Unlock()
			return false
		}
	}
	value := int32(len(r.Value))
	if r.Value == nil {
		value = -1
	}
	c.records = append(c.records, stagedRecord{topic: t, done: done, ms: ms, part: part, key: int32(len(r.Key)), value: value, at: int32(len(c.data))})
	c.data = append(append(c.data, r.Key...), r.Value...)
	wake := s.hungry
	s.hungry, s.used = false, true
	s.mu.Unlock()
	if wake {
		s.wake()
	}
	return true
}

// wake has a sender look at the stage.
func (s *stage) wake() {
	select {
	case s.signal <- struct{}{}:
	default:
	}
}

// next begins another chunk; nil if there is none, or if memory is short. Lock held.
func (s *stage) next(p *Producer) *stageChunk {
	if p.short.Load() {
		return nil
	}
	var c *stageChunk
	switch n := len(s.free); {
	case n > 0:
		c = s.free[n-1]
		s.free = s.free[:n-1]
	case s.made < stageChunks:
		s.made++
		c = &stageChunk{records: make([]stagedRecord, 0, stageRecords), data: make([]byte, 0, stageBytes)}
	default:
		return nil
	}
	if s.cur != nil {
		s.full = append(s.full, s.cur)
		s.wake()
	}
	s.cur = c
	return c
}

// mayRest reports whether a sender may go to sleep. A hungry one is then signalled at
// the next record, others when a chunk is full.
func (s *stage) mayRest(hungry bool) bool {
	if s.topic.Load() == nil {
		return true
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.full) > 0 || hungry && s.cur != nil && len(s.cur.records) > 0 {
		return false
	}
	s.hungry = s.hungry || hungry
	return true
}

// take returns the chunks that hold records. The caller gives them back.
func (s *stage) take() []*stageChunk {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := s.full
	if s.cur != nil && len(s.cur.records) > 0 {
		list = append(list, s.cur)
		s.cur = nil
	}
	s.full = nil
	return list
}

func (s *stage) giveBack(list []*stageChunk) {
	for _, c := range list {
		clear(c.records)
		c.records, c.data = c.records[:0], c.data[:0]
	}
	s.mu.Lock()
	s.free = append(s.free, list...)
	s.full = append(list[:0], s.full...)
	s.mu.Unlock()
}

// wasUsed reports and forgets whether records came.
func (s *stage) wasUsed() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	used := s.used
	s.used = false
	return used
}

// unstage spreads the staged records over their partitions. Producer.mu is held and
// must be released with unlock.
func (p *Producer) unstage() {
	if !p.staged {
		return
	}
	list := p.stage.take()
	if len(list) == 0 {
		return
	}
	var gone *topicState
	if order := p.byPartition(list); order != nil {
		// One after the other into the same batch: its memory is at hand then.
		for _, at := range order {
			c := list[at>>16]
			p.spread(&c.records[at&0xffff], c.data)
		}
		gone = list[0].records[0].topic
	} else {
		for _, c := range list {
			for i := range c.records {
				p.spread(&c.records[i], c.data)
				if gone == nil || gone.failure == nil {
					gone = c.records[i].topic
				}
			}
		}
	}
	p.stage.giveBack(list)
	switch {
	case p.failure != nil:
		for _, topic := range p.topics {
			topic.failAll(p.failure)
		}
	case gone.failure != nil:
		gone.failAll(gone.failure)
	}
}

// byPartition returns the places of all records, chunk<<16 | record, ordered by
// partition and otherwise as they came; nil if that does not pay.
func (p *Producer) byPartition(list []*stageChunk) []uint32 {
	topic, n := list[0].records[0].topic, 0
	for _, c := range list {
		n += len(c.records)
	}
	if n < 2*len(topic.parts) {
		return nil
	}
	starts := slices.Grow(p.starts[:0], len(topic.parts)+1)[:len(topic.parts)+1]
	p.starts = starts
	clear(starts)
	for _, c := range list {
		for i := range c.records {
			if c.records[i].topic != topic {
				return nil
			}
			starts[c.records[i].part+1]++
		}
	}
	for i := 1; i < len(starts); i++ {
		starts[i] += starts[i-1]
	}
	order := slices.Grow(p.order[:0], n)[:n]
	p.order = order
	for k, c := range list {
		for i := range c.records {
			at := &starts[c.records[i].part]
			order[*at] = uint32(k<<16 | i)
			*at++
		}
	}
	return order
}

// spread adds a staged record to its partition's batch.
func (p *Producer) spread(r *stagedRecord, data []byte) {
	t := r.topic
	key := data[r.at : r.at+r.key : r.at+r.key]
	var value []byte
	if r.value >= 0 {
		value = data[r.at+r.key : r.at+r.key+r.value : r.at+r.key+r.value]
	}
	size := recordOverhead + len(key) + len(value)
	b, changed := t.open[r.part], false
	if b == nil || b.builder.Size()+size > b.room {
		part := t.parts[r.part]
		if part == nil {
			part = p.newPartition(t, r.part)
		}
		b, changed = part.batchFor(size)
		b.append(r.ms, key, value, nil, r.done, nil)
		b.charge(p)
	} else {
		b.append(r.ms, key, value, nil, r.done, nil)
	}
	b.appended(changed, false)
}
