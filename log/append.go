package log

import (
	"fmt"
	"hash/crc32"
	"math"

	"github.com/sequitur-mq/sequitur/internal/vfs"
	"github.com/sequitur-mq/sequitur/record"
)

func checksum(b []byte) uint32 { return crc32.Checksum(b, castagnoli) }

// storedLimits bound batches that are in the log already: they were within the limits of their day.
func storedLimits() record.Limits {
	return record.Limits{MaxBatchBytes: math.MaxInt32, MaxRecordsBytes: math.MaxInt32, MaxRecords: math.MaxInt32}
}

// appended is what the batches of one append amount to.
type appended struct {
	next     int64 // offset after the last batch
	lastTime int64
	control  bool
}

// Append adds whole batches, stamped by the caller, to the end of the log: the first one's base offset is End(), each
// following one begins where the one before it ended, epochs and append times never fall. A violation is an error and
// nothing is appended.
//
// The bytes are readable when Append returns. pending=true: c is told when they are durable, and batches must stay
// unchanged until then. pending=false without error: they already have the durability that the topic promises (fsync
// interval or never), c is not called. With an error nothing was appended and c is not called: ErrStorageFull below
// the disk reserve, ErrTooLarge, ErrClosed, ErrUnknownPartition after Delete, ErrStorageFailed after the first failed
// write or sync. Append does not wait for disks, except where the kernel throttles writers to the page cache.
func (p *Partition) Append(batches []byte, c Completion) (pending bool, err error) {
	p.write.Lock()
	defer p.write.Unlock()
	if err := p.usable(); err != nil {
		return false, err
	}
	a, err := p.check(batches)
	if err != nil {
		return false, fmt.Errorf("append to partition %s: %w", p.id, err)
	}
	if p.s.reserve.full.Load() && !a.control && !p.config.Essential {
		return false, fmt.Errorf("append to partition %s: %w", p.id, ErrStorageFull)
	}
	g, h, err := p.writable(len(batches))
	if err == nil {
		_, err = h.f.WriteAt(batches, g.size)
		if vfs.IsDiskFull(err) {
			h.f.Truncate(g.size) // what did get written must not pass for appended at the next start, if the kernel keeps up
		}
		if err != nil {
			h.release()
		}
	}
	if err != nil {
		return false, p.appendFailed(err)
	}
	p.s.reserve.spend(len(batches))
	at, tail := g.size, p.s.tail.add(batches)
	err = p.commit(g, batches, a, c, tail)
	if err == nil && p.s.due(g) {
		p.s.writeback(g)
	}
	h.release()
	if err != nil {
		return false, fmt.Errorf("append to partition %s at byte %d: %w", p.id, at, err)
	}
	return p.journaled, nil
}

// check walks the batches of an append. The caller holds write.
func (p *Partition) check(batches []byte) (a appended, err error) {
	a = appended{next: p.end, lastTime: p.lastTime}
	epoch := p.lastEpoch
	if len(batches) == 0 {
		return a, fmt.Errorf("no batch")
	}
	for rest := batches; len(rest) > 0; {
		var b record.Batch
		if b, rest, err = record.Parse(rest, p.s.options.Limits); err != nil {
			return a, err
		}
		if entryHeaderSize+len(b) > p.s.journal.maxEntry() {
			return a, fmt.Errorf("batch of %d bytes: %w", len(b), ErrTooLarge)
		}
		switch {
		case b.BaseOffset() != a.next:
			return a, fmt.Errorf("batch has base offset %d, the log ends at %d", b.BaseOffset(), a.next)
		case b.AppendTime() < a.lastTime:
			return a, fmt.Errorf("append time falls from %d to %d", a.lastTime, b.AppendTime())
		case b.LeaderEpoch() < epoch:
			return a, fmt.Errorf("leader epoch falls from %d to %d", epoch, b.LeaderEpoch())
		}
		a.next, a.lastTime, epoch = b.NextOffset(), b.AppendTime(), b.LeaderEpoch()
		a.control = b.Attributes().Control()
	}
	return a, nil
}

// appendFailed sorts out why the segment could not be written. A full disk is no failure of storage: the log did not
// change, and what was written of the batches lies behind its end, to be overwritten.
func (p *Partition) appendFailed(err error) error {
	if vfs.IsDiskFull(err) {
		p.s.reserve.noteFull()
		return fmt.Errorf("append to partition %s: %w: %w", p.id, ErrStorageFull, err)
	}
	return p.s.fail(fmt.Errorf("append to partition %s: %w", p.id, err))
}

// commit queues the batches for the journal and shows them to readers. The caller holds write.
func (p *Partition) commit(g *segment, batches []byte, a appended, c Completion, tail tailRef) error {
	var flags uint8
	if g.size == 0 {
		flags = flagNewSegment
	}
	single := ticket{kind: entryBatches, flags: flags, number: p.number, data: batches, p: p, end: a.next, c: c}
	var several []ticket
	switch {
	case !p.journaled:
	case len(batches) > p.s.journal.maxGroup:
		several = p.tickets(batches, a.next, c)
		several[0].flags = flags
	default:
		single.crc = checksum(batches)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.journaled && several == nil {
		if err := p.queue(single); err != nil {
			return err
		}
	}
	for _, t := range several {
		if err := p.queue(t); err != nil {
			return err
		}
	}
	p.extend(g, batches)
	if tail.slab != nil {
		if p.recent == nil {
			p.recent = new(recent)
		}
		p.recent.add(p.end, a.next, tail)
	}
	p.end, p.lastTime = a.next, a.lastTime
	if !p.journaled {
		p.s.journal.touch(p)
		p.raiseDurable(p.end)
		if p.config.Fsync == FsyncInterval && !p.unsynced {
			p.unsynced = true
			p.s.flusher.add(p)
		}
	}
	return nil
}

// queue hands an entry of batches to the journal. The caller holds mu.
func (p *Partition) queue(t ticket) error {
	seq, err := p.s.journal.enqueue(t)
	if err == nil {
		p.applied = seq
	}
	return err
}

// tickets makes the journal entries of an append that is larger than a group. The last one carries the completion.
func (p *Partition) tickets(batches []byte, next int64, c Completion) (list []ticket) {
	limit := p.s.journal.maxGroup - groupHeaderSize - entryHeaderSize
	for len(batches) > 0 {
		n := 0
		for n < len(batches) {
			length := int(record.Batch(batches[n:]).Length())
			if n > 0 && n+length > limit {
				break
			}
			n += length
		}
		data := batches[:n:n]
		batches = batches[n:]
		t := ticket{kind: entryBatches, number: p.number, crc: checksum(data), data: data, p: p, end: next}
		if len(batches) == 0 {
			t.c = c
		} else {
			t.end = record.Batch(batches).BaseOffset()
		}
		list = append(list, t)
	}
	return list
}

// extend notes in the active segment what was written at its end. The caller holds mu and write.
func (p *Partition) extend(g *segment, batches []byte) {
	if g.index == nil { // it was not needed since the store was opened
		g.index = newIndex(g.size)
	}
	at := g.size
	if g.index == nil {
		g.index = newIndex(at)
	}
	for rest := batches; len(rest) > 0; {
		b := record.Batch(rest)
		if e := b.LeaderEpoch(); e != p.lastEpoch || len(p.epochs) == 0 {
			p.noteEpoch(e, b.BaseOffset())
		}
		g.index.add(uint32(b.BaseOffset()-g.base), at, b.AppendTime())
		g.lastTime = b.AppendTime()
		at += int64(b.Length())
		rest = rest[b.Length():]
	}
	g.size = at
}
