package controller

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/sequitur-mq/sequitur/consensus"
	"github.com/sequitur-mq/sequitur/replication"
	"github.com/sequitur-mq/sequitur/wire"
)

// world is a cluster around a controller, in virtual time: the metadata machine, and
// brokers whose logs are lists of epochs. It carries out the controller's effects with
// delays, and checks that whoever is elected holds all that was committed.
type world struct {
	s       Settings
	c       *Controller
	term    uint64
	now     time.Duration
	queue   []scheduled
	seq     int
	m       *consensus.Machine
	index   uint64
	raft    bool // proposals come through
	brokers map[uint32]*fake
	lives   uint64 // sessions given out

	committed map[place][]uint32
	problems  []string
	lines     []string
	begun     int // epochs
	replies   map[uint64]Reply
	lastReply uint64
	reset     uint32      // the next probe of this broker is reset
	stray     func() bool // whether a follower copies nothing in this step; nil: never
}

type scheduled struct {
	at  time.Duration
	seq int
	fn  func()
}

type place struct {
	topic     wire.UUID
	partition uint32
}

// fake is a broker: a process with a disk.
type fake struct {
	node             uint32
	disk             uint32
	uuid             [16]byte
	rack             string
	session          uint64
	up, paused, away bool
	registered       bool
	slow             bool
	full             bool
	logs             map[place]*copied
}

type copied struct {
	log     []uint32
	fence   uint32
	adopted uint32 // highest fence adopted by this process
	leads   uint32 // epoch
	suspect bool
}

func newWorld(s Settings) *world {
	w := &world{s: s, m: consensus.NewMachine(), brokers: map[uint32]*fake{}, committed: map[place][]uint32{}, replies: map[uint64]Reply{}, raft: true}
	w.c = New(s)
	w.term = 1
	w.c.Became(0, 1, w.m)
	return w
}

func (w *world) after(d time.Duration, fn func()) {
	w.seq++
	w.queue = append(w.queue, scheduled{w.now + d, w.seq, fn})
}

func (w *world) nodes() []*fake {
	return slices.SortedFunc(maps.Values(w.brokers), func(a, b *fake) int { return cmp.Compare(a.node, b.node) })
}

func (w *world) say(format string, args ...any) {
	w.lines = append(w.lines, fmt.Sprintf("%7s  ", w.now)+fmt.Sprintf(format, args...))
}

// run lets time pass.
func (w *world) run(d time.Duration) {
	for end := w.now + d; w.now < end; {
		w.now += time.Millisecond
		slices.SortFunc(w.queue, func(a, b scheduled) int { return cmp.Or(cmp.Compare(a.at, b.at), cmp.Compare(a.seq, b.seq)) })
		for len(w.queue) > 0 && w.queue[0].at <= w.now {
			fn := w.queue[0].fn
			w.queue = w.queue[1:]
			fn()
		}
		if w.now%(5*time.Millisecond) == 0 {
			w.replicate()
		}
		for _, b := range w.nodes() {
			if (w.now-time.Duration(b.node)*7*time.Millisecond)%(100*time.Millisecond) == 0 {
				w.heartbeat(b)
			}
		}
		for _, e := range w.c.Run(w.now) {
			w.perform(e)
		}
	}
}

func (w *world) apply(c consensus.Command) consensus.Result {
	w.index++
	r, err := w.m.Apply(w.index, consensus.Encode(c))
	if err != nil {
		panic(err)
	}
	return r
}

// do has a command decided by somebody other than the controller.
func (w *world) do(c consensus.Command) consensus.Result {
	r := w.apply(c)
	w.c.Sync(w.now, w.m, r.Changes)
	return r
}

