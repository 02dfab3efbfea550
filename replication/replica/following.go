package replica

import (
	"errors"
	"fmt"
	"math"

	"github.com/sequitur-mq/sequitur/log"
	"github.com/sequitur-mq/sequitur/record"
	"github.com/sequitur-mq/sequitur/replication"
	"github.com/sequitur-mq/sequitur/txn"
)

// Frame is memory that batches lie in.
type Frame interface {
	// Release says that the memory may be used for something else. It is called with no
	// lock held, on any goroutine, and must not block.
	Release()
}

// NextFetch says where this follower is, for its leader. ok is false while it does not
// follow, or while its fence is not durable: it must not report what it might forget to
// have promised to a newer leader.
func (r *Replica) NextFetch() (f replication.Fetch, leader replication.Member, ok bool) {
	r.mu.Lock()
	defer r.unlock()
	follower := r.machine.Follower()
	if follower == nil || r.closed || r.broken != nil || r.persisted.Load() < follower.Epoch() && !r.options.breaks.reportEarly {
		return replication.Fetch{}, replication.Member{}, false
	}
	return follower.Next(), follower.Leader(), true
}

// Receive takes in what the leader pushed: it verifies the batches, appends them as the
// leader stamped them and moves the high watermark. accepted=false without error: they
// do not continue this log, or are of another epoch. If accepted the frame is released
// once the journal is done with the batches, perhaps before Receive returns; otherwise
// it stays the caller's. frame may be nil if batches is empty.
//
// Errors: ErrMalformed and record.ErrCorrupt are the peer's fault; those of log.Append.
func (r *Replica) Receive(d replication.Data, batches []byte, frame Frame) (accepted bool, err error) {
	if err := verify(d, batches, r.options.breaks.trustPeers); err != nil {
		return false, fmt.Errorf("receive [%d, %d) of partition %s: %w", d.Base, d.End, r.log.ID(), err)
	}
	r.mu.Lock()
	defer r.unlock()
	follower := r.machine.Follower()
	if follower == nil || r.closed || r.broken != nil {
		return false, r.broken
	}
	accept, err := follower.Receive(d)
	if err != nil {
		r.violate(err)
		return false, err
	}
	r.advance()
	if !accept {
		return false, nil
	}
	return r.receive(follower, d, batches, frame)
}

// verify checks what came over the network: whole batches, intact, that follow each
// other. Offsets may be missing where compaction removed what they named.
func verify(d replication.Data, batches []byte, trust bool) error {
	next, epoch, limits := d.Base, uint32(0), record.DefaultLimits()
	if d.Base < 0 || d.End < d.Base || d.End-d.Base > math.MaxInt32 {
		return ErrMalformed
	}
	for rest := batches; len(rest) > 0; {
		var b record.Batch
		var err error
		if b, rest, err = record.Parse(rest, limits); err != nil {
			return err
		}
		if err := b.Verify(); err != nil && !trust {
			return err
		}
		if b.BaseOffset() < next || b.LeaderEpoch() < epoch || b.LeaderEpoch() > d.Epoch || b.NextOffset() > d.End {
			return fmt.Errorf("batch [%d, %d) of epoch %d: %w", b.BaseOffset(), b.NextOffset(), b.LeaderEpoch(), ErrMalformed)
		}
		next, epoch = b.NextOffset(), b.LeaderEpoch()
	}
	return nil
}

// receive appends accepted batches. With an error some of them may have been: the frame
// is held then all the same. The caller holds mu.
func (r *Replica) receive(follower *replication.Follower, d replication.Data, batches []byte, frame Frame) (accepted bool, err error) {
	handed := r.handed
	err = r.appendAll(follower, d, batches)
	if err != nil && r.handed == handed {
		return false, err
	}
	if frame != nil {
		number := r.handed
		if r.options.breaks.releaseEarly {
			number = 0
		}
		r.held.push(held{frame, number})
	}
	return true, err
}

func (r *Replica) appendAll(follower *replication.Follower, d replication.Data, batches []byte) error {
	next := d.Base
	for rest := batches; len(rest) > 0; {
		// As many as follow each other without a gap go to the log at once.
		n := dense(rest, next)
		if n == 0 {
			next = record.Batch(rest).BaseOffset()
			if err := r.fill(follower, next); err != nil {
				return err
			}
			continue
		}
		if err := r.appendAs(follower, rest[:n:n]); err != nil {
			return err
		}
		next, rest = follower.End(), rest[n:]
	}
	if next < d.End {
		return r.fill(follower, d.End)
	}
	return nil
}

