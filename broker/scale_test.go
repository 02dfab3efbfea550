package broker

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sequitur-mq/sequitur/wire"
)

// Ten thousand partitions, as one topic and as ten thousand, are created in one
// request each, can be used, and are there after a restart.
func TestTenThousandPartitions(t *testing.T) {
	cfg := testConfig(t)
	b := startConfig(t, cfg)
	c := connect(t, b)
	began := time.Now()
	wide := c.create("wide", 10_000)
	t.Logf("one topic of 10,000 partitions: %v", time.Since(began))
	req := &wire.CreateTopicsRequest{}
	for i := range 10_000 {
		req.Topics = append(req.Topics, wire.NewTopic{Name: fmt.Sprint("topic-", i)})
	}
	var resp wire.CreateTopicsResponse
	began = time.Now()
	c.call(wire.KindCreateTopics, req, &resp)
	t.Logf("10,000 topics: %v", time.Since(began))
	for i := range resp.Topics {
		require.NoError(t, resp.Topics[i].Err())
	}
	check := func(c *client) {
		for i := 0; i < 10_000; i += 999 {
			require.NoError(t, errOf(c.produce(wide, uint32(i), anonymous().batch(t, "x"))))
			require.NoError(t, errOf(c.produce(resp.Topics[i].UUID, 0, anonymous().batch(t, "x"))))
		}
		var meta wire.MetadataResponse
		c.call(wire.KindMetadata, &wire.MetadataRequest{}, &meta)
		require.NoError(t, meta.Err())
		require.Len(t, meta.Topics, 10_001)
		var describe wire.DescribeTopicsResponse
		c.call(wire.KindDescribeTopics, &wire.DescribeTopicsRequest{}, &describe)
		require.NoError(t, describe.Err())
		require.Len(t, describe.Topics, 10_001)
	}
	check(c)
	require.NoError(t, b.Close())
	began = time.Now()
	b = startConfig(t, cfg)
	t.Logf("restart: %v", time.Since(began))
	check(connect(t, b))
}
