package record

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// ControlKind says what a control record means.
type ControlKind uint16

// The kinds of control records.
const (
	// ControlEpochStart is the first record of a leader's epoch; see [EpochStart].
	ControlEpochStart ControlKind = 1
	// ControlTxnBegin marks a transaction's first record in a partition.
	ControlTxnBegin ControlKind = 2
	// ControlTxnCommit makes a transaction's records visible.
	ControlTxnCommit ControlKind = 3
	// ControlTxnAbort makes a transaction's records void.
	ControlTxnAbort ControlKind = 4
)

// String returns the kind's name.
func (k ControlKind) String() string {
	switch k {
	case ControlEpochStart:
		return "epoch-start"
	case ControlTxnBegin:
		return "txn-begin"
	case ControlTxnCommit:
		return "txn-commit"
	case ControlTxnAbort:
		return "txn-abort"
	}
	return fmt.Sprintf("control(%d)", uint16(k))
}

const (
	controlVersion = 1
	controlKeySize = 4
)

// ErrNotControl says that a record's key is not that of a control record which this
// version knows.
var ErrNotControl = errors.New("not a control record of a known version")

// AppendControlKey appends the key of a control record: u16 version, u16 kind.
func AppendControlKey(dst []byte, kind ControlKind) []byte {
	dst = binary.LittleEndian.AppendUint16(dst, controlVersion)
	return binary.LittleEndian.AppendUint16(dst, uint16(kind))
}

// ParseControlKey returns the kind of the control record with this key. A later
// version may have a longer key.
func ParseControlKey(key []byte) (ControlKind, error) {
	if len(key) < controlKeySize || binary.LittleEndian.Uint16(key) != controlVersion {
		return 0, ErrNotControl
	}
	return ControlKind(binary.LittleEndian.Uint16(key[2:])), nil
}

// AppendControl adds a control record and marks the batch as one of control records.
func (b *Builder) AppendControl(tsMs int64, kind ControlKind, value []byte) {
	var key [controlKeySize]byte
	b.SetControl()
	b.Append(tsMs, AppendControlKey(key[:0], kind), value, nil)
}

// EpochStart is the value of the control record that opens a leader's epoch: 12
// bytes, u32 epoch, u32 leader, u32 replica-set version.
type EpochStart struct {
	Epoch             uint32
	Leader            uint32 // node id
	ReplicaSetVersion uint32
}

const epochStartSize = 12

// AppendTo appends the encoded value.
func (e EpochStart) AppendTo(dst []byte) []byte {
	dst = binary.LittleEndian.AppendUint32(dst, e.Epoch)
	dst = binary.LittleEndian.AppendUint32(dst, e.Leader)
	return binary.LittleEndian.AppendUint32(dst, e.ReplicaSetVersion)
}

// ParseEpochStart decodes the value; bytes after the known ones are ignored.
func ParseEpochStart(value []byte) (EpochStart, error) {
	if len(value) < epochStartSize {
		return EpochStart{}, fmt.Errorf("epoch start of %d bytes, want %d", len(value), epochStartSize)
	}
	le := binary.LittleEndian
	return EpochStart{Epoch: le.Uint32(value), Leader: le.Uint32(value[4:]), ReplicaSetVersion: le.Uint32(value[8:])}, nil
}
