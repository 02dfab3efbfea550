package replica

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/sequitur-mq/sequitur/internal/vfs"
	"github.com/sequitur-mq/sequitur/log"
	"github.com/sequitur-mq/sequitur/record"
	"github.com/sequitur-mq/sequitur/txn"
	"github.com/stretchr/testify/require"
)

// client is a producer that keeps several batches in flight and, after a crash, sends
// again whatever was not answered, under the same sequence.
type client struct {
	id     uint64
	acked  map[uint32]int64 // sequence -> offset
	sent   uint32           // batches 0..sent were handed to the broker at least once
	batchN uint32           // records per batch
}

const inFlight = 8

// exactlyOnce is the promise: what the partition holds is, per client, the sequences 0
// to some n, each once and in order, and every answer is true.
func exactlyOnce(b *bed, clients []*client) error {
	place := map[string]int64{}
	next := map[uint64]uint32{}
	err := b.Log().Batches(b.Start(), func(batch record.Batch) error {
		id := batch.ProducerID()
		if batch.BaseSequence() != next[id] {
			return fmt.Errorf("offset %d: producer %d sequence %d, expected %d", batch.BaseOffset(), id, batch.BaseSequence(), next[id])
		}
		next[id] = batch.NextSequence()
		place[fmt.Sprint(id, ".", batch.BaseSequence())] = batch.BaseOffset()
		return nil
	})
	if err != nil {
		return err
	}
	for _, c := range clients {
		for seq, offset := range c.acked {
			if at, ok := place[fmt.Sprint(c.id, ".", seq)]; !ok || at != offset {
				return fmt.Errorf("producer %d sequence %d was answered with offset %d, found %t at %d", c.id, seq, offset, ok, at)
			}
		}
	}
	return nil
}

// produce sends batches until every client has total of them answered, or storage
// fails. Unanswered ones of before go first.
func produce(b *bed, clients []*client, total uint32) error {
	l := newListener()
	var failure error
	pending := 0
	take := func(c *client, seq uint32, a answer) {
		if a.err != nil {
			failure = a.err
			return
		}
		c.acked[seq] = a.result.BaseOffset
	}
	wait := func() {
		a := <-l
		pending--
		c := clients[a.token>>16]
		take(c, uint32(a.token&0xffff)*c.batchN, a)
	}
	for n := uint32(0); n < total; n++ {
		for i, c := range clients {
			seq := n * c.batchN
			if _, done := c.acked[seq]; done {
				continue
			}
			for pending >= inFlight && failure == nil {
				wait()
			}
			if failure != nil {
				break
			}
			c.sent = max(c.sent, n+1)
			result, waits, err := b.Append(batch(c.id, 1, seq, int(c.batchN)), AcksQuorum, l, i<<16|int(n))
			if waits {
				pending++
			} else {
				take(c, seq, answer{result: result, err: err})
			}
		}
	}
	for pending > 0 {
		wait()
	}
	return failure
}

// crashRound runs the clients into a crash at the k-th change of the disk, then against
// what is left of it, and checks the promise after each step. done is true if the
// clients finished before the crash came.
func crashRound(k int64, keep float64, mode log.FsyncMode, breaks breakage) (done bool, err error) {
	const total = 25
	fs := vfs.NewMem(vfs.MemOptions{})
	config := log.Config{Fsync: mode, SegmentBytes: 16 << 10}
	o := Options{breaks: breaks}
	b, err := tryOpenBed(fs, config, o)
	if err != nil {
		return false, err
	}
	clients := []*client{{id: 7, acked: map[uint32]int64{}, batchN: 3}, {id: 8, acked: map[uint32]int64{}, batchN: 40}}
	fs.CrashAt(k)
	failed := produce(b, clients, total)
	done = failed == nil
	if failed != nil && !errors.Is(failed, log.ErrStorageFailed) && !errors.Is(failed, log.ErrClosed) {
		return false, failed
	}
	after := fs.Crash(keep, rand.New(rand.NewPCG(uint64(k), 3)))
	_ = b.store.Close()

	if b, err = tryOpenBed(after, config, o); err != nil {
		return false, fmt.Errorf("reopen: %w", err)
	}
	defer func() { err = errors.Join(err, b.store.Close()) }()
	if err := exactlyOnce(b, clients); err != nil {
		return false, fmt.Errorf("after the crash: %w", err)
	}
	// The clients do not know what became of the unanswered ones.
	if err := produce(b, clients, total); err != nil {
		return false, fmt.Errorf("after the crash: %w", err)
	}
	if err := exactlyOnce(b, clients); err != nil {
		return false, fmt.Errorf("after the retries: %w", err)
	}
	replayed := txn.NewProducers(0)
	err = b.Log().Batches(0, func(batch record.Batch) error {
		replayed.Apply(batch)
		return nil
	})
	if err == nil && replayed.Hash() != b.ProducersHash() {
		err = errors.New("live producer state differs from a replay of the log")
	}
	return done, err
}

// crashEverywhere crashes at every k-th change until a round outlives its crash.
func crashEverywhere(step int64, mode log.FsyncMode, keeps []float64, breaks breakage) error {
	for k, i := int64(1), 0; ; k, i = k+step, i+1 {
		done, err := crashRound(k, keeps[i%len(keeps)], mode, breaks)
		if err != nil {
			return fmt.Errorf("crash at change %d, keeping %v: %w", k, keeps[i%len(keeps)], err)
		}
		if done {
			return nil
		}
	}
}

var powerLoss = []float64{0, 0.2, 0.5, 0.8, 1}

