package wire

import (
	"math"
	"reflect"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// messageCase is one message type of the protocol.
type messageCase struct {
	name     string
	kind     Kind
	response bool
	new      func() Message
}

// messageCases lists requests and responses of every kind.
func messageCases() []messageCase {
	var cases []messageCase
	for _, k := range Kinds() {
		cases = append(cases,
			messageCase{k.Name + "Request", k.Kind, false, k.NewRequest},
			messageCase{k.Name + "Response", k.Kind, true, k.NewResponse})
	}
	return cases
}

// fill draws a value for everything reachable from v which the wire can carry.
func fill(t *rapid.T, v reflect.Value, label string) {
	switch v.Interface().(type) {
	case TopicConfig:
		v.Set(reflect.ValueOf(drawConfig(t)))
		return
	case NewTopic: // names of topics are never empty
		v.Set(reflect.ValueOf(NewTopic{Name: rapid.StringN(1, 20, 100).Draw(t, label), Config: drawConfig(t)}))
		return
	case UUID:
		for i := range 16 {
			v.Index(i).SetUint(uint64(rapid.Byte().Draw(t, label)))
		}
		return
	case []byte:
		v.SetBytes(rapid.SliceOfN(rapid.Byte(), 0, 20).Draw(t, label))
		return
	case []string: // names of topics are never empty
		v.Set(reflect.ValueOf(rapid.SliceOfN(rapid.StringN(1, 20, 100), 0, 5).Draw(t, label)))
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			fill(t, v.Field(i), label+"."+v.Type().Field(i).Name)
		}
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), rapid.IntRange(0, 4).Draw(t, label), 8))
		for i := range v.Len() {
			fill(t, v.Index(i), label)
		}
	case reflect.String:
		v.SetString(rapid.StringN(0, 20, 100).Draw(t, label))
	case reflect.Bool:
		v.SetBool(rapid.Bool().Draw(t, label))
	case reflect.Int64:
		v.SetInt(rapid.Int64().Draw(t, label))
	case reflect.Float64:
		v.SetFloat(rapid.Float64().Draw(t, label))
	case reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		v.SetUint(rapid.Uint64().Draw(t, label) & (math.MaxUint64 >> (64 - v.Type().Bits())))
	default:
		t.Fatalf("%s has a type %s which the test cannot fill", label, v.Type())
	}
}

func drawConfig(t *rapid.T) TopicConfig {
	ms := func(label string, most uint64) time.Duration {
		return time.Duration(rapid.Uint64Range(0, most).Draw(t, label)) * time.Millisecond
	}
	const most = uint64(math.MaxInt64 / time.Millisecond)
	c := TopicConfig{
		Partitions:         rapid.Uint32().Draw(t, "partitions"),
		Partitioner:        Partitioner(rapid.Byte().Draw(t, "partitioner")),
		Splits:             rapid.SliceOfN(rapid.SliceOfN(rapid.Byte(), 1, 9), 0, 5).Draw(t, "splits"),
		VirtualNodes:       rapid.Uint32().Draw(t, "virtual nodes"),
		ReplicationFactor:  rapid.Uint16().Draw(t, "replicas"),
		Fsync:              Fsync(rapid.Byte().Draw(t, "fsync")),
		FsyncInterval:      ms("fsync interval", math.MaxUint32),
		RetentionTime:      ms("retention", most),
		RetentionBytes:     rapid.Uint64().Draw(t, "retention bytes"),
		Cleanup:            Cleanup(rapid.Byte().Draw(t, "cleanup")),
		SegmentBytes:       rapid.Uint32().Draw(t, "segment bytes"),
		TombstoneRetention: ms("tombstones", most),
		DedupWindow:        ms("dedup", most),
		MaxBatchBytes:      rapid.Uint32().Draw(t, "batch bytes"),
		Ordering:           Ordering(rapid.Byte().Draw(t, "ordering")),
	}
	return c
}

// drawMessage draws a message which encodes without loss: the right magic, and
// no body where the status is an error.
func drawMessage(t *rapid.T, c messageCase) Message {
	m := c.new()
	v := reflect.ValueOf(m).Elem()
	fill(t, v, c.name)
	if hello, ok := m.(*HelloRequest); ok {
		hello.Magic = Magic
	}
	if c.response {
		status := v.FieldByName("Status").Addr().Interface().(*Status)
		if rapid.Bool().Draw(t, "success") {
			status.Code = CodeNone
		}
		if status.failed() {
			kept := *status
			v.SetZero()
			v.FieldByName("Status").Set(reflect.ValueOf(kept))
		}
	}
	return m
}

// footprint is the memory which the slices and strings of a message hold.
func footprint(v reflect.Value) int {
	total := 0
	switch v.Kind() {
	case reflect.Pointer:
		return footprint(v.Elem())
	case reflect.Struct:
		for i := range v.NumField() {
			total += footprint(v.Field(i))
		}
	case reflect.Slice:
		total = v.Cap() * int(v.Type().Elem().Size())
		for i := range v.Len() {
			total += footprint(v.Index(i))
		}
	case reflect.String:
		total = v.Len()
	}
	return total
}

// maxAmplification bounds the memory which one byte of a message may cost its
// reader.
const maxAmplification = 16

// requireBounded fails if m, decoded from size bytes, takes more memory than the
// bytes justify.
func requireBounded(t require.TestingT, m Message, size int) {
	require.LessOrEqual(t, footprint(reflect.ValueOf(m)), maxAmplification*size)
}

