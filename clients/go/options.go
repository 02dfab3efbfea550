package sequitur

import (
	"context"
	"net"
	"time"
)

// Option configures a [Client].
type Option func(*clientOptions)

type clientOptions struct {
	name           string
	rack           string
	dial           func(ctx context.Context, network, addr string) (net.Conn, error)
	dialTimeout    time.Duration
	requestTimeout time.Duration
	backoffFirst   time.Duration
	backoffMax     time.Duration
	breakerAfter   uint32
	breakerOpen    time.Duration
	hooks          Hooks
}

func defaultClientOptions() clientOptions {
	dialer := &net.Dialer{KeepAlive: 15 * time.Second}
	return clientOptions{
		name:           "sequitur-go",
		dial:           dialer.DialContext,
		dialTimeout:    5 * time.Second,
		requestTimeout: 30 * time.Second,
		backoffFirst:   20 * time.Millisecond,
		backoffMax:     2 * time.Second,
		breakerAfter:   5,
		breakerOpen:    time.Second,
		hooks:          NoHooks{},
	}
}

func (o *clientOptions) check() error {
	switch {
	case o.dial == nil || o.hooks == nil:
		return misuse("connect", "the dialer and the hooks must not be nil")
	case o.dialTimeout <= 0 || o.requestTimeout <= 0:
		return misuse("connect", "timeouts must be positive")
	case o.backoffFirst <= 0 || o.backoffMax < o.backoffFirst:
		return misuse("connect", "the back-off must be positive, and its maximum not below its start")
	case o.breakerAfter == 0 || o.breakerOpen <= 0:
		return misuse("connect", "the breaker's figures must be positive")
	}
	return nil
}

// WithClientName sets the name shown in the broker's logs and metrics.
func WithClientName(name string) Option { return func(o *clientOptions) { o.name = name } }

// WithRack names the failure domain that the client is in, as brokers name theirs; see
// [ReadNearest].
func WithRack(rack string) Option { return func(o *clientOptions) { o.rack = rack } }

// WithDialer replaces how connections are made, for example for TLS or tests.
func WithDialer(dial func(ctx context.Context, network, addr string) (net.Conn, error)) Option {
	return func(o *clientOptions) { o.dial = dial }
}

// WithDialTimeout bounds one attempt to connect, greeting included. Default 5 s.
func WithDialTimeout(d time.Duration) Option { return func(o *clientOptions) { o.dialTimeout = d } }

// WithRequestTimeout sets after which time without an answer a connection counts as
// dead: it is closed and its requests are sent again on a new one. Default 30 s.
func WithRequestTimeout(d time.Duration) Option {
	return func(o *clientOptions) { o.requestTimeout = d }
}

// WithRetryBackoff sets the waits between retries: the first retry of anything is
// immediate, the second comes after about first, later ones after twice the wait
// before, at most max, each with jitter of +-50 %. Defaults 20 ms and 2 s.
func WithRetryBackoff(first, max time.Duration) Option {
	return func(o *clientOptions) { o.backoffFirst, o.backoffMax = first, max }
}

// WithBreaker sets the circuit breaker that each broker has. It spares a broker that is
// gone; a failover to another one does not wait for it. After that many failed
// connection attempts in a row none is made for openFor, then a single one decides.
// Defaults 5 and 1 s.
func WithBreaker(failures uint32, openFor time.Duration) Option {
	return func(o *clientOptions) { o.breakerAfter, o.breakerOpen = failures, openFor }
}

// WithHooks installs observers for metrics and tracing.
func WithHooks(h Hooks) Option { return func(o *clientOptions) { o.hooks = h } }

// ProducerOption configures a [Producer].
type ProducerOption func(*producerOptions)

type producerOptions struct {
	name            string
	acks            Acks
	codec           Codec
	linger          time.Duration
	batchBytes      int
	maxBuffered     int64
	block           bool
	maxInFlight     int
	deliveryTimeout time.Duration
	partitioner     func(topic string, key []byte, partitions int32) int32
	manual          bool
}

func defaultProducerOptions() producerOptions {
	return producerOptions{
		acks:            AcksQuorum,
		batchBytes:      128 << 10,
		maxBuffered:     64 << 20,
		block:           true,
		maxInFlight:     maxInFlightLimit,
		deliveryTimeout: 2 * time.Minute,
	}
}

// maxInFlightLimit is also how many batches per partition and producer may be
// unanswered; the broker remembers twice as many to recognise repeats.
const maxInFlightLimit = 8

// WithName makes a named producer: it keeps its identity over restarts, and a new
// producer of the same name fences the old one, whose sends then fail with
// [ErrProducerFenced] for good.
func WithName(name string) ProducerOption { return func(o *producerOptions) { o.name = name } }

// WithAcks sets when a send counts as done. Default [AcksQuorum].
func WithAcks(acks Acks) ProducerOption { return func(o *producerOptions) { o.acks = acks } }

// WithCompression sets the compression of batches. Default [CodecNone].
func WithCompression(codec Codec) ProducerOption { return func(o *producerOptions) { o.codec = codec } }

// WithLinger lets a batch that is not full wait that long for more records though it
// could leave. Default 0: batches form by themselves while requests are in flight.
func WithLinger(d time.Duration) ProducerOption { return func(o *producerOptions) { o.linger = d } }

// WithBatchBytes sets the size, before compression, at which a batch is full and may
// leave though requests are in flight. It is lowered to what the topic takes. Default
// 128 KiB.
func WithBatchBytes(n int) ProducerOption { return func(o *producerOptions) { o.batchBytes = n } }