func (w *world) perform(e Effect) {
	switch e := e.(type) {
	case Note:
		w.say("%s", e.Text)
	case Reply:
		w.replies[e.ID] = e
		if e.Err != nil {
			w.say("answer: %v", e.Err)
		} else {
			w.say("answer: done, leads %d", e.Leaders)
		}
	case SendProbe:
		w.say("probe %d", e.Node)
		w.probe(w.c, e)
	case SendFence:
		w.say("fence %d: %s", e.Node, w.items(e.Items))
		w.fence(w.c, e)
	case Propose:
		w.say("propose %s", w.describe(e.Command))
		if b, ok := e.Command.(consensus.BeginEpochs); ok {
			w.begun += len(b.Items)
		}
		c := w.c
		if !w.raft {
			w.after(50*time.Millisecond, func() {
				c.Proposed(w.now, e.ID, consensus.Result{}, errors.New("no majority of voters"), w.m)
			})
			return
		}
		w.after(3*time.Millisecond, func() {
			r := w.apply(e.Command)
			for _, err := range r.Errors {
				if err != nil {
					w.say("refused: %v", err)
				}
			}
			if c != w.c {
				w.c.Sync(w.now, w.m, r.Changes)
			}
			c.Proposed(w.now, e.ID, r, nil, w.m)
		})
	}
}

func (w *world) probe(c *Controller, e SendProbe) {
	b := w.brokers[e.Node]
	switch {
	case w.reset == e.Node:
		w.reset = 0
		w.after(time.Millisecond, func() { c.Probed(w.now, e.Node, e.ID, ProbeSilent, 0) })
	case b == nil || !b.up && !b.away:
		w.after(time.Millisecond, func() { c.Probed(w.now, e.Node, e.ID, ProbeRefused, 0) })
	case b.paused || b.away:
		w.after(500*time.Millisecond, func() { c.Probed(w.now, e.Node, e.ID, ProbeSilent, 0) })
	default:
		w.after(time.Millisecond, func() { c.Probed(w.now, e.Node, e.ID, ProbeAnswered, b.session) })
	}
}

func (w *world) fence(c *Controller, e SendFence) {
	b := w.brokers[e.Node]
	life := b.session
	w.after(2*time.Millisecond, func() {
		if !b.up || b.paused || b.away || b.session != life {
			w.after(500*time.Millisecond, func() {
				c.Fenced(w.now, e.Node, e.ID, replication.Member{}, nil, errors.New("no answer"))
			})
			return
		}
		from := replication.Member{Node: b.node, Disk: b.disk}
		var ballots []Ballot
		for _, item := range e.Items {
			l := b.at(place{item.Topic, item.Partition})
			l.fence = max(l.fence, item.Epoch)
			l.adopted = max(l.adopted, item.Epoch)
			if l.leads < item.Epoch {
				l.leads = 0
			}
			ballots = append(ballots, Ballot{Vote: replication.Vote{
				From: from, Epoch: item.Epoch, LastEpoch: last(l.log), End: int64(len(l.log)), Suspect: l.suspect, Fence: l.fence,
			}})
		}
		w.after(2*time.Millisecond, func() { c.Fenced(w.now, e.Node, e.ID, from, ballots, nil) })
	})
}

func last(log []uint32) uint32 {
	if len(log) == 0 {
		return 0
	}
	return log[len(log)-1]
}

func (b *fake) at(p place) *copied {
	if b.logs[p] == nil {
		b.logs[p] = &copied{}
	}
	return b.logs[p]
}

func (b *fake) alive() bool { return b.up && !b.paused }

func (b *fake) member() replication.Member { return replication.Member{Node: b.node, Disk: b.disk} }

// holder is the live broker of a member, if its disk is that one.
func (w *world) holder(m replication.Member) *fake {
	if b := w.brokers[m.Node]; b != nil && b.alive() && b.registered && b.member() == m {
		return b
	}
	return nil
}

func (w *world) places() (all []place) {
	for _, t := range w.topics() {
		for i := range t.Partitions {
			all = append(all, place{t.ID, uint32(i)})
		}
	}
	return all
}

func (w *world) topics() []*consensus.Topic {
	return slices.SortedFunc(w.m.Topics(), func(a, b *consensus.Topic) int { return cmp.Compare(a.Name, b.Name) })
}

func (w *world) meta(p place) consensus.Partition {
	t, _ := w.m.TopicByID(p.topic)
	return t.Partitions[p.partition]
}

