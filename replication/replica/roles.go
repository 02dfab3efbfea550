package replica

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/sequitur-mq/sequitur/log"
	"github.com/sequitur-mq/sequitur/record"
	"github.com/sequitur-mq/sequitur/replication"
)

// valueFence is the key under which the log keeps the fence.
const valueFence = 1

// valueReset is the key under which it keeps with which epoch a log votes that began anew.
const valueReset = 2

const (
	fenceVersion = 1
	resetVersion = 1
)

func encodeReset(start int64, epoch uint32) []byte {
	b := binary.LittleEndian.AppendUint64([]byte{resetVersion}, uint64(start))
	return binary.LittleEndian.AppendUint32(b, epoch)
}

// decodeReset reads what encodeReset wrote; nothing is offset 0.
func decodeReset(b []byte) (start int64, epoch uint32, err error) {
	switch {
	case len(b) == 0:
		return 0, 0, nil
	case len(b) < 13 || b[0] != resetVersion:
		return 0, 0, fmt.Errorf("stored reset % x is not of a version that this program reads", b)
	}
	return int64(binary.LittleEndian.Uint64(b[1:])), binary.LittleEndian.Uint32(b[9:]), nil
}

func encodeFence(epoch uint32) []byte {
	return binary.LittleEndian.AppendUint32([]byte{fenceVersion}, epoch)
}

// KnownEpoch is the highest epoch that the replica in a partition's log, open or not, has
// had to do with: it adopted its fence or holds a record of it. Metadata of an epoch that is
// not newer says nothing about whether the replica is still wanted.
func KnownEpoch(p *log.Partition) (uint32, error) {
	fence, err := decodeFence(p.Value(valueFence))
	if err != nil {
		return 0, fmt.Errorf("partition %s: %w", p.ID(), err)
	}
	return max(fence, p.LastEpoch()), nil
}

// decodeFence reads what encodeFence wrote; nothing is fence 0.
func decodeFence(b []byte) (uint32, error) {
	switch {
	case len(b) == 0:
		return 0, nil
	case len(b) < 5 || b[0] != fenceVersion:
		return 0, fmt.Errorf("stored fence % x is not of a version that this program reads", b)
	}
	return binary.LittleEndian.Uint32(b[1:]), nil
}

// Assignment is what the cluster decided about a partition.
type Assignment struct {
	Epoch  uint32
	Leader replication.Member // zero: none yet
	Set    replication.ReplicaSet
}

// Assign takes in what the cluster decided. Older news than what is known is ignored, as
// is the same again. A new leader appends the record that starts its epoch at once, and
// serves when that is committed.
func (r *Replica) Assign(a Assignment) error {
	r.mu.Lock()
	defer r.unlock()
	if r.closed {
		return ErrClosed
	}
	if r.broken != nil {
		return r.broken
	}
	r.advanceStart()
	effect, err := r.machine.Assign(a.Epoch, a.Leader, a.Set)
	if err != nil {
		if errors.Is(err, replication.ErrInvariant) {
			r.violate(err)
		}
		return fmt.Errorf("assign epoch %d of partition %s: %w", a.Epoch, r.log.ID(), err)
	}
	if effect == replication.None {
		if r.startless && r.leader != nil && r.leader.Epoch() == a.Epoch {
			return r.appendStart(a.Epoch)
		}
		return nil
	}
	r.takeRole(a.Set.Clone())
	// Before anything of the epoch is done the replica must not forget it.
	if err := r.persist(r.machine.FenceEpoch()); err != nil {
		return err
	}
	if effect == replication.BecomeLeader && !r.options.Solo {
		return r.appendStart(a.Epoch)
	}
	return nil
}

// takeRole ends the role of before and takes up the machine's. The caller holds mu.
func (r *Replica) takeRole(set replication.ReplicaSet) {
	r.loseLeadership()
	r.set = set
	r.leader = r.machine.Leader()
	if r.leader != nil {
		r.led.Store(r.leader.Epoch())
		r.serving = r.leader.Serving()
		r.raise()
	}
	r.changed, r.moved = true, movedNow
	r.ready.takeAll(&r.watching)
}

// loseLeadership decides what becomes of appends on their way: what is acknowledged by
// now stays so, the rest is lost to this replica's knowledge. It must be called after
// the machine gave up the role. The caller holds mu.
func (r *Replica) loseLeadership() {
	if r.leader == nil {
		return
	}
	// Nothing is truncated before this is seen: see ReadForFollower.
	r.led.Store(0)
	for acks := AcksLeader; acks <= AcksAll; acks++ {
		reached := r.reached(acks)
		q := &r.waiting[acks-1]
		for i := range q.n {
			if w := q.at(i); w.fate == open && w.end <= reached {
				w.fate = done
			} else if w.fate == open {
				w.fate = lost
			}
		}
	}
	r.leader, r.serving = nil, false
	r.failBarriers(nil)
}

