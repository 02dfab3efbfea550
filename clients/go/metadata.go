package sequitur

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"

	"github.com/sequitur-mq/sequitur/partitions"
	"github.com/sequitur-mq/sequitur/wire"
)

// topicInfo is what is known of a topic. It is immutable; a refresh replaces it.
type topicInfo struct {
	name        string
	uuid        wire.UUID
	config      TopicConfig
	partitioner partitions.Partitioner
	parts       []wire.PartitionMetadata
}

// metadata caches who is who and who leads what.
type metadata struct {
	refreshing chan struct{} // holds one token while somebody asks for a topic
	// trustOldEpochs breaks a rule, in tests: an answer that knows an older epoch of a
	// partition replaces a newer one.
	trustOldEpochs bool

	mu         sync.Mutex
	brokers    map[uint32]wire.BrokerMetadata // former ones too
	current    []uint32                       // brokers of the last answer
	controller uint32
	topics     map[string]*topicInfo
}

func newMetadata() metadata {
	return metadata{
		refreshing: make(chan struct{}, 1),
		brokers:    map[uint32]wire.BrokerMetadata{},
		topics:     map[string]*topicInfo{},
	}
}

func (m *metadata) topic(name string) *topicInfo {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.topics[name]
}

func (m *metadata) forget(name string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.topics, name)
}

// addresses lists the brokers of the last answer, the controller first, and those known
// from earlier answers.
func (m *metadata) addresses() (current, former []string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, id := range m.current {
		current = append(current, m.brokers[id].Addr)
		if id == m.controller {
			last := len(current) - 1
			current[0], current[last] = current[last], current[0]
		}
	}
	for id, b := range m.brokers {
		if !slices.Contains(m.current, id) {
			former = append(former, b.Addr)
		}
	}
	return current, former
}

// learn takes over the brokers of a metadata answer. Brokers which it lacks stay known
// as a last resort: the answer may come from one that is cut off.
func (m *metadata) learn(resp *wire.MetadataResponse) {
	if len(resp.Brokers) == 0 {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.brokers) > 4*len(resp.Brokers)+64 {
		clear(m.brokers)
	}
	m.current, m.controller = m.current[:0], resp.Controller
	for _, b := range resp.Brokers {
		m.brokers[b.ID] = b
		m.current = append(m.current, b.ID)
	}
}

// install takes over an answer about a topic and returns what is known now. Invariant:
// the epoch known of a partition never falls, and at most one leader is known per epoch.
func (m *metadata) install(fresh *topicInfo) *topicInfo {
	m.mu.Lock()
	defer m.mu.Unlock()
	old := m.topics[fresh.name]
	if old != nil && old.uuid == fresh.uuid && !m.trustOldEpochs {
		for i := range min(len(old.parts), len(fresh.parts)) {
			was, is := &old.parts[i], &fresh.parts[i]
			if is.Epoch < was.Epoch || is.Epoch == was.Epoch && is.Leader == 0 {
				*is = *was
			}
		}
	}
	m.topics[fresh.name] = fresh
	return fresh
}

// leader returns the node that leads a partition, or nil while there is none.
func (c *Client) leader(t *topicInfo, partition int32) *node {
	return c.broker(t.parts[partition].Leader)
}

func (c *Client) broker(id uint32) *node {
	c.meta.mu.Lock()
	addr := c.meta.brokers[id].Addr
	c.meta.mu.Unlock()
	if addr == "" || id == 0 {
		return nil
	}
	return c.node(addr)
}

// nearest returns a replica in the client's rack, the leader if it is one of them or if
// there is none.
func (c *Client) nearest(t *topicInfo, partition int32) *node {
	part := &t.parts[partition]
	var near []uint32
	c.meta.mu.Lock()
	for _, id := range part.Replicas {
		if rack := c.meta.brokers[id].Rack; rack != "" && rack == c.opts.rack {
			near = append(near, id)
		}
	}
	c.meta.mu.Unlock()
	if len(near) == 0 || slices.Contains(near, part.Leader) {
		return c.leader(t, partition)
	}
	return c.broker(near[int(partition)%len(near)])
}

// topic returns what is known of a topic, asking a broker if it is not cached.
func (c *Client) topic(ctx context.Context, op, name string) (*topicInfo, error) {
	if t := c.meta.topic(name); t != nil {
		return t, nil
	}
	return c.refreshTopic(ctx, op, name, nil, nil)
}

// refreshTopic asks for a topic anew unless somebody has replaced stale meanwhile. The
// broker to avoid is asked last. The error is an *Error.
func (c *Client) refreshTopic(ctx context.Context, op, name string, stale *topicInfo, avoid *node) (*topicInfo, error) {
	if err := wire.ValidateTopicName(name); err != nil {
		return nil, wireError(op, name, -1, err)
	}
	select {
	case c.meta.refreshing <- struct{}{}:
		defer func() { <-c.meta.refreshing }()
	case <-ctx.Done():
		return nil, canceled(ctx, op, name)
	}
	if t := c.meta.topic(name); t != nil && t != stale {
		return t, nil
	}
	found, err := c.askTopics(ctx, question{op: op, avoid: avoid, limit: c.opts.requestTimeout}, []string{name})
	if err != nil {
		return nil, err
	}
	if err := found[name].err; err != nil {
		return nil, err
	}
	return found[name].info, nil
}

