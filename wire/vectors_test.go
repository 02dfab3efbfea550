package wire

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"flag"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

var update = flag.Bool("update", false, "rewrite testdata/vectors.json")

const vectorsFile = "testdata/vectors.json"

// vector is one whole frame for the authors of other clients. Fields are named
// as in docs/protocol.md.
type vector struct {
	Name        string          `json:"name"`
	Message     string          `json:"message"`
	Kind        Kind            `json:"kind"`
	Version     uint8           `json:"version"`
	Response    bool            `json:"response"`
	Correlation uint32          `json:"correlation"`
	Fields      json.RawMessage `json:"fields"`  // bytes in base64, durations as in the CLI
	Batches     string          `json:"batches"` // hex; not valid batches, only a filling
	Frame       string          `json:"frame"`   // hex
}

// samples are the messages of the vectors: each kind both ways, an error, and
// the corners of the primitives.
func samples() []struct {
	name    string
	message Message
	batches []byte
} {
	topic := UUID{0x01, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef, 0xfe, 0xdc, 0xba, 0x98, 0x76, 0x54, 0x32, 0x10}
	config := DefaultTopicConfig()
	config.Partitions, config.Partitioner = 3, PartitionerRange
	config.Splits = [][]byte{[]byte("g"), {0xff, 0x00}}
	config.Fsync, config.FsyncInterval = FsyncInterval, 250*time.Millisecond
	config.DedupWindow = 90 * time.Minute
	metadata := TopicMetadata{Name: "orders", UUID: topic, Config: config, Partitions: []PartitionMetadata{
		{Leader: 1, Epoch: 5, Replicas: []uint32{1, 2, 3}}, {Leader: 2, Epoch: 6, Replicas: []uint32{2, 3, 1}}, {},
	}}
	return []struct {
		name    string
		message Message
		batches []byte
	}{
		{"hello", &HelloRequest{Magic: Magic, MinVersion: 1, MaxVersion: 2, ClientName: "sequitur-go", ClientVersion: "0.1.0", AuthMechanism: "token", AuthData: []byte("secret")}, nil},
		{"hello answered", &HelloResponse{Version: 1, BrokerID: 1, ClusterID: topic, BrokerVersion: "0.1.0", MaxFrameBytes: 32 << 20, MaxBatchBytes: 8 << 20, MaxInflightBytes: 16 << 20, APIs: APIs()}, nil},
		{"hello refused", &HelloResponse{Status: Status{Code: CodeUnsupportedVersion, Message: "the client speaks versions 3..4, the broker 1..1"}}, nil},
		{"metadata of all topics", &MetadataRequest{}, nil},
		{"metadata of two topics", &MetadataRequest{Topics: []string{"orders", "payments"}}, nil},
		{"metadata answered", &MetadataResponse{Brokers: []BrokerMetadata{{1, "127.0.0.1:7650", "a"}, {2, "[::1]:7650", ""}}, Controller: 1, Topics: []TopicMetadata{metadata, {Code: CodeUnknownTopic, Name: "payments", Config: TopicConfig{}}}}, nil},
		{"produce to two partitions", &ProduceRequest{Acks: AcksQuorum, TimeoutMs: 30_000, Parts: []ProducePart{{topic, 0, 3}, {topic, 300, 5}}}, []byte("AAABBBBB")},
		{"produce answered", &ProduceResponse{Parts: []ProduceResult{
			{BaseOffset: 1 << 40, AppendTime: 1_700_000_000_123_456_789},
			{BaseOffset: 7, AppendTime: 1_700_000_000_000_000_000, Flags: ProduceDuplicate},
			{BaseOffset: 9, AppendTime: 1_700_000_000_000_000_001, Duplicates: []DuplicateRecord{{0, 3}, {300, 4}}},
			{Code: CodeStorageFull, Message: "disk full", BaseOffset: -1},
		}}, nil},
		{"produce refused", &ProduceResponse{Status: Status{Code: CodeOverloaded, Message: "too much in flight", RetryAfterMs: 50}}, nil},
		{"fetch", &FetchRequest{MaxWaitMs: 500, MinBytes: 1, MaxBytes: 1 << 20, Flags: FetchVerify, Parts: []FetchPart{{topic, 0, 1 << 40, 64 << 10}, {topic, 1, 0, 64 << 10}}}, nil},
		{"fetch answered", &FetchResponse{Parts: []FetchResult{
			{Index: 0, HighWatermark: 1<<40 + 1, LogStart: 12, Bytes: 4},
			{Index: 300, Code: CodeCorrupt, Message: "damaged", HighWatermark: 100, HoleFrom: 10, HoleTo: 20},
		}}, []byte("CCCC")},
		{"nothing to fetch", &FetchResponse{}, nil},
		{"list offsets", &ListOffsetsRequest{Parts: []ListOffsetsPart{{topic, 0, OffsetStart, 0}, {topic, 1, OffsetEnd, 0}, {topic, 2, OffsetByTime, 1_700_000_000_000_000_000}}}, nil},
		{"list offsets answered", &ListOffsetsResponse{Parts: []ListOffsetsResult{{Offset: 5, TimeNs: 1_700_000_000_000_000_000}, {Offset: 9, TimeNs: -1}, {Code: CodeUnknownPartition, Message: "no partition 2", Offset: -1, TimeNs: -1}}}, nil},
		{"create topics", &CreateTopicsRequest{Topics: []NewTopic{{"plain", DefaultTopicConfig()}, {"orders", config}}, ValidateOnly: true}, nil},
		{"create topics answered", &CreateTopicsResponse{Topics: []TopicResult{{Name: "plain", UUID: topic}, {Name: "orders", Code: CodeTopicExists, Message: "exists"}}}, nil},
		{"describe topics", &DescribeTopicsRequest{Topics: []string{"orders"}}, nil},
		{"describe topics answered", &DescribeTopicsResponse{Topics: []TopicDescription{{metadata, []PartitionStats{{1, 9, 4096, 2, []Hole{{3, 5, "partitions/x/0/0.log", 88}}}, {}, {}}}}}, nil},
		{"alter topic", &AlterTopicRequest{Name: "orders", Config: config, Mask: MaskFsync | MaskFsyncInterval}, nil},
		{"alter topic answered", &AlterTopicResponse{}, nil},
		{"delete topics", &DeleteTopicsRequest{Topics: []string{"orders", "plain"}}, nil},
		{"delete topics answered", &DeleteTopicsResponse{Topics: []TopicResult{{Name: "orders"}, {Name: "plain", Code: CodeUnknownTopic, Message: "no such topic"}}}, nil},
		{"init an anonymous producer", &InitProducerRequest{}, nil},
		{"init a named producer", &InitProducerRequest{Name: "billing-1"}, nil},
		{"init a named producer again", &InitProducerRequest{Name: "billing-1", ProducerID: 1<<63 + 5, Epoch: 3}, nil},
		{"init producer answered", &InitProducerResponse{ProducerID: 1<<63 + 5, Epoch: 3}, nil},
		{"describe broker", &DescribeBrokerRequest{}, nil},
		{"describe broker answered", &DescribeBrokerResponse{PID: 4242, UptimeMs: 86_400_000, CPUUserUs: 1, CPUSystemUs: 2, RSSBytes: 3, PeakRSSBytes: 4, DataDir: "./data", JournalMode: "direct+dsync", Partitions: 5, GoVersion: "go1.26", Connections: 6, DiskFree: 7, Version: "0.1.0", Stats: []Stat{{"appends", 1.5}, {"lag", -1}}}, nil},
		{"cluster status", &ClusterStatusRequest{}, nil},
		{"cluster status answered", &ClusterStatusResponse{Document: []byte(`{"brokers":[]}`)}, nil},
		{"change the cluster", &ClusterChangeRequest{Action: "move-leader", Node: 2, Topic: "orders", Partition: 7}, nil},
		{"change of the cluster answered", &ClusterChangeResponse{Text: "under way"}, nil},
	}
}

