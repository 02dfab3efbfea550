package log

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/sequitur-mq/sequitur/internal/vfs"
	"github.com/sequitur-mq/sequitur/record"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// smallOptions keep tests quick and make files roll often.
func smallOptions(fsys vfs.FS) Options {
	return Options{
		FS: fsys, JournalFileBytes: 256 << 10, JournalMaxBytes: 1 << 20, TailBytes: 2 << 20,
		ReserveBytes: -1, BallastBytes: -1, CheckpointInterval: time.Hour, RetentionInterval: time.Hour,
		ScrubInterval: -1, CompactInterval: -1,
	}
}

func openStore(t testing.TB, dir string, o Options) *Store {
	t.Helper()
	s, err := Open(dir, o)
	require.NoError(t, err)
	if o.FS != nil {
		checkAtEnd(t, o.FS, dir)
	}
	return s
}

// both runs a test on the operating system's files and on those in memory.
func both(t *testing.T, test func(t *testing.T, dir string, o Options)) {
	t.Run("os", func(t *testing.T) { test(t, t.TempDir(), smallOptions(vfs.OS())) })
	t.Run("memory", func(t *testing.T) { test(t, "/data", smallOptions(vfs.NewMem(vfs.MemOptions{}))) })
}

func testID(n uint32) ID { return ID{Topic: [16]byte{0xaa}, Partition: n} }

// producer makes the batches of one partition.
type producer struct {
	t       testing.TB
	p       *Partition
	builder *record.Builder
	rng     *rand.Rand
	now     int64
	epoch   uint32
	seq     uint32
}

func newProducer(t testing.TB, p *Partition) *producer {
	return &producer{t: t, p: p, builder: record.NewBuilder(4096), rng: rand.New(rand.NewPCG(1, 2)), now: 1e9, epoch: 1}
}

// batch makes one batch of records with size bytes of value each, for the offset.
func (f *producer) batch(base int64, records, size int) []byte {
	f.builder.Reset()
	for i := range records {
		value := bytes.Repeat([]byte{byte('a' + f.rng.IntN(26))}, size)
		binary.BigEndian.PutUint64(value[:8:8], f.rng.Uint64())
		f.builder.Append(f.now/1e6, fmt.Appendf(nil, "key-%d", base+int64(i)), value, nil)
	}
	b, err := f.builder.Build(record.NewCompressor(), record.CodecNone, 7, 1, f.seq)
	require.NoError(f.t, err)
	f.seq += uint32(records)
	f.now += 1e6
	b = append(record.Batch(nil), b...)
	b.Stamp(base, f.epoch, f.now)
	return b
}

// append appends a batch and waits for it.
func (f *producer) append(records, size int) []byte {
	f.t.Helper()
	b := f.batch(f.p.End(), records, size)
	require.NoError(f.t, appendWait(f.p, b))
	return b
}

func (f *producer) appendMany(batches, records, size int) (all []byte) {
	f.t.Helper()
	for range batches {
		all = append(all, f.append(records, size)...)
	}
	return all
}

func appendWait(p *Partition, batches []byte) error {
	done := make(waiter, 1)
	pending, err := p.Append(batches, done)
	if err != nil || !pending {
		return err
	}
	return <-done
}

// wait calls an operation with a completion and waits for it.
func wait(t testing.TB, op func(Completion) error) {
	t.Helper()
	done := make(waiter, 1)
	require.NoError(t, op(done))
	require.NoError(t, <-done)
}

// readAll reads everything from start to end.
func readAll(t testing.TB, p *Partition) []byte {
	t.Helper()
	b, err := readFrom(p, p.Start(), 64<<10, false)
	require.NoError(t, err)
	return b
}

func readFrom(p *Partition, from int64, maxBytes int, verify bool) (all []byte, err error) {
	all = []byte{}
	end := p.End()
	for from < end {
		c, err := p.Read(from, end, maxBytes, verify)
		if err != nil {
			return all, err
		}
		if c.Next() <= from {
			c.Release()
			return all, errors.New("reading does not advance")
		}
		all, err = c.AppendTo(all)
		from = c.Next()
		c.Release()
		if err != nil {
			return all, err
		}
	}
	return all, nil
}

func partition(t testing.TB, s *Store, id ID) *Partition {
	t.Helper()
	p, ok := s.Partition(id)
	require.True(t, ok, "partition %s", id)
	return p
}

// settle takes a checkpoint and waits for the background work on files that it allows.
func settle(t testing.TB, s *Store) {
	t.Helper()
	require.NoError(t, s.checkpoints.once(false))
	s.chores.drain()
}

// crash closes a store as a killed process does: nothing more is written.
func crash(t testing.TB, s *Store) {
	t.Helper()
	s.fail(errors.New("killed by the test"))
	require.ErrorIs(t, s.Close(), ErrStorageFailed)
}

func TestAppendReadReopen(t *testing.T) {
	both(t, func(t *testing.T, dir string, o Options) {
		s := openStore(t, dir, o)
		require.NoError(t, s.Create(Spec{ID: testID(1)}, Spec{ID: testID(2)}))
		p := partition(t, s, testID(1))
		f := newProducer(t, p)
		want := f.appendMany(50, 3, 100)
		require.EqualValues(t, 150, p.End())
		require.EqualValues(t, 150, p.Durable())
		require.Equal(t, want, readAll(t, p))
		require.NoError(t, s.Close())

		for _, kill := range []bool{false, true} {
			s = openStore(t, dir, o)
			p = partition(t, s, testID(1))
			require.EqualValues(t, 150, p.End())
			require.Equal(t, f.now, p.LastAppendTime())
			require.Equal(t, want, readAll(t, p))
			if kill {
				f.p = p
				want = append(want, f.appendMany(20, 2, 300)...)
				crash(t, s)
			} else {
				require.NoError(t, s.Close())
			}
		}
		s = openStore(t, dir, o)
		p = partition(t, s, testID(1))
		require.EqualValues(t, 190, p.End())
		require.Equal(t, want, readAll(t, p))
		require.NoError(t, s.Close())
	})
}

func TestManyLapsAndRolls(t *testing.T) {
	both(t, func(t *testing.T, dir string, o Options) {
		o.Logger = slog.New(slog.NewTextHandler(t.Output(), nil))
		s := openStore(t, dir, o)
		require.NoError(t, s.Create(Spec{ID: testID(1), Config: Config{SegmentBytes: 100 << 10}}))
		p := partition(t, s, testID(1))
		f := newProducer(t, p)
		want := f.appendMany(150, 5, 3000)
		require.Greater(t, p.Stat().Segments, 10)
		require.Equal(t, want, readAll(t, p))
		require.Positive(t, s.Stats().Checkpoints, "the journal was overrun without a checkpoint")
		crash(t, s)
		s = openStore(t, dir, o)
		p = partition(t, s, testID(1))
		require.Equal(t, want, readAll(t, p))
		require.NoError(t, s.Close())
	})
}
