package record

// Reader walks through the records of a batch. It has one owner: it is not safe for
// concurrent use. The zero value is ready for Reset.
type Reader struct {
	buf   []byte // records section, decompressed
	pos   int    // of the next record in buf
	left  uint32 // records to come
	next  int64  // smallest offset delta that the next record may have
	last  int64  // greatest that any may have
	base  int64  // base offset, for errors
	start int    // of the current record in buf
	keys  [keyCache]string
}

// keyCache is how many header keys the reader remembers, by header position, so that
// records with the same headers cost no allocation.
const keyCache = 8

// Reset starts at the first record of b, which [Parse] returned. Compressed records
// are decompressed into memory of d, valid until d is used again; d may be nil for
// batches that are not compressed. CRCs are not checked.
func (r *Reader) Reset(b Batch, d *Decompressor, lim Limits) error {
	if b.Attributes().Codec() == CodecNone {
		records, err := plainRecords(b, lim)
		if err != nil {
			return err
		}
		r.ResetRecords(b, records)
		return nil
	}
	records, err := d.Records(d.buf[:0], b, lim)
	if err != nil {
		r.ResetRecords(b, nil)
		r.left = 0
		return err
	}
	if cap(records) > cap(d.buf) {
		d.buf = records[:0]
	}
	r.ResetRecords(b, records)
	return nil
}

// ResetRecords starts at the first record of b with the records section that
// [Decompressor.Records] returned for it.
func (r *Reader) ResetRecords(b Batch, records []byte) {
	r.buf, r.pos, r.start = records, 0, 0
	r.left = b.Count()
	r.next, r.last = 0, int64(b.LastOffsetDelta())
	r.base = b.BaseOffset()
}

// Next decodes the next record into rec and returns false after the last one. Key,
// value and header values alias the records section; the headers slice of rec is
// used again. The error is a *CorruptError. 0 allocations per record.
func (r *Reader) Next(rec *Record) (bool, error) {
	if r.left == 0 {
		if r.pos != len(r.buf) {
			return false, r.corrupt("bytes after the last record")
		}
		return false, nil
	}
	r.left--
	r.start = r.pos
	b, at := r.buf, r.pos
	length, i := shortUvarint(b, at)
	if length&notShort != 0 {
		length, i = longUvarint(b, at)
	}
	if i < 0 || length&1 != 0 || length>>1 > uint64(len(b)-i) {
		return false, r.corrupt("record length")
	}
	end := i + int(length>>1)
	b = b[:end]
	r.pos = end
	if i >= len(b) || b[i] != 0 {
		return false, r.corrupt("record attributes")
	}
	at = i + 1
	timeDelta, i := shortUvarint(b, at)
	if timeDelta&notShort != 0 {
		timeDelta, i = longUvarint(b, at)
		if i < 0 {
			return false, r.corrupt("timestamp delta")
		}
	}
	at = i
	offset, i := shortUvarint(b, at)
	if offset&notShort != 0 {
		offset, i = longUvarint(b, at)
	}
	delta := int64(offset >> 1)
	if i < 0 || offset&1 != 0 || delta < r.next || delta > r.last {
		return false, r.corrupt("offset delta")
	}
	r.next = delta + 1
	rec.OffsetDelta, rec.TimestampDelta = delta, unzigzag(timeDelta)

	if rec.Key, i = nullable(b, i); i < 0 {
		return false, r.corrupt("key")
	}
	if rec.Value, i = nullable(b, i); i < 0 {
		return false, r.corrupt("value")
	}
	if end-i == 1 && b[i] == 0 {
		rec.Headers = rec.Headers[:0]
		return true, nil
	}
	return r.headers(rec, b, i)
}

// nullable returns the bytes whose zigzag length and then themselves are at b[i:],
// nil for length -1, and the index after them, or -1 when b ends first.
func nullable(b []byte, i int) ([]byte, int) {
	n, j := shortUvarint(b, i)
	if n&notShort != 0 {
		if n, j = longUvarint(b, i); j < 0 {
			return nil, -1
		}
	}
	if n&1 != 0 {
		if n != 1 {
			return nil, -1
		}
		return nil, j
	}
	if n>>1 > uint64(len(b)-j) {
		return nil, -1
	}
	end := j + int(n>>1)
	return b[j:end:end], end
}

func (r *Reader) headers(rec *Record, b []byte, i int) (bool, error) {
	rec.Headers = rec.Headers[:0]
	at := i
	count, i := shortUvarint(b, at)
	if count&notShort != 0 {
		count, i = longUvarint(b, at)
	}
	// A header takes two bytes at least.
	if i < 0 || count&1 != 0 || count>>1 > uint64(len(b)-i)/2 {
		return false, r.corrupt("header count")
	}
	for k := range int(count >> 1) {
		n, j := shortUvarint(b, i)
		if n&notShort != 0 {
			n, j = longUvarint(b, i)
		}
		if j < 0 || n&1 != 0 || n>>1 > uint64(len(b)-j) {
			return false, r.corrupt("header key length")
		}
		end := j + int(n>>1)
		key := r.key(k, b[j:end])
		var value []byte
		if value, i = nullable(b, end); i < 0 {
			return false, r.corrupt("header value")
		}
		rec.Headers = append(rec.Headers, Header{Key: key, Value: value})
	}
	if i != len(b) {
		return false, r.corrupt("bytes after the record's headers")
	}
	return true, nil
}

// key returns the header key as a string, the one of the last record if it is equal.
func (r *Reader) key(k int, b []byte) string {
	if k >= keyCache {
		return string(b)
	}
	if r.keys[k] != string(b) {
		r.keys[k] = string(b)
	}
	return r.keys[k]
}

func (r *Reader) corrupt(what string) error {
	r.left = 0
	r.pos = len(r.buf)
	return &CorruptError{BaseOffset: r.base, Reason: "record: " + what}
}

// encoded returns the bytes of the record that Next returned last.
func (r *Reader) encoded() []byte { return r.buf[r.start:r.pos] }
