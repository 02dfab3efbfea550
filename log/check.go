package log

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"math"
	"path/filepath"
	"slices"
	"time"

	"github.com/sequitur-mq/sequitur/internal/vfs"
	"github.com/sequitur-mq/sequitur/record"
)

// Severity grades a finding of Check.
type Severity string

const (
	// SeverityNote is normal: what a killed process or a power failure leaves, which the next start puts in order.
	SeverityNote Severity = "note"
	// SeverityWarning loses nothing but should not be there.
	SeverityWarning Severity = "warning"
	// SeverityDamage is stored data that contradicts its checksums, its order or the journal, or is missing.
	SeverityDamage Severity = "damage"
)

// Finding is one thing that Check has to say.
type Finding struct {
	Severity  Severity `json:"severity"`
	File      string   `json:"file"`                // relative to the data directory
	Position  int64    `json:"position"`            // byte in the file, -1 if it concerns the file as a whole
	Partition string   `json:"partition,omitempty"` // topic UUID and number, if it concerns one
	Name      string   `json:"name,omitempty"`      // of that partition, where it is known
	From      int64    `json:"from"`                // offsets [From, To) are concerned; both 0 if none are
	To        int64    `json:"to"`
	What      string   `json:"what"`
	Do        string   `json:"do"`                 // what to do about it
	Repaired  bool     `json:"repaired,omitempty"` // by the next start: bytes on disk are others than the journal has
}

// String is the finding in one line.
func (f Finding) String() string {
	s := fmt.Sprintf("%s: %s", f.Severity, f.File)
	if f.Position >= 0 {
		s += fmt.Sprintf(" at byte %d", f.Position)
	}
	if f.Name != "" {
		s += fmt.Sprintf(", partition %s", f.Name)
	} else if f.Partition != "" {
		s += fmt.Sprintf(", partition %s", f.Partition)
	}
	if f.To > f.From {
		s += fmt.Sprintf(", offsets [%d, %d)", f.From, f.To)
	}
	return s + ": " + f.What + " (" + f.Do + ")"
}

// Report is the result of Check.
type Report struct {
	Dir      string    `json:"dir"`
	Disk     string    `json:"disk"` // UUID in hex
	Clean    bool      `json:"clean_shutdown"`
	TornTail bool      `json:"torn_tail"` // the journal ends in a group that was not written whole
	Findings []Finding `json:"findings"`
	Omitted  int64     `json:"omitted_findings"` // beyond the limit

	Partitions     int64 `json:"partitions"`
	Segments       int64 `json:"segments"`
	Batches        int64 `json:"batches"`
	Records        int64 `json:"records"`
	SegmentBytes   int64 `json:"segment_bytes"`
	JournalFiles   int64 `json:"journal_files"`
	JournalEntries int64 `json:"journal_entries"` // that a start reads
	JournalBytes   int64 `json:"journal_bytes"`
	Replayed       int64 `json:"replayed_bytes"` // that a start has to write to segments
	Damages        int64 `json:"damages"`
	Warnings       int64 `json:"warnings"`

	// Refused is why the broker does not start on the directory, empty if it does.
	Refused string `json:"start_refused,omitempty"`

	Took time.Duration `json:"took_ns"`
}

// OK reports whether no damage was found.
func (r Report) OK() bool { return r.Damages == 0 }

// Err is nil if no damage was found, else an error that wraps ErrCorrupt and names the first finding.
func (r Report) Err() error {
	for _, f := range r.Findings {
		if f.Severity == SeverityDamage {
			return fmt.Errorf("%s: %d damages, first: %s: %w", r.Dir, r.Damages, f, ErrCorrupt)
		}
	}
	return nil
}

// CheckProgress is told to CheckOptions.Progress.
type CheckProgress struct {
	File        string // that is being read
	Done, Total int64  // bytes of segments
}

