package log

import (
	"errors"
	"math"
	"path/filepath"
	"sync/atomic"
	"time"
)

// reserve refuses appends before the disk is really full, so that checkpoints, truncations and deletions still find
// room, and lets them go on when there is space again. The ballast is a file that is given up if they do not.
type reserve struct {
	s       *Store
	full    atomic.Bool
	free    atomic.Uint64
	budget  atomic.Int64 // bytes that appends may still write before free space must be looked at again
	ballast atomic.Bool  // the file is there
	check   chan struct{}
}

// reserveInterval is how often free space is looked at: at 1 GB/s a quarter of a second fills the default reserve.
const reserveInterval = 200 * time.Millisecond

func (r *reserve) init(s *Store) { r.s, r.check = s, make(chan struct{}, 1) }

// noteFull is told of a write that found no room.
func (r *reserve) noteFull() {
	if !r.full.Swap(true) {
		r.s.log.Error("storage full: appends are refused until there is space", "dir", r.s.dir)
	}
}

func (r *reserve) run() {
	ticker := time.NewTicker(reserveInterval)
	defer ticker.Stop()
	r.look()
	r.keepBallast()
	for {
		select {
		case <-r.s.stop:
			return
		case <-ticker.C:
		case <-r.check:
		}
		r.look()
		if !r.full.Load() {
			r.keepBallast()
		}
	}
}

// noRoom is told of a file that is needed and found no room.
func (r *reserve) noRoom() {
	if !r.giveBallast() {
		r.noteFull()
	}
	if fn := r.s.options.switches.noRoom; fn != nil {
		fn(r.s)
	}
}

// spend notes that an append wrote n bytes: appends that could have used up what was free look again at once, since a
// fast disk writes a small reserve full between two looks.
func (r *reserve) spend(n int) {
	if r.budget.Add(-int64(n)) < 0 {
		r.compare()
	}
}

func (r *reserve) look() {
	r.compare()
	r.s.journal.retryFile()
}

// compare compares free space with the reserve. Resuming wants a quarter more, lest the flag flutter.
func (r *reserve) compare() {
	free, _, err := r.s.fs.Free(r.s.dir)
	if err != nil {
		return
	}
	r.free.Store(free)
	limit := uint64(r.s.options.ReserveBytes)
	if !r.ballast.Load() {
		limit += uint64(r.s.options.BallastBytes)
	}
	r.budget.Store(int64(min(free, math.MaxInt64)) - int64(limit))
	switch {
	case free < limit:
		r.noteFull()
	case free >= limit+limit/4 && r.full.Swap(false):
		r.s.log.Warn("storage has space again: appends are accepted", "dir", r.s.dir, "free_bytes", free)
	}
}

func (r *reserve) ballastName() string { return filepath.Join(r.s.dir, "ballast") }

// keepBallast makes the file if it is not there.
func (r *reserve) keepBallast() {
	size := r.s.options.BallastBytes
	if size == 0 || r.ballast.Load() {
		return
	}
	f, err := r.s.fs.Create(r.ballastName())
	if err == nil {
		err = errors.Join(f.Preallocate(0, size), f.Close())
	}
	if err != nil {
		r.s.fs.Remove(r.ballastName())
		return
	}
	r.ballast.Store(true)
}

// giveBallast frees the ballast's space for something that must be written, and reports whether there was any.
func (r *reserve) giveBallast() bool {
	if !r.ballast.Swap(false) {
		return false
	}
	r.noteFull()
	return r.s.fs.Remove(r.ballastName()) == nil
}
