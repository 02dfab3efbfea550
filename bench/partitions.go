package bench

import (
	"context"
	"errors"
	"fmt"
	"time"

	sequitur "github.com/sequitur-mq/sequitur/clients/go"
)

// SpreadOptions describes the same load over different numbers of partitions.
type SpreadOptions struct {
	Partitions       []int // the first is what the others are compared with
	Rounds           int
	Warmup, Duration time.Duration
	Fsync            string
	Payloads         *Payloads
	Producers        int
	// Rate is the load at which latencies are compared: well below what any of them takes.
	Rate float64
}

// Spread measures, per number of partitions, the throughput of a closed loop and the latency at a steady rate. Records
// have keys, so every partition gets its share all the time. It returns the results in the order of o.Partitions.
func (s *Session) Spread(ctx context.Context, sys System, o SpreadOptions) (rates, latencies []*Result, err error) {
	var fast, steady []*Contender
	for _, n := range o.Partitions {
		spec := ProduceSpec{
			Stream: StreamSpec{Partitions: n, Fsync: o.Fsync}, Payloads: o.Payloads, Mode: Async,
			Producers: o.Producers, Keys: manyKeys, Warmup: o.Warmup, Duration: o.Duration,
		}
		fast = append(fast, s.Producing(fmt.Sprintf("async produce, %d partitions", n), sys, spec))
		spec.Rate = o.Rate
		steady = append(steady, s.Producing(fmt.Sprintf("steady produce, %d partitions", n), sys, spec))
	}
	if rates, err = s.Interleave(ctx, o.Rounds, fast...); err != nil {
		return nil, nil, err
	}
	if latencies, err = s.Interleave(ctx, o.Rounds, steady...); err != nil {
		return nil, nil, err
	}
	for i := range o.Partitions[1:] {
		s.compare(rates[0], rates[i+1], true, false)
		s.compare(latencies[0], latencies[i+1], false, true)
	}
	return rates, latencies, nil
}

// Creation is how fast partitions come and what they cost while they are idle.
type Creation struct {
	Partitions int     `json:"partitions"`
	Topics     int     `json:"topics"`
	Seconds    float64 `json:"seconds"`
	PerSecond  float64 `json:"perSecond"`
	// RSS of the broker before and after, idle; and the difference per partition in bytes.
	RSSBefore    uint64  `json:"rssBefore"`
	RSSAfter     uint64  `json:"rssAfter"`
	PerPartition float64 `json:"bytesPerPartition"`
	// RSSReopened is the memory of a restarted broker with the same partitions.
	RSSReopened          uint64  `json:"rssReopened"`
	PerPartitionReopened float64 `json:"bytesPerPartitionReopened"`
	ReopenSeconds        float64 `json:"reopenSeconds"`
}

// createAtOnce is how many topics one request creates.
const createAtOnce = 500

// CreatePartitions creates partitions in the given number of topics on a fresh broker, lets it idle, and restarts it.
func (s *Session) CreatePartitions(ctx context.Context, launcher Launcher, partitions, topics int, idle time.Duration) (c *Creation, err error) {
	s.Progress.Step("creating %d partitions in %d topics", partitions, topics)
	local, err := StartLocal(ctx, launcher, s.Dir)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, local.Close()) }()
	c = &Creation{Partitions: partitions, Topics: topics}
	if c.RSSBefore, err = idleRSS(ctx, local, idle); err != nil {
		return nil, err
	}
	start := time.Now()
	if err := s.createTopics(ctx, local.Process.Addr, partitions, topics); err != nil {
		return nil, err
	}
	c.Seconds = time.Since(start).Seconds()
	c.PerSecond = float64(partitions) / c.Seconds
	if c.RSSAfter, err = idleRSS(ctx, local, idle); err != nil {
		return nil, err
	}
	start = time.Now()
	if err := local.Restart(ctx, false); err != nil {
		return nil, fmt.Errorf("restart with %d partitions: %w", partitions, err)
	}
	c.ReopenSeconds = time.Since(start).Seconds()
	if c.RSSReopened, err = idleRSS(ctx, local, idle); err != nil {
		return nil, err
	}
	c.PerPartition = perPartition(c.RSSBefore, c.RSSAfter, partitions)
	c.PerPartitionReopened = perPartition(c.RSSBefore, c.RSSReopened, partitions)
	return c, nil
}

func perPartition(before, after uint64, partitions int) float64 {
	return (float64(after) - float64(before)) / float64(partitions)
}

// idleRSS waits until the broker has had time to put away what it no longer needs.
func idleRSS(ctx context.Context, sys System, idle time.Duration) (uint64, error) {
	select {
	case <-time.After(idle):
	case <-ctx.Done():
		return 0, ctx.Err()
	}
	u, _, err := sys.Usage(ctx)
	return u.RSS, err
}

func (s *Session) createTopics(ctx context.Context, addr string, partitions, topics int) error {
	client, err := sequitur.Connect(ctx, addr, sequitur.WithClientName("bench admin"))
	if err != nil {
		return err
	}
	defer client.Close()
	cfg := sequitur.DefaultTopicConfig()
	cfg.Partitions = uint32(partitions / topics)
	var request []sequitur.NewTopic
	for i := range topics {
		request = append(request, sequitur.NewTopic{Name: fmt.Sprintf("%s-%d", s.NewStreamName(), i), Config: cfg})
		if len(request) == createAtOnce || i == topics-1 {
			if err := client.CreateTopics(ctx, request...); err != nil {
				return fmt.Errorf("create %d topics: %w", len(request), err)
			}
			request = request[:0]
		}
	}
	return nil
}
