package consensus

import (
	"context"
	"errors"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/hashicorp/raft"
)

const (
	// A suspected leader is asked again and again for as long as suspicionTime, unless
	// it shows that it lives: a dying process closes its connections before its port.
	suspicionTime  = 500 * time.Millisecond
	suspicionRetry = 5 * time.Millisecond
	// lifeSign is how long a connection has to stay open to show that.
	lifeSign = 50 * time.Millisecond
	// candidacyGap lies between the candidacies of voters after a leader died, so that
	// they do not divide the votes.
	candidacyGap = 60 * time.Millisecond
)

// watchConnections looks after the leader whenever a connection that it may have opened
// breaks. If its process is gone (its port refuses connections), an election begins
// without waiting for the time-out. That is a matter of speed alone: whoever stands for
// election too early finds no majority, or is elected by one.
func (r *Raft) watchConnections() {
	for {
		select {
		case <-r.o.Stream.broken:
			r.suspectLeader()
		case <-r.stopped.Done():
			return
		}
	}
}

func (r *Raft) suspectLeader() {
	term := r.Term()
	address, id := r.raft.LeaderWithID()
	same := func() bool {
		now, _ := r.raft.LeaderWithID()
		return now == address && r.Term() == term && r.raft.State() == raft.Follower && r.stopped.Err() == nil
	}
	_, addr, err := splitAddress(address)
	if err != nil || id == serverID(r.o.DiskUUID) || !same() {
		return
	}
	rank, votes := r.rank(id)
	if !votes || !r.gone(addr, same) {
		return
	}
	select {
	case <-time.After(time.Duration(rank) * candidacyGap):
	case <-r.stopped.Done():
	}
	if same() {
		r.o.Logger.Info("the leader of the cluster metadata is gone, standing for election", "leader", addr)
		r.leadNow()
	}
}

// rank is this broker's place among the voters that are left without the leader.
func (r *Raft) rank(leader raft.ServerID) (rank int, votes bool) {
	var voters []raft.ServerID
	for _, s := range r.raft.GetConfiguration().Configuration().Servers {
		if s.Suffrage == raft.Voter && s.ID != leader {
			voters = append(voters, s.ID)
		}
	}
	slices.SortFunc(voters, func(a, b raft.ServerID) int { return strings.Compare(string(a), string(b)) })
	rank = slices.Index(voters, serverID(r.o.DiskUUID))
	return rank, rank >= 0
}

// gone says whether nobody listens at the address any more.
func (r *Raft) gone(addr string, while func() bool) bool {
	ctx, cancel := context.WithTimeout(r.stopped, suspicionTime)
	defer cancel()
	for while() {
		conn, err := r.o.Stream.dial(ctx, addr)
		if err != nil {
			if errors.Is(err, syscall.ECONNREFUSED) {
				return true
			}
		} else {
			_ = conn.SetReadDeadline(time.Now().Add(lifeSign))
			_, err = conn.Read(make([]byte, 1))
			_ = conn.Close()
			var timeout interface{ Timeout() bool }
			if errors.As(err, &timeout) && timeout.Timeout() {
				return false
			}
		}
		select {
		case <-time.After(suspicionRetry):
		case <-ctx.Done():
			return false
		}
	}
	return false
}
