package wire

import "slices"

// MetadataRequest asks who leads what.
type MetadataRequest struct {
	Topics []string // empty: all topics, internal ones included
}

// MetadataResponse describes the cluster as far as clients need it.
type MetadataResponse struct {
	Status
	Brokers    []BrokerMetadata
	Controller uint32 // broker id
	Topics     []TopicMetadata
}

// BrokerMetadata says where a broker listens.
type BrokerMetadata struct {
	ID   uint32
	Addr string // host:port of the native protocol
	Rack string // failure domain, empty if none is configured
}

// TopicMetadata describes one topic. Unless Code is CodeNone only Code and Name
// are meaningful.
type TopicMetadata struct {
	Code       Code
	Name       string
	UUID       UUID
	Config     TopicConfig
	Internal   bool
	Partitions []PartitionMetadata // index = partition number
}

// PartitionMetadata says who leads a partition.
type PartitionMetadata struct {
	Leader   uint32 // broker id
	Epoch    uint32 // of the leader
	Replicas []uint32
}

// Err is the error of this topic, or nil.
func (t *TopicMetadata) Err() error {
	if t.Code == CodeNone {
		return nil
	}
	return Errorf(t.Code, "topic %q: %s", t.Name, t.Code.Message())
}

const (
	minBroker    = 4 + 1
	minTopic     = 2 + 1 + 16 + 1 + minTopicConfig + 1 + 1
	minPartition = 4 + 4 + 1
)

// AppendTo appends the encoded message.
func (m *MetadataRequest) AppendTo(dst []byte) []byte { return appendNames(dst, m.Topics) }

// Decode reads the message.
func (m *MetadataRequest) Decode(b []byte) error {
	r := newReader(b)
	m.Topics = readNames(&r, m.Topics)
	return r.finish("metadata request")
}

// AppendTo appends the encoded message.
func (m *MetadataResponse) AppendTo(dst []byte) []byte {
	dst = m.Status.appendTo(dst)
	if m.failed() {
		return dst
	}
	dst = appendCount(dst, len(m.Brokers))
	for i := range m.Brokers {
		dst = appendU32(dst, m.Brokers[i].ID)
		dst = appendString(dst, m.Brokers[i].Addr)
	}
	dst = appendU32(dst, m.Controller)
	dst = appendCount(dst, len(m.Topics))
	for i := range m.Topics {
		dst = m.Topics[i].appendTo(dst)
	}
	return m.appendRacks(dst)
}

// appendRacks appends the racks in the order of the brokers, behind everything that
// older decoders read; an empty array if there are none.
func (m *MetadataResponse) appendRacks(dst []byte) []byte {
	if !slices.ContainsFunc(m.Brokers, func(b BrokerMetadata) bool { return b.Rack != "" }) {
		return appendCount(dst, 0)
	}
	dst = appendCount(dst, len(m.Brokers))
	for i := range m.Brokers {
		dst = appendString(dst, m.Brokers[i].Rack)
	}
	return dst
}

func (m *MetadataResponse) readRacks(r *reader) {
	n := r.items(1)
	if n != 0 && n != len(m.Brokers) {
		r.fail("%d racks for %d brokers", n, len(m.Brokers))
		n = 0
	}
	for i := range n {
		m.Brokers[i].Rack = r.str()
	}
	r.endItems()
}

// Decode reads the message.
func (m *MetadataResponse) Decode(b []byte) error {
	r := newReader(b)
	*m = MetadataResponse{Brokers: m.Brokers[:0], Topics: m.Topics[:0]}
	if m.read(&r); !m.failed() {
		m.Brokers = resize(m.Brokers, r.items(minBroker))
		for i := range m.Brokers {
			m.Brokers[i] = BrokerMetadata{ID: r.u32(), Addr: r.str()}
		}
		r.endItems()
		m.Controller = r.u32()
		m.Topics = resize(m.Topics, r.items(minTopic))
		for i := range m.Topics {
			m.Topics[i].read(&r)
		}
		r.endItems()
		m.readRacks(&r)
	}
	return r.finish("metadata response")
}

func (t *TopicMetadata) appendTo(dst []byte) []byte {
	dst = appendU16(dst, uint16(t.Code))
	dst = appendString(dst, t.Name)
	dst = append(dst, t.UUID[:]...)
	dst = t.Config.appendTo(dst)
	dst = appendBool(dst, t.Internal)
	dst = appendCount(dst, len(t.Partitions))
	for i := range t.Partitions {
		p := &t.Partitions[i]
		dst = appendU32(dst, p.Leader)
		dst = appendU32(dst, p.Epoch)
		dst = appendCount(dst, len(p.Replicas))
		for _, id := range p.Replicas {
			dst = appendU32(dst, id)
		}
	}
	return dst
}

func (t *TopicMetadata) read(r *reader) {
	t.Code = Code(r.u16())
	t.Name = r.str()
	t.UUID = r.uuid()
	t.Config.read(r)
	t.Internal = r.boolean()
	t.Partitions = resize(t.Partitions, r.items(minPartition))
	for i := range t.Partitions {
		p := &t.Partitions[i]
		p.Leader = r.u32()
		p.Epoch = r.u32()
		p.Replicas = resize(p.Replicas, r.items(4))
		for j := range p.Replicas {
			p.Replicas[j] = r.u32()
		}
		r.endItems()
	}
	r.endItems()
}

// appendNames and readNames encode an array of topic names.
func appendNames(dst []byte, names []string) []byte {
	dst = appendCount(dst, len(names))
	for _, name := range names {
		dst = appendString(dst, name)
	}
	return dst
}

func readNames(r *reader, names []string) []string {
	names = resize(names, r.items(2))
	for i := range names {
		if names[i] = r.str(); names[i] == "" {
			r.fail("name %d is empty", i)
		}
	}
	r.endItems()
	return names
}
