package log

import (
	"encoding/hex"
	"fmt"

	"github.com/sequitur-mq/sequitur/internal/vfs"
	"github.com/sequitur-mq/sequitur/record"
)

func (p position) String() string {
	return fmt.Sprintf("lap %d byte %d group %d", p.lap, p.off, p.group)
}

// journal prints the groups of the file's present lap.
func (d *dumper) journal() error {
	if d.size < journalBlock {
		d.print("journal file: half made, %d bytes", d.size)
		return nil
	}
	block := vfs.AlignedBuffer(journalBlock)
	if _, err := d.f.ReadAt(block, 0); err != nil {
		return err
	}
	h, used, err := parseHeaderBlock(block)
	if err != nil {
		d.damage(0, err)
		return nil
	}
	if !used {
		d.print("journal file: blank, %d bytes", d.size)
		return nil
	}
	d.print("journal file: lap %d, %d bytes, disk %x; the lap before ended at %v", h.lap, h.size, h.disk, h.prev)
	if h.size != d.size {
		d.damage(d.size, fmt.Errorf("the file has %d bytes, its header says %d", d.size, h.size))
		h.size = min(h.size, d.size)
	}
	r := newJournalReader(d.f, d.name, h, journalDataFrom, nil)
	last := h.prev.group
	for {
		at := r.at
		g, entries, ok, err := r.next()
		if err != nil {
			return err
		}
		if !ok {
			return d.journalEnd(r, g, last)
		}
		if d.full() {
			d.print("stopped at byte %d: %d groups printed", at, d.options.Limit)
			return nil
		}
		last = g.number + 1
		d.print("byte %d: group %d, %d entries from sequence number %d, %d bytes", at, g.number, g.entries, g.firstSeq, g.length)
		for i := range entries {
			d.entry(&entries[i])
		}
	}
}

// journalEnd says why reading ended: nothing more of this lap, a torn group, or damage in the middle.
func (d *dumper) journalEnd(r *journalReader, g groupHeader, next uint64) error {
	at, found, err := r.laterGroup(next)
	switch {
	case err != nil:
		return err
	case found:
		d.damage(r.at, fmt.Errorf("group %d is unreadable, but a later one follows at byte %d", next, at))
	case g.lap == r.groupLap && g.number == next:
		d.print("end at byte %d: group %d was not written whole, or is damaged; nothing of this lap follows", r.at, next)
	default:
		d.print("end at byte %d: nothing more of this lap", r.at)
	}
	return nil
}

func (d *dumper) entry(e *entry) {
	line := fmt.Sprintf("  %d: %s, partition number %d, %d bytes", e.seq, e.kind, e.number, e.length)
	switch what, err := d.describe(e); {
	case err != nil:
		d.print("%s", line)
		d.damage(0, fmt.Errorf("entry %d: %w", e.seq, err))
	case what != "":
		d.print("%s: %s", line, what)
	default:
		d.print("%s", line)
	}
	if e.kind == entryBatches {
		for at, rest := int64(0), e.data; len(rest) > 0; {
			b, after, err := record.Parse(rest, storedLimits())
			if err == nil {
				err = b.Verify()
			}
			if err != nil {
				d.damage(at, fmt.Errorf("in entry %d: %w", e.seq, err))
				return
			}
			d.batch("    ", at, b)
			at, rest = at+int64(b.Length()), after
		}
	}
}

func (d *dumper) describe(e *entry) (string, error) {
	switch e.kind {
	case entryCreate:
		list, err := decodeCreate(e.data)
		s := ""
		for i, c := range list {
			if i == 16 {
				s += fmt.Sprintf(" and %d more", len(list)-i)
				break
			}
			s += fmt.Sprintf(" %d=%s(%s)", c.number, c.id, c.config.Fsync)
		}
		return s, err
	case entryDelete:
		numbers, err := decodeDelete(e.data)
		return fmt.Sprint(numbers), err
	case entryTruncate:
		t, err := decodeTruncate(e.data)
		return fmt.Sprintf("to offset %d, generation %d, in segment %s at byte %d", t.end, t.generation, t.last.stem(), t.last.size), err
	case entryStart:
		c, err := decodeStart(e.data)
		return fmt.Sprintf("%+v", c), err
	case entryValue:
		key, value, err := decodeValue(e.data)
		return fmt.Sprintf("key %d = %s", key, d.clip(value)), err
	case entryConfig:
		c, err := decodeConfigEntry(e.data)
		return fmt.Sprintf("from offset %d: %+v", c.end, c.config), err
	case entryReset:
		r, err := decodeReset(e.data)
		return fmt.Sprintf("empty from offset %d on, generation %d; it ended at %d", r.start, r.generation, r.end), err
	case entryReplace:
		r, err := decodeReplace(e.data)
		s := "segments"
		for _, n := range r.replaced {
			s += " " + n.stem()
		}
		return fmt.Sprintf("%s by %s of %d bytes", s, r.with.stem(), r.with.size), err
	}
	return "", nil
}

func (d *dumper) checkpoint(b []byte) error {
	c, err := decodeCheckpoint(b)
	if err != nil {
		return err
	}
	d.print("checkpoint: disk %x, clean shutdown %v, journal from %v, next sequence number %d, next partition number %d", c.disk, c.clean, c.position, c.nextSeq, c.nextNumber)
	for _, id := range c.deleted {
		d.print("deleted, its directory may still be there: %s", id)
	}
	for _, data := range c.records {
		if d.full() {
			break
		}
		r, err := decodePartitionRecord(data)
		if err != nil {
			d.damage(0, err)
			continue
		}
		d.print("partition %s number %d: [%d, %d) last append %s epoch %d generation %d applied %d config %+v", r.id, r.number,
			r.start, r.end, stamp(r.lastTime), r.lastEpoch, r.generation, r.applied, r.config)
		for _, s := range r.segments {
			d.print("  segment %s: %d bytes, last append %s", s.stem(), s.size, stamp(s.lastTime))
		}
		for _, e := range r.epochs {
			d.print("  epoch %d from offset %d", e.Epoch, e.First)
		}
		for _, v := range r.values {
			d.print("  value %d = %s", v.key, hex.EncodeToString(v.data[:min(len(v.data), 64)]))
		}
		if r.snapshot != nil {
			d.print("  producers below offset %d: %d bytes", r.snapshot.offset, len(r.snapshot.state))
		}
	}
	return nil
}
