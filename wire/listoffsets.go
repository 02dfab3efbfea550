package wire

// OffsetKind says which offset of a partition is asked for.
type OffsetKind uint8

// The offsets which can be asked for.
const (
	OffsetStart  OffsetKind = 0 // first stored offset
	OffsetEnd    OffsetKind = 1 // high watermark
	OffsetByTime OffsetKind = 2 // first batch appended at or after a time
)

// ListOffsetsRequest asks for offsets of partitions.
type ListOffsetsRequest struct {
	Parts []ListOffsetsPart
}

// ListOffsetsPart asks for one offset.
type ListOffsetsPart struct {
	Topic     UUID
	Partition uint32
	Kind      OffsetKind
	TimeNs    int64 // append time, Unix nanoseconds; only for OffsetByTime
}

// ListOffsetsResponse answers the parts in their order.
type ListOffsetsResponse struct {
	Status
	Parts []ListOffsetsResult
}

// ListOffsetsResult is one offset. For OffsetByTime with nothing at or after
// the time, Offset is the high watermark and TimeNs -1.
type ListOffsetsResult struct {
	Code    Code
	Message string
	Offset  int64
	TimeNs  int64 // append time of the batch at Offset, -1 if there is none
}

// Err is the error of this part, an *Error, or nil.
func (p *ListOffsetsResult) Err() error { return partErr(p.Code, p.Message) }

const (
	minListOffsetsPart   = 16 + 4 + 1 + 8
	minListOffsetsResult = 2 + 1 + 8 + 8
)

// AppendTo appends the encoded message.
func (m *ListOffsetsRequest) AppendTo(dst []byte) []byte {
	dst = appendCount(dst, len(m.Parts))
	for i := range m.Parts {
		p := &m.Parts[i]
		dst = append(dst, p.Topic[:]...)
		dst = appendU32(dst, p.Partition)
		dst = append(dst, byte(p.Kind))
		dst = appendI64(dst, p.TimeNs)
	}
	return dst
}

// Decode reads the message.
func (m *ListOffsetsRequest) Decode(b []byte) error {
	r := newReader(b)
	m.Parts = resize(m.Parts, r.items(minListOffsetsPart))
	for i := range m.Parts {
		m.Parts[i] = ListOffsetsPart{Topic: r.uuid(), Partition: r.u32(), Kind: OffsetKind(r.u8()), TimeNs: r.i64()}
	}
	r.endItems()
	return r.finish("list offsets request")
}

// AppendTo appends the encoded message.
func (m *ListOffsetsResponse) AppendTo(dst []byte) []byte {
	dst = m.Status.appendTo(dst)
	if m.failed() {
		return dst
	}
	dst = appendCount(dst, len(m.Parts))
	for i := range m.Parts {
		p := &m.Parts[i]
		dst = appendU16(dst, uint16(p.Code))
		dst = appendString(dst, p.Message)
		dst = appendI64(dst, p.Offset)
		dst = appendI64(dst, p.TimeNs)
	}
	return dst
}

// Decode reads the message.
func (m *ListOffsetsResponse) Decode(b []byte) error {
	r := newReader(b)
	m.Parts = m.Parts[:0]
	if m.read(&r); !m.failed() {
		m.Parts = resize(m.Parts, r.items(minListOffsetsResult))
		for i := range m.Parts {
			m.Parts[i] = ListOffsetsResult{Code: Code(r.u16()), Message: r.str(), Offset: r.i64(), TimeNs: r.i64()}
		}
		r.endItems()
	}
	return r.finish("list offsets response")
}
