package controller

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/sequitur-mq/sequitur/consensus"
	"github.com/sequitur-mq/sequitur/partitions"
	"github.com/sequitur-mq/sequitur/replication"
	"github.com/sequitur-mq/sequitur/wire"
)

// Controller is the machine. Times are those of a clock that never goes back. It is
// not safe for concurrent use. Every event is followed, at once or after more of them,
// by Run. Outside of Became and Lost it does nothing.
type Controller struct {
	s Settings

	active   bool
	arriving bool // takes in what it finds
	term     uint64
	now      time.Duration
	ran      time.Duration // when Run was last called

	brokers map[uint32]*broker
	nodes   []*broker // ascending by node
	topics  map[wire.UUID]*topic
	names   []*topic // ascending by name
	applied uint64

	lastID   uint64
	dirty    []*part // to be judged by the next Run
	waiting  []*part // to be judged when their time has come
	begins   batch   // of BeginEpochs
	elects   batch   // of ElectLeaders
	effects  []Effect
	tallies  []tally
	requests []request          // of administrators, until their command is decided
	replan   bool               // replica sets are to be looked at
	orders   map[uint32]removal // brokers to be forgotten once they hold nothing
	balance  balance
	fresh    *partitions.Placement // of new partitions, for one Run
	resume   time.Duration         // nothing is proposed before, as a proposal failed
	voter    uint64                // id of the SetVoter under way
	voterAt  time.Duration
}

// batch gathers the partitions of one command. One of a kind is under way at a time,
// what comes meanwhile goes into the next.
type batch struct {
	id      uint64 // under way
	under   []*part
	begin   []consensus.BeginEpoch // for the next
	elect   []consensus.ElectLeader
	sent    []consensus.ElectLeader // of those under way
	next    []*part
	blocked []*part // came while one was under way
}

// topic is a topic as the controller sees it.
type topic struct {
	id    wire.UUID
	name  string
	rf    int
	parts []*part
}

// New returns a controller that is not in office.
func New(s Settings) *Controller { return &Controller{s: s.withDefaults()} }

// Active says whether the controller is in office.
func (c *Controller) Active() bool { return c.active }

// Term is the term for which it is, or was.
func (c *Controller) Term() uint64 { return c.term }

// Applied is the index of the last command of the metadata that it knows of.
func (c *Controller) Applied() uint64 { return c.applied }

// Became puts the controller in office for a term of Raft, with the metadata as they
// are. Nothing is known of any broker yet: all are probed at once.
func (c *Controller) Became(now time.Duration, term uint64, m *consensus.Machine) {
	*c = Controller{
		s: c.s, active: true, term: term, now: now, ran: now, lastID: c.lastID,
		brokers: map[uint32]*broker{}, topics: map[wire.UUID]*topic{}, orders: map[uint32]removal{},
		replan: true,
	}
	c.balance.quiet = now
	c.note("controller of term %d, %d brokers", term, len(m.Brokers()))
	for _, b := range m.Brokers() {
		c.putBroker(b, unknown)
		c.probe(c.brokers[b.Node])
	}
	c.arriving = true
	for t := range m.Topics() {
		c.putTopic(t)
	}
	c.arriving = false
	c.applied = m.Applied()
}

// Lost takes the controller out of office. What it proposed may come about still.
func (c *Controller) Lost() {
	if !c.active {
		return
	}
	replies := c.abandon()
	*c = Controller{s: c.s, term: c.term, lastID: c.lastID, effects: replies}
}

// Sync tells what changed in the metadata. m may be ahead of the changes.
func (c *Controller) Sync(now time.Duration, m *consensus.Machine, changes []consensus.Change) {
	if !c.active {
		return
	}
	c.now = now
	for i := range changes {
		change := &changes[i]
		switch change.Kind {
		case consensus.BrokersChanged:
			for _, node := range change.Brokers {
				c.syncBroker(m, node)
			}
		case consensus.PartitionsChanged:
			c.syncPartitions(m, change.Topic.ID, change.Partitions)
		case consensus.TopicCreated, consensus.TopicAltered, consensus.TopicDeleted:
			c.syncTopic(m, change.Topic.ID)
		}
	}
	c.applied = m.Applied()
}

