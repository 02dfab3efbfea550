package peer

import "github.com/sequitur-mq/sequitur/wire"

// HeartbeatRequest tells the controller every 100 ms that a broker lives, and what is
// new there.
type HeartbeatRequest struct {
	Node, Disk uint32
	Session    uint64
	Applied    uint64 // Raft index up to which the broker applied the metadata
	DiskFree   uint64 // bytes
	Partitions uint32 // replicas on the broker
	Leaders    uint32 // partitions that it leads
	Serving    []EpochOf
	CaughtUp   []CaughtUp
	Suspects   []PartitionID
	Full       bool // the disk is full: the broker should lead nothing
}

// EpochOf is a partition in an epoch: whose leader serves now since its start record is
// committed, or that is to be fenced.
type EpochOf struct {
	ID    PartitionID
	Epoch uint32
}

// CaughtUp is a learner whose lag behind the leader is small.
type CaughtUp struct {
	ID     PartitionID
	Epoch  uint32
	Member Member
}

const (
	partitionIDSize = 16 + 4
	epochOfSize     = partitionIDSize + 4
	caughtUpSize    = epochOfSize + 8
)

func (e *EpochOf) fields(c *codec) {
	e.ID.fields(c)
	c.u32(&e.Epoch)
}

func (m *HeartbeatRequest) fields(c *codec) {
	c.u32(&m.Node)
	c.u32(&m.Disk)
	c.u64(&m.Session)
	c.u64(&m.Applied)
	c.u64(&m.DiskFree)
	c.u32(&m.Partitions)
	c.u32(&m.Leaders)
	items(c, &m.Serving, epochOfSize)
	for i := range m.Serving {
		m.Serving[i].fields(c)
	}
	c.endItems()
	items(c, &m.CaughtUp, caughtUpSize)
	for i := range m.CaughtUp {
		m.CaughtUp[i].ID.fields(c)
		c.u32(&m.CaughtUp[i].Epoch)
		m.CaughtUp[i].Member.fields(c)
	}
	c.endItems()
	items(c, &m.Suspects, partitionIDSize)
	for i := range m.Suspects {
		m.Suspects[i].fields(c)
	}
	c.endItems()
	c.boolean(&m.Full)
}

// AppendTo appends the encoded message.
func (m *HeartbeatRequest) AppendTo(dst []byte) []byte {
	c := encoder(dst)
	m.fields(&c)
	return c.b
}

// Decode reads the message, reusing slices of the receiver.
func (m *HeartbeatRequest) Decode(b []byte) error {
	c := decoder(b)
	m.fields(&c)
	return c.finish("heartbeat request")
}

// HeartbeatResponse answers HeartbeatRequest.
type HeartbeatResponse struct {
	wire.Status
	Term    uint64 // the controller's Raft term
	Applied uint64 // Raft index up to which the controller applied the metadata
}

func (m *HeartbeatResponse) fields(c *codec) {
	c.status(&m.Status)
	if m.Code != wire.CodeNone {
		return
	}
	c.u64(&m.Term)
	c.u64(&m.Applied)
}

// AppendTo appends the encoded message.
func (m *HeartbeatResponse) AppendTo(dst []byte) []byte {
	c := encoder(dst)
	m.fields(&c)
	return c.b
}

// Decode reads the message.
func (m *HeartbeatResponse) Decode(b []byte) error {
	c := decoder(b)
	m.fields(&c)
	return c.finish("heartbeat response")
}

// FenceRequest has a broker's replicas adopt new epochs, all with one sync.
type FenceRequest struct {
	Term  uint64 // the controller's Raft term, for the log
	Items []EpochOf
}

func (m *FenceRequest) fields(c *codec) {
	c.u64(&m.Term)
	items(c, &m.Items, epochOfSize)
	for i := range m.Items {
		m.Items[i].fields(c)
	}
	c.endItems()
}

// AppendTo appends the encoded message.
func (m *FenceRequest) AppendTo(dst []byte) []byte {
	c := encoder(dst)
	m.fields(&c)
	return c.b
}

// Decode reads the message, reusing slices of the receiver.
func (m *FenceRequest) Decode(b []byte) error {
	c := decoder(b)
	m.fields(&c)
	return c.finish("fence request")
}

// FenceResponse answers FenceRequest: the votes, in the order of the request.
type FenceResponse struct {
	wire.Status
	From  Member // the broker as which all items vote
	Items []FenceVote
}

// FenceVote is one replica's vote, or the error for which it gave none.
type FenceVote struct {
	Code      wire.Code
	Message   string
	Epoch     uint32 // that was asked for
	LastEpoch uint32 // of the last durable record
	End       int64  // of what is durable
	Suspect   bool   // does not count
	Fence     uint32 // highest epoch adopted
}

// Err is the item's error, nil if it voted.
func (v *FenceVote) Err() error {
	if v.Code == wire.CodeNone {
		return nil
	}
	return &wire.Error{Code: v.Code, Message: v.Message}
}

const minFenceVote = 2 + 1 + 4 + 4 + 8 + 1 + 4

func (v *FenceVote) fields(c *codec) {
	code := uint16(v.Code)
	c.u16(&code)
	v.Code = wire.Code(code)
	c.str(&v.Message)
	c.u32(&v.Epoch)
	c.u32(&v.LastEpoch)
	c.i64(&v.End)
	c.boolean(&v.Suspect)
	c.u32(&v.Fence)
}

func (m *FenceResponse) fields(c *codec) {
	c.status(&m.Status)
	if m.Code != wire.CodeNone {
		if c.decoding {
			m.Items = m.Items[:0]
		}
		return
	}
	m.From.fields(c)
	items(c, &m.Items, minFenceVote)
	for i := range m.Items {
		m.Items[i].fields(c)
	}
	c.endItems()
}

// AppendTo appends the encoded message.
func (m *FenceResponse) AppendTo(dst []byte) []byte {
	c := encoder(dst)
	m.fields(&c)
	return c.b
}

// Decode reads the message, reusing slices of the receiver.
func (m *FenceResponse) Decode(b []byte) error {
	c := decoder(b)
	m.fields(&c)
	return c.finish("fence response")
}
