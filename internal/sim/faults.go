package sim

import (
	"errors"

	"github.com/sequitur-mq/sequitur/replication"
)

// faultKind is one thing that can go wrong.
type faultKind int

const (
	faultCrash faultKind = iota
	faultPowerCut
	faultPause
	faultIsolate
	faultOneWay
	faultReconnect
	faultWipe
	faultDamage
	faultControl
	faultLeader // crash the leader
	faultOrder  // nothing goes wrong, but an administrator wants something
	faultKinds
)

// fault lets something go wrong.
func (s *Sim) fault() {
	if s.healing {
		return
	}
	s.after(s.profile.faultEvery/2+s.upTo(s.profile.faultEvery), event{kind: onFault})
	total := 0
	for _, w := range s.profile.faults {
		total += w
	}
	if total == 0 {
		return
	}
	kind, at := faultKind(0), s.pick(total)
	for at >= s.profile.faults[kind] {
		at -= s.profile.faults[kind]
		kind++
	}
	b := s.brokers[s.pick(len(s.brokers))]
	switch kind {
	case faultCrash:
		s.crashFor(b)
	case faultPowerCut:
		for _, b := range s.brokers {
			s.crashFor(b)
		}
	case faultPause:
		b.pausedUntil = s.now + s.upTo(3*s.profile.session)
		s.logf("broker %d pauses", b.index+1)
	case faultIsolate:
		s.isolate(b)
	case faultOneWay:
		i := s.pick(len(s.brokers) + len(s.controllers))
		s.network.blocked[b.index][i] = true
		s.logf("nothing goes from broker %d to %d", b.index+1, i+1)
	case faultReconnect:
		s.reconnect(b)
	case faultWipe:
		s.wipe(b)
	case faultDamage:
		s.damage(b)
	case faultControl:
		i := s.pick(len(s.controllers))
		s.controllers[i].take(s)
		// The other one may go on for a while, not knowing.
		if s.chance(0.7) {
			s.controllers[1-i].retire(s)
		}
	case faultOrder:
		s.controllers[s.pick(len(s.controllers))].order(s, uint(s.pick(60)))
	case faultLeader:
		if b := s.brokerOf(s.store.last().leader); b != nil {
			s.crashFor(b)
		}
	}
}

// isolate cuts a broker off from the others, and perhaps from the controllers.
func (s *Sim) isolate(b *broker) {
	for i := range len(s.brokers) + len(s.controllers) {
		both := i < len(s.brokers) || s.chance(0.5)
		s.network.blocked[b.index][i], s.network.blocked[i][b.index] = both, both
	}
	s.logf("broker %d is cut off", b.index+1)
}

// reconnect lets a broker's links, or all, work again.
func (s *Sim) reconnect(b *broker) {
	if s.chance(0.5) {
		s.network.blocked = [16][16]bool{}
		s.logf("all links work")
		return
	}
	for i := range s.network.blocked {
		s.network.blocked[b.index][i], s.network.blocked[i][b.index] = false, false
	}
	s.logf("the links of broker %d work", b.index+1)
}

// isolated says whether a broker hears of nothing.
func (s *Sim) isolated(b *broker) bool {
	heard := 0
	for i := range s.brokers {
		if !s.network.blocked[i][b.index] {
			heard++
		}
	}
	return heard <= len(s.brokers)/2
}

// speak is called before a leader sends records. A doomed one is heard a few times only,
// but goes on hearing the others.
func (s *Sim) speak(b *broker) {
	if b.mute == 0 && !s.healing {
		if s.profile.oneMute {
			s.network.blocked = [16][16]bool{}
		}
		for i := range len(s.brokers) + len(s.controllers) {
			s.network.blocked[b.index][i] = true
		}
		s.logf("nothing goes out of broker %d", b.index+1)
	}
	b.mute--
}

// doom lets a leader fail soon.
func (s *Sim) doom(b *broker) {
	b.mute = -1
	if s.healing || !s.chance(s.profile.doomed) {
		return
	}
	if s.chance(0.5) {
		b.mute = s.pick(3)
	} else {
		s.after(s.upTo(s.profile.doomWithin), event{kind: onDoom, who: b.index, life: b.life})
	}
}

func (s *Sim) meetDoom(b *broker) {
	switch {
	case s.healing:
	case s.chance(0.3):
		s.crashFor(b)
	case s.chance(0.5):
		s.crash(b, 1)
		s.after(1_000+s.upTo(s.profile.restart), event{kind: onRestart, who: b.index, life: b.life})
	default:
		s.isolate(b)
	}
}

// crashFor crashes a broker and lets it start again later.
func (s *Sim) crashFor(b *broker) {
	keep := s.rng.Float64()
	if s.chance(0.3) {
		keep = 0
	}
	if s.profile.keepAll {
		keep = 1
	}
	s.crash(b, keep)
	s.after(1_000+s.upTo(s.profile.restart), event{kind: onRestart, who: b.index, life: b.life})
}