func (c *Controller) syncTopic(m *consensus.Machine, id wire.UUID) {
	if t, there := m.TopicByID(id); there {
		c.putTopic(t)
		return
	}
	t, known := c.topics[id]
	if !known {
		return
	}
	for _, p := range t.parts {
		c.countLeader(p.meta.Leader, -1)
		p.gone = true
	}
	delete(c.topics, id)
	c.names = slices.DeleteFunc(c.names, func(o *topic) bool { return o == t })
}

func (c *Controller) syncPartitions(m *consensus.Machine, id wire.UUID, numbers []uint32) {
	t, there := m.TopicByID(id)
	own := c.topics[id]
	if !there || own == nil {
		c.syncTopic(m, id)
		return
	}
	for _, n := range numbers {
		c.putPart(own.parts[n], t.Partitions[n])
	}
}

func (c *Controller) putTopic(t *consensus.Topic) {
	own := c.topics[t.ID]
	if own == nil {
		own = &topic{id: t.ID, name: t.Name, rf: int(t.Config.ReplicationFactor)}
		c.topics[t.ID] = own
		at, _ := slices.BinarySearchFunc(c.names, own, func(a, b *topic) int {
			return cmp.Or(cmp.Compare(a.name, b.name), slices.Compare(a.id[:], b.id[:]))
		})
		c.names = slices.Insert(c.names, at, own)
	}
	if rf := int(t.Config.ReplicationFactor); rf != own.rf {
		own.rf = rf
		c.replan = true
	}
	for n := len(own.parts); n < len(t.Partitions); n++ {
		p := &part{topic: own, number: uint32(n)}
		own.parts = append(own.parts, p)
		c.touch(p)
	}
	for n := range own.parts {
		c.putPart(own.parts[n], t.Partitions[n])
	}
}

// all calls fn with every partition, topics by name, in order.
func (c *Controller) all(fn func(*part)) {
	for _, t := range c.names {
		for _, p := range t.parts {
			fn(p)
		}
	}
}

func (c *Controller) part(id wire.UUID, number uint32) *part {
	t := c.topics[id]
	if t == nil || uint64(number) >= uint64(len(t.parts)) {
		return nil
	}
	return t.parts[number]
}

// touch has a partition judged by the next Run.
func (c *Controller) touch(p *part) {
	if !p.dirty {
		p.dirty = true
		c.dirty = append(c.dirty, p)
	}
}

// wakeAt has a partition judged at a time, if nothing touches it before.
func (c *Controller) wakeAt(p *part, at time.Duration) {
	if !p.waits {
		p.waits = true
		p.wake = at
		c.waiting = append(c.waiting, p)
	}
	p.wake = min(p.wake, at)
}

func (c *Controller) id() uint64 {
	c.lastID++
	return c.lastID
}

func (c *Controller) note(format string, args ...any) {
	c.effects = append(c.effects, Note{Text: fmt.Sprintf(format, args...)})
}

func (c *Controller) warn(format string, args ...any) {
	c.effects = append(c.effects, Note{Warn: true, Text: fmt.Sprintf(format, args...)})
}

// Run does what is due, and returns all effects since the last Run, in order.
func (c *Controller) Run(now time.Duration) []Effect {
	c.now = now
	if c.active {
		c.forgiveOwnStall()
		c.ran = now
		c.runBrokers()
		c.runTimers()
		c.fresh = nil
		c.judge()
		if !c.urgent() {
			c.plan()
			c.balanceLeaders()
			c.judge() // what these have touched
		}
		c.chooseVoters()
		c.runOrders()
		c.noteTallies()
		c.flush()
	}
	effects := c.effects
	c.effects = nil
	return effects
}

// urgent says whether leaders are being elected: plans, which take their time, can wait.
func (c *Controller) urgent() bool {
	return c.begins.id != 0 || c.elects.id != 0 || len(c.begins.next)+len(c.elects.next) > 0
}

