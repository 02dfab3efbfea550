package replica

import "slices"

// Notify is told that there may be something to send to a peer.
type Notify interface {
	// Moved is called with no lock held, on any goroutine, and must not block. now is
	// false when only the high watermark moved, which may wait for company.
	//
	// Leader side: the log end, the high watermark, the round or the role moved.
	// Follower side: the durable end or the role moved.
	Moved(now bool)
}

// moved is what there is to tell.
type moved uint8

const (
	notMoved moved = iota
	movedLater
	movedNow
)

// AddFollowerNotify has n told of what there is to send to a follower.
func (r *Replica) AddFollowerNotify(n Notify) {
	r.mu.Lock()
	defer r.unlock()
	r.followers = append(slices.Clone(r.followers), n)
}

// RemoveFollowerNotify ends what AddFollowerNotify began. n may be told once more after it
// returned.
func (r *Replica) RemoveFollowerNotify(n Notify) {
	r.mu.Lock()
	defer r.unlock()
	r.followers = slices.DeleteFunc(slices.Clone(r.followers), func(f Notify) bool { return f == n })
}

// SetProgressNotify has n told of what there is to report to the leader; nil ends it.
func (r *Replica) SetProgressNotify(n Notify) {
	r.mu.Lock()
	defer r.unlock()
	r.progress = n
}

// ClearProgressNotify ends what SetProgressNotify began, unless somebody else took over.
func (r *Replica) ClearProgressNotify(n Notify) {
	r.mu.Lock()
	defer r.unlock()
	if r.progress == n {
		r.progress = nil
	}
}
