package log

import (
	"fmt"
	"io"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/sequitur-mq/sequitur/internal/vfs"
	"github.com/sequitur-mq/sequitur/record"
	"github.com/stretchr/testify/require"
)

// benchStore opens a store with default options on the real file system.
func benchStore(b *testing.B, partitions int, c Config) (*Store, []*Partition) {
	b.Helper()
	s := openStore(b, b.TempDir(), Options{ReserveBytes: -1})
	b.Cleanup(func() { require.NoError(b, s.Close()) })
	specs := make([]Spec, partitions)
	for i := range specs {
		specs[i] = Spec{ID: testID(uint32(i)), Config: c}
	}
	require.NoError(b, s.Create(specs...))
	list := make([]*Partition, partitions)
	for i := range list {
		list[i] = partition(b, s, specs[i].ID)
	}
	return s, list
}

// reportTimes reports the median and the 99th percentile.
func reportTimes(b *testing.B, times []time.Duration) {
	slices.Sort(times)
	b.ReportMetric(float64(times[len(times)/2])/1e3, "p50-us")
	b.ReportMetric(float64(times[len(times)*99/100])/1e3, "p99-us")
}

// BenchmarkRawFlush is what the device takes for one block of the journal's kind: the floor of BenchmarkAppendSync.
func BenchmarkRawFlush(b *testing.B) {
	s, _ := benchStore(b, 1, Config{})
	jf, err := s.journal.createFile(8 << 20)
	require.NoError(b, err)
	defer jf.f.Close()
	block := vfs.AlignedBuffer(4096)
	times := make([]time.Duration, 0, b.N)
	b.ResetTimer()
	for i := range b.N {
		start := time.Now()
		_, err := jf.f.WriteAt(block, int64(i%2048)*4096)
		if err == nil && !jf.direct {
			err = jf.f.Sync()
		}
		if err != nil {
			b.Fatal(err)
		}
		times = append(times, time.Since(start))
	}
	reportTimes(b, times)
}

// BenchmarkAppendSync is one outstanding append of one small record.
func BenchmarkAppendSync(b *testing.B) {
	s, list := benchStore(b, 1, Config{})
	p := list[0]
	batch := record.Batch(newProducer(b, p).batch(0, 1, 128))
	done := make(waiter, 1)
	times := make([]time.Duration, 0, b.N)
	b.ReportAllocs()
	b.ResetTimer()
	for i := range b.N {
		batch.Stamp(int64(i), 1, int64(i))
		start := time.Now()
		if _, err := p.Append(batch, done); err != nil {
			b.Fatal(err)
		}
		if err := <-done; err != nil {
			b.Fatal(err)
		}
		times = append(times, time.Since(start))
	}
	b.StopTimer()
	reportTimes(b, times)
	st := s.Stats()
	b.ReportMetric(float64(st.Sync.P50)/1e3, "sync-p50-us")
}

// appendLoop appends the batch to p again and again, inFlight at a time.
func appendLoop(b *testing.B, p *Partition, batch []byte, n, inFlight int, times []time.Duration) []time.Duration {
	type slot struct {
		batch record.Batch
		done  waiter
		begun time.Time
	}
	slots := make([]slot, inFlight)
	base := p.End()
	for i := range slots {
		slots[i] = slot{batch: append(record.Batch(nil), batch...), done: make(waiter, 1)}
	}
	wait := func(s *slot) {
		if err := <-s.done; err != nil {
			b.Error(err)
		}
		times = append(times, time.Since(s.begun))
	}
	for i := range n {
		s := &slots[i%inFlight]
		if i >= inFlight {
			wait(s)
		}
		records := int64(s.batch.LastOffsetDelta()) + 1
		s.batch.Stamp(base+int64(i)*records, 1, base+int64(i))
		s.begun = time.Now()
		pending, err := p.Append(s.batch, s.done)
		if err != nil {
			b.Error(err)
			return times
		}
		if !pending {
			s.done <- nil
		}
	}
	for i := max(0, n-inFlight); i < n; i++ {
		wait(&slots[i%inFlight])
	}
	return times
}

func benchAppends(b *testing.B, partitions, size, inFlight int, c Config) {
	s, list := benchStore(b, partitions, c)
	batch := newProducer(b, list[0]).batch(0, 1, size-120)
	b.SetBytes(int64(len(batch)))
	b.ReportAllocs()
	times := make([][]time.Duration, partitions)
	per := b.N/partitions + 1
	for i := range times {
		times[i] = make([]time.Duration, 0, per)
	}
	for _, p := range list { // makes the files
		appendLoop(b, p, batch, 1, 1, nil)
	}
	b.ResetTimer()
	var wg sync.WaitGroup
	for i, p := range list {
		wg.Go(func() { times[i] = appendLoop(b, p, batch, per, inFlight, times[i]) })
	}
	wg.Wait()
	b.StopTimer()
	reportTimes(b, slices.Concat(times...))
	st := s.Stats()
	b.ReportMetric(float64(st.JournalBytes)/float64(max(st.Groups, 1))/1024, "KiB/group")
	b.ReportMetric(float64(st.Checkpoints), "checkpoints")
	b.ReportMetric(float64(st.Stalls), "stalls")
	b.ReportMetric(float64(st.Checkpoint.P50)/1e6, "ckpt-ms")
}

