package wire

// Magic starts the metadata of the first frame of a connection: the bytes
// "SQTR".
const Magic uint32 = 'S' | 'Q'<<8 | 'T'<<16 | 'R'<<24

// HelloRequest opens a connection; no other request may come before its answer.
type HelloRequest struct {
	Magic                  uint32 // Magic
	MinVersion, MaxVersion uint16 // of the protocol, inclusive
	ClientName             string // for logs and metrics
	ClientVersion          string
	AuthMechanism          string // empty: none
	AuthData               []byte
}

// HelloResponse says who the broker is and what it serves.
type HelloResponse struct {
	Status
	Version          uint16 // of the protocol, chosen by the broker
	BrokerID         uint32
	ClusterID        UUID
	BrokerVersion    string
	MaxFrameBytes    uint32 // largest frame length which the broker takes
	MaxBatchBytes    uint32 // largest batch of any topic
	MaxInflightBytes uint32 // of unanswered requests on one connection; above it the broker stops reading
	APIs             []API
}

// AppendTo appends the encoded message.
func (m *HelloRequest) AppendTo(dst []byte) []byte {
	dst = appendU32(dst, m.Magic)
	dst = appendU16(dst, m.MinVersion)
	dst = appendU16(dst, m.MaxVersion)
	dst = appendString(dst, m.ClientName)
	dst = appendString(dst, m.ClientVersion)
	dst = appendString(dst, m.AuthMechanism)
	return appendBytes(dst, m.AuthData)
}

// Decode reads the message; a wrong magic is an error.
func (m *HelloRequest) Decode(b []byte) error {
	r := newReader(b)
	m.Magic = r.u32()
	if m.Magic != Magic && r.err == nil {
		r.fail("magic %#x is not %#x (\"SQTR\"); the peer is not a Sequitur client", m.Magic, Magic)
	}
	m.MinVersion = r.u16()
	m.MaxVersion = r.u16()
	m.ClientName = r.str()
	m.ClientVersion = r.str()
	m.AuthMechanism = r.str()
	m.AuthData = r.bytes(m.AuthData)
	return r.finish("hello request")
}

// AppendTo appends the encoded message.
func (m *HelloResponse) AppendTo(dst []byte) []byte {
	dst = m.Status.appendTo(dst)
	if m.failed() {
		return dst
	}
	dst = appendU16(dst, m.Version)
	dst = appendU32(dst, m.BrokerID)
	dst = append(dst, m.ClusterID[:]...)
	dst = appendString(dst, m.BrokerVersion)
	dst = appendU32(dst, m.MaxFrameBytes)
	dst = appendU32(dst, m.MaxBatchBytes)
	dst = appendU32(dst, m.MaxInflightBytes)
	dst = appendCount(dst, len(m.APIs))
	for _, a := range m.APIs {
		dst = append(dst, byte(a.Kind), a.Min, a.Max)
	}
	return dst
}

// Decode reads the message.
func (m *HelloResponse) Decode(b []byte) error {
	r := newReader(b)
	*m = HelloResponse{APIs: m.APIs[:0]}
	if m.read(&r); !m.failed() {
		m.Version = r.u16()
		m.BrokerID = r.u32()
		m.ClusterID = r.uuid()
		m.BrokerVersion = r.str()
		m.MaxFrameBytes = r.u32()
		m.MaxBatchBytes = r.u32()
		m.MaxInflightBytes = r.u32()
		m.APIs = resize(m.APIs, r.items(3))
		for i := range m.APIs {
			m.APIs[i] = API{Kind: Kind(r.u8()), Min: r.u8(), Max: r.u8()}
		}
		r.endItems()
	}
	return r.finish("hello response")
}

// APIVersion picks the highest version of the kind which both the broker and
// this package serve, or an *Error with CodeUnsupportedVersion.
func (m *HelloResponse) APIVersion(k Kind) (uint8, error) {
	var ours API
	for _, a := range APIs() {
		if a.Kind == k {
			ours = a
		}
	}
	for _, a := range m.APIs {
		if a.Kind == k && ours.Kind == k {
			v, err := Negotiate(uint16(ours.Min), uint16(ours.Max), uint16(a.Min), uint16(a.Max))
			return uint8(v), err
		}
	}
	return 0, Errorf(CodeUnsupportedVersion, "the broker (%s) does not serve %s", m.BrokerVersion, k)
}
