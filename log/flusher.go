package log

import (
	"sync"
	"time"
)

// flusher syncs the segments of partitions with fsync interval, each within its interval of the first append that it
// has not synced.
type flusher struct {
	s    *Store
	mu   sync.Mutex
	list []flush
	wake chan struct{}
}

type flush struct {
	p   *Partition
	due time.Time
}

func (f *flusher) init(s *Store) {
	f.s, f.wake = s, make(chan struct{}, 1)
}

// add notes that the partition has unsynced appends. The caller holds the partition's lock.
func (f *flusher) add(p *Partition) {
	f.mu.Lock()
	f.list = append(f.list, flush{p, time.Now().Add(p.config.FsyncInterval)})
	first := len(f.list) == 1
	f.mu.Unlock()
	if first {
		select {
		case f.wake <- struct{}{}:
		default:
		}
	}
}

func (f *flusher) close() {}

func (f *flusher) run() {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		select {
		case <-f.s.stop:
			return
		case <-f.wake:
		case <-timer.C:
		}
		if next := f.flush(time.Now()); !next.IsZero() {
			timer.Reset(time.Until(next))
		}
	}
}

// flush syncs what is due and returns when the next is.
func (f *flusher) flush(now time.Time) (next time.Time) {
	f.mu.Lock()
	var due []*Partition
	kept := f.list[:0]
	for _, w := range f.list {
		if w.due.After(now) {
			kept = append(kept, w)
			if next.IsZero() || w.due.Before(next) {
				next = w.due
			}
		} else {
			due = append(due, w.p)
		}
	}
	clear(f.list[len(kept):])
	f.list = kept
	f.mu.Unlock()
	var dirty []syncItem
	for _, p := range due {
		p.mu.Lock()
		p.unsynced = false
		dirty = p.unsyncedSegments(dirty)
		p.mu.Unlock()
	}
	if f.s.Err() == nil {
		f.s.syncSegments(dirty) // an error latches the store
	}
	return next
}
