package log

import (
	"bytes"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"path/filepath"

	"github.com/sequitur-mq/sequitur/internal/vfs"
	"github.com/sequitur-mq/sequitur/record"
)

// partitionChecker verifies the files of one partition.
type partitionChecker struct {
	*checker
	p         *Partition
	id        string
	fs        vfs.FS
	asFound   bool
	stretches []journaledStretch

	next     int64 // offset at which the next batch should begin
	lastTime int64
	epoch    uint32
	epochs   []EpochStart
	damaged  bool         // something of the current segment is unreadable
	index    []indexEntry // of the current segment, from the next one to be compared
	crc      uint32
	crcBytes int
	crcNext  int64
}

func (pc *partitionChecker) run() error {
	p := pc.p
	for i, g := range p.segments {
		end := p.end
		if i+1 < len(p.segments) {
			end = p.segments[i+1].base
		}
		if err := pc.segment(g, end, i+1 == len(p.segments)); err != nil {
			return err
		}
	}
	if len(p.segments) > 0 && !pc.damaged && !pc.asFound && pc.lastTime != p.lastTime {
		pc.found(SeverityDamage, p.segments[len(p.segments)-1].path(), -1, 0, 0,
			fmt.Sprintf("the last batch has append time %d, the log says %d", pc.lastTime, p.lastTime), doRestore)
	}
	if err := pc.checkEpochs(); err != nil {
		return err
	}
	return pc.snapshots()
}

func (pc *partitionChecker) found(severity Severity, file string, at, from, to int64, what, do string) {
	pc.find(Finding{Severity: severity, File: file, Position: at, Partition: pc.id, From: from, To: to, What: what, Do: do})
}

// segment walks one file. end is the offset after it.
func (pc *partitionChecker) segment(g *segment, end int64, last bool) error {
	pc.report.Segments++
	pc.damaged = false
	f, err := pc.fs.Open(g.path())
	if isNotExist(err) {
		pc.damaged = true
		pc.found(SeverityDamage, g.path(), -1, g.base, end, "the segment is missing", doRestore)
		pc.next = end
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	size, err := f.Size()
	if err != nil {
		return err
	}
	if size > g.size && !pc.asFound {
		pc.found(SeverityNote, g.path(), g.size, 0, 0, fmt.Sprintf("%d bytes behind the end of the segment", size-g.size), doNothing)
	}
	gaps := pc.p.config.Compact || g.generation > 0
	if len(pc.p.segments) > 0 && pc.p.segments[0] == g || gaps {
		pc.next = g.base
	} else if pc.next != g.base {
		pc.found(SeverityDamage, g.path(), 0, pc.next, g.base, fmt.Sprintf("the segment begins at offset %d, the one before it ends at %d", g.base, pc.next), doRestore)
		pc.next = g.base
	}
	if err := pc.loadIndex(g, size); err != nil {
		return err
	}
	if err := pc.walk(g, f, end, gaps); err != nil {
		return err
	}
	pc.indexEnds(g)
	if pc.next != end && !pc.damaged && !(gaps && pc.next < end) && !(pc.asFound && last) {
		pc.damaged = true
		pc.found(SeverityDamage, g.path(), g.size, pc.next, end, fmt.Sprintf("the segment ends at offset %d, not at %d", pc.next, end), doRestore)
	}
	pc.next = end
	return nil
}

// walk reads every batch of a segment.
func (pc *partitionChecker) walk(g *segment, f vfs.File, end int64, gaps bool) error {
	w := pc.p.s.walkers.get(f, 0, g.size, false)
	defer pc.p.s.walkers.put(w)
	counted := int64(0)
	for {
		at := w.at
		b, err := w.next()
		if at-counted >= 1<<20 || err != nil {
			pc.progress(g.path(), at-counted)
			counted = at
		}
		var bad *badBatch
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case errors.As(err, &bad):
			if !pc.skip(g, f, w, bad, end) {
				return nil
			}
			continue
		case err != nil:
			return err
		}
		pc.batch(g, b, at, end, gaps)
		pc.compareIndex(g, b, at)
	}
}

