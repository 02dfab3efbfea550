package bench

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	sequitur "github.com/sequitur-mq/sequitur/clients/go"
)

// pollRecords is how many records a consumer takes at a time.
const pollRecords = 1024

// mallocsStat is the broker's figure of heap objects allocated since its start.
const mallocsStat = "go_mallocs"

// sequiturSystem is a Sequitur broker.
type sequiturSystem struct {
	servers string
	admin   *sequitur.Client
}

// ConnectSequitur connects to a broker, "host:port" (several separated by commas).
func ConnectSequitur(ctx context.Context, servers string) (System, error) {
	admin, err := sequitur.Connect(ctx, servers, sequitur.WithClientName("bench admin"))
	if err != nil {
		return nil, err
	}
	return &sequiturSystem{servers: servers, admin: admin}, nil
}

func (s *sequiturSystem) Name() string { return "sequitur" }

func (s *sequiturSystem) Durability(spec StreamSpec) string {
	fsync, acks := defaulted(spec.Fsync, "always"), defaulted(spec.Acks, "quorum")
	where, meaning := "one broker", "acknowledged after fsync"
	if spec.Replicas > 1 {
		where = fmt.Sprintf("%d brokers", spec.Replicas)
		meaning += map[string]string{"quorum": " on a majority", "all": " on all", "leader": " on the leader"}[acks]
	}
	switch {
	case acks == "none":
		meaning = "not acknowledged at all"
	case fsync == "interval":
		meaning = "acknowledged before fsync, loss bounded by the interval"
	case fsync == "never":
		meaning = "acknowledged before fsync, loss not bounded"
	}
	return fmt.Sprintf("fsync %s, acks %s on %s: %s", fsync, acks, where, meaning)
}

func (s *sequiturSystem) Version(ctx context.Context) (string, error) {
	d, err := s.admin.DescribeBroker(ctx, "")
	if err != nil {
		return "", fmt.Errorf("describe broker: %w", err)
	}
	return fmt.Sprintf("broker %s, journal %s, %s", d.Version, d.JournalMode, d.GoVersion), nil
}

func (s *sequiturSystem) Usage(ctx context.Context) (Usage, bool, error) {
	d, err := s.admin.DescribeBroker(ctx, "")
	if err != nil {
		return Usage{}, false, fmt.Errorf("describe broker: %w", err)
	}
	return usageOf(&d), true, nil
}

func usageOf(d *sequitur.BrokerDescription) Usage {
	u := Usage{
		PID: int(d.PID), CPU: time.Duration(d.CPUUserUs+d.CPUSystemUs) * time.Microsecond,
		RSS: d.RSSBytes, PeakRSS: d.PeakRSSBytes, FreeBytes: d.DiskFree,
	}
	for _, stat := range d.Stats {
		if stat.Name == mallocsStat {
			u.Mallocs = uint64(stat.Value)
		}
	}
	return u
}

func (s *sequiturSystem) Close() error { return s.admin.Close() }

func (s *sequiturSystem) CreateStream(ctx context.Context, spec StreamSpec) (Stream, error) {
	cfg := sequitur.DefaultTopicConfig()
	cfg.Partitions, cfg.ReplicationFactor = uint32(max(spec.Partitions, 1)), uint16(max(spec.Replicas, 1))
	if err := setNamed(&cfg.Fsync, "fsync", defaulted(spec.Fsync, "always")); err != nil {
		return nil, err
	}
	if err := s.admin.CreateTopic(ctx, spec.Name, cfg); err != nil {
		return nil, fmt.Errorf("create topic %s: %w", spec.Name, err)
	}
	return &sequiturStream{sys: s, spec: spec}, nil
}

type sequiturStream struct {
	sys  *sequiturSystem
	spec StreamSpec
}

func (st *sequiturStream) Delete(ctx context.Context) error {
	if err := st.sys.admin.DeleteTopic(ctx, st.spec.Name); err != nil {
		return fmt.Errorf("delete topic %s: %w", st.spec.Name, err)
	}
	return nil
}

