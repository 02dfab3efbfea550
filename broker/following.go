package broker

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sequitur-mq/sequitur/consensus"
	"github.com/sequitur-mq/sequitur/log"
	"github.com/sequitur-mq/sequitur/replication"
	"github.com/sequitur-mq/sequitur/replication/replica"
	"github.com/sequitur-mq/sequitur/wire"
	"github.com/sequitur-mq/sequitur/wire/peer"
)

// following makes the replicas on this broker do what the cluster's metadata says:
// lead, follow, be made and go. It has no say of its own.
type following struct {
	topics   *topics
	log      *slog.Logger
	disk     [16]byte
	sessions sessions
	self     atomic.Pointer[replication.Member] // nil until this disk is registered

	mu       sync.Mutex
	moved    chan struct{}         // closed, and made anew, at each change
	led      map[log.ID]*partition // that this broker leads
	serving  map[log.ID]uint32     // epochs of led partitions of which the controller knows that they serve
	term     uint64                // of the controller that knows
	late     map[log.ID]struct{}   // not as the metadata says, because that failed
	held     map[log.ID]*partition // replicas on this broker
	suspects []peer.PartitionID    // of the last look
	beats    int                   // heartbeats since the start

	released atomic.Int64 // replicas removed since the start, because they moved away
	breaks   followingBreaks
}

// followingBreaks switches rules off, for tests that show that they are needed.
type followingBreaks struct {
	releaseOnOldMetadata bool // remove replicas whatever epoch the metadata are of
}

// sessions are those in which this broker follows others.
type sessions interface {
	Follow(id log.ID, r *replica.Replica, leader replication.Member)
	Unfollow(id log.ID)
}

func newFollowing(t *topics, disk [16]byte, logger *slog.Logger) *following {
	return &following{
		topics: t, log: logger, disk: disk, moved: make(chan struct{}),
		led: map[log.ID]*partition{}, serving: map[log.ID]uint32{}, late: map[log.ID]struct{}{}, held: map[log.ID]*partition{},
	}
}

// know finds out which member this broker is.
func (f *following) know(m *consensus.Machine) {
	if f.self.Load() != nil {
		return
	}
	for _, b := range m.Brokers() {
		if b.DiskUUID == f.disk {
			self := b.Member()
			f.self.Store(&self)
		}
	}
}

// holds reports whether a replica of the partition belongs on this broker.
func (f *following) holds(p *consensus.Partition) bool {
	self := f.self.Load()
	return self != nil && p.Set.Has(*self)
}

// follow brings partitions of a topic to what the metadata says.
func (f *following) follow(t *topic, numbers []uint32) {
	for _, n := range numbers {
		f.followOne(&t.partitions[n])
	}
}

func (f *following) followOne(p *partition) {
	meta := p.topic.meta.Load()
	want := &meta.Partitions[p.number]
	if !f.holds(want) {
		f.release(p, want.Epoch)
		return
	}
	err := f.assign(p, want)
	f.mu.Lock()
	defer f.mu.Unlock()
	if err == nil {
		delete(f.late, p.logID())
		return
	}
	f.late[p.logID()] = struct{}{}
	f.log.Error("partition is not as the cluster decided; this is tried again", "topic", p.topic.name, "partition", p.number, "error", err)
}

// assign gives the replica its role, making it if it is not there.
func (f *following) assign(p *partition, want *consensus.Partition) error {
	p.held.Store(true)
	r, err := p.use()
	if err != nil {
		return err
	}
	id := p.logID()
	err = r.Assign(replica.Assignment{Epoch: want.Epoch, Leader: want.Leader, Set: want.Set})
	if err != nil {
		return err
	}
	self := *f.self.Load()
	leads := want.Leader == self
	f.mu.Lock()
	f.held[id] = p
	if leads {
		f.led[id] = p
	} else {
		delete(f.led, id)
	}
	f.mu.Unlock()
	if leads || want.Leader.IsZero() {
		f.sessions.Unfollow(id)
	} else {
		f.sessions.Follow(id, r, want.Leader)
	}
	return nil
}

// release removes a replica that does not belong here any more: the epoch
// without it has begun.
//
// A start applies the metadata of the past again, and in the past the replica may
// have been elsewhere and come back since. What is here now took part in newer
// epochs then. Removing it would be a disk wiped under its old name, which votes
// acknowledged records away.
func (f *following) release(p *partition, epoch uint32) {
	id := p.logID()
	lp, stored := f.topics.store.Partition(id)
	if !stored && !p.held.Load() || f.self.Load() == nil {
		return
	}
	if stored {
		known, err := replica.KnownEpoch(lp)
		if err != nil {
			f.log.Error("a replica that seems to have moved away is left alone", "partition", id.String(), "error", err)
			return
		}
		if known >= epoch && !f.breaks.releaseOnOldMetadata {
			return
		}
	}
	f.forget(p)
	if err := f.topics.store.Delete(id); err != nil {
		f.log.Error("a replica that moved away was not removed; the next start does it", "partition", id.String(), "error", err)
		return
	}
	f.released.Add(1)
	f.log.Info("replica removed: it moved to another broker", "topic", p.topic.name, "partition", p.number)
}

// forget takes a replica out of use.
func (f *following) forget(p *partition) {
	id := p.logID()
	p.held.Store(false)
	f.sessions.Unfollow(id)
	p.close()
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.led, id)
	delete(f.held, id)
	delete(f.serving, id)
	delete(f.late, id)
}

