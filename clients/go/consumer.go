package sequitur

import (
	"cmp"
	"context"
	"io"
	"iter"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/sequitur-mq/sequitur/wire"
)

// Consumer reads partitions. It has one reader at a time: Records, Poll and Seek must
// not run concurrently; Positions and Close may be called from anywhere.
//
// From the first Records or Poll on, brokers are asked for more in the background as
// long as there is room (see [WithPrefetchBytes]). Lost connections and changed leaders
// are dealt with there; they show in the [Hooks] only.
type Consumer struct {
	client *Client
	opts   consumerOptions
	hooks  Hooks
	record RecordHooks // nil if not installed
	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup // fetchers
	parts  []*consumed    // by topic and partition

	reading atomic.Bool
	arrived chan struct{} // holds a token when the reader should look again
	cur     cursor        // the reader's

	mu       sync.Mutex
	started  bool
	fetchers map[*node]*fetcher
	queue    fifo[chunk]
	buffered int // bytes in queue and cur
	reserved int // bytes that requests under way may bring
	stuck    []*consumed
	lastErr  error // why the last fetch failed, if it did
}

// consumed is one partition as read by a consumer. Guarded by Consumer.mu save where
// said.
type consumed struct {
	name     string
	index    int32
	position atomic.Int64 // of the next record to hand out; stored by the reader
	end      atomic.Int64 // last known high watermark, -1: none
	until    int64        // where to stop with UntilEnd, else -1

	topic    *topicInfo
	fetcher  *fetcher
	next     int64  // offset to fetch next
	gen      uint64 // grows with every Seek: what is queued from before is void
	ask      uint64 // grows when what was asked for is void
	inFetch  bool   // part of a request under way
	buffered int    // bytes in the queue
	failed   *Error // not fetched any more
	verify   bool   // a checksum was wrong: have the broker check
	badCRC   int    // wrong checksums in a row
	ready    int64  // client clock before which it is not fetched
	retry    retrier

	epoch    uint32 // of the leader, as known when the partition was placed
	follower bool   // placed with a replica that does not lead
	leadOnly int64  // client clock until which only the leader is asked
	moved    bool   // waits for fresh metadata
	huntAt   int64  // client clock from which they count as fresh; with moved
	hunt     retrier
	doubtful int64 // client clock when a position was first said to be beyond the end, or not to be there yet; 0: it is not
}

// NewConsumer makes a consumer of topics. Positions are settled before it returns: with
// From(End()) every record acknowledged after NewConsumer returned is seen.
func (c *Client) NewConsumer(ctx context.Context, topics []string, opts ...ConsumerOption) (*Consumer, error) {
	const op = "make consumer"
	k := &Consumer{
		client: c, opts: defaultConsumerOptions(), hooks: c.opts.hooks,
		arrived: make(chan struct{}, 1), fetchers: map[*node]*fetcher{},
	}
	for _, o := range opts {
		o(&k.opts)
	}
	if err := k.opts.check(len(topics)); err != nil {
		return nil, err
	}
	k.record, _ = c.opts.hooks.(RecordHooks)
	names := slices.Clone(topics)
	slices.Sort(names)
	for _, name := range slices.Compact(names) {
		t, err := c.topic(ctx, op, name)
		if err != nil {
			return nil, err
		}
		if err := k.assign(ctx, op, t); err != nil {
			return nil, err
		}
	}
	k.ctx, k.cancel = context.WithCancel(context.Background())
	if err := c.enlist(op, k); err != nil {
		k.cancel()
		return nil, err
	}
	return k, nil
}

// assign adds the partitions of a topic with their start positions.
func (k *Consumer) assign(ctx context.Context, op string, t *topicInfo) error {
	indexes, err := t.choose(op, slices.Compact(slices.Sorted(slices.Values(k.opts.partitions))))
	if err != nil {
		return err
	}
	from := make([]PartitionOffset, len(indexes))
	if _, ask := k.opts.from.wireKind(); ask {
		if from, err = k.client.offsets(ctx, op, t, k.opts.from, indexes); err != nil {
			return err
		}
	} else {
		for i := range from {
			from[i].Offset = k.opts.from.offset
		}
	}
	var ends []PartitionOffset
	if k.opts.untilEnd {
		if ends, err = k.client.offsets(ctx, op, t, End(), indexes); err != nil {
			return err
		}
	}
	for i, index := range indexes {
		p := &consumed{name: t.name, index: index, topic: t, next: from[i].Offset, until: -1, retry: k.client.newRetrier(), hunt: k.client.newHunter()}
		p.position.Store(p.next)
		p.end.Store(-1)
		if ends != nil {
			p.until = ends[i].Offset
			p.end.Store(p.until)
		}
		k.parts = append(k.parts, p)
	}
	return nil
}

