package consensus

import (
	"errors"
	"fmt"
	"iter"
	"maps"
	"math"

	"github.com/sequitur-mq/sequitur/wire"
)

// MaxNamedProducers bounds how many names the machine remembers.
const MaxNamedProducers = 100_000

// ErrChanged says that what a command was based on has changed meanwhile: read
// the state again and propose anew.
var ErrChanged = errors.New("metadata changed meanwhile")

// Machine is the metadata of a cluster. It is not safe for concurrent use.
type Machine struct {
	applied      uint64
	nextProducer uint64 // lowest producer id that was never given out
	topics       map[string]*Topic
	byID         map[wire.UUID]*Topic
	partitions   int                  // of all topics
	deleted      map[wire.UUID]uint32 // topics to be removed from disks -> their partitions
	named        map[string]NamedProducer
	brokers      map[uint32]Broker // by node id
	nextDisk     uint32            // lowest disk number that was never given out
	removed      [][16]byte        // disks removed or replaced, the newest last
	answered     answered          // commands that may be proposed twice
}

// NamedProducer is what a producer's name stands for.
type NamedProducer struct {
	ID    uint64
	Epoch uint32
}

// ChangeKind says what happened.
type ChangeKind uint8

// The changes that a command can make.
const (
	TopicCreated ChangeKind = iota + 1
	TopicAltered
	TopicDeleted
	PartitionsChanged // another epoch, leader or replica set
	BrokersChanged
	ProducerRaised // a named producer has a new epoch, or a new id: older ones are fenced
)

// A Change is something that brokers have to act upon.
type Change struct {
	Kind       ChangeKind
	Topic      *Topic        // as it is now, or was when it was deleted; nil if none is concerned
	Partitions []uint32      // of PartitionsChanged, ascending
	Brokers    []uint32      // of BrokersChanged: node ids, ascending
	Producer   NamedProducer // of ProducerRaised
}

// Result is what a command did.
type Result struct {
	// Errors has one entry per item of CreateTopics, DeleteTopics, BeginEpochs and
	// ElectLeaders in their order, nil for those that were done; one entry for the
	// other commands.
	Errors []error
	// Changes are what the command changed, in order; none if it was proposed twice.
	Changes []Change
	// Producer is what InitProducer gave out, or the first id of the block
	// that ReserveProducers gave out.
	Producer NamedProducer
	// Broker is the one registered, removed or set.
	Broker Broker
}

// NewMachine returns a machine that knows nothing.
func NewMachine() *Machine {
	return &Machine{
		nextProducer: 1, // 0 means no producer
		nextDisk:     1, // 0 means no disk
		topics:       map[string]*Topic{},
		byID:         map[wire.UUID]*Topic{},
		deleted:      map[wire.UUID]uint32{},
		named:        map[string]NamedProducer{},
		brokers:      map[uint32]Broker{},
	}
}

// Applied is the index of the last command applied, 0 if there was none.
func (m *Machine) Applied() uint64 { return m.applied }

// Topic looks a topic up by name.
func (m *Machine) Topic(name string) (*Topic, bool) { t, ok := m.topics[name]; return t, ok }

// TopicByID looks a topic up by UUID.
func (m *Machine) TopicByID(id wire.UUID) (*Topic, bool) { t, ok := m.byID[id]; return t, ok }

// Topics iterates over all topics in no order.
func (m *Machine) Topics() iter.Seq[*Topic] { return maps.Values(m.topics) }

// Named iterates over all named producers in no order.
func (m *Machine) Named() iter.Seq2[string, NamedProducer] { return maps.All(m.named) }

// NextProducer is the lowest producer id that was never given out.
func (m *Machine) NextProducer() uint64 { return m.nextProducer }

// Deleted iterates over the tombstones: topics that were deleted, with the number
// of their partitions, until PurgeTopics says that no disk holds them any more.
func (m *Machine) Deleted() iter.Seq2[wire.UUID, uint32] { return maps.All(m.deleted) }

// Counts returns the number of topics and of their partitions.
func (m *Machine) Counts() (topics, partitions int) { return len(m.topics), m.partitions }

// Apply applies the command with the given index. Indexes must grow. The error
// means that the command cannot be read: the state is then unchanged and wrong
// from here on, and the caller must stop.
func (m *Machine) Apply(index uint64, command []byte) (Result, error) {
	if index <= m.applied {
		return Result{}, fmt.Errorf("apply metadata command %d after %d: index does not grow", index, m.applied)
	}
	request, command, err := unwrap(command)
	var c Command
	if err == nil {
		c, err = Decode(command)
	}
	if err != nil {
		return Result{}, fmt.Errorf("apply metadata command %d: %w", index, err)
	}
	m.applied = index
	if r, again := m.answered.find(request); again {
		return r, nil
	}
	r := m.do(c)
	m.answered.add(request, r)
	return r, nil
}