// bearable says whether a disk may fail: one at a time, and never one of a set that
// cannot do without.
func (s *Sim) bearable(b *broker) bool {
	for _, o := range s.brokers {
		if o.disk.holeTo > o.disk.holeFrom && o != b || o.disk.barred {
			return false
		}
	}
	set := s.store.last().set
	for _, m := range set.Members {
		if s.brokerOf(m) == nil {
			return false
		}
	}
	return len(set.Joining) == 0 && (len(set.Members) > 2 || !set.IsVoter(b.disk.member))
}

// wipe gives a broker an empty disk.
func (s *Sim) wipe(b *broker) {
	if !s.bearable(b) {
		return
	}
	s.crash(b, 0)
	s.result.Wipes++
	node := uint32(b.index + 1)
	if s.breaks.WipedSameIdentity || s.breaks.WipedUntilFirstFetch {
		b.disk = &disk{member: b.disk.member, barred: s.breaks.WipedUntilFirstFetch}
		s.disks[b.disk.member.Disk-1] = b.disk
	} else {
		b.disk = s.newDisk(node)
		if !s.profile.stub {
			s.registerDisk(b, b.disk, b.life+1)
		}
	}
	s.logf("the disk of broker %d is wiped, it is %v now", node, b.disk.member)
	s.after(1_000+s.upTo(100_000), event{kind: onRestart, who: b.index, life: b.life})
}

// damage spoils some records of a disk.
func (s *Sim) damage(b *broker) {
	d := b.disk
	if d.durable.end() <= d.durable.start || len(d.writes) > 0 || !s.bearable(b) {
		return
	}
	d.holeFrom = d.durable.start + s.upTo(d.durable.end()-d.durable.start)
	d.holeTo = min(d.durable.end(), d.holeFrom+1+s.upTo(5))
	s.logf("records [%d, %d) of broker %d are damaged", d.holeFrom, d.holeTo, b.index+1)
}

// heal ends all faults.
func (s *Sim) heal() {
	s.healing, s.healedAt = true, s.now
	n := &s.network
	n.loss, n.duplication, n.slow, n.blocked = 0, 0, 0, [16][16]bool{}
	s.profile.slowSync = 0
	s.logf("everything heals")
	for _, b := range s.brokers {
		b.pausedUntil = 0
		if !b.up {
			s.start(b)
			s.pump(b)
		}
	}
	s.controllers[0].take(s)
	s.controllers[1].retire(s)
	for _, c := range s.clients {
		if !c.busy {
			s.after(0, event{kind: onClient, who: c.index, arg: c.attempt})
		}
	}
	s.after(20_000, event{kind: onLook})
}

const (
	repairWithin = 500_000    // what cannot be repaired by then is replaced
	healWithin   = 10_000_000 // microseconds
)

// look looks whether everything came to rest.
func (s *Sim) look() {
	waited := s.now - s.healedAt
	if s.resting() {
		s.result.Virtual = s.now
		s.rest = true
		return
	}
	if waited > healWithin {
		s.stuck()
		return
	}
	if waited > repairWithin {
		for _, b := range s.brokers {
			if b.disk.holeTo > b.disk.holeFrom {
				s.wipe(b)
			}
		}
	}
	s.after(20_000, event{kind: onLook})
}

func (s *Sim) quiet() bool { return s.rest }

// resting says whether the partition is led, nobody waits, and all replicas are alike.
func (s *Sim) resting() bool {
	st := s.store.last()
	leader := s.brokerOf(st.leader)
	if leader == nil || !leader.up || leader.replica.Leader() == nil || !leader.replica.Leader().Serving() ||
		len(st.set.Joining)+len(st.set.Learners) > 0 {
		return false
	}
	for _, c := range s.clients {
		if c.busy || c.after == 0 {
			return false
		}
	}
	end := leader.replica.End()
	for _, m := range st.set.Members {
		b := s.brokerOf(m)
		if b == nil || !b.up || b.replica.Epoch() != st.epoch || b.replica.Role() == replication.RoleNone ||
			b.replica.End() != end || b.replica.DurableEnd() != end || b.replica.HighWatermark() != end || b.replica.Suspect() {
			return false
		}
	}
	return true
}

// ErrStuck says that a run was safe and did not complete after everything had healed.
var ErrStuck = errors.New("stuck")

// stuck fails the run: something did not complete.
func (s *Sim) stuck() {
	st := s.store.last()
	s.logf("epoch %d leader %v set %+v", st.epoch, st.leader, st.set)
	for _, b := range s.brokers {
		if b.up {
			r := b.replica
			s.logf("%v: %v in epoch %d, log [%d, %d) epoch %d, durable %d, high watermark %d, suspect %v, applied %d of %d", r.Self(), r.Role(),
				r.Epoch(), r.Start(), r.End(), r.LastEpoch(), r.DurableEnd(), r.HighWatermark(), r.Suspect(), b.applied, len(s.store.states))
		}
	}
	for _, c := range s.clients {
		s.logf("client %d: %+v", c.index, *c)
	}
	s.fail("%w: %d ms after everything healed epoch %d led by %v of %v did not come to rest", ErrStuck, (s.now-s.healedAt)/1000, st.epoch, st.leader, st.set)
}
