package wire

// DescribeTopicsRequest asks for everything known about topics.
type DescribeTopicsRequest struct {
	Topics []string // empty: all topics
}

// DescribeTopicsResponse describes topics and their partitions.
type DescribeTopicsResponse struct {
	Status
	Topics []TopicDescription
}

// TopicDescription is the metadata of a topic with the state of its partitions.
type TopicDescription struct {
	TopicMetadata
	Stats []PartitionStats // index = partition number
}

// PartitionStats is what is stored of a partition.
type PartitionStats struct {
	Start    int64 // first stored offset
	End      int64 // high watermark
	Bytes    uint64
	Segments uint32
	Holes    []Hole // damaged ranges which are not served
}

// Hole is a damaged range of offsets From..To-1.
type Hole struct {
	From, To int64
	File     string // relative to the data directory
	Position int64  // byte position of the damage in the file
}

const (
	minTopicDescription = minTopic + 1
	minPartitionStats   = 8 + 8 + 8 + 4 + 1
	minHole             = 8 + 8 + 1 + 8
)

// AppendTo appends the encoded message.
func (m *DescribeTopicsRequest) AppendTo(dst []byte) []byte { return appendNames(dst, m.Topics) }

// Decode reads the message.
func (m *DescribeTopicsRequest) Decode(b []byte) error {
	r := newReader(b)
	m.Topics = readNames(&r, m.Topics)
	return r.finish("describe topics request")
}

// AppendTo appends the encoded message.
func (m *DescribeTopicsResponse) AppendTo(dst []byte) []byte {
	dst = m.Status.appendTo(dst)
	if m.failed() {
		return dst
	}
	dst = appendCount(dst, len(m.Topics))
	for i := range m.Topics {
		t := &m.Topics[i]
		dst = t.TopicMetadata.appendTo(dst)
		dst = appendCount(dst, len(t.Stats))
		for j := range t.Stats {
			dst = t.Stats[j].appendTo(dst)
		}
	}
	return dst
}

// Decode reads the message.
func (m *DescribeTopicsResponse) Decode(b []byte) error {
	r := newReader(b)
	m.Topics = m.Topics[:0]
	if m.read(&r); !m.failed() {
		m.Topics = resize(m.Topics, r.items(minTopicDescription))
		for i := range m.Topics {
			t := &m.Topics[i]
			t.TopicMetadata.read(&r)
			t.Stats = resize(t.Stats, r.items(minPartitionStats))
			for j := range t.Stats {
				t.Stats[j].read(&r)
			}
			r.endItems()
		}
		r.endItems()
	}
	return r.finish("describe topics response")
}

func (p *PartitionStats) appendTo(dst []byte) []byte {
	dst = appendI64(dst, p.Start)
	dst = appendI64(dst, p.End)
	dst = appendU64(dst, p.Bytes)
	dst = appendU32(dst, p.Segments)
	dst = appendCount(dst, len(p.Holes))
	for i := range p.Holes {
		h := &p.Holes[i]
		dst = appendI64(dst, h.From)
		dst = appendI64(dst, h.To)
		dst = appendString(dst, h.File)
		dst = appendI64(dst, h.Position)
	}
	return dst
}

func (p *PartitionStats) read(r *reader) {
	p.Start = r.i64()
	p.End = r.i64()
	p.Bytes = r.u64()
	p.Segments = r.u32()
	p.Holes = resize(p.Holes, r.items(minHole))
	for i := range p.Holes {
		p.Holes[i] = Hole{From: r.i64(), To: r.i64(), File: r.str(), Position: r.i64()}
	}
	r.endItems()
}
