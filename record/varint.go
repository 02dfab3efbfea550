package record

import "math/bits"

func zigzag(v int64) uint64   { return uint64(v<<1) ^ uint64(v>>63) }
func unzigzag(u uint64) int64 { return int64(u>>1) ^ -int64(u&1) }

// uvarintSize is the number of bytes that u takes.
func uvarintSize(u uint64) int { return (9*bits.Len64(u|1) + 64) >> 6 }

// putUvarint writes u at p[i:] and returns the index after it. p has room.
func putUvarint(p []byte, i int, u uint64) int {
	for u >= 0x80 {
		p[i] = byte(u) | 0x80
		u >>= 7
		i++
	}
	p[i] = byte(u)
	return i + 1
}

// notShort is the bit that shortUvarint sets in its value when the varint is longer
// than two bytes or the bytes end: longUvarint then has the answer.
const notShort = 1 << 14

// shortUvarint reads a base-128 varint of one or two bytes at b[i:] and returns the
// index after it. It makes no call, so that it is compiled in line.
func shortUvarint(b []byte, i int) (uint64, int) {
	if uint(i+1) >= uint(len(b)) {
		return notShort, i
	}
	u := uint64(b[i])
	if u < 0x80 {
		return u, i + 1
	}
	// A second byte with its continuation bit set sets notShort.
	return u&0x7f | uint64(b[i+1])<<7, i + 2
}

// longUvarint reads a base-128 varint of up to ten bytes at b[i:]. It returns the
// index after it, or -1 when the bytes end first or the value overflows 64 bits.
//
//go:noinline
func longUvarint(b []byte, i int) (uint64, int) {
	var u uint64
	for shift := uint(0); i < len(b) && shift < 70; shift += 7 {
		c := b[i]
		i++
		if c < 0x80 {
			if shift == 63 && c > 1 {
				return 0, -1
			}
			return u | uint64(c)<<shift, i
		}
		u |= uint64(c&0x7f) << shift
	}
	return 0, -1
}
