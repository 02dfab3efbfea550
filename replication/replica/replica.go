package replica

import (
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sequitur-mq/sequitur/log"
	"github.com/sequitur-mq/sequitur/record"
	"github.com/sequitur-mq/sequitur/replication"
	"github.com/sequitur-mq/sequitur/txn"
)

// ErrClosed is returned by appends to a closed replica.
var ErrClosed = errors.New("replica is closed")

// Options configure a Replica. Zero fields take the defaults named here.
type Options struct {
	NodeID         uint32           // this node; default 1
	Now            func() time.Time // default time.Now; stamps append times
	ProducerWindow int              // last batches remembered per producer; default txn.DefaultWindow
	ProducerIdle   time.Duration    // producers silent for longer are forgotten; default 24 h
	Logger         *slog.Logger     // default: discard
	OnFatal        func(error)      // a violated invariant: the process must stop; default: nothing

	breaks breakage
}

// breakage switches rules off, for tests that show that their checkers notice.
type breakage struct {
	answerEarly   bool // do not wait for the high watermark
	forget        bool // do not rebuild the producer state
	aheadOfLog    bool // change the producer state before the log took the batches
	emptySnapshot bool // hand out snapshots that hold nothing
}

// defaultProducerIdle is far beyond any time for which a client retries a batch.
const defaultProducerIdle = 24 * time.Hour

func (o Options) withDefaults() Options {
	if o.NodeID == 0 {
		o.NodeID = 1
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.ProducerIdle <= 0 {
		o.ProducerIdle = defaultProducerIdle
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.OnFatal == nil {
		o.OnFatal = func(error) {}
	}
	return o
}

// Replica is one partition's leader on this node. Its methods may be called from any
// goroutine.
type Replica struct {
	log     *log.Partition
	options Options

	highWatermark atomic.Int64 // copy of the machine's, for readers

	// Left by completions for whoever holds the mutex.
	dirty    atomic.Bool
	failed   atomic.Int32 // appends that the journal failed
	failure  atomic.Pointer[error]
	violated error // (mu) broken invariant not reported yet

	mu         sync.Mutex
	leader     *replication.Leader
	producers  *txn.Producers
	lastTime   int64 // append time of the last batch, Unix nanoseconds
	lastExpire int64 // when producers were last looked through
	failedSeen int32 // of failed, those whose waiters were told
	closed     bool
	broken     error // first violated invariant: nothing is appended any more
	waiting    queue
	watching   watchList // for the high watermark to move
	ready      watchList // to be called
}

// Open takes over a partition: producer state is restored from the log's newest
// snapshot and brought up to the end of the log by the same code that appends use. The
// partition must not be appended to by anyone else.
func Open(p *log.Partition, o Options) (*Replica, error) {
	r := &Replica{log: p, options: o.withDefaults(), producers: txn.NewProducers(o.ProducerWindow)}
	if err := r.replay(); err != nil {
		return nil, fmt.Errorf("open replica of partition %s: %w", p.ID(), err)
	}
	end := p.End()
	// What a quorum of one recovered is committed, whether it was acknowledged or not.
	config := replication.LeaderConfig{
		Self: replication.Member{Node: r.options.NodeID}, Epoch: max(p.LastEpoch(), 1),
		Set:   replication.ReplicaSet{Version: 1, Members: []replication.Member{{Node: r.options.NodeID}}},
		Start: p.Start(), End: end, HighWatermark: end,
	}
	for _, e := range p.Epochs() {
		config.Epochs = append(config.Epochs, replication.EpochStart(e))
	}
	leader, err := replication.NewLeader(config)
	if err != nil {
		return nil, fmt.Errorf("open replica of partition %s: %w", p.ID(), err)
	}
	r.leader = leader
	r.highWatermark.Store(end)
	r.lastTime = p.LastAppendTime()
	r.lastExpire = r.options.Now().UnixNano() // not at once: clients may have waited out the stop
	p.SetSnapshotter(r.snapshot)
	return r, nil
}

// replay rebuilds the producer state. A snapshot that cannot be read costs time only:
// the state is then rebuilt from the whole log.
func (r *Replica) replay() error {
	if r.options.breaks.forget {
		return nil
	}
	from, state := r.log.Snapshot()
	if err := r.producers.Restore(state); err != nil {
		r.options.Logger.Warn("producer snapshot unreadable, reading the whole partition",
			"partition", r.log.ID().String(), "offset", from, "error", err)
		from = r.log.Start()
	}
	if start := r.log.Start(); from < start {
		// Retention was faster than checkpoints.
		r.producers.Loosen()
		from = start
	}
	apply := func(b record.Batch) error {
		r.producers.Apply(b)
		return nil
	}
	for {
		err := r.log.Batches(from, apply)
		var hole *log.CorruptError
		if !errors.As(err, &hole) || hole.To <= from {
			return err
		}
		r.options.Logger.Error("producer state rebuilt around damage: repeated sends from before it may not be recognised",
			"partition", r.log.ID().String(), "error", err)
		r.producers.Loosen()
		from = hole.To
	}
}

// snapshot is called by the log's checkpoint: a state that covers everything below the
// offset.
func (r *Replica) snapshot() (offset int64, state []byte) {
	r.mu.Lock()
	defer r.unlock()
	if r.options.breaks.emptySnapshot {
		return r.leader.End(), nil
	}
	return r.leader.End(), r.producers.Snapshot()
}

// Log is the partition's log, for its bounds and statistics.
func (r *Replica) Log() *log.Partition { return r.log }

// HighWatermark is the offset before which everything is committed and may be read.
func (r *Replica) HighWatermark() int64 { return r.highWatermark.Load() }

// Epoch is the leader epoch.
func (r *Replica) Epoch() uint32 {
	r.mu.Lock()
	defer r.unlock()
	return r.leader.Epoch()
}

// ProducersHash is a hash of the whole producer state: two replicas of one log, or one
// before and after a restart, agree on it.
func (r *Replica) ProducersHash() uint64 {
	r.mu.Lock()
	defer r.unlock()
	return r.producers.Hash()
}

// Close refuses further appends and calls all watchers. Appends on their way are
// answered as they complete. The log stays open, and its checkpoints may still ask for
// the producer state.
func (r *Replica) Close() {
	r.mu.Lock()
	r.closed = true
	r.ready.takeAll(&r.watching)
	r.unlock()
}