// CheckOptions configure Check. The zero value is fine.
type CheckOptions struct {
	FS          vfs.FS              // default: the operating system's
	Progress    func(CheckProgress) // called now and then from Check's goroutine, may be nil
	MaxFindings int                 // that are kept, the gravest first; default 1,000
	Records     bool                // also decompress every batch and check each record's structure
	MaxBytesSec int64               // reading speed in bytes/s; 0 = unlimited

	// Names tells what partitions are called, from the store as a start would find it, of which it may only read
	// partitions. An error is one over which a start fails. May be nil.
	Names func(*Store) (func(ID) string, error)

	switches *switches // for tests
}

const defaultMaxFindings = 1000

// Names in the data directory.
const (
	lockFile       = "lock"
	identityFile   = "identity"
	checkpointFile = "checkpoint"
	journalDir     = "journal"
	partitionsDir  = "partitions"
)

// Check verifies a whole data directory while no broker runs on it, and changes nothing: identity, checkpoint, the
// journal's frames and chain, and, in the state that the next start would bring the directory to, every segment: both
// CRCs of each batch, offsets dense (gaps only where compaction may leave them), epochs and append times never
// falling, the index, producer snapshots, and that batches of the journal are in the segments byte for byte.
//
// The error is about the check itself (no data directory, ErrLocked, reading fails); what is wrong with the data is in
// the report, see Report.Err. A torn journal tail, missing segment bytes that the journal has, and files that a start
// would remove are what a crash leaves, and are notes. Memory: the live journal at most.
func Check(dir string, o CheckOptions) (Report, error) {
	if o.FS == nil {
		o.FS = vfs.OS()
	}
	if o.MaxFindings <= 0 {
		o.MaxFindings = defaultMaxFindings
	}
	began := time.Now()
	c := &checker{options: o, fs: o.FS, dir: dir, journaled: map[ID][]journaledStretch{}}
	c.report.Dir, c.report.Findings = dir, []Finding{}
	if err := c.isDataDirectory(); err != nil {
		return c.report, fmt.Errorf("check %s: %w", dir, err)
	}
	lock, err := o.FS.LockShared(filepath.Join(dir, lockFile))
	switch {
	case errors.Is(err, vfs.ErrLocked):
		return c.report, fmt.Errorf("check %s: %w; stop the broker first", dir, ErrLocked)
	case isNotExist(err): // a copy may lack it; no broker runs without it
	case err != nil:
		return c.report, fmt.Errorf("check %s: %w", dir, err)
	default:
		defer lock.Close()
	}
	if err := c.run(); err != nil {
		return c.report, fmt.Errorf("check %s: %w", dir, err)
	}
	c.sort()
	c.report.Took = time.Since(began)
	return c.report, nil
}

type checker struct {
	options   CheckOptions
	fs        vfs.FS
	dir       string
	report    Report
	journaled map[ID][]journaledStretch
	names     map[string]string // of partitions, by what a Finding calls them
	throttle  throttle
	total     int64
	reader    record.Reader
	records   *record.Decompressor
}

// find adds a finding.
func (c *checker) find(f Finding) {
	if rel, err := filepath.Rel(c.dir, f.File); err == nil && filepath.IsAbs(f.File) == filepath.IsAbs(c.dir) {
		f.File = rel
	}
	if f.Partition != "" && c.names != nil {
		f.Name = c.names[f.Partition]
	}
	switch f.Severity {
	case SeverityDamage:
		c.report.Damages++
	case SeverityWarning:
		c.report.Warnings++
	}
	if len(c.report.Findings) >= c.options.MaxFindings {
		c.report.Omitted++
		if f.Severity != SeverityDamage {
			return
		}
		for i := len(c.report.Findings) - 1; i >= 0; i-- { // a damage takes a lesser finding's place
			if c.report.Findings[i].Severity != SeverityDamage {
				c.report.Findings[i] = f
				return
			}
		}
		return
	}
	c.report.Findings = append(c.report.Findings, f)
}

// sort puts the gravest findings first.
func (c *checker) sort() {
	grade := map[Severity]int{SeverityDamage: 0, SeverityWarning: 1, SeverityNote: 2}
	slices.SortStableFunc(c.report.Findings, func(a, b Finding) int {
		return cmp.Compare(grade[a.Severity], grade[b.Severity])
	})
}

