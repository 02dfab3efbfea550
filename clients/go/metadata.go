package sequitur

import (
	"context"
	"errors"
	"fmt"
	"net"
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
	leaders     []uint32 // broker id by partition
}

// metadata caches who is who and who leads what.
type metadata struct {
	refreshing chan struct{} // holds one token while somebody asks

	mu         sync.Mutex
	addrs      map[uint32]string // of brokers, by id
	controller uint32
	topics     map[string]*topicInfo
}

func newMetadata() metadata {
	return metadata{
		refreshing: make(chan struct{}, 1),
		addrs:      map[uint32]string{},
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

// brokers lists the known addresses, the controller's first.
func (m *metadata) brokers() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	var addrs []string
	for id, addr := range m.addrs {
		addrs = append(addrs, addr)
		if id == m.controller {
			last := len(addrs) - 1
			addrs[0], addrs[last] = addrs[last], addrs[0]
		}
	}
	return addrs
}

// leader returns the node that leads a partition, or nil while that is unknown.
func (c *Client) leader(t *topicInfo, partition int32) *node {
	c.meta.mu.Lock()
	addr := c.meta.addrs[t.leaders[partition]]
	c.meta.mu.Unlock()
	if addr == "" {
		return nil
	}
	return c.node(addr)
}

// topic returns what is known of a topic, asking a broker if it is not cached.
func (c *Client) topic(ctx context.Context, op, name string) (*topicInfo, error) {
	if t := c.meta.topic(name); t != nil {
		return t, nil
	}
	return c.refreshTopic(ctx, op, name, nil)
}

// refreshTopic asks for a topic anew unless somebody has replaced stale meanwhile.
func (c *Client) refreshTopic(ctx context.Context, op, name string, stale *topicInfo) (*topicInfo, error) {
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
	var resp wire.MetadataResponse
	if err := c.askAny(ctx, op, wire.KindMetadata, &wire.MetadataRequest{Topics: []string{name}}, &resp, repeatable); err != nil {
		return nil, err
	}
	c.learn(&resp)
	for i := range resp.Topics {
		t := &resp.Topics[i]
		if t.Name != name {
			continue
		}
		if err := t.Err(); err != nil {
			c.meta.forget(name)
			return nil, unknownTopic(wireError(op, name, -1, err))
		}
		info, err := newTopicInfo(t)
		if err != nil {
			return nil, wireError(op, name, -1, err)
		}
		c.meta.mu.Lock()
		c.meta.topics[name] = info
		c.meta.mu.Unlock()
		return info, nil
	}
	return nil, wireError(op, name, -1, wire.Errorf(wire.CodeUnknownTopic, "the broker's metadata lacks topic %q; create it or check its name", name))
}

// unknownTopic adds what to do to an error that names the topic anyway.
func unknownTopic(e *Error) *Error {
	if e.Code == Code(wire.CodeUnknownTopic.String()) {
		e.Message = wire.CodeUnknownTopic.Message()
	}
	return e
}

// learn takes over the brokers of a metadata answer.
func (c *Client) learn(resp *wire.MetadataResponse) {
	c.meta.mu.Lock()
	defer c.meta.mu.Unlock()
	clear(c.meta.addrs)
	for _, b := range resp.Brokers {
		c.meta.addrs[b.ID] = b.Addr
	}
	c.meta.controller = resp.Controller
}

func newTopicInfo(t *wire.TopicMetadata) (*topicInfo, error) {
	info := &topicInfo{name: t.Name, uuid: t.UUID, config: t.Config}
	n := uint32(len(t.Partitions))
	if n == 0 || n != t.Config.Partitions {
		return nil, wire.Errorf(wire.CodeUnknown, "the metadata list %d partitions, the configuration says %d", n, t.Config.Partitions)
	}
	for i := range t.Partitions {
		info.leaders = append(info.leaders, t.Partitions[i].Leader)
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
