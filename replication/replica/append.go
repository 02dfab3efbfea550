package replica

import (
	"fmt"

	"github.com/sequitur-mq/sequitur/record"
	"github.com/sequitur-mq/sequitur/txn"
)

// Acks is the level of acknowledgement of an append; the numbers are those of produce
// requests.
type Acks uint8

// The levels of acknowledgement. On a broker without a cluster they are the same.
const (
	AcksLeader Acks = 1 // fsynced by the leader
	AcksQuorum Acks = 2 // committed: fsynced by a majority
	AcksAll    Acks = 3 // fsynced by every voter
)

const levels = 3

// Result is the outcome of an append.
type Result struct {
	BaseOffset int64 // of the first batch
	AppendTime int64 // of the first batch, Unix nanoseconds
	Duplicate  bool  // the batches were stored before, at this offset
}

// Waiter is told the outcome of a pending append.
type Waiter interface {
	// Appended is called exactly once per pending append, with the token of the append.
	// It runs on a journal goroutine or on that of another append, with no lock held,
	// and must not block. On error the outcome is not known: the batches may be there
	// after a restart, and sending them again under the same sequence is safe.
	Appended(token int, result Result, err error)
}

// Append stamps whole batches, as record.Parse returned them and with their payload
// CRC verified, and appends them to the log. Several batches must be consecutive ones
// of the same producer, or all without producer id.
//
// pending=true: the waiter is called, perhaps before Append returns; the batches must
// stay as they are until then. A nil waiter is not called: the batches must stay as
// they are forever. pending=false: result or error are final, and the waiter is not
// called. Nothing was appended then with an error: a *NotLeaderError, ErrNotServing, a
// *txn.RefusedError, ErrMixedBatches, ErrClosed, record.ErrCorrupt for bytes that are no
// whole batches, or an error of log.Append. A waiter may also be told a *NotLeaderError.
func (r *Replica) Append(batches []byte, acks Acks, w Waiter, token int) (result Result, pending bool, err error) {
	return r.AppendIn(0, batches, acks, w, token)
}

// AppendIn is Append in one epoch only, 0 standing for any: what the caller knows of the
// log holds as long as this replica has led without a break.
func (r *Replica) AppendIn(epoch uint32, batches []byte, acks Acks, w Waiter, token int) (result Result, pending bool, err error) {
	r.mu.Lock()
	defer r.unlock()
	if r.closed {
		return Result{}, false, ErrClosed
	}
	if r.broken != nil {
		return Result{}, false, r.broken
	}
	if r.leader == nil || epoch != 0 && epoch != r.leader.Epoch() {
		return Result{}, false, r.notLeader()
	}
	if !r.leader.Serving() {
		return Result{}, false, ErrNotServing
	}
	switch {
	case r.options.Solo || acks > AcksAll:
		acks = AcksQuorum
	case acks < AcksLeader:
		acks = AcksLeader // nobody waits for an answer, only for the memory
	}
	seen, end, err := r.check(batches)
	if err != nil {
		return Result{}, false, err
	}
	if seen.Duplicate {
		result = Result{BaseOffset: seen.BaseOffset, AppendTime: seen.AppendTime, Duplicate: true}
		return result, r.await(acks, waiting{w: w, token: token, end: end, result: result}), nil
	}
	return r.append(batches, acks, w, token)
}

// check asks the producer state about the batches. For duplicates it also returns the
// offset after the last one.
func (r *Replica) check(batches []byte) (first txn.Verdict, end int64, err error) {
	var before record.Batch
	for rest := batches; len(rest) > 0 || before == nil; {
		var b record.Batch
		if b, rest, err = wholeBatch(rest); err != nil {
			return first, 0, err
		}
		if before != nil && !follows(before, b) {
			return first, 0, ErrMixedBatches
		}
		// After a new batch what follows it in sequence is new as well.
		if before == nil || first.Duplicate {
			v, err := r.producers.Check(b.ProducerID(), b.ProducerEpoch(), b.BaseSequence(), b.LastOffsetDelta())
			if err != nil {
				return first, 0, err
			}
			if before == nil {
				first = v
			} else if !v.Duplicate {
				return first, 0, ErrMixedBatches
			}
			end = v.BaseOffset + int64(b.LastOffsetDelta()) + 1
		}
		before = b
	}
	return first, end, nil
}

