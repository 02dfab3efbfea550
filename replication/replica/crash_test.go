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
			result, waits, err := b.Append(batch(c.id, 1, seq, int(c.batchN)), l, i<<16|int(n))
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
