package log

import (
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/sequitur-mq/sequitur/internal/vfs"
	"github.com/sequitur-mq/sequitur/record"
)

// keyedLog appends keyed records to a compacted partition and remembers what it appended.
type keyedLog struct {
	t       require.TestingT
	s       *Store
	p       *Partition
	now     time.Time
	builder *record.Builder
	comp    *record.Compressor
	seqs    map[uint64]uint32
	batches []record.Batch
}

func newKeyedLog(t require.TestingT, fsys vfs.FS, c Config, tune func(*Options)) *keyedLog {
	k := &keyedLog{t: t, now: time.Unix(1000, 0), builder: record.NewBuilder(0), comp: record.NewCompressor(), seqs: map[uint64]uint32{}}
	o := smallOptions(fsys)
	o.Now = func() time.Time { return k.now }
	o.CompactRate = -1
	if tune != nil {
		tune(&o)
	}
	var err error
	k.s, err = Open("/data", o)
	require.NoError(t, err)
	c.Compact = true
	require.NoError(t, k.s.Create(Spec{testID(1), c}))
	k.p, _ = k.s.Partition(testID(1))
	return k
}

type kv struct{ key, value string } // "" = null

// append adds one batch.
func (k *keyedLog) append(codec record.Codec, producer uint64, control bool, records ...kv) {
	k.builder.Reset()
	for _, r := range records {
		if control {
			k.builder.AppendControl(k.now.UnixMilli(), record.ControlEpochStart, []byte(r.value))
			continue
		}
		var key, value []byte
		if r.key != "" {
			key = []byte(r.key)
		}
		if r.value != "" {
			value = []byte(r.value)
		}
		k.builder.Append(k.now.UnixMilli(), key, value, nil)
	}
	built, err := k.builder.Build(k.comp, codec, producer, 1, k.seqs[producer])
	require.NoError(k.t, err)
	b := append(record.Batch(nil), built...)
	k.seqs[producer] = b.NextSequence()
	k.now = k.now.Add(time.Millisecond)
	b.Stamp(k.p.End(), 1, k.now.UnixNano())
	require.NoError(k.t, appendWait(k.p, b))
	k.batches = append(k.batches, b)
}

// fill makes sure that everything so far is in sealed segments.
func (k *keyedLog) seal() {
	segments := k.p.Stat().Segments
	for i := 0; k.p.Stat().Segments == segments; i++ {
		k.append(record.CodecNone, 0, false, kv{fmt.Sprintf("seal-%d-%d", segments, i), string(make([]byte, 1000))})
	}
}

func (k *keyedLog) read() *found {
	f, err := readPartition(k.p)
	require.NoError(k.t, err)
	return f
}

// newest is what a reader from the start would have of each key.
func newest(t require.TestingT, batches []record.Batch) map[string]string {
	records, order, err := recordsOf(batches)
	require.NoError(t, err)
	out := map[string]string{}
	for _, o := range order {
		if r := records[o]; r.key != nil && !r.control {
			delete(out, string(r.key))
			if r.value != nil {
				out[string(r.key)] = string(r.value)
			}
		}
	}
	return out
}

// TestCompactionAgainstModel: whatever is appended, in any codec, with any limit and a key map of any size, after any
// number of rounds a reader from the start has the same value for each key, and sees only what was written.
func TestCompactionAgainstModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		limit := int64(0)
		k := newKeyedLog(t, vfs.NewMem(vfs.MemOptions{}), Config{SegmentBytes: 4 << 10, TombstoneRetention: time.Hour,
			Fsync: rapid.SampledFrom([]FsyncMode{FsyncAlways, FsyncNever}).Draw(t, "fsync")},
			func(o *Options) {
				o.switches = &switches{keyBytes: rapid.SampledFrom([]int64{1, 4 << 10, 1 << 20}).Draw(t, "memory")}
			})
		k.p.SetCompactionLimit(func() int64 { return limit })
		defer func() { require.NoError(t, k.s.Close()) }()
		keys := rapid.SampledFrom([]int{3, 40, 500}).Draw(t, "keys")
		t.Repeat(map[string]func(*rapid.T){
			"append": func(t *rapid.T) {
				for range rapid.IntRange(1, 12).Draw(t, "batches") {
					var list []kv
					for range rapid.IntRange(1, 8).Draw(t, "records") {
						r := kv{value: fmt.Sprintf("%0*d", rapid.IntRange(1, 120).Draw(t, "size"), k.p.End())}
						switch n := rapid.IntRange(0, 20).Draw(t, "kind"); {
						case n < 17:
							r.key = fmt.Sprint("key-", rapid.IntRange(0, keys).Draw(t, "key"))
						case n < 19:
							r.key, r.value = fmt.Sprint("key-", rapid.IntRange(0, keys).Draw(t, "key")), ""
						}
						list = append(list, r)
					}
					control := rapid.IntRange(0, 15).Draw(t, "control") == 0
					k.append(record.Codec(rapid.IntRange(0, 2).Draw(t, "codec")), uint64(rapid.IntRange(0, 3).Draw(t, "producer")), control, list...)
				}
			},
			"compact": func(t *rapid.T) {
				limit = rapid.Int64Range(limit, k.p.End()).Draw(t, "limit")
				require.NoError(t, k.s.Compact(rapid.Bool().Draw(t, "force")))
				require.NoError(t, k.s.checkpoints.once(false))
				k.s.chores.drain()
			},
			"": func(t *rapid.T) {
				got := k.read()
				require.EqualValues(t, 0, got.start)
				require.NoError(t, compactionOf(got.batches, k.batches))
				require.Equal(t, newest(t, k.batches), newest(t, got.batches))
				checkHeaders(t, got.batches, k.batches)
				at := rapid.Int64Range(0, k.p.End()).Draw(t, "read from")
				checkReadFrom(t, k.p, at, got.batches)
			},
		})
		k.s.chores.drain()
	})
}

