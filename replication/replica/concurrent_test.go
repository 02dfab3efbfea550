package replica

import (
	"fmt"
	"sync"
	"testing"

	"github.com/sequitur-mq/sequitur/internal/vfs"
	"github.com/sequitur-mq/sequitur/log"
	"github.com/sequitur-mq/sequitur/txn"
	"github.com/stretchr/testify/require"
)

// Producers, long polls, readers and snapshots at once; meant for the race detector.
func TestConcurrent(t *testing.T) {
	for _, mode := range []log.FsyncMode{log.FsyncAlways, log.FsyncNever} {
		t.Run(mode.String(), func(t *testing.T) {
			b := openBed(t, vfs.NewMem(vfs.MemOptions{}), log.Config{Fsync: mode}, Options{})
			const producers, batches = 6, 150
			end := int64(producers * batches)
			var all sync.WaitGroup
			clients := make([]*client, producers)
			for i := range clients {
				clients[i] = &client{id: uint64(i + 1), acked: map[uint32]int64{}, batchN: 1}
				all.Go(func() {
					if err := produce(b, clients[i:i+1], batches); err != nil {
						t.Error(err)
					}
				})
			}
			for range 3 {
				all.Go(func() {
					l := newListener()
					var w Watch
					for at := int64(0); at < end; at = b.HighWatermark() {
						if b.Watch(&w, at, l, 0) {
							<-l
						}
						if hw := b.HighWatermark(); hw <= at {
							t.Errorf("called at high watermark %d, asked for beyond %d", hw, at)
							return
						}
						chunk, err := b.Read(at, 1000, false)
						if err != nil {
							t.Error(err)
							return
						}
						chunk.Release()
					}
				})
			}
			all.Go(func() {
				for b.HighWatermark() < end {
					offset, state := b.snapshot()
					p := txn.NewProducers(0)
					if err := p.Restore(state); err != nil {
						t.Error(err)
					}
					if offset > b.Log().End() {
						t.Errorf("snapshot at %d", offset)
					}
				}
			})
			all.Wait()
			require.NoError(t, exactlyOnce(b, clients))
			found := b.values(t)
			require.Len(t, found, int(end))
			seen := map[string]bool{}
			for _, v := range found {
				seen[v] = true
			}
			for i := range producers {
				for seq := range batches {
					require.True(t, seen[fmt.Sprintf("%d.1.%d", i+1, seq)])
				}
			}
		})
	}
}
