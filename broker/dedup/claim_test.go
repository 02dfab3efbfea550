package dedup

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sequitur-mq/sequitur/internal/vfs"
	"github.com/sequitur-mq/sequitur/log"
	"github.com/sequitur-mq/sequitur/record"
	"github.com/sequitur-mq/sequitur/replication/replica"
	"github.com/sequitur-mq/sequitur/wire"
)

func TestDuplicates(t *testing.T) {
	b := newBed(t, log.Config{}, Options{})
	first := b.mustSend(t, "a", "", "b")
	require.Zero(t, first.BaseOffset)
	require.Empty(t, first.duplicates)

	again := b.mustSend(t, "x", "b", "a", "x")
	require.Equal(t, int64(3), again.BaseOffset)
	require.Equal(t, []wire.DuplicateRecord{{Index: 1, Offset: 2}, {Index: 2, Offset: 0}, {Index: 3, Offset: 3}}, again.duplicates)

	all := b.mustSend(t, "a", "b")
	require.Equal(t, int64(7), all.BaseOffset, "a batch without records left takes its offsets")
	require.Equal(t, int64(9), b.replica.Log().End())
	ids, _, err := b.stored()
	require.NoError(t, err)
	require.Equal(t, map[int64]string{0: "a", 1: "", 2: "b", 3: "x"}, ids)
	s := b.index.Stats()
	require.Equal(t, uint64(8), s.Lookups)
	require.Equal(t, uint64(5), s.Duplicates)
	require.True(t, s.Open)
}

func TestNothingIsOpenedBeforeTheFirstID(t *testing.T) {
	b := newBed(t, log.Config{}, Options{})
	b.mustSend(t, "", "")
	claim, found, err := b.view.Claim(b.batch(record.CodecNone, 0, 0, ""), nil)
	require.NoError(t, err)
	require.Nil(t, claim)
	require.Empty(t, found)
	claim.Finish(replica.Result{}, nil)
	_, err = os.Stat(b.viewDir())
	require.ErrorIs(t, err, os.ErrNotExist)
	require.Equal(t, Stats{}, b.index.Stats())
}

func TestIDsExpire(t *testing.T) {
	b := newBed(t, log.Config{}, Options{})
	b.mustSend(t, "a")
	b.clock.advance(b.window)
	require.Len(t, b.mustSend(t, "a").duplicates, 1)
	b.clock.advance(1)
	require.Empty(t, b.mustSend(t, "a").duplicates)
	b.drain()
	require.Len(t, b.mustSend(t, "a").duplicates, 1)
}

// Of many concurrent sends of one id one is stored, and every other one is answered
// with its address, not before it is durable.
func TestConcurrentSendsOfOneID(t *testing.T) {
	b := newBed(t, log.Config{}, Options{})
	const senders, rounds = 8, 40
	batches := make([][]byte, rounds)
	for i := range batches {
		batches[i] = b.batch(record.CodecNone, 0, 0, fmt.Sprint("id-", i), fmt.Sprint("other-", i))
	}
	var wait sync.WaitGroup
	answers := make([][senders]outcome, rounds)
	for s := range senders {
		wait.Go(func() {
			for i := range rounds {
				o, err := b.send(append([]byte(nil), batches[i]...))
				if err != nil {
					t.Error(err)
					return
				}
				for _, d := range o.duplicates {
					if d.Offset >= b.replica.HighWatermark() {
						t.Errorf("answered with offset %d, which is not durable", d.Offset)
					}
				}
				answers[i][s] = o
			}
		})
	}
	wait.Wait()
	ids, _, err := b.stored()
	require.NoError(t, err)
	require.Len(t, ids, 2*rounds)
	for i := range rounds {
		stored := 0
		for _, o := range answers[i] {
			if len(o.duplicates) == 0 {
				stored++
				require.Equal(t, fmt.Sprint("id-", i), ids[o.BaseOffset])
				continue
			}
			require.Len(t, o.duplicates, 2)
			require.Equal(t, fmt.Sprint("id-", i), ids[o.duplicates[0].Offset])
		}
		require.Equal(t, 1, stored)
	}
}

// With the journal standing still the high watermark does too: ids stay pending, their
// repeats are found and not answered, and above the bound sends are refused.
func TestPendingIDs(t *testing.T) {
	b := newBed(t, log.Config{}, Options{MaxPending: 3})
	b.mustSend(t, "zero")
	b.drain()
	gates := make(chan struct{})
	b.mem.SetFault(func(op vfs.Op, name string) error {
		if op == vfs.OpWrite && strings.HasSuffix(name, ".jnl") {
			<-gates
		}
		return nil
	})

	answers := make(waiter, 10)
	send := func(ids ...string) ([]Duplicate, error) {
		claim, found, err := b.view.Claim(b.batch(record.CodecNone, 0, 0, ids...), nil)
		if err != nil {
			return nil, err
		}
		result, pending, err := b.replica.Append(claim.Batches, replica.AcksQuorum, answers, 0)
		claim.Finish(result, err)
		require.NoError(t, err)
		require.True(t, pending)
		return found, nil
	}
	found, err := send("a", "b")
	require.NoError(t, err)
	require.Empty(t, found)
	found, err = send("b", "c")
	require.NoError(t, err)
	require.Equal(t, []Duplicate{{Delta: 0, Offset: 2}}, found)
	require.Equal(t, uint64(3), b.index.Stats().Pending)

	_, err = send("d")
	require.ErrorIs(t, err, wire.ErrOverloaded)
	require.Positive(t, err.(*wire.Error).RetryAfter)
	require.Empty(t, answers, "neither the first nor its repeat is answered before it is durable")

	close(gates)
	for range 2 {
		require.NoError(t, (<-answers).err)
	}
	b.view.Committed()
	b.drain()
	require.Zero(t, b.index.Stats().Pending)
	found, err = send("a", "b", "c")
	require.NoError(t, err)
	require.Len(t, found, 3)
	<-answers
}

