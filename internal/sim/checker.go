package sim

import (
	"slices"

	"github.com/sequitur-mq/sequitur/replication"
)

// checker knows the truth: what was committed, by whom, and what each leader wrote.
type checker struct {
	committed []rec
	by        []uint32 // epoch whose leader committed it
	written   [][]rec  // per epoch, from its first offset on
	first     []int64
	leaders   []led // per epoch
	sequences [maxClients]uint32
	offsets   [maxClients]int64 // of each producer's last committed record
}

type led struct {
	member replication.Member
	life   uint32
}

// oldestNeeded is the offset below which retention may remove records.
func (c *checker) oldestNeeded() int64 {
	least := int64(len(c.committed))
	for i, o := range c.offsets {
		if c.sequences[i] > 0 {
			least = min(least, o)
		}
	}
	return least
}

func grow[T any](list []T, n int) []T {
	for len(list) <= n {
		list = append(list, *new(T))
	}
	return list
}

// alone says that nobody else holds records of an epoch.
func alone(set replication.ReplicaSet) bool {
	return len(set.Members) == 1 && len(set.Joining) == 0 && len(set.Learners) == 0
}

// checkLeader is called when a broker begins to lead.
func (s *Sim) checkLeader(b *broker, st state) {
	c := &s.checker
	c.leaders = grow(c.leaders, int(st.epoch))
	me := led{b.disk.member, b.life}
	before := c.leaders[st.epoch]
	c.leaders[st.epoch] = me
	switch {
	case before == (led{}) || before == me:
	case alone(st.set) && before.member == me.member:
		c.written[st.epoch] = nil // what it lost nobody has
	default:
		s.fail("epoch %d is led by %v in life %d and by %v in life %d", st.epoch, before.member, before.life, me.member, me.life)
	}
	s.checkHolds(b.disk, st, b.replica.Suspect())
}

// checkElected asks, when it is decided, that the leader holds what is committed.
func (s *Sim) checkElected(st state) {
	if b := s.brokerOf(st.leader); b != nil {
		s.checkHolds(b.disk, st, false) // damage may have been found since it voted
	}
}

// checkHolds fails unless a leader's disk has every record committed by leaders of older epochs.
func (s *Sim) checkHolds(d *disk, st state, suspect bool) {
	for i := len(s.checker.committed) - 1; i >= 0; i-- {
		r := s.checker.committed[i]
		if s.checker.by[i] >= st.epoch {
			continue // by this leader, or by a later one while this one slept
		}
		o := int64(i)
		if o < d.live.start {
			return
		}
		if o >= d.live.end() || d.live.log[o] != r || suspect && o >= d.holeFrom && o < d.holeTo {
			s.fail("replica %v is to lead epoch %d without the committed record %d of epoch %d; its log is [%d, %d), damaged [%d, %d)",
				st.leader, st.epoch, o, r.epoch, d.live.start, d.live.end(), d.holeFrom, d.holeTo)
			return
		}
	}
}

// checkWritten takes in what a leader appends.
func (s *Sim) checkWritten(b *broker, offset int64, r rec) {
	c := &s.checker
	n := int(r.epoch)
	c.written, c.first = grow(c.written, n), grow(c.first, n)
	if c.written[n] == nil {
		c.first[n] = offset
	}
	if at := offset - c.first[n]; at != int64(len(c.written[n])) {
		s.fail("replica %v writes offset %d of epoch %d for the second time", b.disk.member, offset, n)
		return
	}
	c.written[n] = append(c.written[n], r)
}

// checkHighWatermark compares what a replica newly considers committed with the truth,
// or adds to it.
func (s *Sim) checkHighWatermark(b *broker) {
	hw := b.replica.HighWatermark()
	if hw < b.highWatermark {
		s.fail("the high watermark of replica %v falls from %d to %d", b.disk.member, b.highWatermark, hw)
		return
	}
	if hw == b.highWatermark {
		return
	}
	s.trace(uint64(hw) ^ uint64(b.index)<<56)
	c, d := &s.checker, b.disk
	grown := false
	for i := max(b.highWatermark, d.live.start); i < hw; i++ {
		if i >= d.live.end() {
			s.fail("replica %v has the high watermark %d and a log that ends at %d", d.member, hw, d.live.end())
			return
		}
		r := d.live.log[i]
		if i < int64(len(c.committed)) {
			if c.committed[i] != r {
				s.fail("replica %v has %v committed at offset %d, others %v", d.member, r, i, c.committed[i])
				return
			}
			continue
		}
		grown = true
		c.committed = append(c.committed, r)
		c.by = append(c.by, b.replica.Epoch())
		s.checkSequence(i, r)
	}
	b.highWatermark = hw
	if grown {
		s.checkMajority(b, hw-1)
	}
}

func (s *Sim) checkSequence(offset int64, r rec) {
	if r.value == startRecord {
		return
	}
	c := &s.checker
	producer, sequence := r.value>>24, r.value&sequenceMask
	if sequence <= c.sequences[producer] {
		s.fail("record %d of producer %d is committed at offset %d, after record %d at %d",
			sequence, producer, offset, c.sequences[producer], c.offsets[producer])
	}
	c.sequences[producer], c.offsets[producer] = sequence, offset
}

// checkMajority fails unless a record that was committed just now is on the disks of a
// majority of each set.
func (s *Sim) checkMajority(b *broker, offset int64) {
	l := b.replica.Leader()
	if l == nil {
		s.fail("replica %v follows and knows first that offset %d is committed", b.disk.member, offset)
		return
	}
	set := s.setOf(l.Epoch())
	for _, list := range [][]replication.Member{set.Members, set.Joining} {
		n := 0
		for _, m := range list {
			if s.disks[m.Disk-1].holds(offset, s.checker.committed[offset]) {
				n++
			}
		}
		if len(list) > 0 && n <= len(list)/2 {
			s.fail("offset %d is committed in epoch %d and on %d of the disks of %v only", offset, l.Epoch(), n, list)
		}
	}
}

// setOf is the replica set of an epoch.
func (s *Sim) setOf(epoch uint32) replication.ReplicaSet {
	for i := len(s.store.states) - 1; i >= 0; i-- {
		if s.store.states[i].epoch == epoch {
			return s.store.states[i].set
		}
	}
	return replication.ReplicaSet{}
}

// checkAcked is called when a client is told that its record is stored.
func (s *Sim) checkAcked(b *broker, w waiter) {
	at := w.end - 1
	if w.acks == acksLeader {
		return
	}
	if at >= int64(len(s.checker.committed)) || s.checker.committed[at].value != w.value {
		s.fail("record %d of producer %d is acknowledged at offset %d and not committed", w.value&sequenceMask, w.value>>24, at)
		return
	}
	if w.acks != acksAll {
		return
	}
	for _, m := range s.setOf(b.leads).Voters() {
		if !s.disks[m.Disk-1].holds(at, s.checker.committed[at]) {
			s.fail("offset %d is acknowledged with acks all and is not on the disk of %v", at, m)
		}
	}
}

// checkEnd is called when everything came to rest.
func (s *Sim) checkEnd() {
	leader := s.brokerOf(s.store.last().leader)
	if leader == nil || !leader.up {
		s.fail("there is no leader in the end")
		return
	}
	c := &leader.disk.live
	if !slices.Equal(c.log[c.start:], s.checker.committed[c.start:]) {
		s.fail("the leader's log differs in the end from what was committed")
	}
}
