package replication

import (
	"errors"
	"fmt"
)

var (
	// ErrFenced says that a newer epoch was adopted, so the older one has no say.
	ErrFenced = errors.New("fenced by a newer epoch")
	// ErrSuspect says that stored data is damaged, so this replica must be repaired first.
	ErrSuspect = errors.New("stored data is damaged")
	// ErrInvariant says that an event contradicts what cannot be otherwise: going on
	// could lose acknowledged records, so the process must stop.
	ErrInvariant = errors.New("replication invariant violated")
)

// Role is what a replica does in its epoch.
type Role uint8

const (
	RoleNone     Role = iota // waits to be told
	RoleLeader               // [Replica.Leader] is set
	RoleFollower             // [Replica.Follower] is set
)

// String is the role's name in lower case.
func (r Role) String() string {
	switch r {
	case RoleLeader:
		return "leader"
	case RoleFollower:
		return "follower"
	default:
		return "none"
	}
}

// Effect is what the driver has to do after an assignment.
type Effect uint8

const (
	None           Effect = iota
	BecomeLeader          // append an epoch-start record at once (not when Solo)
	BecomeFollower        // fetch from the leader
	StepDown              // the partition has another epoch, in which this replica has no part
)

// log is what the machines know of a replica's log. The leader and the follower of a
// replica share it.
//
// Invariants: start <= highWatermark <= end, durable <= end; the high watermark never falls.
type log struct {
	self          Member
	history       history
	start, end    int64
	durable       int64 // the log is fsynced up to here
	highWatermark int64
	suspect       bool
	damaged       int64 // if suspect: what is below is not damaged

	// A log that began anew is empty and does not know the epoch of the record before
	// its start. Until it has a record it votes as it would have before.
	resetEpoch uint32
	resetLost  bool // a restart has forgotten how that was
	breaks     Breakage
}

func (l *log) lastEpoch() uint32 { return l.history.before(l.end) }

// unknown says that the log is empty, and that there were records before it of which
// not even the epoch is known.
func (l *log) unknown() bool {
	return l.start > 0 && l.durable == l.start && l.history.before(l.start) == 0
}

// setDurable takes in that the log is fsynced up to an offset.
func (l *log) setDurable(durable int64) error {
	if durable > l.end {
		return fmt.Errorf("replica %v has %d durable, its log ends at %d: %w", l.self, durable, l.end, ErrInvariant)
	}
	l.durable = max(l.durable, durable)
	return nil
}

// truncate cuts the log off.
func (l *log) truncate(to int64) error {
	if to < l.highWatermark && !l.breaks.TruncateBelowHW {
		return fmt.Errorf("replica %v would truncate to %d, below its high watermark %d: %w", l.self, to, l.highWatermark, ErrInvariant)
	}
	l.history.truncate(to)
	l.end, l.durable = to, min(l.durable, to)
	l.highWatermark = min(l.highWatermark, to) // with the assertion off only
	return nil
}

// ReplicaConfig is what a replica knows when its process starts.
type ReplicaConfig struct {
	Self  Member
	Fence uint32 // highest epoch adopted, as persisted
	// Epochs are those of the log. The one that covers the record before Start is
	// needed too, if there ever was such a record.
	Epochs        []EpochStart
	Start, End    int64
	Durable       int64
	HighWatermark int64 // a hint: as known before, or Start
	Suspect       bool  // stored data is damaged
	// ResetAt and ResetEpoch are what Replica.ResetEpoch told when the log last began
	// anew, and where, as persisted before that.
	ResetAt    int64
	ResetEpoch uint32
	// Solo: a broker without a cluster. It leads alone, without being elected, and
	// everything it recovered is committed.
	Solo bool

	Break Breakage // for tests
}

// Replica is one replica of a partition: the fence it adopted, and its role. It has one
// owner: it is not safe for concurrent use.
type Replica struct {
	log
	solo     bool
	opened   uint32 // fence when the process started: an epoch up to this one cannot be led any more
	fence    uint32 // highest epoch adopted
	adopted  uint32 // highest epoch adopted by a vote given in this process life
	previous uint32 // fence before that
	epoch    uint32 // of the role
	leader   *Leader
	follower *Follower
	leaderIs Member
}

