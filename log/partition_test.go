package log

import (
	"bytes"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/sequitur-mq/sequitur/internal/vfs"
	"github.com/sequitur-mq/sequitur/record"
	"github.com/stretchr/testify/require"
)

func TestAppendRefusals(t *testing.T) {
	s := openStore(t, "/data", smallOptions(vfs.NewMem(vfs.MemOptions{})))
	require.NoError(t, s.Create(Spec{ID: testID(1)}))
	p := partition(t, s, testID(1))
	f := newProducer(t, p)
	f.epoch = 3
	f.append(2, 100)
	good := f.batch(2, 1, 100)
	for what, bad := range map[string][]byte{
		"nothing":     {},
		"gap":         stamped(good, 3, 3, f.now),
		"overlap":     stamped(good, 1, 3, f.now),
		"lower epoch": stamped(good, 2, 2, f.now),
		"time falls":  stamped(good, 2, 3, 5),
		"cut short":   good[:len(good)-1],
		"two, gap":    append(stamped(good, 2, 3, f.now), stamped(good, 4, 3, f.now)...),
	} {
		_, err := p.Append(bad, nil)
		require.Error(t, err, what)
		require.EqualValues(t, 2, p.End(), what)
	}
	require.NoError(t, appendWait(p, good))
	require.NoError(t, s.Delete(testID(1)))
	_, err := p.Append(good, nil)
	require.ErrorIs(t, err, ErrUnknownPartition)
	_, err = p.Read(0, 1, 100, false)
	require.ErrorIs(t, err, ErrUnknownPartition)
	require.NoError(t, s.Close())
	require.ErrorIs(t, s.Create(Spec{ID: testID(2)}), ErrClosed)
}

func stamped(b []byte, base int64, epoch uint32, now int64) []byte {
	b = bytes.Clone(b)
	record.Batch(b).Stamp(base, epoch, now)
	return b
}

func TestReadBounds(t *testing.T) {
	both(t, func(t *testing.T, dir string, o Options) {
		for _, tail := range []int64{-1, 2 << 20} {
			o.TailBytes = tail
			s := openStore(t, dir, o)
			id := testID(uint32(tail + 2))
			require.NoError(t, s.Create(Spec{ID: id, Config: Config{SegmentBytes: 64 << 10}}))
			p := partition(t, s, id)
			want := newProducer(t, p).appendMany(200, 3, 500)
			offsets, positions := boundaries(t, want)
			at := func(offset int64) int { // index of the batch that holds it
				for i := range offsets {
					if offset < offsets[i] {
						return i - 1
					}
				}
				return len(offsets) - 1
			}
			offsets[len(offsets)-1] = p.End()
			for from := int64(0); from < p.End(); from += 7 {
				for _, limit := range []int64{from, from + 1, from + 20, p.End()} {
					limit = min(limit, p.End())
					for _, most := range []int{1, 5000, 1 << 20} {
						c, err := p.Read(from, limit, most, most == 5000 && from%2 == 0)
						require.NoError(t, err)
						got, err := c.AppendTo(nil)
						require.NoError(t, err)
						first, last := at(from), at(limit)
						if len(got) == 0 {
							require.True(t, limit == from || last == first, "from %d limit %d", from, limit)
							require.Equal(t, from, c.Next())
						} else {
							require.Equal(t, want[positions[first]:][:len(got)], got)
							end := at(c.Next())
							require.Equal(t, offsets[end], c.Next(), "ends with a whole batch")
							require.Equal(t, positions[end]-positions[first], len(got))
							require.LessOrEqual(t, c.Next(), limit)
							require.True(t, len(got) <= most || end == first+1, "%d bytes for at most %d", len(got), most)
						}
						c.Release()
					}
				}
			}
			for _, r := range [][2]int64{{-1, 3}, {5, 4}, {0, p.End() + 1}, {p.End() + 1, p.End() + 1}} {
				_, err := p.Read(r[0], r[1], 100, false)
				require.ErrorIs(t, err, ErrOutOfRange)
			}
			st := s.Stats()
			require.Equal(t, tail > 0, st.TailHits > 0)
			require.NoError(t, s.Close())
		}
	})
}

