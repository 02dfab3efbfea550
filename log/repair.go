package log

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"path/filepath"

	"github.com/sequitur-mq/sequitur/internal/vfs"
	"github.com/sequitur-mq/sequitur/record"
)

// ErrNoFit is returned by RepairHole for batches that cannot be what the log held there.
var ErrNoFit = errors.New("batches do not fit the damaged range")

// repairFile is where a repaired segment is written, in the partition's directory.
const repairFile = "repair.tmp"

// Damaged looks again at what was found damaged, and returns the first range of offsets that RepairHole can replace.
// from == to: there is none; holes whose file is whole (again) are forgotten.
func (p *Partition) Damaged() (from, to int64, err error) {
	for {
		p.mu.Lock()
		if len(p.holes) == 0 {
			p.mu.Unlock()
			return 0, 0, nil
		}
		file, start := p.holes[0].File, p.start
		var v view
		for i, g := range p.segments {
			if g.path() == file {
				v = p.viewOf(i)
			}
		}
		p.mu.Unlock()
		if v.g != nil {
			list, err := p.stretches(v)
			if errors.Is(err, errSegmentGone) {
				continue
			}
			if err != nil {
				return 0, 0, err
			}
			for _, s := range list {
				if s.bad != nil && s.next > start {
					return max(s.first, start), s.next, nil
				}
			}
		}
		p.forgetHoles(file)
	}
}

func (p *Partition) forgetHoles(file string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	var kept []Hole
	for _, hole := range p.holes {
		if hole.File != file {
			kept = append(kept, hole)
		}
	}
	p.holes = kept
}

// stretch is a batch of a segment file, or what lies damaged between two.
type stretch struct {
	at, end     int64 // bytes
	first, next int64 // offsets
	time        int64 // append time of the batch
	batch       []byte
	bad         error
}

// stretches reads all of a segment file and lists what it consists of; batches are not kept. A file that is missing is
// one damaged stretch.
func (p *Partition) stretches(v view) (list []stretch, err error) {
	h, err := p.s.files.acquire(v.g)
	if err != nil {
		if err = p.unopened(v, v.g.base, err); errors.Is(err, ErrCorrupt) {
			return []stretch{{end: v.size, first: v.g.base, next: v.next, bad: err}}, nil
		}
		return nil, err
	}
	defer h.release()
	w := p.s.walkers.get(h.f, 0, v.size, false)
	defer p.s.walkers.put(w)
	for offset := v.g.base; ; {
		at := w.at
		b, err := w.next()
		if err == nil && b.BaseOffset() < offset {
			err = &badBatch{at, fmt.Errorf("offset %d after %d", b.BaseOffset(), offset)}
		}
		var bad *badBatch
		switch {
		case err == nil:
			list = append(list, stretch{at: at, end: w.at, first: b.BaseOffset(), next: b.NextOffset(), time: b.AppendTime()})
			offset = b.NextOffset()
		case errors.Is(err, io.EOF):
			return list, nil
		case errors.As(err, &bad):
			next, base, ok := nextValid(h.f, bad.position+1, v.size, offset)
			if !ok {
				return append(list, stretch{at: at, end: v.size, first: offset, next: v.next, bad: bad}), nil
			}
			list = append(list, stretch{at: at, end: next, first: offset, next: base, bad: bad})
			w.at, offset = next, base
		default:
			return nil, err
		}
	}
}

// RepairHole replaces the damaged offsets [from, to) by the batches that another replica holds there: whole, intact, in
// order, of the epochs that this log knows, between their neighbours in append time, and without a gap unless the
// topic is compacted. The range is one that Damaged returned, or several of them in one segment with readable batches
// between, which must then be the same. If from is the log start the first batch may begin before it.
//
// The segment is written anew beside the old one and takes its place with one journal entry: after a crash there is the
// hole, or what fills it. The hole is forgotten when RepairHole returns; c (may be nil) is told when all is durable.
// With an error nothing has changed and c is not called: ErrNoFit, ErrOutOfRange if retention has passed the range,
// ErrStorageFull, or as Append. Appends and reads go on meanwhile. An append after it begins a new segment.
func (p *Partition) RepairHole(from, to int64, batches []byte, c Completion) error {
	p.s.repairing.Lock() // one at a time is enough, and bounds the disk space that they take
	defer p.s.repairing.Unlock()
	err := p.repairHole(from, to, batches, c)
	if err != nil {
		return fmt.Errorf("repair offsets [%d, %d) of partition %s: %w", from, to, p.id, err)
	}
	p.s.log.Info("damage repaired from another replica", "partition", p.id, "from", from, "to", to, "bytes", len(batches))
	return nil
}

func (p *Partition) repairHole(from, to int64, batches []byte, c Completion) error {
	v, err := p.sealFor(from, to)
	if err != nil {
		return err
	}
	given, err := p.fitting(from, to, batches)
	if err != nil {
		return err
	}
	old, err := p.stretches(v)
	if err != nil {
		return err
	}
	r := repair{p: p, v: v, from: from, to: to, batches: batches}
	if err := r.plan(old, given); err != nil {
		return err
	}
	if err := r.write(); err != nil {
		return r.failed(err)
	}
	return r.exchange(c)
}