// appendStart appends the record that starts the epoch. If that fails, as on a full disk,
// the next assignment of the same epoch tries again. The caller holds mu.
func (r *Replica) appendStart(epoch uint32) error {
	r.startless = true
	now := max(r.options.Now().UnixNano(), r.lastTime)
	start := record.EpochStart{Epoch: epoch, Leader: r.options.Self.Node, ReplicaSetVersion: r.set.Version}
	b := record.NewBuilder(0)
	b.AppendControl(now/1e6, record.ControlEpochStart, start.AppendTo(nil))
	batch, err := b.Build(nil, record.CodecNone, 0, 0, 0)
	if err != nil {
		return fmt.Errorf("start epoch %d: %w", epoch, err)
	}
	if _, _, err := r.append(batch, AcksQuorum, nil, 0); err != nil {
		return fmt.Errorf("start epoch %d: %w", epoch, err)
	}
	r.startless = false
	return nil
}

// fencing is a vote that waits for its fence to be durable.
type fencing struct {
	epoch uint32
	done  func(replication.Vote, error)
}

// Fence adopts an epoch: whatever this replica does in an older one ends now. done gets
// its vote once the fence is durable, with no lock held; it must not block. An epoch
// below the adopted one is refused with replication.ErrFenced.
//
// The vote tells of what is durable. The journal is in order, so that is all there was
// when the fence was adopted, and so all that was ever reported to a leader of an older
// epoch: none of them can count more than the vote tells, and nothing the vote tells of
// can be lost any more.
func (r *Replica) Fence(epoch uint32, done func(replication.Vote, error)) {
	r.mu.Lock()
	defer r.unlock()
	if err := r.fence(epoch); err != nil {
		r.fences = append(r.fences, fencing{done: func(replication.Vote, error) { done(replication.Vote{}, err) }})
		return
	}
	r.fences = append(r.fences, fencing{epoch: epoch, done: done})
}

func (r *Replica) fence(epoch uint32) error {
	if r.closed {
		return ErrClosed
	}
	if r.broken != nil {
		return r.broken
	}
	if _, err := r.machine.Fence(epoch); err != nil {
		return err
	}
	if r.machine.Role() == replication.RoleNone && (r.leader != nil || r.progress != nil) {
		r.takeRole(r.set)
	}
	return r.persist(epoch)
}

// persist has the log keep a fence. The caller holds mu.
func (r *Replica) persist(epoch uint32) error {
	if r.persisted.Load() >= epoch {
		return nil
	}
	if err := r.log.PutValue(valueFence, encodeFence(epoch), &persisting{r, epoch}); err != nil {
		return fmt.Errorf("adopt epoch %d: %w", epoch, err)
	}
	return nil
}

// persisting is a fence on its way to the disk.
type persisting struct {
	r     *Replica
	epoch uint32
}

// Complete implements log.Completion.
func (p *persisting) Complete(err error) {
	if err == nil {
		p.r.persisted.Store(max(p.r.persisted.Load(), p.epoch)) // completions come in order
	}
	p.r.complete(err)
}

// settleRare answers votes and barriers that are due. The caller holds mu.
func (r *Replica) settleRare(calls []call) (n int) {
	n = r.settleBarriers(calls)
	for n < len(calls) && len(r.fences) > 0 {
		f := r.fences[0]
		failure := r.failure.Load()
		switch {
		case f.epoch > 0 && f.epoch < r.machine.FenceEpoch():
			// A newer one was adopted since, perhaps not durable yet.
			err := fmt.Errorf("adopt epoch %d, adopted is %d: %w", f.epoch, r.machine.FenceEpoch(), replication.ErrFenced)
			calls[n] = call{fn: func() { f.done(replication.Vote{}, err) }}
		case r.persisted.Load() >= f.epoch || r.options.breaks.voteEarly:
			r.raise() // all that the journal took before the fence is durable
			vote := r.machine.Vote()
			calls[n] = call{fn: func() { f.done(vote, nil) }}
		case failure != nil:
			err := fmt.Errorf("adopt epoch %d: %w", f.epoch, *failure)
			calls[n] = call{fn: func() { f.done(replication.Vote{}, err) }}
		default:
			return n
		}
		r.fences = r.fences[1:]
		n++
	}
	return n
}
