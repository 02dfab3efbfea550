package bench

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	sequitur "github.com/sequitur-mq/sequitur/clients/go"
)

// Rolling restarts every broker of a cluster in good order, one after the other, under a steady load.
func (s *Session) Rolling(ctx context.Context, c *Cluster, spec StreamSpec, payloads *Payloads, rate float64, calm time.Duration) (*Disturbance, error) {
	stream, err := s.newStream(ctx, c, &spec)
	if err != nil {
		return nil, err
	}
	return s.disturb(ctx, disturbed{
		workload: "rolling restart", sys: c, spec: spec, stream: stream, payloads: payloads, rate: rate, calm: calm,
		act: func(ctx context.Context, d *Disturbance) error {
			for _, b := range c.brokers {
				s.Progress.Step("rolling restart: broker %d of %d", b.Node, len(c.brokers))
				start := time.Now()
				if err := c.stop(b.Node); err != nil {
					return fmt.Errorf("stop broker %d: %w", b.Node, err)
				}
				if err := c.revive(ctx, b.Node); err != nil {
					return err
				}
				if err := c.awaitCopies(ctx, stream); err != nil {
					return err
				}
				d.Steps = append(d.Steps, time.Since(start).Seconds())
			}
			return pause(ctx, calm)
		},
	})
}

func (s *Session) newStream(ctx context.Context, sys System, spec *StreamSpec) (Stream, error) {
	spec.Name = s.NewStreamName()
	return sys.CreateStream(ctx, *spec)
}

// LeaderLoss is what the loss of a broker that leads many partitions does.
type LeaderLoss struct {
	Led   int           // partitions that the killed broker led
	Raft  bool          // it led Raft too
	Again time.Duration // until all are led by others, as metadata tells
	Acked time.Duration // until each of all partitions has acknowledged a record sent after the kill
}

// LoseLeader kills the broker that leads most partitions of a topic with many of them.
func (s *Session) LoseLeader(ctx context.Context, c *Cluster, spec StreamSpec, payloads *Payloads) (l *LeaderLoss, err error) {
	stream, err := s.newStream(ctx, c, &spec)
	if err != nil {
		return nil, err
	}
	leaders, err := c.allLed(ctx, spec.Name, 0)
	if err != nil {
		return nil, err
	}
	led := make([]int, len(c.brokers)+1)
	for _, leader := range leaders {
		led[leader]++
	}
	victim := slices.Index(led, slices.Max(led))
	everywhere, err := newEverywhere(ctx, c.servers, spec)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, everywhere.close(ctx)) }()
	if err := everywhere.send(ctx, payloads); err != nil { // the client knows all leaders then
		return nil, err
	}
	if err := c.awaitCopies(ctx, stream); err != nil {
		return nil, err
	}
	controller, err := c.controller(ctx)
	if err != nil {
		return nil, err
	}
	l = &LeaderLoss{Led: led[victim], Raft: controller == victim}
	start := time.Now()
	if err := c.kill(victim); err != nil {
		return nil, err
	}
	acked := make(chan error, 1)
	go func() {
		err := everywhere.send(ctx, payloads)
		l.Acked = time.Since(start)
		acked <- err
	}()
	_, err = c.allLed(ctx, spec.Name, uint32(victim))
	l.Again = time.Since(start)
	return l, errors.Join(err, <-acked)
}

// allLed waits until all partitions are led by a broker that is not the given one.
func (c *Cluster) allLed(ctx context.Context, name string, but uint32) (leaders []uint32, err error) {
	return leaders, poll(ctx, "all partitions of "+name+" to be led", func() (string, error) {
		if leaders, err = c.leaders(ctx, name); err != nil {
			return "", err
		}
		left := 0
		for _, leader := range leaders {
			if leader == 0 || leader == but {
				left++
			}
		}
		if left > 0 {
			return fmt.Sprintf("%d of %d are not", left, len(leaders)), nil
		}
		return "", nil
	})
}

