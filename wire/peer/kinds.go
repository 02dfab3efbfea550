package peer

import (
	"fmt"

	"github.com/sequitur-mq/sequitur/wire"
)

// Version is the version of the cluster protocol which this package speaks; it stands
// in every frame header.
const (
	MinVersion uint16 = 1
	MaxVersion uint16 = 1
)

// Stream says what a connection on the cluster port carries.
type Stream uint8

// The streams.
const (
	StreamRaft    Stream = 1
	StreamRPC     Stream = 2
	StreamSession Stream = 3
)

// PreambleSize is the size of what a connection begins with.
const PreambleSize = 8

const preambleMagic = "SQTC"

// AppendPreamble appends the first bytes of a connection.
func AppendPreamble(dst []byte, s Stream) []byte {
	dst = append(dst, preambleMagic...)
	return append(dst, byte(s), 0, 0, 0)
}

// ParsePreamble reads the first PreambleSize bytes of a connection. The error is an
// *wire.Error with CodeInvalidRequest.
func ParsePreamble(b []byte) (Stream, error) {
	if len(b) < PreambleSize || string(b[:4]) != preambleMagic {
		return 0, wire.Errorf(wire.CodeInvalidRequest, "not a connection of a broker: this is the cluster port, clients connect to the other one")
	}
	s := Stream(b[4])
	if s < StreamRaft || s > StreamSession || b[5] != 0 || b[6] != 0 || b[7] != 0 {
		return 0, wire.Errorf(wire.CodeInvalidRequest, "stream kind %d is not known; do the brokers run versions that fit together?", b[4])
	}
	return s, nil
}

// The kinds of frames on the cluster port. They share no number with those of clients.
const (
	KindSessionHello wire.Kind = 64
	KindProgress     wire.Kind = 65
	KindPush         wire.Kind = 66

	KindWho       wire.Kind = 80
	KindRegister  wire.Kind = 81
	KindHeartbeat wire.Kind = 82
	KindFence     wire.Kind = 83
	KindForward   wire.Kind = 84
	KindLeaving   wire.Kind = 85
	KindAdmin     wire.Kind = 86
	KindRead      wire.Kind = 87
)

// KindInfo describes one kind.
type KindInfo struct {
	Kind        wire.Kind
	Name        string // as in docs/protocol.md
	NewRequest  func() wire.Message
	NewResponse func() wire.Message // nil: frames of this kind are not answered
}

// Kinds lists all kinds in ascending order.
func Kinds() []KindInfo {
	return []KindInfo{
		{KindSessionHello, "SessionHello", func() wire.Message { return new(SessionHello) }, func() wire.Message { return new(SessionWelcome) }},
		{KindProgress, "Progress", func() wire.Message { return new(Progress) }, nil},
		{KindPush, "Push", func() wire.Message { return new(Push) }, nil},
		{KindWho, "Who", func() wire.Message { return new(WhoRequest) }, func() wire.Message { return new(WhoResponse) }},
		{KindRegister, "Register", func() wire.Message { return new(RegisterRequest) }, func() wire.Message { return new(RegisterResponse) }},
		{KindHeartbeat, "Heartbeat", func() wire.Message { return new(HeartbeatRequest) }, func() wire.Message { return new(HeartbeatResponse) }},
		{KindFence, "Fence", func() wire.Message { return new(FenceRequest) }, func() wire.Message { return new(FenceResponse) }},
		{KindForward, "Forward", func() wire.Message { return new(ForwardRequest) }, func() wire.Message { return new(ForwardResponse) }},
		{KindLeaving, "Leaving", func() wire.Message { return new(LeavingRequest) }, func() wire.Message { return new(LeavingResponse) }},
		{KindAdmin, "Admin", func() wire.Message { return new(AdminRequest) }, func() wire.Message { return new(AdminResponse) }},
		{KindRead, "Read", func() wire.Message { return new(ReadRequest) }, func() wire.Message { return new(ReadResponse) }},
	}
}

// KindName is the name of a kind.
func KindName(k wire.Kind) string {
	for _, info := range Kinds() {
		if info.Kind == k {
			return info.Name
		}
	}
	return fmt.Sprintf("kind(%d)", uint8(k))
}

// Member is a replica's identity: the operator's number of the node, and the number
// that the cluster gave to its disk.
type Member struct{ Node, Disk uint32 }

func (m *Member) fields(c *codec) {
	c.u32(&m.Node)
	c.u32(&m.Disk)
}

// PartitionID names a partition.
type PartitionID struct {
	Topic     wire.UUID
	Partition uint32
}

func (p *PartitionID) fields(c *codec) {
	c.uuid(&p.Topic)
	c.u32(&p.Partition)
}