// buildVectors encodes the samples.
func buildVectors(t *testing.T) []vector {
	var vectors []vector
	covered := map[string]bool{}
	for i, s := range samples() {
		v := vector{Name: s.name, Version: 1, Correlation: uint32(i + 1), Batches: hex.EncodeToString(s.batches)}
		for _, c := range messageCases() {
			if sameType(c.new(), s.message) {
				v.Message, v.Kind, v.Response = c.name, c.kind, c.response
			}
		}
		covered[v.Message] = true
		fields, err := json.Marshal(s.message)
		require.NoError(t, err)
		v.Fields = fields
		h := FrameHeader{Kind: v.Kind, Version: v.Version, Correlation: v.Correlation}
		if v.Response {
			h.Flags = FlagResponse
		}
		frame := append(AppendFrame(nil, h, s.message, len(s.batches)), s.batches...)
		v.Frame = hex.EncodeToString(frame)
		vectors = append(vectors, v)
	}
	for _, c := range messageCases() {
		require.True(t, covered[c.name], "no vector of %s", c.name)
	}
	return vectors
}

// The bytes of every message are pinned: a change of an encoding that was
// published must be a new version.
func TestVectors(t *testing.T) {
	var out bytes.Buffer
	e := json.NewEncoder(&out)
	e.SetEscapeHTML(false)
	e.SetIndent("", " ")
	require.NoError(t, e.Encode(buildVectors(t)))
	if *update {
		require.NoError(t, os.WriteFile(vectorsFile, out.Bytes(), 0o644))
	}
	golden, err := os.ReadFile(vectorsFile)
	require.NoError(t, err)
	require.Equal(t, string(golden), out.String())
}

func TestVectorsDecode(t *testing.T) {
	for i, v := range buildVectors(t) {
		frame, err := hex.DecodeString(v.Frame)
		require.NoError(t, err)
		h, err := ParseFrameHeader(frame, FrameLimits{})
		require.NoError(t, err)
		require.Equal(t, len(frame), FrameHeaderSize+h.BodyLength())
		want := samples()[i].message
		got := newLike(want)
		require.NoError(t, got.Decode(frame[FrameHeaderSize:][:h.MetadataLength]))
		a, err := json.Marshal(got)
		require.NoError(t, err)
		b, err := json.Marshal(want)
		require.NoError(t, err)
		require.JSONEq(t, normalise(b), normalise(a))
	}
}

// normalise makes an absent array and an empty one the same.
func normalise(b []byte) string { return string(bytes.ReplaceAll(b, []byte("null"), []byte("[]"))) }
