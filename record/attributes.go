package record

import "fmt"

// Codec is the compression of a records section.
type Codec uint8

// The codecs, as in attribute bits 0-2.
const (
	CodecNone Codec = 0
	CodecS2   Codec = 1
	CodecZstd Codec = 2
)

// String returns none, s2 or zstd.
func (c Codec) String() string {
	switch c {
	case CodecNone:
		return "none"
	case CodecS2:
		return "s2"
	case CodecZstd:
		return "zstd"
	}
	return fmt.Sprintf("codec(%d)", uint8(c))
}

// ParseCodec returns the codec of a name that [Codec.String] gives.
func ParseCodec(name string) (Codec, error) {
	switch name {
	case "none":
		return CodecNone, nil
	case "s2":
		return CodecS2, nil
	case "zstd":
		return CodecZstd, nil
	}
	return 0, fmt.Errorf("unknown compression %q: use none, s2 or zstd", name)
}

// Attributes are the attribute bits of a batch.
type Attributes uint16

const (
	attrCodecMask     Attributes = 0b111
	attrControl       Attributes = 1 << 3
	attrTransactional Attributes = 1 << 4
	attrMessageIDs    Attributes = 1 << 5
	attrKnown                    = attrCodecMask | attrControl | attrTransactional | attrMessageIDs
)

// Codec returns the compression of the records section.
func (a Attributes) Codec() Codec { return Codec(a & attrCodecMask) }

// Control reports whether the batch carries control records.
func (a Attributes) Control() bool { return a&attrControl != 0 }

// Transactional reports whether the batch belongs to a transaction.
func (a Attributes) Transactional() bool { return a&attrTransactional != 0 }

// MessageIDs reports whether some record of the batch carries a message id.
func (a Attributes) MessageIDs() bool { return a&attrMessageIDs != 0 }
