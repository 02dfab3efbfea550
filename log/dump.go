package log

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strconv"
	"time"

	"github.com/sequitur-mq/sequitur/internal/vfs"
	"github.com/sequitur-mq/sequitur/record"
)

// DumpOptions configure Dump. The zero value prints every batch, without its records.
type DumpOptions struct {
	FS       vfs.FS // default: the operating system's
	Records  bool   // print the records of every batch as well
	MaxBytes int    // of a key, value or state that are printed; default 64, negative: all
	From     int64  // first byte of a .log file to look at; batches are searched from there on
	Limit    int64  // of batches or journal groups printed; 0 = all
}

// Dump prints a file of a data directory readably, one line per batch, entry or fact: a segment (.log), an index
// (.idx), a journal file (.jnl), the checkpoint, the identity, or a producers file. It reads the file alone, also while
// a broker runs, in bounded memory. Where something is not as it should be it says at which byte and why, and goes on
// behind it where there is a way. The error is of reading or writing, or ErrCorrupt if anything was damaged.
func Dump(w io.Writer, file string, o DumpOptions) (err error) {
	if o.FS == nil {
		o.FS = vfs.OS()
	}
	if o.MaxBytes == 0 {
		o.MaxBytes = 64
	}
	f, err := o.FS.Open(file)
	if err != nil {
		return fmt.Errorf("dump %s: %w", file, err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	size, err := f.Size()
	if err != nil {
		return fmt.Errorf("dump %s: %w", file, err)
	}
	d := &dumper{w: bufio.NewWriter(w), f: f, name: file, size: size, options: o, inflate: record.NewDecompressor()}
	defer d.inflate.Close()
	if err := d.dump(filepath.Base(file)); err != nil {
		return errors.Join(fmt.Errorf("dump %s: %w", file, err), d.w.Flush())
	}
	return d.w.Flush()
}

type dumper struct {
	w       *bufio.Writer
	f       vfs.File
	name    string
	size    int64
	options DumpOptions
	count   int64
	damages int
	reader  record.Reader
	inflate *record.Decompressor
}

// maxWholeFile bounds files that are read whole: checkpoints, indexes, snapshots.
const maxWholeFile = 1 << 30

var errUnknownFile = errors.New("not a file of a data directory: want *.log, *.idx, *.jnl, checkpoint, identity or producers.*")

func (d *dumper) dump(base string) error {
	var err error
	switch _, isSnapshot := parseSnapshotName(base); {
	case filepath.Ext(base) == segmentSuffix:
		err = d.segment()
	case filepath.Ext(base) == journalSuffix:
		err = d.journal()
	case filepath.Ext(base) == indexSuffix:
		err = d.whole(d.index)
	case isSnapshot:
		err = d.whole(d.snapshot)
	case base == checkpointFile || base == checkpointFile+".tmp":
		err = d.whole(d.checkpoint)
	case base == identityFile:
		err = d.whole(d.identity)
	default:
		return errUnknownFile
	}
	if err == nil && d.damages > 0 {
		err = fmt.Errorf("%d damages: %w", d.damages, ErrCorrupt)
	}
	return err
}

func (d *dumper) print(format string, args ...any) { fmt.Fprintf(d.w, format+"\n", args...) }

// damage says what is wrong and where.
func (d *dumper) damage(at int64, what any) {
	d.damages++
	d.print("DAMAGE at byte %d: %v", at, what)
}

// full reports whether as much was printed as was asked for.
func (d *dumper) full() bool {
	d.count++
	return d.options.Limit > 0 && d.count > d.options.Limit
}

// clip is a byte string for the eye.
func (d *dumper) clip(b []byte) string {
	if b == nil {
		return "null"
	}
	if most := d.options.MaxBytes; most >= 0 && len(b) > most {
		return strconv.Quote(string(b[:most])) + fmt.Sprintf("... (%d bytes)", len(b))
	}
	return strconv.Quote(string(b))
}

func stamp(ns int64) string {
	if ns == 0 {
		return "-"
	}
	return time.Unix(0, ns).UTC().Format("2006-01-02T15:04:05.000000000Z")
}

func (d *dumper) whole(print func([]byte) error) error {
	if d.size > maxWholeFile {
		return fmt.Errorf("%d bytes are too many for such a file: %w", d.size, ErrCorrupt)
	}
	b := make([]byte, d.size)
	if n, err := d.f.ReadAt(b, 0); n < len(b) {
		return err
	}
	if err := print(b); err != nil {
		d.damage(0, err)
	}
	return nil
}

func (d *dumper) segment() error {
	name, _, ok := parseSegmentName(filepath.Base(d.name))
	if ok {
		d.print("segment: base offset %d, generation %d, %d bytes", name.base, name.generation, d.size)
	} else {
		d.print("segment: %d bytes; the file name does not say which", d.size)
	}
	w := &walker{r: d.f, end: d.size, buf: make([]byte, walkBuffer)}
	if d.options.From > 0 {
		at, _, ok := nextValid(d.f, d.options.From, d.size, 0)
		if !ok {
			d.print("no batch begins at or above byte %d", d.options.From)
			return nil
		}
		w.at = at
	}
	next := int64(-1)
	for {
		at := w.at
		b, err := w.next()
		var bad *badBatch
		switch {
		case errors.Is(err, io.EOF):
			d.print("end at byte %d", at)
			return nil
		case errors.As(err, &bad):
			d.damage(bad.position, bad.reason)
			ok := false
			if w.at, _, ok = nextValid(d.f, bad.position+1, d.size, max(next, 0)); !ok {
				d.print("stopped: no readable batch up to the end at byte %d", d.size)
				return nil
			}
			d.print("the next readable batch is at byte %d", w.at)
			continue
		case err != nil:
			return err
		case d.full():
			d.print("stopped at byte %d: %d batches printed", at, d.options.Limit)
			return nil
		}
		if next >= 0 && b.BaseOffset() != next {
			d.print("gap: offsets [%d, %d)", next, b.BaseOffset())
		}
		next = b.NextOffset()
		d.batch("", at, b)
	}
}

// batch prints one, and its records if that is wanted.
func (d *dumper) batch(indent string, at int64, b record.Batch) {
	flags := ""
	if b.Attributes().Control() {
		flags += " control"
	}
	if b.Attributes().Transactional() {
		flags += " transactional"
	}
	if b.ExtensionSize() > 0 {
		flags += fmt.Sprintf(" extension=%d", b.ExtensionSize())
	}
	d.print("%sbyte %d length %d: offsets [%d, %d) records %d epoch %d appended %s codec %s producer %d/%d seq %d timestamps %d..%d%s", indent, at, b.Length(),
		b.BaseOffset(), b.NextOffset(), b.Count(), b.LeaderEpoch(), stamp(b.AppendTime()), b.Attributes().Codec(),
		b.ProducerID(), b.ProducerEpoch(), b.BaseSequence(), b.BaseTimestamp(), b.MaxTimestamp(), flags)
	if !d.options.Records {
		return
	}
	if err := d.records(indent, b); err != nil {
		d.damage(at, err)
	}
}

func (d *dumper) records(indent string, b record.Batch) error {
	if err := d.reader.Reset(b, d.inflate, record.DefaultLimits()); err != nil {
		return err
	}
	var rec record.Record
	for {
		ok, err := d.reader.Next(&rec)
		if err != nil || !ok {
			return err
		}
		line := fmt.Sprintf("%s  offset %d timestamp %d", indent, b.BaseOffset()+rec.OffsetDelta, b.BaseTimestamp()+rec.TimestampDelta)
		if kind, err := record.ParseControlKey(rec.Key); b.Attributes().Control() && err == nil {
			line += " " + kind.String()
		} else {
			line += " key " + d.clip(rec.Key)
		}
		line += " value " + d.clip(rec.Value)
		for _, h := range rec.Headers {
			line += fmt.Sprintf(" header %q=%s", h.Key, d.clip(h.Value))
		}
		d.print("%s", line)
	}
}

func (d *dumper) index(b []byte) error {
	name, _, ok := parseSegmentName(filepath.Base(d.name))
	if !ok {
		return errors.New("the file name is not that of an index")
	}
	x, covered, err := decodeIndex(b, name)
	if err != nil {
		return err
	}
	d.print("index: base offset %d, generation %d, %d entries for the first %d bytes of the segment", name.base, name.generation, len(x.entries), covered)
	for _, e := range x.entries {
		if d.full() {
			break
		}
		d.print("offset %d at byte %d appended %s", name.base+int64(e.offset), e.position, stamp(e.time))
	}
	return nil
}

func (d *dumper) snapshot(b []byte) error {
	s, err := decodeSnapshot(b)
	if err == nil {
		d.print("producers: state below offset %d, generation %d, %d bytes", s.offset, s.generation, len(s.state))
		d.print("state %s", d.clip(s.state))
	}
	return err
}

func (d *dumper) identity(b []byte) error {
	id, err := decodeIdentity(b)
	if err == nil {
		d.print("identity: cluster %x, node %d, disk %x", id.Cluster, id.Node, id.Disk)
	}
	return err
}
