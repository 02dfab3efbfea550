package log

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/sequitur-mq/sequitur/internal/vfs"
)

const (
	snapshotPrefix  = "producers."
	snapshotMagic   = "SQTRPRD1"
	snapshotVersion = 1
	snapshotHeader  = 8 + 4 + 8 + 4 + 4
)

func snapshotFileName(offset int64) string { return snapshotPrefix + fmt.Sprintf("%020d", offset) }

func parseSnapshotName(file string) (offset int64, ok bool) {
	digits, ok := strings.CutPrefix(file, snapshotPrefix)
	if !ok || len(digits) != 20 {
		return 0, false
	}
	v, err := strconv.ParseUint(digits, 10, 63)
	return int64(v), err == nil
}

func (s snapshot) encode() []byte {
	b := append(make([]byte, 0, snapshotHeader+len(s.state)+4), snapshotMagic...)
	b = appendI64(appendU32(b, snapshotVersion), s.offset)
	b = appendBytes(appendU32(b, s.generation), s.state)
	return appendU32(b, crc32.Checksum(b, castagnoli))
}

func decodeSnapshot(b []byte) (*snapshot, error) {
	if len(b) < snapshotHeader+4 || string(b[:8]) != snapshotMagic {
		return nil, errors.New("not a producers file")
	}
	if v := binary.LittleEndian.Uint32(b[8:]); v != snapshotVersion {
		return nil, fmt.Errorf("producers file version %d, this program reads %d: %w", v, snapshotVersion, ErrVersion)
	}
	body := b[:len(b)-4]
	if crc32.Checksum(body, castagnoli) != binary.LittleEndian.Uint32(b[len(b)-4:]) {
		return nil, errors.New("producers file fails its checksum")
	}
	d := decoder{b: body[12:]}
	s := &snapshot{offset: d.i64(), generation: d.u32(), state: d.bytes()}
	return s, d.end()
}

// wantsSnapshotFile returns the state to be saved on its own: once per segment, so that a truncation to anywhere finds
// a state not much older. The caller holds mu.
func (p *Partition) wantsSnapshotFile() *snapshot {
	g := p.active()
	if p.snapshot == nil || g == nil || len(p.segments) < 2 || p.snapshot.offset < g.base || p.snapshotFile >= g.base {
		return nil
	}
	return p.snapshot
}

// saveSnapshot writes the file that the last capture found due. The checkpoint that relies on the capture is durable, and
// with it all that the state describes. On a full disk there is none: the checkpoint has the state all the same.
func (p *Partition) saveSnapshot() error {
	due := p.snapshotDue
	p.snapshotDue = nil
	if due == nil {
		return nil
	}
	if err := p.writeSnapshotFile(*due); err != nil {
		if vfs.IsDiskFull(err) {
			return nil
		}
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if due.offset <= p.end && p.concernsLocked(due) {
		p.snapshotFile = due.offset
	}
	return nil
}

// writeSnapshotFile saves a state durably.
func (p *Partition) writeSnapshotFile(s snapshot) error {
	name := filepath.Join(p.dir(), snapshotFileName(s.offset))
	if err := writeFileAtomic(p.s.fs, name, s.encode()); err != nil {
		if isNotExist(err) {
			return nil // the partition is being removed
		}
		return fmt.Errorf("write %s: %w", name, err)
	}
	return nil
}

// loadSnapshot returns the newest saved state at or below end, nil if there is none. Damaged files are passed over:
// an older state only means more to replay.
func (p *Partition) loadSnapshot(end int64) *snapshot {
	entries, err := p.s.fs.ReadDir(p.dir())
	if err != nil {
		return nil
	}
	for i := len(entries) - 1; i >= 0; i-- {
		offset, ok := parseSnapshotName(entries[i].Name())
		if !ok || offset > end {
			continue
		}
		b, err := readFile(p.s.fs, filepath.Join(p.dir(), entries[i].Name()))
		if err != nil {
			continue
		}
		if s, err := decodeSnapshot(b); err == nil && s.offset == offset && p.concerns(s) {
			return s
		}
	}
	return nil
}

// cutMark remembers a truncation, for telling whether a saved state is of the log as it is now: removals of files are
// neither at once nor durable, so one of a suffix that is gone may still be there when others have taken its offsets.
type cutMark struct {
	generation uint32 // of the partition from then on
	end        int64
}

const maxCutMarks = 16

// mark notes a truncation. Older ones that cut less say nothing more; the oldest two become one that allows no more
// than either. The caller holds mu.
func (p *Partition) mark(end int64, generation uint32) {
	n := len(p.cuts)
	for n > 0 && p.cuts[n-1].end >= end {
		n--
	}
	p.cuts = append(p.cuts[:n:n], cutMark{generation, end})
	if len(p.cuts) > maxCutMarks {
		p.cuts[1].end = p.cuts[0].end
		p.cuts = p.cuts[1:]
	}
}

// concerns reports whether a saved state is of the log as it is now: nothing below its offset was cut off since.
func (p *Partition) concerns(s *snapshot) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.s.options.switches.anySnapshot || p.concernsLocked(s)
}

func (p *Partition) concernsLocked(s *snapshot) bool {
	for _, c := range p.cuts {
		if c.generation > s.generation && c.end < s.offset {
			return false
		}
	}
	return true
}

// dropSnapshotFiles removes states that no truncation will ask for: below the log start all but the newest, and above
// the end those of a suffix that is gone.
func (p *Partition) dropSnapshotFiles() error {
	entries, err := p.s.fs.ReadDir(p.dir())
	if err != nil {
		return nil
	}
	p.mu.Lock()
	start, end := p.start, p.end
	p.mu.Unlock()
	newest := int64(-1)
	for _, e := range entries {
		if offset, ok := parseSnapshotName(e.Name()); ok && offset <= start {
			newest = max(newest, offset)
		}
	}
	for _, e := range entries {
		if offset, ok := parseSnapshotName(e.Name()); ok && (offset < newest || offset > end) {
			if err := p.s.fs.Remove(filepath.Join(p.dir(), e.Name())); err != nil && !isNotExist(err) {
				return fmt.Errorf("remove producers file: %w", err)
			}
		}
	}
	return nil
}