func TestExactlyOnceThroughCrashes(t *testing.T) {
	t.Run("always", func(t *testing.T) {
		t.Parallel()
		require.NoError(t, crashEverywhere(1, log.FsyncAlways, powerLoss, breakage{}))
	})
	// The other modes promise to survive the death of the process.
	t.Run("never", func(t *testing.T) {
		t.Parallel()
		require.NoError(t, crashEverywhere(1, log.FsyncNever, []float64{1}, breakage{}))
	})
}

// Each rule switched off alone must be caught by the same rounds.
func TestTeeth(t *testing.T) {
	for name, breaks := range map[string]breakage{
		"answer before durable": {answerEarly: true},
		"forget on restart":     {forget: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			err := crashEverywhere(1, log.FsyncAlways, powerLoss, breaks)
			require.Error(t, err, "the rule is off and nothing noticed")
			t.Log(err)
		})
	}
}

// A clean stop leaves a snapshot at the end of the log, so that the next start reads
// nothing of it; what the snapshot lacks is lacking then.
func TestSnapshotCarriesTheState(t *testing.T) {
	duplicateAfterRestart := func(breaks breakage) bool {
		b := openBed(t, vfs.NewMem(vfs.MemOptions{}), log.Config{}, Options{breaks: breaks})
		b.append(t, batch(7, 1, 0, 2))
		b.append(t, batch(8, 1, 0, 2))
		b = b.reopen(t, Options{})
		offset, _ := b.Log().Snapshot()
		require.Equal(t, int64(4), offset)
		return b.append(t, batch(7, 1, 0, 2)).Duplicate
	}
	require.True(t, duplicateAfterRestart(breakage{}))
	require.False(t, duplicateAfterRestart(breakage{emptySnapshot: true}), "the rule is off and nothing noticed")
}

// Retention may delete batches that no snapshot covers yet. After a crash the state of
// their producers lacks them: that must not turn into a gap that no retry can close.
func TestRetentionBeyondTheSnapshot(t *testing.T) {
	for _, mode := range []log.FsyncMode{log.FsyncAlways, log.FsyncNever} {
		fs := vfs.NewMem(vfs.MemOptions{})
		b := openBed(t, fs, log.Config{Fsync: mode, SegmentBytes: 4 << 10, RetentionBytes: 4 << 10}, Options{})
		b.append(t, batch(7, 1, 0, 1))
		b.append(t, batch(9, 1, 0, 1))
		b = b.reopen(t, Options{})
		for seq := range uint32(5) {
			b.append(t, batch(7, 1, 1+seq, 1))
		}
		for seq := range uint32(200) {
			b.append(t, batch(8, 1, seq, 1))
		}
		b.store.Retain()
		journaled := make(completed, 1) // with it the new start is in the journal
		require.NoError(t, b.Log().PutValue(9, []byte("x"), journaled))
		require.NoError(t, <-journaled)
		require.Greater(t, b.Start(), int64(7))
		after := fs.Crash(1, rand.New(rand.NewPCG(1, 1)))
		again := openBed(t, after, log.Config{}, Options{})
		require.Equal(t, b.Start(), again.Start())
		require.True(t, again.append(t, batch(8, 1, 199, 1)).Duplicate)
		require.True(t, again.append(t, batch(7, 1, 0, 1)).Duplicate, "what the snapshot knows is known")
		require.Equal(t, int64(207), again.append(t, batch(7, 1, 6, 1)).BaseOffset)
		_, err := again.tryAppend(batch(7, 1, 8, 1))
		require.ErrorIs(t, err, txn.ErrSequenceGap, "from there on the rule is as ever")
		_, err = again.tryAppend(batch(8, 1, 202, 1))
		require.ErrorIs(t, err, txn.ErrSequenceGap)
		require.Equal(t, int64(208), again.append(t, batch(9, 1, 1, 1)).BaseOffset)
	}
}

type completed chan error

func (c completed) Complete(err error) { c <- err }

// Without a readable snapshot the whole partition is read, around what is damaged.
func TestReplayAroundDamage(t *testing.T) {
	fs := vfs.NewMem(vfs.MemOptions{})
	b := openBed(t, fs, log.Config{}, Options{})
	for seq := range uint32(3) {
		b.append(t, batch(7, 1, seq, 1))
		b.append(t, batch(8, 1, seq, 1))
	}
	size := int64(len(batch(7, 1, 0, 1)))
	b.Log().SetSnapshotter(func() (int64, []byte) { return b.Log().End(), []byte("no snapshot") })
	again := b.reopen(t, Options{})
	require.True(t, again.append(t, batch(7, 1, 0, 1)).Duplicate, "read from the start")
	again.Log().SetSnapshotter(func() (int64, []byte) { return b.Log().End(), []byte("no snapshot") })
	again.Close()
	require.NoError(t, again.store.Close())

	name := fmt.Sprintf("%s/partitions/%v/%020d.log", dataDir, partitionID, 0)
	require.NoError(t, fs.FlipBit(name, (4*size+100)*8)) // sequence 2 of producer 7
	again = openBed(t, fs, log.Config{}, Options{})
	require.Equal(t, int64(6), again.HighWatermark())
	require.True(t, again.append(t, batch(8, 1, 1, 1)).Duplicate)
	require.Equal(t, int64(6), again.append(t, batch(8, 1, 3, 1)).BaseOffset)
	require.True(t, again.append(t, batch(7, 1, 1, 1)).Duplicate)
	require.Equal(t, int64(7), again.append(t, batch(7, 1, 3, 1)).BaseOffset, "what was lost to damage is no gap")
}