func (c *Controller) runTimers() {
	c.waiting = slices.DeleteFunc(c.waiting, func(p *part) bool {
		if p.gone || p.wake <= c.now {
			p.waits = false
			c.touch(p)
			return true
		}
		return false
	})
}

// judge looks at everything that was touched, in order of topic and partition.
func (c *Controller) judge() {
	dirty := c.dirty
	c.dirty = nil
	slices.SortFunc(dirty, func(a, b *part) int {
		return cmp.Or(cmp.Compare(a.topic.name, b.topic.name), slices.Compare(a.topic.id[:], b.topic.id[:]), cmp.Compare(a.number, b.number))
	})
	c.countMoves(dirty)
	for _, p := range dirty {
		p.dirty = false
		if !p.gone {
			c.judgePart(p)
		}
	}
}

// flush sends what has been gathered.
func (c *Controller) flush() {
	for _, b := range c.nodes {
		c.sendFence(b)
	}
	if c.begins.id == 0 && len(c.begins.next) > 0 {
		c.begins.id = c.propose(consensus.BeginEpochs{Items: c.begins.begin})
		c.begins.under, c.begins.next, c.begins.begin = c.begins.next, nil, nil
	}
	if c.elects.id == 0 && len(c.elects.next) > 0 {
		c.elects.id = c.propose(consensus.ElectLeaders{Items: c.elects.elect})
		c.elects.under, c.elects.sent = c.elects.next, c.elects.elect
		c.elects.next, c.elects.elect = nil, nil
	}
}

// proposeAgain is the pause after a proposal that failed.
const proposeAgain = 50 * time.Millisecond

// mustWait says whether a partition has to wait for the next command of its kind. It
// will be judged again then.
func (c *Controller) mustWait(b *batch, p *part) bool {
	switch {
	case b.id != 0:
		b.blocked = append(b.blocked, p)
	case c.now < c.resume:
		c.wakeAt(p, c.resume)
	default:
		return false
	}
	return true
}

func (c *Controller) propose(command consensus.Command) uint64 {
	id := c.id()
	c.effects = append(c.effects, Propose{ID: id, Command: command})
	return id
}

// Proposed tells the outcome of a Propose: after the machine applied the command, or
// the error that kept it from that. m is the machine as it is now.
func (c *Controller) Proposed(now time.Duration, id uint64, r consensus.Result, err error, m *consensus.Machine) {
	if !c.active || id == 0 {
		return
	}
	c.now = now
	if err != nil {
		c.warn("metadata command failed: %v", err)
		c.resume = now + proposeAgain
	}
	switch id {
	case c.begins.id:
		c.decided(&c.begins, m)
	case c.elects.id:
		c.decided(&c.elects, m)
	case c.voter:
		c.voter = 0
	default:
		c.requestDecided(id, r, err)
	}
	c.Sync(now, m, r.Changes)
}

// decided ends a batch: its partitions are judged again by what the metadata say now.
func (c *Controller) decided(b *batch, m *consensus.Machine) {
	for _, p := range b.under {
		p.pending = false
		if p.gone {
			continue
		}
		c.syncPartitions(m, p.topic.id, []uint32{p.number})
		c.touch(p)
	}
	for _, p := range b.blocked {
		c.touch(p)
	}
	for i := range b.sent {
		c.countLeader(b.sent[i].Leader, -1) // the metadata count from here on
	}
	b.id, b.under, b.blocked, b.sent = 0, nil, nil, nil
}

// Next is when Run is to be called at the latest, if nothing happens before.
func (c *Controller) Next() (at time.Duration, ok bool) {
	if !c.active {
		return 0, false
	}
	at = c.ran + c.s.SessionTimeout/12
	for _, b := range c.nodes {
		if b.inDoubt() {
			at = min(at, b.probed+probeAgain)
		}
	}
	for _, p := range c.waiting {
		at = min(at, p.wake)
	}
	return at, true
}

// member is the broker's disk of today as a replica; zero if there is no such broker.
func (c *Controller) member(node uint32) replication.Member {
	if b := c.brokers[node]; b != nil {
		return b.Member()
	}
	return replication.Member{}
}
