package partitions

import (
	"bytes"
	"fmt"
	"math/bits"

	"github.com/cespare/xxhash/v2"
)

// Partitioner finds the partition of a key. It is immutable, so safe for
// concurrent use, and does not allocate.
type Partitioner interface {
	// Partition returns a number below Partitions.
	Partition(key []byte) uint32
	// Partitions is the number of partitions.
	Partitions() uint32
}

// Hash spreads keys evenly over the partitions.
type Hash struct{ n uint32 }

// NewHash makes the partitioner "hash" for n partitions; zero is an error.
func NewHash(n uint32) (*Hash, error) {
	if n == 0 {
		return nil, fmt.Errorf("hash partitioner: there must be at least one partition")
	}
	return &Hash{n: n}, nil
}

// Partition returns the partition of key.
func (h *Hash) Partition(key []byte) uint32 {
	high, _ := bits.Mul64(xxhash.Sum64(key), uint64(h.n))
	return uint32(high)
}

// Partitions is the number of partitions.
func (h *Hash) Partitions() uint32 { return h.n }

// Range keeps neighbouring keys together.
type Range struct{ splits [][]byte }

// NewRange makes the partitioner "range" for len(splits)+1 partitions. It copies
// the split points, which must be non-empty and strictly ascending.
func NewRange(splits [][]byte) (*Range, error) {
	r := &Range{splits: make([][]byte, len(splits))}
	for i, s := range splits {
		if len(s) == 0 {
			return nil, fmt.Errorf("range partitioner: split point %d is empty", i+1)
		}
		if i > 0 && bytes.Compare(splits[i-1], s) >= 0 {
			return nil, fmt.Errorf("range partitioner: split point %d (%q) is not above the one before (%q)", i+1, s, splits[i-1])
		}
		r.splits[i] = bytes.Clone(s)
	}
	return r, nil
}

// Partition returns the partition of key.
func (r *Range) Partition(key []byte) uint32 {
	// Invariant: splits[:low] <= key < splits[high:].
	low, high := 0, len(r.splits)
	for low < high {
		middle := int(uint(low+high) / 2)
		if bytes.Compare(r.splits[middle], key) <= 0 {
			low = middle + 1
		} else {
			high = middle
		}
	}
	return uint32(low)
}

// Partitions is the number of partitions.
func (r *Range) Partitions() uint32 { return uint32(len(r.splits)) + 1 }
