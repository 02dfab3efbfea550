package record

import (
	"encoding/binary"
	"math"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// plain wraps a records section into a batch of the given count.
func plain(section []byte, count, lastDelta uint32) Batch {
	b := withSection(make([]byte, HeaderSize), section, len(section))
	b[atFormat] = Format
	binary.LittleEndian.PutUint32(b[atCount:], count)
	binary.LittleEndian.PutUint32(b[atLastDelta:], lastDelta)
	return b
}

func TestReaderRefuses(t *testing.T) {
	// length 6: attributes, time, offset, key null, value null, no headers
	good := []byte{12, 0, 0, 0, 1, 1, 0}
	for name, c := range map[string]struct {
		section   []byte
		count     uint32
		lastDelta uint32
	}{
		"nothing there":           {nil, 1, 0},
		"one record of two":       {good, 2, 1},
		"bytes left":              {append(append([]byte{}, good...), 0), 1, 0},
		"length negative":         {[]byte{11, 0, 0, 0, 1, 1, 0}, 1, 0},
		"length beyond end":       {[]byte{14, 0, 0, 0, 1, 1, 0}, 1, 0},
		"length short":            {[]byte{10, 0, 0, 0, 1, 1, 0}, 1, 0},
		"length huge":             {[]byte{0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1}, 1, 0},
		"length endless":          {[]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, 1, 0},
		"attributes":              {[]byte{12, 1, 0, 0, 1, 1, 0}, 1, 0},
		"offset negative":         {[]byte{12, 0, 0, 1, 1, 1, 0}, 1, 0},
		"offset over last":        {[]byte{12, 0, 0, 2, 1, 1, 0}, 1, 0},
		"offset not ascending":    {append(append([]byte{}, good...), good...), 2, 1},
		"key beyond end":          {[]byte{12, 0, 0, 0, 6, 1, 0}, 1, 0},
		"key length -2":           {[]byte{12, 0, 0, 0, 3, 1, 0}, 1, 0},
		"value beyond end":        {[]byte{12, 0, 0, 0, 1, 4, 0}, 1, 0},
		"value length -2":         {[]byte{12, 0, 0, 0, 1, 3, 0}, 1, 0},
		"header count negative":   {[]byte{12, 0, 0, 0, 1, 1, 1}, 1, 0},
		"header count over bytes": {[]byte{16, 0, 0, 0, 1, 1, 4, 0, 0}, 1, 0},
		"header key null":         {[]byte{16, 0, 0, 0, 1, 1, 2, 1, 0}, 1, 0},
		"header key beyond end":   {[]byte{16, 0, 0, 0, 1, 1, 2, 4, 0}, 1, 0},
		"header value beyond end": {[]byte{16, 0, 0, 0, 1, 1, 2, 0, 2}, 1, 0},
		"bytes after headers":     {[]byte{18, 0, 0, 0, 1, 1, 2, 0, 0, 0}, 1, 0},
	} {
		t.Run(name, func(t *testing.T) {
			var reader Reader
			var rec Record
			require.NoError(t, reader.Reset(plain(c.section, c.count, c.lastDelta), nil, DefaultLimits()))
			var err error
			for range c.count + 1 {
				if _, err = reader.Next(&rec); err != nil {
					break
				}
			}
			require.ErrorIs(t, err, ErrCorrupt)
			ok, err := reader.Next(&rec)
			require.False(t, ok, "after an error there is nothing more")
			require.NoError(t, err)
		})
	}
	var reader Reader
	var rec Record
	require.NoError(t, reader.Reset(plain(good, 1, 0), nil, DefaultLimits()))
	ok, err := reader.Next(&rec)
	require.NoError(t, err)
	require.True(t, ok)
}

func TestVarints(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		v := rapid.Int64().Draw(t, "v")
		require.Equal(t, v, unzigzag(zigzag(v)))
		u := zigzag(v)
		var p [12]byte
		end := putUvarint(p[:], 1, u)
		require.Equal(t, binary.AppendVarint(nil, v), p[1:end])
		require.Equal(t, end-1, uvarintSize(u))
		got, next := shortUvarint(p[:end], 1)
		if got&notShort != 0 {
			got, next = longUvarint(p[:end], 1)
		}
		require.Equal(t, u, got)
		require.Equal(t, end, next)
		_, next = longUvarint(p[:end-1], 1)
		require.Equal(t, -1, next)
	})
	for _, u := range []uint64{0, 127, 128, 1<<14 - 1, 1 << 14, math.MaxUint64} {
		require.Equal(t, len(binary.AppendUvarint(nil, u)), uvarintSize(u))
	}
	_, next := longUvarint([]byte{0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 2}, 0)
	require.Equal(t, -1, next, "65 bits")
}