// Ids are found at every moment of their way into the store.
func requireFoundWhileApplied(t require.TestingT, dir string, breaks breakage) {
	var b *bed
	missing := make(chan error, 1)
	b, err := openBed(dir, log.Config{}, Options{breaks: breaks, beforeWrite: func() {
		_, ok, err := b.known("a")
		if err == nil && !ok {
			err = errors.New("the id was not found")
		}
		missing <- err
	}})
	require.NoError(t, err)
	_, err = b.send(b.batch(record.CodecNone, 0, 0, "a"))
	require.NoError(t, err)
	err = <-missing
	require.NoError(t, errors.Join(err, b.close()))
}

func TestIDsAreFoundWhileApplied(t *testing.T) {
	requireFoundWhileApplied(t, t.TempDir(), breakage{})
	var f failure
	requireFoundWhileApplied(&f, t.TempDir(), breakage{forgetEarly: true})
	require.True(t, bool(f), "the check is worth nothing")
}

type failure bool

func (f *failure) Errorf(string, ...any) { *f = true }
func (f *failure) FailNow()              { *f = true }

// A failed append leaves nothing behind.
func TestFailedAppends(t *testing.T) {
	b := newBed(t, log.Config{}, Options{})
	claim, _, err := b.view.Claim(b.batch(record.CodecNone, 0, 0, "a"), nil)
	require.NoError(t, err)
	claim.Finish(replica.Result{}, errors.New("refused"))
	_, ok, err := b.known("a")
	require.NoError(t, err)
	require.False(t, ok)

	// Checksums say nothing about what a client's records look like inside.
	bad := b.batch(record.CodecNone, 0, 0, "a")
	bad[record.HeaderSize] ^= 0x7f
	_, _, err = b.view.Claim(bad, nil)
	require.ErrorIs(t, err, record.ErrCorrupt)
	require.Empty(t, b.mustSend(t, "a").duplicates, "the partition is not left locked")
}

func TestCloseRefusesClaims(t *testing.T) {
	b := newBed(t, log.Config{}, Options{})
	b.mustSend(t, "a")
	require.NoError(t, b.index.Close())
	require.NoError(t, b.index.Close())
	_, err := b.trySend(b.batch(record.CodecNone, 0, 0, "a"))
	require.ErrorIs(t, err, wire.ErrShuttingDown)
}

func TestDrop(t *testing.T) {
	b := newBed(t, log.Config{}, Options{})
	b.mustSend(t, "a")
	b.index.Drop(partitionID)
	b.index.Drop(partitionID)
	b.drain()
	b.mustSend(t, "b") // had found the partition before
	require.Zero(t, b.index.Stats().Pending)
	old := b.view
	b.view = b.index.Partition(b.replica, b.window)
	require.NotSame(t, old, b.view)
	require.Same(t, b.view, b.index.Partition(b.replica, b.window))
	b.drain()
}

// While the disk is nearly full nothing is written, and it goes on by itself.
func TestNearlyFullDisk(t *testing.T) {
	var mu sync.Mutex
	free := uint64(0)
	asked := make(chan struct{}, 100)
	b := newBed(t, log.Config{}, Options{Free: func() (uint64, uint64, error) {
		mu.Lock()
		defer mu.Unlock()
		select {
		case asked <- struct{}{}:
		default:
		}
		return free, 1 << 30, nil
	}})
	b.mustSend(t, "a")
	<-asked
	require.Equal(t, uint64(1), b.index.Stats().Pending)
	require.Len(t, b.mustSend(t, "a").duplicates, 1)
	mu.Lock()
	free = 1 << 30
	mu.Unlock()
	b.drain()
	require.Zero(t, b.index.Stats().Pending)
}

func TestAppendDuplicates(t *testing.T) {
	found := []Duplicate{{Delta: 1, Offset: 5}, {Delta: 2, Offset: 0, inside: true}, {Delta: 3, Offset: 103}}
	require.Equal(t, []wire.DuplicateRecord{{Index: 1, Offset: 5}, {Index: 2, Offset: 100}},
		AppendDuplicates(nil, found, replica.Result{BaseOffset: 100}), "the record itself is no duplicate of itself")
}
