package wire

import (
	"bytes"
	"io"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func TestFrameHeaderBytes(t *testing.T) {
	h := FrameHeader{Length: 0x01020304, Kind: KindFetch, Version: 2, Flags: FlagResponse, Correlation: 0x0a0b0c0d, MetadataLength: 0x00a0b0c0}
	encoded := AppendFrameHeader(nil, h)
	require.Equal(t, []byte{4, 3, 2, 1, 4, 2, 1, 0, 0xd, 0xc, 0xb, 0xa, 0xc0, 0xb0, 0xa0, 0}, encoded)

	read, err := ReadFrameHeader(bytes.NewReader(encoded), make([]byte, FrameHeaderSize), FrameLimits{MaxFrameBytes: 1 << 31})
	require.NoError(t, err)
	require.Equal(t, h, read)
	require.True(t, read.Response())
	require.Equal(t, 0x01020304-12, read.BodyLength())
	require.Equal(t, 0x01020304-12-0x00a0b0c0, read.BatchesLength())
}

func TestFrameHeaderLimits(t *testing.T) {
	lim := FrameLimits{MaxFrameBytes: 1000, MaxMetadataBytes: 100}
	for name, c := range map[string]struct {
		length, metadata uint32
		want             Code
	}{
		"smallest":             {12, 0, CodeNone},
		"metadata only":        {112, 100, CodeNone},
		"largest":              {1000, 100, CodeNone},
		"too short":            {11, 0, CodeInvalidRequest},
		"zero":                 {0, 0, CodeInvalidRequest},
		"metadata over frame":  {20, 9, CodeInvalidRequest},
		"metadata wraps":       {20, 1<<32 - 4, CodeInvalidRequest},
		"too large":            {1001, 0, CodeFrameTooLarge},
		"metadata over limit":  {500, 101, CodeFrameTooLarge},
		"another protocol":     {0x20544547, 0, CodeFrameTooLarge}, // "GET "
		"everything is maxima": {1<<32 - 1, 1<<32 - 1, CodeInvalidRequest},
	} {
		t.Run(name, func(t *testing.T) {
			b := AppendFrameHeader(nil, FrameHeader{Length: c.length, Kind: KindProduce, Correlation: 42, MetadataLength: c.metadata})
			h, err := ParseFrameHeader(b, lim)
			require.Equal(t, c.want, CodeOf(err), "%v", err)
			require.Equal(t, uint32(42), h.Correlation, "a refusal can be addressed")
		})
	}
	_, err := ParseFrameHeader(make([]byte, 15), lim)
	require.ErrorIs(t, err, ErrInvalidRequest)
}

func TestReadFrameHeaderReportsTheEnd(t *testing.T) {
	scratch := make([]byte, FrameHeaderSize)
	_, err := ReadFrameHeader(bytes.NewReader(nil), scratch, FrameLimits{})
	require.Equal(t, io.EOF, err)
	_, err = ReadFrameHeader(bytes.NewReader(make([]byte, 5)), scratch, FrameLimits{})
	require.Equal(t, io.ErrUnexpectedEOF, err)
}

func TestAppendFrame(t *testing.T) {
	m := &InitProducerRequest{Name: "orders"}
	frame := AppendFrame([]byte("xx"), FrameHeader{Kind: KindInitProducer, Version: 1, Correlation: 9}, m, 100)[2:]
	h, err := ParseFrameHeader(frame, FrameLimits{})
	require.NoError(t, err)
	require.Equal(t, FrameHeader{Length: 12 + 19 + 100, Kind: KindInitProducer, Version: 1, Correlation: 9, MetadataLength: 19}, h)
	require.Equal(t, 100, h.BatchesLength())
	require.Equal(t, m.AppendTo(nil), frame[FrameHeaderSize:])
}

// A stream of frames is cut back into the same frames.
func TestFramesInAStream(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		cases := messageCases()
		var stream []byte
		var want [][]byte
		for i := range rapid.IntRange(1, 5).Draw(t, "frames") {
			c := cases[rapid.IntRange(0, len(cases)-1).Draw(t, "kind")]
			batches := rapid.SliceOfN(rapid.Byte(), 0, 50).Draw(t, "batches")
			frame := AppendFrame(nil, FrameHeader{Kind: c.kind, Version: 1, Correlation: uint32(i)}, drawMessage(t, c), len(batches))
			want = append(want, append(frame, batches...))
			stream = append(append(stream, frame...), batches...)
		}
		r := bytes.NewReader(stream)
		for i, frame := range want {
			h, err := ReadFrameHeader(r, make([]byte, 16), FrameLimits{})
			require.NoError(t, err)
			require.Equal(t, uint32(i), h.Correlation)
			body := make([]byte, h.BodyLength())
			_, err = io.ReadFull(r, body)
			require.NoError(t, err)
			require.Equal(t, frame[FrameHeaderSize:], body)
		}
		require.Zero(t, r.Len())
	})
}