// checkHeaders: what stays of a batch has its header, and every producer's last batch is there.
func checkHeaders(t require.TestingT, got, want []record.Batch) {
	byBase := map[int64]record.Batch{}
	last := map[uint64]int64{}
	for _, b := range want {
		byBase[b.BaseOffset()] = b
		last[b.ProducerID()] = b.BaseOffset()
	}
	for _, b := range got {
		w, ok := byBase[b.BaseOffset()]
		require.True(t, ok, "batch at %d was never written", b.BaseOffset())
		require.Equal(t, []any{w.NextOffset(), w.AppendTime(), w.LeaderEpoch(), w.ProducerID(), w.ProducerEpoch(), w.BaseSequence(), w.BaseTimestamp(), w.Attributes().Control()},
			[]any{b.NextOffset(), b.AppendTime(), b.LeaderEpoch(), b.ProducerID(), b.ProducerEpoch(), b.BaseSequence(), b.BaseTimestamp(), b.Attributes().Control()})
		if last[b.ProducerID()] == b.BaseOffset() {
			delete(last, b.ProducerID())
		}
	}
	delete(last, 0)
	require.Empty(t, last, "producers without their last batch")
}

// checkReadFrom: a reader that begins anywhere gets the first batch that is left from there on.
func checkReadFrom(t require.TestingT, p *Partition, at int64, batches []record.Batch) {
	for len(batches) > 0 && batches[0].NextOffset() <= at {
		batches = batches[1:]
	}
	b, err := readFrom(p, at, 1, true)
	require.NoError(t, err)
	if len(batches) == 0 {
		require.Empty(t, b)
		return
	}
	first, _, err := record.Parse(b, storedLimits())
	require.NoError(t, err)
	require.Equal(t, batches[0].BaseOffset(), first.BaseOffset())
}

func TestCompactionRemovesWhatIsSuperseded(t *testing.T) {
	k := newKeyedLog(t, vfs.NewMem(vfs.MemOptions{}), Config{SegmentBytes: 8 << 10}, nil)
	for i := range 1000 {
		k.append(record.CodecS2, 1, false, kv{fmt.Sprint(i % 10), fmt.Sprint(i)}, kv{fmt.Sprint(i % 7), string(make([]byte, 100))})
	}
	k.seal()
	before := k.p.Stat()
	require.NoError(t, k.s.Compact(false))
	after := k.p.Stat()
	require.Less(t, after.Bytes, before.Bytes/10)
	require.Less(t, after.Segments, before.Segments/4)
	require.Equal(t, before.End, after.End)
	st := k.s.Stats().Compact
	require.EqualValues(t, 1, st.Rounds)
	require.Positive(t, st.Records)
	require.EqualValues(t, before.Bytes-after.Bytes, st.Bytes)
	got := k.read()
	require.Equal(t, newest(t, k.batches), newest(t, got.batches))
	require.NoError(t, k.s.Compact(false))
	require.EqualValues(t, 1, k.s.Stats().Compact.Rounds, "nothing to do")

	// The old files go after the next checkpoint, and a restart finds the same.
	settle(t, k.s)
	files, err := k.s.fs.ReadDir(k.p.dir())
	require.NoError(t, err)
	require.LessOrEqual(t, len(files), 2*after.Segments)
	require.NoError(t, k.s.Close())
	k.s = openStore(t, "/data", k.s.options)
	k.p = partition(t, k.s, testID(1))
	require.NoError(t, sameBatches(k.read().batches, got.batches))
	require.NoError(t, k.s.Close())
	checkClean(t, k.s.fs, "/data")
}

// Readers that have an old file open finish with it.
func TestReadersOutliveCompaction(t *testing.T) {
	k := newKeyedLog(t, vfs.NewMem(vfs.MemOptions{}), Config{SegmentBytes: 4 << 10}, func(o *Options) { o.TailBytes = -1 })
	for i := range 200 {
		k.append(record.CodecNone, 1, false, kv{fmt.Sprint(i % 5), fmt.Sprintf("%0100d", i)})
	}
	k.seal()
	c, err := k.p.Read(0, k.p.End(), 2000, false)
	require.NoError(t, err)
	require.NoError(t, k.s.Compact(true))
	settle(t, k.s)
	b, err := c.AppendTo(nil)
	require.NoError(t, err)
	var want []byte
	for _, batch := range k.batches {
		if len(want) < len(b) {
			want = append(want, batch...)
		}
	}
	require.Equal(t, want, b)
	c.Release()
	require.NoError(t, k.s.Close())
}