func (st *sequiturStream) Publisher(ctx context.Context, spec PublisherSpec) (Publisher, error) {
	var (
		acks  sequitur.Acks
		codec sequitur.Codec
	)
	if err := setNamed(&acks, "acks", defaulted(st.spec.Acks, "quorum")); err != nil {
		return nil, err
	}
	if err := setNamed(&codec, "compression", defaulted(st.spec.Compression, "none")); err != nil {
		return nil, err
	}
	client, err := sequitur.Connect(ctx, st.sys.servers, sequitur.WithClientName("bench producer"))
	if err != nil {
		return nil, err
	}
	options := []sequitur.ProducerOption{
		sequitur.WithAcks(acks), sequitur.WithCompression(codec), sequitur.WithLinger(spec.Linger),
	}
	if spec.BatchBytes > 0 {
		options = append(options, sequitur.WithBatchBytes(spec.BatchBytes))
	}
	producer, err := client.NewProducer(options...)
	if err != nil {
		return nil, errors.Join(err, client.Close())
	}
	return &sequiturPublisher{client: client, producer: producer, topic: st.spec.Name}, nil
}

// sequiturPublisher is a producer with a client, so a connection, of its own.
type sequiturPublisher struct {
	client   *sequitur.Client
	producer *sequitur.Producer
	topic    string
}

func (p *sequiturPublisher) Send(ctx context.Context, r Outgoing) error {
	_, err := p.producer.Send(ctx, sequitur.Record{Topic: p.topic, Key: r.Key, Value: r.Value})
	return err
}

func (p *sequiturPublisher) SendAsync(ctx context.Context, r Outgoing, probe *Probe) error {
	out := sequitur.Record{Topic: p.topic, Key: r.Key, Value: r.Value}
	if probe == nil {
		return p.producer.SendAsync(ctx, out, nil) // its failure is Flush's
	}
	if probe.acked == nil {
		// Made once per probe and kept: probes are used again and again.
		probe.acked = func(_ sequitur.Ack, err error) { probe.Done(err) }
	}
	return p.producer.SendAsync(ctx, out, probe.acked)
}

func (p *sequiturPublisher) Flush(ctx context.Context) error { return p.producer.Flush(ctx) }

func (p *sequiturPublisher) Close(ctx context.Context) error {
	return errors.Join(p.producer.Close(ctx), p.client.Close())
}

func (st *sequiturStream) Consumer(ctx context.Context, _ ConsumerKind) (Consumer, error) {
	client, err := sequitur.Connect(ctx, st.sys.servers, sequitur.WithClientName("bench consumer"))
	if err != nil {
		return nil, err
	}
	consumer, err := client.NewConsumer(ctx, []string{st.spec.Name}, sequitur.From(sequitur.Start()))
	if err != nil {
		return nil, errors.Join(err, client.Close())
	}
	return &sequiturConsumer{client: client, consumer: consumer}, nil
}

type sequiturConsumer struct {
	client   *sequitur.Client
	consumer *sequitur.Consumer
}

func (c *sequiturConsumer) Run(ctx context.Context, fn func(value []byte) bool) error {
	buf := make([]sequitur.Record, pollRecords)
	for {
		n, err := c.consumer.Poll(ctx, buf)
		if err != nil {
			return err
		}
		for i := range buf[:n] {
			if !fn(buf[i].Value) {
				return nil
			}
		}
	}
}

func (c *sequiturConsumer) Close() error { return errors.Join(c.consumer.Close(), c.client.Close()) }

func defaulted(s, fallback string) string {
	if s == "" {
		return fallback
	}
	return s
}

// setNamed sets an enumeration to the value that is called name.
func setNamed[T interface {
	~uint8
	fmt.Stringer
}](into *T, what, name string) error {
	const most = 16
	var names []string
	for v := range T(most) {
		s := v.String()
		if s == name {
			*into = v
			return nil
		}
		if !strings.ContainsAny(s, "(?") {
			names = append(names, s)
		}
	}
	return fmt.Errorf("%s %q: choose one of %s", what, name, strings.Join(names, ", "))
}