// sealFor finds the segment that holds the offsets and lets it grow no more. Recovery of a log that bypasses the
// journal must know all of a damaged segment from the checkpoint: it could not read over the damage.
func (p *Partition) sealFor(from, to int64) (view, error) {
	p.write.Lock()
	if err := p.usable(); err != nil {
		p.write.Unlock()
		return view{}, err
	}
	p.mu.Lock()
	if from < p.start || to > p.end || from >= to || len(p.segments) == 0 {
		err := fmt.Errorf("log is [%d, %d): %w", p.start, p.end, ErrOutOfRange)
		p.mu.Unlock()
		p.write.Unlock()
		return view{}, err
	}
	v, journaled := p.viewAt(from), p.journaled
	if v.g == p.active() {
		p.sealed = true
	}
	p.s.journal.touch(p)
	p.mu.Unlock()
	p.write.Unlock()
	if to > v.next {
		return view{}, fmt.Errorf("the segment ends at %d: %w", v.next, ErrOutOfRange)
	}
	if !journaled {
		return v, p.s.checkpoints.once(false)
	}
	return v, nil
}

// fitting checks batches by themselves and against the table of epochs, and lists them.
func (p *Partition) fitting(from, to int64, batches []byte) (list []stretch, err error) {
	p.mu.Lock()
	epochs, gaps, start := p.epochs, p.config.Compact, p.start
	p.mu.Unlock()
	next, at := from, int64(0)
	for rest := batches; len(rest) > 0; {
		var b record.Batch
		if b, rest, err = record.Parse(rest, storedLimits()); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrNoFit, err)
		}
		if err := b.Verify(); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrNoFit, err)
		}
		begins := b.BaseOffset() == next || gaps && b.BaseOffset() > next || len(list) == 0 && from == start && b.BaseOffset() < from && b.NextOffset() > from
		if !begins || b.NextOffset() > to {
			return nil, fmt.Errorf("batch [%d, %d) where %d is due: %w", b.BaseOffset(), b.NextOffset(), next, ErrNoFit)
		}
		if n := len(list); n > 0 && b.AppendTime() < list[n-1].time {
			return nil, fmt.Errorf("append time falls at offset %d: %w", b.BaseOffset(), ErrNoFit)
		}
		if e, ends := epochAt(epochs, b.BaseOffset()); e != b.LeaderEpoch() || b.NextOffset() > ends {
			return nil, fmt.Errorf("batch [%d, %d) is of epoch %d, here epoch %d goes to %d: %w", b.BaseOffset(), b.NextOffset(), b.LeaderEpoch(), e, ends, ErrNoFit)
		}
		list = append(list, stretch{at: at, end: at + int64(len(b)), first: b.BaseOffset(), next: b.NextOffset(), time: b.AppendTime(), batch: b})
		next, at = b.NextOffset(), at+int64(len(b))
	}
	if next != to && !gaps {
		return nil, fmt.Errorf("they end at %d: %w", next, ErrNoFit)
	}
	return list, nil
}

// epochAt is the epoch of an offset, and where the next one begins.
func epochAt(table []EpochStart, offset int64) (epoch uint32, ends int64) {
	for _, e := range table {
		if e.First > offset {
			return epoch, e.First
		}
		epoch = e.Epoch
	}
	return epoch, maxOffset
}

// repair is one repair of a segment.
type repair struct {
	p        *Partition
	v        view
	from, to int64
	batches  []byte

	cut        int64     // bytes before it are below the log start, and left out
	head, tail int64     // bytes [cut, head) and [tail, end) of the old file stay
	others     []stretch // what else is damaged
}

// plan finds what of the old file stays.
func (r *repair) plan(old, given []stretch) error {
	r.p.mu.Lock()
	start, compact, last := r.p.start, r.p.config.Compact, r.v.g.lastTime
	r.p.mu.Unlock()
	r.head, r.tail = -1, r.v.size
	before, after := int64(0), int64(maxOffset)
	known := map[int64][]byte{}
	for _, g := range given {
		known[g.first] = g.batch
	}
	damaged := false
	for _, s := range old {
		switch {
		case s.next <= r.from:
			before = max(before, s.time)
			r.other(s, 0, start)
			continue
		case r.head < 0 && s.first < r.from && r.from == start: // the rest of it is below the start
			r.head, r.cut = s.at, s.at
		case r.head < 0 && s.first < r.from:
			return fmt.Errorf("[%d, %d) is one: %w", s.first, s.next, ErrNoFit)
		case r.head < 0:
			r.head = s.at
		}
		switch {
		case s.first >= r.to:
			if s.at < r.tail {
				r.tail = s.at
			}
			if s.bad == nil && after == maxOffset {
				after = s.time
			}
			r.other(s, r.head-r.cut+int64(len(r.batches))-r.tail, start)
		case s.next > r.to:
			return fmt.Errorf("[%d, %d) is one: %w", s.first, s.next, ErrNoFit)
		case s.bad != nil:
			damaged = true
		case !compact:
			if err := r.same(s, known[s.first]); err != nil {
				return err
			}
		}
	}
	switch {
	case !damaged:
		return fmt.Errorf("nothing is damaged there: %w", ErrNoFit)
	case len(given) > 0 && (given[0].time < before || given[len(given)-1].time > after):
		return fmt.Errorf("appended from %d to %d, between %d and %d: %w", given[0].time, given[len(given)-1].time, before, after, ErrNoFit)
	case r.to == r.v.next && !compact && given[len(given)-1].time != last:
		return fmt.Errorf("the last one was appended at %d, not at %d: %w", given[len(given)-1].time, last, ErrNoFit)
	}
	return nil
}

