package dedup

import (
	"time"

	"github.com/dgraph-io/badger/v4"
)

// A writer brings ids of one or more partitions into the store. Each transaction
// ends with the positions behind the batches whose ids it completes.
type writer struct {
	db        *badger.DB
	txn       *badger.Txn
	size      int                     // keys in txn
	positions map[*Partition]position // to be written with txn

	breaks      breakage
	afterCommit func()
}

func (x *Index) newWriter(db *badger.DB) *writer {
	return &writer{db: db, positions: map[*Partition]position{}, breaks: x.o.breaks, afterCommit: x.o.afterCommit}
}

// add writes the ids of a batch and moves the partition's position behind it, from
// where the batches before left it.
func (w *writer) add(p *Partition, b *batchIDs, from, to position) error {
	if w.size+len(w.positions)+len(b.ids) >= maxTransaction {
		if err := w.flush(); err != nil {
			return err
		}
	}
	if len(b.ids) >= maxTransaction {
		if err := w.announce(p, from, to); err != nil {
			return err
		}
	}
	if w.breaks.positionFirst {
		w.positions[p] = to
		if err := w.flush(); err != nil {
			return err
		}
	}
	for i := range b.ids {
		if w.size >= maxTransaction {
			if err := w.flush(); err != nil {
				return err
			}
		}
		entry := badger.NewEntry(b.key(i), place{b.offset(i), b.last.time}.bytes())
		entry.ExpiresAt = uint64((b.last.time+to.window)/int64(time.Second)) + 1
		if err := w.transaction().SetEntry(entry); err != nil {
			return err
		}
		w.size++
	}
	w.positions[p] = to
	return nil
}

// announce writes, on its own, that ids behind the present position follow.
func (w *writer) announce(p *Partition, from, to position) error {
	from.partial, from.generation, from.window = true, to.generation, to.window
	w.positions[p] = from
	return w.flush()
}

func (w *writer) transaction() *badger.Txn {
	if w.txn == nil {
		w.txn = w.db.NewTransaction(true)
	}
	return w.txn
}

// flush commits what was added.
func (w *writer) flush() error {
	for p, to := range w.positions {
		if err := w.transaction().Set(recordKey(p.id), to.bytes()); err != nil {
			return err
		}
	}
	clear(w.positions)
	if w.txn == nil {
		return nil
	}
	err := w.txn.Commit()
	w.txn, w.size = nil, 0
	if w.afterCommit != nil && err == nil {
		w.afterCommit()
	}
	return err
}

// discard gives up what was not committed.
func (w *writer) discard() {
	if w.txn != nil {
		w.txn.Discard()
		w.txn, w.size = nil, 0
	}
	clear(w.positions)
}
