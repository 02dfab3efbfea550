package wire

import "fmt"

// Kind says what a frame asks for or answers.
type Kind uint8

// The request kinds. Zero is not a kind.
const (
	KindHello          Kind = 1
	KindMetadata       Kind = 2
	KindProduce        Kind = 3
	KindFetch          Kind = 4
	KindListOffsets    Kind = 5
	KindCreateTopics   Kind = 6
	KindDescribeTopics Kind = 7
	KindAlterTopic     Kind = 8
	KindDeleteTopics   Kind = 9
	KindInitProducer   Kind = 10
	KindDescribeBroker Kind = 11
	KindClusterStatus  Kind = 12
	KindClusterChange  Kind = 13
)

// Protocol versions which this package speaks. The protocol version covers
// framing, primitives and the meaning of hello; each kind has its own version
// besides.
const (
	MinProtocolVersion uint16 = 1
	MaxProtocolVersion uint16 = 1
)

// KindInfo describes one request kind.
type KindInfo struct {
	Kind        Kind
	Name        string // as in docs/protocol.md and metrics labels
	Min, Max    uint8  // versions of the request and its response
	NewRequest  func() Message
	NewResponse func() Message
}

// Kinds lists every request kind in ascending order.
func Kinds() []KindInfo {
	return []KindInfo{
		{KindHello, "Hello", 1, 1, func() Message { return new(HelloRequest) }, func() Message { return new(HelloResponse) }},
		{KindMetadata, "Metadata", 1, 1, func() Message { return new(MetadataRequest) }, func() Message { return new(MetadataResponse) }},
		{KindProduce, "Produce", 1, 1, func() Message { return new(ProduceRequest) }, func() Message { return new(ProduceResponse) }},
		{KindFetch, "Fetch", 1, 1, func() Message { return new(FetchRequest) }, func() Message { return new(FetchResponse) }},
		{KindListOffsets, "ListOffsets", 1, 1, func() Message { return new(ListOffsetsRequest) }, func() Message { return new(ListOffsetsResponse) }},
		{KindCreateTopics, "CreateTopics", 1, 1, func() Message { return new(CreateTopicsRequest) }, func() Message { return new(CreateTopicsResponse) }},
		{KindDescribeTopics, "DescribeTopics", 1, 1, func() Message { return new(DescribeTopicsRequest) }, func() Message { return new(DescribeTopicsResponse) }},
		{KindAlterTopic, "AlterTopic", 1, 1, func() Message { return new(AlterTopicRequest) }, func() Message { return new(AlterTopicResponse) }},
		{KindDeleteTopics, "DeleteTopics", 1, 1, func() Message { return new(DeleteTopicsRequest) }, func() Message { return new(DeleteTopicsResponse) }},
		{KindInitProducer, "InitProducer", 1, 1, func() Message { return new(InitProducerRequest) }, func() Message { return new(InitProducerResponse) }},
		{KindDescribeBroker, "DescribeBroker", 1, 1, func() Message { return new(DescribeBrokerRequest) }, func() Message { return new(DescribeBrokerResponse) }},
		{KindClusterStatus, "ClusterStatus", 1, 1, func() Message { return new(ClusterStatusRequest) }, func() Message { return new(ClusterStatusResponse) }},
		{KindClusterChange, "ClusterChange", 1, 1, func() Message { return new(ClusterChangeRequest) }, func() Message { return new(ClusterChangeResponse) }},
	}
}

// String is the name of the kind.
func (k Kind) String() string {
	switch k {
	case KindHello:
		return "Hello"
	case KindMetadata:
		return "Metadata"
	case KindProduce:
		return "Produce"
	case KindFetch:
		return "Fetch"
	case KindListOffsets:
		return "ListOffsets"
	case KindCreateTopics:
		return "CreateTopics"
	case KindDescribeTopics:
		return "DescribeTopics"
	case KindAlterTopic:
		return "AlterTopic"
	case KindDeleteTopics:
		return "DeleteTopics"
	case KindInitProducer:
		return "InitProducer"
	case KindDescribeBroker:
		return "DescribeBroker"
	case KindClusterStatus:
		return "ClusterStatus"
	case KindClusterChange:
		return "ClusterChange"
	}
	return fmt.Sprintf("kind(%d)", uint8(k))
}

// API is the range of versions of one kind which a broker serves.
type API struct {
	Kind     Kind
	Min, Max uint8
}

// APIs lists what this package implements, for the answer to hello.
func APIs() []API {
	kinds := Kinds()
	apis := make([]API, len(kinds))
	for i, k := range kinds {
		apis[i] = API{Kind: k.Kind, Min: k.Min, Max: k.Max}
	}
	return apis
}

// Negotiate picks the highest version common to two inclusive ranges, or
// returns an *Error with CodeUnsupportedVersion which names both ranges.
func Negotiate(clientMin, clientMax, serverMin, serverMax uint16) (uint16, error) {
	if clientMin > clientMax {
		return 0, Errorf(CodeInvalidRequest, "version range %d..%d is empty", clientMin, clientMax)
	}
	version := min(clientMax, serverMax)
	if version < max(clientMin, serverMin) {
		newer := "client"
		if clientMax < serverMin {
			newer = "broker"
		}
		return 0, Errorf(CodeUnsupportedVersion, "the client speaks versions %d..%d, the broker %d..%d; the %s is newer: upgrade the other side",
			clientMin, clientMax, serverMin, serverMax, newer)
	}
	return version, nil
}

// CheckVersion reports an *Error with CodeUnsupportedVersion unless this
// package can serve the version of the kind.
func CheckVersion(k Kind, version uint8) error {
	for _, api := range APIs() {
		if api.Kind != k {
			continue
		}
		if version < api.Min || version > api.Max {
			return Errorf(CodeUnsupportedVersion, "%s version %d is not served; versions %d..%d are", k, version, api.Min, api.Max)
		}
		return nil
	}
	return Errorf(CodeUnsupportedVersion, "request kind %d is not known", uint8(k))
}
