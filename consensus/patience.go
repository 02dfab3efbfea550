package consensus

import (
	"errors"
	"io"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// Raft's leader doubles the pause after every failure to send entries to a server, up to
// ten seconds, and nothing shortens the pause when the server is back: a broker that was
// dead for half a minute would learn of the metadata, and so be ready, seconds after its
// restart. Heartbeats pause for no longer than half an election timeout. So entries and
// snapshots for a server that failed are not tried, and do not fail, before a heartbeat
// has reached it.

// patienceTick is how often whoever waits looks whether there is still reason to.
const patienceTick = 100 * time.Millisecond

var errAway = errors.New("the server did not answer; entries wait for a heartbeat that does")

// away says which servers failed to answer since they were heard last.
type away struct {
	// while says whether entries of that term are still to be sent to a server.
	while func(id raft.ServerID, term uint64) bool
	done  <-chan struct{} // Raft ends
	never bool            // breaks the rule, for a test that shows what follows

	mu      sync.Mutex
	servers map[raft.ServerID]chan struct{} // closed when it is heard
	failed  map[raft.ServerID]int           // entries and snapshots that failed, ever
}

func newAway(done <-chan struct{}, while func(id raft.ServerID, term uint64) bool) *away {
	return &away{while: while, done: done, servers: map[raft.ServerID]chan struct{}{}, failed: map[raft.ServerID]int{}}
}

// note takes in what came of a request.
func (a *away) note(id raft.ServerID, heartbeat bool, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	back, gone := a.servers[id]
	switch {
	case err == nil && gone:
		delete(a.servers, id)
		close(back)
	case err != nil && !gone && !a.never:
		a.servers[id] = make(chan struct{})
	}
	if err != nil && !heartbeat {
		a.failed[id]++
	}
}

// failures is how many entries and snapshots for a server have failed.
func (a *away) failures(id raft.ServerID) int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.failed[id]
}

// wait waits until a server that is away is heard, and says whether it waited. It fails
// when there is no reason to wait any more.
func (a *away) wait(id raft.ServerID, term uint64) (waited bool, err error) {
	a.mu.Lock()
	back, gone := a.servers[id]
	a.mu.Unlock()
	if !gone {
		return false, nil
	}
	tick := time.NewTicker(patienceTick)
	defer tick.Stop()
	for a.while(id, term) {
		select {
		case <-back:
			return true, nil
		case <-tick.C:
		case <-a.done:
			return true, errAway
		}
	}
	return true, errAway
}

// AppendEntries implements raft.Transport.
func (t transport) AppendEntries(id raft.ServerID, target raft.ServerAddress, args *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) error {
	// As Raft itself tells heartbeats apart.
	heartbeat := args.PrevLogEntry == 0 && args.PrevLogTerm == 0 && len(args.Entries) == 0 && args.LeaderCommitIndex == 0
	if !heartbeat {
		if _, err := t.away.wait(id, args.Term); err != nil {
			return err
		}
	}
	err := t.NetworkTransport.AppendEntries(id, target, args, resp)
	t.away.note(id, heartbeat, err)
	return err
}

// InstallSnapshot implements raft.Transport. A snapshot that had to wait is not sent:
// there may be a newer one.
func (t transport) InstallSnapshot(id raft.ServerID, target raft.ServerAddress, args *raft.InstallSnapshotRequest, resp *raft.InstallSnapshotResponse, data io.Reader) error {
	if waited, err := t.away.wait(id, args.Term); waited {
		if err == nil {
			err = errAway
		}
		return err
	}
	err := t.NetworkTransport.InstallSnapshot(id, target, args, resp, data)
	t.away.note(id, false, err)
	return err
}

// replicates says whether this broker leads Raft in a term, with a server as a member.
func (r *Raft) replicates(id raft.ServerID, term uint64) bool {
	if !r.opened.Load() {
		return true // it is about to be opened
	}
	return r.raft.State() == raft.Leader && r.raft.CurrentTerm() == term &&
		slices.ContainsFunc(r.raft.GetConfiguration().Configuration().Servers, func(s raft.Server) bool { return s.ID == id })
}
