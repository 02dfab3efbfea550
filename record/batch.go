package record

import (
	"encoding/binary"
	"hash/crc32"
)

// HeaderSize is the size of the fixed batch header in bytes.
const HeaderSize = 88

// Format is the batch format written by this package.
const Format = 1

const (
	atLength        = 0
	atFormat        = 4
	atStampFlags    = 5
	atReserved1     = 6
	atBaseOffset    = 8
	atAppendTime    = 16
	atLeaderEpoch   = 24
	atStampCRC      = 28
	atPayloadCRC    = 32
	atAttributes    = 36
	atReserved2     = 38
	atCount         = 40
	atLastDelta     = 44
	atBaseTimestamp = 48
	atMaxTimestamp  = 56
	atProducerID    = 64
	atProducerEpoch = 72
	atBaseSequence  = 76
	atRecordsSize   = 80
	atExtensionSize = 84
)

const stampFlagSynced = 1

// castagnoli is CRC32C; hash/crc32 uses the processor's instruction for it.
var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Batch is exactly one whole batch, as [Parse] or [Builder.Build] returned it. The
// methods read its header fields; on fewer than HeaderSize bytes they panic.
type Batch []byte

func (b Batch) u16(at int) uint16 { return binary.LittleEndian.Uint16(b[at:]) }
func (b Batch) u32(at int) uint32 { return binary.LittleEndian.Uint32(b[at:]) }
func (b Batch) u64(at int) uint64 { return binary.LittleEndian.Uint64(b[at:]) }

// Length is the size of the whole batch in bytes.
func (b Batch) Length() uint32 { return b.u32(atLength) }

// Format is the format number.
func (b Batch) Format() uint8 { return b[atFormat] }

// JournalSynced is the hint that the batch was known to be in the synced journal.
func (b Batch) JournalSynced() bool { return b[atStampFlags]&stampFlagSynced != 0 }

// BaseOffset is the offset of the first record position of the batch.
func (b Batch) BaseOffset() int64 { return int64(b.u64(atBaseOffset)) }

// LastOffset is the last offset that the batch consumes.
func (b Batch) LastOffset() int64 { return b.BaseOffset() + int64(b.LastOffsetDelta()) }

// NextOffset is the offset after the batch.
func (b Batch) NextOffset() int64 { return b.LastOffset() + 1 }

// AppendTime is the leader's clock at the append, in Unix nanoseconds.
func (b Batch) AppendTime() int64 { return int64(b.u64(atAppendTime)) }

// LeaderEpoch is the epoch of the leader that appended the batch.
func (b Batch) LeaderEpoch() uint32 { return b.u32(atLeaderEpoch) }

// StampCRC is the stored CRC32C of the stamped part.
func (b Batch) StampCRC() uint32 { return b.u32(atStampCRC) }

// PayloadCRC is the stored CRC32C of the producer's part.
func (b Batch) PayloadCRC() uint32 { return b.u32(atPayloadCRC) }

// Attributes are the attribute bits.
func (b Batch) Attributes() Attributes { return Attributes(b.u16(atAttributes)) }

// Count is the number of records present.
func (b Batch) Count() uint32 { return b.u32(atCount) }

// LastOffsetDelta is the number of offsets that the batch consumes, less one.
func (b Batch) LastOffsetDelta() uint32 { return b.u32(atLastDelta) }

// Dense reports whether every offset of the batch has its record, as in every batch
// fresh from a producer.
func (b Batch) Dense() bool { return uint64(b.Count()) == uint64(b.LastOffsetDelta())+1 }

// BaseTimestamp is the producer's time of the first record, in Unix milliseconds.
func (b Batch) BaseTimestamp() int64 { return int64(b.u64(atBaseTimestamp)) }

// MaxTimestamp is the greatest producer's time of any record, in Unix milliseconds.
func (b Batch) MaxTimestamp() int64 { return int64(b.u64(atMaxTimestamp)) }

// ProducerID is the producer's id, 0 for none.
func (b Batch) ProducerID() uint64 { return b.u64(atProducerID) }

// ProducerEpoch is the producer's epoch.
func (b Batch) ProducerEpoch() uint32 { return b.u32(atProducerEpoch) }

// BaseSequence is the sequence number of the first record position.
func (b Batch) BaseSequence() uint32 { return b.u32(atBaseSequence) }

// NextSequence is the sequence number expected after this batch, modulo 2^32.
func (b Batch) NextSequence() uint32 { return b.BaseSequence() + b.LastOffsetDelta() + 1 }

// RecordsSize is the size of the records section when not compressed, in bytes.
func (b Batch) RecordsSize() uint32 { return b.u32(atRecordsSize) }

// ExtensionSize is the size of the extension in bytes.
func (b Batch) ExtensionSize() uint32 { return b.u32(atExtensionSize) }

// Extension returns the bytes between header and records section.
func (b Batch) Extension() []byte { return b[HeaderSize : HeaderSize+int(b.ExtensionSize())] }

// RecordsSection returns the records section as stored, compressed or not.
func (b Batch) RecordsSection() []byte { return b[HeaderSize+int(b.ExtensionSize()):] }

// Stamp writes the leader's part of the header in place, with its CRC. The append
// time is in Unix nanoseconds.
func (b Batch) Stamp(baseOffset int64, epoch uint32, appendTime int64) {
	_ = b[HeaderSize-1]
	b[atStampFlags] = 0
	binary.LittleEndian.PutUint64(b[atBaseOffset:], uint64(baseOffset))
	binary.LittleEndian.PutUint64(b[atAppendTime:], uint64(appendTime))
	binary.LittleEndian.PutUint32(b[atLeaderEpoch:], epoch)
	b.sealStamp()
}

// SetProducer writes the producer's identity and sequence into a batch that is
// already built, with its payload CRC.
func (b Batch) SetProducer(id uint64, epoch, baseSequence uint32) {
	binary.LittleEndian.PutUint64(b[atProducerID:], id)
	binary.LittleEndian.PutUint32(b[atProducerEpoch:], epoch)
	binary.LittleEndian.PutUint32(b[atBaseSequence:], baseSequence)
	b.sealPayload()
}

func (b Batch) stampCRC() uint32   { return crc32.Checksum(b[:atStampCRC], castagnoli) }
func (b Batch) payloadCRC() uint32 { return crc32.Checksum(b[atAttributes:], castagnoli) }

func (b Batch) sealStamp()   { binary.LittleEndian.PutUint32(b[atStampCRC:], b.stampCRC()) }
func (b Batch) sealPayload() { binary.LittleEndian.PutUint32(b[atPayloadCRC:], b.payloadCRC()) }

// VerifyStamp checks the CRC of the stamped part.
func (b Batch) VerifyStamp() error {
	if got, want := b.stampCRC(), b.StampCRC(); got != want {
		return corrupt(b, "stamp CRC is %08x, header says %08x", got, want)
	}
	return nil
}

// VerifyPayload checks the CRC of the producer's part.
func (b Batch) VerifyPayload() error {
	if got, want := b.payloadCRC(), b.PayloadCRC(); got != want {
		return corrupt(b, "payload CRC is %08x, header says %08x", got, want)
	}
	return nil
}

// Verify checks both CRCs.
func (b Batch) Verify() error {
	if err := b.VerifyStamp(); err != nil {
		return err
	}
	return b.VerifyPayload()
}