const (
	doRestore = "restore the file from a copy or a replica; the broker serves around the damage if it can start"
	doNothing = "nothing: the next start puts it in order"

	doRestoreAll = "restore it from a copy; the broker does not start without it"
)

func (c *checker) run() error {
	c.records = record.NewDecompressor()
	defer c.records.Close()
	c.throttle = newThrottle(c.options.MaxBytesSec)
	if ok, err := c.checkIdentity(); err != nil || !ok {
		return err
	}
	overlay := vfs.NewOverlay(c.fs)
	s := newStore(c.dir, Options{FS: overlay, Logger: slog.New(slog.DiscardHandler), TailBytes: -1, switches: c.options.switches}.withDefaults())
	rec, err := s.recoverOnly()
	defer s.closeRecovered()
	if err != nil {
		if !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrVersion) {
			return err
		}
		c.refused(Finding{File: c.dir, Position: -1, What: "the broker cannot start: " + err.Error(), Do: doRestoreAll})
		c.checkJournalFiles()
		return c.checkPartitions(s, true)
	}
	c.readNames(s)
	c.report.Clean, c.report.TornTail = rec.clean, rec.end.torn
	c.report.JournalBytes = rec.end.bytes
	if rec.end.torn {
		c.find(Finding{Severity: SeverityNote, File: rec.lastFile(), Position: rec.end.off,
			What: fmt.Sprintf("commit group %d was not written whole; nothing of it was acknowledged", rec.end.group), Do: doNothing})
	}
	c.checkJournalFiles()
	if err := c.readJournal(rec); err != nil {
		return err
	}
	for _, lost := range rec.cutOffs {
		c.find(Finding{Severity: SeverityWarning, File: lost.file, Position: lost.position, Partition: lost.p.id.String(), From: lost.from, To: lost.to,
			What: fmt.Sprintf("a batch behind the last checkpoint is unreadable (%v), the next start gives it up with the %d bytes from it on: after a power failure that is data that was not synced, else damage", lost.reason, lost.bytes),
			Do:   "nothing if the power failed; else " + doRestore})
	}
	if err := c.noteChanges(overlay); err != nil {
		return err
	}
	return c.checkPartitions(s, false)
}

// noteChanges says what a start would write.
func (c *checker) noteChanges(overlay *vfs.Overlay) error {
	changed, removed := overlay.Changes()
	for _, ch := range changed {
		name, suffix, ok := parseSegmentName(filepath.Base(ch.Name))
		if !ok || suffix != segmentSuffix {
			continue
		}
		c.report.Replayed += ch.Written
		f := Finding{Severity: SeverityNote, File: ch.Name, Position: min(max(ch.Was, 0), ch.Size), From: name.base, Do: doNothing}
		if rel, err := filepath.Rel(filepath.Join(c.dir, partitionsDir), filepath.Dir(ch.Name)); err == nil {
			f.Partition = filepath.ToSlash(rel)
		}
		switch {
		case ch.Written > 0:
			at, n, err := c.differing(overlay, ch)
			if err != nil {
				return err
			}
			if n > 0 {
				f.Position, f.Repaired = at, true
				f.What = fmt.Sprintf("bytes are others than the journal has, %d from here on; the next start writes them from there. After a power failure that is data that was not synced, else the disk has damaged them", n)
				break
			}
			f.What = fmt.Sprintf("%d bytes of it are still to be written from the journal", ch.Written)
		default:
			f.What = fmt.Sprintf("%d bytes behind the journal's word are to be cut off: they were not acknowledged, or are truncated", ch.Was-ch.Size)
		}
		c.find(f)
	}
	for _, name := range removed {
		if filepath.Ext(name) == journalSuffix {
			continue // blank ones of another size than the default are
		}
		c.find(Finding{Severity: SeverityNote, File: name, Position: -1, What: "is not part of the log (any more) and is to be removed", Do: doNothing})
	}
	return nil
}