func (o *consumerOptions) check(topics int) error {
	const op = "make consumer"
	switch {
	case topics == 0:
		return misuse(op, "no topic given")
	case o.from.kind == positionOffset && o.from.offset < 0:
		return misuse(op, "the offset to start from must not be negative")
	case o.prefetchBytes < 1 || o.fetchBytes < 1 || o.fetchBytes > maxAnswer/4 || o.partitionBytes < 1:
		return misuse(op, "fetches must be 1 byte to 16 MiB, the prefetch must be positive")
	case o.maxWait < 0 || o.minBytes < 0:
		return misuse(op, "wait and minimum must not be negative")
	case o.readFrom > ReadNearest:
		return misuse(op, "read from the leader or from the nearest replica")
	}
	return nil
}

// Records hands out records as they come, in order per partition, and waits for more,
// until the context ends, the consumer is closed, or, with [UntilEnd], the end is
// reached; the latter ends the sequence without an error. An error is the last item.
// Breaking off and calling Records again goes on behind the last record handed out.
// After [ErrCorrupt] and [ErrOffsetOutOfRange] the position stays: Seek to go on.
func (k *Consumer) Records(ctx context.Context) iter.Seq2[Record, error] {
	return func(yield func(Record, error) bool) {
		if err := k.beginReading(); err != nil {
			yield(Record{}, err)
			return
		}
		defer k.reading.Store(false)
		var r Record
		for {
			if !k.cur.next(&r) {
				err := k.advance(ctx)
				if err == io.EOF {
					return
				}
				if err != nil {
					yield(Record{}, err)
					return
				}
				continue
			}
			if k.record != nil {
				r = k.observed(ctx, r)
			}
			if !yield(r, nil) {
				return
			}
		}
	}
}

// Poll fills buf with the next records and returns how many: at least one, waiting for
// it if need be. It is the fast path: nothing is allocated per record. With [UntilEnd]
// it returns 0 and io.EOF at the end. Headers may be kept, like keys and values.
func (k *Consumer) Poll(ctx context.Context, buf []Record) (int, error) {
	if len(buf) == 0 {
		return 0, misuse("consume", "the buffer for records is empty")
	}
	if err := k.beginReading(); err != nil {
		return 0, err
	}
	defer k.reading.Store(false)
	for {
		n := 0
		for n < len(buf) && k.cur.next(&buf[n]) {
			n++
		}
		if n > 0 {
			if k.record != nil {
				for i := range buf[:n] {
					buf[i] = k.observed(ctx, buf[i])
				}
			}
			return n, nil
		}
		if err := k.advance(ctx); err != nil {
			return 0, err
		}
	}
}

func (k *Consumer) observed(ctx context.Context, r Record) Record {
	k.record.Received(ctx, &r)
	return r
}

