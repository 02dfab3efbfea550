package dedup

import (
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dgraph-io/badger/v4"

	"github.com/sequitur-mq/sequitur/log"
	"github.com/sequitur-mq/sequitur/record"
	"github.com/sequitur-mq/sequitur/replication/replica"
	"github.com/sequitur-mq/sequitur/wire"
)

// Replica is what the view needs of a partition's replica; *replica.Replica is one.
type Replica interface {
	Log() *log.Partition
	HighWatermark() int64
	// LedEpoch is the epoch in which the replica leads, 0 if it does not.
	LedEpoch() uint32
}

// Partition is the view of one partition.
type Partition struct {
	x       *Index
	id      log.ID
	window  atomic.Int64  // nanoseconds
	changes atomic.Uint64 // of the window
	queued  atomic.Bool   // is in Index.dirty
	dropped atomic.Bool   // the partition was deleted

	mu          sync.Mutex // held from Claim to Finish
	replica     Replica
	state       state
	incarnation uint64   // of the store that state speaks of
	epoch       uint32   // in which every append has gone through Claim since state was ready
	seen        uint64   // of changes, by state
	applying    bool     // the apply loop has taken ids out of pending
	position    position // in the store
	pending     []*batchIDs
	pendingIDs  map[string]place // of pending and of what is being applied
}

// state of a partition's view.
type state uint8

const (
	cold     state = iota // not looked at since the start, or since the window was changed
	building              // the build loop is walking the log
	built                 // it has; what came since is to be walked
	ready
)

// A Duplicate is a record that was stored before.
type Duplicate struct {
	Delta  int64 // offset of the repeat after the base of its append; its index, too, as producers' batches are dense
	Offset int64 // of the first one
	inside bool  // Offset counts from the base of the same append
}

// Claim is a send under way. The partition takes no other one until Finish.
type Claim struct {
	// Batches are to be appended in place of what was given to Claim: the same
	// bytes, or a copy without the duplicates.
	Batches []byte
	// Epoch is the one in which they are to be appended, or not at all: in another one
	// there may be records that the view has not seen.
	Epoch uint32

	p     *Partition
	ids   *batchIDs
	fresh int   // ids that are not duplicates, moved to the front
	size  int64 // offsets that the batches take
}

// AppendDuplicates turns what Claim found into the answer of an append with the
// given result. Where the whole append repeats an earlier one, ids that were first stored by that
// one are no duplicates.
func AppendDuplicates(dst []wire.DuplicateRecord, found []Duplicate, r replica.Result) []wire.DuplicateRecord {
	for _, d := range found {
		offset := d.Offset
		if d.inside {
			offset += r.BaseOffset
		}
		if offset != r.BaseOffset+d.Delta {
			dst = append(dst, wire.DuplicateRecord{Index: uint32(d.Delta), Offset: offset})
		}
	}
	return dst
}

// SetWindow changes how long ids are remembered; 0 says that sends no longer go
// through Claim. It does not block. The next claim makes the view agree with the log again.
func (p *Partition) SetWindow(window time.Duration) {
	if p.window.Load() == int64(window) {
		return
	}
	// Counted before and after: whoever reads the window and then the count as
	// it was knows that the window is of that count, and whoever reads them the other way round
	// finds the count changed later.
	p.changes.Add(1)
	p.window.Store(int64(window))
	p.changes.Add(1)
}

// Claim looks up the message ids of whole, dense batches that are about to be appended
// together, and appends those that were stored within the window to found. The
// caller appends Claim.Batches, and calls Finish in any case.
//
// The claim is nil if no record has an id. Errors are *wire.Error with CodeOverloaded, for example while
// the view is being rebuilt, or of record for malformed batches; nothing is
// claimed then.
func (p *Partition) Claim(batches []byte, found []Duplicate) (*Claim, []Duplicate, error) {
	if !HasIDs(batches) {
		return nil, found, nil
	}
	x := p.x
	if n := x.pending.Load(); n >= int64(x.o.MaxPending) {
		x.markDirty(p)
		return nil, found, overloaded("%d message ids wait to be indexed: the disk or the index is behind", n)
	}
	db, incarnation, err := x.use()
	if err != nil {
		return nil, found, err
	}
	defer x.mu.RUnlock()
	p.mu.Lock()
	c, found, err := p.claim(db, incarnation, batches, found)
	if err != nil {
		p.mu.Unlock()
		return nil, found, err
	}
	return c, found, nil
}

