package log

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"
)

// Encodings shared by journal entries and the checkpoint.

var errTruncatedPayload = errors.New("ends early")

// decoder reads little-endian fields and remembers the first failure. Counts are checked against the bytes that are
// there before anything is allocated.
type decoder struct {
	b   []byte
	err error
}

func (d *decoder) take(n int) []byte {
	if d.err != nil || n < 0 || n > len(d.b) {
		if d.err == nil {
			d.err = errTruncatedPayload
		}
		return nil
	}
	out := d.b[:n:n]
	d.b = d.b[n:]
	return out
}

func (d *decoder) u8() uint8 {
	if b := d.take(1); b != nil {
		return b[0]
	}
	return 0
}

func (d *decoder) u32() uint32 {
	if b := d.take(4); b != nil {
		return binary.LittleEndian.Uint32(b)
	}
	return 0
}

func (d *decoder) u64() uint64 {
	if b := d.take(8); b != nil {
		return binary.LittleEndian.Uint64(b)
	}
	return 0
}

func (d *decoder) i64() int64 { return int64(d.u64()) }

func (d *decoder) bytes() []byte { return d.take(int(d.u32())) }

// count reads a number of items of at least itemSize bytes each.
func (d *decoder) count(itemSize int) int {
	n := uint64(d.u32())
	if d.err == nil && n*uint64(itemSize) > uint64(len(d.b)) {
		d.err = errTruncatedPayload
		return 0
	}
	return int(n)
}

func (d *decoder) end() error {
	if d.err == nil && len(d.b) != 0 {
		d.err = fmt.Errorf("%d bytes too many", len(d.b))
	}
	return d.err
}

func appendU32(b []byte, v uint32) []byte { return binary.LittleEndian.AppendUint32(b, v) }
func appendU64(b []byte, v uint64) []byte { return binary.LittleEndian.AppendUint64(b, v) }
func appendI64(b []byte, v int64) []byte  { return binary.LittleEndian.AppendUint64(b, uint64(v)) }
func appendBytes(b, v []byte) []byte      { return append(appendU32(b, uint32(len(v))), v...) }

const configSize = 1 + 1 + 5*8

const (
	configCompact   = 1
	configEssential = 2
)

func appendConfig(b []byte, c Config) []byte {
	var flags byte
	if c.Compact {
		flags |= configCompact
	}
	if c.Essential {
		flags |= configEssential
	}
	b = append(b, byte(c.Fsync), flags)
	b = appendI64(b, int64(c.FsyncInterval))
	b = appendI64(b, int64(c.RetentionTime))
	b = appendI64(b, c.RetentionBytes)
	b = appendI64(b, int64(c.TombstoneRetention))
	return appendI64(b, c.SegmentBytes)
}

func (d *decoder) config() Config {
	var c Config
	c.Fsync = FsyncMode(d.u8())
	flags := d.u8()
	c.Compact, c.Essential = flags&configCompact != 0, flags&configEssential != 0
	c.FsyncInterval = time.Duration(d.i64())
	c.RetentionTime = time.Duration(d.i64())
	c.RetentionBytes = d.i64()
	c.TombstoneRetention = time.Duration(d.i64())
	c.SegmentBytes = d.i64()
	if d.err == nil && (c.Fsync > FsyncNever || flags > configCompact|configEssential) {
		d.err = errors.New("unknown fsync mode or flags")
	}
	return c.withDefaults()
}

func appendID(b []byte, id ID) []byte { return appendU32(append(b, id.Topic[:]...), id.Partition) }

func (d *decoder) id() (id ID) {
	copy(id.Topic[:], d.take(len(id.Topic)))
	id.Partition = d.u32()
	return id
}

// created is one partition of a create entry.
type created struct {
	number uint32
	id     ID
	config Config
}

const createdSize = 4 + 20 + configSize

func encodeCreate(list []created) []byte {
	b := appendU32(make([]byte, 0, 4+len(list)*createdSize), uint32(len(list)))
	for _, c := range list {
		b = appendConfig(appendID(appendU32(b, c.number), c.id), c.config)
	}
	return b
}

