package log

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
)

const (
	checkpointMagic   = "SQTRCKP1"
	checkpointVersion = 1
	checkpointClean   = 1 // written by Close: nothing happened after it, unless the journal has a later lap
	checkpointMin     = 8 + 4 + 4 + 16 + 24 + 8 + 4 + 4 + 4 + 4
)

// checkpoint is the decoded checkpoint file: all that recovery needs to know apart from the journal from position on.
type checkpoint struct {
	clean      bool
	disk       [16]byte
	position   position
	nextSeq    uint64
	nextNumber uint32
	deleted    []ID     // deleted partitions whose directories may still be there
	records    [][]byte // one per partition; see partitionRecord
}

func (c checkpoint) encode() []byte {
	size := checkpointMin + 20*len(c.deleted)
	for _, r := range c.records {
		size += 4 + len(r)
	}
	var flags uint32
	if c.clean {
		flags = checkpointClean
	}
	b := append(make([]byte, 0, size), checkpointMagic...)
	b = appendU32(b, checkpointVersion)
	b = appendU32(b, flags)
	b = append(b, c.disk[:]...)
	b = appendU64(b, c.position.lap)
	b = appendI64(b, c.position.off)
	b = appendU64(b, c.position.group)
	b = appendU64(b, c.nextSeq)
	b = appendU32(b, c.nextNumber)
	b = appendU32(b, uint32(len(c.deleted)))
	for _, id := range c.deleted {
		b = appendID(b, id)
	}
	b = appendU32(b, uint32(len(c.records)))
	for _, r := range c.records {
		b = appendBytes(b, r)
	}
	return appendU32(b, crc32.Checksum(b, castagnoli))
}

// decodeCheckpoint reads a checkpoint file. The records alias b.
func decodeCheckpoint(b []byte) (c checkpoint, err error) {
	if len(b) < checkpointMin || string(b[:8]) != checkpointMagic {
		return c, fmt.Errorf("not a checkpoint file: %w", ErrCorrupt)
	}
	if v := binary.LittleEndian.Uint32(b[8:]); v != checkpointVersion {
		return c, fmt.Errorf("checkpoint version %d, this program reads %d: %w", v, checkpointVersion, ErrVersion)
	}
	body := b[:len(b)-4]
	if crc32.Checksum(body, castagnoli) != binary.LittleEndian.Uint32(b[len(b)-4:]) {
		return c, fmt.Errorf("checkpoint fails its checksum: %w", ErrCorrupt)
	}
	d := decoder{b: body[12:]}
	c.clean = d.u32()&checkpointClean != 0
	copy(c.disk[:], d.take(16))
	c.position = position{lap: d.u64(), off: d.i64(), group: d.u64()}
	c.nextSeq, c.nextNumber = d.u64(), d.u32()
	c.deleted = make([]ID, d.count(20))
	for i := range c.deleted {
		c.deleted[i] = d.id()
	}
	c.records = make([][]byte, d.count(4+partitionRecordMin))
	for i := range c.records {
		c.records[i] = d.bytes()
	}
	if err := d.end(); err != nil {
		return c, fmt.Errorf("checkpoint %w: %w", err, ErrCorrupt)
	}
	return c, nil
}

// partitionRecord is what a checkpoint says about one partition.
type partitionRecord struct {
	number       uint32
	id           ID
	config       Config
	sealed       bool
	start, end   int64
	lastTime     int64
	lastEpoch    uint32
	generation   uint32
	applied      uint64
	snapshotFile int64 // offset of the newest producers file, -1 if none
	segments     []segmentState
	epochs       []EpochStart
	values       []value
	cuts         []cutMark
	snapshot     *snapshot
}

const partitionRecordMin = 4 + 4 + 20 + configSize + 1 + 8 + 8 + 8 + 4 + 4 + 8 + 8 + 4 + 4 + 4 + 8 + 4