func (k *Consumer) beginReading() error {
	if !k.reading.CompareAndSwap(false, true) {
		return misuse("consume", "the consumer is being read already; use one consumer per goroutine")
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if !k.started && k.ctx.Err() == nil {
		k.started = true
		for _, p := range k.parts {
			k.place(p)
		}
	}
	return nil
}

// advance readies the cursor for more records, waiting for them if need be. io.EOF is
// the end with UntilEnd.
func (k *Consumer) advance(ctx context.Context) error {
	for {
		if err := ctx.Err(); err != nil {
			return k.gone(ctx)
		}
		if k.ctx.Err() != nil {
			return closed("consume", "the consumer")
		}
		more, err := k.cur.nextBatch()
		if more || err != nil {
			return err
		}
		if found, err := k.takeChunk(); err != nil {
			return err
		} else if found {
			continue
		}
		if k.atEnd() {
			return io.EOF
		}
		select {
		case <-k.arrived:
		case <-ctx.Done():
		case <-k.ctx.Done():
		}
	}
}

// gone reports the end of the context, with what kept records from coming, if anything.
func (k *Consumer) gone(ctx context.Context) error {
	e := canceled(ctx, "consume", "")
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.lastErr != nil {
		e.Message += "; the last fetch failed: " + k.lastErr.Error()
	}
	return e
}

// atEnd reports whether all partitions were read to where UntilEnd stops.
func (k *Consumer) atEnd() bool {
	if !k.opts.untilEnd {
		return false
	}
	for _, p := range k.parts {
		if p.position.Load() < p.until {
			return false
		}
	}
	return true
}

// takeChunk moves the cursor to the oldest chunk in the queue, if there is one.
func (k *Consumer) takeChunk() (bool, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.cur.held > 0 {
		k.buffered -= k.cur.held
		k.cur.held = 0
		k.kickAll()
	}
	if len(k.stuck) > 0 {
		return false, k.stuck[0].failed
	}
	if k.queue.len() == 0 {
		return false, nil
	}
	c := k.queue.pop()
	p := c.part
	p.buffered -= len(c.batches)
	if c.gen != p.gen {
		k.buffered -= len(c.batches)
		return true, nil
	}
	if c.err != nil {
		k.stuck = append(k.stuck, p)
		return false, c.err
	}
	k.cur.start(k, c)
	return true, nil
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
func (k *Consumer) Positions() []PartitionPosition {
	list := make([]PartitionPosition, len(k.parts))
	for i, p := range k.parts {
		list[i] = PartitionPosition{Topic: p.name, Partition: p.index, Offset: p.position.Load(), End: p.end.Load()}
	}
	return list
}

// Seek moves a partition's position; what was fetched ahead of it is dropped. It must
// not run concurrently with Records or Poll, but may be called inside of a loop over
// Records.
func (k *Consumer) Seek(ctx context.Context, topic string, partition int32, to Position) error {
	const op = "seek in"
	i, found := slices.BinarySearchFunc(k.parts, partition, func(p *consumed, want int32) int {
		return cmp.Or(cmp.Compare(p.name, topic), cmp.Compare(p.index, want))
	})
	if !found {
		return &Error{Code: Code(wire.CodeUnknownPartition.String()), Op: op, Topic: topic, Partition: partition,
			Message: "the consumer does not read this partition; name it in NewConsumer"}
	}
	p := k.parts[i]
	offset := to.offset
	if _, ask := to.wireKind(); ask {
		k.mu.Lock()
		t := p.topic
		k.mu.Unlock()
		found, err := k.client.offsets(ctx, op, t, to, []int32{partition})
		if err != nil {
			return err
		}
		offset = found[0].Offset
	} else if offset < 0 {
		return misuse(op, "the offset must not be negative")
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	p.gen++
	p.ask++
	p.doubtful = 0
	p.next, p.inFetch, p.verify, p.badCRC, p.failed, p.ready = offset, false, false, 0, nil, 0
	p.position.Store(offset)
	k.stuck = slices.DeleteFunc(k.stuck, func(other *consumed) bool { return other == p })
	if k.cur.part == p {
		k.cur.drop()
	}
	k.dropQueued(p)
	if p.fetcher != nil {
		p.fetcher.hurry = true
	}
	k.kickAll()
	return nil
}

// dropQueued takes the partition's chunks out of the queue. Lock held.
func (k *Consumer) dropQueued(p *consumed) {
	for range k.queue.len() {
		c := k.queue.pop()
		if c.part != p {
			k.queue.push(c)
			continue
		}
		p.buffered -= len(c.batches)
		k.buffered -= len(c.batches)
	}
}

// Close ends the fetching and wakes up the reader with [ErrClosed]. It waits for the
// consumer's goroutines.
func (k *Consumer) Close() error {
	k.abandon()
	k.client.discharge(k)
	return nil
}

func (k *Consumer) abandon() {
	k.mu.Lock()
	k.cancel()
	k.mu.Unlock()
	k.wg.Wait()
}
