package wire

import "encoding/binary"

// ProduceRequest appends batches. The batches follow the metadata in the order
// of Parts.
type ProduceRequest struct {
	Acks      Acks
	TimeoutMs uint32 // for the broker to answer; 0: the broker's default
	Parts     []ProducePart
}

// ProducePart announces the batches for one partition.
type ProducePart struct {
	Topic     UUID
	Partition uint32
	Bytes     uint32 // of whole batches: one, or several concatenated
}

// ProduceResponse answers the parts in their order. With AcksNone there is none.
type ProduceResponse struct {
	Status
	Parts []ProduceResult
}

// ProduceDuplicate in ProduceResult.Flags: the whole part had been appended
// before; the offsets are the first ones.
const ProduceDuplicate uint8 = 1 << 0

// ProduceResult is the outcome for one part.
type ProduceResult struct {
	Code       Code
	Message    string
	BaseOffset int64 // of the first batch; later batches of the part follow without a gap
	AppendTime int64 // Unix nanoseconds
	Flags      uint8
	Duplicates []DuplicateRecord // records which were dropped because of their message id
}

// DuplicateRecord is a record which the topic's deduplication window knew.
type DuplicateRecord struct {
	Index  uint32 // of the record in the part, counted from 0
	Offset int64  // of the first record with the same message id
}

// Duplicate reports whether the part repeated an earlier send.
func (p *ProduceResult) Duplicate() bool { return p.Flags&ProduceDuplicate != 0 }

// Err is the error of this part, an *Error, or nil.
func (p *ProduceResult) Err() error { return partErr(p.Code, p.Message) }

const (
	minProducePart   = 16 + 4 + 4
	minProduceResult = 2 + 1 + 8 + 8 + 1 + 1
	minDuplicate     = 1 + 8
)

// AppendTo appends the encoded message.
func (m *ProduceRequest) AppendTo(dst []byte) []byte {
	dst = append(dst, byte(m.Acks))
	dst = appendU32(dst, m.TimeoutMs)
	dst = appendCount(dst, len(m.Parts))
	for i := range m.Parts {
		p := &m.Parts[i]
		dst = append(dst, p.Topic[:]...)
		dst = appendU32(dst, p.Partition)
		dst = appendU32(dst, p.Bytes)
	}
	return dst
}

// Decode reads the message. It does not allocate when Parts has the capacity.
func (m *ProduceRequest) Decode(b []byte) error {
	r := newReader(b)
	m.Acks = Acks(r.u8())
	m.TimeoutMs = r.u32()
	m.Parts = resize(m.Parts, r.items(minProducePart))
	for i := range m.Parts {
		p := &m.Parts[i]
		p.Topic = r.uuid()
		p.Partition = r.u32()
		p.Bytes = r.u32()
	}
	r.endItems()
	return r.finish("produce request")
}

// AppendTo appends the encoded message.
func (m *ProduceResponse) AppendTo(dst []byte) []byte {
	dst = m.Status.appendTo(dst)
	if m.failed() {
		return dst
	}
	dst = appendCount(dst, len(m.Parts))
	for i := range m.Parts {
		p := &m.Parts[i]
		dst = appendU16(dst, uint16(p.Code))
		dst = appendString(dst, p.Message)
		dst = appendI64(dst, p.BaseOffset)
		dst = appendI64(dst, p.AppendTime)
		dst = append(dst, p.Flags)
		dst = appendCount(dst, len(p.Duplicates))
		for _, d := range p.Duplicates {
			dst = binary.AppendUvarint(dst, uint64(d.Index))
			dst = appendI64(dst, d.Offset)
		}
	}
	return dst
}

// Decode reads the message. It does not allocate when Parts has the capacity
// and no part carries a message.
func (m *ProduceResponse) Decode(b []byte) error {
	r := newReader(b)
	m.Parts = m.Parts[:0]
	if m.read(&r); !m.failed() {
		m.Parts = resize(m.Parts, r.items(minProduceResult))
		for i := range m.Parts {
			p := &m.Parts[i]
			p.Code = Code(r.u16())
			p.Message = r.str()
			p.BaseOffset = r.i64()
			p.AppendTime = r.i64()
			p.Flags = r.u8()
			p.Duplicates = resize(p.Duplicates, r.items(minDuplicate))
			for j := range p.Duplicates {
				p.Duplicates[j] = DuplicateRecord{Index: r.uvarint32(), Offset: r.i64()}
			}
			r.endItems()
		}
		r.endItems()
	}
	return r.finish("produce response")
}
