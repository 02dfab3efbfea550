package controller

import "time"

// Settings are the times and bounds of a controller. Zero values of durations and
// counts take the default, except where zero is said to mean something.
type Settings struct {
	// SessionTimeout is the silence after which a broker is dead (600 ms), and
	// ProbeAfter the one after which it is asked (half of that).
	SessionTimeout, ProbeAfter time.Duration
	// ElectionWait is how long votes of living voters are waited for once a
	// majority has voted (20 ms); HandoverWait is that of planned elections (100 ms).
	ElectionWait, HandoverWait time.Duration
	// ServeTimeout is how long an elected leader may take to serve before another
	// epoch is begun (2 s, doubled each time).
	ServeTimeout time.Duration
	// BackoffMin and BackoffMax bound the pause between two epochs of a partition
	// none of which came to serve (100 ms, 10 s).
	BackoffMin, BackoffMax time.Duration
	// LeavingTimeout is how long a leaving broker is helped to hand over (5 s).
	LeavingTimeout time.Duration
	// ReplaceAfter is how long a broker may be dead before its replicas are given
	// to others (10 min).
	ReplaceAfter time.Duration
	// MovesPerBroker bounds how many partitions a broker learns, and how many it
	// teaches, at a time (4).
	MovesPerBroker int
	// BalanceAfter is how long nothing must have happened before leaders are
	// balanced (10 s); negative: never.
	BalanceAfter time.Duration
	// Voters is how many brokers should vote in Raft (5).
	Voters int
	// Break switches rules off, for tests that show that their checkers notice.
	Break Breakage
}

// Breakage switches off single rules of the controller.
type Breakage struct {
	ElectWithoutMajority bool // the first vote decides
	KeepRestartedLeader  bool // another session of the leader's broker is ignored
	KeepRestartedVotes   bool // votes given before a restart count
	WipedKeepsName       bool // a new disk votes as the old member
	LeaveJointUnserved   bool // a joint set is left before its start record is committed
	JoinUnlearned        bool // newcomers become members without having caught up
	BeginWithoutMajority bool // epochs are begun whoever lives
	NoBackoff            bool // ... and at once, again and again
	NoRefence            bool // who was down during an election is not asked later
	KeepDeadLeader       bool // silence of a leader's broker is ignored
	HoldOwnStalls        bool // silence counts though the controller itself stood still
}

func (s Settings) withDefaults() Settings {
	set := func(d *time.Duration, to time.Duration) {
		if *d == 0 {
			*d = to
		}
	}
	set(&s.SessionTimeout, 600*time.Millisecond)
	set(&s.ProbeAfter, s.SessionTimeout/2)
	set(&s.ElectionWait, 20*time.Millisecond)
	set(&s.HandoverWait, 100*time.Millisecond)
	set(&s.ServeTimeout, 2*time.Second)
	set(&s.BackoffMin, 100*time.Millisecond)
	set(&s.BackoffMax, 10*time.Second)
	set(&s.LeavingTimeout, 5*time.Second)
	set(&s.ReplaceAfter, 10*time.Minute)
	set(&s.BalanceAfter, 10*time.Second)
	if s.MovesPerBroker == 0 {
		s.MovesPerBroker = 4
	}
	if s.Voters == 0 {
		s.Voters = 5
	}
	return s
}

// doubled returns d * 2^n, at most limit.
func doubled(d time.Duration, n int, limit time.Duration) time.Duration {
	for range n {
		if d >= limit {
			return limit
		}
		d *= 2
	}
	return min(d, limit)
}
