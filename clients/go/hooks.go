package sequitur

import (
	"context"
	"time"
)

// Hooks observe a client, for metrics and tracing. Embed [NoHooks] and override what
// is needed: methods may be added. Calls come from many goroutines, from inside of
// the client: they must be quick and must not call the client. There is no call per
// record, save for [RecordHooks].
type Hooks interface {
	// Connected reports an attempt to connect; err is nil when it succeeded.
	Connected(addr string, took time.Duration, err error)
	// Disconnected reports the loss of a connection that was not asked for.
	Disconnected(addr string, err error)
	// BreakerChanged reports a change of a broker's circuit breaker between "closed",
	// "half-open" and "open".
	BreakerChanged(addr, from, to string)
	// Produced reports a batch that was acknowledged or has failed for good.
	Produced(ProduceEvent)
	// ProduceRetried reports that a batch will be sent again, and why.
	ProduceRetried(topic string, partition int32, err error)
	// ProducerReset reports that a producer went on under a new epoch for a partition.
	// lost is true if the broker lacks records that it had acknowledged, as can happen
	// after a crash on topics with fsync interval or never.
	ProducerReset(topic string, partition int32, lost bool, err error)
	// Fetched reports an answered fetch.
	Fetched(FetchEvent)
	// CorruptSkipped reports damaged records that a consumer with [WithSkipCorrupt]
	// left out: the offsets from..to-1.
	CorruptSkipped(topic string, partition int32, from, to int64, err error)
	// PositionReset reports a consumer's jump under [WithOutOfRange].
	PositionReset(topic string, partition int32, from, to int64)
}

// RecordHooks are called for every record if the installed [Hooks] implement them
// too: for tracing, at a price per record.
type RecordHooks interface {
	// Sending is called before a record is copied in; it may add headers (by making a
	// new slice). The context is the caller's.
	Sending(ctx context.Context, r *Record)
	// Received is called before a record is handed out.
	Received(ctx context.Context, r *Record)
}

// ProduceEvent is the end of a batch.
type ProduceEvent struct {
	Topic      string
	Partition  int32
	Records    int
	Bytes      int           // as sent, compressed; 0 if the batch was never built or failed in flight
	Attempts   int           // requests that carried the batch
	Took       time.Duration // from the first record's append to the answer
	Duplicates int           // records dropped because of their message id
	Err        error         // nil: acknowledged
}

// FetchEvent is an answered fetch.
type FetchEvent struct {
	Broker     string
	Partitions int // with data in the answer
	Batches    int
	Bytes      int
	Took       time.Duration
	Err        error
}

// NoHooks ignores everything.
type NoHooks struct{}

// Connected does nothing.
func (NoHooks) Connected(string, time.Duration, error) {}

// Disconnected does nothing.
func (NoHooks) Disconnected(string, error) {}

// BreakerChanged does nothing.
func (NoHooks) BreakerChanged(_, _, _ string) {}

// Produced does nothing.
func (NoHooks) Produced(ProduceEvent) {}

// ProduceRetried does nothing.
func (NoHooks) ProduceRetried(string, int32, error) {}

// ProducerReset does nothing.
func (NoHooks) ProducerReset(string, int32, bool, error) {}

// Fetched does nothing.
func (NoHooks) Fetched(FetchEvent) {}

// CorruptSkipped does nothing.
func (NoHooks) CorruptSkipped(string, int32, int64, int64, error) {}

// PositionReset does nothing.
func (NoHooks) PositionReset(string, int32, int64, int64) {}
