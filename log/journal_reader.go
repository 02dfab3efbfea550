package log

import (
	"fmt"
	"io"

	"github.com/sequitur-mq/sequitur/internal/vfs"
)

// journalReader reads the groups of one journal file in order.
type journalReader struct {
	f    io.ReaderAt
	name string
	fileHeader
	at      int64 // of the next group
	buf     []byte
	from    int64 // where buf[0] lies in the file
	have    int
	entries []entry
}

const journalReadSize = 4 << 20

func newJournalReader(f io.ReaderAt, name string, h fileHeader, at int64, buf []byte) *journalReader {
	if buf == nil {
		buf = vfs.AlignedBuffer(int(min(journalReadSize, padded(h.size))))
	}
	return &journalReader{f: f, name: name, fileHeader: h, at: max(at, journalDataFrom), buf: buf}
}

// view returns n bytes at a block boundary, fewer only at the end of the file.
func (r *journalReader) view(at int64, n int) ([]byte, error) {
	n = int(min(int64(n), r.size-at))
	if at >= r.from && at+int64(n) <= r.from+int64(r.have) {
		return r.buf[at-r.from:][:n], nil
	}
	if need := int(padded(int64(n))); need > len(r.buf) {
		r.buf = vfs.AlignedBuffer(need)
	}
	want := int(min(int64(len(r.buf)), r.size-at))
	got, err := r.f.ReadAt(r.buf[:want], at)
	if got < n {
		return nil, fmt.Errorf("read journal file %s at byte %d: %w", r.name, at, err)
	}
	r.from, r.have = at, got
	return r.buf[:n], nil
}

// next returns the entries of the next group; ok is false where no whole group lies. The entries alias the buffer
// until the next call.
func (r *journalReader) next() (h groupHeader, entries []entry, ok bool, err error) {
	if r.at+groupHeaderSize > r.size {
		return h, nil, false, nil
	}
	b, err := r.view(r.at, journalBlock)
	if err != nil {
		return h, nil, false, err
	}
	h, crc, ok := parseGroupHeader(b, r.groupLap, r.groupSalt, r.at)
	if !ok || int64(h.length) > r.size-r.at {
		return h, nil, false, nil
	}
	if b, err = r.view(r.at, int(h.length)); err != nil {
		return h, nil, false, err
	}
	r.entries, ok = walkGroup(b, h, crc, r.entries[:0])
	if !ok {
		return h, nil, false, nil
	}
	r.at += padded(int64(h.length))
	return h, r.entries, true, nil
}

// laterGroup looks behind the place where reading ended for a sign of a group with a number above after. There is
// one write at a time: if such a group was begun, the place where reading ended had been written and flushed whole,
// so what cannot be read there is damage and not a torn tail.
func (r *journalReader) laterGroup(after uint64) (at int64, found bool, err error) {
	for at := r.at; at+journalBlock <= r.size; at += journalBlock {
		b, err := r.view(at, journalBlock)
		if err != nil {
			return 0, false, err
		}
		if h, _, ok := parseGroupHeader(b, r.groupLap, r.groupSalt, at); ok && h.number > after {
			return at, true, nil
		}
	}
	return 0, false, nil
}

// journalScan walks the journal from a position to its end.
type journalScan struct {
	files []*journalFile // used ones, by lap
	from  position
	visit func(e *entry, h groupHeader, file string, at int64) error
}

// journalEnd is what a scan found out.
type journalEnd struct {
	position        // where the next group would have gone
	lastSeq  uint64 // of the last entry read, 0 if none
	torn     bool   // the last group began and did not get whole to the disk
	bytes    int64  // read
}

// run checks the chain of laps and groups and hands every entry out in order.
func (s journalScan) run() (journalEnd, error) {
	end := journalEnd{position: s.from}
	files := s.files
	for len(files) > 0 && files[0].lap < s.from.lap {
		files = files[1:]
	}
	if len(files) == 0 || files[0].lap != s.from.lap {
		return end, fmt.Errorf("journal file of lap %d is missing; the checkpoint needs it: %w", s.from.lap, ErrCorrupt)
	}
	var buf []byte
	for i, jf := range files {
		if i > 0 {
			if jf.lap != end.lap+1 || jf.prev != end.position {
				return end, damaged(files[i-1].name, end.off,
					"journal ends at group %d, but %s goes on after group %d of lap %d at byte %d",
					end.group, jf.name, jf.prev.group, jf.prev.lap, jf.prev.off)
			}
			end.lap, end.off = jf.lap, journalDataFrom
		}
		if end.off > jf.size {
			return end, damaged(jf.name, end.off, "the checkpoint points behind the end of the file")
		}
		r := newJournalReader(jf.f, jf.name, jf.fileHeader, end.off, buf)
		if err := s.file(r, &end, i == len(files)-1); err != nil {
			return end, err
		}
		buf = r.buf
	}
	return end, nil
}

func (s journalScan) file(r *journalReader, end *journalEnd, last bool) error {
	for {
		at := r.at
		h, entries, ok, err := r.next()
		if err != nil {
			return err
		}
		if !ok {
			end.torn = h.lap == r.groupLap && h.number == end.group && last
			break
		}
		if h.number != end.group {
			return damaged(r.name, at, "group %d where group %d belongs", h.number, end.group)
		}
		for i := range entries {
			if err := s.visit(&entries[i], h, r.name, at); err != nil {
				return err
			}
		}
		if h.entries > 0 {
			end.lastSeq = h.firstSeq + uint64(h.entries) - 1
		}
		end.bytes += r.at - at
		end.off, end.group = r.at, h.number+1
	}
	if !last {
		return nil // the next file's header says whether this was the end
	}
	at, found, err := r.laterGroup(end.group)
	if err != nil {
		return err
	}
	if found {
		return damaged(r.name, r.at, "group %d is unreadable, but a later one follows at byte %d", end.group, at)
	}
	return nil
}
