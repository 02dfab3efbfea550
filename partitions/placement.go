package partitions

import (
	"cmp"
	"encoding/binary"
	"math"
	"slices"

	"github.com/cespare/xxhash/v2"
)

// NodeVirtualNodes is the number of points that every broker has on the ring
// of brokers.
const NodeVirtualNodes = 128

// LoadBoundPercent is how far above the mean the load of a broker may be, and how
// far below before a plan moves something there.
const LoadBoundPercent = 10

// Node is a broker that may hold replicas.
type Node struct {
	ID uint32
	// Rack names what fails together. A node without one is a rack of its own.
	Rack string
	// Load and Leaders count the replicas that it holds and those of them that
	// lead or are the preferred leader.
	Load, Leaders int
	// Closed nodes keep what they have and get nothing more.
	Closed bool
}

// Placement says which brokers hold the replicas of partitions; the package doc
// has the rule. It is not safe for concurrent use.
type Placement struct {
	nodes []Node   // ascending by ID
	rack  []int    // number of the rack of the node at the same index
	racks int      // how many there are
	ring  []uint64 // places of the points, ascending
	owner []int    // index into nodes of the point at the same index

	replicas, leaders int // in total, those expected included

	// Scratch: which nodes a walk has seen, and per rack how many replicas of
	// the partition at hand it holds and how many nodes it still offers.
	seen    []bool
	inRack  []int
	offered []int
}

// NewPlacement starts from the given nodes and what they hold already. Their
// order does not matter; of several with the same ID the first counts.
func NewPlacement(nodes []Node) *Placement {
	p := &Placement{nodes: slices.Clone(nodes)}
	slices.SortStableFunc(p.nodes, func(a, b Node) int { return cmp.Compare(a.ID, b.ID) })
	p.nodes = slices.CompactFunc(p.nodes, func(a, b Node) bool { return a.ID == b.ID })
	numbers := map[string]int{}
	p.rack = make([]int, len(p.nodes))
	for i, n := range p.nodes {
		number, known := numbers[n.Rack]
		if !known || n.Rack == "" {
			number = p.racks
			p.racks++
			numbers[n.Rack] = number
		}
		p.rack[i] = number
		p.replicas += n.Load
		p.leaders += n.Leaders
	}
	p.seen = make([]bool, len(p.nodes))
	p.inRack = make([]int, p.racks)
	p.offered = make([]int, p.racks)
	p.buildRing()
	return p
}

func (p *Placement) buildRing() {
	type point struct {
		place uint64
		owner int
	}
	points := make([]point, 0, len(p.nodes)*NodeVirtualNodes)
	var name [8]byte
	for i, n := range p.nodes {
		binary.LittleEndian.PutUint32(name[:], n.ID)
		for v := range uint32(NodeVirtualNodes) {
			binary.LittleEndian.PutUint32(name[4:], v)
			points = append(points, point{xxhash.Sum64(name[:]), i})
		}
	}
	slices.SortFunc(points, func(a, b point) int {
		return cmp.Or(cmp.Compare(a.place, b.place), cmp.Compare(a.owner, b.owner))
	})
	p.ring, p.owner = make([]uint64, len(points)), make([]int, len(points))
	for i, at := range points {
		p.ring[i], p.owner[i] = at.place, at.owner
	}
}

// Expect announces that so many partitions with rf replicas each will be placed,
// so that the bound on the load is that of the end, not of the moment.
func (p *Placement) Expect(count, rf int) {
	p.replicas += count * min(rf, len(p.nodes))
	if len(p.nodes) > 0 {
		p.leaders += count
	}
}

// Place returns the nodes for the replicas of a partition that was expected, the
// preferred leader first: rf of them, or all that are not closed if there are fewer.
func (p *Placement) Place(topic [16]byte, partition uint32, rf int) []uint32 {
	rf = min(rf, len(p.nodes))
	if rf <= 0 {
		return nil
	}
	at := ringPlace(topic, partition)
	chosen := make([]int, 0, rf)
	for range rf {
		i := p.pick(at, chosen)
		if i < 0 {
			break
		}
		p.nodes[i].Load++
		chosen = append(chosen, i)
	}
	if len(chosen) == 0 {
		return nil
	}
	first := p.pickLeader(chosen)
	leader := chosen[first]
	p.nodes[leader].Leaders++
	chosen = slices.Insert(slices.Delete(chosen, first, first+1), 0, leader)
	ids := make([]uint32, len(chosen))
	for i, c := range chosen {
		ids[i] = p.nodes[c].ID
	}
	return ids
}

