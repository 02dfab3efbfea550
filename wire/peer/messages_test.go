package peer

import (
	"bytes"
	"reflect"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sequitur-mq/sequitur/wire"
)

func id(n byte) PartitionID {
	return PartitionID{Topic: wire.UUID{0: n, 15: 1}, Partition: uint32(n)}
}

// samples has at least one filled message of each type.
func samples() []wire.Message {
	refused := wire.Status{Code: wire.CodeUnauthorized, Message: "not of this cluster", RetryAfterMs: 100}
	return []wire.Message{
		&SessionHello{MinVersion: 1, MaxVersion: 1, Cluster: wire.UUID{1}, From: Member{2, 7}, To: Member{1, 3}, Session: 99},
		&SessionWelcome{Version: 1, From: Member{1, 3}, Session: 1 << 60}, &SessionWelcome{Status: refused},
		&Progress{},
		&Progress{Received: 1 << 40, Entries: []ProgressEntry{
			{Handle: 1, Flags: ProgressOpen | ProgressSeek, ID: id(1), Seek: 1, Epoch: 4, Offset: 1000, LastEpoch: 3, Durable: 900},
			{Handle: 2, Seek: 3, Epoch: 9, Offset: 5, LastEpoch: 9, Durable: 5, Round: 300, Received: 1 << 33},
			{Handle: 3, Flags: ProgressDrop},
		}},
		&Push{},
		&Push{Entries: []PushEntry{
			{Handle: 1, Kind: PushData, Seek: 1, Epoch: 4, Base: 1000, End: 1007, LastEpoch: 3, HighWatermark: 990, LogStart: 10, Round: 2, Bytes: 4096},
			{Handle: 2, Kind: PushTruncate, Seek: 3, Epoch: 9, End: 4, CommonEpoch: 8},
			{Handle: 3, Kind: PushReset, Seek: 1, Epoch: 1, Base: 77, LogStart: 77},
			{Handle: 4, Kind: PushRefused, Seek: 1, Code: wire.CodeNotLeader},
		}},
		&WhoRequest{MinVersion: 1, MaxVersion: 2},
		&WhoResponse{Version: 1, Node: 3, Disk: wire.UUID{3}, Cluster: wire.UUID{1}, ClusterAddr: "127.0.0.1:7651", Controller: 1, ControllerAddr: "127.0.0.1:7652", Session: 5},
		&WhoResponse{Status: refused},
		&RegisterRequest{Node: 3, Disk: wire.UUID{3}, Cluster: wire.UUID{1}, Addr: "a:1", ClusterAddr: "a:2", Rack: "r", Version: "0.3.0", Session: 5},
		&RegisterResponse{Cluster: wire.UUID{1}, Disk: 4, Voter: true}, &RegisterResponse{Status: refused},
		&HeartbeatRequest{
			Node: 3, Disk: 4, Session: 5, Applied: 6, DiskFree: 7, Partitions: 8, Leaders: 9,
			Serving:  []EpochOf{{id(1), 2}},
			CaughtUp: []CaughtUp{{id(2), 3, Member{5, 6}}}, Suspects: []PartitionID{id(3), id(4)},
		},
		&HeartbeatResponse{Term: 2, Applied: 8}, &HeartbeatResponse{Status: refused},
		&FenceRequest{Term: 3, Items: []EpochOf{{id(1), 2}, {id(2), 7}}},
		&FenceResponse{From: Member{1, 2}, Items: []FenceVote{
			{Epoch: 2, LastEpoch: 1, End: 500, Suspect: true, Fence: 2}, {Code: wire.CodeUnknownPartition, Message: "gone", Epoch: 7},
		}},
		&FenceResponse{Status: refused},
		&ForwardRequest{Command: []byte("command")}, &ForwardResponse{Index: 12, Result: []byte("result")}, &ForwardResponse{Status: refused},
		&LeavingRequest{Node: 2}, &LeavingResponse{Leaders: 3}, &LeavingResponse{Status: refused},
		&AdminRequest{Kind: 2, Body: []byte("{}")}, &AdminResponse{Body: []byte("{}")}, &AdminResponse{Status: refused},
		&ReadRequest{ID: id(4), From: 5, To: 1 << 40, MaxBytes: 4096}, &ReadResponse{Next: 9, Batches: []byte("batches")}, &ReadResponse{Status: refused},
	}
}

func newLike(m wire.Message) wire.Message {
	return reflect.New(reflect.TypeOf(m).Elem()).Interface().(wire.Message)
}

// types is an empty message of each type.
func types() (all []wire.Message) {
	for _, k := range Kinds() {
		all = append(all, k.NewRequest())
		if k.NewResponse != nil {
			all = append(all, k.NewResponse())
		}
	}
	return all
}

func TestRoundTrip(t *testing.T) {
	for _, m := range samples() {
		b := m.AppendTo(nil)
		got := newLike(m)
		require.NoError(t, got.Decode(b))
		require.Equal(t, m, got)
		require.Equal(t, b, got.AppendTo(nil))
		require.NoError(t, got.Decode(append(bytes.Clone(b), 1, 2, 3)), "%T with fields of a newer version", m)
		require.Equal(t, m, got)
	}
}