// WithMaxBufferedBytes bounds the memory of records not yet acknowledged; an eighth
// more may be kept for reuse while records come. Default 64 MiB. See [WithBlockOnFull].
func WithMaxBufferedBytes(n int64) ProducerOption {
	return func(o *producerOptions) { o.maxBuffered = n }
}

// WithBlockOnFull says what sends do when the buffer is full: wait for room until
// their context ends (true, the default), or fail with [ErrBufferFull] at once.
func WithBlockOnFull(block bool) ProducerOption { return func(o *producerOptions) { o.block = block } }

// WithMaxInFlight sets how many produce requests may be unanswered per broker, 1 to 8.
// Default 8.
func WithMaxInFlight(n int) ProducerOption { return func(o *producerOptions) { o.maxInFlight = n } }

// WithDeliveryTimeout bounds the time from a send to its acknowledgement, retries
// included; after it the send fails with [ErrTimeout]. Default 2 minutes.
func WithDeliveryTimeout(d time.Duration) ProducerOption {
	return func(o *producerOptions) { o.deliveryTimeout = d }
}

// WithPartitioner replaces the topic's own partitioner for records with a key or a
// message id. The function must return 0..partitions-1 and must be pure; records of a
// key keep their order only while all producers agree on it.
func WithPartitioner(f func(topic string, key []byte, partitions int32) int32) ProducerOption {
	return func(o *producerOptions) { o.partitioner = f }
}

// WithManualPartition makes sends use Record.Partition instead of a partitioner.
func WithManualPartition() ProducerOption { return func(o *producerOptions) { o.manual = true } }

// ConsumerOption configures a [Consumer].
type ConsumerOption func(*consumerOptions)

type consumerOptions struct {
	from           Position
	partitions     []int32
	skipCorrupt    bool
	untilEnd       bool
	outOfRange     OutOfRangePolicy
	readFrom       ReadFrom
	prefetchBytes  int
	fetchBytes     int
	partitionBytes int
	maxWait        time.Duration
	minBytes       int
}

func defaultConsumerOptions() consumerOptions {
	return consumerOptions{
		from:           Start(),
		prefetchBytes:  16 << 20,
		fetchBytes:     4 << 20,
		partitionBytes: 1 << 20,
		maxWait:        500 * time.Millisecond,
		minBytes:       1,
	}
}

// From sets where partitions are read from. Default [Start].
func From(p Position) ConsumerOption { return func(o *consumerOptions) { o.from = p } }

// WithPartitions limits the consumer to these partitions of each topic. Default: all.
func WithPartitions(partitions ...int32) ConsumerOption {
	return func(o *consumerOptions) { o.partitions = append(o.partitions, partitions...) }
}

// UntilEnd ends the reading at the end that each partition had when the consumer was
// made, instead of following.
func UntilEnd() ConsumerOption { return func(o *consumerOptions) { o.untilEnd = true } }

// WithSkipCorrupt reads on behind damaged records instead of failing with
// [ErrCorrupt]. Every hole is reported to [Hooks].CorruptSkipped.
func WithSkipCorrupt() ConsumerOption { return func(o *consumerOptions) { o.skipCorrupt = true } }

// OutOfRangePolicy says what happens when a position is no longer, or not yet, within
// a partition.
type OutOfRangePolicy uint8

const (
	// OutOfRangeFails ends the reading with [ErrOffsetOutOfRange]. The default.
	OutOfRangeFails OutOfRangePolicy = iota
	// OutOfRangeToStart goes on at the first record still stored.
	OutOfRangeToStart
	// OutOfRangeToEnd goes on with the next record to be written.
	OutOfRangeToEnd
)

// WithOutOfRange sets the policy for positions outside of a partition, for example
// because retention removed what was to be read. Every jump is reported to
// [Hooks].PositionReset.
func WithOutOfRange(policy OutOfRangePolicy) ConsumerOption {
	return func(o *consumerOptions) { o.outOfRange = policy }
}

// WithPrefetchBytes bounds what is fetched ahead of the application. Default 16 MiB.
// A single batch above the bound is fetched all the same.
func WithPrefetchBytes(n int) ConsumerOption {
	return func(o *consumerOptions) { o.prefetchBytes = n }
}

// WithFetchBytes bounds one answer of a broker, and the part of one partition in it.
// Defaults 4 MiB and 1 MiB.
func WithFetchBytes(total, perPartition int) ConsumerOption {
	return func(o *consumerOptions) { o.fetchBytes, o.partitionBytes = total, perPartition }
}

// WithMaxWait bounds how long the broker holds a fetch back while it has less than
// minBytes. Defaults 500 ms and 1 byte.
func WithMaxWait(d time.Duration, minBytes int) ConsumerOption {
	return func(o *consumerOptions) { o.maxWait, o.minBytes = d, minBytes }
}

// ReadFrom says which replica a consumer reads a partition from.
type ReadFrom uint8

const (
	// ReadLeader reads from the leader, where records appear first. The default.
	ReadLeader ReadFrom = iota
	// ReadNearest reads from a replica in the client's rack (see [WithRack]), from the
	// leader where there is none or where it does not serve. Records are the same, in
	// the same order, and may come a little later.
	ReadNearest
)

// WithReadFrom sets which replica partitions are read from.
func WithReadFrom(r ReadFrom) ConsumerOption { return func(o *consumerOptions) { o.readFrom = r } }
