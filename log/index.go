package log

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"slices"
	"sort"
)

// indexEntry says where a batch lies. Offsets are relative to the segment's base.
type indexEntry struct {
	offset   uint32
	position uint32
	time     int64 // append time
}

const (
	indexMagic       = "SQTRIDX1"
	indexVersion     = 1
	indexHeaderSize  = 8 + 4 + 4 + 8 + 4 + 8
	indexEntrySize   = 16
	indexMinInterval = 4 << 10
	indexMaxEntries  = 2048 // 32 KiB; a full segment of 128 MiB has an entry each 64 KiB
)

// index is the sparse index of one segment: an entry for a batch each so many bytes, in order of offset, position and
// append time alike. When it is full every second entry goes and the interval doubles, so that it stays bounded.
// It is guarded by the partition's lock; a sealed segment's index no longer changes.
type index struct {
	from     int64 // bytes of the segment below from are not covered: they were there when the store was opened
	interval int64
	entries  []indexEntry
}

func newIndex(from int64) *index { return &index{from: from, interval: indexMinInterval} }

// add notes a batch at the end of the segment.
func (x *index) add(offset uint32, position, time int64) {
	if n := len(x.entries); n > 0 && position-int64(x.entries[n-1].position) < x.interval {
		return
	}
	if len(x.entries) == indexMaxEntries {
		x.thin()
	}
	x.entries = append(x.entries, indexEntry{offset, uint32(position), time})
}

func (x *index) thin() {
	kept := x.entries[:0]
	for i := 0; i < len(x.entries); i += 2 {
		kept = append(kept, x.entries[i])
	}
	x.entries, x.interval = kept, 2*x.interval
}

// prepend completes the index with what was learned of the bytes below from.
func (x *index) prepend(older *index) {
	x.entries = append(slices.Clip(older.entries), x.entries...)
	x.interval = max(x.interval, older.interval)
	x.from = older.from
	for len(x.entries) > indexMaxEntries {
		x.thin()
	}
}

// truncate forgets what lies at or above position.
func (x *index) truncate(position int64) {
	n := sort.Search(len(x.entries), func(i int) bool { return int64(x.entries[i].position) >= position })
	x.entries = x.entries[:n:n]
}

// byOffset returns the last entry at or below offset.
func (x *index) byOffset(offset uint32) (indexEntry, bool) {
	return x.before(func(e indexEntry) bool { return e.offset > offset })
}

// byPosition returns the last entry at or below position.
func (x *index) byPosition(position int64) (indexEntry, bool) {
	return x.before(func(e indexEntry) bool { return int64(e.position) > position })
}

// byTime returns the last entry before time: the first batch at or after time lies behind it.
func (x *index) byTime(time int64) (indexEntry, bool) {
	return x.before(func(e indexEntry) bool { return e.time >= time })
}

func (x *index) before(after func(indexEntry) bool) (indexEntry, bool) {
	n := sort.Search(len(x.entries), func(i int) bool { return after(x.entries[i]) })
	if n == 0 {
		return indexEntry{}, false
	}
	return x.entries[n-1], true
}

// encode makes the .idx file of a segment whose first covered bytes this index describes.
func (x *index) encode(name segmentName, covered int64) []byte {
	b := append(make([]byte, 0, indexHeaderSize+len(x.entries)*indexEntrySize+4), indexMagic...)
	b = appendU32(b, indexVersion)
	b = appendU32(b, uint32(len(x.entries)))
	b = appendI64(b, name.base)
	b = appendU32(b, name.generation)
	b = appendI64(b, covered)
	for _, e := range x.entries {
		b = appendI64(appendU32(appendU32(b, e.offset), e.position), e.time)
	}
	return appendU32(b, crc32.Checksum(b, castagnoli))
}

// decodeIndex reads an .idx file. covered is how many bytes of the segment it describes.
func decodeIndex(b []byte, name segmentName) (x *index, covered int64, err error) {
	if len(b) < indexHeaderSize+4 || string(b[:8]) != indexMagic {
		return nil, 0, errors.New("not an index file")
	}
	if v := binary.LittleEndian.Uint32(b[8:]); v != indexVersion {
		return nil, 0, fmt.Errorf("index version %d, this program reads %d: %w", v, indexVersion, ErrVersion)
	}
	body := b[:len(b)-4]
	if crc32.Checksum(body, castagnoli) != binary.LittleEndian.Uint32(b[len(b)-4:]) {
		return nil, 0, errors.New("index fails its checksum")
	}
	d := decoder{b: body[12:]}
	n := d.u32()
	got := segmentName{base: d.i64(), generation: d.u32()}
	covered = d.i64()
	if d.err == nil && uint64(n)*indexEntrySize != uint64(len(d.b)) {
		d.err = errors.New("index of another length than it says")
	}
	if d.err != nil {
		return nil, 0, d.err
	}
	if got != name {
		return nil, 0, fmt.Errorf("index of segment %s", got.stem())
	}
	x = &index{interval: indexMinInterval, entries: make([]indexEntry, n)}
	for i := range x.entries {
		x.entries[i] = indexEntry{d.u32(), d.u32(), d.i64()}
		if i > 0 && (x.entries[i].offset <= x.entries[i-1].offset || x.entries[i].position <= x.entries[i-1].position ||
			x.entries[i].time < x.entries[i-1].time) {
			return nil, 0, errors.New("index out of order")
		}
	}
	if len(x.entries) > 0 && int64(x.entries[len(x.entries)-1].position) >= covered {
		return nil, 0, errors.New("index points behind what it covers")
	}
	return x, covered, d.end()
}
