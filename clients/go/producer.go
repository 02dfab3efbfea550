package sequitur

import (
	"context"
)

// Producer sends records. It is safe for concurrent use: records of one partition are
// appended in the order in which the calls returned.
type Producer struct {
	opts producerOptions
}

// NewProducer makes a producer. It talks to no broker before its first record.
func (c *Client) NewProducer(opts ...ProducerOption) (*Producer, error) {
	p := &Producer{opts: defaultProducerOptions()}
	for _, o := range opts {
		o(&p.opts)
	}
	return nil, errNotYet("make producer")
}

// Send sends a record and waits for its acknowledgement. When the context ends first
// the error has MaybeDone set: the record stays queued and may still be appended, in
// its place in the order.
func (p *Producer) Send(ctx context.Context, r Record) (Ack, error) {
	return Ack{}, errNotYet("send")
}

// SendAsync queues a record and returns; its contents are copied. done, if not nil, is
// called once with the outcome, in send order per partition, on a goroutine of the
// producer. It must not wait for this producer: no Send, Flush or Close, and no
// SendAsync unless with WithBlockOnFull(false). A slow done holds up later ones and, in
// the end, sends: its record counts as buffered until it returns.
//
// SendAsync waits for a topic's metadata at its first record, and for room in the
// buffer (see [WithBlockOnFull]). An error means that the record was not queued and
// done is not called.
func (p *Producer) SendAsync(ctx context.Context, r Record, done func(Ack, error)) error {
	return errNotYet("send")
}

// Flush waits until every record queued before the call is acknowledged or has
// failed. It returns the first failure since the last Flush of records without a
// callback, or the context's end.
func (p *Producer) Flush(ctx context.Context) error { return nil }

// Close flushes, then stops the producer; no goroutine of it is left. When the context
// ends first, what is not yet acknowledged fails with [ErrClosed]. It returns what
// Flush would.
func (p *Producer) Close(ctx context.Context) error { return nil }