// replicate has leaders that were elected lead and the others copy, and commits what a
// majority of the set (of both if joint) holds.
func (w *world) replicate() {
	for _, p := range w.places() {
		meta := w.meta(p)
		leader := w.holder(meta.Leader)
		if meta.Leader.IsZero() || leader == nil {
			continue
		}
		l := leader.at(p)
		alone := len(meta.Set.Voters()) == 1 && len(meta.Set.Learners) == 0
		if l.fence > meta.Epoch || l.adopted < meta.Epoch && !alone || l.suspect {
			continue
		}
		if l.leads != meta.Epoch {
			l.leads, l.fence = meta.Epoch, meta.Epoch
			w.checkElected(p, meta, l)
			l.log = append(l.log, meta.Epoch)
		}
		for _, m := range append(meta.Set.Voters(), meta.Set.Learners...) {
			b := w.holder(m)
			if b == nil || b == leader || b.away || leader.away || b.slow || b.at(p).fence > meta.Epoch || w.stray != nil && w.stray() {
				continue
			}
			f := b.at(p)
			f.fence, f.leads = meta.Epoch, 0
			f.log = slices.Clone(l.log)
		}
		if w.holdsAll(p, meta.Set.Members, meta.Epoch, l.log) && (len(meta.Set.Joining) == 0 || w.holdsAll(p, meta.Set.Joining, meta.Epoch, l.log)) {
			w.committed[p] = slices.Clone(l.log)
		}
	}
}

func (w *world) checkElected(p place, meta consensus.Partition, l *copied) {
	done := w.committed[p]
	if len(l.log) < len(done) || !slices.Equal(l.log[:len(done)], done) {
		w.problems = append(w.problems, fmt.Sprintf("%v: %v leads epoch %d with log %v, committed was %v", w.now, meta.Leader, meta.Epoch, l.log, done))
	}
}

func (w *world) holdsAll(p place, set []replication.Member, epoch uint32, log []uint32) bool {
	n := 0
	for _, m := range set {
		// What is on a disk counts, whether its broker lives or not.
		if b := w.brokers[m.Node]; b != nil && b.member() == m && b.at(p).fence <= epoch && len(b.at(p).log) >= len(log) && slices.Equal(b.at(p).log[:len(log)], log) {
			n++
		}
	}
	return n > len(set)/2
}

// serves says whether the leader's start record is committed.
func (w *world) serves(p place) bool {
	meta := w.meta(p)
	b := w.holder(meta.Leader)
	return b != nil && b.at(p).leads == meta.Epoch && last(w.committed[p]) == meta.Epoch
}

func (w *world) heartbeat(b *fake) {
	if !b.alive() || b.away || !b.registered {
		return
	}
	h := &Heartbeat{Node: b.node, Disk: b.disk, Session: b.session, Applied: w.index, Full: b.full}
	for _, p := range w.places() {
		meta := w.meta(p)
		item := FenceItem{p.topic, p.partition, meta.Epoch}
		if meta.Leader == b.member() && w.serves(p) {
			h.Serving = append(h.Serving, item)
			for _, m := range meta.Set.Learners {
				if f := w.holder(m); f != nil && len(b.at(p).log)-len(f.at(p).log) <= 1 && f.at(p).fence == meta.Epoch {
					h.CaughtUp = append(h.CaughtUp, CaughtUp{item, m})
				}
			}
		}
		if b.at(p).suspect {
			h.Suspects = append(h.Suspects, Suspect{p.topic, p.partition})
		}
	}
	if err := w.c.Heartbeat(w.now, h); err != nil && w.c.Active() {
		w.say("%v", err)
		b.registered = false
	}
}

// start starts a broker's process, which registers.
func (w *world) start(node uint32, rack string) {
	b := w.brokers[node]
	if b == nil {
		b = &fake{node: node, rack: rack}
		w.brokers[node] = b
		w.newDisk(b)
	}
	if b.up {
		return
	}
	w.lives++
	b.up, b.paused, b.session = true, false, w.lives
	for _, l := range b.logs {
		l.adopted, l.leads = 0, 0
	}
	life := b.session
	w.register(b, life)
}

func (w *world) register(b *fake, life uint64) {
	w.after(5*time.Millisecond, func() {
		if !b.up || b.session != life {
			return
		}
		if !w.raft || b.away {
			w.register(b, life)
			return
		}
		voters := 0
		for _, b := range w.m.Brokers() {
			if b.Voter {
				voters++
			}
		}
		r := w.do(consensus.RegisterBroker{Broker: consensus.Broker{
			Node: b.node, DiskUUID: b.uuid, Rack: b.rack, Session: b.session, ClusterAddr: fmt.Sprintf("b%d:7651", b.node), Voter: voters < 5,
		}})
		b.disk, b.registered = r.Broker.Disk, true
	})
}

