package broker

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sequitur-mq/sequitur/wire"
)

func TestHello(t *testing.T) {
	b := startBroker(t, func(c *Config) { c.Version = "1.2.3" })
	c := dial(t, b)
	var resp wire.HelloResponse
	req := helloRequest()
	req.MaxVersion = 9
	c.call(wire.KindHello, req, &resp)
	require.NoError(t, resp.Err())
	require.EqualValues(t, wire.MaxProtocolVersion, resp.Version)
	require.Equal(t, "1.2.3", resp.BrokerVersion)
	require.False(t, resp.ClusterID.IsZero())
	require.EqualValues(t, b.cfg.MaxFrameBytes, resp.MaxFrameBytes)
	require.EqualValues(t, wire.MaxBatchBytes, resp.MaxBatchBytes)
	require.EqualValues(t, b.cfg.ConnectionBytes, resp.MaxInflightBytes)
	require.Equal(t, wire.APIs(), resp.APIs)
}

func TestHelloRefused(t *testing.T) {
	b := startBroker(t)
	for name, test := range map[string]struct {
		kind   wire.Kind
		change func(*wire.HelloRequest)
		code   wire.Code
	}{
		"too new":      {wire.KindHello, func(h *wire.HelloRequest) { h.MinVersion, h.MaxVersion = 7, 9 }, wire.CodeUnsupportedVersion},
		"wrong magic":  {wire.KindHello, func(h *wire.HelloRequest) { h.Magic++ }, wire.CodeInvalidRequest},
		"credentials":  {wire.KindHello, func(h *wire.HelloRequest) { h.AuthMechanism = "plain" }, wire.CodeUnauthorized},
		"not hello":    {wire.KindMetadata, func(*wire.HelloRequest) {}, wire.CodeInvalidRequest},
		"unknown kind": {99, func(*wire.HelloRequest) {}, wire.CodeInvalidRequest},
	} {
		t.Run(name, func(t *testing.T) {
			c := dial(t, b)
			req := helloRequest()
			test.change(req)
			var resp statusOnly
			c.call(test.kind, req, &resp)
			require.Equal(t, test.code, resp.Code, resp.Message)
			require.NotEmpty(t, resp.Message)
			c.closed()
		})
	}
	t.Run("twice", func(t *testing.T) {
		c := connect(t, b)
		var resp statusOnly
		c.call(wire.KindHello, helloRequest(), &resp)
		require.Equal(t, wire.CodeInvalidRequest, resp.Code)
		c.closed()
	})
}

func TestHelloMustComeInTime(t *testing.T) {
	b := startBroker(t, func(c *Config) { c.HandshakeTimeout = Duration(time.Millisecond) })
	dial(t, b).closed()
}

