package consensus

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"

	"github.com/sequitur-mq/sequitur/log"
	"github.com/sequitur-mq/sequitur/wire"
)

// RaftOptions configure a Raft. Node, DiskUUID, Stream and Forward are required; other
// zero fields take the defaults named here.
type RaftOptions struct {
	Node     uint32
	DiskUUID [16]byte
	Stream   *StreamLayer

	// OnChanges acts upon changes, as in LocalOptions. Nothing is applied, so it is
	// not called, before Start.
	OnChanges func([]Change)

	// OnLeader hears that this broker leads Raft, once its machine has applied
	// everything that was committed before, and that it leads no more. Calls come in
	// order on a goroutine of their own.
	OnLeader func(isLeader bool, term uint64)

	// Forward has a command, in the encoding of ApplyForwarded, applied by the broker
	// with the given cluster address.
	Forward func(ctx context.Context, addr string, command []byte) (index uint64, result []byte, err error)

	// OnFatal hears of the first failure after which this broker's metadata cannot go
	// on: the storage failed, or there is a command that cannot be read. The process
	// has to stop. It must not wait for Close.
	OnFatal func(error)

	Logger *slog.Logger     // default: discard
	Now    func() time.Time // default time.Now; stamps the log and nothing else

	// ElectionTimeout is how long a leader is silent before another one is elected;
	// default 250 ms, and up to twice that by chance.
	ElectionTimeout time.Duration
	// LeaseTimeout is how long a leader that cannot reach a majority remains one;
	// default 150 ms, at most ElectionTimeout.
	LeaseTimeout time.Duration
	// ProposeTimeout bounds a proposal; default 10 s.
	ProposeTimeout time.Duration
	// SnapshotEntries is how many entries make a snapshot worth its while, and a
	// quarter of how many are kept behind one for followers that lag; default 4096.
	SnapshotEntries uint64
	// SnapshotInterval is how often that is looked at; default 10 s.
	SnapshotInterval time.Duration

	noPatience bool // see away.never
}

func (o *RaftOptions) setDefaults() {
	if o.OnChanges == nil {
		o.OnChanges = func([]Change) {}
	}
	if o.OnLeader == nil {
		o.OnLeader = func(bool, uint64) {}
	}
	if o.OnFatal == nil {
		o.OnFatal = func(error) {}
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	for _, d := range []struct {
		field *time.Duration
		value time.Duration
	}{
		{&o.ElectionTimeout, 250 * time.Millisecond}, {&o.LeaseTimeout, 150 * time.Millisecond},
		{&o.ProposeTimeout, 10 * time.Second}, {&o.SnapshotInterval, 10 * time.Second},
	} {
		if *d.field <= 0 {
			*d.field = d.value
		}
	}
	if o.SnapshotEntries == 0 {
		o.SnapshotEntries = 4096
	}
}

// Raft drives the machine in a cluster: commands are agreed upon through Raft, and every
// broker applies all of them. Its methods may be called concurrently.
type Raft struct {
	o         RaftOptions
	raft      *raft.Raft
	log       *raftLog
	snapshots *raftSnapshots
	transport transport

	start   sync.Once
	started chan struct{} // the machine may change
	stop    context.CancelFunc
	stopped context.Context
	running sync.WaitGroup
	opened  atomic.Bool // set under mu
	dead    atomic.Bool // nothing is applied any more, see fatal
	fatal   sync.Once

	mu      sync.RWMutex // guards machine
	machine *Machine

	progress progress
	proposed proposed
	leader   leadership
	commits  chan struct{} // this broker applied commands
}

var _ Driver = (*Raft)(nil)

// OpenRaft opens the copy of the metadata that is kept in the store, with the state of its
// last snapshot. Later commands are applied after Start. If the broker is the only voter
// of its cluster it leads at once.
func OpenRaft(store *log.Store, o RaftOptions) (*Raft, error) {
	o.setDefaults()
	if o.Stream == nil || o.Forward == nil || o.DiskUUID == [16]byte{} {
		return nil, fmt.Errorf("open Raft: stream layer, way to forward or disk UUID missing")
	}
	r := &Raft{o: o, machine: NewMachine(), started: make(chan struct{})}
	r.stopped, r.stop = context.WithCancel(context.Background())
	r.progress.moved = make(chan struct{})
	r.proposed.waiting = map[RequestID]*proposing{}
	r.leader.init()
	r.commits = make(chan struct{}, 1)
	o.Stream.self = o.DiskUUID
	if err := r.open(store); err != nil {
		r.stop()
		_ = o.Stream.Close()
		return nil, fmt.Errorf("open the cluster metadata: %w", err)
	}
	r.running.Go(r.watchLeadership)
	r.running.Go(r.tellLeadership)
	r.running.Go(r.keepMembership)
	r.running.Go(r.spreadCommits)
	r.running.Go(r.watchConnections)
	if r.alone() {
		r.leadNow()
	}
	return r, nil
}

func (r *Raft) open(store *log.Store) (err error) {
	if r.snapshots, err = openRaftSnapshots(store, r.o.Now, r.o.Logger, r.die); err != nil {
		return err
	}
	var covered uint64
	if newest := r.snapshots.newest(); newest != nil {
		covered = newest.Index
	}
	if r.log, err = openRaftLog(store, covered, r.o.Now, r.die); err != nil {
		return err
	}
	r.log.covered = r.snapshots.coveredByAll
	logger := raftLogger(r.o.Logger)
	r.transport = transport{raft.NewNetworkTransportWithConfig(&raft.NetworkTransportConfig{
		Stream: r.o.Stream, MaxPool: 3, Timeout: dialTimeout, Logger: logger,
	}), newAway(r.stopped.Done(), r.replicates)}
	r.transport.away.never = r.o.noPatience
	c := raft.DefaultConfig()
	c.LocalID = serverID(r.o.DiskUUID)
	c.HeartbeatTimeout, c.ElectionTimeout = r.o.ElectionTimeout, r.o.ElectionTimeout
	c.LeaderLeaseTimeout = min(r.o.LeaseTimeout, r.o.ElectionTimeout)
	c.CommitTimeout = 100 * time.Millisecond // an idle cluster is idle; see spreadCommits
	c.ShutdownOnRemove = false
	c.SnapshotThreshold, c.TrailingLogs = r.o.SnapshotEntries, 4*r.o.SnapshotEntries
	c.SnapshotInterval = r.o.SnapshotInterval
	c.Logger = logger
	c.NotifyCh = r.leader.notify
	c.NoLegacyTelemetry = true
	if r.raft, err = newRaft(c, fsm{r}, haltingLog{r.log, &r.opened}, r.transport, r.snapshots); err != nil {
		_ = r.transport.Close()
		return err
	}
	r.mu.Lock()
	r.opened.Store(true)
	r.mu.Unlock()
	return nil
}

// newRaft turns the panics of opening into errors.
func newRaft(c *raft.Config, f raft.FSM, l haltingLog, t transport, s raft.SnapshotStore) (opened *raft.Raft, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%v", p)
		}
	}()
	return raft.NewRaft(c, f, l, l, s, t)
}

