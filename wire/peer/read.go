package peer

import "github.com/sequitur-mq/sequitur/wire"

// ReadRequest asks a replica for batches as its log has them, for the repair of another
// replica's damage. Any replica answers; that epochs agree is the asker's to check.
type ReadRequest struct {
	ID       PartitionID
	From, To int64  // offsets [From, To)
	MaxBytes uint32 // about so many, at least one batch
}

func (m *ReadRequest) fields(c *codec) {
	m.ID.fields(c)
	c.i64(&m.From)
	c.i64(&m.To)
	c.u32(&m.MaxBytes)
}

// AppendTo appends the encoded message.
func (m *ReadRequest) AppendTo(dst []byte) []byte {
	c := encoder(dst)
	m.fields(&c)
	return c.b
}

// Decode reads the message.
func (m *ReadRequest) Decode(b []byte) error {
	c := decoder(b)
	m.fields(&c)
	return c.finish("read request")
}

// ReadResponse answers ReadRequest.
type ReadResponse struct {
	wire.Status
	Next    int64  // offset after the batches
	Batches []byte // whole ones, the first one may begin before From; aliases what was decoded
}

func (m *ReadResponse) fields(c *codec) {
	c.status(&m.Status)
	if m.Code != wire.CodeNone {
		return
	}
	c.i64(&m.Next)
	c.bytes(&m.Batches)
}

// AppendTo appends the encoded message.
func (m *ReadResponse) AppendTo(dst []byte) []byte {
	c := encoder(dst)
	m.fields(&c)
	return c.b
}

// Decode reads the message.
func (m *ReadResponse) Decode(b []byte) error {
	c := decoder(b)
	m.fields(&c)
	return c.finish("read response")
}
