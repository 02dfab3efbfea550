package faults

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	sequitur "github.com/sequitur-mq/sequitur/clients/go"
)

const topic = "faults"

// load is the clients of a run: producers that send at a rate, and consumers that follow.
type load struct {
	h          *History
	client     *sequitur.Client
	began      time.Time
	partitions int
	bytes      int

	stop      context.CancelFunc // of the producers
	producing sync.WaitGroup
	consuming sync.WaitGroup
	endReads  context.CancelFunc
	producers []*sequitur.Producer
	unsettled atomic.Int64 // sends without outcome
	mu        sync.Mutex
	seen      []map[int32]int64 // by consumer, then partition: offset behind the last record read
	readErr   []error
	latest    []atomic.Int64 // by partition: when the latest acknowledged record was sent
}

// startLoad starts producers, which send rate records a second together, and consumers.
func startLoad(ctx context.Context, servers string, h *History, o Options) (*load, error) {
	client, err := connect(ctx, servers)
	if err != nil {
		return nil, err
	}
	l := &load{h: h, client: client, began: time.Now(), partitions: o.Partitions, bytes: o.RecordBytes}
	err = client.CreateTopic(ctx, topic, sequitur.TopicConfig{Partitions: uint32(o.Partitions), ReplicationFactor: uint16(min(o.Brokers, 3))})
	if err != nil {
		client.Close()
		return nil, err
	}
	var sending, reading context.Context
	sending, l.stop = context.WithCancel(ctx)
	reading, l.endReads = context.WithCancel(ctx)
	l.seen, l.readErr, l.latest = make([]map[int32]int64, o.Consumers), make([]error, o.Consumers), make([]atomic.Int64, o.Partitions)
	for i := range l.seen {
		l.h.Consumers, l.seen[i] = append(l.h.Consumers, map[int32][]Read{}), map[int32]int64{}
	}
	for i := range o.Consumers {
		k, err := client.NewConsumer(ctx, []string{topic})
		if err != nil {
			return nil, err
		}
		l.consuming.Add(1)
		go l.consume(reading, i, k)
	}
	for i := range o.Producers {
		p, err := client.NewProducer(sequitur.WithManualPartition(), sequitur.WithDeliveryTimeout(5*time.Minute))
		if err != nil {
			return nil, err
		}
		l.producers = append(l.producers, p)
		l.producing.Add(1)
		go l.produce(sending, uint32(i+1), p, float64(o.Rate)/float64(o.Producers))
	}
	return l, nil
}

