package broker

import (
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/sequitur-mq/sequitur/broker/dedup"
	"github.com/sequitur-mq/sequitur/consensus"
	"github.com/sequitur-mq/sequitur/log"
	"github.com/sequitur-mq/sequitur/replication/replica"
	"github.com/sequitur-mq/sequitur/wire"
)

// topics are the topics that this broker holds partitions of, found without a
// lock by the requests. They follow the metadata: changed is called with what
// the metadata machine did, in order.
type topics struct {
	store *log.Store
	log   *slog.Logger
	node  uint32
	ids   *dedup.Index
	open  func(*log.Partition) (*replica.Replica, error)
	byID  *cowMap[wire.UUID, *topic]

	// cluster says what of a topic belongs on this broker; nil: everything does.
	cluster *following
}

// A topic is what requests need of one. Invariant: id and the number of
// partitions never change.
type topic struct {
	topics     *topics
	id         wire.UUID
	name       string
	meta       atomic.Pointer[consensus.Topic] // replaced when the topic is altered
	deleted    atomic.Bool
	partitions []partition
	counters   topicCounters
}

// A partition is opened at its first use, so that thousands of idle ones cost
// little memory and no time at start.
type partition struct {
	topic   *topic
	number  uint32
	mu      sync.Mutex // held while opening and closing
	replica atomic.Pointer[replica.Replica]
	view    atomic.Pointer[dedup.Partition] // nil until a message id is to be looked up
	suspect atomic.Bool                     // a read failed half way: verify before the next answer
	held    atomic.Bool                     // in a cluster: a replica belongs on this broker
}

func newTopics(store *log.Store, ids *dedup.Index, logger *slog.Logger, open func(*log.Partition) (*replica.Replica, error)) *topics {
	return &topics{
		store: store, ids: ids, log: logger, node: store.Identity().Node, open: open,
		byID: newCowMap[wire.UUID, *topic](func(id wire.UUID) uint8 { return id[0] }),
	}
}

// load takes over the metadata at start: partitions that a crash kept from being
// made are made, all in one step, and those of deleted topics go. It returns the
// deleted topics, none of which is on disk any more.
func (t *topics) load(m *consensus.Machine) ([]wire.UUID, error) {
	var specs []log.Spec
	known := map[wire.UUID]bool{}
	for meta := range m.Topics() {
		known[meta.ID] = true
		specs = append(specs, t.missing(meta, allPartitions(meta))...)
		t.byID.store(meta.ID, t.newTopic(meta))
	}
	if err := t.store.Create(specs...); err != nil {
		return nil, fmt.Errorf("make the partitions that metadata has and the log has not: %w", err)
	}
	if len(specs) > 0 {
		t.log.Info("partitions made that were left over when the broker stopped", "partitions", len(specs))
	}
	var deleted []wire.UUID
	gone := map[wire.UUID]bool{}
	for id := range m.Deleted() {
		deleted, gone[id] = append(deleted, id), true
	}
	var remove []log.ID
	for _, id := range t.store.IDs() {
		switch {
		case gone[id.Topic]:
			remove = append(remove, id)
		case !known[id.Topic] && !consensus.Internal(id.Topic) && t.cluster == nil:
			// Never removed on the ground that nobody knows it. In a cluster the
			// metadata that know it may be yet to come.
			t.log.Warn("partition on disk that no topic has; it is left alone", "partition", id.String())
		}
	}
	if err := t.store.Delete(remove...); err != nil {
		return nil, fmt.Errorf("remove partitions of deleted topics: %w", err)
	}
	t.followAll()
	return deleted, nil
}

// followAll brings every partition to what the cluster's metadata says.
func (t *topics) followAll() {
	if t.cluster == nil {
		return
	}
	t.byID.each(func(_ wire.UUID, topic *topic) {
		for i := range topic.partitions {
			t.cluster.followOne(&topic.partitions[i])
		}
	})
}

