package consensus

import (
	"maps"
	"slices"

	"github.com/sequitur-mq/sequitur/wire"
)

// diff lists the changes that lead from one state to another, as the commands between
// them would have, but for what was undone meanwhile.
func diff(from, to *Machine) (changes []Change) {
	for _, t := range sortedTopics(from.topics) {
		if _, there := to.byID[t.ID]; !there {
			changes = append(changes, Change{Kind: TopicDeleted, Topic: t})
		}
	}
	for _, t := range sortedTopics(to.topics) {
		changes = append(changes, diffTopic(from.byID[t.ID], t)...)
	}
	var brokers []uint32
	for node, b := range to.brokers {
		if old, there := from.brokers[node]; !there || old != b {
			brokers = append(brokers, node)
		}
	}
	for node := range from.brokers {
		if _, there := to.brokers[node]; !there {
			brokers = append(brokers, node)
		}
	}
	if len(brokers) > 0 {
		slices.Sort(brokers)
		changes = append(changes, Change{Kind: BrokersChanged, Brokers: brokers})
	}
	for _, name := range slices.Sorted(maps.Keys(to.named)) {
		if p := to.named[name]; p != from.named[name] {
			changes = append(changes, Change{Kind: ProducerRaised, Producer: p})
		}
	}
	return changes
}

func diffTopic(from, to *Topic) (changes []Change) {
	if from == nil {
		return []Change{{Kind: TopicCreated, Topic: to}}
	}
	if from.Version != to.Version {
		changes = append(changes, Change{Kind: TopicAltered, Topic: to})
	}
	var partitions []uint32
	for i := range to.Partitions {
		if i >= len(from.Partitions) || !equalPartitions(&from.Partitions[i], &to.Partitions[i]) {
			partitions = append(partitions, uint32(i))
		}
	}
	if len(partitions) > 0 {
		changes = append(changes, Change{Kind: PartitionsChanged, Topic: to, Partitions: partitions})
	}
	return changes
}

func equalPartitions(a, b *Partition) bool {
	return a.Leader == b.Leader && a.Epoch == b.Epoch && a.Set.Version == b.Set.Version &&
		slices.Equal(a.Set.Members, b.Set.Members) && slices.Equal(a.Set.Joining, b.Set.Joining) && slices.Equal(a.Set.Learners, b.Set.Learners)
}

// notLeader is what a command gets that reached a broker which does not lead Raft.
var notLeader = wire.Errorf(wire.CodeNotLeader, "this broker does not lead the cluster metadata; ask the one that does")
