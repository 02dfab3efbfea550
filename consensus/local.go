package consensus

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/sequitur-mq/sequitur/log"
	"github.com/sequitur-mq/sequitur/record"
)

// LogID names the internal partition that holds the commands. It is the same
// on every broker and in no topic list.
var LogID = log.ID{Topic: [16]byte{'_', '_', 'm', 'e', 't', 'a', 'd', 'a', 't', 'a'}}

// LocalOptions configure a Local. Zero fields take the defaults named here.
type LocalOptions struct {
	Now    func() time.Time // default time.Now; stamps the log and nothing else
	Logger *slog.Logger     // default: discard

	// OnChanges acts upon changes of topics. It is called on the driver's
	// goroutine after the machine has changed and before the proposers hear
	// of it, with the changes of every command that became durable together.
	OnChanges func([]Change)

	// SnapshotBytes is how many bytes of commands make a snapshot worth its
	// while, if the last one was not larger; default 4 MiB.
	SnapshotBytes int
}

// Local drives the machine on a cluster of one broker. Its methods may be
// called concurrently.
type Local struct {
	o         LocalOptions
	partition *log.Partition

	mu      sync.RWMutex // guards machine
	machine *Machine

	// propose guards the order of appends: proposals become durable, and are
	// applied, in the order in which they were appended.
	propose struct {
		sync.Mutex
		builder *record.Builder
		closed  error
		open    sync.WaitGroup // appended and not yet answered
	}

	// durable are the proposals whose append has completed, in order.
	durable struct {
		sync.Mutex
		list  []*proposal
		wake  chan struct{}
		stop  chan struct{}
		ended chan struct{}
	}

	// Of the driver's goroutine.
	grown    int // bytes of commands since the last snapshot
	lastSize int // of the last snapshot
}

// A proposal is one record on its way into the log: a command, or a chunk of a
// snapshot.
type proposal struct {
	l      *Local
	offset int64
	data   []byte // the encoded command
	err    error
	done   func(Result, error) // of a command
	result Result
	// next is set on the last chunk of a snapshot: commands below this offset
	// are not needed any more.
	next int64
}

const (
	recordCommand  = 1
	recordSnapshot = 2
	chunkHeader    = 8 + 4 + 4
	chunkBytes     = 1 << 20
)

// ErrClosed is returned for commands proposed after Close.
var ErrClosed = errors.New("metadata driver is closed")

// OpenLocal opens the machine kept in the store, making its partition if it is
// not there yet.
func OpenLocal(store *log.Store, o LocalOptions) (*Local, error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.SnapshotBytes <= 0 {
		o.SnapshotBytes = 4 << 20
	}
	partition, ok := store.Partition(LogID)
	if !ok {
		if err := store.Create(log.Spec{ID: LogID, Config: logConfig()}); err != nil {
			return nil, fmt.Errorf("create the metadata partition: %w", err)
		}
		partition, _ = store.Partition(LogID)
	}
	l := &Local{o: o, partition: partition, machine: NewMachine()}
	if err := l.replay(); err != nil {
		return nil, fmt.Errorf("read the metadata: %w", err)
	}
	l.propose.builder = record.NewBuilder(4 << 10)
	l.durable.wake = make(chan struct{}, 1)
	l.durable.stop = make(chan struct{})
	l.durable.ended = make(chan struct{})
	go l.run()
	return l, nil
}

// logConfig is how the metadata partition is kept: flushed before anything is
// answered, for ever (snapshots drop what is old), and on a full disk too, so
// that topics can be deleted there.
func logConfig() log.Config {
	return log.Config{Fsync: log.FsyncAlways, SegmentBytes: 16 << 20, Essential: true}
}

// View calls fn with the machine, which must not be kept. Topics may be.
func (l *Local) View(fn func(*Machine)) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	fn(l.machine)
}

// Do proposes a command and waits for its result. If ctx ends first the outcome
// is not known. A refusal by the machine is in the result, not in the error.
func (l *Local) Do(ctx context.Context, c Command) (Result, error) {
	return proposeAndWait(ctx, l, c)
}

// Propose appends a command. done is called once: on the driver's goroutine
// after the command was applied, or with the error that kept it out of the log.
// It must not wait for another command.
func (l *Local) Propose(c Command, done func(Result, error)) {
	p := &proposal{l: l, data: Encode(c), done: done}
	if err := l.append(p, []byte{recordCommand}, p.data); err != nil {
		done(Result{}, fmt.Errorf("metadata command: %w", err))
	}
}

// append appends one record for p, which is told when it is durable.
func (l *Local) append(p *proposal, key, value []byte) error {
	l.propose.Lock()
	defer l.propose.Unlock()
	if l.propose.closed != nil {
		return l.propose.closed
	}
	now := l.o.Now()
	b := l.propose.builder
	b.Reset()
	b.Append(now.UnixMilli(), key, value, nil)
	built, err := b.Build(nil, record.CodecNone, 0, 0, 0)
	if err != nil {
		return err
	}
	batch := append(record.Batch{}, built...) // the journal reads it until it is durable
	p.offset = l.partition.End()
	batch.Stamp(p.offset, max(l.partition.LastEpoch(), 1), max(now.UnixNano(), l.partition.LastAppendTime()))
	l.propose.open.Add(1)
	pending, err := l.partition.Append(batch, p)
	if err != nil {
		l.propose.open.Done()
		return err
	}
	if !pending {
		p.Complete(nil)
	}
	return nil
}

// Complete is called by the journal, in the order of the appends.
func (p *proposal) Complete(err error) {
	l := p.l
	p.err = err
	l.durable.Lock()
	l.durable.list = append(l.durable.list, p)
	l.durable.Unlock()
	select {
	case l.durable.wake <- struct{}{}:
	default:
	}
}

// Close waits for the commands that were proposed, and refuses further ones. It
// comes before the store is closed.
func (l *Local) Close() {
	l.propose.Lock()
	closed := l.propose.closed
	if closed == nil {
		l.propose.closed = ErrClosed
	}
	l.propose.Unlock()
	if closed == nil {
		l.propose.open.Wait()
		close(l.durable.stop)
	}
	<-l.durable.ended
}

// run is the driver's goroutine.
func (l *Local) run() {
	defer close(l.durable.ended)
	var list []*proposal
	for {
		select {
		case <-l.durable.wake:
		case <-l.durable.stop:
			return
		}
		l.durable.Lock()
		list, l.durable.list = l.durable.list, list[:0]
		l.durable.Unlock()
		l.apply(list)
		clear(list)
	}
}

// apply applies durable proposals in order and answers them.
func (l *Local) apply(list []*proposal) {
	var changes []Change
	l.mu.Lock()
	for _, p := range list {
		if p.err != nil || p.done == nil {
			continue
		}
		p.result, p.err = l.machine.Apply(index(p.offset), p.data)
		changes = append(changes, p.result.Changes...)
		l.grown += len(p.data)
	}
	l.mu.Unlock()
	if len(changes) > 0 && l.o.OnChanges != nil {
		l.o.OnChanges(changes)
	}
	for _, p := range list {
		if p.done != nil {
			p.done(p.result, p.err)
		} else if p.next > 0 && p.err == nil {
			l.dropBelow(p.next)
		}
	}
	if l.grown >= max(l.o.SnapshotBytes, 2*l.lastSize) {
		l.snapshot()
	}
	l.propose.open.Add(-len(list))
}

// index is the machine's index of the command at an offset.
func index(offset int64) uint64 { return uint64(offset) + 1 }
