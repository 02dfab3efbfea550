package faults

import (
	"cmp"
	"fmt"
	"slices"
)

// Violation is something that must not be.
type Violation struct {
	Kind string // lost, duplicated, reordered, inconsistent, skipped, non-monotonic, stuck
	What string
}

func (v Violation) String() string { return v.Kind + ": " + v.What }

// Check returns everything that is wrong with a history, at most a hundred of each kind.
func Check(h *History) []Violation {
	c := &checker{h: h, count: map[string]int{}, at: map[ID]int64{}, byOffset: map[int32]map[int64]ID{}}
	c.topic()
	c.acknowledged()
	c.realTime()
	c.replicas()
	for i, consumer := range h.Consumers {
		c.consumer(i, consumer)
	}
	for _, what := range h.Stuck {
		c.found("stuck", "%s", what)
	}
	return c.list
}

type checker struct {
	h        *History
	list     []Violation
	count    map[string]int
	at       map[ID]int64 // where the final read found a record
	byOffset map[int32]map[int64]ID
}

const mostPerKind = 100

func (c *checker) found(kind, format string, args ...any) {
	if c.count[kind]++; c.count[kind] <= mostPerKind {
		c.list = append(c.list, Violation{kind, fmt.Sprintf(format, args...)})
	}
}

// topic looks at the topic by itself: duplicates, and the order of each producer.
func (c *checker) topic() {
	sent := map[ID]bool{}
	for i := range c.h.Sends {
		sent[c.h.Sends[i].ID] = true
	}
	for partition, reads := range c.h.Final {
		c.byOffset[partition] = map[int64]ID{}
		last, offset := map[uint32]uint64{}, int64(-1)
		for _, r := range reads {
			if r.Offset <= offset {
				c.found("non-monotonic", "partition %d: the final read has offset %d after %d", partition, r.Offset, offset)
			}
			offset = r.Offset
			c.byOffset[partition][r.Offset] = r.ID
			if !sent[r.ID] || r.ID.Partition != partition {
				c.found("inconsistent", "partition %d offset %d holds %v, which was not sent there", partition, r.Offset, r.ID)
				continue
			}
			if first, twice := c.at[r.ID]; twice {
				c.found("duplicated", "%v is at offset %d and at %d", r.ID, first, r.Offset)
				continue
			}
			c.at[r.ID] = r.Offset
			if before, ok := last[r.ID.Producer]; ok && r.ID.Sequence < before {
				c.found("reordered", "offset %d holds %v behind its record %d", r.Offset, r.ID, before)
			}
			last[r.ID.Producer] = max(last[r.ID.Producer], r.ID.Sequence)
		}
	}
}

// acknowledged finds what was acknowledged in the topic, at the offset that was told.
func (c *checker) acknowledged() {
	for i := range c.h.Sends {
		s := &c.h.Sends[i]
		if s.Acked == 0 {
			continue
		}
		switch at, there := c.at[s.ID]; {
		case !there:
			c.found("lost", "%v, acknowledged at offset %d after %v", s.ID, s.Offset, s.Acked)
		case at != s.Offset:
			c.found("inconsistent", "%v was acknowledged at offset %d and is at %d", s.ID, s.Offset, at)
		}
	}
}

// realTime: if a was acknowledged before b was sent, a stands before b.
func (c *checker) realTime() {
	byPartition := map[int32][]*Send{}
	for i := range c.h.Sends {
		if s := &c.h.Sends[i]; s.Acked > 0 {
			byPartition[s.Partition] = append(byPartition[s.Partition], s)
		}
	}
	for _, sends := range byPartition {
		acked := slices.Clone(sends)
		slices.SortFunc(acked, func(a, b *Send) int { return cmp.Compare(a.Acked, b.Acked) })
		slices.SortFunc(sends, func(a, b *Send) int { return cmp.Compare(a.Invoked, b.Invoked) })
		next, highest := 0, (*Send)(nil)
		for _, b := range sends {
			for next < len(acked) && acked[next].Acked < b.Invoked {
				if a := acked[next]; highest == nil || a.Offset > highest.Offset {
					highest = a
				}
				next++
			}
			if highest != nil && highest.Offset >= b.Offset {
				c.found("reordered", "%v was acknowledged at offset %d before %v was sent, which got offset %d",
					highest.ID, highest.Offset, b.ID, b.Offset)
			}
		}
	}
}

// replicas compares each replica with the topic as it was read, and wants as many of each partition as the topic has.
func (c *checker) replicas() {
	copies := map[int32]int{}
	for name, partitions := range c.h.Replicas {
		for partition, reads := range partitions {
			final := c.h.Final[partition]
			copies[partition]++
			held := map[int64]ID{}
			for _, r := range reads {
				held[r.Offset] = r.ID
			}
			for _, r := range final {
				switch id, there := held[r.Offset]; {
				case !there:
					c.found("lost", "partition %d offset %d (%v) is not on %s", partition, r.Offset, r.ID, name)
				case id != r.ID:
					c.found("inconsistent", "partition %d offset %d holds %v, on %s %v", partition, r.Offset, r.ID, name, id)
				}
			}
		}
	}
	for partition := range c.h.Final {
		if copies[partition] < min(len(c.h.Replicas), 3) {
			c.found("lost", "partition %d has %d replicas at the end", partition, copies[partition])
		}
	}
}

// consumer checks that a consumer that followed from the start saw everything once, in order, as it is.
func (c *checker) consumer(number int, partitions map[int32][]Read) {
	for partition, reads := range partitions {
		seen, last := map[int64]bool{}, int64(-1)
		for _, r := range reads {
			if r.Offset <= last {
				c.found("non-monotonic", "consumer %d, partition %d: offset %d came after %d", number, partition, r.Offset, last)
			}
			last = max(last, r.Offset)
			seen[r.Offset] = true
			if id, there := c.byOffset[partition][r.Offset]; !there || id != r.ID {
				c.found("inconsistent", "consumer %d read %v at partition %d offset %d, which holds %v (there: %v)",
					number, r.ID, partition, r.Offset, id, there)
			}
		}
		for offset, id := range c.byOffset[partition] {
			if offset <= last && !seen[offset] {
				c.found("skipped", "consumer %d, partition %d: offset %d (%v) was passed over", number, partition, offset, id)
			}
		}
	}
}
