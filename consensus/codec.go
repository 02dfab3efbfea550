package consensus

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// errMalformed is what every failure to decode wraps.
var errMalformed = errors.New("malformed metadata")

var le = binary.LittleEndian

func appendBytes[T string | []byte](dst []byte, b T) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(b)))
	return append(dst, b...)
}

func appendCount(dst []byte, n int) []byte { return binary.AppendUvarint(dst, uint64(n)) }

// appendSized appends what fill appends, behind its length.
func appendSized(dst []byte, fill func([]byte) []byte) []byte {
	// Five bytes hold the length of anything below 32 GiB; a longer encoding
	// of a short length is still a valid uvarint.
	at := len(dst)
	dst = fill(append(dst, 0, 0, 0, 0, 0))
	n := uint64(len(dst) - at - 5)
	for i := range 5 {
		dst[at+i] = byte(n>>(7*i))&0x7f | 0x80
	}
	dst[at+4] &^= 0x80
	return dst
}

// decoder reads what the append functions wrote. The first error sticks and
// everything after it reads as zero. Counts are checked against the bytes that
// are left, so that nothing is allocated for what cannot be there.
type decoder struct {
	b       []byte
	err     error
	version uint8 // of the format
}

func (d *decoder) fail(what string) {
	if d.err == nil {
		d.err = fmt.Errorf("%w: %s", errMalformed, what)
	}
	d.b = nil
}

func (d *decoder) take(n int) []byte {
	if n > len(d.b) {
		d.fail("ends too early")
		return nil
	}
	out := d.b[:n:n]
	d.b = d.b[n:]
	return out
}

func (d *decoder) u8() uint8 {
	if b := d.take(1); b != nil {
		return b[0]
	}
	return 0
}

func (d *decoder) u16() uint16 {
	if b := d.take(2); b != nil {
		return le.Uint16(b)
	}
	return 0
}

func (d *decoder) u32() uint32 {
	if b := d.take(4); b != nil {
		return le.Uint32(b)
	}
	return 0
}

func (d *decoder) u64() uint64 {
	if b := d.take(8); b != nil {
		return le.Uint64(b)
	}
	return 0
}

func (d *decoder) uvarint() uint64 {
	v, n := binary.Uvarint(d.b)
	if n <= 0 {
		d.fail("bad varint")
		return 0
	}
	d.b = d.b[n:]
	return v
}

// bytes returns the bytes behind a length; they alias the input.
func (d *decoder) bytes() []byte {
	n := d.uvarint()
	if n > uint64(len(d.b)) {
		d.fail("length beyond the end")
		return nil
	}
	return d.take(int(n))
}

// sized returns a decoder of the data behind a length. What fails there has to
// be reported with join.
func (d *decoder) sized() *decoder { return &decoder{b: d.bytes(), err: d.err, version: d.version} }

func (d *decoder) join(inner *decoder) {
	if inner.err != nil && d.err == nil {
		d.err, d.b = inner.err, nil
	}
}

// count returns the number of items of an array whose items take at least
// minSize bytes.
func (d *decoder) count(minSize int) int {
	n := d.uvarint()
	if n > uint64(len(d.b)/minSize) {
		d.fail("more items than bytes")
		return 0
	}
	return int(n)
}

func (d *decoder) uuid() (id [16]byte) {
	copy(id[:], d.take(len(id)))
	return id
}
