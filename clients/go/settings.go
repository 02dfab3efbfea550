package sequitur

import (
	"github.com/sequitur-mq/sequitur/record"
	"github.com/sequitur-mq/sequitur/wire"
)

// TopicField documents one field of a TopicConfig and gives access to it by name.
type TopicField = wire.TopicField

// TopicFields lists the fields of TopicConfig in their declared order, for programs that
// offer them as flags or in forms.
func TopicFields() []TopicField { return wire.TopicFields() }

// ValidateTopicName says what is wrong with the name of a topic, without a broker.
func ValidateTopicName(name string) error { return wire.ValidateTopicName(name) }

// ParseAcks reads none, leader, quorum or all.
func ParseAcks(name string) (Acks, error) { return wire.ParseAcks(name) }

// ParseCodec reads none, s2 or zstd.
func ParseCodec(name string) (Codec, error) { return record.ParseCodec(name) }
