package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	sequitur "github.com/sequitur-mq/sequitur/clients/go"
	"github.com/sequitur-mq/sequitur/cmd/broker/internal/lines"
)

const (
	// compressibleLine is the longest line that is read where lines are
	// compressed: no batch may hold more, whatever it is compressed to.
	compressibleLine = 64 << 20
	// stopTimeout bounds the wait for acknowledgements after Ctrl-C.
	stopTimeout = 10 * time.Second
	// countTimeout bounds the counting of lines that were not sent, where the
	// input is a pipe that may never end.
	countTimeout = time.Second
)

// produceRun sends lines and keeps the account of what became of them.
type produceRun struct {
	produceOptions
	c        *cli
	producer *sequitur.Producer
	tickets  sync.Pool

	batchLimit int // of the topic, as sent

	mu          sync.Mutex
	began       time.Time
	sent        int64 // lines handed to the producer
	unkeyed     int64
	acked       int64
	duplicates  int64
	ackedBytes  int64
	failed      int64
	firstFailed int64 // line number
	failure     error // of the line firstFailed
	unprinted   error // acknowledgements could not be printed
	stopSending context.CancelCauseFunc
}

// ticket carries a line's number to its outcome. Tickets are reused, so that a
// record costs no allocation for it.
type ticket struct {
	run   *produceRun
	line  int64
	bytes int64
	done  func(sequitur.Ack, error)
}

func (t *ticket) complete(ack sequitur.Ack, err error) {
	t.run.complete(t.line, t.bytes, ack, err)
	t.run.tickets.Put(t)
}

func newProduceRun(c *cli, o produceOptions, stopSending context.CancelCauseFunc) *produceRun {
	r := &produceRun{produceOptions: o, c: c, stopSending: stopSending}
	r.tickets.New = func() any {
		t := &ticket{run: r}
		t.done = t.complete
		return t
	}
	return r
}

func (r *produceRun) complete(line, bytes int64, ack sequitur.Ack, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err != nil {
		r.fail(line, err)
		return
	}
	r.acked++
	r.ackedBytes += bytes
	if ack.Duplicate {
		r.duplicates++
	}
	if !r.printAcks {
		return
	}
	var failed error
	if r.c.json {
		_, failed = fmt.Fprintf(r.c.stdout, `{"line":%d,"partition":%d,"offset":%d,"duplicate":%t}`+"\n", line, ack.Partition, ack.Offset, ack.Duplicate)
	} else {
		_, failed = fmt.Fprintf(r.c.stdout, "%d %d %d\n", line, ack.Partition, ack.Offset)
	}
	if failed != nil && r.unprinted == nil {
		r.unprinted = failed
		r.stopSending(errRecordFailed)
	}
}

// fail counts a line that was not acknowledged and ends the sending. The
// caller holds mu.
func (r *produceRun) fail(line int64, err error) {
	r.failed++
	if r.failed == 1 {
		r.stopSending(errRecordFailed)
	}
	if r.firstFailed == 0 || line < r.firstFailed {
		r.firstFailed, r.failure = line, err
	}
}

// errRecordFailed ends the sending; the failed record says why.
var errRecordFailed = errors.New("a record failed")

func whyStopped(ctx context.Context) error {
	if err := context.Cause(ctx); err != errRecordFailed {
		return err
	}
	return nil
}

// send hands lines to the producer until the input ends, a record fails, or
// the context does. It returns why it stopped: nil at the end of the input.
func (r *produceRun) send(ctx context.Context, in *lines.Reader) error {
	rec := sequitur.Record{Topic: r.topic, Partition: max(r.partition, 0), Headers: r.headers}
	for {
		line, err := in.Next()
		switch {
		case err == io.EOF:
			return nil
		case ctx.Err() != nil:
			return whyStopped(ctx)
		case err != nil:
			return r.lineError(err)
		}
		key, ok := r.key.Key(line)
		if !ok {
			key = nil
		}
		rec.Key, rec.Value = key, line
		t := r.tickets.Get().(*ticket)
		t.line, t.bytes = in.Number(), int64(len(line))
		if err := r.producer.SendAsync(ctx, rec, t.done); err != nil {
			if ctx.Err() != nil {
				return whyStopped(ctx) // while it waited for room
			}
			if errors.Is(err, sequitur.ErrBatchTooLarge) {
				return r.tooLarge(in.Number()) // with its key and headers; nothing of it was sent
			}
			r.mu.Lock()
			defer r.mu.Unlock()
			r.sent++
			r.fail(in.Number(), err)
			return nil
		}
		r.mu.Lock()
		r.sent++
		if !ok {
			r.unkeyed++
		}
		r.mu.Unlock()
	}
}

