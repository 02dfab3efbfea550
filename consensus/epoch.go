package consensus

import (
	"slices"

	"github.com/sequitur-mq/sequitur/replication"
	"github.com/sequitur-mq/sequitur/wire"
)

// BeginEpochs begins the next epoch of partitions, without a leader. From then on
// nothing can be elected for the old one. Each item is judged on its own; its error
// is ErrChanged if the epoch is no longer the one that the proposer saw.
type BeginEpochs struct{ Items []BeginEpoch }

// BeginEpoch is one partition of BeginEpochs.
type BeginEpoch struct {
	Topic     wire.UUID
	Partition uint32
	Seen      uint32 // the current epoch
	// Set is the replica set from this epoch on, nil if it stays. The machine gives
	// it the next version.
	Set *replication.ReplicaSet
}

// ElectLeaders gives epochs their leaders. Each item is judged on its own; its error is
// ErrChanged unless its epoch is current and has no other leader.
type ElectLeaders struct{ Items []ElectLeader }

// ElectLeader is one partition of ElectLeaders.
type ElectLeader struct {
	Topic     wire.UUID
	Partition uint32
	Epoch     uint32
	Leader    replication.Member
}

func (BeginEpochs) kind() commandKind  { return kindBeginEpochs }
func (ElectLeaders) kind() commandKind { return kindElectLeaders }

const (
	minBeginEpoch  = 16 + 4 + 4 + 1
	minElectLeader = 16 + 4 + 4 + minMember
)

func (c BeginEpochs) appendTo(dst []byte) []byte {
	dst = appendCount(dst, len(c.Items))
	for i := range c.Items {
		item := &c.Items[i]
		dst = append(dst, item.Topic[:]...)
		dst = le.AppendUint32(dst, item.Partition)
		dst = le.AppendUint32(dst, item.Seen)
		dst = append(dst, flag(item.Set != nil))
		if item.Set != nil {
			dst = appendSet(dst, item.Set)
		}
	}
	return dst
}

func (d *decoder) beginEpochs() (c BeginEpochs) {
	for range d.count(minBeginEpoch) {
		item := BeginEpoch{Topic: d.uuid(), Partition: d.u32(), Seen: d.u32()}
		if d.u8() != 0 {
			set := d.set()
			item.Set = &set
		}
		if d.err != nil {
			break
		}
		c.Items = append(c.Items, item)
	}
	return c
}

func (c ElectLeaders) appendTo(dst []byte) []byte {
	dst = appendCount(dst, len(c.Items))
	for i := range c.Items {
		item := &c.Items[i]
		dst = append(dst, item.Topic[:]...)
		dst = le.AppendUint32(dst, item.Partition)
		dst = le.AppendUint32(dst, item.Epoch)
		dst = appendMember(dst, item.Leader)
	}
	return dst
}

func (d *decoder) electLeaders() (c ElectLeaders) {
	if n := d.count(minElectLeader); n > 0 {
		c.Items = make([]ElectLeader, n)
	}
	for i := range c.Items {
		c.Items[i] = ElectLeader{Topic: d.uuid(), Partition: d.u32(), Epoch: d.u32(), Leader: d.member()}
	}
	return c
}

func (m *Machine) beginEpochs(c BeginEpochs) Result {
	r := Result{Errors: make([]error, len(c.Items))}
	e := edit{m: m}
	for i, item := range c.Items {
		r.Errors[i] = e.change(item.Topic, item.Partition, func(p Partition) (Partition, error) {
			if p.Epoch != item.Seen || p.Epoch == 1<<32-1 {
				return p, ErrChanged
			}
			if item.Set != nil {
				if len(item.Set.Members) == 0 {
					return p, wire.Errorf(wire.CodeInvalidRequest, "a replica set without members")
				}
				version := p.Set.Version + 1
				p.Set = *item.Set
				p.Set.Version = version
			}
			p.Epoch++
			p.Leader = replication.Member{}
			return p, nil
		})
	}
	r.Changes = e.publish()
	return r
}

func (m *Machine) electLeaders(c ElectLeaders) Result {
	r := Result{Errors: make([]error, len(c.Items))}
	e := edit{m: m}
	for i, item := range c.Items {
		r.Errors[i] = e.change(item.Topic, item.Partition, func(p Partition) (Partition, error) {
			switch {
			case p.Epoch != item.Epoch || p.Epoch == 0 || p.Leader != (replication.Member{}) && p.Leader != item.Leader:
				return p, ErrChanged
			case !slices.Contains(p.Set.Members, item.Leader) && !slices.Contains(p.Set.Joining, item.Leader):
				return p, wire.Errorf(wire.CodeInvalidRequest, "broker %d is not in the replica set that it shall lead", item.Leader.Node)
			}
			p.Leader = item.Leader
			return p, nil
		})
	}
	r.Changes = e.publish()
	return r
}

// An edit changes partitions of many topics. Topics that were published stay as they
// are: each one touched is copied, once.
type edit struct {
	m       *Machine
	order   []*Topic // copies
	touched map[wire.UUID]*Change
}

// change replaces a partition by what fn makes of it.
func (e *edit) change(id wire.UUID, number uint32, fn func(Partition) (Partition, error)) error {
	t, ok := e.m.byID[id]
	switch {
	case !ok:
		return wire.ErrUnknownTopic
	case int64(number) >= int64(len(t.Partitions)):
		return wire.ErrUnknownPartition
	}
	p, err := fn(t.Partitions[number])
	if err != nil {
		return err
	}
	c := e.touched[id]
	if c == nil {
		next := *t
		next.Partitions = slices.Clone(t.Partitions)
		c = &Change{Kind: PartitionsChanged, Topic: &next}
		if e.touched == nil {
			e.touched = map[wire.UUID]*Change{}
		}
		e.touched[id] = c
		e.order = append(e.order, &next)
		e.m.topics[next.Name], e.m.byID[id] = &next, &next
	}
	c.Topic.Partitions[number] = p
	c.Partitions = append(c.Partitions, number)
	return nil
}

// publish returns the changes, topics in the order in which they were touched,
// partitions ascending.
func (e *edit) publish() (changes []Change) {
	for _, t := range e.order {
		c := *e.touched[t.ID]
		slices.Sort(c.Partitions)
		c.Partitions = slices.Compact(c.Partitions)
		changes = append(changes, c)
	}
	return changes
}
