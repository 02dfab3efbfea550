package dedup

import (
	"errors"

	"github.com/dgraph-io/badger/v4"

	"github.com/sequitur-mq/sequitur/record"
)

// markDirty puts the partition on the apply loop's list.
func (x *Index) markDirty(p *Partition) {
	if p.queued.CompareAndSwap(false, true) {
		x.work.Lock()
		x.dirty = append(x.dirty, p)
		x.work.Unlock()
	}
	poke(x.apply)
}

// applyLoop brings pending ids below the high watermark into the store, those of many
// partitions with one commit.
func (x *Index) applyLoop() {
	defer x.running.Done()
	for {
		select {
		case <-x.stop:
			return
		case <-x.apply:
		}
		for !x.room() {
			if !x.pause(freeCheckPause) {
				return
			}
		}
		x.work.Lock()
		dirty := x.dirty
		x.dirty = nil
		x.work.Unlock()
		for _, p := range dirty {
			p.queued.Store(false)
		}
		x.mu.RLock()
		if x.db != nil {
			if err := x.applyAll(x.db, x.incarnation, dirty); err != nil {
				x.damaged(err)
			}
		}
		x.mu.RUnlock()
	}
}

// taken is what the apply loop took from a partition.
type taken struct {
	p       *Partition
	batches []*batchIDs
	to      position
}

// applyAll applies what is committed of the partitions. The caller holds mu for reading.
func (x *Index) applyAll(db *badger.DB, incarnation uint64, partitions []*Partition) error {
	var all []taken
	for _, p := range partitions {
		if t, ok := p.take(incarnation); ok {
			all = append(all, t)
		}
	}
	if x.o.breaks.forgetEarly {
		for _, t := range all {
			t.p.applied(t, nil)
		}
	}
	if x.o.beforeWrite != nil && len(all) > 0 {
		x.o.beforeWrite()
	}
	err := writeAll(x.newWriter(db), all)
	for _, t := range all {
		t.p.applied(t, err)
	}
	return err
}

func writeAll(w *writer, all []taken) error {
	defer w.discard()
	for i := range all {
		t := &all[i]
		from := t.to
		for _, b := range t.batches {
			t.to.offset, t.to.last = b.next, b.last
			if err := w.add(t.p, b, from, t.to); err != nil {
				return err
			}
			from = t.to
		}
	}
	return w.flush()
}

// take takes the pending batches that are committed. They stay among pendingIDs until
// they are in the store.
func (p *Partition) take(incarnation uint64) (taken, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.dropped.Load() && !p.applying {
		p.clearPending()
	}
	// After a change of the window the position must not claim that ids applied
	// before it will stay for the new one: the next claim sees to it.
	window := p.window.Load()
	changed := p.seen != p.changes.Load() && !p.x.o.breaks.oldWindow
	if p.state != ready || p.incarnation != incarnation || changed || p.applying || len(p.pending) == 0 {
		return taken{}, false
	}
	hw, n := p.replica.HighWatermark(), 0
	if p.lost() {
		p.clearPending()
		p.state = cold
		return taken{}, false
	}
	for n < len(p.pending) && p.pending[n].next <= hw {
		n++
	}
	if n == 0 {
		return taken{}, false
	}
	t := taken{p: p, batches: p.pending[:n:n], to: p.position}
	t.to.window = window
	p.pending = p.pending[n:]
	p.applying = true
	return t, true
}

// lost reports whether the replica has ceased to lead since the view was made to agree
// with its log: what is pending may then be none of the log, whatever the high watermark
// says. It is asked after the high watermark. The caller holds mu.
func (p *Partition) lost() bool {
	return p.replica.LedEpoch() != p.epoch && !p.x.o.breaks.oldEpoch
}

// applied ends what take began.
func (p *Partition) applied(t taken, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.applying = false
	if err == nil && p.state == ready {
		p.position = t.to
	}
	for _, b := range t.batches {
		p.x.pending.Add(-int64(len(b.ids)))
		if err != nil {
			continue // the store is made anew, and the partition attached to it
		}
		for i := range b.ids {
			if id := b.id(i); p.pendingIDs[id] == (place{b.offset(i), b.last.time}) {
				delete(p.pendingIDs, id)
			}
		}
	}
}

// finish applies what is left and moves positions to the ends of the logs, so that the
// next start has nothing to walk. The caller holds mu, and nothing else runs.
func (x *Index) finish() error {
	x.register.Lock()
	defer x.register.Unlock()
	var all []*Partition
	for _, p := range x.partitions {
		all = append(all, p)
	}
	if err := x.applyAll(x.db, x.incarnation, all); err != nil {
		return err
	}
	w := x.newWriter(x.db)
	defer w.discard()
	for _, p := range all {
		if to, ok := p.atEnd(x.incarnation); ok {
			if err := w.add(p, &batchIDs{}, to, to); err != nil {
				return err
			}
		}
	}
	return w.flush()
}

// atEnd returns the position at the end of the log, if everything is applied and
// committed.
func (p *Partition) atEnd(incarnation uint64) (to position, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.state != ready || p.incarnation != incarnation || p.dropped.Load() || len(p.pending) > 0 {
		return position{}, false
	}
	window := p.window.Load()
	if p.seen != p.changes.Load() {
		return position{}, false
	}
	to, to.window = p.position, window
	hw := p.replica.HighWatermark()
	if hw <= to.offset || p.lost() {
		return position{}, false
	}
	err := p.replica.Log().Batches(hw-1, func(b record.Batch) error {
		to.offset, to.last = b.NextOffset(), stampOf(b)
		return errStopWalk
	})
	return to, errors.Is(err, errStopWalk) && to.offset == hw
}