func (w *world) newDisk(b *fake) {
	w.lives++
	b.uuid, b.disk, b.registered = [16]byte{byte(b.node), byte(w.lives), byte(w.lives >> 8)}, 0, false
	b.logs = map[place]*copied{}
}

func (w *world) kill(node uint32) {
	b := w.brokers[node]
	if !b.up {
		return
	}
	b.up, b.registered = false, false
	c := w.c
	w.after(time.Millisecond, func() { c.Disconnected(w.now, node) })
}

// change puts a new controller into office.
func (w *world) change() {
	w.c.Lost()
	for _, e := range w.c.Run(w.now) {
		w.perform(e)
	}
	w.c = New(w.s)
	w.term++
	term := w.term
	c := w.c
	w.after(10*time.Millisecond, func() {
		if c == w.c {
			c.Became(w.now, term, w.m)
		}
	})
}

func (w *world) createTopic(name string, n uint32, rf int) error {
	id := wire.UUID{}
	copy(id[:], name)
	placed, err := PlaceTopic(w.m, id, n, rf)
	if err != nil {
		return err
	}
	config := wire.TopicConfig{Partitions: n, ReplicationFactor: uint16(rf)}
	r := w.do(consensus.CreateTopics{Topics: []*consensus.Topic{{ID: id, Name: name, Config: config, Partitions: placed}}})
	return r.Errors[0]
}

func (w *world) alterReplication(name string, rf int) {
	t, _ := w.m.Topic(name)
	config := t.Config
	config.ReplicationFactor = uint16(rf)
	w.do(consensus.AlterTopic{ID: t.ID, Version: t.Version, Config: config})
}

func (w *world) order(r Request) uint64 {
	w.lastReply++
	w.c.Request(w.now, w.lastReply, r)
	return w.lastReply
}

func (w *world) topicName(id wire.UUID) string {
	if t, ok := w.m.TopicByID(id); ok {
		return t.Name
	}
	return "deleted"
}

func (w *world) items(items []FenceItem) string {
	var list []string
	for _, i := range items {
		list = append(list, fmt.Sprintf("%s/%d@%d", w.topicName(i.Topic), i.Partition, i.Epoch))
	}
	return abbreviate(list)
}

func abbreviate(list []string) string {
	if len(list) > 4 {
		return fmt.Sprintf("%s, %s .. %s (%d)", list[0], list[1], list[len(list)-1], len(list))
	}
	return strings.Join(list, ", ")
}

func describeSet(s replication.ReplicaSet) string {
	text := fmt.Sprint(s.Members)
	if len(s.Joining) > 0 {
		text += fmt.Sprint(" and ", s.Joining)
	}
	if len(s.Learners) > 0 {
		text += fmt.Sprint(" learners ", s.Learners)
	}
	return text
}

func (w *world) describe(c consensus.Command) string {
	var list []string
	switch c := c.(type) {
	case consensus.BeginEpochs:
		for _, i := range c.Items {
			text := fmt.Sprintf("%s/%d@%d", w.topicName(i.Topic), i.Partition, i.Seen+1)
			if i.Set != nil {
				text += " " + describeSet(*i.Set)
			}
			list = append(list, text)
		}
		return "epochs " + abbreviate(list)
	case consensus.ElectLeaders:
		for _, i := range c.Items {
			list = append(list, fmt.Sprintf("%s/%d@%d led by %v", w.topicName(i.Topic), i.Partition, i.Epoch, i.Leader))
		}
		return "leaders " + abbreviate(list)
	}
	return fmt.Sprintf("%T %+v", c, c)
}

// state describes all partitions and brokers.
func (w *world) state() (lines []string) {
	for _, t := range w.topics() {
		for i := range t.Partitions {
			p := &t.Partitions[i]
			text := fmt.Sprintf("%s/%d@%d", t.Name, i, p.Epoch)
			switch {
			case p.Leader.IsZero():
				text += " without leader"
			case w.serves(place{t.ID, uint32(i)}):
				text += fmt.Sprintf(" led by %v", p.Leader)
			default:
				text += fmt.Sprintf(" elected %v", p.Leader)
			}
			lines = append(lines, text+" of "+describeSet(p.Set))
		}
	}
	return lines
}
