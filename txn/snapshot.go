package txn

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"hash/fnv"
	"slices"
)

const (
	snapshotMagic   = 'S' | 'Q'<<8 | 'P'<<16 | 'S'<<24
	snapshotVersion = 1
	snapshotHead    = 12
	producerHead    = 28
	storedSize      = 24
	crcSize         = 4
)

// ErrSnapshot says that a snapshot is damaged or of another version.
var ErrSnapshot = errors.New("producer snapshot unreadable")

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Snapshot returns the whole state in the format of the package doc. Equal states
// give equal bytes.
func (p *Producers) Snapshot() []byte {
	ids := make([]uint64, 0, len(p.byID))
	size := snapshotHead + crcSize
	for id, known := range p.byID {
		ids = append(ids, id)
		size += producerHead + len(known.recent)*storedSize
	}
	slices.Sort(ids)
	le := binary.LittleEndian
	b := make([]byte, 0, size)
	b = le.AppendUint32(b, snapshotMagic)
	b = append(b, snapshotVersion, 0, 0, 0)
	b = le.AppendUint32(b, uint32(len(ids)))
	for _, id := range ids {
		known := p.byID[id]
		b = le.AppendUint64(b, id)
		b = le.AppendUint32(b, known.epoch)
		b = le.AppendUint32(b, known.next)
		b = le.AppendUint64(b, uint64(known.lastTime))
		b = le.AppendUint32(b, uint32(len(known.recent))<<1|flag(known.loose))
		for i := range known.recent {
			s := &known.recent[(known.oldest+i)%len(known.recent)]
			b = le.AppendUint32(b, s.baseSeq)
			b = le.AppendUint32(b, s.lastDelta)
			b = le.AppendUint64(b, uint64(s.baseOffset))
			b = le.AppendUint64(b, uint64(s.appendTime))
		}
	}
	return le.AppendUint32(b, crc32.Checksum(b, castagnoli))
}

func flag(set bool) uint32 {
	if set {
		return 1
	}
	return 0
}

// Hash is a hash of the whole state: live state and replay must agree on it.
func (p *Producers) Hash() uint64 {
	h := fnv.New64a()
	h.Write(p.Snapshot())
	return h.Sum64()
}

// Restore replaces the state by that of a snapshot. On error, which wraps
// ErrSnapshot, the state is as before. An empty snapshot is the empty state.
func (p *Producers) Restore(snapshot []byte) error {
	if len(snapshot) == 0 {
		p.byID = nil
		return nil
	}
	byID, err := p.decode(snapshot)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrSnapshot, err)
	}
	p.byID = byID
	return nil
}

func (p *Producers) decode(b []byte) (map[uint64]*producer, error) {
	le := binary.LittleEndian
	if len(b) < snapshotHead+crcSize {
		return nil, fmt.Errorf("%d bytes", len(b))
	}
	body := b[:len(b)-crcSize]
	if crc32.Checksum(body, castagnoli) != le.Uint32(b[len(body):]) {
		return nil, errors.New("checksum wrong")
	}
	if le.Uint32(body) != snapshotMagic || body[4] != snapshotVersion {
		return nil, fmt.Errorf("not a producer snapshot of version %d", snapshotVersion)
	}
	count := uint64(le.Uint32(body[8:]))
	rest := body[snapshotHead:]
	if count > uint64(len(rest)/producerHead) {
		return nil, fmt.Errorf("%d producers in %d bytes", count, len(rest))
	}
	byID := make(map[uint64]*producer, count)
	var last uint64 // ids ascend from 1, as 0 is no producer
	for range count {
		id, known, after, err := p.decodeProducer(rest)
		if err != nil {
			return nil, err
		}
		if id <= last {
			return nil, fmt.Errorf("producer %d after %d", id, last)
		}
		last, rest = id, after
		byID[id] = known
	}
	if len(rest) != 0 {
		return nil, fmt.Errorf("%d bytes left over", len(rest))
	}
	return byID, nil
}

func (p *Producers) decodeProducer(b []byte) (id uint64, known *producer, rest []byte, err error) {
	le := binary.LittleEndian
	if len(b) < producerHead {
		return 0, nil, nil, errors.New("producer cut off")
	}
	id = le.Uint64(b)
	known = &producer{epoch: le.Uint32(b[8:]), next: le.Uint32(b[12:]), lastTime: int64(le.Uint64(b[16:]))}
	n := int(le.Uint32(b[24:]) >> 1)
	known.loose = b[24]&1 != 0
	b = b[producerHead:]
	if n > len(b)/storedSize {
		return 0, nil, nil, fmt.Errorf("%d batches in %d bytes", n, len(b))
	}
	// With a window now smaller than then the youngest batches count.
	known.recent = make([]stored, 0, min(n, p.window))
	for i := range n {
		s := b[i*storedSize:]
		known.push(p.window, stored{le.Uint32(s), le.Uint32(s[4:]), int64(le.Uint64(s[8:])), int64(le.Uint64(s[16:]))})
	}
	return id, known, b[n*storedSize:], nil
}
