package broker

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sequitur-mq/sequitur/log"
	"github.com/sequitur-mq/sequitur/record"
	"github.com/sequitur-mq/sequitur/replication/replica"
)

// onlyReplica is a broker's replica of the only partition of the only topic.
func onlyReplica(t *testing.T, b *Broker) *replica.Replica {
	list := b.handler.clustered.following.replicas()
	require.Len(t, list, 1)
	r, err := list[0].use()
	require.NoError(t, err)
	return r
}

// spoilSegment changes a byte in the middle of the segment of a replica that was
// written last: others may be on their way out.
func spoilSegment(t *testing.T, dir string, id log.ID) {
	files, err := filepath.Glob(filepath.Join(dir, "partitions", filepath.FromSlash(id.String()), "*.log"))
	require.NoError(t, err)
	var name string
	var last os.FileInfo
	for _, file := range files {
		if info, err := os.Stat(file); err == nil && info.Size() > 0 && (last == nil || info.ModTime().After(last.ModTime())) {
			name, last = file, info
		}
	}
	require.NotNil(t, last)
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	require.NoError(t, err)
	defer f.Close()
	var b [1]byte
	_, err = f.ReadAt(b[:], last.Size()/2)
	require.NoError(t, err)
	b[0] ^= 0x10
	_, err = f.WriteAt(b[:], last.Size()/2)
	require.NoError(t, err)
}

// Damage at a follower and at a leader, found by the scrub, is repaired from the other
// replicas while records come. Then the replica is a full one again, and has the same
// bytes as the others.
func TestDamageIsRepairedFromOthers(t *testing.T) {
	bed := startCluster(t, 3)
	c := bed.client()
	bed.create(c, "orders", 1, 3)
	l := startLoad(t, c, "orders", 200*time.Microsecond)
	<-time.After(200 * time.Millisecond)
	for range 2 {
		leader := bed.leader(c, "orders", 0)
		for _, at := range []int{(leader + 1) % 3, leader} {
			b := bed.brokers[at]
			r := onlyReplica(t, b)
			known := b.store.Stats().Holes
			spoilSegment(t, bed.configs[at].DataDir, r.Log().ID())
			require.NoError(t, b.store.Scrub(0))
			require.Greater(t, b.store.Stats().Holes, known, "the scrub finds it")
			r.Recheck()
			bed.eventually("the damage is repaired", func(context.Context, *Broker) bool {
				return len(r.Log().Holes()) == 0 && !r.State().Suspect
			})
		}
	}
	l.end()
	l.check(c)
	var want []byte
	for i, b := range bed.brokers {
		r := onlyReplica(t, b)
		bed.eventually("all replicas have everything", func(context.Context, *Broker) bool {
			for _, other := range bed.brokers {
				if onlyReplica(t, other).HighWatermark() != r.HighWatermark() {
					return false
				}
			}
			return true
		})
		require.NoError(t, b.store.Scrub(0))
		require.Empty(t, r.Log().Holes())
		var got []byte
		require.NoError(t, r.Log().Batches(0, func(b record.Batch) error {
			got = append(got, b...)
			return nil
		}))
		if i == 0 {
			want = got
		}
		require.Equal(t, want, got, "replica %d has other bytes", i+1)
	}
}