func TestMessagesSurviveTheWire(t *testing.T) {
	for _, c := range messageCases() {
		t.Run(c.name, func(t *testing.T) {
			rapid.Check(t, func(t *rapid.T) {
				m, dirty := drawMessage(t, c), drawMessage(t, c)
				encoded := m.AppendTo(nil)
				require.Equal(t, append([]byte("before"), encoded...), m.AppendTo([]byte("before")))

				fresh := c.new()
				require.NoError(t, fresh.Decode(encoded))
				require.Equal(t, encoded, fresh.AppendTo(nil))
				requireBounded(t, fresh, len(encoded))

				// What the receiver held before must not show.
				require.NoError(t, dirty.Decode(encoded))
				require.Equal(t, encoded, dirty.AppendTo(nil))

				// Fields which a newer peer appends are ignored.
				if len(encoded) == 0 {
					return
				}
				require.NoError(t, dirty.Decode(append(encoded, "later fields"...)))
				if c.response && dirty.AppendTo(nil)[0]|dirty.AppendTo(nil)[1] != 0 {
					return
				}
				require.Equal(t, encoded, dirty.AppendTo(nil))
			})
		})
	}
}

func TestMessagesKeepNoReferenceToTheirBytes(t *testing.T) {
	for _, c := range messageCases() {
		t.Run(c.name, func(t *testing.T) {
			rapid.Check(t, func(t *rapid.T) {
				encoded := drawMessage(t, c).AppendTo(nil)
				read := append([]byte(nil), encoded...)
				m := c.new()
				require.NoError(t, m.Decode(read))
				for i := range read {
					read[i] ^= 0xff
				}
				require.Equal(t, encoded, m.AppendTo(nil))
			})
		})
	}
}

// A message cut at any byte decodes to one whose missing last fields are zero,
// or is refused; cut inside a field or array item it is always refused.
func TestTruncatedMessages(t *testing.T) {
	for _, c := range messageCases() {
		t.Run(c.name, func(t *testing.T) {
			rapid.Check(t, func(t *rapid.T) {
				encoded := drawMessage(t, c).AppendTo(nil)
				for cut := range encoded {
					m := c.new()
					if err := m.Decode(encoded[:cut]); err != nil {
						require.Equal(t, CodeInvalidRequest, CodeOf(err), "%v", err)
						continue
					}
					again := m.AppendTo(nil)
					require.GreaterOrEqual(t, len(again), cut)
					require.Equal(t, encoded[:cut], again[:cut])
					for _, b := range again[cut:] {
						require.Zero(t, b)
					}
				}
			})
		})
	}
}

func TestAbsentTrailingFieldsAreZero(t *testing.T) {
	full := FetchRequest{MaxWaitMs: 1, MinBytes: 2, MaxBytes: 3, Flags: FetchVerify, Parts: []FetchPart{{Partition: 7}}}
	encoded := full.AppendTo(nil)

	var m FetchRequest
	require.NoError(t, m.Decode(encoded[:12]))
	require.Equal(t, FetchRequest{MaxWaitMs: 1, MinBytes: 2, MaxBytes: 3}, m)
	require.NoError(t, m.Decode(nil))
	require.Equal(t, FetchRequest{}, m)

	require.ErrorIs(t, m.Decode(encoded[:11]), ErrInvalidRequest, "cut inside a field")
	require.ErrorIs(t, m.Decode(encoded[:len(encoded)-1]), ErrInvalidRequest, "cut inside an item")
	require.ErrorIs(t, m.Decode(encoded[:len(encoded)-4]), ErrInvalidRequest, "an item lacks its last field")
}

func TestTopicConfigMayGrowInsideArrays(t *testing.T) {
	config := DefaultTopicConfig()
	item := config.appendTo(nil)
	longer := append([]byte{item[0] + 3}, item[1:]...)
	longer = append(longer, 1, 2, 3) // three bytes of a field of the future

	metadata := append([]byte{2, 1, 'a'}, longer...)
	metadata = append(metadata, 1, 'b')
	metadata = append(metadata, longer...)
	var m CreateTopicsRequest
	require.NoError(t, m.Decode(append(metadata, 1)))
	require.Equal(t, CreateTopicsRequest{Topics: []NewTopic{{"a", config}, {"b", config}}, ValidateOnly: true}, m)
}

func TestHostileCountsAreRefusedBeforeAllocation(t *testing.T) {
	huge := []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f}
	for _, c := range messageCases() {
		// Put a huge count at every position where one could stand.
		base := make([]byte, 64)
		for at := range base {
			hostile := append(append([]byte(nil), base[:at]...), huge...)
			m := c.new()
			_ = m.Decode(hostile)
			requireBounded(t, m, len(hostile))
		}
	}
}

// unbounded decodes an array the wrong way, trusting the count.
type unbounded struct{ items []uint64 }

func (u *unbounded) AppendTo(dst []byte) []byte { return dst }
func (u *unbounded) Decode(b []byte) error {
	r := newReader(b)
	u.items = make([]uint64, r.uvarint())
	return r.finish("unbounded")
}

func TestBoundCheckCatchesATrustingDecoder(t *testing.T) {
	m := &unbounded{}
	require.NoError(t, m.Decode([]byte{0xff, 0xff, 0x3f}))
	var failed failure
	requireBounded(&failed, m, 3)
	require.True(t, bool(failed))
}

// failure notes that a requirement failed.
type failure bool

func (f *failure) Errorf(string, ...any) { *f = true }
func (f *failure) FailNow()              { *f = true }
