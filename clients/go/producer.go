package sequitur

import (
	"context"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sequitur-mq/sequitur/record"
	"github.com/sequitur-mq/sequitur/wire"
)

// Producer sends records. It is safe for concurrent use: records of one partition are
// appended in the order in which the calls returned.
//
// # Order and repeats
//
// Batches carry the producer's id, its epoch and sequence numbers. After a lost
// connection or a refusal everything not yet acknowledged is sent again in the old
// order under the old numbers; the broker recognises what it has and refuses gaps.
//
// When the delivery timeout ends the waiting for a batch that was sent but never
// answered, nobody knows whether it was appended, and it might still be lying in some
// buffer on the way. Its records fail with [ErrTimeout] and MaybeDone. Before any later
// record of that partition is sent the producer raises its epoch: from then on the
// broker refuses the old batch, so that it is either in its place already or never
// written, and cannot come after a later record. Other unanswered batches of that
// partition fail in the same way. A named producer asks the broker for the new epoch
// and gets it only if no other producer took over its name meanwhile.
//
// A batch that was only ever refused fails with MaybeDone false; later records take
// its numbers.
type Producer struct {
	client *Client
	opts   producerOptions
	hooks  Hooks
	record RecordHooks // nil if not installed
	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup // senders, callbacks, refresher, clock

	waiters waiterPool
	rules   rules
	identMu sync.Mutex // held while asking for an identity; before mu

	mu          sync.Mutex
	failure     *Error // not nil: closed, or failed for good
	closing     bool
	topics      map[string]*topicState
	last        *topicState
	senders     map[*node]*sender
	ident       identity
	identGen    uint64 // counts identities, 0: none yet
	identWanted bool   // a new identity is needed

	stage     stage
	staged    bool        // the stage is, or was, in use
	stageCost int64       // its part of buffered
	short     atomic.Bool // of memory: nothing more is staged
	starts    []uint32    // scratch of byPartition
	order     []uint32

	buffered int64 // memory of batches not yet recycled, and of the stage
	room     []*roomWaiter
	pool     batchPool
	headers  []Header // scratch
	idBytes  []byte   // scratch

	clock coarseClock

	outstanding int // batches not yet delivered
	flush       uint64
	flushes     []*flushWaiter
	lost        *Error // first failure of a record without callback since the last Flush

	delivered  []*batch // under the lock held now, see unlock
	spare      []*batch
	calls      []*batch // delivered batches with callbacks to run
	spareCalls []*batch
	calling    bool

	sweep task
}

// rules are switched off by tests only, to see that their checkers notice.
type rules struct {
	pipelineUnproven bool // send ahead though the broker may not know the producer
	renumberRetries  bool // retry under new numbers
	keepEpoch        bool // go on under the old epoch after an unknown outcome
	// let the broker's memory of batches run out before the oldest is acknowledged
	countInFlightOnly bool
}

// identity is the producer id and epoch that batches are numbered under; id 0: none.
type identity struct {
	id    uint64
	epoch uint32
}

// topicState is a topic as the producer uses it.
type topicState struct {
	name    string
	uuid    wire.UUID // immutable, like the name
	info    *topicInfo
	parts   []*partition
	open    []*batch // by partition; the batch that takes records, or nil
	route   atomic.Pointer[topicRoute]
	failure *Error // not nil: the topic is gone
	sticky  int32  // partition of records without key
	target  int    // size of a full batch
	limit   int    // size above which a single record cannot be sent
}

// NewProducer makes a producer. It talks to no broker before its first record.
func (c *Client) NewProducer(opts ...ProducerOption) (*Producer, error) {
	p := &Producer{
		client: c, opts: defaultProducerOptions(), hooks: c.opts.hooks,
		topics: map[string]*topicState{}, senders: map[*node]*sender{},
	}
	for _, o := range opts {
		o(&p.opts)
	}
	if err := p.opts.check(); err != nil {
		return nil, err
	}
	p.record, _ = c.opts.hooks.(RecordHooks)
	p.stage.signal = make(chan struct{}, 1)
	p.sweep.run = p.expireAll
	p.clock.task.run = p.tick
	p.ctx, p.cancel = context.WithCancel(context.Background())
	if err := c.enlist("make producer", p); err != nil {
		p.cancel()
		return nil, err
	}
	return p, nil
}

// Send sends a record and waits for its acknowledgement. When the context ends first
// the error has MaybeDone set: the record stays queued and may still be appended, in
// its place in the order.
func (p *Producer) Send(ctx context.Context, r Record) (Ack, error) {
	if p.record != nil {
		r = p.observed(ctx, r)
	}
	w := p.waiters.get()
	s, err := p.enqueue(ctx, &r, nil, w)
	if err != nil {
		p.waiters.put(w)
		return Ack{}, err
	}
	if s != nil {
		s.sendDirectly()
	}
	ack, err, known := p.waiters.wait(ctx, w)
	if !known {
		gone := canceled(ctx, "send to", r.Topic)
		gone.MaybeDone = true
		gone.Message = "the context ended before the acknowledgement; the record stays queued and may still be appended"
		return Ack{}, gone
	}
	return ack, err
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
	if p.record != nil {
		r = p.observed(ctx, r)
	}
	if p.stageRecord(ctx, &r, done) {
		return nil
	}
	_, err := p.enqueue(ctx, &r, done, nil)
	return err
}

// observed calls the hook on a copy, which keeps r off the heap where there is none.
func (p *Producer) observed(ctx context.Context, r Record) Record {
	p.record.Sending(ctx, &r)
	return r
}

