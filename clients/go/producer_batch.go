package sequitur

import (
	"math/bits"
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
	// What every record needs comes first.
	builder record.Builder
	room    int     // size up to which records are taken without further ado
	sender  *sender // the partition's; nil while its leader is unknown

	charged int64 // counted in Producer.buffered
	entries []entry
	waiters []waitEntry
	part    *partition
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
// with little traffic does not hold a big buffer. Guarded by Producer.mu.
type batchPool struct {
	free  [poolClasses][]*batch
	bytes int64 // held by free
}

const (
	poolClasses  = 36      // capacities from 1 KiB up, four steps per doubling
	smallestPool = 1 << 10 // capacity of the first class
)

// poolClass is the class of the largest capacity that is at most size, and that
// capacity.
func poolClass(size int) (class, capacity int) {
	size = max(size, smallestPool)
	double := bits.Len(uint(size)/smallestPool) - 1 // doublings of the smallest
	step := (size >> double) / (smallestPool / 4) % 4
	if class = 4*double + step; class >= poolClasses {
		class = poolClasses - 1
		double, step = class/4, class%4
	}
	return class, (smallestPool + step*smallestPool/4) << double
}

// get returns an empty batch for about so many bytes and a little more.
func (p *batchPool) get(expect int) *batch {
	class, capacity := poolClass(expect + expect/4)
	for c := class; c < min(class+5, poolClasses); c++ {
		free := p.free[c]
		if len(free) == 0 {
			continue
		}
		b := free[len(free)-1]
		free[len(free)-1] = nil
		p.free[c] = free[:len(free)-1]
		p.bytes -= b.memory()
		return b
	}
	return &batch{builder: *record.NewBuilder(capacity)}
}

func (p *batchPool) put(b *batch) {
	b.builder.Reset()
	clear(b.entries)
	clear(b.waiters)
	*b = batch{builder: b.builder, entries: b.entries[:0], waiters: b.waiters[:0], duplicates: b.duplicates[:0]}
	p.bytes += b.memory()
	class, _ := poolClass(b.builder.Cap())
	p.free[class] = append(p.free[class], b)
}

// drop frees the pool's memory down to so many bytes, the largest batches first.
func (p *batchPool) drop(to int64) {
	for class := poolClasses - 1; class >= 0 && p.bytes > to; class-- {
		for free := p.free[class]; len(free) > 0 && p.bytes > to; free = p.free[class] {
			p.bytes -= free[len(free)-1].memory()
			free[len(free)-1] = nil
			p.free[class] = free[:len(free)-1]
		}
	}
}
