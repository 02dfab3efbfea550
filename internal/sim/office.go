package sim

import (
	"encoding/binary"
	"errors"
	"time"

	"github.com/sequitur-mq/sequitur/consensus"
	control "github.com/sequitur-mq/sequitur/consensus/controller"
	"github.com/sequitur-mq/sequitur/replication"
	"github.com/sequitur-mq/sequitur/wire"
)

// manager is who decides about leaders and replica sets, or believes to.
type manager interface {
	take(s *Sim)             // becomes the one in charge
	retire(s *Sim)           // learns that it is not any more
	receive(*Sim, *message)  // votes, heartbeats, answers
	tick(s *Sim)             // looks after everything
	disconnected(*Sim, int)  // the connection of a broker broke
	order(s *Sim, what uint) // an administrator wants something
}

// office is the controller of package consensus/controller and the driver around it,
// with the metadata machine of package consensus.
type office struct {
	index  uint8
	c      *control.Controller
	fences [maxBrokers]asked
}

// asked is a request for a vote under way.
type asked struct {
	id    uint64
	epoch uint32
}

// metadata is the machine, and what is on its way into it.
type metadata struct {
	machine *consensus.Machine
	index   uint64
	pending []func()
	term    uint64
	replica uint64 // requests of administrators
}

var theTopic = wire.UUID{1}

// callTimeout is after how many microseconds a call without answer has failed.
const callTimeout = 100_000

func (s *Sim) duration() time.Duration { return time.Duration(s.now) * time.Microsecond }

func (s *Sim) settings() control.Settings {
	ms := time.Millisecond
	p := &s.profile
	c := control.Settings{
		SessionTimeout: time.Duration(p.session) * time.Microsecond,
		ElectionWait:   5 * ms, HandoverWait: 20 * ms, ServeTimeout: 400 * ms, BackoffMin: 20 * ms, BackoffMax: 500 * ms,
		ReplaceAfter: time.Duration(p.replaceAfter) * time.Microsecond, BalanceAfter: 300 * ms,
	}
	c.Break.LeaveJointUnserved, c.Break.ElectWithoutMajority = s.breaks.FinishEarly, s.breaks.ElectByOne
	return c
}

// found founds the cluster: brokers are registered, and the topic is created.
func (s *Sim) found(set replication.ReplicaSet) {
	s.meta.machine = consensus.NewMachine()
	for _, b := range s.brokers {
		s.registerDisk(b, b.disk, 1)
	}
	s.decideNow(consensus.CreateTopics{Topics: []*consensus.Topic{{
		ID: theTopic, Name: "t", Config: wire.TopicConfig{Partitions: 1, ReplicationFactor: uint16(len(set.Members))},
		Partitions: []consensus.Partition{{Set: set}},
	}}})
}

// decideNow applies a command to the metadata and tells everybody.
func (s *Sim) decideNow(c consensus.Command) consensus.Result {
	m := &s.meta
	m.index++
	r, err := m.machine.Apply(m.index, consensus.Encode(c))
	if !s.check(err) {
		return r
	}
	s.follows()
	for _, o := range s.controllers {
		if o, ok := o.(*office); ok {
			o.c.Sync(s.duration(), m.machine, r.Changes)
			o.run(s)
		}
	}
	return r
}

// follows notes what the metadata say about the partition now.
func (s *Sim) follows() {
	t, ok := s.meta.machine.TopicByID(theTopic)
	if !ok {
		return
	}
	p, last := t.Partitions[0], s.store.last()
	if p.Epoch == last.epoch && p.Leader == last.leader {
		return
	}
	st := state{epoch: p.Epoch, leader: p.Leader, set: p.Set.Clone(), since: s.now}
	if st.leader.IsZero() {
		if last.set.Version != st.set.Version && len(last.set.Joining) > 0 && len(st.set.Joining) == 0 {
			s.result.Changes++
		}
		s.logf("epoch %d begins with %v joining %v learners %v", st.epoch, st.set.Members, st.set.Joining, st.set.Learners)
	} else {
		s.logf("epoch %d is to be led by %v", st.epoch, st.leader)
		s.result.Epochs++
		s.checkElected(st)
	}
	s.decide(st)
}

// propose has a command decided after a while. done is told, or that it failed, in
// which case it may have been decided nevertheless.
func (s *Sim) propose(c consensus.Command, done func(consensus.Result, error)) {
	s.proposeIf(func() bool { return true }, c, done)
}

// proposeIf decides nothing if the condition does not hold any more by then: a broker
// whose disk was wiped does not register the old one.
func (s *Sim) proposeIf(holds func() bool, c consensus.Command, done func(consensus.Result, error)) {
	m := &s.meta
	fails := !s.healing && s.chance(0.03)
	m.pending = append(m.pending, func() {
		var r consensus.Result
		if holds() && (!fails || s.chance(0.5)) {
			r = s.decideNow(c)
		}
		if fails {
			done(consensus.Result{}, errors.New("outcome unknown"))
			return
		}
		done(r, nil)
	})
	s.after(500+s.upTo(8_000), event{kind: onDecide, who: 255, arg: int32(len(m.pending) - 1)})
}

// registerDisk registers a disk and checks that it gets the number it has here.
func (s *Sim) registerDisk(b *broker, d *disk, life uint32) {
	r := s.decideNow(s.registration(b, d, life))
	if r.Broker.Disk != d.member.Disk {
		s.fail("the disk %v is registered as number %d", d.member, r.Broker.Disk)
	}
}

func (s *Sim) registration(b *broker, d *disk, life uint32) consensus.RegisterBroker {
	own := consensus.Broker{Node: uint32(b.index + 1), Session: uint64(life), Addr: "a", ClusterAddr: "c", Voter: true}
	binary.LittleEndian.PutUint32(own.DiskUUID[:], d.member.Disk)
	return consensus.RegisterBroker{Broker: own}
}

