package sim

import (
	"fmt"
	"math/rand/v2"

	control "github.com/sequitur-mq/sequitur/consensus/controller"
	"github.com/sequitur-mq/sequitur/replication"
)

// Options choose a run.
type Options struct {
	Seed  uint64
	Break Breaks // rules switched off
	// Log is told what happens, line by line; nil for nothing.
	Log func(line string)
}

// Result is what became of a run.
type Result struct {
	Err   error  // the invariant that was broken, nil if none was
	Trace uint64 // hash of all that happened, in order

	Events    int   // how many things happened
	Epochs    int   // how many epochs had a leader
	Committed int64 // records
	Acked     int   // requests acknowledged
	Crashes   int
	Wipes     int
	Changes   int // of the replica set, completed
	Truncated int // times a follower truncated
	Resets    int // times a follower began anew
	Ends      int // questions for the end answered
	Virtual   int64
}

// Add sums up runs.
func (r *Result) Add(o Result) {
	r.Events += o.Events
	r.Epochs += o.Epochs
	r.Committed += o.Committed
	r.Acked += o.Acked
	r.Crashes += o.Crashes
	r.Wipes += o.Wipes
	r.Changes += o.Changes
	r.Truncated += o.Truncated
	r.Resets += o.Resets
	r.Ends += o.Ends
	r.Virtual += o.Virtual
}

// String is the figures in one line.
func (r Result) String() string {
	return fmt.Sprintf("%d events, %d epochs, %d records committed, %d requests answered (%d for the end), %d crashes, %d wipes, %d set changes, %d truncations, %d resets, %.0f s",
		r.Events, r.Epochs, r.Committed, r.Acked, r.Ends, r.Crashes, r.Wipes, r.Changes, r.Truncated, r.Resets, float64(r.Virtual)/1e6)
}

// Sim is one run.
type Sim struct {
	rng     *rand.Rand
	source  *rand.PCG
	now     int64
	queue   queue
	network network
	breaks  Breaks
	log     func(string)
	err     error
	result  Result

	profile     profile
	brokers     []*broker
	disks       []*disk // all there ever were, by number - 1
	store       store
	meta        metadata
	controllers [2]manager
	clients     []*client
	checker     checker
	healing     bool
	healedAt    int64
	rest        bool // everything came to rest
}

// Run runs a seed to its end.
func Run(o Options) Result {
	s := &Sim{source: rand.NewPCG(o.Seed, 0x5e9), breaks: o.Break, log: o.Log}
	s.rng = rand.New(s.source)
	s.setup()
	for s.err == nil {
		e, ok := s.queue.pop()
		if !ok {
			break
		}
		s.now = e.at
		s.result.Events++
		s.trace(uint64(e.at)<<16 ^ uint64(e.kind)<<8 ^ uint64(e.who))
		s.handle(e)
		if s.healing && s.quiet() {
			break
		}
	}
	if s.err == nil {
		s.checkEnd()
	}
	s.result.Err = s.err
	s.result.Committed = int64(len(s.checker.committed))
	s.result.Virtual = s.now
	return s.result
}

func (s *Sim) trace(x uint64) {
	h := s.result.Trace ^ x
	h *= 0x9e3779b97f4a7c15
	s.result.Trace = h ^ h>>29
}

func (s *Sim) chance(p float64) bool { return s.rng.Float64() < p }

// upTo returns 0..n-1, and 0 for n < 1.
func (s *Sim) upTo(n int64) int64 {
	if n < 1 {
		return 0
	}
	return int64(s.source.Uint64() % uint64(n))
}

func (s *Sim) pick(n int) int { return int(s.upTo(int64(n))) }

// fail ends the run: an invariant is broken.
func (s *Sim) fail(format string, args ...any) {
	if s.err == nil {
		s.err = fmt.Errorf(format, args...)
		s.logf("VIOLATED: %v", s.err)
	}
}

// check fails the run with an error of a machine.
func (s *Sim) check(err error) bool {
	if err != nil {
		s.fail("%w", err)
	}
	return err == nil
}