func TestTopicLifecycle(t *testing.T) {
	b := startBroker(t)
	c := connect(t, b)
	id := c.create("orders", 3, func(tc *wire.TopicConfig) { tc.MaxBatchBytes = 2048 })
	c.create("zebra", 1)

	var meta wire.MetadataResponse
	c.call(wire.KindMetadata, &wire.MetadataRequest{}, &meta)
	require.NoError(t, meta.Err())
	require.Equal(t, []wire.BrokerMetadata{{ID: b.handler.node, Addr: b.Addr()}}, meta.Brokers)
	require.Len(t, meta.Topics, 2)
	require.Equal(t, "orders", meta.Topics[0].Name)
	require.Equal(t, id, meta.Topics[0].UUID)
	require.Equal(t, []wire.PartitionMetadata{
		{Leader: b.handler.node, Epoch: 1, Replicas: []uint32{b.handler.node}},
		{Leader: b.handler.node, Epoch: 1, Replicas: []uint32{b.handler.node}},
		{Leader: b.handler.node, Epoch: 1, Replicas: []uint32{b.handler.node}},
	}, meta.Topics[0].Partitions)

	c.call(wire.KindMetadata, &wire.MetadataRequest{Topics: []string{"zebra", "nothing"}}, &meta)
	require.NoError(t, meta.Topics[0].Err())
	require.ErrorIs(t, meta.Topics[1].Err(), wire.ErrUnknownTopic)

	// Altered fields hold at once; the others stay.
	var alter wire.AlterTopicResponse
	c.call(wire.KindAlterTopic, &wire.AlterTopicRequest{Name: "orders", Config: wire.TopicConfig{RetentionBytes: 5 << 20}, Mask: wire.MaskRetentionBytes}, &alter)
	require.NoError(t, alter.Err())
	c.call(wire.KindAlterTopic, &wire.AlterTopicRequest{Name: "orders", Config: wire.TopicConfig{Partitions: 4}, Mask: wire.MaskPartitions}, &alter)
	require.ErrorIs(t, alter.Err(), wire.ErrUnsupported)
	c.call(wire.KindAlterTopic, &wire.AlterTopicRequest{Name: "orders", Config: wire.TopicConfig{MaxBatchBytes: 1}, Mask: wire.MaskMaxBatchBytes}, &alter)
	require.ErrorIs(t, alter.Err(), wire.ErrInvalidConfig)
	c.call(wire.KindAlterTopic, &wire.AlterTopicRequest{Name: "nothing", Mask: wire.MaskRetentionBytes}, &alter)
	require.ErrorIs(t, alter.Err(), wire.ErrUnknownTopic)

	c.mustProduce(id, 1, "a", "b")
	var describe wire.DescribeTopicsResponse
	c.call(wire.KindDescribeTopics, &wire.DescribeTopicsRequest{Topics: []string{"orders", "nothing"}}, &describe)
	require.NoError(t, describe.Err())
	require.EqualValues(t, 5<<20, describe.Topics[0].Config.RetentionBytes)
	require.EqualValues(t, 2048, describe.Topics[0].Config.MaxBatchBytes)
	require.Len(t, describe.Topics[0].Stats, 3)
	require.EqualValues(t, 2, describe.Topics[0].Stats[1].End)
	require.EqualValues(t, 1, describe.Topics[0].Stats[1].Segments)
	require.Positive(t, describe.Topics[0].Stats[1].Bytes)
	require.Zero(t, describe.Topics[0].Stats[0].Bytes)
	require.ErrorIs(t, describe.Topics[1].Err(), wire.ErrUnknownTopic)

	var deleted wire.DeleteTopicsResponse
	c.call(wire.KindDeleteTopics, &wire.DeleteTopicsRequest{Topics: []string{"orders", "nothing"}}, &deleted)
	require.NoError(t, deleted.Topics[0].Err())
	require.ErrorIs(t, deleted.Topics[1].Err(), wire.ErrUnknownTopic)
	require.ErrorIs(t, func() error { r := c.produce(id, 1, anonymous().batch(t, "x")); return r.Err() }(), wire.ErrUnknownTopic)
	res, _ := c.fetch(id, 1, 0)
	require.ErrorIs(t, res.Err(), wire.ErrUnknownTopic)
	again := c.create("orders", 1)
	require.NotEqual(t, id, again)
	res, got := c.fetch(again, 0, 0)
	require.NoError(t, res.Err())
	require.Empty(t, got, "nothing of the old topic is in the new one")
}

func TestCreateTopicsRefused(t *testing.T) {
	b := startBroker(t, func(c *Config) { c.MaxPartitions = 20 })
	c := connect(t, b)
	c.create("there", 1)
	config := func(change func(*wire.TopicConfig)) wire.TopicConfig {
		tc := wire.DefaultTopicConfig()
		change(&tc)
		return tc
	}
	plain := wire.DefaultTopicConfig()
	tests := []struct {
		topic wire.NewTopic
		code  wire.Code
	}{
		{wire.NewTopic{Name: "good", Config: wire.TopicConfig{}}, wire.CodeNone},
		{wire.NewTopic{Name: "there", Config: plain}, wire.CodeTopicExists},
		{wire.NewTopic{Name: "good", Config: plain}, wire.CodeTopicExists},
		{wire.NewTopic{Name: "no spaces", Config: plain}, wire.CodeInvalidTopicName},
		{wire.NewTopic{Name: "__own", Config: plain}, wire.CodeInvalidTopicName},
		{wire.NewTopic{Name: "rf3", Config: config(func(c *wire.TopicConfig) { c.ReplicationFactor = 3 })}, wire.CodeInvalidConfig},
		{wire.NewTopic{Name: "total", Config: config(func(c *wire.TopicConfig) { c.Ordering = wire.OrderingTotal })}, wire.CodeUnsupported},
		{wire.NewTopic{Name: "range", Config: config(func(c *wire.TopicConfig) { c.Partitioner = wire.PartitionerRange; c.Partitions = 3 })}, wire.CodeInvalidConfig},
		{wire.NewTopic{Name: "many", Config: config(func(c *wire.TopicConfig) { c.Partitions = 30 })}, wire.CodeInvalidConfig},
	}
	var req wire.CreateTopicsRequest
	for _, test := range tests {
		req.Topics = append(req.Topics, test.topic)
	}
	for _, req.ValidateOnly = range []bool{true, false} {
		var resp wire.CreateTopicsResponse
		c.call(wire.KindCreateTopics, &req, &resp)
		require.NoError(t, resp.Err())
		for i, test := range tests {
			if req.ValidateOnly && i == 2 {
				continue // does not exist yet
			}
			require.Equal(t, test.code, resp.Topics[i].Code, "%s: %s", test.topic.Name, resp.Topics[i].Message)
			require.Equal(t, test.topic.Name, resp.Topics[i].Name)
			require.Equal(t, test.code != wire.CodeNone || req.ValidateOnly, resp.Topics[i].UUID.IsZero())
		}
	}
}

