package record

import "math"

// minRecordSize is the size of the smallest record: seven varints of one byte.
const minRecordSize = 7

// PeekLength returns the length field of the batch that b begins with, and false if
// b is too short to hold it. The value is as found: nothing is checked.
func PeekLength(b []byte) (uint32, bool) {
	if len(b) < 4 {
		return 0, false
	}
	return Batch(b).Length(), true
}

// Parse returns the first batch of b and the bytes after it. It checks structure and
// bounds but no CRC and no record. The errors are ErrShort when b ends before the
// batch does, ErrTooLarge when the batch is over the limits, or a *CorruptError.
// ErrTooLarge and corruption are found as early as the bytes at hand allow.
func Parse(b []byte, lim Limits) (batch Batch, rest []byte, err error) {
	if len(b) < 4 {
		return nil, b, ErrShort
	}
	length := uint64(Batch(b).Length())
	if length < HeaderSize {
		return nil, b, &CorruptError{Reason: "length below the header's size"}
	}
	if length > uint64(lim.MaxBatchBytes) {
		return nil, b, tooLarge("bytes", length, uint64(lim.MaxBatchBytes))
	}
	if uint64(len(b)) < HeaderSize {
		return nil, b, ErrShort
	}
	if err := checkHeader(b[:HeaderSize:HeaderSize], lim); err != nil {
		return nil, b, err
	}
	if uint64(len(b)) < length {
		return nil, b, ErrShort
	}
	return Batch(b[:length:length]), b[length:], nil
}

// checkHeader checks all that the header alone can tell; the batch itself may not be
// there yet.
func checkHeader(h Batch, lim Limits) error {
	if h.Format() != Format {
		return corrupt(h, "format %d, this version reads %d", h.Format(), Format)
	}
	if h[atStampFlags]&^stampFlagSynced != 0 || h.u16(atReserved1) != 0 || h.u16(atReserved2) != 0 {
		return corrupt(h, "reserved bits set")
	}
	attrs := h.Attributes()
	if attrs&^attrKnown != 0 {
		return corrupt(h, "unknown attribute bits %#x", uint16(attrs&^attrKnown))
	}
	if attrs.Codec() > CodecZstd {
		return corrupt(h, "unknown codec %d", attrs.Codec())
	}
	offsets := uint64(h.LastOffsetDelta()) + 1
	if offsets > uint64(lim.MaxRecords) {
		return tooLarge("records", offsets, uint64(lim.MaxRecords))
	}
	if h.BaseOffset() < 0 || h.BaseOffset() > math.MaxInt64-int64(offsets) {
		return corrupt(h, "base offset out of range")
	}
	if uint64(h.Count()) > offsets {
		return corrupt(h, "%d records in %d offsets", h.Count(), offsets)
	}
	return checkSizes(h, lim)
}

func checkSizes(h Batch, lim Limits) error {
	body := uint64(h.Length()) - HeaderSize
	extension, size := uint64(h.ExtensionSize()), uint64(h.RecordsSize())
	if extension > body {
		return corrupt(h, "extension of %d bytes in a body of %d", extension, body)
	}
	if size > uint64(lim.MaxRecordsBytes) {
		return tooLarge("records size", size, uint64(lim.MaxRecordsBytes))
	}
	if h.Attributes().Codec() == CodecNone && size != body-extension {
		return corrupt(h, "records section of %d bytes, header says %d", body-extension, size)
	}
	if size < uint64(h.Count())*minRecordSize {
		return corrupt(h, "%d records cannot fit in %d bytes", h.Count(), size)
	}
	if h.Count() == 0 && size != 0 {
		return corrupt(h, "no records in %d bytes", size)
	}
	return nil
}