// connect tries until the cluster answers.
func connect(ctx context.Context, servers string) (*sequitur.Client, error) {
	for {
		client, err := sequitur.Connect(ctx, servers)
		if err == nil {
			return client, nil
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("%w, last: %w", ctx.Err(), err)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func (l *load) since() time.Duration { return time.Since(l.began) }

// produce sends at a rate. When the brokers do not keep up, the producer's bounded memory slows it down.
func (l *load) produce(ctx context.Context, number uint32, p *sequitur.Producer, perSecond float64) {
	defer l.producing.Done()
	sequences := make([]uint64, l.partitions)
	began := time.Now()
	ticker := time.NewTicker(2 * time.Millisecond)
	defer ticker.Stop()
	for sent := 0; ; {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		for ; float64(sent) < perSecond*time.Since(began).Seconds(); sent++ {
			partition := sent % l.partitions
			sequences[partition]++
			id := ID{number, int32(partition), sequences[partition]}
			send := l.h.begin(id, l.since())
			l.unsettled.Add(1)
			invoked := int64(l.since())
			settle := func(ack sequitur.Ack, err error) {
				if l.h.end(send, l.since(), ack.Offset, err); err == nil && invoked > l.latest[partition].Load() {
					l.latest[partition].Store(invoked)
				}
				l.unsettled.Add(-1)
			}
			record := sequitur.Record{Topic: topic, Partition: int32(partition), Value: id.value(l.bytes)}
			if err := p.SendAsync(ctx, record, settle); err != nil {
				if ctx.Err() != nil {
					l.h.withdraw(send)
					l.unsettled.Add(-1)
					return
				}
				settle(sequitur.Ack{}, err)
			}
		}
	}
}

// consume follows the topic.
func (l *load) consume(ctx context.Context, number int, k *sequitur.Consumer) {
	defer l.consuming.Done()
	defer k.Close()
	reads := l.h.Consumers[number]
	for r, err := range k.Records(ctx) {
		if err != nil {
			if ctx.Err() == nil {
				l.mu.Lock()
				l.readErr[number] = err
				l.mu.Unlock()
			}
			return
		}
		id, err := parseID(r.Value)
		if err != nil {
			id = ID{Partition: r.Partition} // the checker knows no such record
		}
		reads[r.Partition] = append(reads[r.Partition], Read{r.Offset, id})
		l.mu.Lock()
		l.seen[number][r.Partition] = r.Offset + 1
		l.mu.Unlock()
	}
}

// recovered waits until every partition acknowledged a record that was sent after the given time.
func (l *load) recovered(ctx context.Context, after time.Duration) error {
	for partition := range l.latest {
		for l.latest[partition].Load() <= int64(after) {
			select {
			case <-ctx.Done():
				return fmt.Errorf("partition %d acknowledged nothing that was sent after healing: %w", partition, ctx.Err())
			case <-time.After(5 * time.Millisecond):
			}
		}
	}
	return nil
}

// finish ends the sends, waits for outstanding outcomes, reads the topic from the start and lets the consumers reach
// its end. What does not come to an end within patience is stuck.
func (l *load) finish(ctx context.Context, patience time.Duration) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	l.stop()
	l.producing.Wait()
	for _, p := range l.producers {
		if err := p.Flush(ctx); err != nil {
			l.h.Stuck = append(l.h.Stuck, fmt.Sprintf("a producer has %d sends without outcome: %v", l.unsettled.Load(), err))
		}
	}
	if err := l.readAll(ctx); err != nil {
		l.h.Stuck = append(l.h.Stuck, fmt.Sprintf("the topic cannot be read to its end: %v", err))
	}
	l.await(ctx)
	l.endReads()
	l.consuming.Wait()
}

// readAll reads the topic from the start to its end.
func (l *load) readAll(ctx context.Context) error {
	k, err := l.client.NewConsumer(ctx, []string{topic}, sequitur.UntilEnd())
	if err != nil {
		return err
	}
	defer k.Close()
	l.h.Final = map[int32][]Read{}
	for partition := range l.partitions {
		l.h.Final[int32(partition)] = nil
	}
	for r, err := range k.Records(ctx) {
		if err != nil {
			return err
		}
		id, err := parseID(r.Value)
		if err != nil {
			return fmt.Errorf("partition %d offset %d: %w", r.Partition, r.Offset, err)
		}
		l.h.Final[r.Partition] = append(l.h.Final[r.Partition], Read{r.Offset, id})
	}
	return ctx.Err()
}

// await waits until every consumer has read what the final read found.
func (l *load) await(ctx context.Context) {
	for i := range l.seen {
		for partition, reads := range l.h.Final {
			if len(reads) == 0 {
				continue
			}
			end := reads[len(reads)-1].Offset + 1
			for l.position(i, partition) < end && l.failed(i) == nil && ctx.Err() == nil {
				select {
				case <-ctx.Done():
				case <-time.After(5 * time.Millisecond):
				}
			}
			if at := l.position(i, partition); at < end {
				l.h.Stuck = append(l.h.Stuck, fmt.Sprintf("consumer %d stands at offset %d of partition %d, whose end is %d (error: %v)",
					i, at, partition, end, l.failed(i)))
			}
		}
	}
}

func (l *load) position(consumer int, partition int32) int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.seen[consumer][partition]
}

func (l *load) failed(consumer int) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.readErr[consumer]
}

// close ends what is left.
func (l *load) close() error {
	l.stop()
	l.endReads()
	l.producing.Wait()
	l.consuming.Wait()
	var errs []error
	for _, p := range l.producers {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		errs = append(errs, p.Close(ctx))
		cancel()
	}
	return errors.Join(append(errs, l.client.Close())...)
}