// A tombstone stays until it is old enough and everything older of its key has been gone for as long.
func TestTombstones(t *testing.T) {
	k := newKeyedLog(t, vfs.NewMem(vfs.MemOptions{}), Config{SegmentBytes: 4 << 10, TombstoneRetention: time.Hour}, nil)
	k.append(record.CodecNone, 0, false, kv{"a", "1"}, kv{"b", "1"})
	k.seal()
	k.append(record.CodecNone, 0, false, kv{"a", ""})
	k.seal()
	has := func(key string) (tombstone, value bool) {
		records, _, err := recordsOf(k.read().batches)
		require.NoError(t, err)
		for _, r := range records {
			if string(r.key) == key {
				tombstone = tombstone || r.value == nil
				value = value || r.value != nil
			}
		}
		return tombstone, value
	}
	k.now = k.now.Add(2 * time.Hour)
	tombstone, value := has("a")
	require.True(t, tombstone && value)
	require.NoError(t, k.s.Compact(true))
	tombstone, value = has("a")
	require.True(t, tombstone && !value, "a reader who saw the value a moment ago must learn of its end")
	k.now = k.now.Add(59 * time.Minute)
	require.NoError(t, k.s.Compact(true))
	tombstone, _ = has("a")
	require.True(t, tombstone)

	// The time goes on over a restart.
	settle(t, k.s)
	require.NoError(t, k.s.Close())
	k.s = openStore(t, "/data", k.s.options)
	k.p = partition(t, k.s, testID(1))
	k.now = k.now.Add(2 * time.Minute)
	require.NoError(t, k.s.Compact(false))
	tombstone, value = has("a")
	require.False(t, tombstone || value)
	_, value = has("b")
	require.True(t, value)
	require.NoError(t, k.s.Close())
	checkClean(t, k.s.fs, "/data")
}

// What cannot be read is neither rewritten nor taken as a reason to remove anything.
func TestCompactionLeavesDamageAlone(t *testing.T) {
	fsys := vfs.NewMem(vfs.MemOptions{})
	k := newKeyedLog(t, fsys, Config{SegmentBytes: 4 << 10}, nil)
	var bad string
	for i := range 300 {
		k.append(record.CodecNone, 1, false, kv{fmt.Sprint(i % 5), fmt.Sprintf("%0100d", i)})
		if k.p.Stat().Segments == 3 && bad == "" {
			bad = k.p.segments[1].path()
		}
	}
	k.seal()
	require.NoError(t, fsys.FlipBit(bad, 8*200))
	require.NoError(t, k.s.Compact(true))
	_, err := fsys.Stat(bad)
	require.NoError(t, err)
	settle(t, k.s)
	_, err = fsys.Stat(bad)
	require.NoError(t, err, "the damaged file stays")
	require.NoError(t, fsys.FlipBit(bad, 8*200))
	require.Equal(t, newest(t, k.batches), newest(t, k.read().batches))
	require.NoError(t, k.s.Close())
}

// A log that changes under a round is left to the next one.
func TestCompactionGivesUpWhenTheLogChanges(t *testing.T) {
	k := newKeyedLog(t, vfs.NewMem(vfs.MemOptions{}), Config{SegmentBytes: 4 << 10}, nil)
	for i := range 200 {
		k.append(record.CodecNone, 1, false, kv{fmt.Sprint(i % 5), fmt.Sprintf("%0100d", i)})
	}
	k.seal()
	c := k.p.beginCompaction(true)
	c.keys, c.inflate = newKeyMap(1<<20), record.NewDecompressor()
	defer c.inflate.Close()
	require.NoError(t, c.lastBatches())
	_, err := c.gather(0)
	require.NoError(t, err)
	end := c.segments[len(c.segments)/2].base
	wait(t, func(done Completion) error { return k.p.TruncateTo(end, done) })
	require.ErrorIs(t, c.clean(c.limit), errChanged)
	settle(t, k.s)
	got := k.read()
	require.Equal(t, end, got.end)
	for _, e := range mustReadDir(t, k.s.fs, k.p.dir()) {
		if name, suffix, ok := parseSegmentName(e); ok && suffix == segmentSuffix {
			require.True(t, k.p.segmentNames()[name], "left over: %s", e)
		}
	}
	require.NoError(t, k.s.Close())
	checkClean(t, k.s.fs, "/data")
}

func mustReadDir(t *testing.T, fsys vfs.FS, dir string) (names []string) {
	t.Helper()
	list, err := fsys.ReadDir(dir)
	require.NoError(t, err)
	for _, e := range list {
		names = append(names, filepath.Base(e.Name()))
	}
	return names
}