func (m *Machine) do(c Command) Result {
	switch c := c.(type) {
	case CreateTopics:
		return m.createTopics(c)
	case AlterTopic:
		return m.alterTopic(c)
	case DeleteTopics:
		return m.deleteTopics(c)
	case PurgeTopics:
		return m.purgeTopics(c)
	case ReserveProducers:
		return m.reserveProducers(c)
	case InitProducer:
		return m.initProducer(c)
	case RegisterBroker:
		return m.registerBroker(c)
	case RemoveBroker:
		return m.removeBroker(c)
	case SetBroker:
		return m.setBroker(c)
	case SetVoter:
		return m.setVoter(c)
	case ImportState:
		return m.importState(c)
	case BeginEpochs:
		return m.beginEpochs(c)
	case ElectLeaders:
		return m.electLeaders(c)
	}
	panic(fmt.Sprintf("metadata command %T can be decoded and has no rule", c))
}

func (m *Machine) createTopics(c CreateTopics) Result {
	r := Result{Errors: make([]error, len(c.Topics))}
	for i, t := range c.Topics {
		if there, taken := m.topics[t.Name]; taken {
			if there.ID != t.ID {
				r.Errors[i] = wire.Errorf(wire.CodeTopicExists, "topic %q exists already", t.Name)
			}
			continue
		}
		_, taken := m.byID[t.ID]
		if _, was := m.deleted[t.ID]; taken || was {
			r.Errors[i] = wire.Errorf(wire.CodeTopicExists, "topic %q has the UUID %v of another", t.Name, t.ID)
			continue
		}
		m.put(t)
		r.Changes = append(r.Changes, Change{Kind: TopicCreated, Topic: t})
	}
	return r
}

func (m *Machine) put(t *Topic) {
	m.topics[t.Name], m.byID[t.ID] = t, t
	m.partitions += len(t.Partitions)
}

func (m *Machine) alterTopic(c AlterTopic) Result {
	t, ok := m.byID[c.ID]
	switch {
	case !ok:
		return failed(wire.ErrUnknownTopic)
	case t.Version != c.Version:
		return failed(fmt.Errorf("alter topic %q: %w", t.Name, ErrChanged))
	}
	next := *t
	next.Version++
	next.Config = c.Config
	m.topics[t.Name], m.byID[t.ID] = &next, &next
	return Result{Errors: []error{nil}, Changes: []Change{{Kind: TopicAltered, Topic: &next}}}
}

func (m *Machine) deleteTopics(c DeleteTopics) Result {
	r := Result{Errors: make([]error, len(c.IDs))}
	for i, id := range c.IDs {
		t, ok := m.byID[id]
		if !ok {
			r.Errors[i] = wire.ErrUnknownTopic
			continue
		}
		delete(m.topics, t.Name)
		delete(m.byID, id)
		m.partitions -= len(t.Partitions)
		m.deleted[id] = uint32(len(t.Partitions))
		r.Changes = append(r.Changes, Change{Kind: TopicDeleted, Topic: t})
	}
	return r
}

func (m *Machine) purgeTopics(c PurgeTopics) Result {
	for _, id := range c.IDs {
		delete(m.deleted, id)
	}
	return Result{Errors: []error{nil}}
}

func (m *Machine) reserveProducers(c ReserveProducers) Result {
	if m.nextProducer > math.MaxUint64-uint64(c.Count) {
		return failed(wire.Errorf(wire.CodeUnknown, "all producer ids were given out"))
	}
	first := m.nextProducer
	m.nextProducer += uint64(c.Count)
	return Result{Errors: []error{nil}, Producer: NamedProducer{ID: first}}
}

func (m *Machine) initProducer(c InitProducer) Result {
	p, ok := m.named[c.Name]
	switch {
	case c.ID != 0 && (c.ID != p.ID || c.Epoch != p.Epoch):
		return failed(wire.Errorf(wire.CodeProducerFenced,
			"a newer producer named %q has taken over; stop this one", c.Name))
	case ok && p.Epoch < math.MaxUint32:
		p.Epoch++
	case !ok && len(m.named) >= MaxNamedProducers:
		return failed(wire.Errorf(wire.CodeInvalidRequest,
			"%d producer names are in use, no more are taken: use fewer names, or producers without one", MaxNamedProducers))
	default:
		// A new name, or an epoch at its end: nothing of the old id can be
		// confused with the new one.
		r := m.reserveProducers(ReserveProducers{Count: 1})
		if r.Errors[0] != nil {
			return r
		}
		p = NamedProducer{ID: r.Producer.ID, Epoch: 1}
	}
	m.named[c.Name] = p
	return Result{Errors: []error{nil}, Producer: p, Changes: []Change{{Kind: ProducerRaised, Producer: p}}}
}

func failed(err error) Result { return Result{Errors: []error{err}} }
