package replication

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// histories draws logs as leaders of ascending epochs could have left them: each leader
// appends to some log, and others copy a part of it.
func histories(t *rapid.T) [][]uint32 {
	logs := make([][]uint32, 4)
	for epoch := range uint32(rapid.IntRange(1, 8).Draw(t, "epochs")) {
		leader := rapid.IntRange(0, 3).Draw(t, "leader")
		for range rapid.IntRange(1, 4).Draw(t, "records") {
			logs[leader] = append(slices.Clip(logs[leader]), epoch+1)
		}
		for i := range logs {
			if i == leader || rapid.Bool().Draw(t, "away") {
				continue
			}
			common := commonPrefix(logs[i], logs[leader])
			to := rapid.IntRange(common, len(logs[leader])).Draw(t, "copied")
			if to > common || len(logs[i]) > common && rapid.Bool().Draw(t, "cut") {
				logs[i] = slices.Clone(logs[leader][:to])
			}
		}
	}
	return logs
}

// commonPrefix is where two logs begin to differ.
func commonPrefix(a, b []uint32) int {
	n := 0
	for n < len(a) && n < len(b) && a[n] == b[n] {
		n++
	}
	return n
}

// A follower truncates to exactly where the logs begin to differ, whatever its log is,
// and has the leader's log in the end.
func TestTruncationFindsTheCommonPrefix(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		logs := histories(t)
		lead, follow := logs[0], logs[1]
		common := commonPrefix(lead, follow)
		const epoch = 20
		set := ReplicaSet{Members: members(1, 2)}
		start := rapid.IntRange(0, len(lead)).Draw(t, "start")
		l, err := NewLeader(LeaderConfig{Self: member1(1), Epoch: epoch, Set: set, Epochs: epochsOf(lead), End: int64(len(lead))})
		require.NoError(t, err)
		l.log.start, l.highWatermark = int64(start), int64(start)
		l.history.trim(int64(start))
		r, err := NewReplica(ReplicaConfig{Self: member1(2), Epochs: epochsOf(follow), End: int64(len(follow)), Durable: int64(len(follow))})
		require.NoError(t, err)
		_, err = r.Assign(epoch, member1(1), set)
		require.NoError(t, err)
		f := r.Follower()
		for range 20 {
			a, err := l.Fetch(f.Next())
			require.NoError(t, err)
			switch a.Kind {
			case Truncate:
				to, err := f.Truncate(a.CommonEpoch, a.Offset)
				require.NoError(t, err)
				require.Less(t, to, int64(len(follow)))
				require.GreaterOrEqual(t, to, int64(common), "more than needed")
				follow = follow[:to]
			case Reset:
				require.Less(t, common, max(start, 1), "the logs have records in common")
				reset, err := f.Reset(a.Offset)
				require.NoError(t, err)
				require.True(t, reset)
				follow = lead[:start]
			case Send:
				require.True(t, slices.Equal(lead[start:len(follow)], follow[start:]))
				accept, err := f.Receive(l.Data(a.Offset, l.End()))
				require.NoError(t, err)
				require.Equal(t, a.Offset < l.End(), accept)
				return
			default:
				t.Fatal("ignored")
			}
		}
		t.Fatal("no end")
	})
}
