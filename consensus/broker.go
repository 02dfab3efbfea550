package consensus

import (
	"cmp"
	"maps"
	"slices"

	"github.com/sequitur-mq/sequitur/replication"
	"github.com/sequitur-mq/sequitur/wire"
)

// Broker is one broker as the machine knows it.
type Broker struct {
	Node uint32 // the operator's number
	// Disk is the number that the machine gave to DiskUUID, counted over the cluster
	// from 1 and never given out again. A broker whose disk was replaced has another.
	Disk        uint32
	DiskUUID    [16]byte
	Addr        string // host:port for clients
	ClusterAddr string // host:port for brokers
	Rack        string
	Version     string // of the program
	Session     uint64 // of its process: another one means that it was restarted
	Draining    bool   // it shall lead nothing and hold nothing
	Voter       bool   // it shall vote in Raft
}

// Member is the broker's disk as a replica.
func (b *Broker) Member() replication.Member {
	return replication.Member{Node: b.Node, Disk: b.Disk}
}

// RegisterBroker makes a broker known, or what it says about itself up to date. With
// the disk that is known for the node it keeps number, Draining and Voter; with
// another one it is a new broker under the old name: the machine gives the disk a
// new number, and Voter is as in the command. Result.Broker is what is registered.
// A disk that another node has registered is refused, and so is one that was replaced
// or whose broker was removed: a command that comes late must not bring it back.
type RegisterBroker struct{ Broker Broker }

// RemoveBroker forgets a broker. It is refused while a disk of the node is in the
// replica set of any partition. Removing one that is not there does nothing. Its disk
// is not taken again: a broker that was removed while it runs shall not come back by
// itself.
type RemoveBroker struct{ Node uint32 }

// SetBroker says whether a broker is draining. The result is ErrChanged if there is
// no such broker.
type SetBroker struct {
	Node     uint32
	Draining bool
}

// SetVoter says whether a broker shall vote in Raft, if it has that disk still;
// ErrChanged otherwise. The driver of Raft follows.
type SetVoter struct {
	Member replication.Member
	Voter  bool
}

// ImportState founds a cluster upon the state of a standalone broker: topics,
// producers and tombstones as Machine.Snapshot gave them. It is refused with
// TOPIC_EXISTS once the cluster has a topic or tombstone of its own.
type ImportState struct{ Snapshot []byte }

func (RegisterBroker) kind() commandKind { return kindRegisterBroker }
func (RemoveBroker) kind() commandKind   { return kindRemoveBroker }
func (SetBroker) kind() commandKind      { return kindSetBroker }
func (SetVoter) kind() commandKind       { return kindSetVoter }
func (ImportState) kind() commandKind    { return kindImportState }

func (c RegisterBroker) appendTo(dst []byte) []byte { return c.Broker.appendTo(dst) }

func (c RemoveBroker) appendTo(dst []byte) []byte { return le.AppendUint32(dst, c.Node) }

func (c SetBroker) appendTo(dst []byte) []byte {
	return append(le.AppendUint32(dst, c.Node), flag(c.Draining))
}

func (c SetVoter) appendTo(dst []byte) []byte {
	return append(appendMember(dst, c.Member), flag(c.Voter))
}

func (c ImportState) appendTo(dst []byte) []byte { return appendBytes(dst, c.Snapshot) }

// maxRemoved bounds how many disks are remembered as removed or replaced.
const maxRemoved = 1000

func flag(b bool) byte {
	if b {
		return 1
	}
	return 0
}

func (b *Broker) appendTo(dst []byte) []byte {
	return appendSized(dst, func(dst []byte) []byte {
		dst = le.AppendUint32(dst, b.Node)
		dst = le.AppendUint32(dst, b.Disk)
		dst = append(dst, b.DiskUUID[:]...)
		dst = appendBytes(dst, b.Addr)
		dst = appendBytes(dst, b.ClusterAddr)
		dst = appendBytes(dst, b.Rack)
		dst = appendBytes(dst, b.Version)
		dst = le.AppendUint64(dst, b.Session)
		return append(dst, flag(b.Draining), flag(b.Voter))
	})
}

func (d *decoder) broker() Broker {
	in := d.sized()
	defer d.join(in)
	return Broker{
		Node: in.u32(), Disk: in.u32(), DiskUUID: in.uuid(),
		Addr: string(in.bytes()), ClusterAddr: string(in.bytes()), Rack: string(in.bytes()), Version: string(in.bytes()),
		Session: in.u64(), Draining: in.u8() != 0, Voter: in.u8() != 0,
	}
}

// Brokers returns all brokers, ascending by node id.
func (m *Machine) Brokers() []Broker {
	return slices.SortedFunc(maps.Values(m.brokers), func(a, b Broker) int { return cmp.Compare(a.Node, b.Node) })
}

