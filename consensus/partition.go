package consensus

import (
	"slices"

	"github.com/sequitur-mq/sequitur/replication"
)

// Partition says who holds a partition and who leads it.
type Partition struct {
	// Leader was elected in Epoch; zero while nobody was.
	Leader replication.Member
	// Epoch grows with every election, 0 before the first. Nothing is decided by an
	// older one any more.
	Epoch uint32
	// Set is the replicas. Its version grows with every change, and every change
	// begins an epoch.
	Set replication.ReplicaSet
}

// Nodes returns the node ids of the members, then of those that are joining and of
// the learners, each once.
func (p *Partition) Nodes() []uint32 {
	nodes := make([]uint32, 0, len(p.Set.Members))
	for _, set := range [][]replication.Member{p.Set.Members, p.Set.Joining, p.Set.Learners} {
		for _, m := range set {
			if !slices.Contains(nodes, m.Node) {
				nodes = append(nodes, m.Node)
			}
		}
	}
	return nodes
}

const (
	minMember    = 4 + 4
	minPartition = 4 + 4 + 4 + 1
)

func appendMember(dst []byte, m replication.Member) []byte {
	dst = le.AppendUint32(dst, m.Node)
	return le.AppendUint32(dst, m.Disk)
}

func (d *decoder) member() replication.Member {
	return replication.Member{Node: d.u32(), Disk: d.u32()}
}

func appendMembers(dst []byte, members []replication.Member) []byte {
	dst = appendCount(dst, len(members))
	for _, m := range members {
		dst = appendMember(dst, m)
	}
	return dst
}

func (d *decoder) members() (members []replication.Member) {
	if n := d.count(minMember); n > 0 {
		members = make([]replication.Member, n)
	}
	for i := range members {
		members[i] = d.member()
	}
	return members
}

func appendSet(dst []byte, s *replication.ReplicaSet) []byte {
	dst = le.AppendUint32(dst, s.Version)
	dst = appendMembers(dst, s.Members)
	dst = appendMembers(dst, s.Joining)
	return appendMembers(dst, s.Learners)
}

func (d *decoder) set() replication.ReplicaSet {
	return replication.ReplicaSet{Version: d.u32(), Members: d.members(), Joining: d.members(), Learners: d.members()}
}

func (p *Partition) appendTo(dst []byte) []byte {
	dst = appendMember(dst, p.Leader)
	dst = le.AppendUint32(dst, p.Epoch)
	return appendSet(dst, &p.Set)
}

func (d *decoder) partition() Partition {
	if d.version < 2 {
		return d.partitionBefore2()
	}
	return Partition{Leader: d.member(), Epoch: d.u32(), Set: d.set()}
}

// partitionBefore2 reads what version 1 wrote, in which there was one broker with one
// disk. The first disk that registers gets number 1.
func (d *decoder) partitionBefore2() Partition {
	p := Partition{Leader: replication.Member{Node: d.u32(), Disk: 1}, Epoch: d.u32()}
	p.Set.Version = d.u32()
	if n := d.count(4); n > 0 {
		p.Set.Members = make([]replication.Member, n)
	}
	for i := range p.Set.Members {
		p.Set.Members[i] = replication.Member{Node: d.u32(), Disk: 1}
	}
	return p
}

// share lets p use the slices of another partition where they are equal: most
// partitions of a topic have the same replicas.
func (p *Partition) share(other *Partition) {
	for _, s := range [...]struct{ own, other *[]replication.Member }{
		{&p.Set.Members, &other.Set.Members}, {&p.Set.Joining, &other.Set.Joining}, {&p.Set.Learners, &other.Set.Learners},
	} {
		if len(*s.own) > 0 && slices.Equal(*s.own, *s.other) {
			*s.own = *s.other
		}
	}
}
