package replication

import (
	"fmt"
	"slices"
)

// LeaderConfig is what a replica knows when it becomes the leader of an epoch.
type LeaderConfig struct {
	Self          Member
	Epoch         uint32
	Set           ReplicaSet
	Epochs        []EpochStart // of the log
	Start, End    int64        // log bounds
	HighWatermark int64        // as known; committed before, so a lower bound
}

// Leader is the leader of one partition in one epoch. It has one owner: it is not safe
// for concurrent use. A change of the replica set is a new epoch and a new Leader, so
// the reports of before are void.
type Leader struct {
	*log
	epoch      uint32
	fencedBy   uint32 // the newer epoch seen, or 0
	epochStart int64  // from here on records are of this epoch
	began      int64  // end of the log when this leader began; an epoch may go on after a restart
	solo       bool
	round      uint64 // the latest started

	me      int // index of this replica
	members []member
	voters  int // the first so many of members; learners follow
	quorum  quorum
}

type member struct {
	Member
	fetched int64  // the logs agree up to here, as last heard
	durable int64  // reported in this epoch; 0 before the first report
	round   uint64 // echoed
}

// NewLeader returns the leader of an epoch, outside of a [Replica]. Nothing is committed
// beyond the known high watermark before members report, this one included.
func NewLeader(c LeaderConfig) (*Leader, error) {
	if c.Start < 0 || c.Start > c.End || c.HighWatermark < 0 || c.HighWatermark > c.End {
		return nil, fmt.Errorf("lead epoch %d with log [%d, %d) and high watermark %d: %w",
			c.Epoch, c.Start, c.End, c.HighWatermark, ErrInvariant)
	}
	l := &log{self: c.Self, start: c.Start, end: c.End, highWatermark: c.HighWatermark}
	for _, e := range c.Epochs {
		if err := l.history.note(e.Epoch, e.First); err != nil {
			return nil, err
		}
	}
	return newLeader(l, c.Epoch, c.Set)
}

func newLeader(log *log, epoch uint32, set ReplicaSet) (*Leader, error) {
	if err := set.Validate(); err != nil {
		return nil, fmt.Errorf("lead epoch %d: %w", epoch, err)
	}
	if !set.IsVoter(log.self) {
		return nil, fmt.Errorf("lead epoch %d: replica %v is no member of the replica set", epoch, log.self)
	}
	l := &Leader{log: log, epoch: epoch, epochStart: log.end, began: log.end}
	if n := len(log.history.entries); n > 0 {
		last := log.history.entries[n-1]
		if last.Epoch > epoch {
			return nil, fmt.Errorf("lead epoch %d with records of epoch %d: %w", epoch, last.Epoch, ErrInvariant)
		}
		if last.Epoch == epoch {
			l.epochStart = last.First // the same epoch goes on after a restart
		}
	}
	for _, m := range set.Voters() {
		l.members = append(l.members, member{Member: m})
	}
	l.voters = len(l.members)
	for _, m := range set.Learners {
		l.members = append(l.members, member{Member: m})
	}
	sets := [2][]Member{set.Members, set.Joining}
	if log.breaks.CountLearners {
		sets[0] = append(slices.Clone(sets[0]), set.Learners...)
	}
	if log.breaks.JointByOne {
		sets[1] = nil
	}
	for i, s := range sets {
		for _, m := range s {
			l.quorum.sets[i] = append(l.quorum.sets[i], l.index(m))
		}
	}
	l.me = l.index(log.self)
	return l, nil
}

func (l *Leader) index(m Member) int {
	for i := range l.members {
		if l.members[i].Member == m {
			return i
		}
	}
	return -1
}

// Epoch is the leader's epoch.
func (l *Leader) Epoch() uint32 { return l.epoch }

// EpochStart is the offset of the first record of the epoch.
func (l *Leader) EpochStart() int64 { return l.epochStart }

// Start is where the leader's log begins.
func (l *Leader) Start() int64 { return l.start }

// End is the end of the leader's log.
func (l *Leader) End() int64 { return l.end }

// HighWatermark is the offset before which everything is committed.
func (l *Leader) HighWatermark() int64 { return l.highWatermark }

// Fenced returns the newer epoch that ended this one, or 0.
func (l *Leader) Fenced() uint32 { return l.fencedBy }

// Serving says that the start record is committed, so that everything committed before
// is known to be. Before that clients are not served.
func (l *Leader) Serving() bool {
	return l.fencedBy == 0 && (l.solo || l.highWatermark > l.began || l.breaks.ServeBeforeStart)
}

