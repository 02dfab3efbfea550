package broker

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/sequitur-mq/sequitur/record"
	"github.com/sequitur-mq/sequitur/wire"
)

// Raft's library may never answer an entry that it takes while it stops.
func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/hashicorp/raft.(*deferError).Error"))
}

// patience bounds what must happen soon but has no fixed time.
const patience = 30 * time.Second

// testConfig is a broker in a directory of its own, with small files.
func testConfig(t testing.TB) Config {
	cfg := DefaultConfig()
	cfg.DataDir, cfg.Listen, cfg.HTTP = t.TempDir(), "127.0.0.1:0", ""
	cfg.JournalFileBytes, cfg.JournalBytes, cfg.TailBytes = 4<<20, 32<<20, 8<<20
	cfg.ReserveBytes = 1 << 20
	cfg.ScrubInterval = 0
	cfg.Logger = slog.New(slog.DiscardHandler)
	return cfg
}

// startBroker starts a broker that is closed at the end of the test.
func startBroker(t testing.TB, change ...func(*Config)) *Broker {
	t.Helper()
	cfg := testConfig(t)
	for _, c := range change {
		c(&cfg)
	}
	return startConfig(t, cfg)
}

func startConfig(t testing.TB, cfg Config) *Broker {
	t.Helper()
	b, err := Start(context.Background(), cfg)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, b.Close()) })
	return b
}

// A client speaks the protocol, one method per message, and checks nothing.
type client struct {
	t    testing.TB
	nc   net.Conn
	in   *bufio.Reader
	next uint32
}

// dial connects without a hello.
func dial(t testing.TB, b *Broker) *client {
	t.Helper()
	nc, err := net.Dial("tcp", b.Addr())
	require.NoError(t, err)
	c := &client{t: t, nc: nc, in: bufio.NewReaderSize(nc, 256<<10)}
	t.Cleanup(func() { nc.Close() })
	require.NoError(t, nc.SetDeadline(time.Now().Add(patience)))
	return c
}

// connect connects and says hello.
func connect(t testing.TB, b *Broker) *client {
	t.Helper()
	c := dial(t, b)
	var resp wire.HelloResponse
	c.call(wire.KindHello, helloRequest(), &resp)
	require.NoError(t, resp.Err())
	return c
}

func helloRequest() *wire.HelloRequest {
	return &wire.HelloRequest{Magic: wire.Magic, MinVersion: 1, MaxVersion: 1, ClientName: "test", ClientVersion: "1"}
}

// send sends a request without waiting for its answer.
func (c *client) send(kind wire.Kind, m wire.Message, batches ...[]byte) (correlation uint32) {
	c.t.Helper()
	c.next++
	size := 0
	for _, b := range batches {
		size += len(b)
	}
	frame := wire.AppendFrame(nil, wire.FrameHeader{Kind: kind, Version: 1, Correlation: c.next}, m, size)
	for _, b := range batches {
		frame = append(frame, b...)
	}
	_, err := c.nc.Write(frame)
	require.NoError(c.t, err)
	return c.next
}

// A frame is one response.
type frame struct {
	wire.FrameHeader
	metadata, batches []byte
}

func (c *client) read() (f frame, err error) {
	f.FrameHeader, err = wire.ReadFrameHeader(c.in, make([]byte, wire.FrameHeaderSize), wire.FrameLimits{})
	if err != nil {
		return f, err
	}
	body := make([]byte, f.BodyLength())
	if _, err := io.ReadFull(c.in, body); err != nil {
		return f, err
	}
	f.metadata, f.batches = body[:f.MetadataLength], body[f.MetadataLength:]
	return f, nil
}

// receive reads the next response, which must be to the given request.
func (c *client) receive(correlation uint32, m wire.Message) frame {
	c.t.Helper()
	f, err := c.read()
	require.NoError(c.t, err)
	require.Equal(c.t, correlation, f.Correlation)
	require.True(c.t, f.Response())
	require.NoError(c.t, m.Decode(f.metadata))
	return f
}

func (c *client) call(kind wire.Kind, req, resp wire.Message, batches ...[]byte) frame {
	c.t.Helper()
	return c.receive(c.send(kind, req, batches...), resp)
}

// closed checks that the broker has closed the connection.
func (c *client) closed() {
	c.t.Helper()
	_, err := c.read()
	require.Error(c.t, err)
	var timeout net.Error
	require.False(c.t, errors.As(err, &timeout) && timeout.Timeout(), "the connection is still open")
}