// skip goes to the next readable batch behind a bad one.
func (pc *partitionChecker) skip(g *segment, f vfs.File, w *walker, bad *badBatch, end int64) bool {
	pc.damaged = true
	from := pc.next
	at, base, ok := nextValid(f, bad.position+1, g.size, from)
	if !ok {
		base = end
	}
	pc.dropStretches(base)
	pc.found(SeverityDamage, g.path(), bad.position, from, base, bad.reason.Error(), doRestore)
	pc.next, w.at = base, at
	return ok
}

// batch checks one whole batch whose CRCs are right.
func (pc *partitionChecker) batch(g *segment, b record.Batch, at, end int64, gaps bool) {
	pc.report.Batches++
	pc.report.Records += int64(b.Count())
	base := b.BaseOffset()
	switch {
	case base < pc.next || base > pc.next && !gaps || b.NextOffset() > end:
		pc.wrong(g, at, b, fmt.Sprintf("batch [%d, %d) where offset %d belongs; the segment ends at %d", base, b.NextOffset(), pc.next, end))
	case b.AppendTime() < pc.lastTime:
		pc.wrong(g, at, b, fmt.Sprintf("append time falls from %d to %d", pc.lastTime, b.AppendTime()))
	case b.LeaderEpoch() < pc.epoch:
		pc.wrong(g, at, b, fmt.Sprintf("leader epoch falls from %d to %d", pc.epoch, b.LeaderEpoch()))
	case b.Count() > b.LastOffsetDelta()+1 && b.LastOffsetDelta()+1 != 0:
		pc.wrong(g, at, b, fmt.Sprintf("%d records on %d offsets", b.Count(), b.LastOffsetDelta()+1))
	}
	if n := len(pc.epochs); n == 0 || pc.epochs[n-1].Epoch < b.LeaderEpoch() {
		pc.epochs = append(pc.epochs, EpochStart{b.LeaderEpoch(), base})
	}
	pc.next, pc.lastTime, pc.epoch = b.NextOffset(), b.AppendTime(), b.LeaderEpoch()
	pc.compareJournal(g, b, at)
	if pc.options.Records {
		if err := pc.structure(b); err != nil {
			pc.wrong(g, at, b, err.Error())
		}
	}
}

func (pc *partitionChecker) wrong(g *segment, at int64, b record.Batch, what string) {
	pc.found(SeverityDamage, g.path(), at, b.BaseOffset(), b.NextOffset(), what, doRestore)
}

// structure decodes every record.
func (pc *partitionChecker) structure(b record.Batch) error {
	if err := pc.reader.Reset(b, pc.records, storedLimits()); err != nil {
		return err
	}
	var rec record.Record
	for {
		if ok, err := pc.reader.Next(&rec); err != nil || !ok {
			return err
		}
	}
}

// compareJournal accumulates the batch into the stretch of the journal that it is part of.
func (pc *partitionChecker) compareJournal(g *segment, b record.Batch, at int64) {
	pc.dropStretches(b.BaseOffset())
	if len(pc.stretches) == 0 || b.BaseOffset() < pc.stretches[0].from {
		return
	}
	s := pc.stretches[0]
	if b.BaseOffset() == s.from {
		pc.crc, pc.crcBytes, pc.crcNext = 0, 0, s.from
	}
	if b.BaseOffset() != pc.crcNext {
		return // its beginning was unreadable, or lies below the start
	}
	pc.crc = crc32.Update(pc.crc, castagnoli, b)
	pc.crcBytes += len(b)
	pc.crcNext = b.NextOffset()
	if pc.crcNext < s.to {
		return
	}
	if pc.crcNext != s.to || pc.crc != s.crc || pc.crcBytes != s.length {
		pc.found(SeverityDamage, g.path(), at, s.from, s.to,
			fmt.Sprintf("the segment has other bytes than the journal, %s at byte %d", filepath.Base(s.file), s.position), doRestore)
	}
	pc.stretches = pc.stretches[1:]
}

