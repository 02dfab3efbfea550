package replication

import (
	"fmt"
	"sort"
)

// EpochStart says at which offset the records of an epoch begin in a log.
type EpochStart struct {
	Epoch uint32
	First int64
}

// history is which epochs wrote a log. Both fields of its entries ascend. Two records
// with the same epoch and offset are the same record, and so are all before them,
// because one leader wrote the epoch.
//
// Invariant: the entry that covers the record just before the log's start is kept, for
// a log that retention or a truncation emptied must still vote with that epoch.
type history struct{ entries []EpochStart }

// before returns the epoch of the record before an offset, 0 if it is not known.
func (h *history) before(offset int64) uint32 {
	for n := len(h.entries); n > 0; n = 0 {
		if last := h.entries[n-1]; last.First < offset {
			return last.Epoch
		}
		i := sort.Search(n, func(i int) bool { return h.entries[i].First >= offset })
		if i > 0 {
			return h.entries[i-1].Epoch
		}
	}
	return 0
}

// common returns the greatest epoch that is at most the given one, and where its
// records end in a log that ends at end.
func (h *history) common(epoch uint32, end int64) (common uint32, to int64, ok bool) {
	to = end
	for i := len(h.entries) - 1; i >= 0; i-- {
		if e := h.entries[i]; e.Epoch <= epoch {
			return e.Epoch, to, true
		}
		to = min(to, h.entries[i].First)
	}
	return 0, to, false
}

// note takes in that records of an epoch begin at an offset, if it is a new one.
func (h *history) note(epoch uint32, first int64) error {
	if n := len(h.entries); n > 0 {
		last := h.entries[n-1]
		if epoch == last.Epoch {
			return nil
		}
		if epoch < last.Epoch || first <= last.First {
			return fmt.Errorf("epoch %d from %d follows epoch %d from %d: %w", epoch, first, last.Epoch, last.First, ErrInvariant)
		}
	}
	h.entries = append(h.entries, EpochStart{epoch, first})
	return nil
}

// truncate forgets the epochs that begin at an offset or later.
func (h *history) truncate(to int64) {
	n := len(h.entries)
	for n > 0 && h.entries[n-1].First >= to {
		n--
	}
	h.entries = h.entries[:n]
}

// trim forgets the epochs that ended before the record before start.
func (h *history) trim(start int64) {
	n := 0
	for n+1 < len(h.entries) && h.entries[n+1].First < start {
		n++
	}
	h.entries = h.entries[n:]
}
