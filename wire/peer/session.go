package peer

import "github.com/sequitur-mq/sequitur/wire"

// SessionHello is the first frame of a replication session, sent by the follower.
type SessionHello struct {
	MinVersion, MaxVersion uint16    // of the cluster protocol
	Cluster                wire.UUID // both must be of the same cluster
	From                   Member    // the follower
	To                     Member    // the leader that it means to reach
	Session                uint64    // the follower's session nonce: which life of its process this is
}

func (m *SessionHello) fields(c *codec) {
	c.u16(&m.MinVersion)
	c.u16(&m.MaxVersion)
	c.uuid(&m.Cluster)
	m.From.fields(c)
	m.To.fields(c)
	c.u64(&m.Session)
}

// AppendTo appends the encoded message.
func (m *SessionHello) AppendTo(dst []byte) []byte {
	c := encoder(dst)
	m.fields(&c)
	return c.b
}

// Decode reads the message.
func (m *SessionHello) Decode(b []byte) error {
	c := decoder(b)
	m.fields(&c)
	return c.finish("session hello")
}

// SessionWelcome answers SessionHello. After an error the leader closes.
type SessionWelcome struct {
	wire.Status
	Version uint16 // to be used
	From    Member // the leader
	Session uint64 // the leader's session nonce
}

func (m *SessionWelcome) fields(c *codec) {
	c.status(&m.Status)
	if m.Code != wire.CodeNone {
		return
	}
	c.u16(&m.Version)
	m.From.fields(c)
	c.u64(&m.Session)
}

// AppendTo appends the encoded message.
func (m *SessionWelcome) AppendTo(dst []byte) []byte {
	c := encoder(dst)
	m.fields(&c)
	return c.b
}

// Decode reads the message.
func (m *SessionWelcome) Decode(b []byte) error {
	c := decoder(b)
	m.fields(&c)
	return c.finish("session welcome")
}

// Flags of a ProgressEntry.
const (
	ProgressOpen uint8 = 1 << 0 // the handle is new and names ID
	ProgressSeek uint8 = 1 << 1 // push from Offset on; Seek is higher than before
	ProgressDrop uint8 = 1 << 2 // the handle is done with; nothing but Handle counts
)

// Progress says what changed at the follower since the last one. With no entries it is
// a sign of life.
type Progress struct {
	Received uint64 // batch bytes taken in since the session began
	Entries  []ProgressEntry
}

// ProgressEntry is one partition's standing fetch and durable report.
type ProgressEntry struct {
	Handle    uint32
	Flags     uint8
	ID        PartitionID // present with ProgressOpen only
	Seek      uint32      // number of the standing fetch
	Epoch     uint32      // the follower's
	Offset    int64       // its log end
	LastEpoch uint32      // of the record before Offset, 0 at the beginning of a log
	Durable   int64       // what it fsynced
	Round     uint64      // highest round seen in this epoch
	Received  uint64      // batch bytes taken in for this seek
}

const minProgressEntry = 4 + 1 + 4 + 4 + 8 + 4 + 8 + 1 + 1

func (e *ProgressEntry) fields(c *codec) {
	c.u32(&e.Handle)
	c.u8(&e.Flags)
	if e.Flags&ProgressOpen != 0 {
		e.ID.fields(c)
	} else if c.decoding {
		e.ID = PartitionID{}
	}
	c.u32(&e.Seek)
	c.u32(&e.Epoch)
	c.i64(&e.Offset)
	c.u32(&e.LastEpoch)
	c.i64(&e.Durable)
	c.uvarint(&e.Round)
	c.uvarint(&e.Received)
}

func (m *Progress) fields(c *codec) {
	c.u64(&m.Received)
	items(c, &m.Entries, minProgressEntry)
	for i := range m.Entries {
		m.Entries[i].fields(c)
	}
	c.endItems()
}

// AppendTo appends the encoded message.
func (m *Progress) AppendTo(dst []byte) []byte {
	c := encoder(dst)
	m.fields(&c)
	return c.b
}

// Decode reads the message. It does not allocate when Entries has the capacity.
func (m *Progress) Decode(b []byte) error {
	c := decoder(b)
	m.fields(&c)
	return c.finish("progress")
}

// PushKind says what a PushEntry asks the follower to do.
type PushKind uint8

// The kinds of a PushEntry.
const (
	PushData     PushKind = 1 // append batches (none if Base == End), take in HighWatermark and Round
	PushTruncate PushKind = 2 // cut the log to the end of CommonEpoch, at End at the latest, and seek again
	PushReset    PushKind = 3 // begin an empty log at Base and seek again
	PushRefused  PushKind = 4 // Code says why; nothing is pushed for this seek any more
)

// Push is what the leader has for the follower. The batches of all entries follow the
// metadata in order. With no entries it is a sign of life.
type Push struct{ Entries []PushEntry }

// PushEntry is one partition's share.
type PushEntry struct {
	Handle        uint32
	Kind          PushKind
	Seek          uint32 // that it serves
	Epoch         uint32 // the leader's
	Base, End     int64  // offsets of the batches; for the other kinds see there
	LastEpoch     uint32 // PushData: epoch of the record before Base, 0 if not known
	CommonEpoch   uint32 // PushTruncate: the greatest common epoch
	HighWatermark int64
	LogStart      int64
	Round         uint64
	Bytes         uint32 // of batches
	Code          wire.Code
}

const minPushEntry = 4 + 1 + 4 + 4 + 8 + 8 + 4 + 4 + 8 + 8 + 1 + 4 + 2

func (e *PushEntry) fields(c *codec) {
	c.u32(&e.Handle)
	kind := uint8(e.Kind)
	c.u8(&kind)
	e.Kind = PushKind(kind)
	c.u32(&e.Seek)
	c.u32(&e.Epoch)
	c.i64(&e.Base)
	c.i64(&e.End)
	c.u32(&e.LastEpoch)
	c.u32(&e.CommonEpoch)
	c.i64(&e.HighWatermark)
	c.i64(&e.LogStart)
	c.uvarint(&e.Round)
	c.u32(&e.Bytes)
	code := uint16(e.Code)
	c.u16(&code)
	e.Code = wire.Code(code)
}

func (m *Push) fields(c *codec) {
	items(c, &m.Entries, minPushEntry)
	for i := range m.Entries {
		m.Entries[i].fields(c)
	}
	c.endItems()
}

// AppendTo appends the encoded message.
func (m *Push) AppendTo(dst []byte) []byte {
	c := encoder(dst)
	m.fields(&c)
	return c.b
}

// Decode reads the message. It does not allocate when Entries has the capacity.
func (m *Push) Decode(b []byte) error {
	c := decoder(b)
	m.fields(&c)
	return c.finish("push")
}
