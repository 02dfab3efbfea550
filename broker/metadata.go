package broker

import (
	"cmp"
	"slices"

	"github.com/sequitur-mq/sequitur/consensus"
	"github.com/sequitur-mq/sequitur/wire"
)

// Metadata, version 1: the brokers and, for the topics named or for all, their
// configuration and who leads their partitions. Unknown topics are answered one
// by one. All topics come ordered by name.

func (h *handler) metadata(r request) error {
	var req wire.MetadataRequest
	if err := r.decode(&req); err != nil {
		return err
	}
	found, err := h.findTopics(req.Topics)
	if err != nil {
		r.fail(err)
		return nil
	}
	resp := wire.MetadataResponse{
		Brokers:    []wire.BrokerMetadata{{ID: h.node, Addr: h.advertise}},
		Controller: h.node,
		Topics:     make([]wire.TopicMetadata, len(found)),
	}
	if h.clustered != nil {
		resp.Brokers, resp.Controller = h.clustered.brokers()
	}
	for i, f := range found {
		resp.Topics[i] = f.metadata()
	}
	r.answer(&resp)
	return nil
}

// A foundTopic is a topic that was asked for; topic is nil if it is not there.
type foundTopic struct {
	name  string
	topic *consensus.Topic
}

// findTopics looks up the topics named, or all of them by name. The error says
// that the answer would be too long.
func (h *handler) findTopics(names []string) (found []foundTopic, err error) {
	if err := checkNames(names); err != nil {
		return nil, err
	}
	h.meta.View(func(m *consensus.Machine) {
		for _, name := range names {
			t, _ := m.Topic(name)
			found = append(found, foundTopic{name, t})
		}
		if len(names) > 0 {
			return
		}
		for t := range m.Topics() {
			found = append(found, foundTopic{t.Name, t})
		}
	})
	if len(names) == 0 {
		slices.SortFunc(found, func(a, b foundTopic) int { return cmp.Compare(a.name, b.name) })
	}
	return found, h.checkAnswer(found)
}

// checkAnswer bounds the answer about topics before it is built.
func (h *handler) checkAnswer(found []foundTopic) error {
	size := int64(0)
	for _, f := range found {
		size += int64(len(f.name)) + topicBytes
		if f.topic != nil {
			size += int64(len(f.topic.Partitions)) * partitionBytes
			for _, s := range f.topic.Config.Splits {
				size += int64(len(s)) + 2
			}
		}
	}
	if limit := int64(wire.DefaultMaxFrameBytes); size > limit {
		return tooLong(size, limit)
	}
	return nil
}

// What a topic and a partition take at most in an answer, names, split points
// and holes aside.
const (
	topicBytes     = 128
	partitionBytes = 13 + 29
)

func (f *foundTopic) metadata() wire.TopicMetadata {
	if f.topic == nil {
		return wire.TopicMetadata{Code: wire.CodeUnknownTopic, Name: f.name}
	}
	t := f.topic
	m := wire.TopicMetadata{
		Name: t.Name, UUID: t.ID, Config: t.Config, Internal: wire.InternalTopic(t.Name),
		Partitions: make([]wire.PartitionMetadata, len(t.Partitions)),
	}
	for i := range t.Partitions {
		p := &t.Partitions[i]
		m.Partitions[i] = wire.PartitionMetadata{Leader: p.Leader.Node, Epoch: p.Epoch, Replicas: p.Nodes()}
	}
	return m
}
