package dedup

import (
	"errors"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sequitur-mq/sequitur/log"
	"github.com/sequitur-mq/sequitur/record"
	"github.com/sequitur-mq/sequitur/replication/replica"
)

// A store of this many ids of 20 bytes stands behind the lookups.
const benchIDs = 500_000

// BenchmarkClaim is the cost of looking up the ids of a batch of 100 records: all of
// them new, all stored, or all still pending.
func BenchmarkClaim(b *testing.B) {
	bed := newBed(b, log.Config{Fsync: log.FsyncNever}, Options{MaxPending: 1 << 30})
	for at := 0; at < benchIDs; at += 1_000 {
		ids := make([]string, 1_000)
		for i := range ids {
			ids[i] = fmt.Sprintf("order-%014d", at+i)
		}
		bed.mustSend(b, ids...)
	}
	bed.drain()
	pending := make([]string, 1_000)
	for i := range pending {
		pending[i] = fmt.Sprintf("later-%014d", i)
	}
	bed.quiesce() // with the view locked nothing is applied any more
	bed.view.applying = true
	bed.view.mu.Unlock()
	bed.mustSend(b, pending...)
	defer func() {
		bed.view.mu.Lock()
		bed.view.applying = false
		bed.view.mu.Unlock()
	}()

	refused := errors.New("not appended")
	for name, id := range map[string]func(i int) string{
		"fresh":   func(i int) string { return fmt.Sprintf("never-%014d", i) },
		"stored":  func(i int) string { return fmt.Sprintf("order-%014d", i*7919%benchIDs) },
		"pending": func(i int) string { return pending[i%len(pending)] },
	} {
		b.Run(name, func(b *testing.B) {
			const batches, records = 64, 100
			var all [batches][]byte
			for i := range all {
				ids := make([]string, records)
				for j := range ids {
					ids[j] = id(i*records + j)
				}
				all[i] = bed.batch(record.CodecNone, 0, 0, ids...)
			}
			var found []Duplicate
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				claim, f, err := bed.view.Claim(all[i%batches], found[:0])
				if err != nil {
					b.Fatal(err)
				}
				claim.Finish(replica.Result{}, refused)
				found = f
				i++
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*records), "ns/id")
		})
	}
}

// BenchmarkSend is a whole send of 100 records with new ids, with the application of
// them to the store going on beside it.
func BenchmarkSend(b *testing.B) {
	bed := newBed(b, log.Config{Fsync: log.FsyncNever}, Options{})
	const records = 100
	ids := make([]string, records)
	n := 0
	b.ReportAllocs()
	for b.Loop() {
		for i := range ids {
			ids[i] = fmt.Sprintf("order-%014d", n)
			n++
		}
		_, err := bed.send(bed.batch(record.CodecNone, 0, 0, ids...))
		require.NoError(b, err)
	}
	b.ReportMetric(float64(b.N*records)/b.Elapsed().Seconds(), "ids/s")
}

// BenchmarkRebuild is the walk of a partition of 100,000 records after its view was deleted.
func BenchmarkRebuild(b *testing.B) {
	bed := newBed(b, log.Config{Fsync: log.FsyncNever}, Options{})
	fill(b, bed, 100_000)
	for b.Loop() {
		require.NoError(b, bed.close())
		bed.views++
		require.NoError(b, bed.open())
		_, ok, err := bed.known("id-99999")
		require.NoError(b, err)
		require.True(b, ok)
	}
}