func decodeCreate(data []byte) ([]created, error) {
	d := decoder{b: data}
	list := make([]created, d.count(createdSize))
	for i := range list {
		list[i] = created{number: d.u32(), id: d.id(), config: d.config()}
	}
	return list, d.end()
}

func encodeDelete(numbers []uint32) []byte {
	b := appendU32(make([]byte, 0, 4+4*len(numbers)), uint32(len(numbers)))
	for _, n := range numbers {
		b = appendU32(b, n)
	}
	return b
}

func decodeDelete(data []byte) ([]uint32, error) {
	d := decoder{b: data}
	numbers := make([]uint32, d.count(4))
	for i := range numbers {
		numbers[i] = d.u32()
	}
	return numbers, d.end()
}

// truncation is a truncate entry. It says where the segment that stays as the last one ends, so that recovery does not
// need bytes that a later truncation may have cut off already.
type truncation struct {
	end        int64
	generation uint32
	last       segmentState // size and time after the cut; size 0 if no segment stays
}

func encodeTruncate(t truncation) []byte {
	b := appendU32(appendI64(make([]byte, 0, 12+segmentStateSize), t.end), t.generation)
	return appendSegmentState(b, t.last)
}

func decodeTruncate(data []byte) (truncation, error) {
	d := decoder{b: data}
	t := truncation{end: d.i64(), generation: d.u32(), last: d.segmentState()}
	return t, d.end()
}

// startChange is a start entry. end and sealed are the partition's state at that point of the journal.
type startChange struct {
	start, end int64
	sealed     bool       // the segment before end takes no more appends
	before     EpochStart // the epoch of the record before start; zero if there is none, and then left out
}

func encodeStart(c startChange) []byte {
	b := appendI64(appendI64(make([]byte, 0, 29), c.start), c.end)
	b = append(b, flag(c.sealed))
	if c.before == (EpochStart{}) {
		return b
	}
	return appendI64(appendU32(b, c.before.Epoch), c.before.First)
}

func decodeStart(data []byte) (startChange, error) {
	d := decoder{b: data}
	c := startChange{start: d.i64(), end: d.i64(), sealed: d.u8() != 0}
	if len(d.b) > 0 {
		if c.before = (EpochStart{d.u32(), d.i64()}); c.before == (EpochStart{}) && d.err == nil {
			d.err = errors.New("names no epoch")
		}
	}
	return c, d.end()
}

func flag(v bool) byte {
	if v {
		return 1
	}
	return 0
}

func encodeValue(key uint8, value []byte) []byte {
	return append(append(make([]byte, 0, 1+len(value)), key), value...)
}

func decodeValue(data []byte) (key uint8, value []byte, err error) {
	if len(data) < 1 {
		return 0, nil, errTruncatedPayload
	}
	return data[0], data[1:], nil
}

// configChange is a config entry. end is the partition's end at that point of the journal: what an unjournaled
// partition had appended so far was synced before the entry was queued if the new mode journals.
type configChange struct {
	end    int64
	config Config
}

func encodeConfigEntry(c configChange) []byte {
	return appendConfig(appendI64(make([]byte, 0, 8+configSize), c.end), c.config)
}

func decodeConfigEntry(data []byte) (configChange, error) {
	d := decoder{b: data}
	c := configChange{end: d.i64(), config: d.config()}
	return c, d.end()
}

// replacement says that the segments of a partition from base replaced[0] on were rewritten as one file.
type replacement struct {
	end        int64  // of the log at that point of the journal
	generation uint32 // the partition's generation after the change
	replaced   []segmentName
	with       segmentState
}

func encodeReplace(r replacement) []byte {
	b := appendU32(appendI64(nil, r.end), r.generation)
	b = appendU32(b, uint32(len(r.replaced)))
	for _, n := range r.replaced {
		b = appendU32(appendI64(b, n.base), n.generation)
	}
	return appendSegmentState(b, r.with)
}

func decodeReplace(data []byte) (r replacement, err error) {
	d := decoder{b: data}
	r.end, r.generation = d.i64(), d.u32()
	r.replaced = make([]segmentName, d.count(12))
	for i := range r.replaced {
		r.replaced[i] = segmentName{base: d.i64(), generation: d.u32()}
	}
	r.with = d.segmentState()
	return r, d.end()
}
