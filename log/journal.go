package log

import (
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"sync/atomic"

	"github.com/sequitur-mq/sequitur/internal/vfs"
)

// Completion is told the fate of an append or another entry.
type Completion interface {
	// Complete is called exactly once, in the order in which the entries of a partition were queued, with nil once the
	// entry is durable or with an error that wraps ErrStorageFailed. It runs on a journal goroutine that all
	// partitions share: it must not block, and may call back into the log only to read state.
	Complete(err error)
}

// ticket is one entry on its way into the journal.
type ticket struct {
	kind   entryKind
	flags  uint8
	number uint32
	crc    uint32
	data   []byte
	end    int64      // of a batch entry: the durable end once it completes
	p      *Partition // of a batch entry
	c      Completion // may be nil
}

// journal is the shared, recycled write-ahead journal with group commit.
//
// Tickets queue under mu. One writer goroutine takes all that wait, lays them out as groups of up to maxGroup bytes,
// and writes each with one write and one flush; meanwhile the next ones queue. There is no timer: a lone append is
// written at once, and load makes groups grow by itself. Completions run in queue order: on the writer itself when
// nothing else waits (one goroutine hop less), else on the completer, so that the disk never idles behind them.
//
// Invariants: positions are handed out in queue order; a group is begun only after the one before it is durable
// (which is what lets recovery tell a torn tail from damage); a ticket queued under its partition's lock is reflected
// in every later capture of that partition.
//
// Rejected: appenders writing for each other (the caller of Append holds the replica's lock and must not wait for
// disks); two groups in flight (recovery could no longer tell a torn group from a damaged one); blocking Append when
// the journal is full (the checkpoint that would free it needs the same replica's lock).
type journal struct {
	fs       vfs.FS
	dir      string
	disk     [16]byte
	buffered bool  // write through the page cache and flush with fdatasync
	fileSize int64 // of new files
	maxBytes int64
	maxGroup int
	switches *switches
	lastFile int // number of the newest file; createFile's only caller at a time owns it

	onFail         func(error) // latches the store
	onNoRoom       func()      // the disk has no room for another file: appends are to be refused
	wantCheckpoint func()      // must not block

	mu              sync.Mutex
	wake            sync.Cond // the writer: tickets, a blank file, closing
	keep            sync.Cond // the keeper: a file is wanted
	queue           []ticket
	spares          [][]ticket
	nextSeq         uint64
	changed         []*Partition // changed since the last capture; see Store.checkpoint
	free            []*journalFile
	live            []*journalFile // oldest first; the last one is being written
	at              position
	sinceCheckpoint int64 // bytes written; at a quarter of the cap one is asked for, so that it is done before the cap
	wantFile        bool
	noRoom          bool // there was no room for a blank file when it was tried last; retryFile makes the keeper try again
	waiting         bool // the writer waits in next
	closing         bool
	ended           bool // the writer has returned
	err             error

	completer completer
	stats     journalStats
	done      sync.WaitGroup

	// Owned by the writer goroutine.
	buf   []byte
	seqOf uint64 // of the next entry to be laid out
}

const maxGroupBytes = 1 << 20

// journalStats are read by Stats.
type journalStats struct {
	appends, groups, bytes, padding atomic.Uint64
	stalls, switches                atomic.Uint64
	sync                            Histogram
}

func newJournal(dir string, o Options, disk [16]byte) *journal {
	j := &journal{
		fs: o.FS, dir: filepath.Join(dir, "journal"), disk: disk, buffered: o.JournalBuffered,
		fileSize: o.JournalFileBytes, maxBytes: o.JournalMaxBytes,
		maxGroup: int(min(maxGroupBytes, o.JournalFileBytes/4)), switches: o.switches,
	}
	j.wake.L, j.keep.L = &j.mu, &j.mu
	j.completer.init(j.recycleTickets)
	return j
}

// mode describes how groups are written.
func (j *journal) mode() string {
	if j.buffered {
		return "fdatasync"
	}
	return "direct+dsync"
}

// maxEntry is the most data that one entry may hold.
func (j *journal) maxEntry() int {
	return int(j.fileSize) - journalDataFrom - groupHeaderSize - entryHeaderSize - journalBlock
}

// start takes the files over from recovery and begins a new lap after end.
func (j *journal) start(live, free []*journalFile, end position, nextSeq uint64) error {
	j.live, j.free, j.nextSeq, j.seqOf, j.at = live, nil, nextSeq, nextSeq, end
	for _, jf := range free {
		if jf.size == j.fileSize || len(j.free) == 0 && len(free) == 1 {
			j.free = append(j.free, jf)
			continue
		}
		if err := j.discard(jf); err != nil {
			return err
		}
	}
	if len(j.free) == 0 {
		jf, err := j.createFile(min(j.fileSize, firstJournalFileBytes)) // a start should not wait for a large one
		if err != nil {
			return err
		}
		j.free = append(j.free, jf)
	}
	if err := j.chooseMode(j.free[0]); err != nil {
		return err
	}
	for _, jf := range append(j.free[1:], j.live...) {
		if jf.direct && j.buffered {
			if err := j.reopen(jf); err != nil {
				return err
			}
		}
	}
	j.buf = vfs.AlignedBuffer(j.maxGroup + journalBlock)
	if err := j.beginLap(); err != nil {
		return err
	}
	j.done.Add(3)
	go j.run()
	go j.completer.run(&j.done)
	go j.keeper()
	return nil
}