// dense is the length of the batches that follow each other from an offset on.
func dense(batches []byte, next int64) (n int) {
	for n < len(batches) {
		b := record.Batch(batches[n:])
		if b.BaseOffset() != next {
			break
		}
		next, n = b.NextOffset(), n+int(b.Length())
	}
	return n
}

// fill appends an empty batch in the place of what the leader's log lost to compaction:
// offsets are dense in a log that is written. The first batch of an epoch is never
// removed, so what is missing is of the epoch before it. The caller holds mu.
func (r *Replica) fill(follower *replication.Follower, to int64) error {
	b := record.NewBuilder(0)
	b.SetLastOffsetDelta(uint32(to - follower.End() - 1))
	batch, err := b.Build(nil, record.CodecNone, 0, 0, 0)
	if err != nil {
		return fmt.Errorf("fill [%d, %d): %w", follower.End(), to, err)
	}
	batch.Stamp(follower.End(), r.machine.LastEpoch(), r.lastTime)
	return r.appendAs(follower, batch)
}

// appendAs appends batches as they are stamped. The caller holds mu.
func (r *Replica) appendAs(follower *replication.Follower, batches []byte) error {
	base := follower.End()
	pending, err := r.log.Append(batches, (*completion)(r))
	if err != nil {
		return fmt.Errorf("append at offset %d: %w", base, err)
	}
	// Invariant: from here on nothing fails, as when leading.
	if pending {
		r.handed++
	}
	r.apply(batches)
	for rest := batches; len(rest) > 0; {
		b := record.Batch(rest[:record.Batch(rest).Length()])
		rest = rest[len(b):]
		if err := follower.Appended(b.LeaderEpoch(), b.BaseOffset(), b.NextOffset()); err != nil {
			r.violate(err)
			return err
		}
		r.lastTime = b.AppendTime()
	}
	r.expire(r.lastTime)
	if !pending {
		r.raise()
	}
	r.advance()
	return nil
}

// Truncate follows the leader's answer that the logs differ: its greatest epoch up to
// the last one here, and where that ends. The producer state goes back with the log.
// Orders of another epoch than the one followed are ignored.
func (r *Replica) Truncate(epoch, commonEpoch uint32, end int64) error {
	r.mu.Lock()
	defer r.unlock()
	follower := r.machine.Follower()
	if follower == nil || r.closed || r.broken != nil || follower.Epoch() != epoch {
		return r.broken
	}
	before := follower.End()
	to, err := follower.Truncate(commonEpoch, end)
	if err != nil {
		if errors.Is(err, replication.ErrInvariant) {
			r.violate(err)
		}
		return fmt.Errorf("truncate partition %s to %d: %w", r.log.ID(), end, err)
	}
	if to == before {
		return nil
	}
	if err := r.log.TruncateTo(to, (*noted)(r)); err != nil {
		// The machine is ahead of the log now.
		err = fmt.Errorf("truncate partition %s to %d: %w", r.log.ID(), to, err)
		r.violate(err)
		return err
	}
	return r.rebuild()
}

// rebuild brings the producer state back to the end of a log that was cut. The caller
// holds mu.
func (r *Replica) rebuild() error {
	if r.options.breaks.keepProducers {
		return nil
	}
	r.producers = txn.NewProducers(r.options.ProducerWindow)
	r.lastTime = r.log.LastAppendTime()
	r.moved = movedNow
	if err := r.replay(); err != nil {
		err = fmt.Errorf("rebuild producer state of partition %s: %w", r.log.ID(), err)
		r.violate(err)
		return err
	}
	return nil
}

// Reset follows the leader's answer that its log begins only at start, beyond the end of
// this one or with nothing in common: the log begins anew there, empty.
func (r *Replica) Reset(epoch uint32, start int64) error {
	r.mu.Lock()
	defer r.unlock()
	follower := r.machine.Follower()
	if follower == nil || r.closed || r.broken != nil || follower.Epoch() != epoch {
		return r.broken
	}
	reset, err := follower.Reset(start)
	if err != nil {
		if errors.Is(err, replication.ErrInvariant) {
			r.violate(err)
		}
		return fmt.Errorf("reset partition %s to %d: %w", r.log.ID(), start, err)
	}
	if !reset {
		return nil
	}
	err = r.log.PutValue(valueReset, encodeReset(start, r.machine.ResetEpoch()), nil)
	if err == nil {
		err = resetLog(r.log, start, (*noted)(r))
	}
	if err != nil {
		err = fmt.Errorf("reset partition %s to %d: %w", r.log.ID(), start, err)
		r.violate(err)
		return err
	}
	r.advance()
	return r.rebuild()
}

// resetLog begins an empty log at an offset.
func resetLog(p *log.Partition, start int64, c log.Completion) error {
	return p.Reset(start, c)
}