// register has a broker registered that is not yet, or not as the process it is now.
func (s *Sim) register(b *broker) {
	known, ok := s.meta.machine.Broker(uint32(b.index + 1))
	if !ok || known.Session < uint64(b.life) {
		for i := range s.controllers {
			s.send(message{kind: registerRequest, from: b.index, to: uint8(len(s.brokers) + i), sender: b.life, disk: b.disk.member.Disk})
		}
	}
}

func (o *office) take(s *Sim) {
	s.meta.term++
	o.c.Became(s.duration(), s.meta.term, s.meta.machine)
	o.run(s)
}

func (o *office) retire(s *Sim) {
	o.c.Lost()
	o.run(s)
}

func (o *office) tick(s *Sim) {
	s.after(s.profile.control/2+s.upTo(s.profile.control), event{kind: onControl, who: o.index})
	o.run(s)
}

func (o *office) disconnected(s *Sim, node int) {
	o.c.Disconnected(s.duration(), uint32(node+1))
	o.run(s)
}

func (o *office) receive(s *Sim, m *message) {
	now, node := s.duration(), uint32(m.from+1)
	switch m.kind {
	case heartbeat:
		if !o.c.Active() {
			return
		}
		if o.c.Heartbeat(now, s.heartbeatOf(m)) != nil {
			s.register(s.brokers[m.from])
		}
	case registerRequest:
		b := s.brokers[m.from]
		if o.c.Active() && b.disk.member.Disk == m.disk && b.life == m.sender {
			d := b.disk
			s.proposeIf(func() bool { return b.disk == d }, s.registration(b, d, m.sender), func(consensus.Result, error) {})
		}
	case fenceVote:
		if a := o.fences[m.from]; a.id != 0 && a.epoch == m.vote.Epoch {
			o.c.Fenced(now, node, a.id, m.vote.From, []control.Ballot{{Vote: m.vote}}, nil)
		}
	case fenceTimeout:
		o.c.Fenced(now, node, m.id, replication.Member{}, nil, errors.New("no answer"))
	case probeAnswer:
		result := control.ProbeAnswered
		if m.result == refused {
			result = control.ProbeRefused
		}
		o.c.Probed(now, node, m.id, result, uint64(m.sender))
	case probeTimeout:
		o.c.Probed(now, node, m.id, control.ProbeSilent, 0)
	}
	o.run(s)
}

func (s *Sim) heartbeatOf(m *message) *control.Heartbeat {
	h := &control.Heartbeat{Node: uint32(m.from + 1), Disk: m.disk, Session: uint64(m.sender)}
	item := control.FenceItem{Topic: theTopic, Epoch: m.epoch}
	if m.serving {
		h.Serving = append(h.Serving, item)
		for _, l := range s.setOf(m.epoch).Learners {
			if m.learners&(1<<l.Node) != 0 {
				h.CaughtUp = append(h.CaughtUp, control.CaughtUp{FenceItem: item, Member: l})
			}
		}
	}
	if m.suspect {
		h.Suspects = append(h.Suspects, control.Suspect{Topic: theTopic})
	}
	return h
}

// run carries out what the controller wants.
func (o *office) run(s *Sim) {
	for _, effect := range o.c.Run(s.duration()) {
		from := uint8(len(s.brokers)) + o.index
		switch e := effect.(type) {
		case control.Note:
			s.logf("controller %d: %s", o.index, e.Text)
		case control.SendFence:
			to := uint8(e.Node - 1)
			o.fences[to] = asked{e.ID, e.Items[0].Epoch}
			s.send(message{kind: fenceRequest, from: from, to: to, epoch: e.Items[0].Epoch})
			s.postIn(callTimeout, message{kind: fenceTimeout, from: to, to: from, id: e.ID})
		case control.SendProbe:
			to := uint8(e.Node - 1)
			s.send(message{kind: probeRequest, from: from, to: to, id: e.ID})
			s.postIn(callTimeout, message{kind: probeTimeout, from: to, to: from, id: e.ID})
		case control.Propose:
			s.propose(e.Command, func(r consensus.Result, err error) {
				o.c.Proposed(s.duration(), e.ID, r, err, s.meta.machine)
				o.run(s)
			})
		}
	}
}

// answerProbe says who is there, or that nobody is.
func (s *Sim) answerProbe(b *broker, m *message) {
	answer := message{kind: probeAnswer, from: b.index, to: m.from, id: m.id, sender: b.life}
	if !b.up {
		answer.result = refused
	}
	s.send(answer)
}

// order has an administrator want something.
func (o *office) order(s *Sim, what uint) {
	node := uint32(s.pick(len(s.brokers)) + 1)
	s.meta.replica++
	request := control.Request{Action: control.MoveLeader, Node: node, Topic: theTopic}
	switch what % 6 {
	case 0:
		request.Action = control.Drain
	case 1:
		request = control.Request{Action: control.Cancel}
	case 2:
		request = control.Request{Action: control.Rebalance}
	case 3, 4:
		t, _ := s.meta.machine.TopicByID(theTopic)
		config, least := t.Config, 1
		if s.profile.faults[faultWipe]+s.profile.faults[faultDamage] > 0 {
			least = 3 // of two no disk may fail
		}
		config.ReplicationFactor = uint16(least + s.pick(len(s.brokers)-least+1))
		s.propose(consensus.AlterTopic{ID: theTopic, Version: t.Version, Config: config}, func(consensus.Result, error) {})
		return
	}
	o.c.Request(s.duration(), s.meta.replica, request)
	o.run(s)
}
