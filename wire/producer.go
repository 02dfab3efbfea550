package wire

// InitProducerRequest asks for a producer id.
type InitProducerRequest struct {
	Name string // empty: an anonymous producer with a fresh id
}

// InitProducerResponse gives out a producer id. A named producer gets the same
// id each time, with an epoch one higher: its predecessor is fenced.
type InitProducerResponse struct {
	Status
	ProducerID uint64
	Epoch      uint32
}

// AppendTo appends the encoded message.
func (m *InitProducerRequest) AppendTo(dst []byte) []byte { return appendString(dst, m.Name) }

// Decode reads the message.
func (m *InitProducerRequest) Decode(b []byte) error {
	r := newReader(b)
	m.Name = r.str()
	return r.finish("init producer request")
}

// AppendTo appends the encoded message.
func (m *InitProducerResponse) AppendTo(dst []byte) []byte {
	dst = m.Status.appendTo(dst)
	if m.failed() {
		return dst
	}
	dst = appendU64(dst, m.ProducerID)
	return appendU32(dst, m.Epoch)
}

// Decode reads the message.
func (m *InitProducerResponse) Decode(b []byte) error {
	r := newReader(b)
	*m = InitProducerResponse{}
	if m.read(&r); !m.failed() {
		m.ProducerID = r.u64()
		m.Epoch = r.u32()
	}
	return r.finish("init producer response")
}