// topicAnswer is what a broker says of a topic.
type topicAnswer struct {
	info *topicInfo
	err  *Error
}

// askTopics asks for topics and caches what it learns. Every name has its answer.
func (c *Client) askTopics(ctx context.Context, q question, names []string) (map[string]topicAnswer, *Error) {
	q.kind, q.patience = wire.KindMetadata, metadataPatience
	req, resp := wire.MetadataRequest{Topics: names}, wire.MetadataResponse{}
	from, _, err := c.ask(ctx, q, &req, &resp)
	if err != nil {
		return nil, err
	}
	c.meta.learn(&resp)
	found := map[string]topicAnswer{}
	doubtful := c.readTopics(q.op, &resp, found)
	for _, name := range names {
		if _, ok := found[name]; !ok {
			found[name] = topicAnswer{err: wireError(q.op, name, -1, wire.ErrUnknownTopic)}
			doubtful = append(doubtful, name)
		}
	}
	if len(doubtful) > 0 && c.mayAskOthers(from) {
		c.secondOpinion(ctx, q, from, doubtful, found)
	}
	for name, a := range found {
		switch {
		case a.err != nil && !a.err.Retriable:
			c.meta.forget(name)
		case a.err == nil:
			a.info = c.meta.install(a.info)
			found[name] = a
		}
	}
	return found, nil
}

// readTopics reads an answer. It returns the names of topics which it says to be gone,
// or to be others than they were: the broker may be behind.
func (c *Client) readTopics(op string, resp *wire.MetadataResponse, found map[string]topicAnswer) (doubtful []string) {
	for i := range resp.Topics {
		t := &resp.Topics[i]
		if err := t.Err(); err != nil {
			found[t.Name] = topicAnswer{err: unknownTopic(wireError(op, t.Name, -1, err))}
			doubtful = append(doubtful, t.Name)
			continue
		}
		info, err := newTopicInfo(t)
		if err != nil {
			found[t.Name] = topicAnswer{err: wireError(op, t.Name, -1, err)}
			continue
		}
		found[t.Name] = topicAnswer{info: info}
		if known := c.meta.topic(t.Name); known != nil && known.uuid != info.uuid {
			doubtful = append(doubtful, t.Name)
		}
	}
	return doubtful
}

// secondOpinion asks another broker about what one broker says to be gone or replaced.
// Without one, topics known so far are held for existing.
func (c *Client) secondOpinion(ctx context.Context, q question, from *node, names []string, found map[string]topicAnswer) {
	req, resp := wire.MetadataRequest{Topics: names}, wire.MetadataResponse{}
	second := map[string]topicAnswer{}
	q.limit, q.avoid, q.without = 0, nil, from
	_, _, err := c.ask(ctx, q, &req, &resp)
	var still []string
	if err == nil {
		still = c.readTopics(q.op, &resp, second)
	}
	for _, name := range names {
		known := c.meta.topic(name)
		switch a, ok := second[name]; {
		case err != nil && known != nil:
			found[name] = topicAnswer{err: wireError(q.op, name, -1, err)}
		case ok && known != nil && !slices.Contains(still, name), ok && known == nil && a.info != nil:
			found[name] = a
		}
	}
}

// unknownTopic adds what to do to an error that names the topic anyway.
func unknownTopic(e *Error) *Error {
	if e.Code == Code(wire.CodeUnknownTopic.String()) {
		e.Message = wire.CodeUnknownTopic.Message()
	}
	return e
}

func newTopicInfo(t *wire.TopicMetadata) (*topicInfo, error) {
	info := &topicInfo{name: t.Name, uuid: t.UUID, config: t.Config, parts: t.Partitions}
	n := uint32(len(t.Partitions))
	if n == 0 || n != t.Config.Partitions {
		return nil, wire.Errorf(wire.CodeUnknown, "the metadata list %d partitions, the configuration says %d", n, t.Config.Partitions)
	}
	var err error
	switch t.Config.Partitioner {
	case wire.PartitionerRange:
		info.partitioner, err = partitions.NewRange(t.Config.Splits)
	case wire.PartitionerRing:
		info.partitioner, err = partitions.NewRing(n, t.Config.VirtualNodes)
	case wire.PartitionerHash:
		info.partitioner, err = partitions.NewHash(n)
	default:
		err = fmt.Errorf("partitioner %s is not known to this client: upgrade it", t.Config.Partitioner)
	}
	if err != nil {
		return nil, wire.Errorf(wire.CodeUnsupported, "topic %q: %v", t.Name, err)
	}
	return info, nil
}

// replicated reports whether a partition has replicas besides its leader.
func (t *topicInfo) replicated(partition int32) bool { return len(t.parts[partition].Replicas) > 1 }

// validServers splits and checks a list of "host:port".
func validServers(list []string) error {
	for _, s := range list {
		if _, port, err := net.SplitHostPort(s); err != nil || port == "" {
			return misuse("connect", fmt.Sprintf("server %q is not host:port, for example 127.0.0.1:7650", s))
		}
	}
	if len(list) == 0 {
		return misuse("connect", "no server given; give host:port, for example 127.0.0.1:7650")
	}
	return nil
}

var errNoServers = errors.New("no broker is known")
