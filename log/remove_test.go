package log

import (
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sequitur-mq/sequitur/internal/vfs"
)

// The removal of a topic of many partitions is made durable by a few syncs, not by one for each partition: with
// thousands of them on a busy disk that is the difference between a moment and a minute.
func TestRemovalOfManyPartitionsSyncsOnce(t *testing.T) {
	fs := vfs.NewMem(vfs.MemOptions{})
	s := openStore(t, "/data", smallOptions(fs))
	const partitions = 200
	var specs []Spec
	var ids []ID
	for i := range uint32(partitions) {
		specs, ids = append(specs, Spec{ID: testID(i)}), append(ids, testID(i))
	}
	require.NoError(t, s.Create(specs...))
	for _, id := range ids {
		p := partition(t, s, id)
		require.NoError(t, appendWait(p, newProducer(t, p).batch(0, 1, 10)))
	}
	settle(t, s)
	queued := make(chan struct{})
	var syncs atomic.Int64
	fs.SetFault(func(op vfs.Op, name string) error {
		switch {
		case op == vfs.OpRemove && strings.Contains(name, "/partitions/"):
			<-queued // the first removal waits until all are queued
		case op == vfs.OpSyncDir && strings.Contains(name, "/partitions"):
			syncs.Add(1)
		}
		return nil
	})
	require.NoError(t, s.Delete(ids...)) // asks for a checkpoint, which may be faster than the one here
	require.NoError(t, s.checkpoints.once(false))
	close(queued)
	s.chores.drain()
	require.Equal(t, int64(1), syncs.Load())
	fs.SetFault(nil)
	require.Empty(t, s.deleted)
	left, err := fs.ReadDir("/data/partitions")
	require.NoError(t, err)
	require.Empty(t, left, "the topic's directory went with its last partition")
	require.NoError(t, s.Close())
}