// create creates a topic and returns its UUID.
func (c *client) create(name string, partitions uint32, change ...func(*wire.TopicConfig)) wire.UUID {
	c.t.Helper()
	config := wire.DefaultTopicConfig()
	config.Partitions = partitions
	for _, f := range change {
		f(&config)
	}
	var resp wire.CreateTopicsResponse
	c.call(wire.KindCreateTopics, &wire.CreateTopicsRequest{Topics: []wire.NewTopic{{Name: name, Config: config}}}, &resp)
	require.NoError(c.t, resp.Err())
	require.NoError(c.t, resp.Topics[0].Err())
	return resp.Topics[0].UUID
}

// A producer numbers its batches.
type producer struct {
	id    uint64
	epoch uint32
	seq   uint32
}

func (c *client) initProducer(name string) *producer {
	c.t.Helper()
	var resp wire.InitProducerResponse
	c.call(wire.KindInitProducer, &wire.InitProducerRequest{Name: name}, &resp)
	require.NoError(c.t, resp.Err())
	return &producer{id: resp.ProducerID, epoch: resp.Epoch}
}

// batch makes a batch of records with the given values.
func (p *producer) batch(t testing.TB, values ...string) record.Batch {
	t.Helper()
	b := record.NewBuilder(1 << 10)
	for i, v := range values {
		b.Append(int64(1000+i), nil, []byte(v), nil)
	}
	built, err := b.Build(nil, record.CodecNone, p.id, p.epoch, p.seq)
	require.NoError(t, err)
	if p.id != 0 {
		p.seq = built.NextSequence()
	}
	return built
}

func anonymous() *producer { return &producer{} }

func produceRequestFor(topic wire.UUID, partition uint32, batches ...[]byte) *wire.ProduceRequest {
	size := 0
	for _, b := range batches {
		size += len(b)
	}
	return &wire.ProduceRequest{Acks: wire.AcksQuorum, Parts: []wire.ProducePart{{Topic: topic, Partition: partition, Bytes: uint32(size)}}}
}

// produce appends one batch and returns the result of its part.
func (c *client) produce(topic wire.UUID, partition uint32, batch []byte) wire.ProduceResult {
	c.t.Helper()
	var resp wire.ProduceResponse
	c.call(wire.KindProduce, produceRequestFor(topic, partition, batch), &resp, batch)
	require.NoError(c.t, resp.Err())
	require.Len(c.t, resp.Parts, 1)
	return resp.Parts[0]
}

// mustProduce appends records and returns their first offset.
func (c *client) mustProduce(topic wire.UUID, partition uint32, values ...string) int64 {
	c.t.Helper()
	res := c.produce(topic, partition, anonymous().batch(c.t, values...))
	require.NoError(c.t, res.Err())
	return res.BaseOffset
}

func fetchRequestFor(topic wire.UUID, partition uint32, offset int64, wait time.Duration) *wire.FetchRequest {
	return &wire.FetchRequest{
		MaxWaitMs: uint32(wait.Milliseconds()), MaxBytes: 1 << 20,
		Parts: []wire.FetchPart{{Topic: topic, Partition: partition, Offset: offset, MaxBytes: 1 << 20}},
	}
}

// fetch reads one partition once.
func (c *client) fetch(topic wire.UUID, partition uint32, offset int64) (wire.FetchResult, []string) {
	c.t.Helper()
	var resp wire.FetchResponse
	f := c.call(wire.KindFetch, fetchRequestFor(topic, partition, offset, 0), &resp)
	require.NoError(c.t, resp.Err())
	if len(resp.Parts) == 0 {
		return wire.FetchResult{}, nil
	}
	require.Len(c.t, f.batches, int(resp.Parts[0].Bytes))
	return resp.Parts[0], values(c.t, f.batches)
}

// values returns "offset:value" of every record.
func values(t testing.TB, batches []byte) (out []string) {
	t.Helper()
	var reader record.Reader
	var dec record.Decompressor
	for len(batches) > 0 {
		b, rest, err := record.Parse(batches, record.DefaultLimits())
		require.NoError(t, err)
		require.NoError(t, b.Verify())
		require.NoError(t, reader.Reset(b, &dec, record.DefaultLimits()))
		var r record.Record
		for {
			ok, err := reader.Next(&r)
			require.NoError(t, err)
			if !ok {
				break
			}
			out = append(out, fmt.Sprintf("%d:%s", b.BaseOffset()+r.OffsetDelta, r.Value))
		}
		batches = rest
	}
	return out
}
