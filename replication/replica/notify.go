package replica

import (
	"slices"

	"github.com/sequitur-mq/sequitur/replication"
)

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

type notified struct {
	member replication.Member
	notify Notify
}

// SetFollowerNotify has n told of what there is to send to a follower, in the place of
// who was told before.
func (r *Replica) SetFollowerNotify(m replication.Member, n Notify) {
	r.mu.Lock()
	defer r.unlock()
	list := slices.DeleteFunc(slices.Clone(r.followers), func(f notified) bool { return f.member == m })
	r.followers = append(list, notified{m, n})
}

// ClearFollowerNotify ends what SetFollowerNotify began, unless somebody else took over.
// n may be told once more after it returned.
func (r *Replica) ClearFollowerNotify(m replication.Member, n Notify) {
	r.mu.Lock()
	defer r.unlock()
	r.followers = slices.DeleteFunc(slices.Clone(r.followers), func(f notified) bool { return f.member == m && f.notify == n })
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