func TestNamesAreBounded(t *testing.T) {
	b := startBroker(t)
	c := connect(t, b)
	names := make([]string, maxNames+1)
	for i := range names {
		names[i] = fmt.Sprint(i)
	}
	for _, names := range [][]string{names, {"a", "a"}} {
		var resp statusOnly
		c.call(wire.KindMetadata, &wire.MetadataRequest{Topics: names}, &resp)
		require.Equal(t, wire.CodeInvalidRequest, resp.Code)
		c.call(wire.KindDescribeTopics, &wire.DescribeTopicsRequest{Topics: names}, &resp)
		require.Equal(t, wire.CodeInvalidRequest, resp.Code)
		c.call(wire.KindDeleteTopics, &wire.DeleteTopicsRequest{Topics: names}, &resp)
		require.Equal(t, wire.CodeInvalidRequest, resp.Code)
	}
	var resp statusOnly
	c.call(wire.KindInitProducer, &wire.InitProducerRequest{Name: strings.Repeat("n", maxProducerName+1)}, &resp)
	require.Equal(t, wire.CodeInvalidRequest, resp.Code)
}

func TestListOffsets(t *testing.T) {
	b := startBroker(t)
	c := connect(t, b)
	id := c.create("t", 2)
	first := c.produce(id, 0, anonymous().batch(t, "a", "b"))
	second := c.produce(id, 0, anonymous().batch(t, "c"))
	part := func(kind wire.OffsetKind, ns int64) wire.ListOffsetsPart {
		return wire.ListOffsetsPart{Topic: id, Kind: kind, TimeNs: ns}
	}
	var resp wire.ListOffsetsResponse
	c.call(wire.KindListOffsets, &wire.ListOffsetsRequest{Parts: []wire.ListOffsetsPart{
		part(wire.OffsetStart, 0), part(wire.OffsetEnd, 0),
		part(wire.OffsetByTime, 0), part(wire.OffsetByTime, first.AppendTime+1), part(wire.OffsetByTime, second.AppendTime+1),
		part(9, 0), {Topic: id, Partition: 2}, {Topic: wire.UUID{1}}, {Topic: id, Partition: 1, Kind: wire.OffsetEnd},
	}}, &resp)
	require.NoError(t, resp.Err())
	offsets := func(i int) []int64 { return []int64{resp.Parts[i].Offset, resp.Parts[i].TimeNs} }
	require.Equal(t, []int64{0, -1}, offsets(0))
	require.Equal(t, []int64{3, -1}, offsets(1))
	require.Equal(t, []int64{0, first.AppendTime}, offsets(2))
	require.Equal(t, []int64{2, second.AppendTime}, offsets(3))
	require.Equal(t, []int64{3, -1}, offsets(4))
	require.Equal(t, wire.CodeInvalidRequest, resp.Parts[5].Code)
	require.Equal(t, wire.CodeUnknownPartition, resp.Parts[6].Code)
	require.Equal(t, wire.CodeUnknownTopic, resp.Parts[7].Code)
	require.Equal(t, []int64{0, -1}, offsets(8))
}