// Broker looks a broker up by node id.
func (m *Machine) Broker(node uint32) (Broker, bool) { b, ok := m.brokers[node]; return b, ok }

func (m *Machine) registerBroker(c RegisterBroker) Result {
	b := c.Broker
	for _, other := range m.brokers {
		if other.DiskUUID == b.DiskUUID && other.Node != b.Node {
			return failed(wire.Errorf(wire.CodeInvalidConfig,
				"the disk of broker %d is registered by broker %d: a data directory was copied, or a node id changed; give the broker its old node id or an empty data directory", b.Node, other.Node))
		}
	}
	if slices.Contains(m.removed, b.DiskUUID) {
		return failed(wire.Errorf(wire.CodeInvalidConfig,
			"the disk of broker %d was removed from the cluster or replaced by another; give the broker an empty data directory to let it join again", b.Node))
	}
	switch old, known := m.brokers[b.Node]; {
	case known && old.DiskUUID == b.DiskUUID:
		b.Disk, b.Draining, b.Voter = old.Disk, old.Draining, old.Voter
		if b == old {
			return Result{Errors: []error{nil}, Broker: b}
		}
	default:
		if known {
			m.forgetDisk(old.DiskUUID)
		}
		b.Disk, b.Draining = m.nextDisk, false
		m.nextDisk++
	}
	m.brokers[b.Node] = b
	return Result{Errors: []error{nil}, Broker: b, Changes: brokerChanged(b.Node)}
}

func brokerChanged(node uint32) []Change {
	return []Change{{Kind: BrokersChanged, Brokers: []uint32{node}}}
}

func (m *Machine) removeBroker(c RemoveBroker) Result {
	b, ok := m.brokers[c.Node]
	if !ok {
		return Result{Errors: []error{nil}}
	}
	var first string
	count := 0
	for _, t := range m.topics {
		for i := range t.Partitions {
			if slices.Contains(t.Partitions[i].Nodes(), c.Node) {
				count++
				if first == "" || t.Name < first {
					first = t.Name
				}
			}
		}
	}
	if count > 0 {
		return failed(wire.Errorf(wire.CodeInvalidRequest,
			"broker %d is a replica of %d partitions, of topic %q for one: drain it first and wait until that is done", c.Node, count, first))
	}
	delete(m.brokers, c.Node)
	m.forgetDisk(b.DiskUUID)
	return Result{Errors: []error{nil}, Broker: b, Changes: brokerChanged(c.Node)}
}

// forgetDisk sees to it that a disk does not come back.
func (m *Machine) forgetDisk(disk [16]byte) {
	m.removed = append(m.removed, disk)
	m.removed = slices.Clone(m.removed[max(0, len(m.removed)-maxRemoved):])
}

func (m *Machine) setBroker(c SetBroker) Result {
	b, ok := m.brokers[c.Node]
	if !ok {
		return failed(ErrChanged)
	}
	changed := b.Draining != c.Draining
	b.Draining = c.Draining
	return m.putBroker(b, changed)
}

func (m *Machine) setVoter(c SetVoter) Result {
	b, ok := m.brokers[c.Member.Node]
	if !ok || b.Disk != c.Member.Disk {
		return failed(ErrChanged)
	}
	changed := b.Voter != c.Voter
	b.Voter = c.Voter
	return m.putBroker(b, changed)
}

func (m *Machine) putBroker(b Broker, changed bool) Result {
	r := Result{Errors: []error{nil}, Broker: b}
	if changed {
		m.brokers[b.Node] = b
		r.Changes = brokerChanged(b.Node)
	}
	return r
}

func (m *Machine) importState(c ImportState) Result {
	if len(m.topics) > 0 || len(m.deleted) > 0 {
		return failed(wire.Errorf(wire.CodeTopicExists, "the cluster has topics already: only an empty one can take over the state of a standalone broker"))
	}
	from := NewMachine()
	if err := from.Restore(c.Snapshot); err != nil {
		return failed(wire.Errorf(wire.CodeInvalidRequest, "import state: %v", err))
	}
	m.topics, m.byID, m.partitions = from.topics, from.byID, from.partitions
	m.deleted = from.deleted
	for name, p := range m.named { // named before the import: the higher epoch of the same id fences
		if _, there := from.named[name]; !there {
			from.named[name] = p
		}
	}
	m.named = from.named
	m.nextProducer = max(m.nextProducer, from.nextProducer)
	r := Result{Errors: []error{nil}}
	for _, t := range sortedTopics(m.topics) {
		r.Changes = append(r.Changes, Change{Kind: TopicCreated, Topic: t})
	}
	return r
}