// Loads returns the nodes with what they hold now, ascending by ID.
func (p *Placement) Loads() []Node { return slices.Clone(p.nodes) }

func ringPlace(topic [16]byte, partition uint32) uint64 {
	return xxhash.Sum64(binary.LittleEndian.AppendUint32(topic[:], partition))
}

// bound is the most replicas that a node should hold.
func (p *Placement) bound() int { return upper(p.replicas, len(p.nodes)) }

func upper(total, n int) int {
	n = max(n, 1) * 100
	return (total*(100+LoadBoundPercent) + n - 1) / n
}

func lower(total, n int) int { return total * (100 - LoadBoundPercent) / (max(n, 1) * 100) }

// pick returns the next node for a partition at a place of the ring that has
// replicas on the chosen nodes: of the racks with the fewest of them, the first
// node on the ring that is under the bound, or else the one with the least load; -1 if
// all nodes that are not closed were chosen.
func (p *Placement) pick(at uint64, chosen []int) int {
	fewest := p.countRacks(chosen)
	clear(p.seen)
	left := len(p.nodes)
	for _, c := range chosen {
		p.seen[c] = true
		left--
	}
	best, bound := -1, p.bound()
	start, _ := slices.BinarySearch(p.ring, at)
	for k := 0; left > 0; k++ {
		i := p.owner[(start+k)%len(p.owner)]
		if p.seen[i] {
			continue
		}
		p.seen[i] = true
		left--
		switch {
		case p.nodes[i].Closed:
		case p.inRack[p.rack[i]] != fewest:
		case p.nodes[i].Load < bound:
			return i
		case best < 0 || p.nodes[i].Load < p.nodes[best].Load:
			best = i
		}
	}
	return best
}

// countRacks fills inRack for the chosen nodes and returns the least count of
// a rack that has a node which was not chosen.
func (p *Placement) countRacks(chosen []int) (fewest int) {
	clear(p.inRack)
	clear(p.offered)
	for i, r := range p.rack {
		if !p.nodes[i].Closed {
			p.offered[r]++
		}
	}
	for _, c := range chosen {
		p.inRack[p.rack[c]]++
		if !p.nodes[c].Closed {
			p.offered[p.rack[c]]--
		}
	}
	fewest = math.MaxInt
	for r, n := range p.inRack {
		if p.offered[r] > 0 {
			fewest = min(fewest, n)
		}
	}
	return fewest
}

// pickLeader returns the index in chosen of the first node under the bound of
// leaders, or else of the one that leads least.
func (p *Placement) pickLeader(chosen []int) int {
	bound := (p.leaders + len(p.nodes) - 1) / len(p.nodes)
	best := 0
	for i, c := range chosen {
		if p.nodes[c].Leaders < bound {
			return i
		}
		if p.nodes[c].Leaders < p.nodes[chosen[best]].Leaders {
			best = i
		}
	}
	return best
}

// index returns where the node is in nodes, or -1.
func (p *Placement) index(id uint32) int {
	i, ok := slices.BinarySearchFunc(p.nodes, id, func(n Node, id uint32) int { return cmp.Compare(n.ID, id) })
	if !ok {
		return -1
	}
	return i
}

// Place returns the brokers for the replicas of one partition, the preferred
// leader first. For many partitions make one Placement.
func Place(brokers []Node, topic [16]byte, partition uint32, rf int) []uint32 {
	p := NewPlacement(brokers)
	p.Expect(1, rf)
	return p.Place(topic, partition, rf)
}

// PlaceTopic returns the brokers for all n partitions of a topic.
func PlaceTopic(brokers []Node, topic [16]byte, n uint32, rf int) [][]uint32 {
	p := NewPlacement(brokers)
	p.Expect(int(n), rf)
	all := make([][]uint32, n)
	for i := range all {
		all[i] = p.Place(topic, uint32(i), rf)
	}
	return all
}