func TestDescribeBroker(t *testing.T) {
	b := startBroker(t, func(c *Config) { c.Version = "1.2.3" })
	c := connect(t, b)
	id := c.create("t", 3)
	c.mustProduce(id, 0, "a", "b")
	var resp wire.DescribeBrokerResponse
	c.call(wire.KindDescribeBroker, &wire.DescribeBrokerRequest{}, &resp)
	require.NoError(t, resp.Err())
	require.EqualValues(t, 3, resp.Partitions)
	require.EqualValues(t, 1, resp.Connections)
	require.Equal(t, "1.2.3", resp.Version)
	require.NotEmpty(t, resp.JournalMode)
	require.Positive(t, resp.RSSBytes)
	stats := map[string]float64{}
	for _, s := range resp.Stats {
		stats[s.Name] = s.Value
	}
	require.EqualValues(t, 2, stats["produced_records"])
	require.EqualValues(t, 1, stats["topics"])

	s := b.Snapshot()
	require.EqualValues(t, 1, s.Requests["Produce"])
	require.EqualValues(t, 1, s.Produce.Count)
	require.Equal(t, "t", s.Topics[0].Name)
	require.EqualValues(t, 2, s.Topics[0].ProducedRecords)
	require.Positive(t, s.Topics[0].StoredBytes)
	require.NoError(t, b.Health())
	require.NoError(t, b.Ready())
}

func TestRequestsThatEndTheConnection(t *testing.T) {
	b := startBroker(t)
	for name, test := range map[string]struct {
		head wire.FrameHeader
		body string
		code wire.Code
	}{
		"unknown kind":      {wire.FrameHeader{Kind: 99, Version: 1}, "", wire.CodeUnsupportedVersion},
		"unknown version":   {wire.FrameHeader{Kind: wire.KindFetch, Version: 9}, "", wire.CodeUnsupportedVersion},
		"a response":        {wire.FrameHeader{Kind: wire.KindFetch, Version: 1, Flags: wire.FlagResponse}, "", wire.CodeInvalidRequest},
		"batches":           {wire.FrameHeader{Kind: wire.KindMetadata, Version: 1}, "xx", wire.CodeInvalidRequest},
		"malformed":         {wire.FrameHeader{Kind: wire.KindFetch, Version: 1, MetadataLength: 3}, "\xff\xff\xff", wire.CodeInvalidRequest},
		"malformed produce": {wire.FrameHeader{Kind: wire.KindProduce, Version: 1, MetadataLength: 6}, "\x02\x00\x00\x00\x00\x09", wire.CodeInvalidRequest},
		"missing batches":   {wire.FrameHeader{Kind: wire.KindProduce, Version: 1, MetadataLength: 30}, "\x02\x00\x00\x00\x00\x01" + strings.Repeat("\x00", 20) + "\x09\x00\x00\x00", wire.CodeInvalidRequest},
		"unknown acks":      {wire.FrameHeader{Kind: wire.KindProduce, Version: 1, MetadataLength: 6}, "\x0b\x00\x00\x00\x00\x00", wire.CodeInvalidRequest},
		"too large":         {wire.FrameHeader{Kind: wire.KindProduce, Version: 1, Length: 1 << 30}, "", wire.CodeFrameTooLarge},
		"too much metadata": {wire.FrameHeader{Kind: wire.KindProduce, Version: 1, Length: 15 << 20, MetadataLength: 14 << 20}, "", wire.CodeFrameTooLarge},
		"impossible length": {wire.FrameHeader{Kind: wire.KindProduce, Version: 1, Length: 11}, "", wire.CodeInvalidRequest},
	} {
		t.Run(name, func(t *testing.T) {
			c := connect(t, b)
			test.head.Correlation = 77
			if test.head.Length == 0 {
				test.head.Length = uint32(12 + len(test.body))
			}
			_, err := c.nc.Write(append(wire.AppendFrameHeader(nil, test.head), test.body...))
			require.NoError(t, err)
			var resp statusOnly
			f := c.receive(77, &resp)
			require.Equal(t, test.head.Kind, f.Kind)
			require.Equal(t, test.code, resp.Code, resp.Message)
			c.closed()
		})
	}
	require.Positive(t, b.Snapshot().Errors["INVALID_REQUEST"])
}
