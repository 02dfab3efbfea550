package dedup

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dgraph-io/badger/v4"

	"github.com/sequitur-mq/sequitur/log"
	"github.com/sequitur-mq/sequitur/record"
	"github.com/sequitur-mq/sequitur/wire"
)

// Options configure an Index. Dir is required; other zero fields take the
// defaults named here.
type Options struct {
	Dir        string                                 // of the store
	Now        func() time.Time                       // default time.Now
	Logger     *slog.Logger                           // default: discard
	Free       func() (free, total uint64, err error) // space on Dir's file system; nothing is written while it is short
	MaxPending int                                    // ids appended but not yet in the store; default 200,000
	Limits     record.Limits                          // of batches; default record.DefaultLimits

	breaks      breakage
	beforeWrite func() // tests: called when ids were taken and are not written yet
	afterCommit func() // tests: called after each transaction
}

// breakage switches rules off, for tests that show that their checkers notice.
type breakage struct {
	noPending     bool // forget ids between append and store
	forgetEarly   bool // forget pending ids before they are in the store
	noStamp       bool // trust the position whatever the log says
	timeOnly      bool // compare append times only
	noPartial     bool // trust a position while a large batch is under way
	positionFirst bool // write positions before the ids
	noRepeats     bool // do not see repeats inside one append
	noRebuild     bool // start at the end of the log where there is no record
	noWindow      bool // ids never grow old
	oldWindow     bool // apply although the window has changed since the view was made to agree with it
	oldEpoch      bool // go on with what was known before others led
	wrongOffset   bool // ignore that batches before in the same append take offsets
}

const (
	defaultMaxPending = 200_000
	minFree           = 64 << 20 // bytes
	retryAfter        = 50 * time.Millisecond
	freeCheckPause    = time.Second
)

// Index is the view of all partitions. Its methods may be called from any
// goroutine. Nothing is opened before the first Claim.
type Index struct {
	o          Options
	extractors sync.Pool // of *extractor

	// db is used with mu held for reading. incarnation counts stores: partitions
	// that were attached to an earlier one are attached anew. A partition's
	// mutex is taken after mu, never before.
	mu          sync.RWMutex
	db          *badger.DB
	incarnation uint64
	closed      bool

	register   sync.Mutex
	partitions map[log.ID]*Partition

	// Work for the goroutines, which start with the first store.
	work    sync.Mutex
	dirty   []*Partition // with ids to be applied
	builds  []*Partition // to be rebuilt
	damage  error        // the store is to be made anew
	apply   chan struct{}
	build   chan struct{}
	stop    chan struct{}
	running sync.WaitGroup

	pending, rebuilding          atomic.Int64
	lookups, duplicates, rebuilt atomic.Uint64
}

// New returns an index that does nothing yet.
func New(o Options) *Index {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.MaxPending == 0 {
		o.MaxPending = defaultMaxPending
	}
	if o.Limits == (record.Limits{}) {
		o.Limits = record.DefaultLimits()
	}
	x := &Index{
		o: o, partitions: map[log.ID]*Partition{},
		apply: make(chan struct{}, 1), build: make(chan struct{}, 1), stop: make(chan struct{}),
	}
	x.extractors.New = func() any {
		return &extractor{limits: o.Limits, in: record.NewDecompressor(), seen: map[string]int64{}}
	}
	return x
}

// Stats are figures of an Index.
type Stats struct {
	Open       bool   // the store is in use
	Lookups    uint64 // ids looked up
	Duplicates uint64 // records not stored because they were already
	Pending    uint64 // ids appended but not yet in the store
	IndexBytes uint64 // of the store on disk, as of about a minute ago
	Rebuilding uint64 // partitions being rebuilt from the log
	Rebuilt    uint64 // partitions that were, in all
}