// Flush waits until every record queued before the call is acknowledged or has
// failed, its callback included. It returns the first failure since the last Flush of
// records without a callback, or the context's end.
func (p *Producer) Flush(ctx context.Context) error {
	p.mu.Lock()
	p.unstage()
	w := p.startFlush()
	p.unlock()
	if w != nil {
		select {
		case <-w.done:
		case <-ctx.Done():
			p.mu.Lock()
			p.stopFlush(w)
			p.mu.Unlock()
			gone := canceled(ctx, "flush", "")
			gone.MaybeDone = true
			return gone
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.lost; err != nil {
		p.lost = nil
		return err
	}
	return nil
}

// Close flushes, then stops the producer; no goroutine of it is left. When the context
// ends first, what is not yet acknowledged fails with [ErrClosed]. It returns what
// Flush would. Sends that are under way while Close runs may fail.
func (p *Producer) Close(ctx context.Context) error {
	p.mu.Lock()
	again := p.closing
	p.closing = true
	p.endStaging()
	p.unlock()
	if again {
		p.wg.Wait()
		return nil
	}
	err := p.Flush(ctx)
	p.abandon()
	p.client.discharge(p)
	return err
}

// abandon gives up what is not acknowledged and waits for the goroutines.
func (p *Producer) abandon() {
	gone := closed("send", "the producer")
	p.mu.Lock()
	p.closing = true
	p.endStaging()
	for _, s := range p.senders {
		if s.conn != nil && s.sending && p.outstanding > 0 {
			s.conn.kill(ErrClosed) // it may be stuck in a write
		}
	}
	p.failAll(gone)
	p.sweep.stop(p)
	p.clock.task.stop(p)
	p.unlock()
	p.cancel()
	p.wg.Wait()
}

// flushWaiter waits for the batches that were there when it came.
type flushWaiter struct {
	upTo uint64 // batch.flush of the youngest of them
	left int
	done chan struct{}
}

// startFlush returns nil if there is nothing to wait for. Lock held.
func (p *Producer) startFlush() *flushWaiter {
	if p.outstanding == 0 {
		return nil
	}
	w := &flushWaiter{upTo: p.flush, left: p.outstanding, done: make(chan struct{})}
	p.flush++
	p.flushes = append(p.flushes, w)
	for _, s := range p.senders {
		s.wakeIfReady()
	}
	return w
}

func (p *Producer) stopFlush(w *flushWaiter) {
	for i, other := range p.flushes {
		if other == w {
			p.flushes = append(p.flushes[:i], p.flushes[i+1:]...)
			return
		}
	}
}

// countDelivered tells the flushes that a batch has its outcome. Lock held.
func (p *Producer) countDelivered(b *batch) {
	p.outstanding--
	for i := 0; i < len(p.flushes); i++ {
		w := p.flushes[i]
		if b.flush > w.upTo {
			continue
		}
		if w.left--; w.left == 0 {
			close(w.done)
			p.stopFlush(w)
			i--
		}
	}
}

func (o *producerOptions) check() error {
	const op = "make producer"
	switch {
	case o.acks > AcksAll:
		return misuse(op, "acks must be none, leader, quorum or all")
	case o.codec > CodecZstd:
		return misuse(op, "compression must be none, s2 or zstd")
	case o.linger < 0 || o.deliveryTimeout <= 0:
		return misuse(op, "the linger must not be negative, the delivery timeout must be positive")
	case o.batchBytes < 1<<10 || o.batchBytes > wire.MaxBatchBytes:
		return misuse(op, "the batch size must be 1 KiB to 8 MiB")
	case o.maxBuffered < 1<<10:
		return misuse(op, "the buffer must be at least 1 KiB")
	case o.maxInFlight < 1 || o.maxInFlight > maxInFlightLimit:
		return misuse(op, "the requests in flight must be 1 to 8")
	case len(o.name) > wire.MaxTopicNameBytes:
		return misuse(op, "the producer's name has over 200 bytes")
	case o.name != "" && o.acks == AcksNone:
		return misuse(op, "a named producer needs acknowledgements: choose leader, quorum or all")
	}
	return nil
}

// newTopicState readies a topic for sending. Lock held.
func (p *Producer) newTopicState(info *topicInfo) *topicState {
	n := len(info.parts)
	t := &topicState{name: info.name, uuid: info.uuid, info: info, parts: make([]*partition, n), open: make([]*batch, n), sticky: rand.Int32N(int32(n))}
	t.setLimits(p)
	t.route.Store(&topicRoute{info.partitioner, int32(n)})
	p.topics[info.name] = t
	return t
}

func (t *topicState) setLimits(p *Producer) {
	most := int(t.info.config.MaxBatchBytes)
	t.target, t.limit = min(p.opts.batchBytes, most), most
	if p.opts.codec != CodecNone {
		t.limit = record.DefaultLimits().MaxRecordsBytes // the broker judges what is left of it
	}
}

// coarseClock gives the time in milliseconds without asking the system per record. It
// ticks while records come fast. Written under Producer.mu.
type coarseClock struct {
	ms   atomic.Int64 // 0: not ticking
	used bool         // since the last tick
	task task
}

// now returns Unix milliseconds.
func (c *coarseClock) now(p *Producer) int64 {
	c.used = true
	ms := c.ms.Load()
	if ms == 0 {
		ms = time.Now().UnixMilli()
		c.ms.Store(ms)
		c.task.arm(p, time.Millisecond)
	}
	return ms
}

func (p *Producer) tick() {
	p.mu.Lock()
	defer p.mu.Unlock()
	c := &p.clock
	if used := p.stage.wasUsed(); !used && !c.used || p.failure != nil {
		c.ms.Store(0)
		return
	}
	c.used = false
	c.ms.Store(time.Now().UnixMilli())
	c.task.arm(p, time.Millisecond)
}
