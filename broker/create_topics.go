package broker

import (
	"crypto/rand"
	"sync"

	"github.com/sequitur-mq/sequitur/consensus"
	"github.com/sequitur-mq/sequitur/consensus/controller"
	"github.com/sequitur-mq/sequitur/replication"
	"github.com/sequitur-mq/sequitur/wire"
)

// CreateTopics, version 1: creates each topic on its own; the answer has one result
// per topic. All of them share a metadata entry and a commit of the log, so ten
// thousand topics cost little more than one. Zero fields of a configuration
// take their defaults where zero means nothing. With validate-only nothing is
// changed.

// maxCommandBytes bounds one metadata command; a request with more becomes
// several, which share a group commit.
const maxCommandBytes = 1 << 20

func (h *handler) createTopics(r request) error {
	var req wire.CreateTopicsRequest
	if err := r.decode(&req); err != nil {
		return err
	}
	if len(req.Topics) > maxNames {
		r.fail(wire.Errorf(wire.CodeInvalidRequest, "%d topics in one request, at most %d may be: create in parts", len(req.Topics), maxNames))
		return nil
	}
	cr := &creation{h: h, r: r, left: 1}
	cr.resp.Topics = make([]wire.TopicResult, len(req.Topics))
	var command consensus.CreateTopics
	var items []int // of the request, in the order of the command
	bytes := 0
	budget := h.partitionsLeft()
	for i := range req.Topics {
		t, err := h.newTopic(&req.Topics[i], &budget)
		cr.resp.Topics[i].Name = req.Topics[i].Name
		if err != nil {
			cr.result(i, wire.UUID{}, err)
			continue
		}
		if req.ValidateOnly {
			continue
		}
		command.Topics, items = append(command.Topics, t), append(items, i)
		if bytes += topicCost(t); bytes > maxCommandBytes {
			cr.propose(command, items)
			command, items, bytes = consensus.CreateTopics{}, nil, 0
		}
	}
	if len(items) > 0 {
		cr.propose(command, items)
	}
	cr.done()
	return nil
}

// topicCost is about what a topic takes in a metadata command.
func topicCost(t *consensus.Topic) int {
	n := 150 + len(t.Name) + 20*len(t.Partitions)
	for _, s := range t.Config.Splits {
		n += len(s) + 2
	}
	return n
}

// partitionsLeft is how many partitions may still be created.
func (h *handler) partitionsLeft() (left int) {
	h.meta.View(func(m *consensus.Machine) {
		_, partitions := m.Counts()
		left = h.cfg.MaxPartitions - partitions
	})
	return left
}

// newTopic checks a topic that is to be created and places its partitions.
func (h *handler) newTopic(n *wire.NewTopic, left *int) (*consensus.Topic, error) {
	if err := wire.ValidateTopicName(n.Name); err != nil {
		return nil, err
	}
	if wire.InternalTopic(n.Name) {
		return nil, wire.Errorf(wire.CodeInvalidTopicName, "topic names that begin with __ are the broker's own: choose another than %q", n.Name)
	}
	config := n.Config.WithDefaults()
	if err := h.checkConfig(&config); err != nil {
		return nil, err
	}
	var exists bool
	h.meta.View(func(m *consensus.Machine) { _, exists = m.Topic(n.Name) })
	if exists {
		return nil, wire.Errorf(wire.CodeTopicExists, "topic %q exists already: choose another name, or alter or delete it", n.Name)
	}
	if *left -= int(config.Partitions); *left < 0 {
		return nil, wire.Errorf(wire.CodeInvalidConfig, "partitions: no room for %d more, the broker holds at most %d (max-partitions)", config.Partitions, h.cfg.MaxPartitions)
	}
	t := &consensus.Topic{Name: n.Name, Config: config, Partitions: make([]consensus.Partition, config.Partitions)}
	if _, err := rand.Read(t.ID[:]); err != nil {
		return nil, err
	}
	return t, h.place(t)
}

// place says which brokers hold the partitions of a new topic.
func (h *handler) place(t *consensus.Topic) (err error) {
	if h.clustered != nil {
		h.meta.View(func(m *consensus.Machine) {
			t.Partitions, err = controller.PlaceTopic(m, t.ID, t.Config.Partitions, int(t.Config.ReplicationFactor))
		})
		return err
	}
	self := replication.Member{Node: h.node, Disk: 1}
	set := replication.ReplicaSet{Members: []replication.Member{self}}
	for i := range t.Partitions {
		t.Partitions[i] = consensus.Partition{Leader: self, Epoch: 1, Set: set}
	}
	return nil
}

// checkConfig checks a topic's configuration, also for what this cluster can
// give.
func (h *handler) checkConfig(c *wire.TopicConfig) error {
	if err := c.Validate(); err != nil {
		return err
	}
	brokers := 1
	if h.clustered != nil {
		h.meta.View(func(m *consensus.Machine) { brokers = len(m.Brokers()) })
	}
	if int(c.ReplicationFactor) > brokers {
		return wire.Errorf(wire.CodeInvalidConfig, "replication-factor %d needs as many brokers, this cluster has %d", c.ReplicationFactor, brokers)
	}
	return nil
}

// A creation is a request whose topics are being created. Its commands complete
// on the metadata driver's goroutine; the last one answers.
type creation struct {
	h    *handler
	r    request
	mu   sync.Mutex
	left int
	resp wire.CreateTopicsResponse
}

func (cr *creation) propose(command consensus.CreateTopics, items []int) {
	cr.mu.Lock()
	cr.left++
	cr.mu.Unlock()
	cr.h.meta.Propose(command, func(result consensus.Result, err error) {
		for i, item := range items {
			itemErr := err
			if err == nil {
				itemErr = result.Errors[i]
			}
			cr.result(item, command.Topics[i].ID, itemErr)
		}
		if err == nil && cr.h.clustered != nil {
			go func() { // not to hold up the metadata
				cr.h.clustered.awaitLeaders(command.Topics)
				cr.done()
			}()
			return
		}
		cr.done()
	})
}

func (cr *creation) result(item int, id wire.UUID, err error) {
	t := &cr.resp.Topics[item]
	if err != nil {
		t.Code, t.Message = cr.h.partError(err)
		return
	}
	t.UUID = id
}

func (cr *creation) done() {
	cr.mu.Lock()
	cr.left--
	last := cr.left == 0
	cr.mu.Unlock()
	if last {
		cr.r.answer(&cr.resp)
	}
}