// Stats returns the figures of this moment.
func (x *Index) Stats() Stats {
	s := Stats{
		Lookups: x.lookups.Load(), Duplicates: x.duplicates.Load(), Pending: uint64(max(x.pending.Load(), 0)),
		Rebuilding: uint64(max(x.rebuilding.Load(), 0)), Rebuilt: x.rebuilt.Load(),
	}
	x.mu.RLock()
	defer x.mu.RUnlock()
	if x.db != nil {
		lsm, vlog := x.db.Size()
		s.Open, s.IndexBytes = true, uint64(lsm+vlog)
	}
	return s
}

// Partition returns the view of a replica's partition, always the same one for the
// same partition. window may be changed later by SetWindow.
func (x *Index) Partition(r Replica, window time.Duration) *Partition {
	id := r.Log().ID()
	x.register.Lock()
	defer x.register.Unlock()
	p := x.partitions[id]
	if p == nil {
		p = &Partition{x: x, id: id, pendingIDs: map[string]place{}}
		x.partitions[id] = p
	}
	p.mu.Lock()
	p.replica = r
	p.mu.Unlock()
	p.SetWindow(window)
	return p
}

// Drop forgets a partition that was deleted. What is in the store of it expires. It
// does not block.
func (x *Index) Drop(id log.ID) {
	x.register.Lock()
	p := x.partitions[id]
	delete(x.partitions, id)
	x.register.Unlock()
	if p == nil {
		return
	}
	p.dropped.Store(true)
	x.markDirty(p)
}

// use returns the store, opened if need be, with mu held for reading unless there is an error.
func (x *Index) use() (*badger.DB, uint64, error) {
	for {
		x.mu.RLock()
		if x.db != nil {
			return x.db, x.incarnation, nil
		}
		x.mu.RUnlock()
		if err := x.open(); err != nil {
			return nil, 0, err
		}
	}
}

var errClosed = wire.Errorf(wire.CodeShuttingDown, "the message-id index is closed")

func (x *Index) open() error {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.closed {
		return errClosed
	}
	if x.db != nil {
		return nil
	}
	db, err := openStore(x.o.Dir, x.o.Logger)
	if err != nil {
		x.o.Logger.Error("message-id index unusable: sends with message ids are refused", "error", err)
		return overloaded("the message-id index cannot be opened: %v", err)
	}
	x.db = db
	if x.incarnation++; x.incarnation == 1 {
		x.running.Add(2)
		go x.applyLoop()
		go x.buildLoop()
	}
	return nil
}

// damaged has the store made anew after an error of it.
func (x *Index) damaged(err error) {
	x.work.Lock()
	if x.damage == nil {
		x.damage = err
	}
	x.work.Unlock()
	poke(x.build)
}

// renew throws the store away. Partitions are rebuilt at their next use.
func (x *Index) renew(cause error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.db == nil {
		return
	}
	x.o.Logger.Error("message-id index damaged: it is rebuilt from the log", "error", cause)
	if err := x.db.Close(); err != nil {
		x.o.Logger.Warn("close damaged message-id index", "error", err)
	}
	x.db = nil
	if err := os.RemoveAll(x.o.Dir); err != nil {
		x.o.Logger.Error("remove damaged message-id index", "dir", x.o.Dir, "error", err)
	}
}

// Close applies what is committed and closes the store. Claims are refused from now on.
func (x *Index) Close() error {
	x.mu.Lock()
	if x.closed {
		x.mu.Unlock()
		return nil
	}
	x.closed = true
	x.mu.Unlock()
	close(x.stop)
	x.running.Wait()

	x.mu.Lock()
	defer x.mu.Unlock()
	if x.db == nil {
		return nil
	}
	err := x.finish()
	err = errors.Join(err, x.db.Close())
	x.db = nil
	if err != nil {
		return fmt.Errorf("close message-id index: %w", err)
	}
	return nil
}

// poke wakes a goroutine that waits on c, or keeps it from falling asleep.
func poke(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

func overloaded(format string, args ...any) error {
	err := wire.Errorf(wire.CodeOverloaded, format, args...)
	err.RetryAfter = retryAfter
	return err
}
