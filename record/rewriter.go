package record

// Rewriter removes records from batches, for compaction and for message-id
// deduplication. It has one owner: it is not safe for concurrent use. The zero value
// is ready.
type Rewriter struct {
	builder Builder
	reader  Reader
	rec     Record
	in      Decompressor
	out     Compressor
}

// Rewrite returns a batch with only those records of b for which keep is true.
// Offsets, the offsets and sequence numbers that the batch consumes, producer fields,
// stamp, extension and base timestamp stay as they are; the records are encoded anew
// with b's codec. The record handed to keep is valid during the call only. With
// nothing removed the result is b itself, else it is memory of the Rewriter, valid
// until the next call. CRCs of b are not checked.
func (w *Rewriter) Rewrite(b Batch, lim Limits, keep func(*Record) bool) (Batch, error) {
	if err := w.reader.Reset(b, &w.in, lim); err != nil {
		return nil, err
	}
	attrs := b.Attributes()
	w.start(b)
	ids := false
	for {
		more, err := w.reader.Next(&w.rec)
		if err != nil {
			return nil, err
		}
		if !more {
			break
		}
		if !keep(&w.rec) {
			continue
		}
		if attrs.MessageIDs() && !ids {
			_, ids = w.rec.MessageID()
		}
		w.builder.appendEncoded(w.rec.OffsetDelta, b.BaseTimestamp()+w.rec.TimestampDelta, w.reader.encoded())
	}
	if w.builder.count == b.Count() {
		return b, nil
	}
	if ids {
		w.builder.attrs |= attrMessageIDs
	}
	out, err := w.builder.Build(&w.out, attrs.Codec(), b.ProducerID(), b.ProducerEpoch(), b.BaseSequence())
	if err != nil {
		return nil, err
	}
	copy(out[atStampFlags:atStampCRC], b[atStampFlags:atStampCRC])
	out.sealStamp()
	return out, nil
}

// start readies the builder for a batch like b, without its records.
func (w *Rewriter) start(b Batch) {
	w.builder.Reset()
	w.builder.setExtension(b.Extension())
	w.builder.SetBaseTimestamp(b.BaseTimestamp())
	w.builder.SetLastOffsetDelta(b.LastOffsetDelta())
	w.builder.attrs = b.Attributes() & (attrControl | attrTransactional)
}
