package partitions

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"math/big"
	"testing"

	"github.com/cespare/xxhash/v2"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func hashOf(t require.TestingT, n uint32) *Hash {
	h, err := NewHash(n)
	require.NoError(t, err)
	return h
}

func rangeOf(t require.TestingT, splits [][]byte) *Range {
	r, err := NewRange(splits)
	require.NoError(t, err)
	return r
}

func ringOf(t require.TestingT, n, virtualNodes uint32) *Ring {
	r, err := NewRing(n, virtualNodes)
	require.NoError(t, err)
	return r
}

func drawKey(t *rapid.T) []byte { return rapid.SliceOfN(rapid.Byte(), 0, 12).Draw(t, "key") }

// The functions below say the same as the package doc in the plainest way.

func plainHash(key []byte, n uint32) uint32 {
	product := new(big.Int).Mul(new(big.Int).SetUint64(xxhash.Sum64(key)), big.NewInt(int64(n)))
	return uint32(product.Rsh(product, 64).Uint64())
}

func plainRange(key []byte, splits [][]byte) (n uint32) {
	for _, s := range splits {
		if bytes.Compare(s, key) <= 0 {
			n++
		}
	}
	return n
}

func plainRing(h uint64, n, virtualNodes uint32) (owner uint32) {
	best := uint64(math.MaxUint64)
	found := false
	for p := range n {
		for i := range virtualNodes {
			name := binary.LittleEndian.AppendUint32(binary.LittleEndian.AppendUint32(nil, p), i)
			// The distance going up; it wraps round by itself.
			if d := xxhash.Sum64(name) - h; d < best || !found {
				best, owner, found = d, p, true
			}
		}
	}
	return owner
}

func TestHashIsAsDocumented(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		key, n := drawKey(t), rapid.Uint32Range(1, math.MaxUint32).Draw(t, "n")
		h := hashOf(t, n)
		require.Equal(t, plainHash(key, n), h.Partition(key))
		require.Less(t, h.Partition(key), n)
		require.Equal(t, n, h.Partitions())
	})
}

func TestHashSpreadsKeys(t *testing.T) {
	const n, keys = 64, 200_000
	h := hashOf(t, n)
	requireSpread(t, h, keys, 0.08)
}

func requireSpread(t require.TestingT, p Partitioner, keys int, tolerance float64) {
	counts := make([]int, p.Partitions())
	for i := range keys {
		counts[p.Partition(fmt.Appendf(nil, "user-%d", i))]++
	}
	fair := float64(keys) / float64(len(counts))
	for i, c := range counts {
		require.InDelta(t, fair, float64(c), tolerance*fair, "partition %d", i)
	}
}

func TestRangeIsAsDocumented(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		splits := drawSplits(t)
		r := rangeOf(t, splits)
		require.Equal(t, uint32(len(splits)+1), r.Partitions())
		key := drawKey(t)
		require.Equal(t, plainRange(key, splits), r.Partition(key))
	})
}

func drawSplits(t *rapid.T) [][]byte {
	set := map[string]bool{}
	for _, s := range rapid.SliceOfN(rapid.SliceOfN(rapid.Byte(), 1, 3), 0, 20).Draw(t, "splits") {
		set[string(s)] = true
	}
	splits := [][]byte{}
	for s := range set {
		splits = append(splits, []byte(s))
	}
	sortKeys(splits)
	return splits
}

// A split point is the first key of the partition to its right, its predecessor
// is the last of the one to its left.
func TestRangeBoundaries(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		splits := drawSplits(t)
		r := rangeOf(t, splits)
		require.Zero(t, r.Partition(nil))
		for i, s := range splits {
			require.Equal(t, uint32(i+1), r.Partition(s))
			if after := append(bytes.Clone(s), 0); i == len(splits)-1 || !bytes.Equal(after, splits[i+1]) {
				require.Equal(t, uint32(i+1), r.Partition(after), "the successor of a split point")
			}
			if before := predecessor(s); i == 0 || bytes.Compare(splits[i-1], before) <= 0 {
				require.Equal(t, uint32(i), r.Partition(before))
			}
		}
	})
}