// changed follows changes of the metadata. What fails here is mended later: a
// partition is made at its first use, or at the next start, and removed at the
// next start. It returns the topics that are gone from disk.
func (t *topics) changed(changes []consensus.Change) (gone []wire.UUID) {
	var specs []log.Spec
	var remove []log.ID
	for _, c := range changes {
		switch c.Kind {
		case consensus.TopicCreated:
			specs = append(specs, t.missing(c.Topic, allPartitions(c.Topic))...)
			t.byID.store(c.Topic.ID, t.newTopic(c.Topic))
		case consensus.TopicAltered:
			t.alter(c.Topic)
		case consensus.PartitionsChanged:
			if topic, ok := t.byID.load(c.Topic.ID); ok {
				topic.meta.Store(c.Topic)
			}
			specs = append(specs, t.missing(c.Topic, c.Partitions)...)
		case consensus.TopicDeleted:
			remove = append(remove, t.remove(c.Topic)...)
			gone = append(gone, c.Topic.ID)
		}
	}
	if err := t.store.Create(once(specs)...); err != nil {
		t.log.Error("partitions of new topics were not made; they are made at their first use", "error", err)
	}
	t.followChanged(changes)
	if err := t.store.Delete(remove...); err != nil {
		t.log.Error("partitions of deleted topics were not removed; the next start does it", "error", err)
		return nil
	}
	return gone
}

// followChanged brings the partitions that changed to what the cluster's metadata
// says.
func (t *topics) followChanged(changes []consensus.Change) {
	if t.cluster == nil {
		return
	}
	for _, c := range changes {
		if c.Kind != consensus.TopicCreated && c.Kind != consensus.PartitionsChanged {
			continue
		}
		topic, ok := t.byID.load(c.Topic.ID)
		if !ok {
			continue
		}
		if c.Kind == consensus.TopicCreated {
			c.Partitions = allPartitions(c.Topic)
		}
		t.cluster.follow(topic, c.Partitions)
	}
	t.cluster.announce()
}

// once drops all but the first spec of a partition: it may be named by several
// changes at a time.
func once(specs []log.Spec) []log.Spec {
	seen := make(map[log.ID]struct{}, len(specs))
	return slices.DeleteFunc(specs, func(s log.Spec) bool {
		_, twice := seen[s.ID]
		seen[s.ID] = struct{}{}
		return twice
	})
}

func allPartitions(meta *consensus.Topic) []uint32 {
	all := make([]uint32, len(meta.Partitions))
	for i := range all {
		all[i] = uint32(i)
	}
	return all
}

func (t *topics) newTopic(meta *consensus.Topic) *topic {
	n := &topic{topics: t, id: meta.ID, name: meta.Name, partitions: make([]partition, len(meta.Partitions))}
	n.meta.Store(meta)
	for i := range n.partitions {
		n.partitions[i].topic, n.partitions[i].number = n, uint32(i)
	}
	return n
}

// missing lists what has to be made in the log of the given partitions.
func (t *topics) missing(meta *consensus.Topic, numbers []uint32) (specs []log.Spec) {
	config := partitionConfig(&meta.Config)
	for _, i := range numbers {
		if t.cluster != nil && !t.cluster.holds(&meta.Partitions[i]) {
			continue
		}
		id := log.ID{Topic: meta.ID, Partition: i}
		if _, there := t.store.Partition(id); !there {
			specs = append(specs, log.Spec{ID: id, Config: config})
		}
	}
	return specs
}

func (t *topics) alter(meta *consensus.Topic) {
	topic, ok := t.byID.load(meta.ID)
	if !ok {
		return
	}
	topic.meta.Store(meta)
	topic.alterDedup(&meta.Config)
	config := partitionConfig(&meta.Config)
	for i := range topic.partitions {
		if p, ok := t.store.Partition(topic.partitions[i].logID()); ok {
			p.SetConfig(config)
		}
	}
}

