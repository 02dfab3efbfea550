package partitions

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"math/bits"
	"slices"

	"github.com/cespare/xxhash/v2"
)

// MaxRingPoints bounds partitions times virtual nodes of a ring: 16 bytes of
// memory each.
const MaxRingPoints = 2 << 20

// Ring is consistent hashing: adding a partition moves few keys.
type Ring struct {
	n      uint32
	places []uint64 // ascending
	owners []uint32 // partition of the point at the same index

	// index[b] is the first point whose place has the top bits b or more, so
	// that a lookup scans the few points of one bucket instead of searching.
	index []uint32
	shift uint
}

// NewRing makes the partitioner "ring" for n partitions with virtualNodes points
// each. Zero of either, or a product above MaxRingPoints, is an error.
func NewRing(n, virtualNodes uint32) (*Ring, error) {
	points := uint64(n) * uint64(virtualNodes)
	if points == 0 {
		return nil, fmt.Errorf("ring partitioner: there must be at least one partition and one virtual node, are %d and %d", n, virtualNodes)
	}
	if points > MaxRingPoints {
		return nil, fmt.Errorf("ring partitioner: %d partitions with %d virtual nodes are %d points, at most %d are allowed", n, virtualNodes, points, MaxRingPoints)
	}
	r := &Ring{n: n}
	r.place(virtualNodes)
	r.buildIndex()
	return r, nil
}

// place puts the points on the ring, in ascending order of place and owner.
func (r *Ring) place(virtualNodes uint32) {
	type point struct {
		place uint64
		owner uint32
	}
	points := make([]point, 0, int(r.n)*int(virtualNodes))
	var name [8]byte
	for p := range r.n {
		binary.LittleEndian.PutUint32(name[:], p)
		for i := range virtualNodes {
			binary.LittleEndian.PutUint32(name[4:], i)
			points = append(points, point{xxhash.Sum64(name[:]), p})
		}
	}
	slices.SortFunc(points, func(a, b point) int {
		return cmp.Or(cmp.Compare(a.place, b.place), cmp.Compare(a.owner, b.owner))
	})
	r.places = make([]uint64, len(points))
	r.owners = make([]uint32, len(points))
	for i, p := range points {
		r.places[i], r.owners[i] = p.place, p.owner
	}
}

func (r *Ring) buildIndex() {
	width := uint(bits.Len(uint(len(r.places))))
	r.shift = 64 - width
	r.index = make([]uint32, 1<<width)
	next := 0
	for b := range r.index {
		for next < len(r.places) && r.places[next]>>r.shift < uint64(b) {
			next++
		}
		r.index[b] = uint32(next)
	}
}

// Partition returns the partition of key.
func (r *Ring) Partition(key []byte) uint32 { return r.owner(xxhash.Sum64(key)) }

// owner is the partition of the first point at or after h.
func (r *Ring) owner(h uint64) uint32 {
	for i := int(r.index[h>>r.shift]); i < len(r.places); i++ {
		if r.places[i] >= h {
			return r.owners[i]
		}
	}
	return r.owners[0]
}

// Partitions is the number of partitions.
func (r *Ring) Partitions() uint32 { return r.n }
