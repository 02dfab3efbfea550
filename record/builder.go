package record

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
)

// firstAllocation bounds what a builder allocates for its first record, so that many
// builders with a large target cost little until they fill.
const firstAllocation = 64 << 10

// Builder encodes records into a batch. It has one owner: it is not safe for
// concurrent use. It may be used again after Reset, without allocating.
type Builder struct {
	buf       []byte // header, extension, records not compressed
	out       []byte // header, extension, records compressed
	target    int
	extension int // bytes of extension in buf

	count     uint32
	nextDelta int64 // offset delta of the next record
	lastDelta int64 // as set by SetLastOffsetDelta, or -1
	baseTime  int64
	maxTime   int64
	baseSet   bool
	attrs     Attributes
}

// NewBuilder returns a builder for batches of about targetBytes. The target sizes the
// first allocation only: the builder grows as needed, and it is the caller that stops
// at [Builder.Size].
func NewBuilder(targetBytes int) *Builder {
	b := &Builder{target: min(max(targetBytes, 1<<10), firstAllocation)}
	b.Reset()
	return b
}

// Reset forgets all records and settings and keeps the memory. Batches built before
// become invalid.
func (b *Builder) Reset() {
	if cap(b.buf) >= HeaderSize {
		b.buf = b.buf[:HeaderSize]
	}
	*b = Builder{buf: b.buf, out: b.out, target: b.target, lastDelta: -1}
}

// Len is the number of records so far.
func (b *Builder) Len() int { return int(b.count) }

// Size is the size of the batch so far in bytes, not compressed, header included.
func (b *Builder) Size() int { return max(len(b.buf), HeaderSize) }

// Cap is the memory that the builder holds, in bytes.
func (b *Builder) Cap() int { return cap(b.buf) + cap(b.out) }

// Room is how many bytes more the batch can hold before the builder allocates.
func (b *Builder) Room() int { return cap(b.buf) - b.Size() }

// SetControl marks the batch as one of control records.
func (b *Builder) SetControl() { b.attrs |= attrControl }

// SetTransactional marks the batch as part of a transaction.
func (b *Builder) SetTransactional() { b.attrs |= attrTransactional }

// SetBaseTimestamp sets the batch's base timestamp in Unix milliseconds. It must come
// before the first record, whose time is the base otherwise.
func (b *Builder) SetBaseTimestamp(ms int64) {
	b.baseTime, b.maxTime, b.baseSet = ms, ms, true
}

// SetLastOffsetDelta makes the batch consume delta+1 offsets though its records may
// end earlier, or be none.
func (b *Builder) SetLastOffsetDelta(delta uint32) { b.lastDelta = int64(delta) }

// Append adds a record at the next offset. The time is in Unix milliseconds; a nil
// key or value is null. Everything is copied. 0 allocations once the builder has
// grown.
func (b *Builder) Append(tsMs int64, key, value []byte, headers []Header) {
	b.append(b.nextDelta, tsMs, key, value, headers)
}

// AppendRaw adds a record at an explicit offset delta, which must be greater than
// that of the record before: for batches out of which records were removed.
func (b *Builder) AppendRaw(offsetDelta, tsMs int64, key, value []byte, headers []Header) error {
	if offsetDelta < b.nextDelta || offsetDelta > math.MaxUint32 {
		return fmt.Errorf("append record: offset delta %d, want at least %d", offsetDelta, b.nextDelta)
	}
	b.append(offsetDelta, tsMs, key, value, headers)
	return nil
}

func (b *Builder) append(offsetDelta, tsMs int64, key, value []byte, headers []Header) {
	if !b.baseSet {
		b.SetBaseTimestamp(tsMs)
	} else if tsMs > b.maxTime || b.count == 0 {
		b.maxTime = tsMs
	}
	// The record goes behind the room that the length of the largest such record takes;
	// few are so much smaller that their length is shorter and they must move up.
	most := maxFrameOverhead + len(key) + len(value)
	if len(headers) != 0 {
		most += b.headersSize(headers)
	}
	room := uvarintSize(uint64(most) << 1)
	at := len(b.buf)
	if need := at + room + most; need > cap(b.buf) {
		b.grow(need)
		at = max(at, HeaderSize)
	}
	p := b.buf[at:cap(b.buf)]
	p[room] = 0 // attributes
	i := putUvarint(p, room+1, zigzag(tsMs-b.baseTime))
	i = putUvarint(p, i, uint64(offsetDelta)<<1)
	i = putUvarint(p, i, nullableLen(key))
	i += copy(p[i:], key)
	i = putUvarint(p, i, nullableLen(value))
	i += copy(p[i:], value)
	i = putUvarint(p, i, uint64(len(headers))<<1)
	if len(headers) != 0 {
		i = putHeaders(p, i, headers)
	}
	length := uint64(i-room) << 1
	if n := uvarintSize(length); n != room {
		copy(p[n:], p[room:i])
		i -= room - n
	}
	putUvarint(p, 0, length)
	b.buf = b.buf[:at+i]
	b.count++
	b.nextDelta = offsetDelta + 1
}

