package session

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sequitur-mq/sequitur/log"
	"github.com/sequitur-mq/sequitur/record"
	"github.com/sequitur-mq/sequitur/replication/replica"
)

// onDisk opens stores in temporary directories.
func onDisk(b testing.TB) func(int) *log.Store {
	return func(int) *log.Store {
		store, err := log.Open(b.TempDir(), log.Options{ReserveBytes: -1, BallastBytes: -1})
		require.NoError(b, err)
		return store
	}
}

// led is a bed whose partitions are all led, by its nodes in turn if spread.
func led(b testing.TB, nodes, partitions int, spread bool) (*bed, []Key) {
	bed := newBed(b, nodes, onDisk(b), Options{})
	keys := bed.partitions(partitions)
	for i, k := range keys {
		first := 0
		if spread {
			first = i % nodes
		}
		order := slices.Clone(bed.nodes)
		bed.epoch[k] = 1
		for _, n := range order {
			done := make(chan error, 1)
			n.at(k).Fence(1, fenced(done))
			require.NoError(b, <-done)
		}
		bed.leader[k] = bed.nodes[first]
		bed.assign(k, bed.nodes...)
		waitFor(b, bed.nodes[first].at(k), 0)
	}
	return bed, keys
}

// BenchmarkOne has one append outstanding: ns/op is the time to a majority's fsync.
func BenchmarkOne(b *testing.B) {
	for _, nodes := range []int{1, 3} {
		b.Run(fmt.Sprint(nodes), func(b *testing.B) {
			bed, keys := led(b, nodes, 1, false)
			r := bed.leader[keys[0]].at(keys[0])
			w := make(waiter, 1)
			sent := batch(1, 128)
			took := make([]time.Duration, 0, 1<<20)
			b.ReportAllocs()
			for b.Loop() {
				began := time.Now()
				if _, _, err := r.Append(sent, replica.AcksQuorum, w, 0); err != nil {
					b.Fatal(err)
				}
				if o := <-w; o.err != nil {
					b.Fatal(o.err)
				}
				took = append(took, time.Since(began))
			}
			slices.Sort(took)
			b.ReportMetric(float64(took[len(took)/2].Microseconds()), "p50-us")
			b.ReportMetric(float64(took[len(took)*99/100].Microseconds()), "p99-us")
		})
	}
}

// BenchmarkThroughput has 64 batches in flight over 8 partitions.
func BenchmarkThroughput(b *testing.B) {
	for _, nodes := range []int{1, 3} {
		for _, size := range []int{128, 1024} {
			for _, batchBytes := range []int{16 << 10, 64 << 10} {
				b.Run(fmt.Sprintf("%d/%dB/%dKiB", nodes, size, batchBytes>>10), func(b *testing.B) {
					throughput(b, nodes, size, batchBytes)
				})
			}
		}
	}
}

func throughput(b *testing.B, nodes, size, batchBytes int) {
	const inFlight = 64
	bed, keys := led(b, nodes, 8, true)
	records := batchBytes / (size + 10)
	var sent []record.Batch
	for range inFlight {
		sent = append(sent, batch(records, size))
	}
	w := make(waiter, inFlight)
	free := inFlight
	i := 0
	b.ReportAllocs()
	b.SetBytes(int64(len(sent[0])))
	began := time.Now()
	slot := 0
	for b.Loop() {
		if free > 0 {
			slot = inFlight - free
			free--
		} else {
			o := <-w
			if o.err != nil {
				b.Fatal(o.err)
			}
			slot = o.token
		}
		k := keys[i%len(keys)]
		i++
		if _, pending, err := bed.leader[k].at(k).Append(sent[slot], replica.AcksQuorum, w, slot); err != nil || !pending {
			b.Fatal(err, pending)
		}
	}
	for range inFlight - free {
		<-w
	}
	b.ReportMetric(float64(i*records)/time.Since(began).Seconds(), "records/s")
}

// BenchmarkIdle has one partition of many in use, with one append outstanding: the others
// must not cost anything.
func BenchmarkIdle(b *testing.B) {
	for _, partitions := range []int{1, 1000} {
		b.Run(fmt.Sprint(partitions), func(b *testing.B) {
			bed, keys := led(b, 3, partitions, true)
			r := bed.leader[keys[0]].at(keys[0])
			w := make(waiter, 1)
			sent := batch(1, 128)
			b.ReportAllocs()
			for b.Loop() {
				if _, _, err := r.Append(sent, replica.AcksQuorum, w, 0); err != nil {
					b.Fatal(err)
				}
				if o := <-w; o.err != nil {
					b.Fatal(o.err)
				}
			}
		})
	}
}

// BenchmarkCatchUp has a follower that lacks 256 MiB in each of 4 partitions catch up with
// nothing else going on.
func BenchmarkCatchUp(b *testing.B) {
	bed := newBed(b, 3, onDisk(b), Options{PartitionWindow: 4 << 20, Window: 16 << 20})
	keys := bed.partitions(4)
	late := bed.nodes[2]
	sent := batch(60, 1024)
	end := int64(0)
	for _, k := range keys {
		waitFor(b, bed.elect(k, bed.nodes[:2]...).at(k), 0)
		w := make(waiter, 64)
		for n := 0; n < 256<<20; n += len(sent) {
			if n > 60*len(sent) {
				<-w
			}
			_, _, err := bed.leader[k].at(k).Append(slices.Clone(sent), replica.AcksQuorum, w, 0)
			require.NoError(b, err)
		}
		waitFor(b, bed.leader[k].at(k), bed.leader[k].at(k).Log().End()-1)
		end = bed.leader[k].at(k).HighWatermark()
	}
	b.SetBytes(4 * 256 << 20)
	for b.Loop() {
		for _, k := range keys {
			bed.assign(k, late)
		}
		for _, k := range keys {
			waitFor(b, late.at(k), end-1)
		}
	}
}
