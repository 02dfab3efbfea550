package partitions

import (
	"cmp"
	"math"
	"slices"
)

// Assignment is where the replicas of a partition are.
type Assignment struct {
	Topic     [16]byte
	Partition uint32
	// Replicas are the nodes, the preferred leader first.
	Replicas []uint32
	// Leader is the node that leads now, 0 if none does. It is the last one to
	// be moved away without need.
	Leader uint32
	// Want is how many replicas there should be; 0: as many as there are.
	Want int
}

// Move says which nodes are to hold a partition from now on.
type Move struct {
	Topic     [16]byte
	Partition uint32
	Replicas  []uint32 // the preferred leader first
	Add, Drop []uint32 // what differs from before
}

// Plan returns the moves after which every partition has its wanted number of
// replicas (or all nodes), all on the given nodes; where there is no node to take the
// place of one that is gone, fewer. Everything else stays as it is. With balance,
// replicas also move so that partitions are spread over as many racks as can be, and from
// nodes above the bound, and to nodes far below the mean, until all loads are within it or
// nothing helps: about 1/N of the replicas when the Nth node joins.
// Load and Leaders of the nodes are not read but counted from the assignments.
// The result depends on nothing but the arguments, in whatever order they come.
func Plan(nodes []Node, assignments []Assignment, balance bool) []Move {
	p := newPlan(nodes, assignments)
	for i := range p.parts {
		p.evacuate(&p.parts[i])
		p.resize(&p.parts[i])
	}
	for i := 0; balance && i < len(p.parts); i++ {
		p.spreadRacks(&p.parts[i])
	}
	for again := balance; again; {
		again = false
		for i := range p.parts {
			again = p.relieve(&p.parts[i]) || again
		}
	}
	return p.moves()
}

type plan struct {
	*Placement
	parts []planned
}

// planned is a partition of a plan.
type planned struct {
	from   Assignment
	at     uint64 // place on the ring
	now    []int  // nodes by index; -1 for one that is not there any more
	wanted int
	leader int
}

// newPlan counts what the nodes hold. Partitions are handled in the order of their
// places on the ring, which has nothing to do with names and numbers.
func newPlan(nodes []Node, assignments []Assignment) *plan {
	bare := slices.Clone(nodes)
	for i := range bare {
		bare[i].Load, bare[i].Leaders = 0, 0
	}
	p := &plan{Placement: NewPlacement(bare), parts: make([]planned, len(assignments))}
	for i, a := range assignments {
		part := &p.parts[i]
		*part = planned{from: a, at: ringPlace(a.Topic, a.Partition), leader: p.index(a.Leader)}
		part.wanted = a.Want
		if part.wanted == 0 {
			part.wanted = len(a.Replicas)
		}
		part.wanted = min(part.wanted, len(p.nodes))
		p.replicas += part.wanted
		for _, id := range a.Replicas {
			i := p.index(id)
			if i >= 0 {
				p.nodes[i].Load++
			}
			part.now = append(part.now, i)
		}
	}
	slices.SortFunc(p.parts, func(a, b planned) int {
		return cmp.Or(cmp.Compare(a.at, b.at), slices.Compare(a.from.Topic[:], b.from.Topic[:]), cmp.Compare(a.from.Partition, b.from.Partition))
	})
	return p
}

func (p *plan) there(part *planned) []int {
	there := make([]int, 0, len(part.now)+1)
	for _, i := range part.now {
		if i >= 0 {
			there = append(there, i)
		}
	}
	return there
}

// evacuate replaces replicas whose node is gone.
func (p *plan) evacuate(part *planned) {
	for k, i := range part.now {
		if i >= 0 {
			continue
		}
		there := p.there(part)
		if len(there) >= part.wanted {
			break
		}
		to := p.pick(part.at, there)
		if to < 0 {
			break
		}
		part.now[k] = to
		p.nodes[to].Load++
	}
	part.now = p.there(part)
}

// resize adds or drops replicas until there are as many as wanted. It drops where
// most others share the rack, then where the load is highest, and the leader last.
func (p *plan) resize(part *planned) {
	for len(part.now) < part.wanted {
		i := p.pick(part.at, part.now)
		if i < 0 {
			break
		}
		p.nodes[i].Load++
		part.now = append(part.now, i)
	}
	for len(part.now) > part.wanted {
		p.countRacks(part.now)
		drop := -1
		for k, i := range part.now {
			if i == part.leader && len(part.now) > 1 {
				continue
			}
			if drop < 0 || p.crowded(i, part.now[drop]) >= 0 { // the later one of equals
				drop = k
			}
		}
		p.nodes[part.now[drop]].Load--
		part.now = slices.Delete(part.now, drop, drop+1)
	}
}

// crowded compares two nodes by how many replicas of the partition are in their
// rack, as countRacks left them, then by load.
func (p *plan) crowded(a, b int) int {
	return cmp.Or(cmp.Compare(p.inRack[p.rack[a]], p.inRack[p.rack[b]]), cmp.Compare(p.nodes[a].Load, p.nodes[b].Load))
}