func (r partitionRecord) encode() []byte {
	size := partitionRecordMin + len(r.segments)*segmentStateSize + len(r.epochs)*12 + len(r.cuts)*12
	for _, v := range r.values {
		size += 5 + len(v.data)
	}
	snap := r.snapshot
	if snap == nil {
		snap = &snapshot{offset: -1}
	}
	b := appendU32(make([]byte, 0, size+len(snap.state)), r.number)
	b = appendConfig(appendID(b, r.id), r.config)
	b = append(b, flag(r.sealed))
	b = appendI64(appendI64(appendI64(b, r.start), r.end), r.lastTime)
	b = appendU32(appendU32(b, r.lastEpoch), r.generation)
	b = appendI64(appendU64(b, r.applied), r.snapshotFile)
	b = appendU32(b, uint32(len(r.segments)))
	for _, s := range r.segments {
		b = appendSegmentState(b, s)
	}
	b = appendU32(b, uint32(len(r.epochs)))
	for _, e := range r.epochs {
		b = appendI64(appendU32(b, e.Epoch), e.First)
	}
	b = appendU32(b, uint32(len(r.values)))
	for _, v := range r.values {
		b = appendBytes(append(b, v.key), v.data)
	}
	b = appendU32(b, uint32(len(r.cuts)))
	for _, c := range r.cuts {
		b = appendI64(appendU32(b, c.generation), c.end)
	}
	return appendBytes(appendI64(b, snap.offset), snap.state)
}

func decodePartitionRecord(b []byte) (r partitionRecord, err error) {
	d := decoder{b: b}
	r.number, r.id, r.config = d.u32(), d.id(), d.config()
	r.sealed = d.u8() != 0
	r.start, r.end, r.lastTime = d.i64(), d.i64(), d.i64()
	r.lastEpoch, r.generation = d.u32(), d.u32()
	r.applied, r.snapshotFile = d.u64(), d.i64()
	if n := d.count(segmentStateSize); n > 0 {
		r.segments = make([]segmentState, n)
	}
	for i := range r.segments {
		r.segments[i] = d.segmentState()
		if i > 0 && r.segments[i].base <= r.segments[i-1].base && d.err == nil {
			d.err = fmt.Errorf("has segments out of order")
		}
	}
	if n := d.count(12); n > 0 {
		r.epochs = make([]EpochStart, n)
	}
	for i := range r.epochs {
		r.epochs[i] = EpochStart{Epoch: d.u32(), First: d.i64()}
	}
	if n := d.count(5); n > 0 {
		r.values = make([]value, n)
	}
	for i := range r.values {
		r.values[i] = value{key: d.u8(), data: d.bytes()}
	}
	if n := d.count(12); n > 0 {
		r.cuts = make([]cutMark, n)
	}
	for i := range r.cuts {
		r.cuts[i] = cutMark{generation: d.u32(), end: d.i64()}
	}
	if offset := d.i64(); offset >= 0 {
		r.snapshot = &snapshot{offset: offset}
	}
	state := d.bytes()
	if r.snapshot != nil {
		r.snapshot.state = state
	}
	if d.err == nil && (r.start < 0 || r.end < r.start) {
		d.err = fmt.Errorf("has start %d and end %d", r.start, r.end)
	}
	if err := d.end(); err != nil {
		return r, fmt.Errorf("checkpoint record of partition %s %w: %w", r.id, err, ErrCorrupt)
	}
	return r, nil
}

// record captures the partition for a checkpoint. The caller holds mu.
func (p *Partition) partitionRecord() partitionRecord {
	return partitionRecord{
		number: p.number, id: p.id, config: p.config, sealed: p.sealed,
		start: p.start, end: p.end, lastTime: p.lastTime, lastEpoch: p.lastEpoch,
		generation: p.generation, applied: p.applied, snapshotFile: p.snapshotFile,
		segments: p.segmentStates(), epochs: p.epochs, values: p.values, cuts: p.cuts, snapshot: p.snapshot,
	}
}

// partition rebuilds a partition from its record.
func (r partitionRecord) partition(s *Store) *Partition {
	p := &Partition{
		s: s, id: r.id, number: r.number, config: r.config, sealed: r.sealed,
		journaled: r.config.Fsync == FsyncAlways,
		start:     r.start, end: r.end, lastTime: r.lastTime, lastEpoch: r.lastEpoch,
		generation: r.generation, applied: r.applied, snapshotFile: r.snapshotFile,
		epochs: r.epochs, values: r.values, cuts: r.cuts, snapshot: r.snapshot, directorySaved: len(r.segments) > 0,
	}
	p.durable.Store(r.end)
	p.durableCap.Store(maxOffset)
	if len(r.segments) > 0 {
		p.segments = make([]*segment, len(r.segments))
	}
	for i, st := range r.segments {
		p.segments[i] = &segment{
			p: p, segmentState: st, synced: st.size, namesSaved: true, writeback: st.size, found: st.size,
		}
	}
	return p
}
