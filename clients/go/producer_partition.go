package sequitur

import (
	"errors"
	"time"

	"github.com/sequitur-mq/sequitur/record"
	"github.com/sequitur-mq/sequitur/wire"
)

// partition is the producer's side of one partition. Guarded by Producer.mu.
//
// Batches leave in the order of the queue under consecutive sequence numbers. When one
// fails, nothing more is sent until every batch in flight has its outcome; then the
// queue is sent again from its head. So what the broker can append is always a prefix
// of the queue.
type partition struct {
	p      *Producer
	topic  *topicState
	index  int32
	sender *sender // of its leader; nil while unknown

	queue []*batch // closed batches in order, without a delivered outcome
	next  int      // index in queue of the next batch to send
	wire  int      // batches in flight, delivered ones included

	// Numbering. version grows whenever numbers are given out anew.
	id      identity
	gen     uint64 // of Producer.ident, when it was taken over
	version uint64
	seq     uint32
	proven  bool  // the broker has state of this producer: it refuses gaps
	lastAck int64 // client clock

	recovering bool // a batch failed: wait until wire is 0
	newEpoch   bool // a batch of unknown outcome was given up
	lostAcked  bool // the broker lacks acknowledged records
	rewind     bool // numbers from rewindTo on were never used
	rewindTo   uint32
	epoch      uint32 // of the leader, as known when the sender was found
	stale      bool   // waits for fresh metadata
	huntAt     int64  // client clock from which they count as fresh; with stale
	hunt       retrier
	gapSince   int64 // client clock when a leader first lacked acknowledged records; 0: none does
	wait       time.Duration
	notBefore  int64 // client clock; with delayed
	delayed    bool  // in sender.delayed
	retry      retrier
	cause      error // of the last failed attempt

	inReady, inFull bool // in the sender's lists
	usualSize       int  // of batches; shrinks slowly
}

// provenFor is how long the broker surely remembers an idle producer. After a longer
// silence the first batch goes alone again.
const provenFor = 10 * time.Minute

func (p *Producer) newPartition(t *topicState, i int32) *partition {
	part := &partition{p: p, topic: t, index: i, retry: p.client.newRetrier(), hunt: p.client.newHunter(), version: 1}
	t.parts[i] = part
	part.findSender()
	return part
}

// findSender attaches the partition to its leader's sender, or asks for metadata.
//
// What is in flight to the leader before keeps the partition from sending until its
// outcome is known: a broker that does not answer has little time left for it. Then the
// queue is sent again from its head under the old numbers, the first batch alone, since
// the new leader might not know the producer.
func (t *partition) findSender() {
	news := t.epoch != t.topic.info.parts[t.index].Epoch
	t.epoch = t.topic.info.parts[t.index].Epoch
	n := t.p.client.leader(t.topic.info, t.index)
	if t.sender != nil && t.sender.node != n {
		t.proven = false
		if k, now := t.sender.conn, t.p.client.now(); t.wire > 0 && k != nil {
			k.forsaken.Store(now)
			if k.silent(now) {
				k.kill(errForsaken)
			}
		}
	}
	if n == nil {
		if t.sender != nil {
			t.sender.openBytes -= t.openSize()
		}
		if b := t.open(); b != nil {
			b.sender = nil
		}
		t.sender = nil
		t.askMetadata(t.hunt.failed(0))
		return
	}
	s := t.p.senders[n]
	if s == nil {
		s = t.p.newSender(n)
	}
	if s.down && (news || t.sender != s) {
		s.revive()
	}
	if t.sender == s {
		return
	}
	if t.sender != nil {
		t.sender.openBytes -= t.openSize()
	}
	t.sender = s
	if b := t.open(); b != nil {
		b.sender = s
	}
	t.inReady, t.inFull, t.delayed = false, false, false
	s.openBytes += t.openSize()
}

// open returns the batch that takes records, or nil.
func (t *partition) open() *batch { return t.topic.open[t.index] }

func (t *partition) openSize() int {
	if b := t.open(); b != nil {
		return b.builder.Size() - record.HeaderSize
	}
	return 0
}

// growth estimates the memory that one more record takes.
func (t *partition) growth(size int) int64 {
	b := t.open()
	if b == nil || b.builder.Size()+size > t.topic.target {
		return int64(max(size+record.HeaderSize, t.usualSize, smallestPool) + batchOverhead)
	}
	if size <= b.builder.Room() {
		return 0
	}
	return int64(max(b.builder.Cap(), size))
}

// heldUp reports whether records would not leave soon.
func (t *partition) heldUp() bool { return t.recovering || t.delayed || t.stale || t.sender == nil }

