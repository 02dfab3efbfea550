package replication

import (
	"cmp"
	"slices"
)

// Election collects the votes of one epoch and names its leader.
type Election struct {
	// Break switches rules off, for tests that show that their checkers notice.
	Break Breakage

	epoch uint32
	set   ReplicaSet
	votes []Vote
}

// NewElection returns the election of an epoch among the voters of a set.
func NewElection(epoch uint32, set ReplicaSet) *Election {
	return &Election{epoch: epoch, set: set.Clone()}
}

// Epoch is the epoch voted in.
func (e *Election) Epoch() uint32 { return e.epoch }

// Add takes in a vote. Votes of another epoch, and of those who are no voters, do not
// count; a later vote of the same member takes the place of the earlier one.
func (e *Election) Add(v Vote) {
	if v.Epoch != e.epoch || !e.set.IsVoter(v.From) {
		return
	}
	if i := slices.IndexFunc(e.votes, func(o Vote) bool { return o.From == v.From }); i >= 0 {
		e.votes[i] = v
		return
	}
	e.votes = append(e.votes, v)
}

// Votes is how many members have voted, the suspect ones included.
func (e *Election) Votes() int { return len(e.votes) }

// Winner names the leader once a majority of the members that are not suspect has
// voted, of both sets while the set changes. It is the one with the greatest (epoch of
// the last record, end of the log); with equals the lowest node. Whatever was committed
// before is on a member of every majority, and the greatest of them holds all of it.
func (e *Election) Winner() (Member, bool) {
	if !e.majority(e.set.Members) || len(e.set.Joining) > 0 && !e.Break.JointByOne && !e.majority(e.set.Joining) {
		return Member{}, false
	}
	best := -1
	for i, v := range e.votes {
		if e.counts(v) && (best < 0 || e.compare(v, e.votes[best]) > 0) {
			best = i
		}
	}
	return e.votes[best].From, true
}

func (e *Election) counts(v Vote) bool { return !v.Suspect || e.Break.SuspectVotes }

func (e *Election) majority(set []Member) bool {
	n := 0
	for _, v := range e.votes {
		if e.counts(v) && slices.Contains(set, v.From) {
			n++
		}
	}
	return n > len(set)/2
}

func (e *Election) compare(a, b Vote) int {
	if e.Break.RankByFence {
		if c := cmp.Compare(a.Fence, b.Fence); c != 0 {
			return c
		}
	} else if c := cmp.Compare(a.LastEpoch, b.LastEpoch); c != 0 {
		return c
	}
	return cmp.Or(cmp.Compare(a.End, b.End), b.From.Compare(a.From))
}
