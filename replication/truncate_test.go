package replication

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// The leader's greatest common epoch may be one that the follower does not have. Where it
// ends at the leader says nothing about the follower's log then, and may lie inside one
// of its batches: it goes back to the end of its own older epoch, and asks again.
func TestTruncateAsksAgainForAnOlderEpoch(t *testing.T) {
	me, other := Member{1, 1}, Member{2, 2}
	set := ReplicaSet{Members: []Member{me, other, {3, 3}}}
	r, err := NewReplica(ReplicaConfig{
		Self: me, Epochs: []EpochStart{{24, 600}, {27, 643}}, End: 650, Durable: 650, HighWatermark: 600,
	})
	require.NoError(t, err)
	_, err = r.Assign(29, other, set)
	require.NoError(t, err)
	l, err := NewLeader(LeaderConfig{
		Self: other, Epoch: 29, Set: set, Epochs: []EpochStart{{24, 600}, {26, 641}, {28, 642}}, End: 660, HighWatermark: 641,
	})
	require.NoError(t, err)
	var cuts []int64
	for {
		a, err := l.Fetch(r.Follower().Next())
		require.NoError(t, err)
		if a.Kind == Send {
			break
		}
		require.Equal(t, Truncate, a.Kind)
		to, err := r.Follower().Truncate(a.CommonEpoch, a.Offset)
		require.NoError(t, err)
		cuts = append(cuts, to)
	}
	require.Equal(t, []int64{643, 641}, cuts)
}
