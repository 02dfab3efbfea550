package bench

import (
	"context"
	"time"

	sequitur "github.com/sequitur-mq/sequitur/clients/go"
)

// A System is one running server under measurement. Its methods are safe for concurrent use.
type System interface {
	// Name is short and unique in a run: "sequitur", "jetstream lazy".
	Name() string
	// Durability says what an acknowledgement is worth for the given stream: fsync mode, acks, how it is known.
	Durability(s StreamSpec) string
	// Version names server and client.
	Version(ctx context.Context) (string, error)
	// CreateStream makes a new, empty stream (a topic with its partitions); Close of the stream deletes it.
	CreateStream(ctx context.Context, spec StreamSpec) (Stream, error)
	// Usage reads the server's counters; ok is false where the server does not run where they can be read.
	Usage(ctx context.Context) (u Usage, ok bool, err error)
	Close() error
}

// StreamSpec is what a workload needs from a stream.
type StreamSpec struct {
	Name       string `json:"-"`
	Partitions int    `json:"partitions"`
	// Replicas is how many servers hold each record; 0 is 1.
	Replicas int `json:"replicas,omitempty"`
	// Fsync is a topic's fsync mode (always, interval, never). JetStream's is a property of the server.
	Fsync string `json:"fsync,omitempty"`
	// Acks is none, leader, quorum or all.
	Acks string `json:"acks,omitempty"`
	// Compression is what the producer applies: none, s2 or zstd.
	Compression string `json:"compression,omitempty"`
}

// Stream is an open topic or stream.
type Stream interface {
	// Publisher opens a connection of its own.
	Publisher(ctx context.Context, spec PublisherSpec) (Publisher, error)
	// Consumer opens a connection of its own that reads everything in the stream from its start and follows.
	Consumer(ctx context.Context, kind ConsumerKind) (Consumer, error)
	// Delete removes the stream with its data.
	Delete(ctx context.Context) error
}

// PublishMode is a way of publishing.
type PublishMode string

const (
	// Async keeps many records in flight.
	Async PublishMode = "async"
	// FastBatch is JetStream's batched ingest, its best mode. Sequitur has one way only and treats it as Async.
	FastBatch PublishMode = "fast batch"
	// Sync waits for each acknowledgement before it sends the next.
	Sync PublishMode = "sync"
)

// PublisherSpec configures a publisher.
type PublisherSpec struct {
	Mode PublishMode
	// InFlight bounds unacknowledged records where the client counts records (JetStream).
	InFlight int
	// Linger waits for fuller batches, BatchBytes is when one is full (Sequitur); 0 is the client's default.
	Linger     time.Duration
	BatchBytes int
	// Persist has Send try again until the record is acknowledged, whatever becomes of a server. Sequitur's client always
	// does; JetStream's is asked again after a quarter of a second without an answer.
	Persist bool
	// Detour has a client of JetStream, which cannot choose by stream, connect to a server that does not lead it.
	Detour bool
}

// Publisher sends records. Send may be called concurrently, SendAsync belongs to one goroutine.
type Publisher interface {
	// Send returns once the record is acknowledged.
	Send(ctx context.Context, r Outgoing) error
	// SendAsync queues the record; key and value are copied or not kept. A probe that is not nil is told of the
	// acknowledgement. It blocks while too much is in flight.
	SendAsync(ctx context.Context, r Outgoing, probe *Probe) error
	// Flush waits until everything queued is acknowledged, and reports the first failure since the last Flush.
	Flush(ctx context.Context) error
	Close(ctx context.Context) error
}

// Outgoing is a record to send. The partition is chosen by Key; without a key, by the client.
type Outgoing struct {
	Key, Value []byte
}

// Probe measures one record on its way: from is the intended (open loop) or actual (closed loop) time of sending.
type Probe struct {
	from   time.Time
	into   *Histogram
	onDone func(*Probe, error)
	acked  func(sequitur.Ack, error) // Done in the shape that Sequitur's client wants
}

// Done is called by a publisher when the record was acknowledged (nil) or failed.
func (p *Probe) Done(err error) {
	if err == nil {
		p.into.Record(time.Since(p.from))
	}
	if p.onDone != nil {
		p.onDone(p, err)
	}
}

// ConsumerKind is a way of consuming.
type ConsumerKind string

const (
	// Ordered is the plain ordered reader: Sequitur's consumer; a JetStream push ordered consumer.
	Ordered ConsumerKind = "ordered"
	// PullExplicit is JetStream's pull consumer with an explicit ack per message.
	PullExplicit ConsumerKind = "pull, explicit ack"
)

// Consumer hands out values in order.
type Consumer interface {
	// Run calls fn for each record until fn returns false, the context ends or reading fails. The value may be used
	// only during the call.
	Run(ctx context.Context, fn func(value []byte) bool) error
	Close() error
}

// Usage is what a server has used since it started.
type Usage struct {
	PID       int           `json:"pid"`
	CPU       time.Duration `json:"-"` // user + system
	RSS       uint64        `json:"rss"`
	PeakRSS   uint64        `json:"peakRss"`
	Mallocs   uint64        `json:"mallocs,omitempty"` // heap objects allocated; 0 where not told
	FreeBytes uint64        `json:"-"`                 // left on the data directory's file system; 0 where not told
}

// add makes u what two servers have used together; the process is that of the first.
func (u *Usage) add(other Usage) {
	if u.PID == 0 {
		u.PID, u.FreeBytes = other.PID, other.FreeBytes
	}
	u.CPU += other.CPU
	u.RSS += other.RSS
	u.PeakRSS += other.PeakRSS
	u.Mallocs += other.Mallocs
	u.FreeBytes = min(u.FreeBytes, other.FreeBytes)
}
