package txn

import (
	"cmp"
	"errors"
	"fmt"
	"slices"

	"github.com/sequitur-mq/sequitur/record"
)

// DefaultWindow is how many last batches per producer are remembered; clients keep at
// most half as many in flight per partition.
const DefaultWindow = 16

// MaxProducers is how many producers one partition remembers. Beyond it the quarter
// that appended longest ago is forgotten, as if it had expired.
const MaxProducers = 1 << 14

var (
	// ErrSequenceGap says that batches before this one are missing: sending them
	// first, in order, helps.
	ErrSequenceGap = errors.New("sequence gap")
	// ErrStaleSequence says that the sequence was used long ago, or by a batch of
	// another shape: the batch is not stored again and its offset is not known.
	ErrStaleSequence = errors.New("duplicate older than the window, or not the batch of that sequence")
	// ErrFenced says that a newer epoch of the same producer took over.
	ErrFenced = errors.New("producer fenced by a newer epoch")
)

// RefusedError is a refusal of [Producers.Check] with what was expected. errors.Is
// finds ErrSequenceGap, ErrStaleSequence or ErrFenced in it.
type RefusedError struct {
	Reason           error
	ProducerID       uint64
	Epoch, Current   uint32 // of the batch, of the partition
	Sequence, Expect uint32 // base sequence of the batch, and the one that would be accepted
}

func (e *RefusedError) Error() string {
	if e.Reason == ErrFenced {
		return fmt.Sprintf("producer %d epoch %d: %v (epoch %d)", e.ProducerID, e.Epoch, e.Reason, e.Current)
	}
	return fmt.Sprintf("producer %d epoch %d: %v (sequence %d, expected %d)", e.ProducerID, e.Epoch, e.Reason, e.Sequence, e.Expect)
}

// Unwrap returns the reason.
func (e *RefusedError) Unwrap() error { return e.Reason }

// Verdict is the answer to a batch that is not refused: accept it, or it is a
// duplicate of one stored before.
type Verdict struct {
	Duplicate  bool
	BaseOffset int64 // of the original, when a duplicate
	AppendTime int64 // of the original, Unix nanoseconds
}

// stored is what is remembered of one batch.
type stored struct {
	baseSeq, lastDelta     uint32
	baseOffset, appendTime int64
}

// producer is one producer's state. Invariant: recent holds consecutive batches of
// the current epoch, and the youngest of them ends just before next.
type producer struct {
	epoch    uint32
	next     uint32 // sequence
	lastTime int64  // append time of the last batch, Unix nanoseconds
	recent   []stored
	oldest   int  // index in recent, once it holds window batches
	loose    bool // batches after next may have been stored and are not known; see Loosen
}

// Producers is the state of all producers of one partition. It has one owner: it is
// not safe for concurrent use.
type Producers struct {
	window int
	limit  int
	byID   map[uint64]*producer

	// Tests switch rules off to see that their checkers notice.
	noSequence, noWindow, noFence bool
}

// NewProducers returns an empty state that remembers the last window batches of each
// producer; 0 means DefaultWindow.
func NewProducers(window int) *Producers {
	if window <= 0 {
		window = DefaultWindow
	}
	return &Producers{window: window, limit: MaxProducers}
}

// Len is the number of producers known.
func (p *Producers) Len() int { return len(p.byID) }

