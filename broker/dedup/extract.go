package dedup

import (
	"github.com/sequitur-mq/sequitur/log"
	"github.com/sequitur-mq/sequitur/record"
)

// batchIDs are message ids of one append, with their keys in the store.
type batchIDs struct {
	base int64 // offset of the append
	next int64 // offset behind it
	last stamp // of the last batch of the append
	keys []byte
	text string // keys again: map keys are cut from it without an allocation each
	ids  []idSpan
}

// idSpan is one id.
type idSpan struct {
	from, to int   // of its key in keys
	delta    int64 // offset of the record after base
}

// newBatchIDs makes room for the ids of some records.
func newBatchIDs(records uint32) *batchIDs {
	n := min(int(records), 1<<12)
	return &batchIDs{ids: make([]idSpan, 0, n), keys: make([]byte, 0, n*(idPrefixSize+24))}
}

func (b *batchIDs) key(i int) []byte   { return b.keys[b.ids[i].from:b.ids[i].to] }
func (b *batchIDs) id(i int) string    { return b.text[b.ids[i].from:b.ids[i].to] }
func (b *batchIDs) offset(i int) int64 { return b.base + b.ids[i].delta }

// An extractor reads message ids out of batches. It has one user at a time.
type extractor struct {
	limits  record.Limits
	in      *record.Decompressor
	reader  record.Reader
	rec     record.Record
	rewrite record.Rewriter
	known   []place          // of the ids of a claim
	seen    map[string]int64 // delta of the fresh ids of a claim
}

// HasIDs reports whether some record of whole batches carries a message id.
func HasIDs(batches []byte) bool {
	for len(batches) > 0 {
		b := record.Batch(batches)
		if b.Attributes().MessageIDs() {
			return true
		}
		batches = batches[b.Length():]
	}
	return false
}

// extract appends the ids of b to ids; deltas count from behind, the offsets which
// the batches before b in the same append take.
func (e *extractor) extract(ids *batchIDs, b record.Batch, behind int64, p log.ID, generation uint32) error {
	if attrs := b.Attributes(); !attrs.MessageIDs() || attrs.Control() {
		return nil
	}
	if err := e.reader.Reset(b, e.in, e.limits); err != nil {
		return err
	}
	for {
		more, err := e.reader.Next(&e.rec)
		if err != nil || !more {
			return err
		}
		id, ok := e.rec.MessageID()
		if !ok || len(id) == 0 {
			continue
		}
		from := len(ids.keys)
		ids.keys = appendKey(ids.keys, p, generation, id)
		ids.ids = append(ids.ids, idSpan{from, len(ids.keys), behind + e.rec.OffsetDelta})
	}
}
