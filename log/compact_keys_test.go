package log

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestKeyMap(t *testing.T) {
	m := newKeyMap(1 << 20)
	require.LessOrEqual(t, len(m.slots)*keySlotBytes, 1<<20)
	want := map[string]int64{}
	for i := int64(0); ; i++ {
		key := fmt.Sprint(i * i % 30011)
		if !m.put([]byte(key), i) {
			break
		}
		want[key] = i
		if len(want) == m.limit || i == 100000 {
			break
		}
	}
	for key, offset := range want {
		got, ok := m.newest([]byte(key))
		require.True(t, ok)
		require.Equal(t, offset, got)
	}
	_, ok := m.newest([]byte("absent"))
	require.False(t, ok)
	m.clear()
	_, ok = m.newest([]byte("0"))
	require.False(t, ok)
}

func TestKeyMapIsBounded(t *testing.T) {
	m := newKeyMap(0)
	n := 0
	for m.put(fmt.Append(nil, n), int64(n)) {
		n++
	}
	require.Equal(t, m.limit, n)
	require.True(t, m.put([]byte("0"), 99), "a known key always fits")
	got, _ := m.newest([]byte("0"))
	require.EqualValues(t, 99, got)
	require.False(t, m.put([]byte("another"), 100))
}

func BenchmarkKeyMap(b *testing.B) {
	m := newKeyMap(16 << 20)
	keys := make([][]byte, 100000)
	for i := range keys {
		keys[i] = fmt.Appendf(nil, "user-%08d", i)
	}
	b.ReportAllocs()
	for i := range b.N {
		m.put(keys[i%len(keys)], int64(i))
	}
}
