package sequitur

import (
	"context"
	"time"

	"github.com/sequitur-mq/sequitur/wire"
)

// Shapes of the admin calls; their fields are documented in package wire.
type (
	// TopicConfig is everything that can be set on a topic.
	TopicConfig = wire.TopicConfig
	// TopicMask says which fields of a TopicConfig an alteration sets.
	TopicMask = wire.TopicMask
	// NewTopic is a topic to create.
	NewTopic = wire.NewTopic
	// TopicMetadata is a topic and who leads its partitions.
	TopicMetadata = wire.TopicMetadata
	// TopicDescription adds what is stored per partition.
	TopicDescription = wire.TopicDescription
	// BrokerMetadata is a broker's id and address.
	BrokerMetadata = wire.BrokerMetadata
	// BrokerDescription is a broker's use of the machine.
	BrokerDescription = wire.DescribeBrokerResponse
)

// DefaultTopicConfig is the configuration of a topic for which nothing is set.
func DefaultTopicConfig() TopicConfig { return wire.DefaultTopicConfig() }

// CreateTopic creates a topic; it is durable when the call returns. Fields of cfg that
// are zero where zero makes no sense take their defaults.
func (c *Client) CreateTopic(ctx context.Context, name string, cfg TopicConfig) error {
	return errNotYet("create topic")
}

// CreateTopics creates many topics in one request. The error joins one *Error per
// topic that failed; the others are created.
func (c *Client) CreateTopics(ctx context.Context, topics ...NewTopic) error {
	return errNotYet("create topics")
}

// ValidateTopics checks what CreateTopics would do and changes nothing.
func (c *Client) ValidateTopics(ctx context.Context, topics ...NewTopic) error {
	return errNotYet("validate topics")
}

// ListTopics returns all topics by name, internal ones included.
func (c *Client) ListTopics(ctx context.Context) ([]TopicMetadata, error) {
	return nil, errNotYet("list topics")
}

// DescribeTopic returns a topic with what is stored of its partitions.
func (c *Client) DescribeTopic(ctx context.Context, name string) (TopicDescription, error) {
	return TopicDescription{}, errNotYet("describe topic")
}

// DescribeTopics describes topics, all if none is named, sorted by name. The error
// joins one *Error per topic that failed.
func (c *Client) DescribeTopics(ctx context.Context, names ...string) ([]TopicDescription, error) {
	return nil, errNotYet("describe topics")
}

// AlterTopic sets the fields of mask to their values in cfg.
func (c *Client) AlterTopic(ctx context.Context, name string, cfg TopicConfig, mask TopicMask) error {
	return errNotYet("alter topic")
}

// DeleteTopic deletes a topic with all its records.
func (c *Client) DeleteTopic(ctx context.Context, name string) error {
	return errNotYet("delete topic")
}

// DeleteTopics deletes topics. The error joins one *Error per topic that failed.
func (c *Client) DeleteTopics(ctx context.Context, names ...string) error {
	return errNotYet("delete topics")
}

// PartitionOffset is an offset of a partition.
type PartitionOffset struct {
	Partition int32
	Offset    int64
	Time      time.Time // append time of the batch at Offset; zero if there is none
}

// ListOffsets finds a position in partitions of a topic, in all if none is named. The
// position must be Start, End or At.
func (c *Client) ListOffsets(ctx context.Context, topic string, at Position, partitions ...int32) ([]PartitionOffset, error) {
	return nil, errNotYet("list offsets")
}

// ListBrokers returns the cluster's brokers.
func (c *Client) ListBrokers(ctx context.Context) ([]BrokerMetadata, error) {
	return nil, errNotYet("list brokers")
}

// DescribeBroker returns the use of the machine by the broker at an address, or, if it
// is empty, by the first one reachable.
func (c *Client) DescribeBroker(ctx context.Context, addr string) (BrokerDescription, error) {
	return BrokerDescription{}, errNotYet("describe broker")
}
