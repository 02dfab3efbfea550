package wire

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math"
	"strings"
)

// UUID identifies a topic or a cluster.
type UUID [16]byte

// String formats the UUID in the usual 8-4-4-4-12 form.
func (u UUID) String() string {
	return fmt.Sprintf("%x-%x-%x-%x-%x", u[0:4], u[4:6], u[6:8], u[8:10], u[10:16])
}

// ParseUUID is the reverse of String.
func ParseUUID(s string) (u UUID, err error) {
	plain := strings.ReplaceAll(s, "-", "")
	if n, err := hex.Decode(u[:], []byte(plain[:min(len(plain), 2*len(u))])); err != nil || n != len(u) || u.String() != strings.ToLower(s) {
		return UUID{}, Errorf(CodeInvalidRequest, "%q is not a UUID such as 01234567-89ab-cdef-0123-456789abcdef", s)
	}
	return u, nil
}

// MarshalText writes the form of String, so that JSON shows it.
func (u UUID) MarshalText() ([]byte, error) { return []byte(u.String()), nil }

// UnmarshalText reads the form of String.
func (u *UUID) UnmarshalText(b []byte) (err error) {
	*u, err = ParseUUID(string(b))
	return err
}

// IsZero reports whether the UUID is unset.
func (u UUID) IsZero() bool { return u == UUID{} }

func appendString(dst []byte, s string) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(s)))
	return append(dst, s...)
}

func appendBytes(dst, b []byte) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(b)))
	return append(dst, b...)
}

func appendCount(dst []byte, n int) []byte { return binary.AppendUvarint(dst, uint64(n)) }

func appendU16(dst []byte, v uint16) []byte { return binary.LittleEndian.AppendUint16(dst, v) }
func appendU32(dst []byte, v uint32) []byte { return binary.LittleEndian.AppendUint32(dst, v) }
func appendU64(dst []byte, v uint64) []byte { return binary.LittleEndian.AppendUint64(dst, v) }
func appendI64(dst []byte, v int64) []byte  { return appendU64(dst, uint64(v)) }

func appendBool(dst []byte, v bool) []byte {
	if v {
		return append(dst, 1)
	}
	return append(dst, 0)
}

// reader decodes metadata. The first error sticks; later reads return zero.
//
// A field which is absent because the message ends before it reads as zero, so
// that a newer decoder understands an older encoder of the same version. A
// message which ends inside a field, or inside an item of an array, is
// malformed.
type reader struct {
	b      []byte
	size   int
	nested int // depth of arrays: inside one nothing may be absent
	err    error
}

func newReader(b []byte) reader { return reader{b: b, size: len(b)} }

func (r *reader) fail(format string, args ...any) {
	if r.err == nil {
		at := r.size - len(r.b)
		r.err = Errorf(CodeInvalidRequest, "at byte %d: %s", at, fmt.Sprintf(format, args...))
	}
	r.b = nil
}

// take returns the next n bytes, or nil if they are absent or malformed.
func (r *reader) take(n int) []byte {
	if len(r.b) < n || r.err != nil {
		if len(r.b) != 0 || r.nested > 0 {
			r.fail("message ends inside a field of %d bytes", n)
		}
		return nil
	}
	b := r.b[:n]
	r.b = r.b[n:]
	return b
}

func (r *reader) u8() uint8 {
	if b := r.take(1); b != nil {
		return b[0]
	}
	return 0
}

func (r *reader) boolean() bool { return r.u8() != 0 }

func (r *reader) u16() uint16 {
	if b := r.take(2); b != nil {
		return binary.LittleEndian.Uint16(b)
	}
	return 0
}

func (r *reader) u32() uint32 {
	if b := r.take(4); b != nil {
		return binary.LittleEndian.Uint32(b)
	}
	return 0
}

func (r *reader) u64() uint64 {
	if b := r.take(8); b != nil {
		return binary.LittleEndian.Uint64(b)
	}
	return 0
}

func (r *reader) i64() int64 { return int64(r.u64()) }

func (r *reader) f64() float64 { return math.Float64frombits(r.u64()) }

func (r *reader) uuid() (u UUID) {
	copy(u[:], r.take(len(u)))
	return u
}

func (r *reader) uvarint() uint64 {
	if len(r.b) == 0 {
		if r.nested > 0 {
			r.fail("message ends before a varint")
		}
		return 0
	}
	v, n := binary.Uvarint(r.b)
	if n <= 0 {
		r.fail("malformed varint")
		return 0
	}
	r.b = r.b[n:]
	return v
}

// uvarint32 reads a varint which must fit 32 bits.
func (r *reader) uvarint32() uint32 {
	v := r.uvarint()
	if v > math.MaxUint32 {
		r.fail("varint %d exceeds 32 bits", v)
		return 0
	}
	return uint32(v)
}

// view returns length-prefixed bytes which alias the message.
func (r *reader) view() []byte {
	n := r.uvarint()
	if n > uint64(len(r.b)) {
		r.fail("length %d exceeds the %d bytes left", n, len(r.b))
		return nil
	}
	if n == 0 {
		return nil
	}
	return r.take(int(n))
}

func (r *reader) str() string { return string(r.view()) }

// bytes returns a copy of length-prefixed bytes in the memory of dst.
func (r *reader) bytes(dst []byte) []byte { return append(dst[:0], r.view()...) }

// items reads the count of an array whose items take at least minSize bytes
// each, and refuses a count which the bytes present cannot hold: the caller may
// allocate that many. Every call is paired with endItems.
func (r *reader) items(minSize int) int {
	n := r.uvarint()
	r.nested++
	if n > uint64(len(r.b)/minSize) {
		r.fail("array of %d items of at least %d bytes exceeds the %d bytes left", n, minSize, len(r.b))
		return 0
	}
	return int(n)
}

func (r *reader) endItems() { r.nested-- }

// finish reports the first error. Bytes left over belong to fields which a
// newer encoder appended; they are ignored.
func (r *reader) finish(message string) error {
	if r.err != nil {
		return fmt.Errorf("decode %s: %w", message, r.err)
	}
	return nil
}

// resize returns s with length n, keeping the items (and so the memory which
// they own) for reuse.
func resize[T any](s []T, n int) []T {
	if n <= cap(s) {
		return s[:n]
	}
	grown := make([]T, n)
	copy(grown, s[:cap(s)])
	return grown
}
