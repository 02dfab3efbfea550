package wire

import (
	"encoding/json"
	"math"
	"reflect"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func sameType(a, b Message) bool { return reflect.TypeOf(a) == reflect.TypeOf(b) }

func newLike(m Message) Message { return reflect.New(reflect.TypeOf(m).Elem()).Interface().(Message) }

// FuzzMessages decodes arbitrary bytes as every message. Whatever decodes must
// be bounded in memory and survive another round.
func FuzzMessages(f *testing.F) {
	cases := messageCases()
	for i, c := range cases {
		for _, s := range samples() {
			if sameType(c.new(), s.message) {
				f.Add(uint8(i), s.message.AppendTo(nil))
			}
		}
	}
	f.Fuzz(func(t *testing.T, which uint8, data []byte) {
		c := cases[int(which)%len(cases)]
		m := c.new()
		err := m.Decode(data)
		requireBounded(t, m, len(data))
		if err != nil {
			require.Equal(t, CodeInvalidRequest, CodeOf(err))
			return
		}
		encoded := m.AppendTo(nil)
		again := c.new()
		require.NoError(t, again.Decode(encoded))
		require.Equal(t, encoded, again.AppendTo(nil))
		require.NoError(t, m.Decode(encoded), "into a used receiver")
		require.Equal(t, encoded, m.AppendTo(nil))
	})
}

func FuzzFrameHeader(f *testing.F) {
	f.Add([]byte("GET / HTTP/1.1\r\n"), uint32(0), uint32(0))
	f.Add(AppendFrameHeader(nil, FrameHeader{Length: 20, Kind: KindFetch, Version: 1, MetadataLength: 8}), uint32(100), uint32(10))
	f.Fuzz(func(t *testing.T, data []byte, maxFrame, maxMetadata uint32) {
		h, err := ParseFrameHeader(data, FrameLimits{MaxFrameBytes: maxFrame, MaxMetadataBytes: maxMetadata})
		if err != nil {
			code := CodeOf(err)
			require.True(t, code == CodeInvalidRequest || code == CodeFrameTooLarge)
			return
		}
		limit := maxFrame
		if limit == 0 {
			limit = DefaultMaxFrameBytes
		}
		require.LessOrEqual(t, uint64(h.Length), uint64(limit))
		if maxMetadata > 0 {
			require.LessOrEqual(t, h.MetadataLength, maxMetadata)
		}
		require.GreaterOrEqual(t, h.BodyLength(), 0)
		require.GreaterOrEqual(t, h.BatchesLength(), 0)
		require.Equal(t, data[:FrameHeaderSize], AppendFrameHeader(nil, h))
	})
}

// FuzzTopicFields feeds text to every field of the table, as flags do.
func FuzzTopicFields(f *testing.F) {
	fields := TopicFields()
	for i, field := range fields {
		c := DefaultTopicConfig()
		f.Add(uint8(i), field.Get(&c))
	}
	f.Add(uint8(7), "1w2d3h")
	f.Add(uint8(2), "a,base64:/w==")
	f.Fuzz(func(t *testing.T, which uint8, text string) {
		field := fields[int(which)%len(fields)]
		var c TopicConfig
		if err := field.Set(&c, text); err != nil {
			require.Equal(t, CodeInvalidConfig, CodeOf(err))
			return
		}
		var again TopicConfig
		require.NoError(t, field.Set(&again, field.Get(&c)))
		require.Equal(t, field.Get(&c), field.Get(&again))
		require.GreaterOrEqual(t, c.RetentionTime, time.Duration(0))
		require.LessOrEqual(t, c.RetentionTime, time.Duration(math.MaxInt64))
	})
}

func FuzzTopicConfigJSON(f *testing.F) {
	b, err := json.Marshal(DefaultTopicConfig())
	require.NoError(f, err)
	f.Add(b)
	f.Add([]byte(`{"splits":["a","base64:/w=="],"segment_bytes":"1GiB"}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		var c, again TopicConfig
		if json.Unmarshal(data, &c) != nil {
			return
		}
		out, err := json.Marshal(c)
		require.NoError(t, err)
		require.NoError(t, json.Unmarshal(out, &again))
		require.Equal(t, c.appendTo(nil), again.appendTo(nil))
	})
}
