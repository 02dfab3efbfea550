package partitions

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"slices"
	"testing"

	"github.com/cespare/xxhash/v2"
	"github.com/stretchr/testify/require"
)

var update = flag.Bool("update", false, "rewrite testdata/vectors.json")

const vectorsFile = "testdata/vectors.json"

func sortKeys(keys [][]byte) { slices.SortFunc(keys, bytes.Compare) }

// vectors is the file for the authors of other clients. Keys are in base64,
// as JSON cannot hold arbitrary bytes.
type vectors struct {
	Comment string         `json:"comment"`
	Splits  [][]byte       `json:"range_splits"`
	Keys    []vector       `json:"keys"`
	Points  []vectorPoint  `json:"ring_points"`
	Moves   []vectorGrowth `json:"ring_growth"`
}

type vector struct {
	Key    []byte `json:"key"`
	Hash64 string `json:"xxh64"` // hexadecimal
	Hash1  uint32 `json:"hash_1"`
	Hash3  uint32 `json:"hash_3"`
	Hash16 uint32 `json:"hash_16"`
	HashK  uint32 `json:"hash_10000"`
	Range  uint32 `json:"range"`
	Ring1  uint32 `json:"ring_1_128"`
	Ring3  uint32 `json:"ring_3_1"`
	Ring16 uint32 `json:"ring_16_128"`
	RingK  uint32 `json:"ring_10000_128"`
}

type vectorPoint struct {
	Partition uint32 `json:"partition"`
	Point     uint32 `json:"point"`
	Place     string `json:"place"` // hexadecimal
}

// vectorGrowth is the number of the keys k-0 to k-9999 in each partition.
type vectorGrowth struct {
	Partitions uint32 `json:"partitions"`
	Counts     []int  `json:"counts"`
}

func buildVectors(t *testing.T) vectors {
	v := vectors{
		Comment: "range uses range_splits; hash_N is hash with N partitions; ring_N_V is ring with N partitions and V virtual nodes",
		Splits:  [][]byte{{0x00}, []byte("b"), []byte("ba"), []byte("user-5"), {0xc3, 0xa9}, {0xff, 0xff}},
	}
	keys := [][]byte{{}, {0}, {0, 0}, []byte("a"), []byte("b"), []byte("b\x00"), []byte("ba"), []byte("bb"), []byte("user-4"),
		[]byte("user-5"), []byte("é"), {0xff}, {0xff, 0xff}, {0xff, 0xff, 0xff}, bytes.Repeat([]byte("0123456789"), 10)}
	for i := range 40 {
		keys = append(keys, fmt.Appendf(nil, "customer-%d", i*7919))
	}
	hash := func(n uint32) Partitioner { return hashOf(t, n) }
	ring := func(n, virtualNodes uint32) Partitioner { return ringOf(t, n, virtualNodes) }
	all := []Partitioner{hash(1), hash(3), hash(16), hash(10_000), rangeOf(t, v.Splits), ring(1, 128), ring(3, 1), ring(16, 128), ring(10_000, 128)}
	for _, key := range keys {
		row := vector{Key: key, Hash64: fmt.Sprintf("%016x", xxhash.Sum64(key))}
		for i, at := range []*uint32{&row.Hash1, &row.Hash3, &row.Hash16, &row.HashK, &row.Range, &row.Ring1, &row.Ring3, &row.Ring16, &row.RingK} {
			*at = all[i].Partition(key)
		}
		v.Keys = append(v.Keys, row)
	}
	for _, p := range []vectorPoint{{Partition: 0, Point: 0}, {Partition: 0, Point: 1}, {Partition: 1, Point: 0}, {Partition: 9_999, Point: 127}} {
		name := []byte{byte(p.Partition), byte(p.Partition >> 8), 0, 0, byte(p.Point), byte(p.Point >> 8), 0, 0}
		p.Place = fmt.Sprintf("%016x", xxhash.Sum64(name))
		v.Points = append(v.Points, p)
	}
	for _, n := range []uint32{4, 5} {
		g, grown := vectorGrowth{Partitions: n, Counts: make([]int, n)}, ring(n, 128)
		for i := range 10_000 {
			g.Counts[grown.Partition(fmt.Appendf(nil, "k-%d", i))]++
		}
		v.Moves = append(v.Moves, g)
	}
	return v
}

// Every client must agree with this file; a change of it breaks the order of
// keys in existing topics.
func TestVectors(t *testing.T) {
	out, err := json.MarshalIndent(buildVectors(t), "", " ")
	require.NoError(t, err)
	out = append(out, '\n')
	if *update {
		require.NoError(t, os.WriteFile(vectorsFile, out, 0o644))
	}
	golden, err := os.ReadFile(vectorsFile)
	require.NoError(t, err)
	require.Equal(t, string(golden), string(out))
}
