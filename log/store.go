package log

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sequitur-mq/sequitur/internal/vfs"
)

// Store is an open data directory.
type Store struct {
	dir      string
	fs       vfs.FS
	options  Options
	log      *slog.Logger
	identity Identity
	lock     interface{ Close() error }

	journal     *journal
	files       fileCache
	tail        *tail
	indexes     indexCache
	reserve     reserve
	flusher     flusher
	chores      chores
	checkpoints checkpoints
	pushes      pushes
	counters    counters
	walkers     walkers
	chunkPool   sync.Pool
	buffers     sync.Pool // *[]byte

	mu         sync.RWMutex
	partitions map[ID]*Partition
	creating   map[ID]*Partition // queued for the journal, not yet durable
	deleted    map[ID]struct{}   // durable tombstones whose directories are not removed yet
	nextNumber uint32

	failure   atomic.Pointer[storageError]
	closed    atomic.Bool
	syncing   sync.Mutex // held while segments are synced, until a failure is latched
	repairing sync.Mutex // held by a repair
	stop      chan struct{}
	tasks     sync.WaitGroup
	started   time.Duration // what Open took

	recovering bool // replaying the journal: one goroutine, files of segments may be there already
}

// Open opens a data directory, creating it if it is missing or empty, and recovers it from the checkpoint and the
// journal. It fails with ErrLocked if another process has it open, ErrCorrupt if something that must be right is not
// (the message names file and byte), ErrVersion for formats of another version. Nothing is thrown away on a failure.
func Open(dir string, o Options) (*Store, error) {
	began := time.Now()
	s := newStore(dir, o.withDefaults())
	if err := s.open(); err != nil {
		if vfs.IsDiskFull(err) {
			err = fmt.Errorf("%w: %w", ErrStorageFull, err)
		}
		return nil, fmt.Errorf("open data directory %s: %w", dir, err)
	}
	s.started = time.Since(began)
	return s, nil
}

func newStore(dir string, o Options) *Store {
	s := &Store{
		dir: dir, fs: o.FS, options: o, log: o.Logger,
		partitions: map[ID]*Partition{}, creating: map[ID]*Partition{}, deleted: map[ID]struct{}{},
		nextNumber: 1, stop: make(chan struct{}),
	}
	s.files = fileCache{fs: o.FS, max: o.MaxOpenFiles}
	s.tail = newTail(o.TailBytes)
	s.indexes.limit = o.IndexBytes
	s.chores.init(s)
	s.flusher.init(s)
	s.checkpoints.init(s)
	s.pushes.init(s)
	s.reserve.init(s)
	return s
}

func (s *Store) open() (err error) {
	if err := s.makeDirectory(); err != nil {
		return err
	}
	if s.lock, err = s.fs.Lock(filepath.Join(s.dir, "lock")); err != nil {
		if errors.Is(err, vfs.ErrLocked) {
			return fmt.Errorf("%w; stop it or choose another directory", ErrLocked)
		}
		return err
	}
	defer func() {
		if err != nil {
			s.files.close()
			err = errors.Join(err, s.lock.Close())
		}
	}()
	if s.identity, err = loadIdentity(s.fs, s.dir); err != nil {
		return err
	}
	s.journal = newJournal(s.dir, s.options, s.identity.Disk)
	s.journal.onFail = func(err error) { s.fail(err) }
	s.journal.onNoRoom = s.reserve.noRoom
	s.journal.wantCheckpoint = s.checkpoints.want
	if err := s.recover(); err != nil {
		return errors.Join(err, s.journal.closeFiles())
	}
	err = s.fs.MkdirAll(filepath.Join(s.dir, "partitions"))
	if err == nil {
		err = s.fs.SyncDir(s.dir)
	}
	if err != nil {
		return errors.Join(err, s.journal.close(), s.journal.closeFiles())
	}
	s.start()
	return nil
}

// makeDirectory makes the data directory durably, with the parents that are missing.
func (s *Store) makeDirectory() error {
	var missing []string
	for dir := filepath.Clean(s.dir); ; dir = filepath.Dir(dir) {
		if _, err := s.fs.Stat(dir); !isNotExist(err) || dir == filepath.Dir(dir) {
			break
		}
		missing = append(missing, dir)
	}
	if err := s.fs.MkdirAll(filepath.Join(s.dir, "journal")); err != nil {
		return err
	}
	for _, dir := range missing {
		if err := s.fs.SyncDir(filepath.Dir(dir)); err != nil && !errors.Is(err, fs.ErrPermission) {
			return err
		}
	}
	return nil
}

// start runs the background work. Every goroutine is waited for in Close.
func (s *Store) start() {
	s.reserve.look() // whoever asks for free space right after Open gets an answer
	for _, task := range []func(){
		s.checkpoints.run, s.flusher.run, s.chores.run, s.pushes.run, s.reserve.run, s.retain, s.maintain,
	} {
		s.tasks.Add(1)
		go func() {
			defer s.tasks.Done()
			task()
		}()
	}
}

// Identity says whose data the directory holds.
func (s *Store) Identity() Identity { return s.identity }

// Partition returns an existing partition.
func (s *Store) Partition(id ID) (*Partition, bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	p, ok := s.partitions[id]
	return p, ok
}

// IDs lists all partitions, sorted.
func (s *Store) IDs() []ID {
	s.mu.RLock()
	ids := make([]ID, 0, len(s.partitions))
	for id := range s.partitions {
		ids = append(ids, id)
	}
	s.mu.RUnlock()
	slices.SortFunc(ids, compareID)
	return ids
}

func compareID(a, b ID) int {
	if c := slices.Compare(a.Topic[:], b.Topic[:]); c != 0 {
		return c
	}
	return int(int64(a.Partition) - int64(b.Partition))
}

// all lists the partitions in no order.
func (s *Store) all() []*Partition {
	s.mu.RLock()
	defer s.mu.RUnlock()
	list := make([]*Partition, 0, len(s.partitions))
	for _, p := range s.partitions {
		list = append(list, p)
	}
	return list
}

// Err is the first failure of storage, nil while all is well; ErrClosed after Close.
func (s *Store) Err() error {
	if f := s.failure.Load(); f != nil {
		return f
	}
	if s.closed.Load() {
		return ErrClosed
	}
	return nil
}

// fail latches the store: after a failed write or sync nothing is known of what it covered, and a retry proves
// nothing. It returns the latched error.
func (s *Store) fail(cause error) error {
	first := s.failure.CompareAndSwap(nil, &storageError{cause})
	// Also by whoever came second: the journal's writer must find the latch when it returns from here, or it would
	// complete what it could not write without an error.
	s.journal.fail(s.failure.Load())
	if first {
		s.log.Error("storage failed; nothing more is acknowledged", "err", cause)
		s.tasks.Add(1)
		go func() {
			defer s.tasks.Done()
			s.options.OnFatal(s.failure.Load())
		}()
	}
	return s.failure.Load()
}

// Close writes out what is queued, makes all of it durable, and writes a clean checkpoint, so that the next Open has
// nothing to recover. It must not run at the same time as other calls that change partitions.
func (s *Store) Close() error {
	if s.closed.Swap(true) {
		return nil
	}
	err := s.journal.close()
	close(s.stop)
	s.chores.close()
	s.flusher.close()
	s.tasks.Wait()
	if f := s.failure.Load(); f != nil {
		err = f
	} else {
		err = errors.Join(err, s.checkpoints.final())
	}
	s.tasks.Wait() // OnFatal, should the last checkpoint have failed
	s.files.close()
	return errors.Join(err, s.journal.closeFiles(), s.lock.Close())
}
