package wire

import (
	"encoding/binary"
	"io"
)

const (
	// FrameHeaderSize is the size of the fixed header of every frame.
	FrameHeaderSize = 16
	// frameRest is the part of the header which the length field counts.
	frameRest = 12

	// DefaultMaxFrameBytes bounds a whole frame, length field excluded, unless
	// hello says otherwise.
	DefaultMaxFrameBytes = 32 << 20
	// DefaultMaxRequestMetadata bounds the metadata of a request; a broker
	// refuses more before it reads or allocates it.
	DefaultMaxRequestMetadata = 4 << 20
	// MaxHelloBytes bounds the first frame of a connection, which is read
	// before the peer is known.
	MaxHelloBytes = 64 << 10
)

// FlagResponse marks a frame which answers a request.
const FlagResponse uint16 = 1 << 0

// FrameHeader is the fixed header of a frame.
type FrameHeader struct {
	Length         uint32 // bytes after the length field: 12 + metadata + batches
	Kind           Kind
	Version        uint8
	Flags          uint16
	Correlation    uint32 // chosen by the client, repeated in the answer
	MetadataLength uint32
}

// Response reports whether the frame answers a request.
func (h FrameHeader) Response() bool { return h.Flags&FlagResponse != 0 }

// BodyLength is the number of bytes which follow the header: metadata, then
// batches.
func (h FrameHeader) BodyLength() int { return int(h.Length) - frameRest }

// BatchesLength is the number of raw batch bytes at the end of the frame.
func (h FrameHeader) BatchesLength() int { return h.BodyLength() - int(h.MetadataLength) }

// FrameLimits bound what a peer may announce in a frame header. Zero means the
// default.
type FrameLimits struct {
	MaxFrameBytes    uint32 // of FrameHeader.Length
	MaxMetadataBytes uint32 // of FrameHeader.MetadataLength
}

func (l FrameLimits) frame() uint32 {
	if l.MaxFrameBytes == 0 {
		return DefaultMaxFrameBytes
	}
	return l.MaxFrameBytes
}

func (l FrameLimits) metadata() uint32 {
	if l.MaxMetadataBytes == 0 {
		return l.frame()
	}
	return l.MaxMetadataBytes
}

// AppendFrameHeader appends the 16 bytes of h.
func AppendFrameHeader(dst []byte, h FrameHeader) []byte {
	dst = binary.LittleEndian.AppendUint32(dst, h.Length)
	dst = append(dst, byte(h.Kind), h.Version)
	dst = binary.LittleEndian.AppendUint16(dst, h.Flags)
	dst = binary.LittleEndian.AppendUint32(dst, h.Correlation)
	return binary.LittleEndian.AppendUint32(dst, h.MetadataLength)
}

// ParseFrameHeader decodes the first 16 bytes of b and checks them against lim.
// The error is an *Error with CodeInvalidRequest or CodeFrameTooLarge; the
// header is returned with it as far as it could be read, so that the refusal
// can carry its correlation id. After either error the stream has lost its
// frame boundary and must be closed.
func ParseFrameHeader(b []byte, lim FrameLimits) (FrameHeader, error) {
	if len(b) < FrameHeaderSize {
		return FrameHeader{}, Errorf(CodeInvalidRequest, "frame header has %d bytes, needs %d", len(b), FrameHeaderSize)
	}
	h := FrameHeader{
		Length:         binary.LittleEndian.Uint32(b),
		Kind:           Kind(b[4]),
		Version:        b[5],
		Flags:          binary.LittleEndian.Uint16(b[6:]),
		Correlation:    binary.LittleEndian.Uint32(b[8:]),
		MetadataLength: binary.LittleEndian.Uint32(b[12:]),
	}
	switch {
	case h.Length < frameRest:
		return h, Errorf(CodeInvalidRequest, "frame length %d is below the %d bytes of the header; is the peer speaking another protocol?", h.Length, frameRest)
	case h.MetadataLength > h.Length-frameRest:
		return h, Errorf(CodeInvalidRequest, "metadata length %d exceeds the frame's %d bytes", h.MetadataLength, h.Length-frameRest)
	case h.Length > lim.frame():
		return h, Errorf(CodeFrameTooLarge, "frame of %d bytes exceeds the limit of %d", h.Length, lim.frame())
	case h.MetadataLength > lim.metadata():
		return h, Errorf(CodeFrameTooLarge, "metadata of %d bytes exceeds the limit of %d", h.MetadataLength, lim.metadata())
	}
	return h, nil
}

// ReadFrameHeader reads one header from r into scratch (at least 16 bytes, so
// that no allocation is needed) and parses it. Errors of r are returned as they
// are: io.EOF at a frame boundary, io.ErrUnexpectedEOF inside a header.
func ReadFrameHeader(r io.Reader, scratch []byte, lim FrameLimits) (FrameHeader, error) {
	scratch = scratch[:FrameHeaderSize]
	if _, err := io.ReadFull(r, scratch); err != nil {
		return FrameHeader{}, err
	}
	return ParseFrameHeader(scratch, lim)
}

// Message is the metadata of a request or response.
type Message interface {
	// AppendTo appends the encoded message to dst.
	AppendTo(dst []byte) []byte
	// Decode reads the message from b, reusing slices of the receiver. The
	// message keeps no reference to b. Errors are *Error with
	// CodeInvalidRequest; the receiver is then unspecified.
	Decode(b []byte) error
}

// AppendFrame appends the header and the metadata m of a frame which continues
// with batchBytes raw bytes, to be sent by the caller. Length and
// MetadataLength of h are filled in.
func AppendFrame(dst []byte, h FrameHeader, m Message, batchBytes int) []byte {
	start := len(dst)
	dst = AppendFrameHeader(dst, h)
	dst = m.AppendTo(dst)
	metadata := len(dst) - start - FrameHeaderSize
	binary.LittleEndian.PutUint32(dst[start:], uint32(frameRest+metadata+batchBytes))
	binary.LittleEndian.PutUint32(dst[start+12:], uint32(metadata))
	return dst
}
