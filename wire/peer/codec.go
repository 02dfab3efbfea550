package peer

import (
	"encoding/binary"
	"fmt"

	"github.com/sequitur-mq/sequitur/wire"
)

// codec walks the fields of a message in one of two directions, so that encoding and
// decoding cannot disagree. Decoding follows the rules of package wire: an absent field
// at the end reads as zero, bytes behind the last field are ignored, a message that ends
// inside a field or inside an item of an array is malformed. The first error sticks.
type codec struct {
	b        []byte
	size     int
	nested   int // depth of arrays: inside one nothing may be absent
	decoding bool
	err      error
}

func encoder(dst []byte) codec { return codec{b: dst} }
func decoder(b []byte) codec   { return codec{b: b, size: len(b), decoding: true} }

func (c *codec) fail(format string, args ...any) {
	if c.err == nil {
		c.err = wire.Errorf(wire.CodeInvalidRequest, "at byte %d: %s", c.size-len(c.b), fmt.Sprintf(format, args...))
	}
	c.b = nil
}

// finish reports the first error of decoding.
func (c *codec) finish(message string) error {
	if c.err != nil {
		return fmt.Errorf("decode %s: %w", message, c.err)
	}
	return nil
}

// take returns the next n bytes, or nil if they are absent or malformed.
func (c *codec) take(n int) []byte {
	if len(c.b) < n || c.err != nil {
		if len(c.b) != 0 || c.nested > 0 {
			c.fail("message ends inside a field of %d bytes", n)
		}
		return nil
	}
	b := c.b[:n]
	c.b = c.b[n:]
	return b
}

func (c *codec) u8(v *uint8) {
	if !c.decoding {
		c.b = append(c.b, *v)
		return
	}
	*v = 0
	if b := c.take(1); b != nil {
		*v = b[0]
	}
}

func (c *codec) boolean(v *bool) {
	var b uint8
	if *v {
		b = 1
	}
	c.u8(&b)
	*v = b != 0
}

func (c *codec) u16(v *uint16) {
	if !c.decoding {
		c.b = binary.LittleEndian.AppendUint16(c.b, *v)
		return
	}
	*v = 0
	if b := c.take(2); b != nil {
		*v = binary.LittleEndian.Uint16(b)
	}
}

func (c *codec) u32(v *uint32) {
	if !c.decoding {
		c.b = binary.LittleEndian.AppendUint32(c.b, *v)
		return
	}
	*v = 0
	if b := c.take(4); b != nil {
		*v = binary.LittleEndian.Uint32(b)
	}
}

func (c *codec) u64(v *uint64) {
	if !c.decoding {
		c.b = binary.LittleEndian.AppendUint64(c.b, *v)
		return
	}
	*v = 0
	if b := c.take(8); b != nil {
		*v = binary.LittleEndian.Uint64(b)
	}
}

func (c *codec) i64(v *int64) {
	u := uint64(*v)
	c.u64(&u)
	*v = int64(u)
}

func (c *codec) uuid(v *wire.UUID) {
	if !c.decoding {
		c.b = append(c.b, v[:]...)
		return
	}
	*v = wire.UUID{}
	copy(v[:], c.take(len(v)))
}

func (c *codec) uvarint(v *uint64) {
	if !c.decoding {
		c.b = binary.AppendUvarint(c.b, *v)
		return
	}
	*v = 0
	if len(c.b) == 0 {
		if c.nested > 0 {
			c.fail("message ends before a varint")
		}
		return
	}
	u, n := binary.Uvarint(c.b)
	if n <= 0 {
		c.fail("malformed varint")
		return
	}
	*v, c.b = u, c.b[n:]
}

// view returns length-prefixed bytes which alias the message.
func (c *codec) view() []byte {
	var n uint64
	c.uvarint(&n)
	if n > uint64(len(c.b)) {
		c.fail("length %d exceeds the %d bytes left", n, len(c.b))
		return nil
	}
	if n == 0 {
		return nil
	}
	return c.take(int(n))
}

func (c *codec) str(v *string) {
	if !c.decoding {
		c.b = binary.AppendUvarint(c.b, uint64(len(*v)))
		c.b = append(c.b, *v...)
		return
	}
	*v = string(c.view())
}

func (c *codec) bytes(v *[]byte) {
	if !c.decoding {
		c.b = binary.AppendUvarint(c.b, uint64(len(*v)))
		c.b = append(c.b, *v...)
		return
	}
	*v = append((*v)[:0], c.view()...)
}

func (c *codec) status(s *wire.Status) {
	code := uint16(s.Code)
	c.u16(&code)
	s.Code = wire.Code(code)
	c.str(&s.Message)
	c.u32(&s.RetryAfterMs)
}

// items begins an array whose items take at least minSize bytes each: it writes the
// count of s, or reads it and sizes s, after having checked that so many fit into the
// bytes present. The caller walks the items and calls endItems.
func items[T any](c *codec, s *[]T, minSize int) {
	n := uint64(len(*s))
	c.uvarint(&n)
	c.nested++
	if !c.decoding {
		return
	}
	if n > uint64(len(c.b)/minSize) {
		c.fail("array of %d items of at least %d bytes exceeds the %d bytes left", n, minSize, len(c.b))
		n = 0
	}
	if n > uint64(cap(*s)) {
		grown := make([]T, n)
		copy(grown, (*s)[:cap(*s)]) // keeps the memory which old items own
		*s = grown
	}
	*s = (*s)[:n]
}

func (c *codec) endItems() { c.nested-- }