// die makes a failure known after which nothing can be applied any more.
func (r *Raft) die(err error) {
	r.dead.Store(true)
	r.fatal.Do(func() {
		r.o.Logger.Error("cluster metadata stops", "error", err)
		r.o.OnFatal(fmt.Errorf("cluster metadata: %w", err))
	})
}

// Start lets the machine go on from the state that OpenRaft found. Call it once that state
// has been looked at, so that OnChanges begins where View ended.
func (r *Raft) Start() { r.start.Do(func() { close(r.started) }) }

// HasState says whether the broker has been in a cluster: it has entries or a vote.
func (r *Raft) HasState() (bool, error) {
	return raft.HasExistingState(r.log, r.log, r.snapshots)
}

// Bootstrap founds a cluster of which this broker is the only voter. It fails if the
// broker has state of a cluster already.
func (r *Raft) Bootstrap() error {
	err := r.raft.BootstrapCluster(raft.Configuration{Servers: []raft.Server{{
		Suffrage: raft.Voter, ID: serverID(r.o.DiskUUID), Address: r.transport.LocalAddr(),
	}}}).Error()
	if err != nil {
		return fmt.Errorf("found a cluster: %w", err)
	}
	r.leadNow()
	return nil
}

// alone says whether this broker is the only voter.
func (r *Raft) alone() bool {
	voters, self := 0, false
	for _, s := range r.raft.GetConfiguration().Configuration().Servers {
		if s.Suffrage == raft.Voter {
			voters++
			self = self || s.ID == serverID(r.o.DiskUUID)
		}
	}
	return voters == 1 && self
}

// leadNow has a lone voter elect itself without waiting for a leader to be silent.
func (r *Raft) leadNow() {
	r.running.Go(func() {
		self := serverID(r.o.DiskUUID)
		err := r.transport.TimeoutNow(self, r.transport.LocalAddr(), &raft.TimeoutNowRequest{
			RPCHeader: raft.RPCHeader{ProtocolVersion: raft.ProtocolVersionMax},
		}, &raft.TimeoutNowResponse{})
		if err != nil && r.stopped.Err() == nil {
			r.o.Logger.Debug("lone voter waits for the election timeout", "error", err)
		}
	})
}

