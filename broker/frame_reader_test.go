package broker

import (
	"bytes"
	"io"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/sequitur-mq/sequitur/wire"
)

// chopped reads in pieces of given sizes.
type chopped struct {
	data  []byte
	sizes []int
}

func (c *chopped) Read(p []byte) (int, error) {
	if len(c.data) == 0 {
		return 0, io.EOF
	}
	n := min(len(p), len(c.data))
	if len(c.sizes) > 0 {
		n, c.sizes = min(n, c.sizes[0]), c.sizes[1:]
	}
	copy(p, c.data[:n])
	c.data = c.data[n:]
	return n, nil
}

// However a stream of frames is chopped, the same frames come out of it, read or
// discarded.
func TestFrameReader(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var stream []byte
		var bodies [][]byte
		for i := range rapid.IntRange(1, 6).Draw(t, "frames") {
			size := rapid.OneOf(rapid.IntRange(0, 100), rapid.IntRange(readAhead-50, 3*readAhead)).Draw(t, "size")
			body := bytes.Repeat([]byte{byte(i + 1)}, size)
			stream = wire.AppendFrameHeader(stream, wire.FrameHeader{Length: uint32(12 + size), Kind: wire.KindProduce, Version: 1, Correlation: uint32(i)})
			stream = append(stream, body...)
			bodies = append(bodies, body)
		}
		cut := rapid.IntRange(0, len(stream)).Draw(t, "cut")
		sizes := rapid.SliceOfN(rapid.OneOf(rapid.IntRange(1, 40), rapid.IntRange(1, 2*readAhead)), 0, 50).Draw(t, "reads")
		in := frameReader{src: &chopped{data: stream[:cut], sizes: sizes}}
		for i, body := range bodies {
			h, err := in.header(wire.FrameLimits{})
			if cut < wire.FrameHeaderSize {
				require.Equal(t, cut == 0, err == io.EOF, "%v", err)
				return
			}
			require.NoError(t, err)
			cut -= wire.FrameHeaderSize
			require.EqualValues(t, i, h.Correlation)
			n := h.BodyLength()
			require.Equal(t, len(body), n)
			if rapid.Bool().Draw(t, "discard") {
				err = in.discard(n)
			} else {
				dst := make([]byte, n+rapid.IntRange(0, 2*frameSlack).Draw(t, "slack"))
				if err = in.body(dst, n, func() {}); err == nil {
					require.Equal(t, body, dst[:n])
				}
			}
			if cut < n {
				require.ErrorIs(t, err, io.ErrUnexpectedEOF)
				return
			}
			require.NoError(t, err)
			cut -= n
		}
	})
}

func TestFrameReaderPeek(t *testing.T) {
	in := frameReader{src: &chopped{data: []byte{1, 2, 3}, sizes: []int{1, 1, 1}}}
	for want := range byte(3) {
		got, err := in.peek()
		require.NoError(t, err)
		require.Equal(t, want+1, got)
		require.NoError(t, in.discard(1))
	}
	_, err := in.peek()
	require.ErrorIs(t, err, io.ErrUnexpectedEOF)
}