// Check says what is to be done with a batch, by the rule in the package doc. It
// changes nothing: Apply does, once the batch is in the log. The error is a
// *RefusedError.
func (p *Producers) Check(id uint64, epoch, baseSeq, lastDelta uint32) (Verdict, error) {
	if id == 0 {
		return Verdict{}, nil
	}
	known := p.byID[id]
	if known == nil || epoch > known.epoch {
		return Verdict{}, nil
	}
	if epoch < known.epoch && !p.noFence {
		return Verdict{}, known.refuse(ErrFenced, id, epoch, baseSeq)
	}
	if baseSeq == known.next || p.noSequence {
		return Verdict{}, nil
	}
	for i := range known.recent {
		s := &known.recent[i]
		if s.baseSeq == baseSeq && s.lastDelta == lastDelta && !p.noWindow {
			return Verdict{Duplicate: true, BaseOffset: s.baseOffset, AppendTime: s.appendTime}, nil
		}
	}
	if int32(baseSeq-known.next) > 0 {
		if known.loose {
			return Verdict{}, nil
		}
		return Verdict{}, known.refuse(ErrSequenceGap, id, epoch, baseSeq)
	}
	if p.noWindow {
		return Verdict{}, nil
	}
	return Verdict{}, known.refuse(ErrStaleSequence, id, epoch, baseSeq)
}

func (k *producer) refuse(reason error, id uint64, epoch, baseSeq uint32) error {
	return &RefusedError{Reason: reason, ProducerID: id, Epoch: epoch, Current: k.epoch, Sequence: baseSeq, Expect: k.next}
}

// Apply takes a stamped batch into the state: after its append, and in the same way
// when the log is replayed. A batch of a fenced epoch changes nothing.
func (p *Producers) Apply(b record.Batch) {
	id, epoch := b.ProducerID(), b.ProducerEpoch()
	if id == 0 {
		return
	}
	known := p.byID[id]
	switch {
	case known == nil:
		known = &producer{epoch: epoch}
		p.put(id, known)
	case epoch < known.epoch:
		return
	case epoch > known.epoch:
		*known = producer{epoch: epoch, recent: known.recent[:0]}
	}
	if len(known.recent) > 0 && b.BaseSequence() != known.next {
		// Only a state that aged out in between explains this: the batches before
		// the jump are no neighbours of this one.
		known.recent, known.oldest = known.recent[:0], 0
	}
	known.loose = false
	known.next, known.lastTime = b.NextSequence(), b.AppendTime()
	known.push(p.window, stored{b.BaseSequence(), b.LastOffsetDelta(), b.BaseOffset(), b.AppendTime()})
	if len(p.byID) > p.limit {
		p.evict()
	}
}

// Loosen says that batches may be missing between this state and what is applied next,
// because the log no longer has them, or not readably. A producer known so far may then
// jump ahead once: refusing it would be a gap that nobody can close. What is known of
// it still counts: repeats are duplicates, and lower epochs stay fenced.
func (p *Producers) Loosen() {
	for _, known := range p.byID {
		known.loose = true
	}
}

// evict forgets the quarter of the producers that appended longest ago. It depends on
// the log alone, so that live state and replay agree.
func (p *Producers) evict() {
	ids := make([]uint64, 0, len(p.byID))
	for id := range p.byID {
		ids = append(ids, id)
	}
	slices.SortFunc(ids, func(a, b uint64) int {
		return cmp.Or(cmp.Compare(p.byID[a].lastTime, p.byID[b].lastTime), cmp.Compare(a, b))
	})
	for _, id := range ids[:(len(ids)+3)/4] {
		delete(p.byID, id)
	}
}

func (p *Producers) put(id uint64, known *producer) {
	if p.byID == nil {
		p.byID = make(map[uint64]*producer)
	}
	p.byID[id] = known
}

// push remembers a batch in the place of the oldest once there are window of them.
func (k *producer) push(window int, s stored) {
	if len(k.recent) < window {
		k.recent = append(k.recent, s)
		return
	}
	k.recent[k.oldest] = s
	k.oldest = (k.oldest + 1) % window
}

// Expire forgets the producers whose last append is more than idle before now, both in
// nanoseconds, and returns how many. A forgotten producer may go on at any sequence.
func (p *Producers) Expire(now, idle int64) int {
	n := 0
	for id, known := range p.byID {
		if now-known.lastTime > idle {
			delete(p.byID, id)
			n++
		}
	}
	return n
}
