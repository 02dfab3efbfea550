package replica

import (
	"testing"

	"github.com/sequitur-mq/sequitur/internal/vfs"
	"github.com/sequitur-mq/sequitur/log"
	"github.com/sequitur-mq/sequitur/replication"
	"github.com/stretchr/testify/require"
)

// elected is a replica that leads epoch 1 of three; nobody has fetched yet.
func elected(t *testing.T) *bed {
	b := openBed(t, vfs.NewMem(vfs.MemOptions{}), log.Config{}, Options{Self: me})
	_, err := b.fenceAndWait(1)
	require.NoError(t, err)
	require.NoError(t, b.Assign(Assignment{Epoch: 1, Leader: me, Set: trio}))
	return b
}

func (b *bed) fenceAndWait(epoch uint32) (vote replication.Vote, err error) {
	done := make(chan struct{})
	b.Fence(epoch, func(v replication.Vote, e error) {
		vote, err = v, e
		close(done)
	})
	<-done
	return vote, err
}

// fetched is a follower's report that it has everything up to an offset, fsynced.
func (b *bed) fetched(t *testing.T, from replication.Member, durable int64, round uint64) {
	t.Helper()
	last := uint32(1)
	if durable == 0 {
		last = 0
	}
	a, err := b.Fetched(replication.Fetch{From: from, Epoch: 1, Offset: durable, LastEpoch: last, Durable: durable, Round: round})
	require.NoError(t, err)
	require.Equal(t, replication.Send, a.Kind)
}

// settled waits until the journal is done with all that was appended.
func (b *bed) settled(t *testing.T) {
	done := make(completed, 1)
	require.NoError(t, b.Log().PutValue(9, []byte("x"), done))
	require.NoError(t, <-done)
}

func TestLeaderServesOnceItsStartIsCommitted(t *testing.T) {
	b := elected(t)
	_, _, err := b.Append(batch(7, 1, 0, 1), AcksLeader, newListener(), 0)
	require.ErrorIs(t, err, ErrNotServing)
	b.settled(t)
	b.fetched(t, other, 0, 0)
	require.False(t, b.State().Serving)
	b.fetched(t, other, 1, 0)
	require.True(t, b.State().Serving)
	l := newListener()
	_, pending, err := b.Append(batch(7, 1, 0, 1), AcksQuorum, l, 0)
	require.NoError(t, err)
	require.True(t, pending)
	b.settled(t)
	l.requireNone(t)
	b.fetched(t, other, 2, 0)
	require.Equal(t, answer{result: Result{BaseOffset: 1, AppendTime: b.Log().LastAppendTime()}}, <-l)
	require.True(t, b.append(t, batch(7, 1, 0, 1)).Duplicate)
}

func TestLevelsOfAcknowledgement(t *testing.T) {
	b := elected(t)
	b.settled(t)
	b.fetched(t, other, 1, 0)
	l := newListener()
	for i, acks := range []Acks{AcksAll, AcksQuorum, AcksLeader} {
		_, pending, err := b.Append(batch(uint64(7+i), 1, 0, 1), acks, l, int(acks))
		require.NoError(t, err)
		require.True(t, pending)
	}
	require.Equal(t, int(AcksLeader), (<-l).token)
	b.settled(t)
	l.requireNone(t)
	b.fetched(t, other, 4, 0)
	require.Equal(t, int(AcksQuorum), (<-l).token)
	l.requireNone(t)
	b.fetched(t, third, 1, 0)
	l.requireNone(t)
	b.fetched(t, third, 2, 0)
	require.Equal(t, int(AcksAll), (<-l).token)
}

func TestBarrierNeedsAMajority(t *testing.T) {
	b := elected(t)
	b.settled(t)
	b.fetched(t, other, 1, 0)
	type end struct {
		hw  int64
		err error
	}
	ends := make(chan end, 4)
	b.Barrier(func(hw int64, err error) { ends <- end{hw, err} })
	_, data, _, err := b.ReadForFollower(1, 1000)
	require.NoError(t, err)
	require.Equal(t, uint64(1), data.Round)
	b.fetched(t, other, 1, data.Round-1)
	require.Empty(t, ends)
	b.fetched(t, other, 1, data.Round)
	require.Equal(t, end{1, nil}, <-ends)

	b.Barrier(func(hw int64, err error) { ends <- end{hw, err} })
	_, err = b.fenceAndWait(2)
	require.NoError(t, err)
	require.ErrorIs(t, (<-ends).err, ErrNotLeader)
	b.Barrier(func(hw int64, err error) { ends <- end{hw, err} })
	require.ErrorIs(t, (<-ends).err, ErrNotLeader)
}

// A fence ends leadership: who waits is told, who watches is called, nothing is appended.
func TestFenceEndsLeadership(t *testing.T) {
	b := elected(t)
	b.settled(t)
	b.fetched(t, other, 1, 0)
	l, watching := newListener(), newListener()
	_, pending, err := b.Append(batch(7, 1, 0, 1), AcksQuorum, l, 3)
	require.NoError(t, err)
	require.True(t, pending)
	var w Watch
	require.True(t, b.Watch(&w, 100, watching, 0))
	vote, err := b.fenceAndWait(4)
	require.NoError(t, err)
	require.Equal(t, replication.Vote{From: me, Epoch: 4, LastEpoch: 1, End: 2, Fence: 1}, vote)
	a := <-l
	require.Equal(t, 3, a.token)
	var not *NotLeaderError
	require.ErrorAs(t, a.err, &not)
	require.Equal(t, uint32(4), not.Epoch)
	<-watching
	_, _, err = b.Append(batch(7, 1, 1, 1), AcksLeader, l, 0)
	require.ErrorIs(t, err, ErrNotLeader)
	_, _, _, err = b.ReadForFollower(0, 1000)
	require.ErrorIs(t, err, ErrNotLeader)
	answer, err := b.Fetched(replication.Fetch{From: other, Epoch: 1, Offset: 2, LastEpoch: 1, Durable: 2})
	require.NoError(t, err)
	require.Equal(t, replication.Ignore, answer.Kind, "nothing is counted any more")
	require.Equal(t, int64(1), b.HighWatermark())
	_, err = b.fenceAndWait(3)
	require.ErrorIs(t, err, replication.ErrFenced)
}

// After a restart a replica does not lead the epoch that it led: records that it has
// lost may be on others.
func TestNoLeaderAfterARestart(t *testing.T) {
	b := elected(t)
	b.settled(t)
	b.Replica.Close()
	require.NoError(t, b.store.Close())
	again := openBed(t, b.fs, log.Config{}, Options{Self: me})
	require.NoError(t, again.Assign(Assignment{Epoch: 1, Leader: me, Set: trio}))
	require.NotEqual(t, replication.RoleLeader, again.State().Role)
	vote, err := again.fenceAndWait(2)
	require.NoError(t, err)
	require.Equal(t, int64(1), vote.End)
	require.NoError(t, again.Assign(Assignment{Epoch: 2, Leader: me, Set: trio}))
	require.Equal(t, replication.RoleLeader, again.State().Role)
}