func TestOffsetByTime(t *testing.T) {
	both(t, func(t *testing.T, dir string, o Options) {
		s := openStore(t, dir, o)
		require.NoError(t, s.Create(Spec{ID: testID(1), Config: Config{SegmentBytes: 64 << 10}}))
		p := partition(t, s, testID(1))
		offset, at, err := p.OffsetByTime(0)
		require.NoError(t, err)
		require.Equal(t, []int64{0, -1}, []int64{offset, at})
		f := newProducer(t, p)
		want := f.appendMany(300, 2, 500)
		check := func(p *Partition) {
			start := p.Start()
			for rest := want; len(rest) > 0; {
				b := record.Batch(rest)
				rest = rest[b.Length():]
				if b.NextOffset() <= start {
					continue
				}
				for _, ns := range []int64{b.AppendTime(), b.AppendTime() - 1e5} {
					offset, at, err := p.OffsetByTime(ns)
					require.NoError(t, err)
					require.Equal(t, []int64{max(b.BaseOffset(), start), b.AppendTime()}, []int64{offset, at})
				}
			}
			offset, at, err := p.OffsetByTime(f.now + 1)
			require.NoError(t, err)
			require.Equal(t, []int64{p.End(), -1}, []int64{offset, at})
		}
		check(p)
		wait(t, func(c Completion) error { return p.AdvanceStart(301, c) })
		check(p)
		crash(t, s)
		s = openStore(t, dir, o)
		check(partition(t, s, testID(1)))
		require.NoError(t, s.Close())
	})
}

func TestValues(t *testing.T) {
	both(t, func(t *testing.T, dir string, o Options) {
		s := openStore(t, dir, o)
		require.NoError(t, s.Create(Spec{ID: testID(1)}))
		p := partition(t, s, testID(1))
		require.Nil(t, p.Value(1))
		put := func(key uint8, v string) {
			wait(t, func(c Completion) error { return p.PutValue(key, []byte(v), c) })
		}
		put(1, "fence 7")
		put(2, "version 3")
		put(1, "fence 8")
		for round := range 3 {
			require.Equal(t, "fence 8", string(p.Value(1)))
			require.Equal(t, "version 3", string(p.Value(2)))
			if round == 0 {
				crash(t, s)
			} else {
				require.NoError(t, s.Close())
			}
			s = openStore(t, dir, o)
			p = partition(t, s, testID(1))
		}
		put(1, "")
		crash(t, s)
		s = openStore(t, dir, o)
		p = partition(t, s, testID(1))
		require.Nil(t, p.Value(1))
		require.Equal(t, "version 3", string(p.Value(2)))
		require.ErrorIs(t, p.PutValue(1, make([]byte, 256<<10), nil), ErrTooLarge)
		require.NoError(t, s.Close())
	})
}

