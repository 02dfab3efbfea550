package sim

import "github.com/sequitur-mq/sequitur/replication"

// rec is one record: who wrote it, and what. Offsets are positions in a slice.
type rec struct {
	epoch uint32
	value uint32 // producer and sequence, or startRecord
}

// startRecord is the value of epoch-start records.
const startRecord = ^uint32(0)

// content is what a disk holds. Records below start are gone; they stay in the slice to
// keep positions simple, and those before a log that began anew are zero.
type content struct {
	log   []rec
	start int64
	fence uint32
	hint  int64 // high watermark

	resetAt    int64
	resetEpoch uint32
}

func (c *content) end() int64 { return int64(len(c.log)) }

// begin starts an empty log at an offset.
func (c *content) begin(start int64, epoch uint32) {
	c.resetAt, c.resetEpoch = start, epoch
	c.log = append(c.log[:0], make([]rec, start)...)
	c.start = start
}

// write is one journal entry that may not be on the disk yet.
type write struct {
	kind     writeKind
	from, to int    // appended: records in disk.pending
	offset   int64  // truncate, begin, retain
	fence    uint32 // adopted; of begin: the epoch to vote with
}

type writeKind uint8

const (
	writeAppend writeKind = iota
	writeTruncate
	writeBegin
	writeRetain
	writeFence
)

// disk is one disk. What the broker sees is live; after a crash it is what was durable
// with some beginning of the writes that were not synced.
type disk struct {
	member  replication.Member
	live    content
	durable content
	writes  []write
	pending []rec // of the writes
	syncing bool

	holeFrom, holeTo int64 // damaged records, none if equal
	barred           bool  // with a rule off: wiped, and suspect until it has fetched
	// voted is the highest epoch in which a vote left this disk, for the checks.
	voted uint32
}

func (d *disk) append(recs ...rec) {
	from := len(d.pending)
	d.pending = append(d.pending, recs...)
	d.live.log = append(d.live.log, recs...)
	d.writes = append(d.writes, write{kind: writeAppend, from: from, to: len(d.pending)})
}

func (d *disk) truncate(to int64) {
	d.live.log = d.live.log[:to]
	d.trimHole(to)
	d.writes = append(d.writes, write{kind: writeTruncate, offset: to})
}

func (d *disk) begin(start int64, epoch uint32) {
	d.live.begin(start, epoch)
	d.holeFrom, d.holeTo = 0, 0
	d.writes = append(d.writes, write{kind: writeBegin, offset: start, fence: epoch})
}

func (d *disk) retain(start int64) {
	d.live.start = start
	d.writes = append(d.writes, write{kind: writeRetain, offset: start})
}

func (d *disk) adopt(fence uint32) {
	d.live.fence = fence
	d.writes = append(d.writes, write{kind: writeFence, fence: fence})
}

func (d *disk) trimHole(end int64) {
	d.holeTo = min(d.holeTo, end)
	if d.holeFrom >= d.holeTo {
		d.holeFrom, d.holeTo = 0, 0
	}
}

// settle makes the first n writes durable. done is called for each.
func (d *disk) settle(n int, done func(write)) {
	for _, w := range d.writes[:n] {
		switch w.kind {
		case writeAppend:
			d.durable.log = append(d.durable.log, d.pending[w.from:w.to]...)
		case writeTruncate:
			d.durable.log = d.durable.log[:w.offset]
		case writeBegin:
			d.durable.begin(w.offset, w.fence)
		case writeRetain:
			d.durable.start = max(d.durable.start, w.offset)
		case writeFence:
			d.durable.fence = max(d.durable.fence, w.fence)
		}
		if done != nil {
			done(w)
		}
	}
	d.writes = append(d.writes[:0], d.writes[n:]...)
	if len(d.writes) == 0 {
		d.pending = d.pending[:0]
	}
}

// synced is up to where the log as it is now is durable.
func (d *disk) synced() int64 {
	end := d.durable.end()
	for _, w := range d.writes {
		if w.kind == writeTruncate || w.kind == writeBegin {
			end = min(end, w.offset)
		}
	}
	return min(end, d.live.end())
}

// crash forgets what was not synced but for the first keep writes.
func (d *disk) crash(keep int) {
	d.settle(keep, nil)
	d.writes, d.pending, d.syncing = d.writes[:0], d.pending[:0], false
	d.live.log = append(d.live.log[:0], d.durable.log...)
	d.live.start, d.live.fence, d.live.hint = d.durable.start, d.durable.fence, d.durable.hint
	d.live.resetAt, d.live.resetEpoch = d.durable.resetAt, d.durable.resetEpoch
	d.trimHole(d.live.end())
}

// epochs is the history of the log, with the record before its start.
func (c *content) epochs() (epochs []replication.EpochStart) {
	last := uint32(0)
	for i := max(c.start-1, 0); i < c.end(); i++ {
		if e := c.log[i].epoch; e != last {
			epochs = append(epochs, replication.EpochStart{Epoch: e, First: i})
			last = e
		}
	}
	return epochs
}

// holds says whether the disk durably has a record.
func (d *disk) holds(offset int64, r rec) bool {
	c := &d.durable
	if offset < c.start {
		return true // removed by retention, which touches only what is committed
	}
	return offset < c.end() && c.log[offset] == r
}
