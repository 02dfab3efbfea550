package log

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/sequitur-mq/sequitur/internal/vfs"
	"github.com/sequitur-mq/sequitur/record"
)

// journaledStretch is a batch entry of the journal that should be found in a segment.
type journaledStretch struct {
	from, to int64 // offsets [from, to)
	length   int
	crc      uint32 // CRC32C of its bytes
	file     string // in the journal
	position int64  // of the group
}

// checkJournalFiles looks at the header of every journal file by itself: recovery stops at the first bad one.
func (c *checker) checkJournalFiles() {
	dir := filepath.Join(c.dir, journalDir)
	entries, err := c.fs.ReadDir(dir)
	if err != nil {
		c.find(Finding{Severity: SeverityDamage, File: dir, Position: -1, What: err.Error(), Do: doRestore})
		return
	}
	for _, e := range entries {
		name := filepath.Join(dir, e.Name())
		if !strings.HasSuffix(e.Name(), journalSuffix) {
			c.find(Finding{Severity: SeverityWarning, File: name, Position: -1, What: "is no journal file", Do: "move it away"})
			continue
		}
		c.report.JournalFiles++
		if err := c.checkJournalHeader(name); err != nil {
			c.find(Finding{Severity: SeverityDamage, File: name, Position: 0, What: err.Error(), Do: doRestore})
		}
	}
}

func (c *checker) checkJournalHeader(name string) (err error) {
	f, err := c.fs.Open(name)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	size, err := f.Size()
	if err != nil || size < journalBlock {
		return err // half made, and removed by the next start
	}
	block := vfs.AlignedBuffer(journalBlock)
	if _, err := f.ReadAt(block, 0); err != nil {
		return err
	}
	h, used, err := parseHeaderBlock(block)
	if err != nil || !used {
		return err
	}
	if h.size != size {
		return fmt.Errorf("the file has %d bytes, its header says %d", size, h.size)
	}
	if fmt.Sprintf("%x", h.disk) != c.report.Disk {
		return fmt.Errorf("the file belongs to disk %x", h.disk)
	}
	return nil
}

// readJournal goes through the live journal once more and notes which batches should be found in segments.
func (c *checker) readJournal(rec *recovered) error {
	if len(rec.files) == 0 {
		return nil // the first start did not get far
	}
	visit := func(e *entry, _ groupHeader, file string, at int64) error {
		c.report.JournalEntries++
		p := rec.byNumber[e.number]
		switch {
		case p == nil: // about several partitions, or one that is gone
		case e.kind == entryBatches:
			return c.noteStretch(p.id, e.data, e.crc, file, at)
		case e.kind == entryTruncate:
			t, err := decodeTruncate(e.data)
			if err != nil {
				return err
			}
			list := c.journaled[p.id]
			for len(list) > 0 && list[len(list)-1].to > t.end {
				list = list[:len(list)-1]
			}
			c.journaled[p.id] = list
		case e.kind == entryReset:
			delete(c.journaled, p.id)
		case e.kind == entryReplace: // the bytes are others now
			change, err := decodeReplace(e.data)
			if err != nil {
				return err
			}
			c.forgetReplaced(p, change)
		}
		return nil
	}
	_, err := journalScan{files: rec.files, from: rec.checkpoint.position, visit: visit}.run()
	return err
}

func (c *checker) noteStretch(id ID, data []byte, crc uint32, file string, at int64) error {
	s := journaledStretch{length: len(data), crc: crc, file: file, position: at}
	for first := true; len(data) > 0; first = false {
		b, rest, err := record.Parse(data, storedLimits())
		if err != nil {
			return err
		}
		if first {
			s.from = b.BaseOffset()
		}
		s.to, data = b.NextOffset(), rest
	}
	c.journaled[id] = append(c.journaled[id], s)
	return nil
}

// forgetReplaced drops what compaction has rewritten: all below the first segment that stays as it was.
func (c *checker) forgetReplaced(p *Partition, change replacement) {
	below := int64(maxOffset)
	for _, g := range p.segments {
		if g.base > change.with.base {
			below = min(below, g.base)
		}
	}
	list := c.journaled[p.id]
	for len(list) > 0 && list[0].from < below {
		list = list[1:]
	}
	c.journaled[p.id] = list
}