// NewReplica returns a replica that waits to be told its role.
func NewReplica(c ReplicaConfig) (*Replica, error) {
	r := &Replica{solo: c.Solo, fence: c.Fence, log: log{
		self: c.Self, start: c.Start, end: c.End, durable: c.Durable,
		highWatermark: max(c.HighWatermark, c.Start), suspect: c.Suspect, breaks: c.Break,
	}}
	if c.Start < 0 || c.Start > c.End || c.Durable > c.End || c.Durable < 0 || r.highWatermark > c.End {
		return nil, fmt.Errorf("replica %v with log [%d, %d), durable %d, high watermark %d: %w",
			c.Self, c.Start, c.End, c.Durable, r.highWatermark, ErrInvariant)
	}
	for _, e := range c.Epochs {
		if err := r.history.note(e.Epoch, e.First); err != nil {
			return nil, err
		}
		// Who holds a record of an epoch knows of it.
		r.fence = max(r.fence, e.Epoch)
	}
	r.history.truncate(c.End)
	r.history.trim(c.Start)
	r.opened = r.fence
	r.resetEpoch, r.resetLost = c.ResetEpoch, r.unknown() && c.ResetAt != c.Start
	if c.Solo {
		r.highWatermark = c.End
	}
	return r, nil
}

// Self is this replica.
func (r *Replica) Self() Member { return r.self }

// Role is what the replica does in its epoch.
func (r *Replica) Role() Role {
	switch {
	case r.leader != nil:
		return RoleLeader
	case r.follower != nil:
		return RoleFollower
	default:
		return RoleNone
	}
}

// Leader is set while this replica leads.
func (r *Replica) Leader() *Leader { return r.leader }

// Follower is set while this replica follows.
func (r *Replica) Follower() *Follower { return r.follower }

// LeaderMember is the leader of the current epoch, zero if none is known.
func (r *Replica) LeaderMember() Member { return r.leaderIs }

// Epoch is the highest epoch heard of, that of the role if there is one.
func (r *Replica) Epoch() uint32 { return max(r.fence, r.epoch) }

// FenceEpoch is the highest epoch adopted. It never falls.
func (r *Replica) FenceEpoch() uint32 { return r.fence }

// Start and End are the bounds of the log.
func (r *Replica) Start() int64 { return r.start }

// End is the end of the log.
func (r *Replica) End() int64 { return r.end }

// LastEpoch is the epoch of the last record.
func (r *Replica) LastEpoch() uint32 { return r.lastEpoch() }

// DurableEnd is up to where the log is fsynced.
func (r *Replica) DurableEnd() int64 { return r.durable }

// HighWatermark is the offset before which everything is known to be committed. It
// never falls.
func (r *Replica) HighWatermark() int64 { return r.highWatermark }

// ResetEpoch is the epoch with which a log that began anew votes until it has a record.
// The driver persists it, with the offset, before it lets the log begin anew.
func (r *Replica) ResetEpoch() uint32 { return r.resetEpoch }

// Suspect says that stored data is damaged.
func (r *Replica) Suspect() bool { return r.suspect }

// SetSuspect takes in that stored data was found damaged, nobody knows where, or that
// it was repaired.
func (r *Replica) SetSuspect(suspect bool) { r.suspect, r.damaged = suspect, r.start }

// SetDamage takes in that stored data was found damaged at an offset, and perhaps at
// later ones.
func (r *Replica) SetDamage(from int64) { r.suspect, r.damaged = true, from }

// Fence adopts an epoch: whatever the replica does in an older one ends now. The driver
// persists the epoch if told so, and answers with [Replica.Vote] then. An epoch lower
// than one adopted before is refused with ErrFenced.
func (r *Replica) Fence(epoch uint32) (persist bool, err error) {
	if epoch < r.fence {
		return false, fmt.Errorf("fence %d of replica %v, adopted is %d: %w", epoch, r.self, r.fence, ErrFenced)
	}
	if r.breaks.ReadWithoutFence {
		r.adopted = max(r.adopted, epoch)
		return false, nil
	}
	if epoch > r.fence {
		r.previous = r.fence
		r.fence = epoch
		r.stepDown()
	}
	// An epoch of an earlier process life may have been led then.
	if epoch > r.opened {
		r.adopted = max(r.adopted, epoch)
	}
	// A second request while the first one is being persisted must not be answered
	// before that is done.
	return epoch > r.opened && !r.breaks.ForgetFence, nil
}

