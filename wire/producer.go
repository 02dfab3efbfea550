package wire

// InitProducerRequest asks for a producer id.
type InitProducerRequest struct {
	Name string // empty: an anonymous producer with a fresh id

	// ProducerID and Epoch, if the id is not 0, are what the named producer holds: its
	// epoch is raised only if they are current, else the answer is PRODUCER_FENCED.
	// So a producer that starts a new epoch never fences its own successor.
	ProducerID uint64
	Epoch      uint32
}

// InitProducerResponse gives out a producer id. A named producer gets the same
// id each time, with an epoch one higher: its predecessor is fenced.
type InitProducerResponse struct {
	Status
	ProducerID uint64
	Epoch      uint32
}

// AppendTo appends the encoded message.
func (m *InitProducerRequest) AppendTo(dst []byte) []byte {
	dst = appendString(dst, m.Name)
	dst = appendU64(dst, m.ProducerID)
	return appendU32(dst, m.Epoch)
}

// Decode reads the message.
func (m *InitProducerRequest) Decode(b []byte) error {
	r := newReader(b)
	m.Name = r.str()
	m.ProducerID = r.u64()
	m.Epoch = r.u32()
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
