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

// Options configure a Replica. Zero fields take the defaults named here.
type Options struct {
	Self           replication.Member // this replica; default node 1
	Solo           bool               // a broker without a cluster: the replica leads at once, alone
	Now            func() time.Time   // default time.Now; stamps append times
	ProducerWindow int                // last batches remembered per producer; default txn.DefaultWindow
	ProducerIdle   time.Duration      // producers silent for longer are forgotten; default 24 h
	Logger         *slog.Logger       // default: discard
	OnFatal        func(error)        // a violated invariant: the process must stop; default: nothing
	// OnChange is called with no lock held after the role, the epoch, the leader or
	// whether it serves changed. It must not block. Default: nothing.
	OnChange func(*Replica)
	// Break switches rules of the protocol off, for tests of checkers.
	Break replication.Breakage

	breaks breakage
}

// breakage switches rules off, for tests that show that their checkers notice.
type breakage struct {
	answerEarly   bool // do not wait for the high watermark
	forget        bool // do not rebuild the producer state
	aheadOfLog    bool // change the producer state before the log took the batches
	emptySnapshot bool // hand out snapshots that hold nothing
	voteEarly     bool // vote before the fence is durable
	reportEarly   bool // report to a leader before its fence is durable
	keepProducers bool // do not go back with the producer state when truncating
	trustPeers    bool // do not verify what is received
	releaseEarly  bool // release received memory while the journal reads it
}

// defaultProducerIdle is far beyond any time for which a client retries a batch.
const defaultProducerIdle = 24 * time.Hour

func (o Options) withDefaults() Options {
	if o.Self.IsZero() {
		o.Self = replication.Member{Node: 1}
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
	if o.OnChange == nil {
		o.OnChange = func(*Replica) {}
	}
	return o
}

// Replica is one replica of a partition on this node, leader or follower. Its methods
// may be called from any goroutine.
type Replica struct {
	log     *log.Partition
	options Options

	highWatermark atomic.Int64  // copy of the machine's, for readers
	led           atomic.Uint32 // the epoch led, 0 while not leading

	// Left by completions for whoever holds the mutex.
	dirty     atomic.Bool
	completed atomic.Int64  // appends that the journal is done with, well or not
	persisted atomic.Uint32 // fence that is durable
	failure   atomic.Pointer[error]

	mu         sync.Mutex
	machine    *replication.Replica
	leader     *replication.Leader // the machine's, nil while not leading
	set        replication.ReplicaSet
	producers  *txn.Producers
	lastTime   int64 // append time of the last batch, Unix nanoseconds
	lastExpire int64 // when producers were last looked through
	handed     int64 // appends handed to the journal
	closed     bool
	broken     error  // first violated invariant: nothing is appended any more
	violated   error  // the same, while it is not reported yet
	adopted    uint32 // persisted, as last seen
	serving    bool
	startless  bool // leads, but the record that starts the epoch is not appended yet
	changed    bool // for OnChange
	moved      moved
	waiting    [levels]ring[waiting]
	held       ring[held]
	fences     []fencing
	barriers   []barrier
	watching   watchList // for the high watermark to move
	ready      watchList // to be called
	followers  []Notify  // never changed in place
	progress   Notify
}

// Open takes over a partition: producer state is restored from the log's newest
// snapshot and brought up to the end of the log by the same code that appends use. The
// partition must not be appended to by anyone else. Unless it is Solo the replica waits
// to be told its role by Assign.
func Open(p *log.Partition, o Options) (*Replica, error) {
	r := &Replica{log: p, options: o.withDefaults(), producers: txn.NewProducers(o.ProducerWindow)}
	if err := r.replay(); err != nil {
		return nil, fmt.Errorf("open replica of partition %s: %w", p.ID(), err)
	}
	if err := r.openMachine(); err != nil {
		return nil, fmt.Errorf("open replica of partition %s: %w", p.ID(), err)
	}
	r.lastTime = p.LastAppendTime()
	r.lastExpire = r.options.Now().UnixNano() // not at once: clients may have waited out the stop
	p.SetSnapshotter(r.snapshot)
	p.SetCompactionLimit(r.HighWatermark)
	p.SetRetentionLimit(r.HighWatermark)
	return r, nil
}

// openMachine gives the machine what the log holds.
func (r *Replica) openMachine() error {
	c := replication.ReplicaConfig{
		Self: r.options.Self, Solo: r.options.Solo, Break: r.options.Break,
		Start: r.log.Start(), End: r.log.End(), Durable: r.log.Durable(),
	}
	var err error
	if c.Fence, err = decodeFence(r.log.Value(valueFence)); err != nil {
		return err
	}
	if c.ResetAt, c.ResetEpoch, err = decodeReset(r.log.Value(valueReset)); err != nil {
		return err
	}
	for _, e := range r.log.Epochs() {
		c.Epochs = append(c.Epochs, replication.EpochStart(e))
	}
	if r.machine, err = replication.NewReplica(c); err != nil {
		return err
	}
	r.noteDamage()
	r.persisted.Store(c.Fence)
	r.adopted = c.Fence
	if r.options.Solo {
		set := replication.ReplicaSet{Version: 1, Members: []replication.Member{r.options.Self}}
		if _, err := r.machine.Assign(max(r.machine.FenceEpoch(), 1), r.options.Self, set); err != nil {
			return err
		}
		r.takeRole(set)
		if _, err := r.machine.Durable(r.log.Durable()); err != nil {
			return err
		}
		r.serving, r.changed, r.moved = true, false, notMoved
	}
	r.highWatermark.Store(r.machine.HighWatermark())
	return nil
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
		return r.machine.End(), nil
	}
	return r.machine.End(), r.producers.Snapshot()
}

// Log is the partition's log, for its bounds and statistics.
func (r *Replica) Log() *log.Partition { return r.log }

// HighWatermark is the offset before which everything is committed and may be read.
func (r *Replica) HighWatermark() int64 { return r.highWatermark.Load() }

// Epoch is the highest epoch heard of, that of the role if there is one.
func (r *Replica) Epoch() uint32 {
	r.mu.Lock()
	defer r.unlock()
	return r.machine.Epoch()
}

// ProducersHash is a hash of the whole producer state: two replicas of one log, or one
// before and after a restart, agree on it.
func (r *Replica) ProducersHash() uint64 {
	r.mu.Lock()
	defer r.unlock()
	return r.producers.Hash()
}

// Close refuses further appends and calls all watchers. On a broker without a cluster
// appends on their way are answered as they complete; in a cluster those that are not
// acknowledged yet are answered with ErrClosed. The log stays open, and its checkpoints
// may still ask for the producer state.
func (r *Replica) Close() {
	r.mu.Lock()
	r.closed, r.moved = true, movedNow
	if !r.options.Solo {
		r.loseLeadership()
	}
	r.ready.takeAll(&r.watching)
	r.failBarriers(ErrClosed)
	r.unlock()
}