func (j *journal) discard(jf *journalFile) error {
	if err := errors.Join(jf.f.Close(), j.fs.Remove(jf.name)); err != nil {
		return fmt.Errorf("remove journal file: %w", err)
	}
	return nil
}

// enqueue hands a ticket to the writer and returns its sequence number. The caller holds the lock of the partition
// that the entry is about, so that queue order is the partition's order. data must not change until completion.
func (j *journal) enqueue(t ticket) (uint64, error) {
	j.mu.Lock()
	if j.err != nil || j.closing {
		err := j.err
		j.mu.Unlock()
		if err == nil {
			err = ErrClosed
		}
		return 0, err
	}
	seq := j.nextSeq
	j.nextSeq++
	j.queue = append(j.queue, t)
	j.markChanged(t.p)
	wake := j.waiting
	j.waiting = false
	j.mu.Unlock()
	if wake {
		j.wake.Signal()
	}
	return seq, nil
}

// markChanged puts a partition on the list for the next checkpoint. The caller holds j.mu and the partition's lock.
func (j *journal) markChanged(p *Partition) {
	if p != nil && !p.changed {
		p.changed = true
		j.changed = append(j.changed, p)
	}
}

// touch is markChanged for changes that are not journaled.
func (j *journal) touch(p *Partition) {
	if p.changed {
		return
	}
	j.mu.Lock()
	j.markChanged(p)
	j.mu.Unlock()
}

// takeChanged returns where the journal stands and the partitions changed so far. Whatever lies before the position
// was queued before this call, so captures made after it reflect it.
func (j *journal) takeChanged() (position, []*Partition, uint64) {
	j.mu.Lock()
	defer j.mu.Unlock()
	list := j.changed
	j.changed = nil
	j.sinceCheckpoint = 0
	return j.at, list, j.nextSeq
}

// recycle gives the files before pos back. The checkpoint that no longer needs them is durable.
func (j *journal) recycle(pos position) error {
	var odd []*journalFile
	j.mu.Lock()
	n := 0
	for n < len(j.live)-1 && j.live[n].lap < pos.lap {
		if jf := j.live[n]; jf.size == j.fileSize {
			j.free = append(j.free, jf)
		} else {
			odd = append(odd, jf)
		}
		n++
	}
	j.live = append([]*journalFile(nil), j.live[n:]...)
	j.mu.Unlock()
	j.wake.Signal()
	for _, jf := range odd {
		if err := j.discard(jf); err != nil {
			return err
		}
	}
	return nil
}

// liveBytes is what recovery would have to read, at most. The caller holds j.mu.
func (j *journal) liveBytes() (n int64) {
	for _, jf := range j.live[:max(len(j.live)-1, 0)] {
		n += jf.size
	}
	return n + j.at.off
}

// fail latches the journal: nothing more is written, all that waits is failed.
func (j *journal) fail(err error) {
	j.mu.Lock()
	if j.err == nil {
		j.err = err
	}
	j.mu.Unlock()
	j.wake.Broadcast()
	j.keep.Broadcast()
}

// close writes what is queued, completes it and stops the goroutines.
func (j *journal) close() error {
	j.mu.Lock()
	j.closing = true
	j.mu.Unlock()
	j.wake.Broadcast()
	j.keep.Broadcast()
	j.done.Wait()
	return nil
}

func (j *journal) closeFiles() (err error) {
	for _, jf := range append(append([]*journalFile(nil), j.live...), j.free...) {
		err = errors.Join(err, jf.f.Close())
	}
	return err
}

// retryFile makes the keeper try again where the disk had no room for a blank file.
func (j *journal) retryFile() {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.noRoom {
		j.noRoom = false
		j.wake.Signal()
	}
}

// keeper prepares blank files ahead of need, so that the writer does not wait for them.
func (j *journal) keeper() {
	defer j.done.Done()
	j.mu.Lock()
	defer j.mu.Unlock()
	for {
		for !j.wantFile && !j.ended && j.err == nil {
			j.keep.Wait()
		}
		if j.ended || j.err != nil {
			return
		}
		if len(j.free) > 0 {
			j.wantFile = false
			continue
		}
		// Sizes double after a start with a small one, so that the next is ready before the last is full.
		size := min(j.fileSize, 2*j.live[len(j.live)-1].size)
		j.mu.Unlock()
		jf, err := j.createFile(size)
		if vfs.IsDiskFull(err) {
			// Not final: a checkpoint gives files back, and until there is space again the store refuses appends.
			j.mu.Lock()
			j.wantFile, j.noRoom = false, true
			j.mu.Unlock()
			j.onNoRoom()
			j.mu.Lock()
			j.wake.Signal()
			continue
		}
		j.mu.Lock()
		j.wantFile = false
		if err != nil {
			j.mu.Unlock()
			j.onFail(err)
			j.mu.Lock()
			return
		}
		j.free = append(j.free, jf)
		j.wake.Signal()
	}
}
