package bench

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/klauspost/compress/s2"
	"github.com/stretchr/testify/require"
)

func TestRandomPayloads(t *testing.T) {
	p, err := LoadPayloads(PayloadSpec{Size: 128})
	require.NoError(t, err)
	require.Equal(t, 128.0, p.MeanBytes())
	seen := make(map[string]bool)
	var all []byte
	for i := range uint64(10_000) {
		value := p.At(i)
		require.Len(t, value, 128)
		seen[string(value)] = true
		all = append(all, value...)
	}
	require.Len(t, seen, 10_000, "all different")
	require.Greater(t, len(s2.Encode(nil, all[:1<<17])), 1<<17*99/100, "not compressible")
	again, err := LoadPayloads(PayloadSpec{Size: 128})
	require.NoError(t, err)
	require.Equal(t, p.At(7), again.At(7), "runs are alike")
}

func TestEmptyPayloads(t *testing.T) {
	p, err := LoadPayloads(PayloadSpec{})
	require.NoError(t, err)
	require.Empty(t, p.At(3))
}

func TestPayloadSizeIsBounded(t *testing.T) {
	for _, size := range []int{-1, maxPayloadBytes + 1} {
		_, err := LoadPayloads(PayloadSpec{Size: size})
		require.ErrorContains(t, err, "choose 0 to")
	}
}

func TestPayloadLinesKeepEveryByteButLF(t *testing.T) {
	name := filepath.Join(t.TempDir(), "lines.log")
	require.NoError(t, os.WriteFile(name, []byte("one\r\n\ntwo \xff\n"), 0o600))
	p, err := LoadPayloads(PayloadSpec{File: name})
	require.NoError(t, err)
	require.Equal(t, "one\r", string(p.At(0)))
	require.Empty(t, p.At(1))
	require.Equal(t, "two \xff", string(p.At(2)))
	require.Equal(t, "one\r", string(p.At(3)), "in turn")
	require.Equal(t, "3 lines of lines.log, 3 bytes on average", p.String())
}

func TestPayloadFileWithoutLines(t *testing.T) {
	name := filepath.Join(t.TempDir(), "empty")
	require.NoError(t, os.WriteFile(name, nil, 0o600))
	_, err := LoadPayloads(PayloadSpec{File: name})
	require.ErrorContains(t, err, "has no line")
	_, err = LoadPayloads(PayloadSpec{File: name + "-not-there"})
	require.ErrorIs(t, err, os.ErrNotExist)
}

func TestStamp(t *testing.T) {
	random, err := LoadPayloads(PayloadSpec{Size: 32})
	require.NoError(t, err)
	value := random.stamped(nil, 5, 42*time.Microsecond)
	require.Len(t, value, 32, "in place of the first bytes")
	require.True(t, bytes.HasSuffix(value, random.At(5)[stampBytes:]))
	at, ok := stampOf(value)
	require.True(t, ok)
	require.Equal(t, 42*time.Microsecond, at)

	lines := &Payloads{lines: [][]byte{[]byte("abc")}}
	value = lines.stamped(value, 0, time.Second)
	require.Equal(t, "abc", string(value[stampBytes:]), "before a line")
	_, ok = stampOf([]byte("short"))
	require.False(t, ok)
}

func TestSpread(t *testing.T) {
	require.Zero(t, spread(nil, 7))
	require.Zero(t, spread([]byte("key"), 1))
	counts := make([]int, 8)
	for i := range 80_000 {
		counts[spread([]byte{byte(i), byte(i >> 8), byte(i >> 16)}, len(counts))]++
	}
	for _, n := range counts {
		require.InDelta(t, 10_000, n, 1_000)
	}
}
