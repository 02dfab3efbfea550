package replication

import "fmt"

// Follower copies the log of the leader of one epoch. It belongs to a [Replica] and ends
// with its role: afterwards it asks for nothing and takes nothing in.
type Follower struct {
	*log
	epoch   uint32
	leader  Member
	over    bool
	matched bool   // the log is a beginning of the leader's
	known   int64  // the leader's high watermark, as heard
	round   uint64 // the latest heard of
}

// Epoch is the epoch followed.
func (f *Follower) Epoch() uint32 { return f.epoch }

// Leader is whom it follows.
func (f *Follower) Leader() Member { return f.leader }

// End is the end of the log.
func (f *Follower) End() int64 { return f.end }

// HighWatermark is the leader's, as far as the log reaches.
func (f *Follower) HighWatermark() int64 { return f.highWatermark }

// Next is the fetch that says where the follower is. It may be sent at any time and as
// often as one likes.
func (f *Follower) Next() Fetch {
	n := Fetch{From: f.self, Epoch: f.epoch, Offset: f.end, LastEpoch: f.lastEpoch(), Durable: f.durable, Round: f.round}
	if f.suspect && !f.breaks.SuspectVotes {
		n.Durable = 0 // a damaged copy is none
	}
	if f.breaks.CountUnsynced {
		n.Durable = f.end
	}
	return n
}

// Receive looks at data from the leader. The driver appends the records if accept is
// true, and tells [Follower.Appended]. Data of another epoch, or that does not continue
// the log, is not accepted, which is no error: fetch again.
func (f *Follower) Receive(d Data) (accept bool, err error) {
	if f.over || d.Epoch != f.epoch || d.End < d.Base {
		return false, nil
	}
	f.round = max(f.round, d.Round)
	// Two records of the same epoch and offset are the same, and so are all before
	// them. Before an empty log there are only committed ones.
	last := f.lastEpoch()
	fits := d.Base == f.end && (last == d.LastEpoch || last == 0 || f.breaks.IgnoreLastEpoch)
	f.matched = f.matched || fits
	if f.matched {
		f.known = max(f.known, d.HighWatermark)
		f.raise()
	}
	if f.breaks.WipedUntilFirstFetch {
		f.suspect = false
	}
	return fits && d.End > d.Base, nil
}

// raise moves the own high watermark.
func (f *Follower) raise() {
	f.highWatermark = max(f.highWatermark, min(f.known, f.end))
}

// Appended takes in that records [base, end) of an epoch were appended, as the leader
// stamped them.
func (f *Follower) Appended(epoch uint32, base, end int64) error {
	if f.over {
		return fmt.Errorf("append to replica %v as follower in epoch %d: %w", f.self, f.epoch, ErrFenced)
	}
	if base != f.end || end < base || epoch > f.epoch {
		return fmt.Errorf("replica %v appends [%d, %d) of epoch %d in epoch %d, its log ends at %d: %w",
			f.self, base, end, epoch, f.epoch, f.end, ErrInvariant)
	}
	if err := f.history.note(epoch, base); err != nil {
		return err
	}
	f.end = end
	f.raise()
	return nil
}

// agrees says that the log is known to be a beginning of the leader's. It is so for good:
// the leader of an epoch only appends.
func (f *Follower) agrees() bool {
	last := f.lastEpoch()
	return f.matched || last == f.epoch || last == 0
}

// Truncate looks at the leader's answer that the logs differ: its greatest epoch up to
// the follower's last one, and where that ends. It returns where the driver has to
// truncate the log to, End if nothing is to be done. The machine's log ends there from
// now on. The error is ErrSuspect if there is damage that must be repaired before.
func (f *Follower) Truncate(commonEpoch uint32, end int64) (int64, error) {
	if f.over || f.agrees() {
		return f.end, nil // the answer came late
	}
	epoch, to, ok := f.history.common(commonEpoch, f.end)
	switch {
	case !ok:
		to = f.start
	case epoch == commonEpoch:
		to = min(end, to)
		// Otherwise end is of an epoch that is not here: it means nothing to this log,
		// where it may lie inside a batch. The next fetch asks about the older epoch.
	}
	if to >= f.end {
		return f.end, nil
	}
	// Damage in what stays is repaired first: other replicas have it. Damage in what
	// goes cannot be, for nobody has it, and goes with it.
	if f.suspect && f.damaged < to && !f.breaks.SuspectVotes {
		return f.end, fmt.Errorf("truncate replica %v to %d: %w", f.self, to, ErrSuspect)
	}
	if err := f.truncate(to); err != nil {
		return f.end, err
	}
	f.suspect = f.suspect && f.damaged < to
	return to, nil
}

// Reset looks at the leader's answer that its log begins at start, with nothing in
// common with this one. It returns whether the driver has to begin a new log there.
func (f *Follower) Reset(start int64) (reset bool, err error) {
	if f.over || start <= f.end && f.agrees() {
		return false, nil // the answer came late
	}
	if start < f.highWatermark {
		return false, fmt.Errorf("replica %v would begin anew at %d, below its high watermark %d: %w",
			f.self, start, f.highWatermark, ErrInvariant)
	}
	if start <= f.end {
		f.resetEpoch = f.history.before(start)
	} else {
		f.resetEpoch = 0 // it never had the record before start, and so never counted for it
	}
	f.resetLost = false
	f.history = history{}
	f.start, f.end, f.durable, f.highWatermark = start, start, start, start
	f.suspect, f.matched = false, false
	return true, nil
}

// Durable takes in that the log is fsynced up to an offset.
func (f *Follower) Durable(durable int64) error { return f.setDurable(durable) }
