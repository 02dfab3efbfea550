package replication

import (
	"errors"
	"fmt"
	"slices"
)

var (
	// ErrFenced says that a leader of a newer epoch exists, so this one may not go on.
	ErrFenced = errors.New("leader fenced by a newer epoch")
	// ErrInvariant says that an event contradicts what cannot be otherwise: going on
	// could lose acknowledged records, so the process must stop.
	ErrInvariant = errors.New("replication invariant violated")
)

// LeaderConfig is what a replica knows when it becomes the leader of an epoch.
type LeaderConfig struct {
	Self  uint32 // node id
	Epoch uint32
	Set   ReplicaSet
	// EpochStart is the offset from which on the log's records are of Epoch: the log
	// end, unless the same epoch goes on after a restart.
	EpochStart    int64
	End           int64 // log end
	HighWatermark int64 // as known; committed before, so a lower bound
}

// Leader is the leader of one partition in one epoch. It has one owner: it is not safe
// for concurrent use. A change of the replica set is a new epoch and a new Leader, so
// the reports of before are void.
type Leader struct {
	self, epoch   uint32
	fencedBy      uint32 // the newer epoch seen, or 0
	epochStart    int64
	end           int64
	highWatermark int64

	members []member
	sets    [2][]int // indices into members: of the set, and of the joining set
	scratch [maxMembers]int64

	countOldEpochs bool // tests break the commit rule with it, to see it noticed
}

type member struct {
	id      uint32
	durable int64 // reported in this epoch; 0 before the first report
}

// NewLeader returns the leader of an epoch. Nothing is committed beyond the known high
// watermark before members report, this node included.
func NewLeader(c LeaderConfig) (*Leader, error) {
	if err := c.Set.validate(); err != nil {
		return nil, fmt.Errorf("lead epoch %d: %w", c.Epoch, err)
	}
	if c.EpochStart < 0 || c.EpochStart > c.End || c.HighWatermark < 0 || c.HighWatermark > c.End {
		return nil, fmt.Errorf("lead epoch %d from %d with high watermark %d and end %d: %w",
			c.Epoch, c.EpochStart, c.HighWatermark, c.End, ErrInvariant)
	}
	l := &Leader{self: c.Self, epoch: c.Epoch, epochStart: c.EpochStart, end: c.End, highWatermark: c.HighWatermark}
	for _, id := range c.Set.all() {
		l.members = append(l.members, member{id: id})
	}
	for i, set := range [][]uint32{c.Set.Members, c.Set.Joining} {
		for _, id := range set {
			l.sets[i] = append(l.sets[i], l.index(id))
		}
	}
	if l.index(c.Self) < 0 {
		return nil, fmt.Errorf("lead epoch %d: node %d is no member of the replica set", c.Epoch, c.Self)
	}
	return l, nil
}

func (l *Leader) index(id uint32) int {
	return slices.IndexFunc(l.members, func(m member) bool { return m.id == id })
}

// Epoch is the leader's epoch.
func (l *Leader) Epoch() uint32 { return l.epoch }

// End is the end of the leader's log.
func (l *Leader) End() int64 { return l.end }

// HighWatermark is the offset before which everything is committed.
func (l *Leader) HighWatermark() int64 { return l.highWatermark }

// Fenced returns the newer epoch that ended this one, or 0.
func (l *Leader) Fenced() uint32 { return l.fencedBy }

// MayAppend returns ErrFenced once the leader is fenced.
func (l *Leader) MayAppend() error {
	if l.fencedBy != 0 {
		return fmt.Errorf("epoch %d, seen %d: %w", l.epoch, l.fencedBy, ErrFenced)
	}
	return nil
}

// Appended says that the leader's log, stamped with its epoch, now ends at end.
func (l *Leader) Appended(end int64) error {
	if err := l.MayAppend(); err != nil {
		return err
	}
	if end < l.end {
		return fmt.Errorf("log end falls from %d to %d: %w", l.end, end, ErrInvariant)
	}
	l.end = end
	return nil
}

// Report takes in that a member fsynced its log up to the offset durable, in the given
// epoch, and returns whether the high watermark rose. Reports of another epoch, of
// strangers, and such that come late are ignored; so is everything once fenced.
func (l *Leader) Report(id, epoch uint32, durable int64) (advanced bool, err error) {
	if epoch != l.epoch || l.fencedBy != 0 {
		return false, nil
	}
	i := l.index(id)
	if i < 0 || durable <= l.members[i].durable {
		return false, nil
	}
	if durable > l.end {
		return false, fmt.Errorf("node %d reports %d durable in epoch %d, the leader's log ends at %d: %w",
			id, durable, epoch, l.end, ErrInvariant)
	}
	l.members[i].durable = durable
	return l.commit(), nil
}

// commit raises the high watermark as far as the commit rule allows.
func (l *Leader) commit() bool {
	to := l.majority(l.sets[0])
	if len(l.sets[1]) > 0 {
		to = min(to, l.majority(l.sets[1]))
	}
	// The last record before to is of this epoch exactly when to is beyond its start.
	if to <= l.highWatermark || (to <= l.epochStart && !l.countOldEpochs) {
		return false
	}
	l.highWatermark = to
	return true
}

// majority returns the greatest offset that a majority of the set reported.
func (l *Leader) majority(set []int) int64 {
	if len(set) == 1 {
		return l.members[set[0]].durable
	}
	offsets := l.scratch[:0]
	for _, i := range set {
		offsets = append(offsets, l.members[i].durable)
	}
	slices.Sort(offsets)
	return offsets[(len(offsets)-1)/2]
}

// Fence takes in that an epoch exists. A newer one than the leader's ends its
// leadership for good; the result says whether it is over.
func (l *Leader) Fence(epoch uint32) bool {
	if epoch > l.epoch && epoch > l.fencedBy {
		l.fencedBy = epoch
	}
	return l.fencedBy != 0
}