func (r *produceRun) lineError(err error) error {
	var long *lines.TooLongError
	if errors.As(err, &long) {
		return r.tooLarge(long.Line)
	}
	return fmt.Errorf("read the input: %w", err)
}

// tooLarge says that a line does not fit, judged as the broker does: by the
// batch that carries it.
func (r *produceRun) tooLarge(line int64) error {
	todo := fmt.Sprintf("line %d and what follows was not sent", line)
	if r.codec != sequitur.CodecNone {
		return fail(exitFailure, todo+"\nsplit the line", "line %d is too large: a batch holds at most %s before it is compressed", line, sizeText(compressibleLine))
	}
	return fail(exitFailure, todo+"\n"+r.raiseLimit()+"\nor compress what is sent: --compression zstd",
		"line %d is too large: with its key and headers it does not fit a batch of %s, the most that topic %s takes (max-batch-bytes)",
		line, sizeText(uint64(r.batchLimit)), r.topic)
}

// raiseLimit is how larger batches are allowed.
func (r *produceRun) raiseLimit() string {
	return fmt.Sprintf("raise the limit with: %s topic alter %s --max-batch-bytes N", r.c.invoked(), r.topic)
}

// produce sends the input's lines and prints the account of them.
func (c *cli) produce(o produceOptions, in *input) error {
	ctx, stop := c.interruptible(context.Background())
	defer stop()
	defer ignoreBrokenPipe()()
	sending, stopSending := context.WithCancelCause(ctx)
	defer stopSending(nil)
	source := newStoppable(sending, in)
	defer source.close()
	r := newProduceRun(c, o, stopSending)
	watch := newProgress(c, r, in.size)
	reader, why := r.work(ctx, sending, source, watch)
	watch.stop()
	a := r.account(reader, source, in, why)
	a.print(c, r)
	return a.err
}

// work connects, sends, and waits for the outcomes. It returns why it ended
// early, and the reader with what was not sent. ctx ends by a signal, sending
// also when a record fails.
func (r *produceRun) work(ctx, sending context.Context, source *stoppable, watch *progress) (*lines.Reader, error) {
	unread := lines.NewReader(source, 0)
	client, err := r.c.connect(ctx, sequitur.WithHooks(newNoticeHooks(r.c, watch.say)))
	if err != nil {
		return unread, err
	}
	defer client.Close()
	limit, err := r.lineLimit(ctx, client)
	if err != nil {
		if interrupted(ctx) {
			return unread, errInterrupted
		}
		return unread, r.c.hintTopic(ctx, client, err)
	}
	opts := []sequitur.ProducerOption{
		sequitur.WithAcks(r.acks), sequitur.WithCompression(r.codec), sequitur.WithDeliveryTimeout(r.timeout),
	}
	if r.partition >= 0 {
		opts = append(opts, sequitur.WithManualPartition())
	}
	if r.producer, err = client.NewProducer(opts...); err != nil {
		return unread, err
	}
	reader := lines.NewReader(source, limit)
	watch.start()
	why := r.send(sending, reader)
	if !r.settle(ctx, watch) && why == nil {
		why = errInterrupted
	}
	return reader, why
}

// settle waits until every record that was sent is acknowledged or has failed.
// A signal shortens the wait, a second one ends the process; it reports false
// if records were given up because of that.
func (r *produceRun) settle(ctx context.Context, watch *progress) bool {
	// The context that a signal ended would give up what is in flight at once,
	// so the wait has its own.
	wait, cancel := context.WithTimeout(context.WithoutCancel(ctx), r.timeout+stopTimeout)
	defer cancel()
	hurry := context.AfterFunc(ctx, func() {
		watch.say("interrupted; waiting for acknowledgements, press Ctrl-C again to give up")
		time.AfterFunc(stopTimeout, cancel)
	})
	// Every failure comes through the records' own outcomes.
	_ = r.producer.Close(wait)
	return hurry() || wait.Err() == nil
}

// lineLimit asks how long a line the topic takes at most. The line's key and
// headers come on top: the client judges all together, and where it is
// compressed, the broker judges what is left of it.
func (r *produceRun) lineLimit(ctx context.Context, client *sequitur.Client) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, adminTimeout)
	defer cancel()
	t, err := client.DescribeTopic(ctx, r.topic)
	if err != nil {
		return 0, err
	}
	if n := t.Config.Partitions; r.partition >= 0 && uint32(r.partition) >= n {
		return 0, fail(exitNotFound, fmt.Sprintf("its partitions are 0 to %d", n-1), "topic %s has no partition %d", r.topic, r.partition)
	}
	r.batchLimit = int(t.Config.MaxBatchBytes)
	if r.codec != sequitur.CodecNone {
		return compressibleLine, nil
	}
	return r.batchLimit, nil
}
