package replica

import "github.com/sequitur-mq/sequitur/replication"

// State describes a replica at one moment.
type State struct {
	Role          replication.Role
	Epoch         uint32
	Leader        replication.Member // zero: none known
	Set           replication.ReplicaSet
	Start, End    int64
	Durable       int64
	HighWatermark int64
	Serving       bool            // leads, and the start of its epoch is committed
	Suspect       bool            // stored data is damaged
	Followers     []FollowerState // of a leader: all others of the set
}

// FollowerState is what a leader knows of another replica, as reported in this epoch.
type FollowerState struct {
	Member  replication.Member
	Learner bool
	Fetched int64 // end of its log
	Durable int64
	Lag     int64 // offsets that it has not fsynced
}

// State describes the replica.
func (r *Replica) State() State {
	r.mu.Lock()
	defer r.unlock()
	s := State{
		Role: r.machine.Role(), Epoch: r.machine.Epoch(), Leader: r.machine.LeaderMember(), Set: r.set.Clone(),
		Start: r.log.Start(), End: r.machine.End(), Durable: r.machine.DurableEnd(), HighWatermark: r.machine.HighWatermark(),
		Serving: r.leader != nil && r.leader.Serving(), Suspect: r.machine.Suspect(),
	}
	if r.leader == nil {
		return s
	}
	for i, members := range [][]replication.Member{s.Set.Voters(), s.Set.Learners} {
		for _, m := range members {
			if m == r.options.Self {
				continue
			}
			fetched, durable, _ := r.leader.Progress(m)
			s.Followers = append(s.Followers, FollowerState{Member: m, Learner: i == 1, Fetched: fetched, Durable: durable, Lag: s.End - durable})
		}
	}
	return s
}

// Recheck tells the replica that its log found damage, or that damage was repaired: it
// looks at what the log knows of. While damaged it does not vote or lead anew, does not
// truncate what lies behind damage that would stay, and reports nothing as durable.
func (r *Replica) Recheck() {
	r.mu.Lock()
	defer r.unlock()
	was := r.machine.Suspect()
	r.noteDamage()
	if was != r.machine.Suspect() {
		r.changed, r.moved = true, movedNow
	}
}

// noteDamage tells the machine where the log is damaged. The caller holds mu.
func (r *Replica) noteDamage() {
	holes := r.log.Holes()
	if r.options.Solo || len(holes) == 0 { // alone it serves around them
		r.machine.SetSuspect(false)
		return
	}
	from := holes[0].From
	for _, h := range holes {
		from = min(from, h.From)
	}
	r.machine.SetDamage(from)
}
