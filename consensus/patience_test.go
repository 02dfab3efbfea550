package consensus

import (
	"testing"

	"github.com/hashicorp/raft"
	"github.com/stretchr/testify/require"
)

// outage stops a broker while others decide, and returns the driver of the one that leads.
func outage(t *testing.T, noPatience bool) (b *bed, leader *Raft, victim *node) {
	b = found(t, 3, func(o *RaftOptions) { o.noPatience = noPatience })
	b.eventually("a leader", func() bool { return b.leader() != nil })
	at := b.leader()
	for _, n := range b.nodes {
		if n != at {
			victim = n
		}
	}
	victim.stop()
	return b, at.running(), victim
}

func (a *away) has(id raft.ServerID) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.servers[id] != nil
}

// However long a server is away, what is sent to it does not fail again and again: Raft
// doubles its pause with each failure, and would keep to it when the server is back.
func TestABrokerThatWasAwayIsNotPaused(t *testing.T) {
	b, leader, victim := outage(t, false)
	away := leader.transport.away
	b.eventually("the broker is missed", func() bool { return away.has(serverID(victim.disk)) })
	for range 20 {
		b.do(b.leader(), BeginEpochs{})
	}
	back := victim.start()
	b.eventually("the broker catches up", func() bool { return back.Applied() >= leader.Applied() })
	// One that failed, and one more when an answer to a heartbeat was still under way.
	require.LessOrEqual(t, away.failures(serverID(victim.disk)), 3)

	// Who waits for a server ends when that leaves, or when the lead is lost.
	victim.stop()
	b.eventually("the broker is missed again", func() bool { return away.has(serverID(victim.disk)) })
	require.NoError(t, leader.RemoveServer(victim.disk))
	_, err := away.wait(serverID(victim.disk), leader.Term())
	require.ErrorIs(t, err, errAway)
	_, err = away.wait(serverID(victim.disk), leader.Term()-1)
	require.ErrorIs(t, err, errAway)
}

// Without the rule failures add up, so that the test above would notice.
func TestWithoutPatienceFailuresAddUp(t *testing.T) {
	b, leader, victim := outage(t, true)
	b.eventually("failures add up", func() bool { return leader.transport.away.failures(serverID(victim.disk)) > 5 })
}
