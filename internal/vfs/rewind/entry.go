package rewind

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
)

// kind says what an entry notes.
type kind uint8

const (
	wrote      kind = iota + 1 // data or size of a file changed; data is what was at offset before
	created                    // a file that was not there before
	removed                    // a file; kept under the entry's number
	renamed                    // from -> path; replaced: what path was is kept under the entry's number
	madeDir                    // a directory
	removedDir                 // an empty directory
	syncedFile                 // entries of the inode numbered below before cannot be lost
	syncedDir                  // names in path
	syncedAll                  // everything
)

// entry is one change, or one sync. Fields that a kind does not need are zero.
type entry struct {
	kind     kind
	replaced bool
	cut      bool // the change took away data from offset on
	inode    uint64
	before   uint64
	size     int64 // of the file before the change
	offset   int64 // of the change
	length   int64
	path     string
	from     string
	data     []byte

	number  uint64 // its place in the file
	durable bool   // set by Undo
}

const entryHeader = 1 + 1 + 5*8 + 3*4

// appendTo writes: u8 kind, u8 flags (1 replaced, 2 cut), u64 inode, u64 before, i64 size, i64 offset, i64 length, u32 length of path,
// of from and of data, then these three.
func (e *entry) appendTo(w *bytes.Buffer) {
	le := binary.LittleEndian
	b := make([]byte, 0, entryHeader)
	b = append(b, byte(e.kind), 0)
	if e.replaced {
		b[1] |= 1
	}
	if e.cut {
		b[1] |= 2
	}
	for _, v := range []uint64{e.inode, e.before, uint64(e.size), uint64(e.offset), uint64(e.length)} {
		b = le.AppendUint64(b, v)
	}
	for _, n := range []int{len(e.path), len(e.from), len(e.data)} {
		b = le.AppendUint32(b, uint32(n))
	}
	w.Write(b)
	w.WriteString(e.path)
	w.WriteString(e.from)
	w.Write(e.data)
}

// readEntries reads all whole entries. The last one may be cut short where the process died while noting it: the change
// had not begun then.
func readEntries(name string) ([]*entry, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	r := bufio.NewReaderSize(f, 1<<20)
	var list []*entry
	for {
		e, err := readEntry(r)
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return list, nil
		}
		if err != nil {
			return nil, fmt.Errorf("%s: entry %d: %w", name, len(list), err)
		}
		e.number = uint64(len(list))
		list = append(list, e)
	}
}

func readEntry(r io.Reader) (*entry, error) {
	var h [entryHeader]byte
	if _, err := io.ReadFull(r, h[:]); err != nil {
		return nil, err
	}
	le := binary.LittleEndian
	e := &entry{kind: kind(h[0]), replaced: h[1]&1 != 0, cut: h[1]&2 != 0}
	if e.kind < wrote || e.kind > syncedAll {
		return nil, fmt.Errorf("unknown kind %d", e.kind)
	}
	e.inode, e.before = le.Uint64(h[2:]), le.Uint64(h[10:])
	e.size, e.offset, e.length = int64(le.Uint64(h[18:])), int64(le.Uint64(h[26:])), int64(le.Uint64(h[34:]))
	parts := make([][]byte, 3)
	for i := range parts {
		n := le.Uint32(h[42+4*i:])
		if n > 1<<30 {
			return nil, fmt.Errorf("part of %d bytes", n)
		}
		parts[i] = make([]byte, n)
		if _, err := io.ReadFull(r, parts[i]); err != nil {
			return nil, io.ErrUnexpectedEOF
		}
	}
	e.path, e.from, e.data = string(parts[0]), string(parts[1]), parts[2]
	return e, nil
}
