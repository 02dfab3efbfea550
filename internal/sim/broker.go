package sim

import "github.com/sequitur-mq/sequitur/replication"

// broker is one process and the disk it runs on. It does what the driver in
// replication/replica and the session in replication/session do.
type broker struct {
	index       uint8
	up          bool
	life        uint32 // counts process starts
	pausedUntil int64
	disk        *disk
	replica     *replication.Replica
	applied     int // index into the metadata

	highWatermark int64 // of this life, as checked

	// While it leads:
	leads     uint32 // epoch
	mute      int    // records are sent so many times only, if not negative
	standing  []standing
	waiting   []waiter
	questions []question
	last      [maxClients]placed // per producer
}

// standing is a follower's fetch that is answered whenever there is something.
type standing struct {
	from    uint8
	life    uint32
	sent    int64 // data up to here is on its way
	hw      int64 // as told
	round   uint64
	started bool
}

// waiter is a client that waits for its record to be committed.
type waiter struct {
	client  uint8
	attempt int32
	value   uint32
	acks    acks
	end     int64
}

// question is a client that waits for a round.
type question struct {
	client  uint8
	attempt int32
	round   uint64
}

// placed is where a producer's last record is.
type placed struct {
	sequence uint32
	offset   int64
}

// start starts the broker's process.
func (s *Sim) start(b *broker) {
	d := b.disk
	b.up, b.pausedUntil = true, 0
	b.life++
	hint := d.live.hint
	if s.chance(0.3) || hint > d.live.end() {
		hint = 0
	}
	r, err := replication.NewReplica(replication.ReplicaConfig{
		Self: d.member, Fence: d.live.fence, Epochs: d.live.epochs(),
		Start: d.live.start, End: d.live.end(), Durable: d.live.end(), HighWatermark: max(hint, d.live.start),
		ResetAt: d.live.resetAt, ResetEpoch: d.live.resetEpoch, Suspect: d.holeTo > d.holeFrom || d.barred, Break: s.breaks.Breakage,
	})
	if !s.check(err) {
		return
	}
	if r.FenceEpoch() < d.voted && !s.breaks.ReadWithoutFence {
		s.fail("replica %v voted in epoch %d, after a restart its fence is %d", d.member, d.voted, r.FenceEpoch())
	}
	if d.holeTo > d.holeFrom {
		r.SetDamage(d.holeFrom)
	}
	b.replica, b.highWatermark = r, 0
	b.leads, b.standing, b.waiting, b.questions = 0, b.standing[:0], b.waiting[:0], b.questions[:0]
	s.logf("broker %d starts, life %d, log [%d, %d) epoch %d, fence %d", b.index+1, b.life, r.Start(), r.End(), r.LastEpoch(), r.FenceEpoch())
	// The metadata is applied anew, from some snapshot on.
	b.applied = s.pick(b.applied + 1)
	s.assign(b, s.store.states[b.applied])
	s.learn(b)
	if !s.profile.stub {
		s.register(b)
	}
	s.after(s.upTo(s.profile.tick), event{kind: onTick, who: b.index, life: b.life})
}

// crash ends the process. keep is the share of unsynced writes that survive.
func (s *Sim) crash(b *broker, keep float64) {
	if !b.up {
		return
	}
	b.up = false
	n := int(keep * float64(len(b.disk.writes)+1))
	b.disk.crash(min(n, len(b.disk.writes)))
	b.replica = nil
	s.result.Crashes++
	for i := range s.controllers {
		if !s.network.blocked[b.index][len(s.brokers)+i] {
			s.after(500+s.upTo(2_000), event{kind: onBroken, who: b.index, arg: int32(i)})
		}
	}
	s.logf("broker %d crashes, log ends at %d", b.index+1, b.disk.live.end())
}

// learn lets a broker learn of the newest metadata after a while.
func (s *Sim) learn(b *broker) {
	if !b.up {
		return
	}
	delay := s.upTo(s.profile.learn)
	if s.chance(s.profile.slow) {
		delay *= 10
	}
	s.after(delay, event{kind: onApply, who: b.index, life: b.life, arg: int32(len(s.store.states) - 1)})
}

func (s *Sim) apply(b *broker, to int) {
	if s.isolated(b) {
		s.learn(b)
		return
	}
	for s.err == nil && b.applied < to {
		b.applied++
		s.assign(b, s.store.states[b.applied])
	}
}

// assign tells the replica what was decided.
func (s *Sim) assign(b *broker, st state) {
	effect, err := b.replica.Assign(st.epoch, st.leader, st.set)
	if !s.check(err) {
		return
	}
	if b.disk.live.end() != b.replica.End() { // with a rule off
		b.disk.truncate(b.replica.End())
	}
	switch effect {
	case replication.BecomeLeader:
		s.becomeLeader(b, st)
	case replication.BecomeFollower:
		s.fetch(b, false)
	}
}