// BenchmarkAppend appends from as many writers as partitions.
func BenchmarkAppend(b *testing.B) {
	for _, v := range []struct{ partitions, size, inFlight int }{
		{1, 16 << 10, 16}, {16, 1 << 10, 4}, {64, 16 << 10, 1}, {64, 1 << 10, 1}, {16, 64 << 10, 4}, {4096, 1 << 10, 1},
	} {
		b.Run(fmt.Sprintf("partitions=%d/bytes=%d/inflight=%d", v.partitions, v.size, v.inFlight), func(b *testing.B) {
			benchAppends(b, v.partitions, v.size, v.inFlight, Config{})
		})
	}
	b.Run("never/partitions=16/bytes=16384", func(b *testing.B) {
		benchAppends(b, 16, 16<<10, 1, Config{Fsync: FsyncNever})
	})
}

// BenchmarkJournal queues entries of 16 KiB for the journal alone, without segments: what BenchmarkAppend could reach
// at most.
func BenchmarkJournal(b *testing.B) {
	s, _ := benchStore(b, 1, Config{})
	data := make([]byte, 16<<10)
	const inFlight = 64
	done := make(waiter, inFlight)
	b.SetBytes(int64(len(data)))
	b.ReportAllocs()
	b.ResetTimer()
	for i := range b.N {
		if i >= inFlight {
			if err := <-done; err != nil {
				b.Fatal(err)
			}
		}
		if err := s.journalWide(entryDelete, data, done); err != nil {
			b.Fatal(err)
		}
		if i%2048 == 0 {
			s.checkpoints.noteDeleted()
		}
	}
	for range min(b.N, inFlight) {
		<-done
	}
}

// BenchmarkRead reads a stored log from start to end, into memory and through a connection.
func BenchmarkRead(b *testing.B) {
	s, list := benchStore(b, 1, Config{})
	p := list[0]
	batch := record.Batch(newProducer(b, p).batch(0, 100, 128))
	const batches = 4096
	for i := range batches {
		batch.Stamp(int64(i)*100, 1, 1)
		done := make(waiter, 1)
		_, err := p.Append(batch, done)
		require.NoError(b, err)
		require.NoError(b, <-done)
	}
	_ = s
	client, server := tcpPair(b)
	go io.Copy(io.Discard, client)
	for _, how := range []string{"memory", "sendfile", "verify"} {
		b.Run(how, func(b *testing.B) {
			b.SetBytes(1 << 20)
			b.ReportAllocs()
			var buf []byte
			from := int64(0)
			for range b.N {
				c, err := p.Read(from, p.End(), 1<<20, how == "verify")
				if err == nil {
					if how == "memory" {
						buf, err = c.AppendTo(buf[:0])
					} else {
						_, err = c.WriteTo(server)
					}
				}
				if err != nil {
					b.Fatal(err)
				}
				if from = c.Next(); from >= p.End() {
					from = 0
				}
				c.Release()
			}
		})
	}
}

func tcpPair(t testing.TB) (client, server net.Conn) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	client, err = net.Dial("tcp", l.Addr().String())
	require.NoError(t, err)
	server, err = l.Accept()
	require.NoError(t, err)
	t.Cleanup(func() {
		client.Close()
		server.Close()
	})
	return client, server
}

// BenchmarkReadTail reads each append as soon as it is there.
func BenchmarkReadTail(b *testing.B) {
	_, list := benchStore(b, 1, Config{Fsync: FsyncNever})
	p := list[0]
	batch := record.Batch(newProducer(b, p).batch(0, 1, 128))
	var buf []byte
	b.ReportAllocs()
	for i := range b.N {
		batch.Stamp(int64(i), 1, 1)
		if _, err := p.Append(batch, nil); err != nil {
			b.Fatal(err)
		}
		c, err := p.Read(int64(i), int64(i)+1, 1<<20, false)
		if err != nil {
			b.Fatal(err)
		}
		buf, _ = c.AppendTo(buf[:0])
		c.Release()
	}
}

// BenchmarkOpen recovers a store that was killed with 190 MiB of live journal over 64 partitions: about the most that the
// default options allow recovery to have to read.
func BenchmarkOpen(b *testing.B) {
	var took time.Duration
	for range b.N {
		dir := b.TempDir()
		s := openStore(b, dir, Options{ReserveBytes: -1})
		s.checkpoints.running.Lock() // none is taken
		const partitions = 64
		for i := range uint32(partitions) {
			require.NoError(b, s.Create(Spec{ID: testID(i)}))
		}
		batch := record.Batch(newProducer(b, partition(b, s, testID(0))).batch(0, 100, 150))
		done := make(waiter, partitions)
		for round := 0; s.Stats().JournalBytes < 190<<20; round++ {
			for i := range uint32(partitions) {
				batch := append(record.Batch(nil), batch...)
				batch.Stamp(int64(round)*100, 1, int64(round))
				_, err := partition(b, s, testID(i)).Append(batch, done)
				require.NoError(b, err)
			}
			for range partitions {
				require.NoError(b, <-done)
			}
		}
		s.fail(io.ErrUnexpectedEOF)
		s.checkpoints.running.Unlock()
		s.Close()
		start := time.Now()
		s = openStore(b, dir, Options{ReserveBytes: -1})
		p := partition(b, s, testID(7))
		c, err := p.Read(p.End()/2, p.End(), 1<<20, false)
		require.NoError(b, err)
		c.Release()
		took += time.Since(start)
		require.NoError(b, s.Close())
	}
	b.ReportMetric(float64(took.Milliseconds())/float64(b.N), "ms/open")
}