// View implements Driver.
func (r *Raft) View(fn func(*Machine)) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	fn(r.machine)
}

// IsLeader says whether this broker leads Raft, as far as it knows.
func (r *Raft) IsLeader() bool { return r.raft.State() == raft.Leader }

// Term is Raft's current term.
func (r *Raft) Term() uint64 { return r.raft.CurrentTerm() }

// Leader returns the broker that leads Raft, as far as it is known: its cluster address,
// empty if there is none, and its node id, 0 if it has not registered yet.
func (r *Raft) Leader() (node uint32, addr string) {
	address, id := r.raft.LeaderWithID()
	if address == "" {
		return 0, ""
	}
	_, addr, err := splitAddress(address)
	if err != nil {
		return 0, ""
	}
	if id == serverID(r.o.DiskUUID) {
		return r.o.Node, addr
	}
	r.View(func(m *Machine) {
		for _, b := range m.brokers {
			if serverID(b.DiskUUID) == id {
				node = b.Node
			}
		}
	})
	return node, addr
}

// TransferLeadership hands the lead of Raft to another voter, where there is one.
func (r *Raft) TransferLeadership() error {
	if err := r.raft.LeadershipTransfer().Error(); err != nil {
		return fmt.Errorf("hand over the lead of the cluster metadata: %w", err)
	}
	return nil
}

// RaftStats says how Raft does.
type RaftStats struct {
	State                     string // Leader, Follower, Candidate or Shutdown
	Term                      uint64
	First, Last, Commit       uint64 // indexes
	Applied                   uint64 // by the machine
	SnapshotIndex             uint64
	Voters, NonVoters         int
	LastContact               time.Duration // with the leader; 0 on the leader
	Leader                    uint32        // node id, 0 if unknown
	LeaderAddr                string
	Servers                   []string // "Voter <disk>@<address>"
	SnapshotEntries, Proposed int
}

// Stats returns how Raft does.
func (r *Raft) Stats() RaftStats {
	s := RaftStats{
		State: r.raft.State().String(), Term: r.raft.CurrentTerm(), Last: r.raft.LastIndex(), Commit: r.raft.CommitIndex(),
		Applied: r.Applied(), SnapshotEntries: int(r.o.SnapshotEntries),
	}
	s.First, _ = r.log.FirstIndex()
	if newest := r.snapshots.newest(); newest != nil {
		s.SnapshotIndex = newest.Index
	}
	for _, server := range r.raft.GetConfiguration().Configuration().Servers {
		if server.Suffrage == raft.Voter {
			s.Voters++
		} else {
			s.NonVoters++
		}
		s.Servers = append(s.Servers, server.Suffrage.String()+" "+string(server.Address))
	}
	if at := r.raft.LastContact(); !at.IsZero() && !r.IsLeader() {
		s.LastContact = time.Since(at)
	}
	s.Leader, s.LeaderAddr = r.Leader()
	r.proposed.mu.Lock()
	s.Proposed = len(r.proposed.waiting)
	r.proposed.mu.Unlock()
	return s
}

// closeGrace is how long Close waits for commands that are under way.
const closeGrace = time.Second

// Close implements Driver. Commands whose outcome does not become known within a second
// fail with ErrClosed.
func (r *Raft) Close() {
	r.proposed.close()
	r.stop()
	ending := r.raft.Shutdown()
	_ = r.o.Stream.Close() // whoever waits for another broker need not any more
	if err := ending.Error(); err != nil {
		r.o.Logger.Warn("Raft did not stop as it should", "error", err)
	}
	_ = r.transport.Close()
	r.transport.CloseStreams()
	r.proposed.open.Wait()
	r.running.Wait()
}

// haltingLog keeps Raft's main loop from going on after its storage failed: it ends the
// loop's goroutine where Raft would panic.
type haltingLog struct {
	*raftLog
	open *atomic.Bool // Raft has been opened
}

// SetUint64 implements raft.StableStore. Raft panics when the term cannot be stored.
func (h haltingLog) SetUint64(key []byte, value uint64) error {
	return h.halt(h.raftLog.SetUint64(key, value))
}

// GetLog implements raft.LogStore. Raft panics when a committed entry cannot be read.
func (h haltingLog) GetLog(index uint64, out *raft.Log) error {
	err := h.raftLog.GetLog(index, out)
	if err == raft.ErrLogNotFound || err != nil && !applying() {
		return err
	}
	return h.halt(err)
}

// retriable says whether a command may yet be carried out after the error.
func retriable(err error) bool {
	switch wire.CodeOf(err) {
	case wire.CodeInvalidRequest, wire.CodeUnsupported, wire.CodeUnsupportedVersion, wire.CodeUnauthorized:
		return false
	}
	return true
}