// MayAppend returns ErrFenced once the leader is fenced.
func (l *Leader) MayAppend() error {
	if l.fencedBy != 0 {
		return fmt.Errorf("append in epoch %d, seen %d: %w", l.epoch, l.fencedBy, ErrFenced)
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
	if end == l.end {
		return nil
	}
	if err := l.history.note(l.epoch, l.end); err != nil {
		return err
	}
	l.end = end
	return nil
}

// ReportSelf takes in that this replica's log is fsynced up to an offset, and returns
// whether the high watermark rose. Nothing rises once fenced.
func (l *Leader) ReportSelf(durable int64) (advanced bool, err error) {
	if err := l.setDurable(durable); err != nil || l.fencedBy != 0 {
		return false, err
	}
	return l.report(l.me, l.durable), nil
}

// Fetch takes in where a follower is, and says what to send it. Fetches of another
// epoch, and of strangers, are ignored; so is everything once fenced.
func (l *Leader) Fetch(f Fetch) (Answer, error) {
	i := l.index(f.From)
	if l.fencedBy != 0 || i < 0 || i == l.me || f.Offset < 0 {
		return Answer{}, nil
	}
	if f.Epoch != l.epoch {
		if l.breaks.CountAnyEpoch {
			l.report(i, min(f.Durable, l.end))
		}
		return Answer{}, nil
	}
	if f.Round <= l.round {
		l.members[i].round = max(l.members[i].round, f.Round)
	}
	if l.breaks.CountUnmatched {
		l.report(i, min(f.Durable, l.end))
	}
	if f.Offset < l.start || f.Offset == l.start && f.LastEpoch != 0 && l.history.before(l.start) == 0 {
		// Nothing of the follower's log is in this one, or a leader whose log began anew
		// cannot tell whether it agrees.
		return Answer{Kind: Reset, Offset: l.start}, nil
	}
	if f.Offset > l.end || !l.agrees(f.Offset, f.LastEpoch) {
		return l.differs(f)
	}
	l.members[i].fetched = f.Offset
	return Answer{Kind: Send, Offset: f.Offset, Advanced: l.report(i, min(f.Durable, f.Offset))}, nil
}

// agrees says whether a log that ends at an offset with a record of the given epoch is a
// beginning of this one.
func (l *Leader) agrees(offset int64, lastEpoch uint32) bool {
	// Below the start of a log, so below an empty one, is only what is committed, and
	// that is the same everywhere.
	return lastEpoch == 0 || l.breaks.IgnoreLastEpoch || lastEpoch == l.history.before(offset)
}

// differs answers a follower whose log is no beginning of this one.
func (l *Leader) differs(f Fetch) (Answer, error) {
	if f.LastEpoch == 0 {
		return Answer{}, fmt.Errorf("replica %v begins at %d in epoch %d, the leader's log ends at %d: %w",
			f.From, f.Offset, l.epoch, l.end, ErrInvariant)
	}
	common, to, ok := l.history.common(f.LastEpoch, l.end)
	switch {
	case ok && to >= l.start:
		return Answer{Kind: Truncate, CommonEpoch: common, Offset: to}, nil
	case l.start == 0:
		return Answer{Kind: Truncate}, nil // nothing in common
	default:
		return Answer{Kind: Reset, Offset: l.start}, nil
	}
}

// report raises what a member has durable.
func (l *Leader) report(i int, durable int64) (advanced bool) {
	if durable <= l.members[i].durable {
		return false
	}
	l.members[i].durable = durable
	return l.commit()
}

// commit raises the high watermark as far as the commit rule allows.
func (l *Leader) commit() bool {
	to := l.quorum.reached(func(i int) int64 { return l.members[i].durable })
	// The last record before to is of this epoch exactly when to is beyond its start.
	if to <= l.highWatermark || (to <= l.epochStart && !l.breaks.CountOldEpochs) {
		return false
	}
	l.highWatermark = to
	return true
}

// DurableOnAll is the offset up to which every voter fsynced the log: those of both sets
// while the set changes, learners not included.
func (l *Leader) DurableOnAll() int64 {
	all := l.end
	for _, m := range l.members[:l.voters] {
		all = min(all, m.durable)
	}
	return all
}

// Progress returns up to where a member's log agrees with the leader's and up to where
// it is fsynced, as reported in this epoch.
func (l *Leader) Progress(m Member) (fetched, durable int64, ok bool) {
	i := l.index(m)
	if i < 0 {
		return 0, 0, false
	}
	if i == l.me {
		return l.end, l.durable, true
	}
	return l.members[i].fetched, l.members[i].durable, true
}

// StartRound begins a round: followers echo its number, which goes out with Data. Once
// it is done, no newer epoch had a leader when it was started.
func (l *Leader) StartRound() uint64 {
	l.round++
	l.members[l.me].round = l.round
	return l.round
}

// Round is the latest round started.
func (l *Leader) Round() uint64 { return l.round }

// RoundDone is the latest round that a majority echoed in this epoch.
func (l *Leader) RoundDone() uint64 {
	return uint64(l.quorum.reached(func(i int) int64 { return int64(l.members[i].round) }))
}

// Data describes the records [base, end) of the leader's log for a follower.
func (l *Leader) Data(base, end int64) Data {
	return Data{
		Epoch: l.epoch, LastEpoch: l.history.before(base), Base: base, End: end,
		HighWatermark: l.highWatermark, LogStart: l.start, Round: l.round,
	}
}

// Fence takes in that an epoch exists. A newer one than the leader's ends its
// leadership for good; the result says whether it is over.
func (l *Leader) Fence(epoch uint32) bool {
	if epoch > l.epoch && epoch > l.fencedBy {
		l.fencedBy = epoch
	}
	return l.fencedBy != 0
}
