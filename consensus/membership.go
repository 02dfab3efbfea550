package consensus

import (
	"fmt"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

const (
	memberTimeout = 5 * time.Second
	memberRetry   = 500 * time.Millisecond
)

// leadership is who leads Raft, seen from here.
type leadership struct {
	notify chan bool     // from Raft, which waits until it is taken
	events chan struct{} // there is something in queue
	wake   chan struct{} // the members of Raft may have to change

	mu    sync.Mutex
	queue []bool
	moved chan struct{} // closed when this broker begins or ceases to lead
}

func (l *leadership) init() {
	l.notify = make(chan bool)
	l.events = make(chan struct{}, 1)
	l.wake = make(chan struct{}, 1)
	l.moved = make(chan struct{})
}

func signal(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}

func (l *leadership) wakeMembership() { signal(l.wake) }

// changes returns a channel that is closed when this broker begins or ceases to lead.
func (l *leadership) changes() <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.moved
}

// watchLeadership takes notes of what Raft says about this broker's lead, at once.
func (r *Raft) watchLeadership() {
	l := &r.leader
	for {
		select {
		case leads := <-l.notify:
			l.mu.Lock()
			l.queue = append(l.queue, leads)
			close(l.moved)
			l.moved = make(chan struct{})
			l.mu.Unlock()
			signal(l.events)
		case <-r.stopped.Done():
			return
		}
	}
}

// tellLeadership tells OnLeader, in order.
func (r *Raft) tellLeadership() {
	told := false
	defer func() {
		if told {
			r.o.OnLeader(false, r.Term())
		}
	}()
	for {
		select {
		case <-r.leader.events:
		case <-r.stopped.Done():
			return
		}
		for {
			r.leader.mu.Lock()
			if len(r.leader.queue) == 0 {
				r.leader.mu.Unlock()
				break
			}
			leads := r.leader.queue[0]
			r.leader.queue = r.leader.queue[1:]
			r.leader.mu.Unlock()
			if told {
				r.o.OnLeader(false, r.Term())
				told = false
			}
			if !leads {
				continue
			}
			term := r.Term()
			if err := r.barrier(); err != nil || !r.awaitStart() {
				r.o.Logger.Debug("lost the lead of the cluster metadata at once", "error", err)
				continue
			}
			signal(r.commits) // followers may know of less than was committed before
			r.o.OnLeader(true, term)
			told = true
			r.leader.wakeMembership()
		}
	}
}

// keepMembership makes, while this broker leads, the servers of Raft those that the
// machine knows: each broker with its disk, voters and others.
func (r *Raft) keepMembership() {
	retry := time.NewTimer(time.Hour)
	defer retry.Stop()
	for {
		select {
		case <-r.leader.wake:
		case <-retry.C:
		case <-r.stopped.Done():
			return
		}
		for r.IsLeader() {
			changed, err := r.reconcile()
			if err != nil && r.stopped.Err() == nil {
				r.o.Logger.Warn("the members of Raft could not be changed; will be tried again", "error", err)
				retry.Reset(memberRetry)
			}
			if err != nil || !changed {
				break
			}
		}
	}
}

// reconcile makes at most one change to Raft's members. Servers whose disk is not that of
// any broker go first, so that they do not count in what follows.
func (r *Raft) reconcile() (changed bool, err error) {
	var brokers []Broker
	r.View(func(m *Machine) { brokers = m.Brokers() })
	servers := map[raft.ServerID]raft.Server{}
	for _, s := range r.raft.GetConfiguration().Configuration().Servers {
		servers[s.ID] = s
	}
	known := map[raft.ServerID]bool{serverID(r.o.DiskUUID): true} // even before it has registered
	for _, b := range brokers {
		known[serverID(b.DiskUUID)] = true
	}
	for id, s := range servers {
		if !known[id] {
			r.o.Logger.Info("Raft loses a server whose disk is gone", "server", s.Address)
			return true, r.raft.RemoveServer(id, 0, memberTimeout).Error()
		}
	}
	for _, b := range brokers {
		s, there := servers[serverID(b.DiskUUID)]
		if changed, err := r.reconcileOne(&b, s, there); changed || err != nil {
			return changed, err
		}
	}
	return false, nil
}

func (r *Raft) reconcileOne(b *Broker, s raft.Server, there bool) (changed bool, err error) {
	id, addr := serverID(b.DiskUUID), serverAddress(b.DiskUUID, b.ClusterAddr)
	votes := there && s.Suffrage == raft.Voter
	switch {
	case !there, s.Address != addr && !votes:
		// It learns before it votes, so that it does not hold up anybody.
		return true, r.raft.AddNonvoter(id, addr, 0, memberTimeout).Error()
	case s.Address != addr:
		return true, r.raft.AddVoter(id, addr, 0, memberTimeout).Error()
	case b.Voter && !votes:
		if err := r.reachable(id, addr); err != nil {
			return false, fmt.Errorf("broker %d shall vote and does not answer: %w", b.Node, err)
		}
		return true, r.raft.AddVoter(id, addr, 0, memberTimeout).Error()
	case !b.Voter && votes && b.DiskUUID == r.o.DiskUUID:
		if r.alone() {
			return false, nil
		}
		return true, r.raft.LeadershipTransfer().Error() // the next leader goes on
	case !b.Voter && votes:
		return true, r.raft.DemoteVoter(id, 0, memberTimeout).Error()
	}
	return false, nil
}

// reachable says whether a server answers, by a question that changes nothing.
func (r *Raft) reachable(id raft.ServerID, addr raft.ServerAddress) error {
	self := r.transport.LocalAddr()
	return r.transport.RequestPreVote(id, addr, &raft.RequestPreVoteRequest{
		RPCHeader: raft.RPCHeader{ProtocolVersion: raft.ProtocolVersionMax, ID: []byte(serverID(r.o.DiskUUID)), Addr: r.transport.EncodePeer(serverID(r.o.DiskUUID), self)},
	}, &raft.RequestPreVoteResponse{})
}

// AddVoter makes a disk's broker vote in Raft; keepMembership does that by itself for
// brokers that are registered as voters.
func (r *Raft) AddVoter(disk [16]byte, addr string) error {
	return r.raft.AddVoter(serverID(disk), serverAddress(disk, addr), 0, memberTimeout).Error()
}

// AddNonvoter lets a disk's broker follow Raft without a vote.
func (r *Raft) AddNonvoter(disk [16]byte, addr string) error {
	return r.raft.AddNonvoter(serverID(disk), serverAddress(disk, addr), 0, memberTimeout).Error()
}

// RemoveServer takes a disk's broker out of Raft.
func (r *Raft) RemoveServer(disk [16]byte) error {
	return r.raft.RemoveServer(serverID(disk), 0, memberTimeout).Error()
}
