package sequitur

import (
	"context"
	"iter"
)

// Consumer reads partitions. It has one reader at a time: Records and Poll must not
// run concurrently; Positions and Close may be called from anywhere.
type Consumer struct {
	opts consumerOptions
}

// NewConsumer makes a consumer of topics. Positions are settled before it returns: with
// From(End()) every record acknowledged after NewConsumer returned is seen.
func (c *Client) NewConsumer(ctx context.Context, topics []string, opts ...ConsumerOption) (*Consumer, error) {
	k := &Consumer{opts: defaultConsumerOptions()}
	for _, o := range opts {
		o(&k.opts)
	}
	return nil, errNotYet("make consumer")
}

// Records hands out records as they come, in order per partition, and waits for more,
// until the context ends, the consumer is closed, or, with [UntilEnd], the end is
// reached; the latter ends the sequence without an error. An error is the last item.
// Breaking off and calling Records again goes on behind the last record handed out.
// After [ErrCorrupt] and [ErrOffsetOutOfRange] the position stays: Seek to go on.
func (k *Consumer) Records(ctx context.Context) iter.Seq2[Record, error] {
	return func(yield func(Record, error) bool) { yield(Record{}, errNotYet("consume")) }
}

// Poll fills buf with the next records and returns how many: at least one, waiting for
// it if need be. It is the fast path: nothing is allocated per record. With [UntilEnd]
// it returns 0 and io.EOF at the end. Headers may be kept, like keys and values.
func (k *Consumer) Poll(ctx context.Context, buf []Record) (int, error) {
	return 0, errNotYet("consume")
}

// PartitionPosition is how far a consumer is in a partition.
type PartitionPosition struct {
	Topic     string
	Partition int32
	Offset    int64 // of the next record to hand out
	End       int64 // last known high watermark, -1 before the first answer
}

// Positions returns the positions by topic and partition. A record handed out counts
// as read.
func (k *Consumer) Positions() []PartitionPosition { return nil }

// Seek moves a partition's position; what was fetched ahead of it is dropped. It must
// not run concurrently with Records or Poll, but may be called inside of a loop over
// Records.
func (k *Consumer) Seek(ctx context.Context, topic string, partition int32, to Position) error {
	return errNotYet("seek")
}

// Close ends the fetching and wakes up the reader with [ErrClosed]. It waits for the
// consumer's goroutines.
func (k *Consumer) Close() error { return nil }
