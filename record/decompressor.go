package record

import (
	"fmt"

	"github.com/klauspost/compress/s2"
	"github.com/klauspost/compress/zstd"
)

// zstdMaxMemory is what the zstd decoder may use for one frame whatever the limits;
// the frame's output is bounded much closer by the header's records size.
const zstdMaxMemory = 1 << 30

// Decompressor decompresses records sections. It has one owner: it is not safe for
// concurrent use. The zero value is ready.
type Decompressor struct {
	zstd *zstd.Decoder
	buf  []byte // reused by Reader
}

// NewDecompressor returns a decompressor; its decoders are made at first use.
func NewDecompressor() *Decompressor { return &Decompressor{} }

// Close frees the decoders. The decompressor may be used again.
func (d *Decompressor) Close() {
	if d.zstd != nil {
		d.zstd.Close()
	}
	d.zstd, d.buf = nil, nil
}

// Records returns the decompressed records section of b: a part of b itself when it
// is not compressed, else put behind dst, in its spare room or in new memory. Exactly
// RecordsSize bytes are returned or an error: *CorruptError when the data disagree
// with the header, ErrTooLarge when the header's size is over the limits. Not more
// than RecordsSize bytes and one block of the codec (128 KiB) are ever allocated.
func (d *Decompressor) Records(dst []byte, b Batch, lim Limits) (records []byte, err error) {
	section, codec := b.RecordsSection(), b.Attributes().Codec()
	if codec == CodecNone {
		return plainRecords(b, lim)
	}
	size := int(b.RecordsSize())
	if size > lim.MaxRecordsBytes {
		return nil, tooLarge("records size", uint64(size), uint64(lim.MaxRecordsBytes))
	}
	if size == 0 && len(section) == 0 {
		return section, nil
	}
	switch codec {
	case CodecS2:
		return d.s2Records(dst, b, section, size)
	case CodecZstd:
		return d.zstdRecords(dst, b, section, size)
	}
	return nil, corrupt(b, "unknown codec %d", codec)
}

// plainRecords returns the records section of a batch that is not compressed.
func plainRecords(b Batch, lim Limits) ([]byte, error) {
	section, size := b.RecordsSection(), int(b.RecordsSize())
	if len(section) != size {
		return nil, corrupt(b, "records section of %d bytes, header says %d", len(section), size)
	}
	if size > lim.MaxRecordsBytes {
		return nil, tooLarge("records size", uint64(size), uint64(lim.MaxRecordsBytes))
	}
	return section, nil
}

func (d *Decompressor) s2Records(dst []byte, b Batch, section []byte, size int) ([]byte, error) {
	// The block's own idea of its size is checked before it makes anyone allocate.
	n, err := s2.DecodedLen(section)
	if err != nil || n != size {
		return nil, corrupt(b, "s2 block of %d bytes, header says %d", n, size)
	}
	at := len(dst)
	dst = grow(dst, size)
	out, err := s2.Decode(dst[at:at+size:at+size], section)
	if err != nil {
		return nil, corrupt(b, "s2: %v", err)
	}
	return out, nil
}

func (d *Decompressor) zstdRecords(dst []byte, b Batch, section []byte, size int) ([]byte, error) {
	if d.zstd == nil {
		dec, err := zstd.NewReader(nil,
			zstd.WithDecoderConcurrency(1),
			zstd.WithDecoderLowmem(true),
			zstd.WithDecoderMaxMemory(zstdMaxMemory),
			zstd.WithDecodeAllCapLimit(true)) // never write beyond the room given
		if err != nil {
			return nil, fmt.Errorf("create zstd decoder: %w", err)
		}
		d.zstd = dec
	}
	at := len(dst)
	dst = grow(dst, size)
	out, err := d.zstd.DecodeAll(section, dst[at:at:at+size])
	if err != nil {
		return nil, corrupt(b, "zstd: %v", err)
	}
	if len(out) != size {
		return nil, corrupt(b, "zstd frame of %d bytes, header says %d", len(out), size)
	}
	return out, nil
}