func follows(a, b record.Batch) bool {
	return a.ProducerID() == b.ProducerID() && a.ProducerEpoch() == b.ProducerEpoch() &&
		(a.ProducerID() == 0 || a.NextSequence() == b.BaseSequence())
}

// wholeBatch cuts off the first batch. The broker has parsed it already: this protects
// the process from its own mistakes only.
func wholeBatch(b []byte) (batch record.Batch, rest []byte, err error) {
	n, ok := record.PeekLength(b)
	if !ok || n < record.HeaderSize || uint64(n) > uint64(len(b)) {
		return nil, nil, &record.CorruptError{Reason: "not a whole batch"}
	}
	return record.Batch(b[:n:n]), b[n:], nil
}

// append stamps and appends new batches. The caller holds mu.
func (r *Replica) append(batches []byte, acks Acks, w Waiter, token int) (Result, bool, error) {
	now := max(r.options.Now().UnixNano(), r.lastTime)
	base, epoch := r.leader.End(), r.leader.Epoch()
	if err := r.leader.MayAppend(); err != nil {
		return Result{}, false, err
	}
	next := base
	for rest := batches; len(rest) > 0; {
		b := record.Batch(rest[:record.Batch(rest).Length()])
		b.Stamp(next, epoch, now)
		next, rest = b.NextOffset(), rest[len(b):]
	}
	if r.options.breaks.aheadOfLog {
		r.apply(batches)
	}
	pending, err := r.log.Append(batches, (*completion)(r))
	if err != nil {
		return Result{}, false, fmt.Errorf("append at offset %d: %w", base, err)
	}
	// Invariant: from here on nothing fails. Log end, machine and producer state move
	// together.
	r.lastTime = now
	r.apply(batches)
	if err := r.leader.Appended(next); err != nil {
		r.violate(err)
	}
	if len(r.followers) > 0 {
		r.moved = movedNow
	}
	r.expire(now)
	result := Result{BaseOffset: base, AppendTime: now}
	waiting := waiting{w: w, token: token, end: next, result: result}
	if pending {
		r.handed++
		waiting.number = r.handed
	} else {
		r.raise() // it is as durable as it will get
	}
	return result, r.await(acks, waiting), nil
}

// apply takes stamped batches into the producer state. The caller holds mu.
func (r *Replica) apply(batches []byte) {
	for rest := batches; len(rest) > 0; {
		b := record.Batch(rest[:record.Batch(rest).Length()])
		r.producers.Apply(b)
		rest = rest[len(b):]
	}
}

// await queues a waiter unless its append is acknowledged already. The caller holds mu.
func (r *Replica) await(acks Acks, w waiting) (pending bool) {
	if r.options.breaks.answerEarly || w.number == 0 && w.end <= r.reached(acks) {
		return false
	}
	r.waiting[acks-1].push(w)
	return true
}

// reached is the offset up to which appends of a level are acknowledged. The caller
// holds mu.
func (r *Replica) reached(acks Acks) int64 {
	switch {
	case acks == AcksQuorum:
		return r.machine.HighWatermark()
	case r.leader == nil:
		return 0
	case acks == AcksLeader:
		return r.machine.DurableEnd()
	}
	return min(r.leader.DurableOnAll(), r.machine.HighWatermark())
}

// expireEvery is how often, at most, producers are looked through for idle ones.
const expireEvery = int64(3600e9)

// expire forgets idle producers. The caller holds mu.
func (r *Replica) expire(now int64) {
	if now-r.lastExpire < expireEvery {
		return
	}
	r.producers.Expire(now, r.options.ProducerIdle.Nanoseconds())
	r.lastExpire = now
}
