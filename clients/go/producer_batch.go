package sequitur

import (
	"slices"
	"time"

	"github.com/sequitur-mq/sequitur/record"
	"github.com/sequitur-mq/sequitur/wire"
)

// entry is a callback that waits for one record of a batch.
type entry struct {
	done  func(Ack, error)
	index uint32
}

// waitEntry is a Send that waits for one record of a batch.
type waitEntry struct {
	waiter *waiter
	index  uint32
}

const (
	entryBytes     = 16
	waitEntryBytes = 16
	batchOverhead  = 512 // of the batch itself, to bound many tiny batches
)

// batch is records on their way to one partition.
type batch struct {
	part    *partition
	builder *record.Builder
	entries []entry
	waiters []waitEntry
	charged int64 // counted in Producer.buffered
	opened  int64 // client clock of the first record
	flush   uint64

	// Set when the batch is numbered: see partition.number.
	version uint64 // of the partition's numbering; 0: never sent
	id      identity
	seq     uint32
	built   record.Batch // aliases the builder
	stamped uint64       // version that built carries

	attempts int
	inflight bool
	unknown  bool // an attempt ended without an answer: it may have been appended
	gap      bool // the last answer was a sequence gap
	done     bool // the outcome below holds
	holds    int  // delivery and callbacks to come
	spent    bool // delivered; to be recycled once it is not in flight

	event      ProduceEvent // for the hook
	err        *Error
	baseOffset int64
	appendTime int64
	duplicates []wire.DuplicateRecord
}

func (b *batch) records() int { return b.builder.Len() }

func (b *batch) memory() int64 {
	return int64(b.builder.Cap() + cap(b.entries)*entryBytes + cap(b.waiters)*waitEntryBytes + batchOverhead)
}

// ack is the outcome of one record. Duplicates are sorted by index.
func (b *batch) ack(index uint32) (Ack, error) {
	if b.err != nil {
		return Ack{}, b.err
	}
	a := Ack{Topic: b.part.topic.name, Partition: b.part.index, Offset: b.baseOffset + int64(index)}
	if b.baseOffset < 0 {
		a.Offset = -1
		return a, nil
	}
	a.AppendTime = time.Unix(0, b.appendTime)
	if len(b.duplicates) > 0 {
		at, found := slices.BinarySearchFunc(b.duplicates, index, func(d wire.DuplicateRecord, i uint32) int {
			return int(int64(d.Index) - int64(i))
		})
		if found {
			a.Offset, a.Duplicate = b.duplicates[at].Offset, true
		}
	}
	return a, nil
}

// batchPool keeps batches for reuse, by the size of their memory, so that a partition
// with little traffic does not hold a big buffer.
type batchPool struct {
	free  [len(poolClasses)][]*batch
	bytes int64 // held by free
	limit int64
}

// poolClasses are the smallest capacities of each class.
var poolClasses = [...]int{0, 6 << 10, 40 << 10}

func poolClass(size int) int {
	class := 0
	for class+1 < len(poolClasses) && size >= poolClasses[class+1] {
		class++
	}
	return class
}

// get returns an empty batch for about so many bytes.
func (p *batchPool) get(expect int) *batch {
	class := poolClass(expect)
	if free := p.free[class]; len(free) > 0 {
		b := free[len(free)-1]
		free[len(free)-1] = nil
		p.free[class] = free[:len(free)-1]
		p.bytes -= b.memory()
		return b
	}
	return &batch{builder: record.NewBuilder(max(poolClasses[class], 1<<10))}
}

func (p *batchPool) put(b *batch) {
	b.builder.Reset()
	clear(b.entries)
	clear(b.waiters)
	*b = batch{builder: b.builder, entries: b.entries[:0], waiters: b.waiters[:0], duplicates: b.duplicates[:0]}
	size := b.memory()
	if p.bytes+size > p.limit {
		return
	}
	p.bytes += size
	class := poolClass(b.builder.Cap())
	p.free[class] = append(p.free[class], b)
}