// stepDown ends the role.
func (r *Replica) stepDown() {
	if r.leader != nil {
		r.leader.Fence(max(r.fence, r.epoch+1))
	}
	if r.follower != nil {
		r.follower.over = true
	}
	r.leader, r.follower, r.leaderIs = nil, nil, Member{}
}

// Vote is the replica's vote in the epoch that it adopted: the log as far as it is fsynced.
func (r *Replica) Vote() Vote {
	epoch := r.fence
	if r.breaks.ReadWithoutFence {
		epoch = max(epoch, r.adopted)
	}
	v := Vote{
		From: r.self, Epoch: epoch, LastEpoch: r.history.before(r.durable), End: r.durable,
		Suspect: r.suspect, Fence: r.previous,
	}
	if r.unknown() {
		// It may have counted for records below its start. Ranked too low, it would let
		// somebody win who never had them.
		v.LastEpoch, v.Suspect = r.resetEpoch, v.Suspect || r.resetLost
	}
	return v
}

// Assign takes in what the cluster decided: the leader of an epoch and the replica set.
// Epochs older than the adopted one, or without a leader yet, are ignored. Sets that
// [ReplicaSet.Validate] refuses are an error and change nothing.
//
// A replica leads only an epoch that it adopted in this process life. Before a restart
// it may have led it, and records that it has lost since may be on others.
func (r *Replica) Assign(epoch uint32, leader Member, set ReplicaSet) (Effect, error) {
	if epoch < r.fence || epoch < r.epoch || leader.IsZero() {
		return None, nil
	}
	if epoch == r.epoch && !r.leaderIs.IsZero() {
		if leader != r.leaderIs {
			return None, fmt.Errorf("epoch %d is led by %v and by %v: %w", epoch, r.leaderIs, leader, ErrInvariant)
		}
		return None, nil
	}
	if err := set.Validate(); err != nil {
		return None, fmt.Errorf("assign replica %v in epoch %d: %w", r.self, epoch, err)
	}
	if !set.IsVoter(leader) {
		return None, fmt.Errorf("assign replica %v in epoch %d: leader %v is no member of the replica set", r.self, epoch, leader)
	}
	switch {
	case leader == r.self && !r.mayLead(epoch, set), !set.Has(r.self):
		had := r.Role() != RoleNone
		r.follow(epoch, leader)
		r.follower = nil
		if had {
			return StepDown, nil
		}
		return None, nil
	case leader == r.self:
		return r.lead(epoch, set)
	}
	r.follow(epoch, leader)
	if r.breaks.TruncateToHW {
		return BecomeFollower, r.truncate(r.highWatermark)
	}
	return BecomeFollower, nil
}

func (r *Replica) mayLead(epoch uint32, set ReplicaSet) bool {
	if r.suspect && !r.breaks.SuspectVotes {
		return false
	}
	return r.adopted == epoch || set.alone(r.self) || r.breaks.LeadAfterRestart
}

func (r *Replica) lead(epoch uint32, set ReplicaSet) (Effect, error) {
	r.stepDown()
	l, err := newLeader(&r.log, epoch, set)
	if err != nil {
		return None, err
	}
	l.solo = r.solo
	r.fence, r.epoch = max(r.fence, epoch), epoch
	r.leader, r.leaderIs = l, r.self
	return BecomeLeader, nil
}

func (r *Replica) follow(epoch uint32, leader Member) {
	r.stepDown()
	r.epoch, r.leaderIs = epoch, leader
	if !r.breaks.ReadWithoutFence {
		r.fence = max(r.fence, epoch)
	}
	r.follower = &Follower{log: &r.log, epoch: epoch, leader: leader}
}

// Durable takes in that the log is fsynced up to an offset, in any role, and returns
// whether the high watermark rose.
func (r *Replica) Durable(durable int64) (advanced bool, err error) {
	if r.leader != nil {
		return r.leader.ReportSelf(durable)
	}
	return false, r.setDurable(durable)
}

// AdvanceStart takes in that retention removed everything below start, which must be
// committed.
func (r *Replica) AdvanceStart(start int64) error {
	if start > r.highWatermark {
		return fmt.Errorf("replica %v would remove records up to %d, committed is %d: %w", r.self, start, r.highWatermark, ErrInvariant)
	}
	r.start = max(r.start, start)
	r.history.trim(r.start)
	return nil
}