// predecessor is the greatest key of bounded length below s.
func predecessor(s []byte) []byte {
	last := len(s) - 1
	if s[last] == 0 {
		return s[:last]
	}
	p := bytes.Clone(s)
	p[last]--
	return append(p, bytes.Repeat([]byte{0xff}, 8)...)
}

// Keys in order are in partitions in order.
func TestRangeKeepsOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := rangeOf(t, drawSplits(t))
		a, b := drawKey(t), drawKey(t)
		if bytes.Compare(a, b) > 0 {
			a, b = b, a
		}
		require.LessOrEqual(t, r.Partition(a), r.Partition(b))
	})
}

func TestRangeCopiesItsSplits(t *testing.T) {
	splits := [][]byte{[]byte("m")}
	r := rangeOf(t, splits)
	splits[0][0] = 'a'
	require.Zero(t, r.Partition([]byte("b")))
}

func TestRingIsAsDocumented(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n, v := rapid.Uint32Range(1, 12).Draw(t, "n"), rapid.Uint32Range(1, 40).Draw(t, "virtual nodes")
		r := ringOf(t, n, v)
		require.Equal(t, n, r.Partitions())
		key := drawKey(t)
		require.Equal(t, plainRing(xxhash.Sum64(key), n, v), r.Partition(key))

		// At, just before and just after a point, and at the seam of the ring.
		at := r.places[rapid.IntRange(0, len(r.places)-1).Draw(t, "point")]
		for _, h := range []uint64{at - 1, at, at + 1, 0, math.MaxUint64} {
			require.Equal(t, plainRing(h, n, v), r.owner(h))
		}
	})
}

func TestRingSpreadsKeys(t *testing.T) {
	requireSpread(t, ringOf(t, 16, 128), 200_000, 0.30)
	requireSpread(t, ringOf(t, 16, 4096), 200_000, 0.08)
}

// requireFewMoves adds a partition: a key may move only to the new one, and
// about 1/(n+1) of them do.
func requireFewMoves(t require.TestingT, before, after Partitioner, keys int) {
	n := before.Partitions()
	moved := 0
	for i := range keys {
		key := fmt.Appendf(nil, "user-%d", i)
		if from, to := before.Partition(key), after.Partition(key); from != to {
			require.Equal(t, n, to, "key %s moved from %d", key, from)
			moved++
		}
	}
	fair := float64(keys) / float64(n+1)
	require.InDelta(t, fair, float64(moved), 0.35*fair)
}

func TestAddingAPartitionToARingMovesFewKeys(t *testing.T) {
	for _, n := range []uint32{1, 2, 7, 16, 50} {
		requireFewMoves(t, ringOf(t, n, 128), ringOf(t, n+1, 128), 50_000)
	}
}

// The check above is worth something: the hash partitioner fails it.
func TestHashWouldFailTheMoveCheck(t *testing.T) {
	var failed failure
	requireFewMoves(&failed, hashOf(t, 7), hashOf(t, 8), 1_000)
	require.True(t, bool(failed))
}

type failure bool

func (f *failure) Errorf(string, ...any) { *f = true }
func (f *failure) FailNow()              { *f = true }

func TestBadInput(t *testing.T) {
	_, err := NewHash(0)
	require.ErrorContains(t, err, "at least one partition")
	_, err = NewRing(0, 128)
	require.ErrorContains(t, err, "at least one")
	_, err = NewRing(1, 0)
	require.ErrorContains(t, err, "at least one")
	_, err = NewRing(math.MaxUint32, math.MaxUint32)
	require.ErrorContains(t, err, "at most")
	_, err = NewRange([][]byte{{}})
	require.ErrorContains(t, err, "split point 1 is empty")
	_, err = NewRange([][]byte{[]byte("b"), []byte("a")})
	require.ErrorContains(t, err, `split point 2 ("a") is not above`)
	_, err = NewRange([][]byte{[]byte("b"), []byte("b")})
	require.Error(t, err)
}

func TestPartitionDoesNotAllocate(t *testing.T) {
	for name, p := range benched(t) {
		key := []byte("customer-4711")
		require.Zero(t, testing.AllocsPerRun(100, func() { p.Partition(key) }), name)
	}
}