func (s *Sim) logf(format string, args ...any) {
	if s.log != nil {
		s.log(fmt.Sprintf("%9.3f ms  ", float64(s.now)/1000) + fmt.Sprintf(format, args...))
	}
}

func (s *Sim) after(delay int64, e event) {
	e.at = s.now + delay
	s.queue.push(e)
}

func (s *Sim) setup() {
	s.profile = s.drawProfile()
	p := &s.profile
	s.network.loss, s.network.duplication, s.network.slow, s.network.delay = p.loss, p.duplication, p.slow, p.delay
	for i := range p.brokers {
		b := &broker{index: uint8(i)}
		s.brokers = append(s.brokers, b)
		b.disk = s.newDisk(uint32(i + 1))
	}
	set := replication.ReplicaSet{Version: 1}
	for i := range p.replicas {
		set.Members = append(set.Members, s.brokers[i].disk.member)
	}
	s.store.states = []state{{}, {epoch: 1, set: set}}
	if p.stub {
		s.controllers = [2]manager{&controller{}, &controller{index: 1}}
	} else {
		s.controllers = [2]manager{&office{c: control.New(s.settings())}, &office{index: 1, c: control.New(s.settings())}}
		s.store.states = []state{{set: set}}
		s.found(set)
	}
	for i := range s.controllers {
		s.after(s.upTo(p.control), event{kind: onControl, who: uint8(i)})
	}
	s.controllers[0].take(s)
	for _, b := range s.brokers {
		s.start(b)
	}
	for i := range p.clients {
		s.clients = append(s.clients, &client{index: uint8(i)})
		s.after(s.upTo(20_000), event{kind: onClient, who: uint8(i), arg: 0})
	}
	s.after(s.upTo(p.faultEvery), event{kind: onFault})
	s.after(p.length, event{kind: onHeal})
}

func (s *Sim) newDisk(node uint32) *disk {
	d := &disk{member: replication.Member{Node: node, Disk: uint32(len(s.disks) + 1)}}
	s.disks = append(s.disks, d)
	return d
}

func (s *Sim) handle(e event) {
	switch e.kind {
	case onMessage:
		i := int(e.who)
		if i < len(s.brokers) && s.paused(s.brokers[i], e) {
			return
		}
		m := s.network.take(e.arg)
		switch k := i - len(s.brokers); {
		case k < 0:
			s.receive(s.brokers[i], &m)
		case k < len(s.controllers):
			s.controllers[k].receive(s, &m)
		default:
			s.clients[k-len(s.controllers)].receive(s, &m)
		}
	case onSync, onTick, onApply:
		b := s.brokers[e.who]
		if b.life != e.life || !b.up || s.paused(b, e) {
			return
		}
		switch e.kind {
		case onSync:
			s.synced(b, int(e.arg))
		case onTick:
			s.tick(b)
		case onApply:
			s.apply(b, int(e.arg))
		}
	case onControl:
		s.controllers[e.who].tick(s)
	case onClient:
		s.clients[e.who].wake(s, e.arg)
	case onRestart:
		if b := s.brokers[e.who]; !b.up && b.life == e.life {
			s.start(b)
		}
	case onFault:
		s.fault()
	case onDoom:
		if b := s.brokers[e.who]; b.up && b.life == e.life {
			s.meetDoom(b)
		}
	case onHeal:
		s.heal()
	case onLook:
		s.look()
	case onDecide:
		s.meta.pending[e.arg]()
		s.meta.pending[e.arg] = nil
	case onBroken:
		s.controllers[e.arg].disconnected(s, int(e.who))
	}
	if int(e.who) < len(s.brokers) && e.kind <= onApply || e.kind == onRestart {
		s.pump(s.brokers[e.who])
	}
}

// paused puts an event off if the broker's process is stopped.
func (s *Sim) paused(b *broker, e event) bool {
	if b.up && b.pausedUntil > s.now {
		e.at = b.pausedUntil + s.upTo(1000)
		s.queue.push(e)
		return true
	}
	return false
}