// other notes what else is damaged in the file, and where it will be.
func (r *repair) other(s stretch, moved, start int64) {
	if s.bad != nil && s.next > start {
		s.at += moved
		r.others = append(r.others, s)
	}
}

// same checks that a readable batch between two damaged ones is the one that is given.
func (r *repair) same(s stretch, given []byte) error {
	buf := make([]byte, s.end-s.at)
	h, err := r.p.s.files.acquire(r.v.g)
	if err != nil {
		return err
	}
	defer h.release()
	if _, err := h.f.ReadAt(buf, s.at); err != nil {
		return err
	}
	if !bytes.Equal(buf, given) {
		return fmt.Errorf("the readable batch at %d is another one: %w", s.first, ErrNoFit)
	}
	return nil
}

func (r *repair) temp() string { return filepath.Join(r.p.dir(), repairFile) }

// size is that of the repaired file.
func (r *repair) size() int64 { return r.head - r.cut + int64(len(r.batches)) + r.v.size - r.tail }

// write makes the repaired file and syncs it. Other damage stays what it is.
func (r *repair) write() error {
	fsys := r.p.s.fs
	f, err := fsys.Create(r.temp())
	if isNotExist(err) {
		if err = fsys.MkdirAll(r.p.dir()); err == nil {
			f, err = fsys.Create(r.temp())
		}
	}
	if err != nil {
		return err
	}
	err = r.copy(f, r.cut, r.head, 0)
	if err == nil {
		_, err = f.WriteAt(r.batches, r.head-r.cut)
	}
	if err == nil {
		err = r.copy(f, r.tail, r.v.size, r.head-r.cut+int64(len(r.batches)))
	}
	if err == nil && !r.p.s.options.switches.lazyRepair {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

// copy copies bytes [from, to) of the old file, as far as it has them.
func (r *repair) copy(f vfs.File, from, to, at int64) error {
	if from >= to {
		return nil
	}
	h, err := r.p.s.files.acquire(r.v.g)
	if err != nil {
		return err
	}
	defer h.release()
	buf := make([]byte, min(to-from, compactBuffer))
	for from < to {
		n, err := h.f.ReadAt(buf[:min(int64(len(buf)), to-from)], from)
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		if n == 0 {
			return nil // short: its end is damaged, and stays so
		}
		if _, err := f.WriteAt(buf[:n], at); err != nil {
			return err
		}
		from, at = from+int64(n), at+int64(n)
	}
	return nil
}

// failed sorts out why the file could not be made.
func (r *repair) failed(err error) error {
	switch {
	case vfs.IsDiskFull(err):
		r.p.s.fs.Remove(r.temp())
		r.p.s.reserve.noteFull()
		return fmt.Errorf("%w: %w", ErrStorageFull, err)
	case isNotExist(err), r.v.g.gone.Load():
		return errChanged // the partition is being removed
	}
	return r.p.s.fail(err)
}

// exchange gives the file its name and puts it in the place of the old one.
func (r *repair) exchange(c Completion) error {
	p := r.p
	p.write.Lock()
	defer p.write.Unlock()
	if err := p.usable(); err != nil {
		return err
	}
	with := segmentState{segmentName{r.v.g.base, p.generation + 1}, r.size(), r.v.g.lastTime}
	change := replacement{end: p.end, generation: with.generation, replaced: []segmentName{r.v.g.segmentName}, with: with}
	p.mu.Lock()
	_, err := p.findRun(change)
	p.mu.Unlock()
	if err != nil {
		return err
	}
	g := &segment{p: p, segmentState: with}
	if err := p.s.fs.Rename(r.temp(), g.path()); err != nil {
		return r.failed(err)
	}
	topic := filepath.Dir(p.dir())
	for _, dir := range []string{p.dir(), topic, filepath.Dir(topic)} {
		if err := p.s.fs.SyncDir(dir); err != nil {
			return r.failed(err)
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.replaceLocked([]*segment{r.v.g}, change, c); err != nil {
		return err
	}
	for _, s := range r.others {
		p.holes = append(p.holes, Hole{From: s.first, To: s.next, File: g.path(), Position: s.at})
	}
	return nil
}
