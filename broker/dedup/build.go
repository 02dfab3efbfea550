package dedup

import (
	"errors"
	"fmt"
	"time"

	"github.com/dgraph-io/badger/v4"

	"github.com/sequitur-mq/sequitur/log"
	"github.com/sequitur-mq/sequitur/record"
	"github.com/sequitur-mq/sequitur/wire"
)

// inlineOffsets is how far a partition's view may be behind its log for the
// first send to bring it up itself. More is left to the build loop.
const inlineOffsets = 4_096

func (p *Partition) rebuildingError() error {
	return overloaded("the message ids of partition %s are being read from its log; send again", p.id)
}

// attach makes the view agree with the log. The caller holds p.mu, and x.mu for reading.
func (p *Partition) attach(db *badger.DB, incarnation uint64) error {
	if changes := p.changes.Load(); p.state != building && (p.incarnation != incarnation || p.seen != changes) {
		p.state, p.seen = cold, changes
	}
	epoch := p.replica.LedEpoch()
	if epoch == 0 {
		return wire.Errorf(wire.CodeNotLeader, "this broker does not lead partition %s", p.id)
	}
	if p.state != building && p.epoch != epoch && !p.x.o.breaks.oldEpoch {
		// Others may have led since, and what was pending here may never have been committed.
		p.state = cold
	}
	if p.state == cold {
		p.epoch = epoch
	}
	switch {
	case p.state == ready:
		return nil
	case p.state == building || p.applying:
		return p.rebuildingError()
	case p.state == cold:
		from, err := p.origin(db)
		if err != nil {
			p.x.damaged(err)
			return p.rebuildingError()
		}
		p.position = from
		p.incarnation = incarnation
	}
	p.clearPending()
	if p.replica.Log().End()-p.position.offset > inlineOffsets {
		p.state = building
		p.x.enqueueBuild(p)
		return p.rebuildingError()
	}
	if err := p.catchUp(db); err != nil {
		p.x.damaged(err)
		return p.rebuildingError()
	}
	p.state = ready
	return nil
}

// origin decides from where the log is to be walked.
func (p *Partition) origin(db *badger.DB) (position, error) {
	window, l := p.window.Load(), p.replica.Log()
	at, ok, err := loadPosition(db, recordKey(p.id))
	if err != nil {
		return position{}, fmt.Errorf("read the position of partition %s: %w", p.id, err)
	}
	fresh := position{window: window, offset: l.End()}
	if ok {
		fresh.generation = at.generation
		switch {
		case !p.matches(at):
			fresh.generation++
		case at.window >= window:
			at.window = window
			return at, nil
		}
	}
	if p.x.o.breaks.noRebuild {
		return fresh, nil
	}
	oldest := p.x.o.Now().Add(-time.Duration(window)).UnixNano()
	if fresh.offset, _, err = l.OffsetByTime(oldest); err != nil {
		p.x.o.Logger.Warn("message ids are read from the whole partition", "partition", p.id.String(), "error", err)
		fresh.offset = l.Start()
	}
	return fresh, nil
}

// matches reports whether the log still has what was applied up to a position.
func (p *Partition) matches(at position) bool {
	l := p.replica.Log()
	if at.partial && !p.x.o.breaks.noPartial {
		return false
	}
	if p.x.o.breaks.noStamp {
		return at.offset <= l.End()
	}
	if at.last == (stamp{}) || at.offset > l.End() || at.offset <= l.Start() {
		return false
	}
	same := false
	err := l.Batches(at.offset-1, func(b record.Batch) error {
		found := stampOf(b)
		if p.x.o.breaks.timeOnly {
			found.crc = at.last.crc
		}
		same = b.NextOffset() == at.offset && found == at.last
		return errStopWalk
	})
	return errors.Is(err, errStopWalk) && same
}

var errStopWalk = errors.New("enough")

// walk hands the ids of every batch from an offset on to fn, until fn fails, and returns
// up to where it got. Damaged stretches are left out: what was there cannot be known.
func (p *Partition) walk(from int64, generation uint32, fn func(*batchIDs) error) (reached int64, err error) {
	e := p.x.extractors.Get().(*extractor)
	defer p.x.extractors.Put(e)
	l := p.replica.Log()
	for from = max(from, l.Start()); ; {
		err := l.Batches(from, func(b record.Batch) error {
			ids := &batchIDs{base: b.BaseOffset(), next: b.NextOffset(), last: stampOf(b)}
			if err := e.extract(ids, b, 0, p.id, generation); err != nil {
				return fmt.Errorf("batch at offset %d: %w", b.BaseOffset(), err)
			}
			ids.text = string(ids.keys)
			if err := fn(ids); err != nil {
				return err
			}
			from = ids.next
			return nil
		})
		var hole *log.CorruptError
		switch {
		case err == nil:
			return from, nil
		case errors.As(err, &hole) && hole.To > from:
			p.x.o.Logger.Error("message ids are read around damage: repeats of what was there are not recognised", "partition", p.id.String(), "error", err)
			from = hole.To
		case errors.Is(err, log.ErrOutOfRange) && l.Start() > from:
			from = l.Start() // retention overtook us
		default:
			return from, err
		}
	}
}