// spreadRacks moves replicas out of racks that hold more of them than need be.
func (p *plan) spreadRacks(part *planned) {
	for range part.now {
		fewest := p.countRacks(part.now)
		if fewest == math.MaxInt {
			return // every node that takes something has a replica
		}
		from := -1
		for k, i := range part.now {
			if p.inRack[p.rack[i]] < 2 || p.inRack[p.rack[i]] <= fewest+1 {
				continue
			}
			if from < 0 || p.better(part, i, part.now[from]) {
				from = k
			}
		}
		if from < 0 {
			return
		}
		p.move(part, from, p.pick(part.at, part.now))
	}
}

// better says whether the replica on node a is rather moved than that on b.
func (p *plan) better(part *planned, a, b int) bool {
	if (a == part.leader) != (b == part.leader) {
		return b == part.leader
	}
	return p.crowded(a, b) > 0
}

// relieve moves one replica of the partition if that brings loads nearer to the
// mean, and from or to a node that is outside of the bounds. Every move makes the
// sum of the squared loads smaller, so planning ends.
func (p *plan) relieve(part *planned) bool {
	high, low := p.bound(), lower(p.replicas, len(p.nodes))
	p.countRacks(part.now)
	bestFrom, bestTo, gain := -1, -1, 1
	for k, from := range part.now {
		for to := range p.nodes {
			d := p.nodes[from].Load - p.nodes[to].Load
			switch {
			case slices.Contains(part.now, to), d < 2, p.nodes[to].Closed:
			case p.nodes[from].Load <= high && p.nodes[to].Load >= low:
			case p.rack[from] != p.rack[to] && p.inRack[p.rack[to]]+1 > p.inRack[p.rack[from]]:
				// The racks would be less even than they are.
			case d > gain, d == gain && part.now[bestFrom] == part.leader:
				bestFrom, bestTo, gain = k, to, d
			}
		}
	}
	if bestFrom < 0 {
		return false
	}
	p.move(part, bestFrom, bestTo)
	return true
}

func (p *plan) move(part *planned, k, to int) {
	p.nodes[part.now[k]].Load--
	p.nodes[to].Load++
	part.now[k] = to
}

func (p *plan) moves() (moves []Move) {
	for _, part := range p.parts {
		m := Move{Topic: part.from.Topic, Partition: part.from.Partition}
		for _, i := range part.now {
			m.Replicas = append(m.Replicas, p.nodes[i].ID)
		}
		m.Add = without(m.Replicas, part.from.Replicas)
		m.Drop = without(part.from.Replicas, m.Replicas)
		if len(m.Add)+len(m.Drop) > 0 {
			moves = append(moves, m)
		}
	}
	slices.SortFunc(moves, func(a, b Move) int {
		return cmp.Or(slices.Compare(a.Topic[:], b.Topic[:]), cmp.Compare(a.Partition, b.Partition))
	})
	return moves
}

func without(all, but []uint32) (left []uint32) {
	for _, id := range all {
		if !slices.Contains(but, id) {
			left = append(left, id)
		}
	}
	return left
}

// LeaderMove says which replica is to lead a partition.
type LeaderMove struct {
	Topic     [16]byte
	Partition uint32
	From, To  uint32
}

// LeaderBoundPercent is how far above or below the mean the number of partitions that a
// broker leads may be before leaders are moved.
const LeaderBoundPercent = 5

// BalanceLeaders returns the changes of leaders after which no node leads more
// than the bound above the mean or less than that below it, as far as the places of the replicas allow. Only
// the given nodes may lead; those led by others, or by none, are left alone.
func BalanceLeaders(nodes []Node, assignments []Assignment) []LeaderMove {
	p := newPlan(nodes, assignments)
	for _, part := range p.parts {
		if part.leader >= 0 {
			p.nodes[part.leader].Leaders++
			p.leaders++
		}
	}
	n := max(len(p.nodes), 1)
	high := max((p.leaders+n-1)/n, p.leaders*(100+LeaderBoundPercent)/(n*100))
	low := min(p.leaders/n, (p.leaders*(100-LeaderBoundPercent)+n*100-1)/(n*100))
	leaders := make([]int, len(p.parts))
	for i, part := range p.parts {
		leaders[i] = part.leader
	}
	for again := true; again; {
		again = false
		for k, part := range p.parts {
			from, to := leaders[k], -1
			if from < 0 {
				continue
			}
			for _, i := range part.now {
				if i >= 0 && (to < 0 || p.nodes[i].Leaders < p.nodes[to].Leaders) {
					to = i
				}
			}
			if to < 0 || p.nodes[from].Leaders-p.nodes[to].Leaders < 2 ||
				p.nodes[from].Leaders <= high && p.nodes[to].Leaders >= low {
				continue
			}
			p.nodes[from].Leaders--
			p.nodes[to].Leaders++
			leaders[k], again = to, true
		}
	}
	var moves []LeaderMove
	for k, part := range p.parts {
		if leaders[k] != part.leader {
			moves = append(moves, LeaderMove{part.from.Topic, part.from.Partition, p.nodes[part.leader].ID, p.nodes[leaders[k]].ID})
		}
	}
	slices.SortFunc(moves, func(a, b LeaderMove) int {
		return cmp.Or(slices.Compare(a.Topic[:], b.Topic[:]), cmp.Compare(a.Partition, b.Partition))
	})
	return moves
}
