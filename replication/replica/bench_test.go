package replica

import (
	"fmt"
	"sync"
	"testing"

	"github.com/sequitur-mq/sequitur/log"
	"github.com/sequitur-mq/sequitur/record"
	"github.com/stretchr/testify/require"
)

// benchBed opens partitions of a store in a temporary directory on the real disk.
func benchBed(b testing.TB, partitions int, mode log.FsyncMode) []*Replica {
	store, err := log.Open(b.TempDir(), log.Options{ReserveBytes: -1, BallastBytes: -1})
	require.NoError(b, err)
	b.Cleanup(func() { store.Close() })
	var specs []log.Spec
	for i := range partitions {
		specs = append(specs, log.Spec{ID: log.ID{Partition: uint32(i)}, Config: log.Config{Fsync: mode}})
	}
	require.NoError(b, store.Create(specs...))
	var replicas []*Replica
	for _, s := range specs {
		p, _ := store.Partition(s.ID)
		r, err := Open(p, Options{Solo: true})
		require.NoError(b, err)
		replicas = append(replicas, r)
	}
	return replicas
}

// slots hand out batches to send and take them back when they are answered.
type slots struct {
	free chan int
	sent []record.Batch
	errs chan error
}

func newSlots(n, batchBytes int) *slots {
	s := &slots{free: make(chan int, n), errs: make(chan error, n)}
	for i := range n {
		builder := record.NewBuilder(0)
		for builder.Size() < batchBytes {
			builder.Append(1, []byte("key-0000"), make([]byte, 120), nil)
		}
		b, err := builder.Build(nil, record.CodecNone, uint64(i+1), 1, 0)
		if err != nil {
			panic(err)
		}
		s.sent = append(s.sent, b)
		s.free <- i
	}
	return s
}

func (s *slots) Appended(token int, _ Result, err error) {
	if err != nil {
		s.errs <- err
	}
	s.free <- token
}

// BenchmarkAppend sends batches with 64 in flight, each slot a producer of its own.
func BenchmarkAppend(b *testing.B) {
	for _, mode := range []log.FsyncMode{log.FsyncAlways, log.FsyncNever} {
		for _, size := range []int{200, 16 << 10} {
			b.Run(fmt.Sprintf("%v/%d", mode, size), func(b *testing.B) {
				r := benchBed(b, 1, mode)[0]
				s := newSlots(64, size)
				b.ReportAllocs()
				b.SetBytes(int64(len(s.sent[0])))
				for b.Loop() {
					slot := <-s.free
					batch := s.sent[slot]
					batch.SetProducer(batch.ProducerID(), 1, batch.NextSequence())
					_, pending, err := r.Append(batch, AcksQuorum, s, slot)
					if err != nil {
						b.Fatal(err)
					}
					if !pending {
						s.free <- slot
					}
				}
				for range cap(s.free) {
					<-s.free
				}
				require.Empty(b, s.errs)
			})
		}
	}
}

func TestAppendDoesNotAllocate(t *testing.T) {
	for _, mode := range []log.FsyncMode{log.FsyncAlways, log.FsyncNever} {
		r := benchBed(t, 1, mode)[0]
		s := newSlots(1, 1000)
		round := func() {
			slot := <-s.free
			batch := s.sent[slot]
			batch.SetProducer(1, 1, batch.NextSequence())
			_, pending, err := r.Append(batch, AcksQuorum, s, slot)
			if err != nil {
				t.Fatal(err)
			}
			if !pending {
				s.free <- slot
			}
		}
		for range 2 * 16 {
			round()
		}
		require.Zero(t, testing.AllocsPerRun(200, round), "fsync %v", mode)
		<-s.free
	}
}

// BenchmarkAppendOne has one append outstanding.
func BenchmarkAppendOne(b *testing.B) {
	r := benchBed(b, 1, log.FsyncAlways)[0]
	s := newSlots(1, 200)
	b.ReportAllocs()
	for b.Loop() {
		slot := <-s.free
		batch := s.sent[slot]
		batch.SetProducer(batch.ProducerID(), 1, batch.NextSequence())
		if _, _, err := r.Append(batch, AcksQuorum, s, slot); err != nil {
			b.Fatal(err)
		}
	}
	<-s.free
	require.Empty(b, s.errs)
}

// BenchmarkManyPartitions spreads 256 appends in flight over 1,000 partitions.
func BenchmarkManyPartitions(b *testing.B) {
	replicas := benchBed(b, 1000, log.FsyncAlways)
	s := newSlots(256, 1000)
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		slot := <-s.free
		batch := s.sent[slot]
		batch.SetProducer(0, 0, 0)
		if _, _, err := replicas[i%1000].Append(batch, AcksQuorum, s, slot); err != nil {
			b.Fatal(err)
		}
		i++
	}
	for range cap(s.free) {
		<-s.free
	}
	require.Empty(b, s.errs)
}

type nobody struct{}

func (nobody) Passed(int) {}

// BenchmarkWatch registers and withdraws a long poll.
func BenchmarkWatch(b *testing.B) {
	r := benchBed(b, 1, log.FsyncNever)[0]
	var w Watch
	b.ReportAllocs()
	for b.Loop() {
		if !r.Watch(&w, 0, nobody{}, 0) || !r.Unwatch(&w) {
			b.Fatal("watch")
		}
	}
}

// BenchmarkContended is many goroutines at one partition without syncs.
func BenchmarkContended(b *testing.B) {
	r := benchBed(b, 1, log.FsyncNever)[0]
	var mu sync.Mutex
	next := uint64(0)
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		mu.Lock()
		next++
		id := next
		mu.Unlock()
		s := newSlots(1, 1000)
		batch := s.sent[0]
		batch.SetProducer(id, 1, 0)
		for pb.Next() {
			if _, _, err := r.Append(batch, AcksQuorum, s, 0); err != nil {
				b.Error(err)
				return
			}
			batch.SetProducer(id, 1, batch.NextSequence())
		}
	})
}
