package record

// MessageIDHeader names the record header that holds the message id: the
// idempotency key that the client chose.
const MessageIDHeader = "msg-id"

// Header is one header of a record. A nil value is null.
type Header struct {
	Key   string
	Value []byte
}

// Record is one record of a batch. A nil key or value is null.
type Record struct {
	OffsetDelta    int64 // after the batch's base offset
	TimestampDelta int64 // milliseconds after the batch's base timestamp
	Key, Value     []byte
	Headers        []Header
}

// MessageID returns the record's message id, and false if it has none. With several
// headers of that name the first counts.
func (r *Record) MessageID() ([]byte, bool) {
	for i := range r.Headers {
		if r.Headers[i].Key == MessageIDHeader {
			return r.Headers[i].Value, true
		}
	}
	return nil, false
}

// maxFrameOverhead bounds the bytes of a record that are neither key, value nor
// headers: length, attributes, timestamp delta, offset delta, key length, value
// length, header count.
const maxFrameOverhead = 5 + 1 + 10 + 5 + 5 + 5 + 5

// MaxRecordSize returns an upper bound of the encoded size of a record in bytes.
func MaxRecordSize(key, value []byte, headers []Header) int {
	n := maxFrameOverhead + len(key) + len(value)
	for i := range headers {
		n += 10 + len(headers[i].Key) + len(headers[i].Value)
	}
	return n
}