// announce wakes those who wait for a change of the metadata.
func (f *following) announce() {
	f.mu.Lock()
	defer f.mu.Unlock()
	close(f.moved)
	f.moved = make(chan struct{})
}

// next is closed at the next change of the metadata.
func (f *following) next() <-chan struct{} {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.moved
}

// metadataWait bounds how long a fence waits for the topic to be known here.
const metadataWait = 500 * time.Millisecond

// Fence implements cluster.Replicas.
func (f *following) Fence(ctx context.Context, req *peer.FenceRequest, resp *peer.FenceResponse) {
	resp.Items = make([]peer.FenceVote, len(req.Items))
	ctx, cancel := context.WithTimeout(ctx, metadataWait)
	defer cancel()
	var votes sync.WaitGroup
	for i := range req.Items {
		item, out := &req.Items[i], &resp.Items[i]
		out.Epoch = item.Epoch
		r, err := f.await(ctx, item.ID)
		if err != nil {
			out.Code, out.Message = wire.CodeUnknownPartition, err.Error()
			continue
		}
		votes.Add(1)
		r.Fence(item.Epoch, func(v replication.Vote, err error) {
			defer votes.Done()
			if err != nil {
				out.Code, out.Message = wire.CodeUnknown, err.Error()
				return
			}
			out.Epoch, out.LastEpoch, out.End, out.Suspect, out.Fence = v.Epoch, v.LastEpoch, v.End, v.Suspect, v.Fence
		})
	}
	votes.Wait()
	if self := f.self.Load(); self != nil { // known by now if there is any replica
		resp.From = peer.Member(*self)
	}
}

// await returns a replica, waiting for the metadata that makes it.
func (f *following) await(ctx context.Context, id peer.PartitionID) (*replica.Replica, error) {
	for {
		changed := f.next()
		p, err := f.topics.find(id.Topic, id.Partition)
		if err == nil {
			var r *replica.Replica
			if r, err = p.use(); err == nil {
				return r, nil
			}
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, err
		}
	}
}

const (
	// caughtUpLag is the lag below which a learner may become a member.
	caughtUpLag = 1000
	// suspectsEvery is how many heartbeats lie between two looks for damage.
	suspectsEvery = 10
)

// Report implements cluster.Replicas.
func (f *following) Report(req *peer.HeartbeatRequest) {
	f.mend()
	st := f.topics.store.Stats()
	req.DiskFree, req.Full = st.DiskFree, st.Full
	if self := f.self.Load(); self != nil {
		req.Disk = self.Disk
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	req.Partitions, req.Leaders = uint32(len(f.held)), uint32(len(f.led))
	for id, p := range f.led {
		f.reportLed(req, id, p)
	}
	if f.beats++; f.beats%suspectsEvery == 1 {
		f.suspects = f.suspects[:0]
		for id, p := range f.held {
			if r := p.replica.Load(); r != nil && r.State().Suspect {
				f.suspects = append(f.suspects, partitionID(id))
			}
		}
	}
	req.Suspects = append(req.Suspects, f.suspects...)
}

func partitionID(id log.ID) peer.PartitionID {
	return peer.PartitionID{Topic: id.Topic, Partition: id.Partition}
}

// reportLed says what the controller does not know yet of a partition led here.
// The caller holds mu.
func (f *following) reportLed(req *peer.HeartbeatRequest, id log.ID, p *partition) {
	meta := &p.topic.meta.Load().Partitions[p.number]
	epoch, known := f.serving[id]
	if known && epoch == meta.Epoch && len(meta.Set.Learners) == 0 {
		return
	}
	r := p.replica.Load()
	if r == nil {
		return
	}
	s := r.State()
	if !s.Serving || s.Epoch != meta.Epoch {
		return
	}
	if !known || epoch != s.Epoch {
		req.Serving = append(req.Serving, peer.EpochOf{ID: partitionID(id), Epoch: s.Epoch})
	}
	for _, l := range s.Followers {
		if l.Learner && l.Lag <= caughtUpLag {
			req.CaughtUp = append(req.CaughtUp, peer.CaughtUp{ID: partitionID(id), Epoch: s.Epoch, Member: peer.Member(l.Member)})
		}
	}
}

// Sent implements cluster.Replicas.
func (f *following) Sent(req *peer.HeartbeatRequest, term uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if term != f.term {
		// This controller knows only what it was told in this heartbeat.
		clear(f.serving)
		f.term = term
	}
	for _, s := range req.Serving {
		f.serving[log.ID{Topic: s.ID.Topic, Partition: s.ID.Partition}] = s.Epoch
	}
}

// Forgotten implements cluster.Replicas.
func (f *following) Forgotten() {
	f.mu.Lock()
	defer f.mu.Unlock()
	clear(f.serving)
}

// mend tries again what failed.
func (f *following) mend() {
	f.mu.Lock()
	ids := make([]log.ID, 0, len(f.late))
	for id := range f.late {
		ids = append(ids, id)
	}
	f.mu.Unlock()
	for _, id := range ids {
		p, err := f.topics.find(id.Topic, id.Partition)
		if err != nil {
			f.mu.Lock()
			delete(f.late, id)
			f.mu.Unlock()
			continue
		}
		f.followOne(p)
	}
}
