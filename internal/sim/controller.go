package sim

import (
	"slices"

	"github.com/sequitur-mq/sequitur/replication"
)

// state is what the metadata says about the partition.
type state struct {
	epoch  uint32
	leader replication.Member // zero until elected
	life   uint32             // process life in which the leader voted
	set    replication.ReplicaSet
	since  int64
}

// store is the replicated metadata: decisions by compare-and-set.
type store struct{ states []state }

func (t *store) last() state { return t.states[len(t.states)-1] }

// beginEpoch decides that a new epoch begins, unless somebody was faster.
func (s *Sim) beginEpoch(seen uint32, set replication.ReplicaSet) bool {
	last := s.store.last()
	if last.epoch != seen {
		return false
	}
	if !set.Equal(last.set) {
		set.Version = last.set.Version + 1
	}
	if err := set.Validate(); err != nil {
		s.fail("controller: %w", err)
		return false
	}
	s.logf("epoch %d begins with %v joining %v learners %v", seen+1, set.Members, set.Joining, set.Learners)
	s.decide(state{epoch: seen + 1, set: set, since: s.now})
	return true
}

// electLeader decides who leads an epoch, unless that is decided.
func (s *Sim) electLeader(epoch uint32, leader replication.Member, life uint32) {
	last := s.store.last()
	if last.epoch != epoch || !last.leader.IsZero() {
		return
	}
	s.logf("epoch %d is to be led by %v", epoch, leader)
	s.result.Epochs++
	last.leader, last.life, last.since = leader, life, s.now
	s.checkElected(last)
	s.decide(last)
}

func (s *Sim) decide(st state) {
	s.store.states = append(s.store.states, st)
	for _, b := range s.brokers {
		s.learn(b)
	}
}

// seenBroker is what a controller knows of a broker.
type seenBroker struct {
	heard   int64
	life    uint32
	disk    uint32
	suspect bool
}

// controller is a simpler one than that of package consensus/controller, which takes
// more liberties: it moves leaders and changes sets for no reason, and elects in a hurry.
type controller struct {
	index    uint8
	active   bool
	view     state
	election *replication.Election
	lives    [maxBrokers]uint32 // of the votes
	brokers  [maxBrokers]seenBroker
	serving  uint32 // newest epoch that is served
	learned  uint32 // caught-up learners, in the epoch
	learnt   uint32
}

// take makes a controller the one in charge: it knows nothing but the metadata.
func (c *controller) take(s *Sim) {
	*c = controller{index: c.index, active: true}
	for i := range c.brokers {
		c.brokers[i].heard = s.now
	}
}

func (c *controller) retire(*Sim)            { c.active = false }
func (c *controller) disconnected(*Sim, int) {}
func (c *controller) order(*Sim, uint)       {}

func (c *controller) receive(s *Sim, m *message) {
	if !c.active {
		return
	}
	switch m.kind {
	case heartbeat:
		b := &c.brokers[m.from]
		if m.disk < b.disk || m.disk == b.disk && m.sender < b.life {
			return // late
		}
		*b = seenBroker{heard: s.now, life: m.sender, disk: m.disk, suspect: m.suspect}
		if m.serving {
			c.serving = max(c.serving, m.epoch)
		}
		if m.epoch >= c.learnt {
			c.learnt, c.learned = m.epoch, m.learners
		}
	case fenceVote:
		if c.election == nil || c.election.Epoch() != m.vote.Epoch {
			return
		}
		c.election.Add(m.vote)
		c.lives[m.from] = m.sender
		if winner, ok := c.election.Winner(); ok && (s.chance(0.7) || c.election.Votes() == len(c.view.set.Voters())) {
			s.electLeader(c.election.Epoch(), winner, c.lives[winner.Node-1])
		}
	}
}

func (c *controller) tick(s *Sim) {
	s.after(s.profile.control/2+s.upTo(s.profile.control), event{kind: onControl, who: c.index})
	if !c.active {
		return
	}
	if c.view.epoch == 0 || s.chance(0.9) {
		c.view = s.store.last()
	}
	st := c.view
	if st.leader.IsZero() {
		c.elect(s, st)
		return
	}
	if !c.alive(s, st.set) {
		c.giveUp(s, st) // no majority, so no leader: no need to burn epochs
		return
	}
	leader := c.brokers[st.leader.Node-1]
	switch waited := s.now - st.since; {
	case waited > s.profile.session && s.now-leader.heard > s.profile.session,
		leader.life > st.life, leader.disk > st.leader.Disk, leader.suspect,
		waited > 10*s.profile.session && c.serving < st.epoch,
		!s.healing && s.chance(s.profile.move):
		s.beginEpoch(st.epoch, c.withoutLost(st.set))
	default:
		c.change(s, st)
	}
}