// catchUp applies the log from the position to the high watermark and makes the rest
// pending. The caller holds p.mu, and x.mu for reading.
func (p *Partition) catchUp(db *badger.DB) error {
	w := p.x.newWriter(db)
	defer w.discard()
	hw := p.replica.HighWatermark()
	at := p.position
	_, err := p.walk(at.offset, at.generation, func(b *batchIDs) error {
		if b.next > hw {
			if len(b.ids) > 0 {
				p.addPending(b)
			}
			return nil
		}
		from := at
		at.offset, at.last = b.next, b.last
		return w.add(p, b, from, at)
	})
	if err == nil {
		err = w.flush()
	}
	if err != nil {
		return fmt.Errorf("read the message ids of partition %s: %w", p.id, err)
	}
	p.position = at
	return nil
}

func (x *Index) enqueueBuild(p *Partition) {
	x.rebuilding.Add(1)
	x.work.Lock()
	x.builds = append(x.builds, p)
	x.work.Unlock()
	poke(x.build)
}

// buildLoop rebuilds partitions, and the store when it is damaged.
func (x *Index) buildLoop() {
	defer x.running.Done()
	for {
		select {
		case <-x.stop:
			return
		case <-x.build:
		}
		for {
			x.work.Lock()
			damage := x.damage
			x.damage = nil
			var p *Partition
			if damage == nil && len(x.builds) > 0 {
				p, x.builds = x.builds[0], x.builds[1:]
			}
			x.work.Unlock()
			switch {
			case damage != nil:
				x.renew(damage)
				continue
			case p != nil && !x.stopping():
				x.rebuild(p)
				x.rebuilding.Add(-1)
				continue
			}
			break
		}
	}
}

// rebuild walks the log of a partition that is building, then makes it ready.
func (x *Index) rebuild(p *Partition) {
	began := time.Now()
	p.mu.Lock()
	at, incarnation, changes := p.position, p.incarnation, p.seen
	p.mu.Unlock()
	start := at.offset
	for {
		for !x.room() {
			if !x.pause(freeCheckPause) {
				return
			}
		}
		next, err := x.buildSome(p, at, incarnation)
		if err != nil {
			if !errors.Is(err, errClosed) {
				x.damaged(err)
			}
			p.mu.Lock()
			p.state = cold
			p.mu.Unlock()
			return
		}
		done := next.offset == at.offset
		at = next
		p.mu.Lock()
		p.position = at
		if p.changes.Load() != changes || p.dropped.Load() {
			p.state = cold
			p.mu.Unlock()
			return
		}
		if done || p.replica.Log().End()-at.offset <= inlineOffsets {
			p.state = built
			p.mu.Unlock()
			x.rebuilt.Add(1)
			x.o.Logger.Info("message ids read from the log", "partition", p.id.String(), "from", start, "to", at.offset, "took", time.Since(began))
			return
		}
		p.mu.Unlock()
	}
}

// chunkIDs is how many ids are applied between two looks at whether to go on.
const chunkIDs = 50_000

// buildSome applies some of the log from at, below the high watermark.
func (x *Index) buildSome(p *Partition, at position, incarnation uint64) (position, error) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	if x.closed || x.db == nil || x.incarnation != incarnation {
		return at, errClosed
	}
	w := x.newWriter(x.db)
	defer w.discard()
	hw, count := p.replica.HighWatermark(), 0
	reached, err := p.walk(at.offset, at.generation, func(b *batchIDs) error {
		if b.next > hw || count >= chunkIDs {
			return errStopWalk
		}
		count += len(b.ids) + 1
		from := at
		at.offset, at.last = b.next, b.last
		return w.add(p, b, from, at)
	})
	if err != nil && !errors.Is(err, errStopWalk) {
		return at, err
	}
	err = w.flush()
	at.offset = max(at.offset, min(reached, hw)) // over damage
	return at, err
}

// room reports whether the disk has space to write the store. Badger maps its files: a
// full disk would kill the process.
func (x *Index) room() bool {
	if x.o.Free == nil {
		return true
	}
	free, _, err := x.o.Free()
	return err != nil || free >= minFree
}

func (x *Index) stopping() bool {
	select {
	case <-x.stop:
		return true
	default:
		return false
	}
}

// pause returns false if the index is being closed meanwhile.
func (x *Index) pause(d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-x.stop:
		return false
	}
}
