package wire

import "encoding/binary"

// FetchRequest reads batches of many partitions.
type FetchRequest struct {
	MaxWaitMs uint32 // how long the broker may wait for MinBytes
	MinBytes  uint32 // answer as soon as this much is there; 0 and 1: any data
	MaxBytes  uint32 // of batches in the answer; a first batch above it is sent nevertheless
	Flags     uint8
	Parts     []FetchPart
}

// Bits of FetchRequest.Flags.
const (
	FetchVerify       uint8 = 1 << 0 // the broker checks the CRCs before it serves
	FetchFromFollower uint8 = 1 << 1 // a follower may serve what it knows as committed
)

// FetchPart wants one partition from an offset.
type FetchPart struct {
	Topic     UUID
	Partition uint32
	Offset    int64
	MaxBytes  uint32 // for this partition
}

// FetchResponse carries only the parts which have data, an error or changed
// bounds. The batches follow the metadata in the order of Parts.
type FetchResponse struct {
	Status
	Parts []FetchResult
}

// FetchResult is what one partition had to give.
type FetchResult struct {
	Index         uint32 // into FetchRequest.Parts
	Code          Code
	Message       string
	HighWatermark int64 // first offset which is not committed
	LogStart      int64 // first offset which is still stored
	Bytes         uint32
	HoleFrom      int64 // with CodeCorrupt: offsets HoleFrom..HoleTo-1 are damaged here
	HoleTo        int64
}

// Err is the error of this part, an *Error, or nil.
func (p *FetchResult) Err() error { return partErr(p.Code, p.Message) }

const (
	minFetchPart   = 16 + 4 + 8 + 4
	minFetchResult = 1 + 2 + 1 + 8 + 8 + 4 + 8 + 8
)

// AppendTo appends the encoded message.
func (m *FetchRequest) AppendTo(dst []byte) []byte {
	dst = appendU32(dst, m.MaxWaitMs)
	dst = appendU32(dst, m.MinBytes)
	dst = appendU32(dst, m.MaxBytes)
	dst = append(dst, m.Flags)
	dst = appendCount(dst, len(m.Parts))
	for i := range m.Parts {
		p := &m.Parts[i]
		dst = append(dst, p.Topic[:]...)
		dst = appendU32(dst, p.Partition)
		dst = appendI64(dst, p.Offset)
		dst = appendU32(dst, p.MaxBytes)
	}
	return dst
}

// Decode reads the message. It does not allocate when Parts has the capacity.
func (m *FetchRequest) Decode(b []byte) error {
	r := newReader(b)
	m.MaxWaitMs = r.u32()
	m.MinBytes = r.u32()
	m.MaxBytes = r.u32()
	m.Flags = r.u8()
	m.Parts = resize(m.Parts, r.items(minFetchPart))
	for i := range m.Parts {
		p := &m.Parts[i]
		p.Topic = r.uuid()
		p.Partition = r.u32()
		p.Offset = r.i64()
		p.MaxBytes = r.u32()
	}
	r.endItems()
	return r.finish("fetch request")
}

// AppendTo appends the encoded message.
func (m *FetchResponse) AppendTo(dst []byte) []byte {
	dst = m.Status.appendTo(dst)
	if m.failed() {
		return dst
	}
	dst = appendCount(dst, len(m.Parts))
	for i := range m.Parts {
		p := &m.Parts[i]
		dst = binary.AppendUvarint(dst, uint64(p.Index))
		dst = appendU16(dst, uint16(p.Code))
		dst = appendString(dst, p.Message)
		dst = appendI64(dst, p.HighWatermark)
		dst = appendI64(dst, p.LogStart)
		dst = appendU32(dst, p.Bytes)
		dst = appendI64(dst, p.HoleFrom)
		dst = appendI64(dst, p.HoleTo)
	}
	return dst
}

// Decode reads the message. It does not allocate when Parts has the capacity
// and no part carries a message.
func (m *FetchResponse) Decode(b []byte) error {
	r := newReader(b)
	m.Parts = m.Parts[:0]
	if m.read(&r); !m.failed() {
		m.Parts = resize(m.Parts, r.items(minFetchResult))
		for i := range m.Parts {
			p := &m.Parts[i]
			p.Index = r.uvarint32()
			p.Code = Code(r.u16())
			p.Message = r.str()
			p.HighWatermark = r.i64()
			p.LogStart = r.i64()
			p.Bytes = r.u32()
			p.HoleFrom = r.i64()
			p.HoleTo = r.i64()
		}
		r.endItems()
	}
	return r.finish("fetch response")
}
