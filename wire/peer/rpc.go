package peer

import "github.com/sequitur-mq/sequitur/wire"

// WhoRequest asks a broker who it is. It may come from brokers of no cluster yet.
type WhoRequest struct {
	MinVersion, MaxVersion uint16 // of the cluster protocol
}

func (m *WhoRequest) fields(c *codec) {
	c.u16(&m.MinVersion)
	c.u16(&m.MaxVersion)
}

// AppendTo appends the encoded message.
func (m *WhoRequest) AppendTo(dst []byte) []byte {
	c := encoder(dst)
	m.fields(&c)
	return c.b
}

// Decode reads the message.
func (m *WhoRequest) Decode(b []byte) error {
	c := decoder(b)
	m.fields(&c)
	return c.finish("who request")
}

// WhoResponse answers WhoRequest.
type WhoResponse struct {
	wire.Status
	Version        uint16 // to be used on this connection
	Node           uint32
	Disk           wire.UUID
	Cluster        wire.UUID // zero: in no cluster yet
	ClusterAddr    string    // of this broker
	Controller     uint32    // node, 0: not known
	ControllerAddr string    // its cluster address
	Session        uint64    // session nonce: which life of the process this is
}

func (m *WhoResponse) fields(c *codec) {
	c.status(&m.Status)
	if m.Code != wire.CodeNone {
		return
	}
	c.u16(&m.Version)
	c.u32(&m.Node)
	c.uuid(&m.Disk)
	c.uuid(&m.Cluster)
	c.str(&m.ClusterAddr)
	c.u32(&m.Controller)
	c.str(&m.ControllerAddr)
	c.u64(&m.Session)
}

// AppendTo appends the encoded message.
func (m *WhoResponse) AppendTo(dst []byte) []byte {
	c := encoder(dst)
	m.fields(&c)
	return c.b
}

// Decode reads the message.
func (m *WhoResponse) Decode(b []byte) error {
	c := decoder(b)
	m.fields(&c)
	return c.finish("who response")
}

// RegisterRequest makes a broker known to the controller, at each start.
type RegisterRequest struct {
	Node        uint32
	Disk        wire.UUID
	Cluster     wire.UUID // zero: a new disk
	Addr        string    // for clients
	ClusterAddr string
	Rack        string
	Version     string // of the program
	Session     uint64
}

func (m *RegisterRequest) fields(c *codec) {
	c.u32(&m.Node)
	c.uuid(&m.Disk)
	c.uuid(&m.Cluster)
	c.str(&m.Addr)
	c.str(&m.ClusterAddr)
	c.str(&m.Rack)
	c.str(&m.Version)
	c.u64(&m.Session)
}

// AppendTo appends the encoded message.
func (m *RegisterRequest) AppendTo(dst []byte) []byte {
	c := encoder(dst)
	m.fields(&c)
	return c.b
}

// Decode reads the message.
func (m *RegisterRequest) Decode(b []byte) error {
	c := decoder(b)
	m.fields(&c)
	return c.finish("register request")
}

// RegisterResponse answers RegisterRequest.
type RegisterResponse struct {
	wire.Status
	Cluster wire.UUID
	Disk    uint32 // number of the disk
	Voter   bool
}

func (m *RegisterResponse) fields(c *codec) {
	c.status(&m.Status)
	if m.Code != wire.CodeNone {
		return
	}
	c.uuid(&m.Cluster)
	c.u32(&m.Disk)
	c.boolean(&m.Voter)
}

// AppendTo appends the encoded message.
func (m *RegisterResponse) AppendTo(dst []byte) []byte {
	c := encoder(dst)
	m.fields(&c)
	return c.b
}

// Decode reads the message.
func (m *RegisterResponse) Decode(b []byte) error {
	c := decoder(b)
	m.fields(&c)
	return c.finish("register response")
}

// ForwardRequest proposes a command of the metadata machine to the Raft leader.
type ForwardRequest struct{ Command []byte }

func (m *ForwardRequest) fields(c *codec) { c.bytes(&m.Command) }

// AppendTo appends the encoded message.
func (m *ForwardRequest) AppendTo(dst []byte) []byte {
	c := encoder(dst)
	m.fields(&c)
	return c.b
}

// Decode reads the message.
func (m *ForwardRequest) Decode(b []byte) error {
	c := decoder(b)
	m.fields(&c)
	return c.finish("forward request")
}

// ForwardResponse answers ForwardRequest once the command was applied by the leader.
type ForwardResponse struct {
	wire.Status
	Index  uint64 // Raft index of the command
	Result []byte // as the consensus package encodes it
}

func (m *ForwardResponse) fields(c *codec) {
	c.status(&m.Status)
	if m.Code != wire.CodeNone {
		return
	}
	c.u64(&m.Index)
	c.bytes(&m.Result)
}

// AppendTo appends the encoded message.
func (m *ForwardResponse) AppendTo(dst []byte) []byte {
	c := encoder(dst)
	m.fields(&c)
	return c.b
}

// Decode reads the message.
func (m *ForwardResponse) Decode(b []byte) error {
	c := decoder(b)
	m.fields(&c)
	return c.finish("forward response")
}

// LeavingRequest announces a planned stop of a broker. It is answered when the broker
// leads nothing any more.
type LeavingRequest struct{ Node uint32 }

func (m *LeavingRequest) fields(c *codec) { c.u32(&m.Node) }

// AppendTo appends the encoded message.
func (m *LeavingRequest) AppendTo(dst []byte) []byte {
	c := encoder(dst)
	m.fields(&c)
	return c.b
}

// Decode reads the message.
func (m *LeavingRequest) Decode(b []byte) error {
	c := decoder(b)
	m.fields(&c)
	return c.finish("leaving request")
}

// LeavingResponse answers LeavingRequest.
type LeavingResponse struct {
	wire.Status
	Leaders uint32 // partitions that the broker still leads
}

func (m *LeavingResponse) fields(c *codec) {
	c.status(&m.Status)
	if m.Code != wire.CodeNone {
		return
	}
	c.u32(&m.Leaders)
}

// AppendTo appends the encoded message.
func (m *LeavingResponse) AppendTo(dst []byte) []byte {
	c := encoder(dst)
	m.fields(&c)
	return c.b
}

// Decode reads the message.
func (m *LeavingResponse) Decode(b []byte) error {
	c := decoder(b)
	m.fields(&c)
	return c.finish("leaving response")
}

// AdminRequest carries a question or an order of an administrator to the controller.
type AdminRequest struct {
	Kind uint16
	Body []byte
}

func (m *AdminRequest) fields(c *codec) {
	c.u16(&m.Kind)
	c.bytes(&m.Body)
}

// AppendTo appends the encoded message.
func (m *AdminRequest) AppendTo(dst []byte) []byte {
	c := encoder(dst)
	m.fields(&c)
	return c.b
}

// Decode reads the message.
func (m *AdminRequest) Decode(b []byte) error {
	c := decoder(b)
	m.fields(&c)
	return c.finish("admin request")
}

// AdminResponse answers AdminRequest.
type AdminResponse struct {
	wire.Status
	Body []byte
}

func (m *AdminResponse) fields(c *codec) {
	c.status(&m.Status)
	if m.Code != wire.CodeNone {
		return
	}
	c.bytes(&m.Body)
}

// AppendTo appends the encoded message.
func (m *AdminResponse) AppendTo(dst []byte) []byte {
	c := encoder(dst)
	m.fields(&c)
	return c.b
}

// Decode reads the message.
func (m *AdminResponse) Decode(b []byte) error {
	c := decoder(b)
	m.fields(&c)
	return c.finish("admin response")
}