func (s *Sim) becomeLeader(b *broker, st state) {
	b.leads = st.epoch
	b.standing, b.waiting, b.questions = b.standing[:0], b.waiting[:0], b.questions[:0]
	s.logf("broker %d leads epoch %d of %v, log ends at %d", b.index+1, st.epoch, st.set, b.replica.End())
	s.checkLeader(b, st)
	b.last = [maxClients]placed{}
	for i := b.disk.live.start; i < b.disk.live.end(); i++ {
		b.remember(b.disk.live.log[i], i)
	}
	s.appendAsLeader(b, startRecord)
	s.doom(b)
}

func (b *broker) remember(r rec, offset int64) {
	if r.value != startRecord && r.value != 0 {
		b.last[r.value>>24] = placed{r.value & sequenceMask, offset}
	}
}

func (s *Sim) appendAsLeader(b *broker, value uint32) {
	l := b.replica.Leader()
	r := rec{l.Epoch(), value}
	s.checkWritten(b, l.End(), r)
	b.disk.append(r)
	b.remember(r, l.End())
	s.check(l.Appended(b.disk.live.end()))
}

// tick says again what may have been lost, and looks after the disk.
func (s *Sim) tick(b *broker) {
	s.after(s.profile.tick/2+s.upTo(s.profile.tick), event{kind: onTick, who: b.index, life: b.life})
	s.heartbeat(b)
	s.fetch(b, true)
	if s.chance(s.profile.retention) {
		s.retain(b)
	}
	if b.disk.holeTo > b.disk.holeFrom && !b.replica.Suspect() && s.chance(0.3) {
		s.logf("broker %d finds damage", b.index+1)
		b.replica.SetDamage(b.disk.holeFrom)
	}
	if b.replica.Suspect() {
		s.repair(b)
	}
}

// retain removes old records. A producer's last one stays, so that no retry is too old.
func (s *Sim) retain(b *broker) {
	c := &b.disk.live
	keep := min(b.replica.HighWatermark(), s.checker.oldestNeeded())
	if keep <= c.start || b.disk.holeTo > b.disk.holeFrom {
		return
	}
	start := c.start + 1 + s.upTo(keep-c.start)
	if s.check(b.replica.AdvanceStart(start)) {
		b.disk.retain(start)
	}
}

// repair fetches the damaged records anew, if another replica has them.
func (s *Sim) repair(b *broker) {
	d := b.disk
	if d.holeFrom == d.holeTo {
		if !d.barred {
			b.replica.SetSuspect(false)
		}
		return
	}
	if !s.chance(0.3) {
		return
	}
	// Any replica will do: the same epoch and offset are the same record.
	from := s.brokers[s.pick(len(s.brokers))]
	if from == b || !from.up || s.network.blocked[from.index][b.index] || from.disk.holeTo > from.disk.holeFrom {
		return
	}
	// What retention has removed there may go here too, damaged or not.
	if start := from.disk.live.start; start > d.holeFrom && start <= b.replica.HighWatermark() {
		if !s.check(b.replica.AdvanceStart(start)) {
			return
		}
		d.retain(max(start, d.live.start))
		if d.holeFrom = start; d.holeFrom >= d.holeTo {
			d.holeFrom, d.holeTo = 0, 0
			return
		}
	}
	// As far as the logs agree; what is behind may be cut off some day.
	for d.holeFrom < d.holeTo {
		i := max(d.holeFrom, d.live.start)
		if i >= from.disk.live.end() || i < from.disk.live.start || from.disk.live.log[i] != d.live.log[i] {
			b.replica.SetDamage(d.holeFrom)
			return
		}
		d.holeFrom = i + 1
	}
	d.holeFrom, d.holeTo = 0, 0
	b.replica.SetSuspect(false)
	s.logf("broker %d is repaired", b.index+1)
}

// brokerOf returns the broker on whose present disk a replica is.
func (s *Sim) brokerOf(m replication.Member) *broker {
	if m.IsZero() || s.brokers[m.Node-1].disk.member != m {
		return nil
	}
	return s.brokers[m.Node-1]
}

// heartbeat tells both controllers how the broker is.
func (s *Sim) heartbeat(b *broker) {
	m := message{kind: heartbeat, from: b.index, sender: b.life, disk: b.disk.member.Disk, suspect: b.replica.Suspect()}
	if l := b.replica.Leader(); l != nil {
		m.epoch, m.serving = l.Epoch(), l.Serving()
		for _, learner := range s.store.states[b.applied].set.Learners {
			if fetched, _, ok := l.Progress(learner); ok && fetched+4 >= l.End() {
				m.learners |= 1 << learner.Node
			}
		}
	}
	for i := range s.controllers {
		m.to = uint8(len(s.brokers) + i)
		s.send(m)
	}
}