// elect asks for votes, again and again.
func (c *controller) elect(s *Sim, st state) {
	if c.election == nil || c.election.Epoch() != st.epoch {
		c.election = replication.NewElection(st.epoch, st.set)
		c.election.Break = s.breaks.Breakage
	}
	if winner, ok := c.election.Winner(); ok {
		s.electLeader(st.epoch, winner, c.lives[winner.Node-1])
		return
	}
	if c.giveUp(s, st) {
		return
	}
	for _, m := range st.set.Voters() {
		s.send(message{kind: fenceRequest, from: uint8(len(s.brokers)) + c.index, to: uint8(m.Node - 1), epoch: st.epoch})
	}
}

// giveUp goes back to the old set if the new one has no majority for long. Whatever was
// committed meanwhile is on a majority of the old one too.
func (c *controller) giveUp(s *Sim, st state) bool {
	set := st.set.Clone()
	set.Joining = nil
	if len(st.set.Joining) == 0 || s.now-st.since < 10*s.profile.session || !c.alive(s, set) {
		return false
	}
	return s.beginEpoch(st.epoch, set)
}

// alive says whether a majority of every set that counts was heard of lately.
func (c *controller) alive(s *Sim, set replication.ReplicaSet) bool {
	for _, list := range [][]replication.Member{set.Members, set.Joining} {
		n := 0
		for _, m := range list {
			b := c.brokers[m.Node-1]
			if s.now-b.heard <= s.profile.session && b.disk == m.Disk && !b.suspect {
				n++
			}
		}
		if len(list) > 0 && n <= len(list)/2 {
			return false
		}
	}
	return true
}

// lost says that a member's disk was wiped.
func (c *controller) lost(m replication.Member) bool { return c.brokers[m.Node-1].disk > m.Disk }

// withoutLost drops learners that are gone: they do not count, so that is no change of
// who votes.
func (c *controller) withoutLost(set replication.ReplicaSet) replication.ReplicaSet {
	set = set.Clone()
	set.Learners = slices.DeleteFunc(set.Learners, c.lost)
	return set
}

// change moves a change of the replica set on by one step, or begins one.
func (c *controller) change(s *Sim, st state) {
	set := c.withoutLost(st.set)
	switch {
	case len(set.Joining) > 0:
		if c.serving == st.epoch || s.breaks.FinishEarly {
			set.Members, set.Joining = set.Joining, nil
			if s.beginEpoch(st.epoch, set) {
				s.result.Changes++
			}
		}
	case len(set.Learners) != len(st.set.Learners):
		s.beginEpoch(st.epoch, set)
	case len(set.Learners) > 0:
		for _, m := range set.Learners {
			if c.learnt != st.epoch || c.learned&(1<<m.Node) == 0 {
				return
			}
		}
		target := c.target(s, set)
		set.Learners = nil
		if s.breaks.ChangeAtOnce {
			set.Members = target
		} else {
			set.Joining = target
		}
		s.beginEpoch(st.epoch, set)
	case slices.ContainsFunc(set.Members, c.lost), !s.healing && s.chance(s.profile.change):
		c.beginChange(s, st, set)
	}
}

// beginChange adds a learner, or drops a member if there is nobody to add.
func (c *controller) beginChange(s *Sim, st state, set replication.ReplicaSet) {
	for _, i := range s.rng.Perm(len(s.brokers)) {
		m := replication.Member{Node: uint32(i + 1), Disk: c.brokers[i].disk}
		if m.Disk == 0 || slices.Contains(set.Members, m) || s.now-c.brokers[i].heard > s.profile.session {
			continue
		}
		set.Learners = append(set.Learners, m)
		if !s.chance(0.2) {
			break
		}
	}
	if len(set.Learners) == 0 {
		least := 3
		if s.profile.faults[faultWipe]+s.profile.faults[faultDamage] > 0 {
			least = 4 // of two no disk may fail
		}
		if len(set.Members) < least || s.healing && !slices.ContainsFunc(set.Members, c.lost) {
			return
		}
		set.Joining = slices.Clone(set.Members)
		i := s.pick(len(set.Joining))
		if j := slices.IndexFunc(set.Joining, c.lost); j >= 0 {
			i = j
		}
		set.Joining = slices.Delete(set.Joining, i, i+1)
	}
	s.beginEpoch(st.epoch, set)
}

// target is the members of the new set: the learners, and as many of the old ones as
// there is room for. One node holds one replica.
func (c *controller) target(s *Sim, set replication.ReplicaSet) []replication.Member {
	target := slices.Clone(set.Learners)
	want := max(len(target), s.profile.replicas)
	if s.chance(0.2) {
		want++
	}
	for _, i := range s.rng.Perm(len(set.Members)) {
		m := set.Members[i]
		sameNode := slices.ContainsFunc(target, func(t replication.Member) bool { return t.Node == m.Node })
		if !c.lost(m) && !sameNode && len(target) < want {
			target = append(target, m)
		}
	}
	return target
}