// claim is called with x.mu held for reading and p.mu.
func (p *Partition) claim(db *badger.DB, incarnation uint64, batches []byte, found []Duplicate) (*Claim, []Duplicate, error) {
	if err := p.attach(db, incarnation); err != nil {
		return nil, found, err
	}
	e := p.x.extractors.Get().(*extractor)
	defer p.x.extractors.Put(e)
	c := &Claim{Batches: batches, Epoch: p.epoch, p: p, ids: newBatchIDs(record.Batch(batches).Count())}
	for rest := batches; len(rest) > 0; {
		b := record.Batch(rest[:record.Batch(rest).Length()])
		if err := e.extract(c.ids, b, c.size, p.id, p.position.generation); err != nil {
			return nil, found, err
		}
		if !p.x.o.breaks.wrongOffset {
			c.size += int64(b.LastOffsetDelta()) + 1
		}
		rest = rest[len(b):]
	}
	c.ids.text = string(c.ids.keys)
	before := len(found)
	found, err := c.lookUp(db, e, found)
	if err != nil {
		p.x.damaged(err)
		return nil, found[:before], overloaded("the message-id index is damaged and is being rebuilt: %v", err)
	}
	if err := c.remove(&e.rewrite, found[before:]); err != nil {
		return nil, found[:before], err
	}
	p.x.lookups.Add(uint64(len(c.ids.ids)))
	return c, found, nil
}

// lookUp moves the fresh ids to the front and appends the others to found.
// Pending ids are asked for before the store is, as they move from here to there.
func (c *Claim) lookUp(db *badger.DB, e *extractor, found []Duplicate) ([]Duplicate, error) {
	oldest := c.p.x.o.Now().UnixNano() - c.p.window.Load()
	if c.p.x.o.breaks.noWindow {
		oldest = -1 << 63
	}
	e.known = e.known[:0]
	for i := range c.ids.ids {
		at, ok := c.p.pendingIDs[c.ids.id(i)]
		if !ok {
			at.offset = -1
		}
		e.known = append(e.known, at)
	}
	txn := db.NewTransaction(false)
	defer txn.Discard()
	clear(e.seen)
	for i, at := range e.known {
		id, delta := c.ids.id(i), c.ids.ids[i].delta
		if first, ok := e.seen[id]; ok && !c.p.x.o.breaks.noRepeats {
			found = append(found, Duplicate{Delta: delta, Offset: first, inside: true})
			continue
		}
		ok := at.offset >= 0
		if !ok {
			var err error
			if at, ok, err = find(txn, c.ids.key(i)); err != nil {
				return found, fmt.Errorf("look up a message id: %w", err)
			}
		}
		if ok && at.time >= oldest {
			found = append(found, Duplicate{Delta: delta, Offset: at.offset})
			continue
		}
		e.seen[id] = delta
		c.ids.ids[c.fresh] = c.ids.ids[i]
		c.fresh++
	}
	return found, nil
}

// remove takes the duplicates out of the batches, in a copy.
func (c *Claim) remove(rewriter *record.Rewriter, found []Duplicate) error {
	if len(found) == 0 {
		return nil
	}
	out := make([]byte, 0, len(c.Batches))
	behind := int64(0)
	for rest := c.Batches; len(rest) > 0; {
		b := record.Batch(rest[:record.Batch(rest).Length()])
		rest = rest[len(b):]
		kept, err := rewriter.Rewrite(b, c.p.x.o.Limits, func(r *record.Record) bool {
			if len(found) > 0 && found[0].Delta == behind+r.OffsetDelta {
				found = found[1:]
				return false
			}
			return true
		})
		if err != nil {
			return fmt.Errorf("remove duplicates: %w", err)
		}
		out = append(out, kept...)
		behind += int64(b.LastOffsetDelta()) + 1
	}
	c.Batches = slices.Clip(out)
	return nil
}

// Finish ends the claim with the outcome of the append. A nil claim has nothing to finish.
func (c *Claim) Finish(r replica.Result, err error) {
	if c == nil {
		return
	}
	p := c.p
	appended := err == nil && !r.Duplicate
	if appended {
		p.x.duplicates.Add(uint64(len(c.ids.ids) - c.fresh))
	}
	stored := appended && c.fresh > 0 && !p.dropped.Load() && !p.x.o.breaks.noPending
	if stored {
		ids := c.ids
		ids.ids = ids.ids[:c.fresh]
		ids.base, ids.next, ids.last = r.BaseOffset, r.BaseOffset+c.size, stamp{r.AppendTime, c.lastCRC()}
		p.addPending(ids)
	}
	p.mu.Unlock()
	if stored {
		p.x.markDirty(p)
	}
}

// lastCRC is the payload CRC of the last batch.
func (c *Claim) lastCRC() uint32 {
	rest := c.Batches
	for n := record.Batch(rest).Length(); int(n) < len(rest); n = record.Batch(rest).Length() {
		rest = rest[n:]
	}
	return record.Batch(rest).PayloadCRC()
}

// Committed says that the high watermark may have moved: ids can be applied. It
// does not block.
func (p *Partition) Committed() { p.x.markDirty(p) }

func (p *Partition) addPending(b *batchIDs) {
	p.pending = append(p.pending, b)
	p.x.pending.Add(int64(len(b.ids)))
	for i := range b.ids {
		p.pendingIDs[b.id(i)] = place{b.offset(i), b.last.time}
	}
}

// clearPending forgets what waits to be applied. The caller holds mu.
func (p *Partition) clearPending() {
	for _, b := range p.pending {
		p.x.pending.Add(-int64(len(b.ids)))
	}
	p.pending = nil
	clear(p.pendingIDs)
}