// differing compares a file with what a start makes of it: where the first byte lies that was not zero and becomes
// another, and how many do. Zeros are what a crash leaves of bytes that were never written.
func (c *checker) differing(overlay *vfs.Overlay, ch vfs.OverlayChange) (at, n int64, err error) {
	if ch.Was <= 0 {
		return 0, 0, nil
	}
	was, err := c.fs.Open(ch.Name)
	if err != nil {
		return 0, 0, err
	}
	defer was.Close()
	is, err := overlay.Open(ch.Name)
	if err != nil {
		return 0, 0, err
	}
	defer is.Close()
	a, b := make([]byte, 1<<18), make([]byte, 1<<18)
	for off, end := int64(0), min(ch.Was, ch.Size); off < end; {
		size := min(int64(len(a)), end-off)
		if _, err := io.ReadFull(io.NewSectionReader(was, off, size), a[:size]); err != nil {
			return 0, 0, err
		}
		if _, err := io.ReadFull(io.NewSectionReader(is, off, size), b[:size]); err != nil {
			return 0, 0, err
		}
		c.throttle.take(2 * size)
		if !bytes.Equal(a[:size], b[:size]) {
			for i := range a[:size] {
				if a[i] != b[i] && a[i] != 0 {
					if n++; n == 1 {
						at = off + int64(i)
					}
				}
			}
		}
		off += size
	}
	return at, n, nil
}

// checkPartitions verifies the files of every partition as recovery sees them. asFound: recovery failed, so what lies
// beyond the checkpoint is not known.
func (c *checker) checkPartitions(s *Store, asFound bool) error {
	c.report.Partitions = int64(len(s.partitions))
	for _, p := range s.partitions {
		for _, g := range p.segments {
			c.total += g.size
		}
	}
	for _, id := range s.IDs() {
		p := s.partitions[id]
		pc := &partitionChecker{checker: c, p: p, id: id.String(), fs: s.fs, asFound: asFound, stretches: c.journaled[id]}
		if err := pc.run(); err != nil {
			return err
		}
	}
	return c.checkStrangers(s)
}

// checkStrangers looks for partition directories that the log does not know. They are never removed on that ground.
func (c *checker) checkStrangers(s *Store) error {
	root := filepath.Join(s.dir, partitionsDir)
	topics, err := s.fs.ReadDir(root)
	if isNotExist(err) {
		return nil
	}
	if err != nil {
		return err
	}
	known := map[string]bool{}
	for id := range s.partitions {
		known[filepath.FromSlash(id.String())] = true
	}
	for id := range s.deleted {
		known[filepath.FromSlash(id.String())] = true
	}
	for _, topic := range topics {
		parts, err := s.fs.ReadDir(filepath.Join(root, topic.Name()))
		if err != nil {
			parts = []fs.DirEntry{topic}
		}
		for _, part := range parts {
			if name := filepath.Join(topic.Name(), part.Name()); !known[name] {
				c.find(Finding{Severity: SeverityWarning, File: filepath.Join(root, name), Position: -1,
					What: "belongs to no partition", Do: "move it away if you know what it is; the broker leaves it alone"})
			}
		}
	}
	return nil
}

// progress reports and throttles reading.
func (c *checker) progress(file string, n int64) {
	c.report.SegmentBytes += n
	c.throttle.take(n)
	if c.options.Progress != nil {
		c.options.Progress(CheckProgress{File: file, Done: c.report.SegmentBytes, Total: c.total})
	}
}

// throttle bounds a rate by sleeping; a round of rest each 1/20 s of work.
type throttle struct {
	rate    int64 // bytes/s, 0 = unlimited
	pending int64
	rest    func(time.Duration)
}

func newThrottle(rate int64) throttle { return throttle{rate: rate, rest: time.Sleep} }

// take accounts for n bytes of work.
func (t *throttle) take(n int64) {
	if t.rate <= 0 {
		return
	}
	if t.pending += n; t.pending >= t.rate/20+1 {
		t.rest(time.Duration(math.Round(float64(t.pending) / float64(t.rate) * 1e9)))
		t.pending = 0
	}
}