// everywhere sends a record to each partition of a topic.
type everywhere struct {
	client     *sequitur.Client
	producer   *sequitur.Producer
	topic      string
	partitions int
}

func newEverywhere(ctx context.Context, servers string, spec StreamSpec) (*everywhere, error) {
	client, err := sequitur.Connect(ctx, servers, sequitur.WithClientName("bench producer"))
	if err != nil {
		return nil, err
	}
	producer, err := client.NewProducer(sequitur.WithManualPartition())
	if err != nil {
		return nil, errors.Join(err, client.Close())
	}
	return &everywhere{client: client, producer: producer, topic: spec.Name, partitions: spec.Partitions}, nil
}

// send returns when every partition has acknowledged its record.
func (e *everywhere) send(ctx context.Context, payloads *Payloads) error {
	for i := range e.partitions {
		r := sequitur.Record{Topic: e.topic, Partition: int32(i), Value: payloads.At(uint64(i))}
		if err := e.producer.SendAsync(ctx, r, nil); err != nil {
			return err
		}
	}
	return e.producer.Flush(ctx)
}

func (e *everywhere) close(ctx context.Context) error {
	return errors.Join(e.producer.Close(ctx), e.client.Close())
}

// CatchUp is a broker that was away while much was written, and comes back under a steady load.
type CatchUp struct {
	*Disturbance
	Backlog uint64  // bytes of values written meanwhile
	Seconds float64 // from starting its process until it lacked next to nothing
	MBs     float64
}

// caughtUpWithin is the lag, in time of the steady load, at which a broker counts as caught up.
const caughtUpWithin = 100 * time.Millisecond

// CatchingUp kills a broker that does not lead the topic's first partition, writes a backlog, and starts it again.
func (s *Session) CatchingUp(ctx context.Context, c *Cluster, spec StreamSpec, payloads *Payloads, backlog uint64, rate float64, calm time.Duration) (*CatchUp, error) {
	stream, err := s.newStream(ctx, c, &spec)
	if err != nil {
		return nil, err
	}
	leader, err := c.leaderOf(ctx, stream)
	if err != nil {
		return nil, err
	}
	away := leader%len(c.brokers) + 1
	up := &CatchUp{}
	d := disturbed{
		workload: "a broker catches up", sys: c, spec: spec, stream: stream, payloads: payloads, rate: rate, calm: calm,
		prepare: func(ctx context.Context) error {
			s.Progress.Step("storing %.1f GB that a broker is to catch up with", float64(backlog)/1e9)
			if err := c.kill(away); err != nil {
				return err
			}
			fill := ProduceSpec{
				Stream: spec, Payloads: payloads, Mode: Async, Producers: 1, Keys: keysFor(spec.Partitions),
				Duration: time.Hour, Count: backlog / uint64(max(payloads.MeanBytes(), 1)),
			}
			stored, err := Produce(ctx, c, stream, fill, s.Progress)
			up.Backlog = stored.Bytes
			if err != nil {
				return fmt.Errorf("store a backlog: %w", err)
			}
			settle(s.Dir)
			return pause(ctx, calm/2)
		},
		act: func(ctx context.Context, d *Disturbance) error {
			s.Progress.Step("broker %d catches up with %.1f GB", away, float64(backlog)/1e9)
			start := time.Now()
			if err := c.revive(ctx, away); err != nil {
				return err
			}
			err := poll(ctx, "a broker to catch up", func() (string, error) {
				lag, err := c.behind(ctx, away, spec.Name)
				if err != nil || float64(lag) <= rate*caughtUpWithin.Seconds() {
					return "", err
				}
				return fmt.Sprintf("it lacks %s records", whole(uint64(lag))), nil
			})
			up.Seconds = time.Since(start).Seconds()
			d.Steps = []float64{up.Seconds}
			return err
		},
	}
	if up.Disturbance, err = s.disturb(ctx, d); err != nil {
		return nil, err
	}
	up.MBs = quotient(float64(up.Backlog)/1e6, up.Seconds)
	return up, stream.Delete(ctx)
}