// takeOpen ends the filling of the open batch.
func (t *partition) takeOpen() *batch {
	b := t.open()
	if t.sender != nil {
		t.sender.openBytes -= t.openSize()
	}
	t.topic.open[t.index] = nil
	if now := b.memory(); now != b.charged { // entries and waiters
		t.p.buffered += now - b.charged
		b.charged = now
	}
	t.usualSize = max(b.builder.Size(), t.usualSize-t.usualSize/8)
	if t.index == t.topic.sticky {
		t.topic.moveSticky()
	}
	return b
}

// seal queues the open batch because it is full.
func (t *partition) seal() { t.queue = append(t.queue, t.takeOpen()) }

// sendable reports whether the next batch may leave now. Invariant: from the oldest
// batch that is not acknowledged to the youngest sent there are at most maxInFlight,
// also where those between are acknowledged: the broker remembers only the last ones,
// and must know the oldest as a repeat when it comes again.
func (t *partition) sendable() bool {
	if t.sender == nil || t.recovering || t.delayed || t.stale {
		return false
	}
	window := t.next
	if t.p.rules.countInFlightOnly {
		window = t.wire
	}
	if t.next == len(t.queue) && t.open() == nil || window >= t.p.opts.maxInFlight {
		return false
	}
	if t.wire == 0 || t.p.opts.acks == AcksNone || t.p.rules.pipelineUnproven {
		return true
	}
	return t.proven && t.gen == t.p.identGen
}

// makeReady lists the partition with its sender if it has something to send.
func (t *partition) makeReady() {
	if !t.sendable() {
		return
	}
	if t.next < len(t.queue) {
		if !t.inFull {
			t.inFull = true
			t.sender.full.push(t)
		}
	} else if !t.inReady {
		t.inReady = true
		t.sender.ready.push(t)
	}
}

// take returns the next batch to send, numbered.
func (t *partition) take() *batch {
	if t.next == len(t.queue) {
		t.seal()
	}
	b := t.queue[t.next]
	t.next++
	t.skipDone()
	t.number(b)
	b.attempts++
	b.inflight = true
	t.wire++
	return b
}

func (t *partition) skipDone() {
	for t.next < len(t.queue) && t.queue[t.next].done {
		t.next++
	}
}

// number gives the batch its sequence numbers. Invariant: batches are taken in queue
// order, so the numbers of a version have no gap and no repeat.
func (t *partition) number(b *batch) {
	p := t.p
	if p.opts.acks == AcksNone {
		b.version = t.version
		return
	}
	if t.gen != p.identGen && t.wire == 0 {
		t.adopt()
	}
	if now := p.client.now(); t.wire == 0 && now-t.lastAck > int64(provenFor) {
		t.proven = false
	}
	if p.rules.renumberRetries && b.attempts > 0 {
		t.id.epoch++
		t.version++
		t.seq = 0
	}
	if b.version != t.version {
		b.version, b.id, b.seq = t.version, t.id, t.seq
		t.seq += uint32(b.records())
	}
}

// adopt takes over the producer's current identity. Only with nothing in flight.
func (t *partition) adopt() {
	t.id, t.gen = t.p.ident, t.p.identGen
	t.renumber(0)
}

func (t *partition) renumber(seq uint32) {
	t.version++
	t.seq = seq
	if seq == 0 {
		t.proven = false
	}
}

// fail marks a batch that will not be tried again.
func (t *partition) fail(b *batch, err *Error) {
	e := *err
	e.Op, e.Topic, e.Partition = "send to", t.topic.name, t.index
	e.MaybeDone = e.MaybeDone || b.unknown || b.inflight
	b.err, b.done = &e, true
	if b.version != t.version || t.p.opts.acks == AcksNone {
		return // its numbers, if it had any, are void already
	}
	if !t.rewind || int32(b.seq-t.rewindTo) < 0 {
		t.rewind, t.rewindTo = true, b.seq
	}
	t.newEpoch = t.newEpoch || e.MaybeDone
	t.recovering = true
}