func (pc *partitionChecker) dropStretches(below int64) {
	for len(pc.stretches) > 0 && pc.stretches[0].to <= below {
		pc.stretches = pc.stretches[1:]
	}
}

const doRebuild = "remove the file: it is rebuilt from the segment"

// loadIndex reads the .idx file, if there is one. It can be rebuilt, so that nothing in it loses data; a power failure
// may well tear it.
func (pc *partitionChecker) loadIndex(g *segment, size int64) error {
	pc.index = nil
	b, err := readFile(pc.fs, g.indexPath())
	if isNotExist(err) {
		return nil
	}
	if err != nil {
		return err
	}
	if len(bytes.TrimLeft(b, "\x00")) == 0 { // it is not synced: a power failure may leave nothing of it
		pc.found(SeverityNote, g.indexPath(), 0, 0, 0, "was not written", doNothing)
		return nil
	}
	x, covered, err := decodeIndex(b, g.segmentName)
	if err != nil {
		pc.found(SeverityWarning, g.indexPath(), 0, 0, 0, err.Error(), doRebuild)
		return nil
	}
	if covered > g.size && !pc.asFound {
		pc.found(SeverityNote, g.indexPath(), 0, 0, 0, fmt.Sprintf("describes %d bytes of a segment of %d", covered, size), doNothing)
	}
	x.truncate(g.size)
	pc.index = x.entries
	return nil
}

// compareIndex checks the index's entries up to this batch. Unreadable batches make it useless.
func (pc *partitionChecker) compareIndex(g *segment, b record.Batch, at int64) {
	if pc.damaged || len(pc.index) == 0 || int64(pc.index[0].position) > at {
		return
	}
	e := pc.index[0]
	if int64(e.position) == at && g.base+int64(e.offset) == b.BaseOffset() && e.time == b.AppendTime() {
		pc.index = pc.index[1:]
		return
	}
	pc.wrongIndex(g)
}

func (pc *partitionChecker) indexEnds(g *segment) {
	if !pc.damaged && len(pc.index) > 0 {
		pc.wrongIndex(g)
	}
}

func (pc *partitionChecker) wrongIndex(g *segment) {
	e := pc.index[0]
	pc.index = nil
	offset := g.base + int64(e.offset)
	pc.found(SeverityWarning, g.indexPath(), 0, offset, offset+1,
		fmt.Sprintf("says that a batch of offset %d and time %d lies at byte %d of the segment, which is not so", offset, e.time, e.position), doRebuild)
}

// checkEpochs compares the table of epochs with what the batches say.
func (pc *partitionChecker) checkEpochs() error {
	p := pc.p
	if pc.report.Damages > 0 || pc.asFound || p.config.Compact {
		return nil
	}
	table := p.epochs
	for _, e := range pc.epochs {
		for len(table) > 0 && table[0].Epoch < e.Epoch {
			table = table[1:]
		}
		if e.First <= p.start {
			continue
		}
		if len(table) == 0 || table[0].Epoch != e.Epoch || table[0].First != e.First && e.First != pc.epochs[0].First {
			pc.found(SeverityDamage, p.dir(), -1, e.First, e.First+1, fmt.Sprintf("epoch %d begins at offset %d, which the table of epochs does not say: %v", e.Epoch, e.First, p.epochs), doRestore)
			return nil
		}
	}
	return nil
}

// snapshots decodes the producer snapshots.
func (pc *partitionChecker) snapshots() error {
	entries, err := pc.fs.ReadDir(pc.p.dir())
	if isNotExist(err) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, e := range entries {
		offset, ok := parseSnapshotName(e.Name())
		if !ok {
			continue
		}
		name := filepath.Join(pc.p.dir(), e.Name())
		b, err := readFile(pc.fs, name)
		if err != nil {
			return err
		}
		snap, err := decodeSnapshot(b)
		if err == nil && snap.offset != offset {
			err = fmt.Errorf("is a snapshot of offset %d", snap.offset)
		}
		if err != nil {
			pc.found(SeverityDamage, name, 0, 0, 0, err.Error(), "remove the file: the state is then rebuilt from an older one or from the log")
		}
	}
	return nil
}