// nullableLen is the encoded length of a key or value: zigzag, -1 for nil.
func nullableLen(v []byte) uint64 {
	if v == nil {
		return 1
	}
	return uint64(len(v)) << 1
}

// headersSize is the encoded size of the headers; on the way it finds message ids.
func (b *Builder) headersSize(headers []Header) int {
	size := 0
	for i := range headers {
		h := &headers[i]
		size += uvarintSize(uint64(len(h.Key))<<1) + len(h.Key)
		size += uvarintSize(nullableLen(h.Value)) + len(h.Value)
		if h.Key == MessageIDHeader {
			b.attrs |= attrMessageIDs
		}
	}
	return size
}

func putHeaders(p []byte, i int, headers []Header) int {
	for k := range headers {
		h := &headers[k]
		i = putUvarint(p, i, uint64(len(h.Key))<<1)
		i += copy(p[i:], h.Key)
		i = putUvarint(p, i, nullableLen(h.Value))
		i += copy(p[i:], h.Value)
	}
	return i
}

// grow makes room for need bytes in all, header included.
func (b *Builder) grow(need int) {
	need += HeaderSize // the first growth starts from nothing
	size := max(2*cap(b.buf), b.target, need)
	bigger := make([]byte, max(len(b.buf), HeaderSize), size)
	copy(bigger, b.buf)
	b.buf = bigger
}

// appendEncoded adds one record that is already encoded against this batch's base
// timestamp.
func (b *Builder) appendEncoded(offsetDelta, tsMs int64, encoded []byte) {
	if tsMs > b.maxTime || b.count == 0 {
		b.maxTime = tsMs
	}
	if need := len(b.buf) + len(encoded); need > cap(b.buf) || len(b.buf) == 0 {
		b.grow(need)
	}
	b.buf = append(b.buf, encoded...)
	b.count++
	b.nextDelta = offsetDelta + 1
}

// setExtension sets the extension. It must come before the first record.
func (b *Builder) setExtension(ext []byte) {
	if need := HeaderSize + len(ext); need > cap(b.buf) || len(b.buf) == 0 {
		b.grow(need)
	}
	b.buf = append(b.buf[:HeaderSize], ext...)
	b.extension = len(ext)
}

var errNoRecords = errors.New("build batch: no records")

// Build returns the batch, not yet stamped, its records compressed with the codec
// unless that would not make them smaller. The compressor may be nil for CodecNone.
// The batch aliases the builder's memory: it is valid until Reset, and no record may
// be added after Build.
func (b *Builder) Build(c *Compressor, codec Codec, producerID uint64, epoch, baseSeq uint32) (Batch, error) {
	last := b.lastDelta
	if last < 0 {
		last = b.nextDelta - 1
	}
	if last < 0 {
		return nil, errNoRecords
	}
	if last < b.nextDelta-1 || last > math.MaxUint32 {
		return nil, fmt.Errorf("build batch: last offset delta %d with a record at %d", last, b.nextDelta-1)
	}
	if len(b.buf) < HeaderSize {
		b.grow(HeaderSize)
	}
	start := HeaderSize + b.extension
	size := len(b.buf) - start
	if len(b.buf) > math.MaxUint32 {
		return nil, tooLarge("bytes", uint64(len(b.buf)), math.MaxUint32)
	}
	batch, codec, err := b.compress(c, codec, start)
	if err != nil {
		return nil, err
	}
	clear(batch[:HeaderSize])
	le := binary.LittleEndian
	le.PutUint32(batch[atLength:], uint32(len(batch)))
	batch[atFormat] = Format
	le.PutUint16(batch[atAttributes:], uint16(b.attrs)|uint16(codec))
	le.PutUint32(batch[atCount:], b.count)
	le.PutUint32(batch[atLastDelta:], uint32(last))
	le.PutUint64(batch[atBaseTimestamp:], uint64(b.baseTime))
	le.PutUint64(batch[atMaxTimestamp:], uint64(b.maxTime))
	le.PutUint64(batch[atProducerID:], producerID)
	le.PutUint32(batch[atProducerEpoch:], epoch)
	le.PutUint32(batch[atBaseSequence:], baseSeq)
	le.PutUint32(batch[atRecordsSize:], uint32(size))
	le.PutUint32(batch[atExtensionSize:], uint32(b.extension))
	batch.sealPayload()
	return batch, nil
}

// compress returns the batch's bytes with the records compressed where that pays.
func (b *Builder) compress(c *Compressor, codec Codec, start int) (Batch, Codec, error) {
	if codec == CodecNone || len(b.buf) == start {
		return Batch(b.buf), CodecNone, nil
	}
	if c == nil {
		return nil, 0, fmt.Errorf("build batch: no compressor for %v", codec)
	}
	if cap(b.out) < start {
		b.out = make([]byte, start, max(start, b.target))
	}
	out, err := c.Compress(append(b.out[:0], b.buf[:start]...), codec, b.buf[start:])
	if err != nil {
		return nil, 0, fmt.Errorf("build batch: %w", err)
	}
	b.out = out
	if len(out) >= len(b.buf) {
		return Batch(b.buf), CodecNone, nil
	}
	return Batch(out), codec, nil
}
