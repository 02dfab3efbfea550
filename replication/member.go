package replication

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strconv"
)

// maxMembers bounds a replica set, joining members and learners included.
const maxMembers = 16

// Member is the identity of a replica: the broker's number and the number that the
// cluster gave to the disk the replica is on. A wiped disk has another number and so is
// a stranger: under its old name it would vote away what it has forgotten.
type Member struct{ Node, Disk uint32 }

// IsZero says that there is no such member.
func (m Member) IsZero() bool { return m == Member{} }

// String is "3", or "3#7" with a disk number.
func (m Member) String() string {
	if m.Disk == 0 {
		return strconv.FormatUint(uint64(m.Node), 10)
	}
	return fmt.Sprintf("%d#%d", m.Node, m.Disk)
}

// Compare orders members by node, then by disk.
func (m Member) Compare(other Member) int {
	return cmp.Or(cmp.Compare(m.Node, other.Node), cmp.Compare(m.Disk, other.Disk))
}

// ReplicaSet is the replicas of a partition.
type ReplicaSet struct {
	Version uint32
	Members []Member
	// Joining is the set to change to, empty when there is no change under way. A
	// majority of both is needed then (Raft, section 6).
	Joining []Member
	// Learners copy the log, but neither vote nor count.
	Learners []Member
}

// Has says whether m copies the log: as a voter or as a learner.
func (s ReplicaSet) Has(m Member) bool {
	return s.IsVoter(m) || slices.Contains(s.Learners, m)
}

// IsVoter says whether m is in the set or in the joining set.
func (s ReplicaSet) IsVoter(m Member) bool {
	return slices.Contains(s.Members, m) || slices.Contains(s.Joining, m)
}

// Voters returns the members of both sets, each once.
func (s ReplicaSet) Voters() []Member {
	voters := slices.Clone(s.Members)
	for _, m := range s.Joining {
		if !slices.Contains(voters, m) {
			voters = append(voters, m)
		}
	}
	return voters
}

// Clone returns a copy that shares no memory.
func (s ReplicaSet) Clone() ReplicaSet {
	s.Members, s.Joining, s.Learners = slices.Clone(s.Members), slices.Clone(s.Joining), slices.Clone(s.Learners)
	return s
}

// Equal compares everything, order included.
func (s ReplicaSet) Equal(o ReplicaSet) bool {
	return s.Version == o.Version && slices.Equal(s.Members, o.Members) &&
		slices.Equal(s.Joining, o.Joining) && slices.Equal(s.Learners, o.Learners)
}

// Validate refuses sets without members, with a node twice in one list, with a learner
// that votes, and such that are too large.
func (s ReplicaSet) Validate() error {
	if len(s.Members) == 0 {
		return errors.New("replica set without members")
	}
	for _, list := range [][]Member{s.Members, s.Joining, s.Learners} {
		for i, m := range list {
			if m.Node == 0 {
				return errors.New("replica set names node 0")
			}
			if slices.ContainsFunc(list[:i], func(o Member) bool { return o.Node == m.Node }) {
				return fmt.Errorf("replica set names node %d twice", m.Node)
			}
		}
	}
	for _, m := range s.Learners {
		if s.IsVoter(m) {
			return fmt.Errorf("replica set names %v as voter and as learner", m)
		}
	}
	if n := len(s.Voters()) + len(s.Learners); n > maxMembers {
		return fmt.Errorf("replica set of %d members, at most %d", n, maxMembers)
	}
	return nil
}

// alone says that m is the only one who holds the log.
func (s ReplicaSet) alone(m Member) bool {
	return len(s.Members) == 1 && s.Members[0] == m && len(s.Joining) == 0 && len(s.Learners) == 0
}

// quorum counts majorities of one or two sets.
type quorum struct {
	sets    [2][]int // indices of members; the second one is empty unless sets are joint
	scratch [maxMembers]int64
}

// reached returns the greatest value that a majority of each set has reached, where
// value is that of the member with an index.
func (q *quorum) reached(value func(i int) int64) int64 {
	to := q.ofSet(0, value)
	if len(q.sets[1]) > 0 {
		to = min(to, q.ofSet(1, value))
	}
	return to
}

func (q *quorum) ofSet(set int, value func(i int) int64) int64 {
	values := q.scratch[:0]
	for _, i := range q.sets[set] {
		values = append(values, value(i))
	}
	if len(values) == 1 {
		return values[0]
	}
	slices.Sort(values)
	return values[(len(values)-1)/2]
}