// answered takes the outcome of a batch that was in flight. Afterwards settle runs.
func (t *partition) answered(b *batch, r *wire.ProduceResult, after time.Duration, from *sender) {
	again := t.recovering // the refusal before this one was reckoned with already
	switch {
	case b.done: // given up meanwhile
	case r.Code == wire.CodeNone:
		if b.id == t.id {
			t.proven, t.lastAck = from == t.sender, t.p.client.now()
		}
		t.retry.succeeded()
		if t.gapSince = 0; from == t.sender {
			t.hunt.succeeded()
		}
		b.done, b.baseOffset, b.appendTime = true, r.BaseOffset, r.AppendTime
		b.duplicates = append(b.duplicates[:0], r.Duplicates...)
		return
	case r.Code == wire.CodeProducerFenced && (b.id != t.id || t.gen != t.p.identGen):
		// The fence is our own: the batch has an epoch that this producer left.
		t.again(b, r.Err(), 0)
	case r.Code == wire.CodeProducerFenced:
		t.p.failAll(wireError("send", "", -1, r.Err()))
	case r.Code == wire.CodeUnknownProducer && t.p.opts.name == "":
		if t.gen == t.p.identGen {
			t.p.identWanted = true
		}
		t.again(b, r.Err(), t.retry.refused(after))
	case r.Code == wire.CodeSequenceGap:
		b.gap = true
		t.again(b, r.Err(), 0)
	case r.Code == wire.CodeStaleSequence:
		b.unknown = true // stored long ago, or its numbers were
		t.fail(b, wireError("send", "", -1, r.Err()))
	case elsewhere(r.Code):
		b.unknown = b.unknown || r.Code == wire.CodeStorageFailed || r.Code == wire.CodeShuttingDown
		t.again(b, r.Err(), 0)
		if !again && from == t.sender {
			t.askMetadata(t.hunt.failed(after))
		}
	case r.Code == wire.CodeOverloaded, r.Code == wire.CodeStorageFull:
		t.again(b, r.Err(), t.retry.refused(after))
	case r.Code.Retriable():
		b.unknown = b.unknown || r.Code == wire.CodeTimeout
		t.again(b, r.Err(), t.retry.failed(after))
	default:
		t.fail(b, wireError("send", "", -1, r.Err()))
	}
}

// again has a batch sent once more, with everything behind it.
func (t *partition) again(b *batch, cause error, wait time.Duration) {
	t.wait = max(t.wait, wait)
	if !t.recovering || !b.gap { // a gap behind a refusal only follows from it
		t.cause = cause
	}
	t.recovering = true
	if !b.done {
		t.p.hooks.ProduceRetried(t.topic.name, t.index, wireError("send to", t.topic.name, t.index, cause))
	}
}

// settle delivers what has its outcome at the queue's head and, once nothing is in
// flight, readies the rest to be sent again if need be.
func (t *partition) settle() {
	t.deliverHead()
	if t.recovering && t.wire == 0 {
		t.recover()
	}
	t.makeReady()
	if t.sender != nil {
		t.sender.wakeIfReady()
	}
}

func (t *partition) deliverHead() {
	n := 0
	for n < len(t.queue) && t.queue[n].done {
		t.p.deliver(t.queue[n])
		n++
	}
	if n > 0 {
		kept := copy(t.queue, t.queue[n:])
		clear(t.queue[kept:])
		t.queue = t.queue[:kept]
		t.next = max(t.next-n, 0)
	}
	t.skipDone()
}

// recover readies the queue to be sent again from its head. Nothing is in flight.
func (t *partition) recover() {
	if len(t.queue) > 0 && t.queue[0].gap && !t.newEpoch && !t.rewind && t.gen == t.p.identGen && !t.doubtGap() {
		t.newEpoch, t.lostAcked = true, true
	}
	for _, b := range t.queue {
		b.gap = false
		b.unknown = b.unknown && !t.lostAcked // a gap before it: it is not there
		if t.rewind && b.unknown {
			t.newEpoch = true // numbers may be given out again only if nobody used them
		}
	}
	if t.p.rules.keepEpoch {
		t.newEpoch = false
	}
	switch {
	case t.gen != t.p.identGen && t.gen != 0:
		t.giveUpUnknown()
		t.adopt()
		t.p.hooks.ProducerReset(t.topic.name, t.index, t.lostAcked, t.cause)
	case t.newEpoch && t.p.opts.name != "":
		t.giveUpUnknown()
		t.p.identWanted = true // settle is called again when it is there
		if t.sender != nil {
			t.sender.wakeUp()
		}
		return
	case t.newEpoch:
		t.giveUpUnknown()
		t.id.epoch++
		t.renumber(0)
		t.p.hooks.ProducerReset(t.topic.name, t.index, t.lostAcked, t.cause)
	case t.rewind:
		t.renumber(t.rewindTo)
	}
	t.newEpoch, t.rewind, t.lostAcked, t.recovering = false, false, false, false
	t.next = 0
	t.deliverHead()
	wait := t.wait
	t.wait = 0
	if wait > 0 && len(t.queue) > 0 && t.sender != nil {
		t.sender.delay(t, wait)
	}
}

// giveUpUnknown fails the batches that may have been appended under the old epoch.
func (t *partition) giveUpUnknown() {
	cause := t.cause
	if cause == nil {
		cause = errors.New("an earlier batch timed out")
	}
	for _, b := range t.queue {
		if b.unknown && !b.done {
			t.fail(b, &Error{Code: Code(wire.CodeTimeout.String()), Retriable: true, Err: cause,
				Message: "not acknowledged in time, nor was a record before it; the outcome is unknown"})
		}
	}
	t.deliverHead()
}
