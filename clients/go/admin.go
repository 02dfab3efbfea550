package sequitur

import (
	"context"
	"errors"
	"slices"
	"strings"
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
// are zero where zero makes no sense take their defaults (but a RetentionTime of zero
// keeps records for ever): start from [DefaultTopicConfig].
func (c *Client) CreateTopic(ctx context.Context, name string, cfg TopicConfig) error {
	return only(c.createTopics(ctx, "create topic", false, NewTopic{Name: name, Config: cfg}))
}

// CreateTopics creates many topics in one request. The error joins one *Error per
// topic that failed; the others are created.
func (c *Client) CreateTopics(ctx context.Context, topics ...NewTopic) error {
	return c.createTopics(ctx, "create topic", false, topics...)
}

// ValidateTopics checks what CreateTopics would do and changes nothing.
func (c *Client) ValidateTopics(ctx context.Context, topics ...NewTopic) error {
	return c.createTopics(ctx, "validate topic", true, topics...)
}

func (c *Client) createTopics(ctx context.Context, op string, validate bool, topics ...NewTopic) error {
	req := wire.CreateTopicsRequest{ValidateOnly: validate, Topics: slices.Clone(topics)}
	for i := range req.Topics {
		t := &req.Topics[i]
		t.Config = t.Config.WithDefaults()
		if err := wire.ValidateTopicName(t.Name); err != nil {
			return wireError(op, t.Name, -1, err)
		}
		if err := t.Config.Validate(); err != nil {
			return wireError(op, t.Name, -1, err)
		}
	}
	var resp wire.CreateTopicsResponse
	_, lost, err := c.ask(ctx, c.admin(op, wire.KindCreateTopics), &req, &resp)
	if err != nil {
		return named(err, req.Topics[0].Name, len(req.Topics))
	}
	if lost && !validate {
		c.forgiveExisting(ctx, req.Topics, resp.Topics)
	}
	return topicErrors(op, resp.Topics)
}

// admin is a question that may take as long as it takes, as changes of many topics do.
func (c *Client) admin(op string, kind wire.Kind) question {
	return question{op: op, kind: kind, limit: c.opts.requestTimeout}
}

// forgiveExisting clears TOPIC_EXISTS, after an attempt whose answer was lost, for topics
// that are as they were meant to be: most likely that attempt created them.
func (c *Client) forgiveExisting(ctx context.Context, wanted []NewTopic, results []wire.TopicResult) {
	var names []string
	for i := range results {
		if results[i].Code == wire.CodeTopicExists {
			names = append(names, results[i].Name)
		}
	}
	if len(names) == 0 {
		return
	}
	var resp wire.MetadataResponse
	if _, _, err := c.ask(ctx, c.admin("create topic", wire.KindMetadata), &wire.MetadataRequest{Topics: names}, &resp); err != nil {
		return
	}
	for i := range resp.Topics {
		t := &resp.Topics[i]
		same := func(w NewTopic) bool {
			return w.Name == t.Name && t.Code == wire.CodeNone && w.Config.Diff(&t.Config) == 0
		}
		if !slices.ContainsFunc(wanted, same) {
			continue
		}
		for j := range results {
			if results[j].Name == t.Name {
				results[j].Code, results[j].Message = wire.CodeNone, ""
			}
		}
	}
}

// topicErrors joins the failures of single topics.
func topicErrors(op string, results []wire.TopicResult) error {
	var errs []error
	for i := range results {
		if err := results[i].Err(); err != nil {
			errs = append(errs, wireError(op, results[i].Name, -1, err))
		}
	}
	return errors.Join(errs...)
}

// only unwraps the failure of a single topic.
func only(err error) error {
	if joined, ok := err.(interface{ Unwrap() []error }); ok && len(joined.Unwrap()) == 1 {
		return joined.Unwrap()[0]
	}
	return err
}

// named adds the topic to the error of a request that concerned a single one.
func named(err error, name string, count int) error {
	if e, ok := err.(*Error); ok && count == 1 {
		e.Topic = name
	}
	return err
}

// ListTopics returns all topics sorted by name, internal ones included.
func (c *Client) ListTopics(ctx context.Context) ([]TopicMetadata, error) {
	resp, err := c.askMetadata(ctx, "list topics")
	if err != nil {
		return nil, err
	}
	slices.SortFunc(resp.Topics, func(a, b TopicMetadata) int { return strings.Compare(a.Name, b.Name) })
	return resp.Topics, nil
}

func (c *Client) askMetadata(ctx context.Context, op string) (*wire.MetadataResponse, error) {
	var resp wire.MetadataResponse
	if _, _, err := c.ask(ctx, c.admin(op, wire.KindMetadata), &wire.MetadataRequest{}, &resp); err != nil {
		return nil, err
	}
	c.meta.learn(&resp)
	return &resp, nil
}

// DescribeTopic returns a topic with what is stored of its partitions.
func (c *Client) DescribeTopic(ctx context.Context, name string) (TopicDescription, error) {
	topics, err := c.DescribeTopics(ctx, name)
	if err != nil {
		return TopicDescription{}, only(err)
	}
	if len(topics) != 1 {
		return TopicDescription{}, wireError("describe topic", name, -1, wire.ErrUnknownTopic)
	}
	return topics[0], nil
}

// DescribeTopics describes topics, all if none is named, sorted by name. The error
// joins one *Error per topic that failed; the others are returned with it.
func (c *Client) DescribeTopics(ctx context.Context, names ...string) ([]TopicDescription, error) {
	const op = "describe topic"
	for _, name := range names {
		if err := wire.ValidateTopicName(name); err != nil {
			return nil, wireError(op, name, -1, err)
		}
	}
	var resp wire.DescribeTopicsResponse
	_, _, err := c.ask(ctx, c.admin(op, wire.KindDescribeTopics), &wire.DescribeTopicsRequest{Topics: names}, &resp)
	if err != nil {
		if len(names) == 1 {
			named(err, names[0], 1)
		}
		return nil, err
	}
	var topics []TopicDescription
	var errs []error
	for _, t := range resp.Topics {
		if err := t.Err(); err != nil {
			errs = append(errs, unknownTopic(wireError(op, t.Name, -1, err)))
			continue
		}
		topics = append(topics, t)
	}
	slices.SortFunc(topics, func(a, b TopicDescription) int { return strings.Compare(a.Name, b.Name) })
	return topics, errors.Join(errs...)
}

// AlterTopic sets the fields of mask to their values in cfg.
func (c *Client) AlterTopic(ctx context.Context, name string, cfg TopicConfig, mask TopicMask) error {
	const op = "alter topic"
	if err := wire.ValidateTopicName(name); err != nil {
		return wireError(op, name, -1, err)
	}
	var resp wire.AlterTopicResponse
	req := wire.AlterTopicRequest{Name: name, Config: cfg, Mask: mask}
	_, _, err := c.ask(ctx, c.admin(op, wire.KindAlterTopic), &req, &resp)
	if err != nil {
		return named(err, name, 1)
	}
	if t := c.meta.topic(name); t != nil {
		_, _ = c.refreshTopic(ctx, op, name, t, nil) // if that fails, the old one serves
	}
	return nil
}

// DeleteTopic deletes a topic with all its records.
func (c *Client) DeleteTopic(ctx context.Context, name string) error {
	return only(c.DeleteTopics(ctx, name))
}

// DeleteTopics deletes topics. The error joins one *Error per topic that failed.
func (c *Client) DeleteTopics(ctx context.Context, names ...string) error {
	const op = "delete topic"
	for _, name := range names {
		if err := wire.ValidateTopicName(name); err != nil {
			return wireError(op, name, -1, err)
		}
	}
	if len(names) == 0 {
		return nil
	}
	var resp wire.DeleteTopicsResponse
	_, lost, err := c.ask(ctx, c.admin(op, wire.KindDeleteTopics), &wire.DeleteTopicsRequest{Topics: names}, &resp)
	for _, name := range names {
		c.meta.forget(name)
	}
	if err != nil {
		return named(err, names[0], len(names))
	}
	for i := range resp.Topics {
		if t := &resp.Topics[i]; lost && t.Code == wire.CodeUnknownTopic {
			t.Code = wire.CodeNone // most likely the attempt whose answer was lost deleted it
		}
	}
	return topicErrors(op, resp.Topics)
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
	const op = "list offsets"
	if _, ask := at.wireKind(); !ask {
		return nil, misuse(op, "the position must be Start, End or At, not an offset")
	}
	t, err := c.topic(ctx, op, topic)
	if err != nil {
		return nil, err
	}
	if partitions, err = t.choose(op, partitions); err != nil {
		return nil, err
	}
	return c.offsets(ctx, op, t, at, partitions)
}

// ListBrokers returns the cluster's brokers.
func (c *Client) ListBrokers(ctx context.Context) ([]BrokerMetadata, error) {
	resp, err := c.askMetadata(ctx, "list brokers")
	if err != nil {
		return nil, err
	}
	return resp.Brokers, nil
}

// Controller returns the id of the broker that controls the cluster, as the asked broker
// knows it: 0 while there is none.
func (c *Client) Controller(ctx context.Context) (node uint32, err error) {
	resp, err := c.askMetadata(ctx, "find the controller")
	if err != nil {
		return 0, err
	}
	return resp.Controller, nil
}

// DescribeBroker returns the use of the machine by the broker at an address, or, if it
// is empty, by the first one reachable.
func (c *Client) DescribeBroker(ctx context.Context, addr string) (BrokerDescription, error) {
	const op = "describe broker"
	var resp BrokerDescription
	if addr == "" {
		if _, _, err := c.ask(ctx, c.admin(op, wire.KindDescribeBroker), &wire.DescribeBrokerRequest{}, &resp); err != nil {
			return resp, err
		}
		return resp, nil
	}
	if err := validServers([]string{addr}); err != nil {
		return resp, err
	}
	return resp, c.node(addr).ask(ctx, op, wire.KindDescribeBroker, &wire.DescribeBrokerRequest{}, &resp, 0)
}

// controlled is a question for the controller, which the broker that is asked looks for:
// when it has found none, nobody else does.
func (c *Client) controlled(op string, kind wire.Kind) question {
	q := c.admin(op, kind)
	q.final = wire.CodeTimeout
	return q
}

// ClusterStatus returns how the cluster is as its controller sees it: the JSON document of
// `broker cluster status --json`. The error is [ErrTimeout] after about 2 seconds while there
// is no controller; its message names the brokers that could make one.
func (c *Client) ClusterStatus(ctx context.Context) ([]byte, error) {
	var resp wire.ClusterStatusResponse
	if _, _, err := c.ask(ctx, c.controlled("ask for the cluster's status", wire.KindClusterStatus), &wire.ClusterStatusRequest{}, &resp); err != nil {
		return nil, err
	}
	return resp.Document, nil
}

// ClusterChange is an order to the controller.
type ClusterChange = wire.ClusterChangeRequest

// ChangeCluster orders a change of who holds and leads what. It returns when that is under
// way; ClusterStatus tells how it goes on.
func (c *Client) ChangeCluster(ctx context.Context, change ClusterChange) (text string, err error) {
	var resp wire.ClusterChangeResponse
	if _, _, err := c.ask(ctx, c.controlled("change the cluster", wire.KindClusterChange), &change, &resp); err != nil {
		return "", err
	}
	return resp.Text, nil
}