func TestDelete(t *testing.T) {
	both(t, func(t *testing.T, dir string, o Options) {
		s := openStore(t, dir, o)
		require.NoError(t, s.Create(Spec{ID: testID(1)}, Spec{ID: testID(2)}, Spec{ID: testID(3)}))
		require.ErrorIs(t, s.Create(Spec{ID: testID(4)}, Spec{ID: testID(2)}), ErrExists)
		require.Len(t, s.IDs(), 3, "all or none")
		var paths []string
		for n := range uint32(3) {
			f := newProducer(t, partition(t, s, testID(n+1)))
			f.appendMany(3, 1, 100)
			paths = append(paths, f.p.dir())
		}
		c, err := partition(t, s, testID(1)).Read(0, 3, 1000, true)
		require.NoError(t, err)
		require.NoError(t, s.Delete(testID(1), testID(9)))
		require.NoError(t, s.checkpoints.once(false)) // files go once no checkpoint speaks of them
		s.chores.drain()
		_, err = o.FS.Stat(paths[0])
		require.True(t, isNotExist(err))
		b, err := c.AppendTo(nil)
		require.NoError(t, err, "a chunk outlives its partition")
		require.Len(t, b, c.Len())
		c.Release()
		require.NoError(t, s.Delete(testID(2)))
		crash(t, s)
		require.NoError(t, o.FS.MkdirAll(paths[1])) // as if the crash had undone its removal
		s = openStore(t, dir, o)
		require.Equal(t, []ID{testID(3)}, s.IDs())
		require.NoError(t, s.checkpoints.once(false))
		s.chores.drain()
		_, err = o.FS.Stat(paths[1])
		require.True(t, isNotExist(err))
		require.NoError(t, s.Create(Spec{ID: testID(1)}))
		require.Zero(t, partition(t, s, testID(1)).End())
		require.NoError(t, s.Close())
		s = openStore(t, dir, o)
		require.Equal(t, []ID{testID(1), testID(3)}, s.IDs())
		require.NoError(t, s.Close())
	})
}

// Directories that no metadata speaks of are not the log's to delete.
func TestUnknownDirectoriesStay(t *testing.T) {
	dir := t.TempDir()
	o := smallOptions(vfs.OS())
	s := openStore(t, dir, o)
	p := newPartition(s, 99, testID(5), Config{})
	require.NoError(t, o.FS.MkdirAll(p.dir()))
	crash(t, s)
	s = openStore(t, dir, o)
	require.NoError(t, s.Create(Spec{ID: testID(1)}))
	require.NoError(t, s.Close())
	_, err := o.FS.Stat(p.dir())
	require.NoError(t, err)
}

func TestTenThousandPartitions(t *testing.T) {
	dir := t.TempDir()
	o := smallOptions(vfs.OS())
	o.JournalFileBytes, o.JournalMaxBytes = 4<<20, 16<<20
	s := openStore(t, dir, o)
	const n = 10000
	specs := make([]Spec, n)
	for i := range specs {
		specs[i] = Spec{ID: testID(uint32(i))}
	}
	before := heap()
	groups := s.Stats().Groups
	began := time.Now()
	require.NoError(t, s.Create(specs...))
	took := time.Since(began)
	require.LessOrEqual(t, s.Stats().Groups-groups, uint64(2))
	each := float64(heap()-before) / n
	t.Logf("%d partitions created in %v, %.0f bytes each", n, took, each)
	entries, err := o.FS.ReadDir(dir + "/partitions")
	require.NoError(t, err)
	require.Empty(t, entries, "files come with the first append")
	used := map[uint32][]byte{}
	for i := uint32(0); i < n; i += 500 {
		used[i] = newProducer(t, partition(t, s, testID(i))).append(1, 100)
	}
	for _, kill := range []bool{true, false} {
		if kill {
			crash(t, s)
		} else {
			require.NoError(t, s.Close())
		}
		began = time.Now()
		s = openStore(t, dir, o)
		t.Logf("opened in %v", time.Since(began))
		require.Len(t, s.IDs(), n)
		for i, want := range used {
			require.Equal(t, want, readAll(t, partition(t, s, testID(i))))
		}
		require.NoError(t, s.checkpoints.once(false))
	}
	require.NoError(t, s.Close())
}

func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// More partitions are in use than files may be open.
func TestOpenFilesAreBounded(t *testing.T) {
	both(t, func(t *testing.T, dir string, o Options) {
		o.MaxOpenFiles, o.TailBytes = 8, -1
		s := openStore(t, dir, o)
		fill := map[ID]*producer{}
		want := map[ID][]byte{}
		for i := range uint32(40) {
			require.NoError(t, s.Create(Spec{ID: testID(i)}))
			fill[testID(i)] = newProducer(t, partition(t, s, testID(i)))
		}
		for range 5 {
			for id, f := range fill {
				want[id] = append(want[id], f.append(1, 100)...)
				require.LessOrEqual(t, s.Stats().OpenFiles, 8)
			}
			for id, f := range fill {
				require.Equal(t, want[id], readAll(t, f.p))
			}
		}
		require.NoError(t, s.Close())
	})
}