// remove takes a topic out of service: requests do not find it any more, and
// those that found it before fail.
func (t *topics) remove(meta *consensus.Topic) (ids []log.ID) {
	topic, ok := t.byID.load(meta.ID)
	if !ok {
		return nil
	}
	t.byID.remove(meta.ID)
	topic.deleted.Store(true)
	topic.dropDedup()
	for i := range topic.partitions {
		p := &topic.partitions[i]
		if t.cluster != nil {
			t.cluster.forget(p)
		}
		p.close()
		if _, there := t.store.Partition(p.logID()); there {
			ids = append(ids, p.logID())
		}
	}
	return ids
}

// close closes every replica, before the store is closed.
func (t *topics) close() {
	t.byID.each(func(_ wire.UUID, topic *topic) {
		for i := range topic.partitions {
			topic.partitions[i].close()
		}
	})
}

// find returns a partition. Its errors are *wire.Error.
func (t *topics) find(id wire.UUID, number uint32) (*partition, error) {
	topic, ok := t.byID.load(id)
	if !ok {
		return nil, unknownTopicID(id)
	}
	if int64(number) >= int64(len(topic.partitions)) {
		return nil, unknownPartition(topic.name, number, len(topic.partitions))
	}
	return &topic.partitions[number], nil
}

func (p *partition) logID() log.ID { return log.ID{Topic: p.topic.id, Partition: p.number} }

func (p *partition) config() *wire.TopicConfig { return &p.topic.meta.Load().Config }

// use returns the replica, opening it if nobody did yet.
func (p *partition) use() (*replica.Replica, error) {
	if r := p.replica.Load(); r != nil {
		return r, nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if r := p.replica.Load(); r != nil {
		return r, nil
	}
	if p.topic.deleted.Load() {
		return nil, unknownTopic(p.topic.name)
	}
	if p.topic.topics.cluster != nil && !p.held.Load() {
		return nil, wire.Errorf(wire.CodeNotLeader, "topic %s, partition %d: this broker has no replica of it", p.topic.name, p.number)
	}
	lp, err := p.logPartition()
	if err != nil {
		return nil, wrapTopic(p.topic.name, p.number, err)
	}
	r, err := p.topic.topics.open(lp)
	if err != nil {
		return nil, wrapTopic(p.topic.name, p.number, err)
	}
	p.replica.Store(r)
	return r, nil
}

// logPartition returns the partition's log, and makes it where that failed when
// the topic was created.
func (p *partition) logPartition() (*log.Partition, error) {
	store := p.topic.topics.store
	if lp, ok := store.Partition(p.logID()); ok {
		return lp, nil
	}
	err := store.Create(log.Spec{ID: p.logID(), Config: partitionConfig(p.config())})
	if err != nil && !errors.Is(err, log.ErrExists) {
		return nil, err
	}
	if lp, ok := store.Partition(p.logID()); ok {
		return lp, nil
	}
	return nil, log.ErrUnknownPartition
}

// serves reports whether readers are served from a replica here.
func (p *partition) serves(r *replica.Replica, fromFollower bool) bool {
	if p.topic.topics.cluster == nil {
		return true
	}
	return p.held.Load() && (fromFollower || r.Leads())
}

func (p *partition) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if r := p.replica.Swap(nil); r != nil {
		r.Close()
	}
}

// partitionConfig is what the log has to know of a topic's configuration.
func partitionConfig(c *wire.TopicConfig) log.Config {
	return log.Config{
		Fsync:              log.FsyncMode(c.Fsync),
		FsyncInterval:      c.FsyncInterval,
		RetentionTime:      c.RetentionTime,
		RetentionBytes:     int64(c.RetentionBytes),
		Compact:            c.Cleanup == wire.CleanupCompact,
		TombstoneRetention: c.TombstoneRetention,
		SegmentBytes:       int64(c.SegmentBytes),
	}
}
