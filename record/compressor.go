package record

import (
	"fmt"

	"github.com/klauspost/compress/s2"
	"github.com/klauspost/compress/zstd"
)

// zstdWindow bounds the encoder's memory; batches are rarely larger.
const zstdWindow = 1 << 20

// Compressor compresses records sections. It has one owner: it is not safe for
// concurrent use. The zero value is ready.
type Compressor struct {
	zstd *zstd.Encoder
}

// NewCompressor returns a compressor; its encoders are made at first use.
func NewCompressor() *Compressor { return &Compressor{} }

// Compress appends src, compressed with the codec, to dst.
func (c *Compressor) Compress(dst []byte, codec Codec, src []byte) ([]byte, error) {
	switch codec {
	case CodecNone:
		return append(dst, src...), nil
	case CodecS2:
		if s2.MaxEncodedLen(len(src)) < 0 {
			return nil, tooLarge("records size", uint64(len(src)), 1<<32-1)
		}
		at, need := len(dst), s2.MaxEncodedLen(len(src))
		dst = grow(dst, need)
		out := s2.Encode(dst[at:at+need], src)
		return dst[:at+len(out)], nil
	case CodecZstd:
		if c.zstd == nil {
			enc, err := zstd.NewWriter(nil,
				zstd.WithEncoderConcurrency(1),
				zstd.WithEncoderLevel(zstd.SpeedFastest),
				zstd.WithWindowSize(zstdWindow),
				zstd.WithLowerEncoderMem(true),
				zstd.WithEncoderCRC(false)) // the payload CRC covers the compressed bytes
			if err != nil {
				return nil, fmt.Errorf("create zstd encoder: %w", err)
			}
			c.zstd = enc
		}
		return c.zstd.EncodeAll(src, dst), nil
	}
	return nil, fmt.Errorf("compress records: unknown %v", codec)
}

// grow returns b with room for n more bytes.
func grow(b []byte, n int) []byte {
	if cap(b)-len(b) >= n {
		return b
	}
	size := max(2*cap(b), len(b)+n)
	bigger := make([]byte, len(b), size)
	copy(bigger, b)
	return bigger
}