// Readers run against appends, rolls, retention, truncation of the suffix, checkpoints and the closing of files.
func TestConcurrentReaders(t *testing.T) {
	both(t, func(t *testing.T, dir string, o Options) {
		o.MaxOpenFiles, o.TailBytes = 3, 2<<20
		s := openStore(t, dir, o)
		require.NoError(t, s.Create(Spec{ID: testID(1), Config: Config{SegmentBytes: 32 << 10}}))
		p := partition(t, s, testID(1))
		stop := make(chan struct{})
		var wg sync.WaitGroup
		for reader := range 3 {
			wg.Go(func() {
				if err := follow(p, stop, reader == 0); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if err := s.checkpoints.once(false); err != nil {
					t.Error(err)
				}
				s.Stats()
				p.Stat()
			}
		})
		f := newProducer(t, p)
		for i := range 400 {
			f.append(3, 500)
			if i%50 == 49 {
				wait(t, func(c Completion) error { return p.AdvanceStart(p.End()-100, c) })
			}
		}
		close(stop)
		wg.Wait()
		require.NoError(t, s.Close())
	})
}

// follow reads on as the log grows and checks that offsets are dense. It steps over what retention removed.
func follow(p *Partition, stop chan struct{}, verify bool) error {
	next := int64(0)
	for {
		select {
		case <-stop:
			return nil
		default:
		}
		c, err := p.Read(next, p.Durable(), 10<<10, verify)
		if errors.Is(err, ErrOutOfRange) {
			next = p.Start()
			continue
		}
		if err != nil {
			return err
		}
		b, err := c.AppendTo(nil)
		end := c.Next()
		c.Release()
		if err != nil {
			return err
		}
		for len(b) > 0 {
			batch, rest, err := record.Parse(b, storedLimits())
			if err != nil {
				return err
			}
			if err := batch.Verify(); err != nil {
				return err
			}
			if batch.BaseOffset() > next {
				return fmt.Errorf("batch at %d, wanted %d", batch.BaseOffset(), next)
			}
			next, b = batch.NextOffset(), rest
		}
		if next != end {
			return fmt.Errorf("chunk says %d, its batches end at %d", end, next)
		}
		runtime.Gosched()
	}
}

func TestChunkWritesToConnection(t *testing.T) {
	both(t, func(t *testing.T, dir string, o Options) {
		s := openStore(t, dir, o)
		require.NoError(t, s.Create(Spec{ID: testID(1)}))
		p := partition(t, s, testID(1))
		want := newProducer(t, p).appendMany(20, 2, 20<<10)
		client, server := tcpPair(t)
		got := make([]byte, 0, len(want))
		done := make(chan error, 1)
		go func() {
			var err error
			for len(got) < len(want) && err == nil {
				var n int
				n, err = client.Read(got[len(got):cap(got)])
				got = got[:len(got)+n]
			}
			done <- err
		}()
		for from := int64(0); from < p.End(); {
			c, err := p.Read(from, p.End(), 100<<10, from%4 == 0)
			require.NoError(t, err)
			n, err := c.WriteTo(server)
			require.NoError(t, err)
			require.EqualValues(t, c.Len(), n)
			from = c.Next()
			c.Release()
		}
		require.NoError(t, <-done)
		require.Equal(t, want, got)
		var buf bytes.Buffer
		c, err := p.Read(0, p.End(), 1<<20, true)
		require.NoError(t, err)
		_, err = c.WriteTo(&buf)
		require.NoError(t, err)
		require.Equal(t, want, buf.Bytes())
		c.Release()
		require.NoError(t, s.Close())
	})
}
