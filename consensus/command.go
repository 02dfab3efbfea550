package consensus

import (
	"fmt"

	"github.com/sequitur-mq/sequitur/wire"
)

// A Command asks the machine for a change. Encode makes the bytes that are
// logged and that Machine.Apply takes.
type Command interface {
	kind() commandKind
	appendTo([]byte) []byte
}

type commandKind uint8

const (
	kindCreateTopics     commandKind = 1
	kindAlterTopic       commandKind = 2
	kindDeleteTopics     commandKind = 3
	kindReserveProducers commandKind = 4
	kindInitProducer     commandKind = 5
	kindPurgeTopics      commandKind = 6
	kindRegisterBroker   commandKind = 7
	kindRemoveBroker     commandKind = 8
	kindSetBroker        commandKind = 9
	kindSetVoter         commandKind = 10
	kindImportState      commandKind = 11
	kindBeginEpochs      commandKind = 12
	kindElectLeaders     commandKind = 13
)

// formatVersion is that of commands and snapshots. Version 1 knew one broker without
// disks, and is read still.
const formatVersion = 2

// CreateTopics creates topics as they are given, each on its own: one whose name
// is taken is refused with TOPIC_EXISTS, unless the one there has the same UUID
// (the command was proposed twice). Versions start at 0.
type CreateTopics struct{ Topics []*Topic }

// AlterTopic replaces the configuration of the topic if its version is still
// the one that the proposer saw; otherwise the result is ErrChanged.
type AlterTopic struct {
	ID      wire.UUID
	Version uint32
	Config  wire.TopicConfig
}

// DeleteTopics deletes topics by UUID, never by name, so that a command which is
// proposed twice cannot hit a new topic of the same name. A tombstone of each
// stays: without one nothing is removed from a disk, and with one it is, however
// late its broker hears of it.
type DeleteTopics struct{ IDs []wire.UUID }

// PurgeTopics drops tombstones, once no disk holds the topics any more.
type PurgeTopics struct{ IDs []wire.UUID }

// ReserveProducers gives out a block of producer ids that nobody else ever gets.
type ReserveProducers struct{ Count uint32 }

// InitProducer gives a named producer its id and an epoch above every earlier. If ID is
// not 0, that is done only while ID and Epoch are what the name stands for.
type InitProducer struct {
	Name  string
	ID    uint64
	Epoch uint32
}

func (CreateTopics) kind() commandKind     { return kindCreateTopics }
func (AlterTopic) kind() commandKind       { return kindAlterTopic }
func (DeleteTopics) kind() commandKind     { return kindDeleteTopics }
func (PurgeTopics) kind() commandKind      { return kindPurgeTopics }
func (ReserveProducers) kind() commandKind { return kindReserveProducers }
func (InitProducer) kind() commandKind     { return kindInitProducer }

// Encode returns the bytes of a command.
func Encode(c Command) []byte {
	return c.appendTo([]byte{byte(c.kind()), formatVersion})
}

func (c CreateTopics) appendTo(dst []byte) []byte {
	dst = appendCount(dst, len(c.Topics))
	for _, t := range c.Topics {
		dst = t.appendTo(dst)
	}
	return dst
}

func (c AlterTopic) appendTo(dst []byte) []byte {
	dst = append(dst, c.ID[:]...)
	dst = le.AppendUint32(dst, c.Version)
	return appendConfig(dst, &c.Config)
}

func (c DeleteTopics) appendTo(dst []byte) []byte { return appendIDs(dst, c.IDs) }

func (c PurgeTopics) appendTo(dst []byte) []byte { return appendIDs(dst, c.IDs) }

func appendIDs(dst []byte, ids []wire.UUID) []byte {
	dst = appendCount(dst, len(ids))
	for _, id := range ids {
		dst = append(dst, id[:]...)
	}
	return dst
}

func (d *decoder) ids() (ids []wire.UUID) {
	if n := d.count(len(wire.UUID{})); n > 0 {
		ids = make([]wire.UUID, n)
	}
	for i := range ids {
		ids[i] = d.uuid()
	}
	return ids
}

func (c ReserveProducers) appendTo(dst []byte) []byte { return le.AppendUint32(dst, c.Count) }

func (c InitProducer) appendTo(dst []byte) []byte {
	dst = appendBytes(dst, c.Name)
	dst = le.AppendUint64(dst, c.ID)
	return le.AppendUint32(dst, c.Epoch)
}

// Decode reads what Encode wrote. Nothing in the result aliases data. An error
// means damage, or a command of a later version.
func Decode(data []byte) (Command, error) {
	d := &decoder{b: data}
	kind := commandKind(d.u8())
	d.readVersion("command")
	c := d.command(kind)
	if d.err != nil {
		return nil, d.err
	}
	return c, nil
}

func (d *decoder) readVersion(of string) {
	d.version = d.u8()
	if d.err == nil && (d.version == 0 || d.version > formatVersion) {
		d.fail(fmt.Sprintf("%s version %d, this broker reads up to %d: start a newer broker", of, d.version, formatVersion))
	}
}

func (d *decoder) command(kind commandKind) Command {
	switch kind {
	case kindCreateTopics:
		create := CreateTopics{}
		for range d.count(minSized) {
			create.Topics = append(create.Topics, d.topic())
			if d.err != nil {
				break
			}
		}
		return create
	case kindAlterTopic:
		return AlterTopic{ID: d.uuid(), Version: d.u32(), Config: d.config()}
	case kindDeleteTopics:
		return DeleteTopics{IDs: d.ids()}
	case kindPurgeTopics:
		return PurgeTopics{IDs: d.ids()}
	case kindReserveProducers:
		return ReserveProducers{Count: d.u32()}
	case kindInitProducer:
		return InitProducer{Name: string(d.bytes()), ID: d.u64(), Epoch: d.u32()}
	case kindRegisterBroker:
		return RegisterBroker{Broker: d.broker()}
	case kindRemoveBroker:
		return RemoveBroker{Node: d.u32()}
	case kindSetBroker:
		return SetBroker{Node: d.u32(), Draining: d.u8() != 0}
	case kindSetVoter:
		return SetVoter{Member: d.member(), Voter: d.u8() != 0}
	case kindImportState:
		return ImportState{Snapshot: append([]byte{}, d.bytes()...)}
	case kindBeginEpochs:
		return d.beginEpochs()
	case kindElectLeaders:
		return d.electLeaders()
	}
	d.fail(fmt.Sprintf("command kind %d is not known: start a newer broker", kind))
	return nil
}