func TestEveryTypeHasASample(t *testing.T) {
	seen := map[reflect.Type]bool{}
	for _, m := range samples() {
		seen[reflect.TypeOf(m)] = true
	}
	for _, m := range types() {
		require.True(t, seen[reflect.TypeOf(m)], "%T", m)
	}
}

// A message cut anywhere either is malformed or ends before a field, which is zero then.
func TestCutMessages(t *testing.T) {
	for _, m := range samples() {
		b := m.AppendTo(nil)
		for n := range b {
			got := newLike(m)
			if err := got.Decode(b[:n]); err != nil {
				require.ErrorIs(t, err, wire.ErrInvalidRequest)
			}
		}
	}
}

func TestCountIsBounded(t *testing.T) {
	var p Push
	huge := []byte{0xff, 0xff, 0xff, 0xff, 0x0f, 1, 2, 3}
	require.ErrorIs(t, p.Decode(huge), wire.ErrInvalidRequest)
	require.Empty(t, p.Entries)
	require.Zero(t, cap(p.Entries))
}

func TestPreamble(t *testing.T) {
	for s := StreamRaft; s <= StreamSession; s++ {
		b := AppendPreamble(nil, s)
		require.Len(t, b, PreambleSize)
		got, err := ParsePreamble(b)
		require.NoError(t, err)
		require.Equal(t, s, got)
	}
	for _, b := range []string{"", "SQTC", "SQTR\x01\x00\x00\x00", "SQTC\x00\x00\x00\x00", "SQTC\x04\x00\x00\x00", "SQTC\x01\x00\x01\x00", "GET / HT"} {
		_, err := ParsePreamble([]byte(b))
		require.ErrorIs(t, err, wire.ErrInvalidRequest, "%q", b)
	}
}

func TestKinds(t *testing.T) {
	last := wire.KindDescribeBroker
	for _, k := range Kinds() {
		require.Greater(t, k.Kind, last)
		require.Equal(t, k.Name, KindName(k.Kind))
		last = k.Kind
	}
	require.Equal(t, "kind(200)", KindName(200))
}

func TestSessionMessagesDoNotAllocate(t *testing.T) {
	progress, push := samples()[4].(*Progress), samples()[6].(*Push)
	var p Progress
	var q Push
	buf := make([]byte, 0, 4096)
	require.Zero(t, testing.AllocsPerRun(100, func() {
		if p.Decode(progress.AppendTo(buf)) != nil || q.Decode(push.AppendTo(buf)) != nil {
			t.Fatal("decode")
		}
	}))
	require.Equal(t, progress, &p)
	require.Equal(t, push, &q)
}

func BenchmarkSessionMessages(b *testing.B) {
	progress, push := samples()[4].(*Progress), samples()[6].(*Push)
	buf := make([]byte, 0, 4096)
	b.ReportAllocs()
	for b.Loop() {
		if progress.Decode(progress.AppendTo(buf)) != nil || push.Decode(push.AppendTo(buf)) != nil {
			b.Fatal("decode")
		}
	}
}

// FuzzMessages decodes arbitrary bytes as every message: whatever decodes takes memory
// in proportion to its bytes and survives another round.
func FuzzMessages(f *testing.F) {
	all := types()
	for _, m := range samples() {
		for i := range all {
			if reflect.TypeOf(all[i]) == reflect.TypeOf(m) {
				f.Add(uint8(i), m.AppendTo(nil))
			}
		}
	}
	f.Fuzz(func(t *testing.T, which uint8, data []byte) {
		m := newLike(all[int(which)%len(all)])
		err := m.Decode(data)
		require.LessOrEqual(t, memory(reflect.ValueOf(m).Elem()), 16*len(data)+512)
		if err != nil {
			require.ErrorIs(t, err, wire.ErrInvalidRequest)
			return
		}
		encoded := m.AppendTo(nil)
		again := newLike(m)
		require.NoError(t, again.Decode(encoded))
		require.Equal(t, encoded, again.AppendTo(nil))
		require.NoError(t, m.Decode(encoded), "into a used receiver")
		require.Equal(t, encoded, m.AppendTo(nil))
	})
}

func FuzzPreamble(f *testing.F) {
	f.Add(AppendPreamble(nil, StreamRPC))
	f.Add([]byte("SQTR1234"))
	f.Fuzz(func(t *testing.T, data []byte) {
		if s, err := ParsePreamble(data); err == nil {
			require.Equal(t, data[:PreambleSize], AppendPreamble(nil, s))
		}
	})
}

// memory is the size of a value with all that it points to.
func memory(v reflect.Value) int {
	n := 0
	switch v.Kind() {
	case reflect.String:
		n = v.Len()
	case reflect.Slice:
		n = v.Cap() * int(v.Type().Elem().Size())
		if k := v.Type().Elem().Kind(); k == reflect.Struct {
			for i := range v.Len() {
				n += memory(v.Index(i))
			}
		}
	case reflect.Struct:
		for i := range v.NumField() {
			n += memory(v.Field(i))
		}
	}
	return n
}
