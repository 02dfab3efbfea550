package session

import (
	"errors"
	"sync"

	"github.com/sequitur-mq/sequitur/log"
	"github.com/sequitur-mq/sequitur/replication"
	"github.com/sequitur-mq/sequitur/replication/replica"
	"github.com/sequitur-mq/sequitur/wire"
	"github.com/sequitur-mq/sequitur/wire/peer"
)

// feed is one partition of a session, at the leader.
type feed struct {
	server *server
	handle uint32
	id     peer.PartitionID
	item   item[feed]
	listed bool // in the writer's list; the writer's

	mu      sync.Mutex
	replica *replica.Replica
	gone    bool
	state   feedState
	seek    uint32 // the standing fetch
	fetch   replication.Fetch
	next    int64 // offset to be pushed next
	blocked bool  // the partition's window is full
	refused wire.Code

	sent, received uint64 // bytes of batches of this seek
	sentHW         int64
	sentRound      uint64
	started        bool // something was pushed for this seek
}

type feedState uint8

const (
	silent     feedState = iota // the follower has to seek
	unanswered                  // the fetch is to be answered
	refusing                    // the refusal is to be sent
	streaming
)

func newFeed(s *server, handle uint32, id peer.PartitionID) *feed {
	f := &feed{server: s, handle: handle, id: id}
	f.item.owner = f
	return f
}

// Moved implements replica.Notify.
func (f *feed) Moved(now bool) { f.server.agenda.add(&f.item, now) }

// leave ends the feed.
func (f *feed) leave() {
	f.mu.Lock()
	r := f.replica
	f.gone, f.replica, f.state = true, nil, silent
	f.mu.Unlock()
	if r != nil {
		r.RemoveFollowerNotify(f)
	}
}

// seekTo takes up a new standing fetch. The writer answers it.
func (f *feed) seekTo(seek uint32, fetch replication.Fetch) error {
	r, err := f.server.replicas.Replica(f.id.Topic, f.id.Partition)
	f.mu.Lock()
	if seek <= f.seek {
		f.mu.Unlock()
		return wire.Errorf(wire.CodeInvalidRequest, "seek %d of handle %d after %d", seek, f.handle, f.seek)
	}
	before := f.replica
	f.replica, f.seek, f.fetch, f.state = r, seek, fetch, unanswered
	f.sent, f.received, f.blocked, f.started = 0, 0, false, false
	if err != nil {
		f.replica, f.state, f.refused = nil, refusing, wire.CodeOf(err)
	}
	f.mu.Unlock()
	if before != nil && before != r {
		before.RemoveFollowerNotify(f)
	}
	if err == nil && before != r {
		r.AddFollowerNotify(f)
	}
	f.Moved(true)
	return nil
}

// report takes in where the follower is while it is being fed.
func (f *feed) report(e *peer.ProgressEntry, fetch replication.Fetch) error {
	f.mu.Lock()
	if e.Seek != f.seek || e.Received < f.received || e.Received > f.sent {
		f.mu.Unlock()
		return wire.Errorf(wire.CodeInvalidRequest, "handle %d reports seek %d with %d bytes taken in", e.Handle, e.Seek, e.Received)
	}
	f.received = e.Received
	r, opened := f.replica, f.blocked && f.outstanding() < uint64(f.server.options.PartitionWindow)
	if opened {
		f.blocked = false
	}
	if f.state == unanswered {
		f.fetch = fetch // newer; the writer hands it in
		r = nil
	}
	f.mu.Unlock()
	if opened {
		f.Moved(true)
	}
	if r == nil {
		return nil
	}
	_, err := r.Fetched(fetch)
	return err
}

func (f *feed) outstanding() uint64 { return f.sent - f.received }

// gather adds what this feed has to the frame. again is true if there is more at once.
func (f *feed) gather() (bytes int, again bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.state == unanswered {
		f.answer()
	}
	switch f.state {
	case refusing:
		f.add(peer.PushEntry{Kind: peer.PushRefused, Code: f.refused})
		f.state = silent
	case streaming:
		return f.stream()
	}
	return 0, false
}

// add puts an entry into the frame.
func (f *feed) add(e peer.PushEntry) {
	e.Handle, e.Seek = f.handle, f.seek
	f.server.push.Entries = append(f.server.push.Entries, e)
}

// answer hands the standing fetch to the replica. While it is not of the replica's epoch
// it stays unanswered: one of the two has not heard of the newer epoch yet. The caller
// holds mu.
func (f *feed) answer() {
	answer, err := f.replica.Fetched(f.fetch)
	if err != nil {
		f.server.options.Logger.Error("replication: fetch refused", "follower", f.server.follower.String(), "error", err)
		f.state, f.refused = refusing, wire.CodeUnknown
		return
	}
	switch answer.Kind {
	case replication.Send:
		f.state, f.next = streaming, answer.Offset
	case replication.Truncate:
		f.add(peer.PushEntry{Kind: peer.PushTruncate, Epoch: f.fetch.Epoch, End: answer.Offset, CommonEpoch: answer.CommonEpoch})
		f.state = silent
	case replication.Reset:
		f.reset(answer.Offset)
	}
}

// reset tells the follower to begin a new log. The caller holds mu.
func (f *feed) reset(start int64) {
	f.add(peer.PushEntry{Kind: peer.PushReset, Epoch: f.fetch.Epoch, Base: start, End: start, LogStart: start})
	f.state = silent
}

// stream pushes what is new. The caller holds mu.
func (f *feed) stream() (bytes int, again bool) {
	o := &f.server.options
	if f.outstanding() >= uint64(o.PartitionWindow) {
		f.blocked = true // until the follower reports
		return 0, false
	}
	chunk, data, more, err := f.replica.ReadForFollower(f.next, min(o.ChunkBytes, o.PartitionWindow-int(f.outstanding())))
	if err == nil && data.Epoch != f.fetch.Epoch {
		if chunk != nil {
			chunk.Release()
		}
		f.state = silent // the follower will seek in the new epoch
		return 0, false
	}
	switch {
	case errors.Is(err, replica.ErrNotLeader):
		f.state = silent
		return 0, false
	case errors.Is(err, log.ErrOutOfRange) && f.next < data.LogStart:
		f.reset(data.LogStart) // retention was faster than the follower
		return 0, false
	case err != nil:
		f.server.options.Logger.Error("replication: read for a follower", "follower", f.server.follower.String(), "error", err)
		f.add(peer.PushEntry{Kind: peer.PushRefused, Code: codeOf(err)})
		f.state = silent
		return 0, false
	}
	if chunk == nil && f.started && data.HighWatermark == f.sentHW && data.Round == f.sentRound {
		return 0, false
	}
	e := peer.PushEntry{
		Kind: peer.PushData, Epoch: data.Epoch, Base: data.Base, End: data.End, LastEpoch: data.LastEpoch,
		HighWatermark: data.HighWatermark, LogStart: data.LogStart, Round: data.Round,
	}
	if chunk != nil {
		bytes = chunk.Len()
		f.server.chunks = append(f.server.chunks, chunk)
		f.sent += uint64(bytes)
	}
	e.Bytes = uint32(bytes)
	f.add(e)
	f.next, f.sentHW, f.sentRound, f.started = data.End, data.HighWatermark, data.Round, true
	return bytes, more
}

func codeOf(err error) wire.Code {
	if errors.Is(err, log.ErrCorrupt) {
		return wire.CodeCorrupt
	}
	return wire.CodeOf(err)
}
