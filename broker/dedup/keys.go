package dedup

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"

	"github.com/sequitur-mq/sequitur/log"
	"github.com/sequitur-mq/sequitur/record"
)

const (
	maxPlainID   = 255 // longer ids are hashed
	idPrefixSize = 1 + 16 + 4 + 4 + 1
	placeSize    = 8 + 8
	layout       = 1 // version of what is in Badger
)

var layoutKey = []byte{'v'}

// appendKey appends the key of an id.
func appendKey(dst []byte, p log.ID, generation uint32, id []byte) []byte {
	dst = append(dst, 'i')
	dst = append(dst, p.Topic[:]...)
	dst = binary.BigEndian.AppendUint32(dst, p.Partition)
	dst = binary.BigEndian.AppendUint32(dst, generation)
	if len(id) <= maxPlainID {
		dst = append(dst, 0)
		return append(dst, id...)
	}
	sum := sha256.Sum256(id)
	dst = append(dst, 1)
	return append(dst, sum[:]...)
}

func recordKey(p log.ID) []byte {
	key := append(make([]byte, 0, 21), 'p')
	key = append(key, p.Topic[:]...)
	return binary.BigEndian.AppendUint32(key, p.Partition)
}

// place is where an id was first stored.
type place struct {
	offset int64
	time   int64 // append time, Unix nanoseconds
}

func (p place) bytes() []byte {
	b := binary.BigEndian.AppendUint64(make([]byte, 0, placeSize), uint64(p.offset))
	return binary.BigEndian.AppendUint64(b, uint64(p.time))
}

var errLayout = errors.New("value of another layout")

func parsePlace(b []byte) (place, error) {
	if len(b) != placeSize {
		return place{}, errLayout
	}
	return place{int64(binary.BigEndian.Uint64(b)), int64(binary.BigEndian.Uint64(b[8:]))}, nil
}

// position is the record of a partition: how much of its log the view holds.
type position struct {
	generation uint32
	partial    bool  // ids at or above offset may be there too
	offset     int64 // ids of the log below it, as far as within the window, are in the view
	last       stamp // of the batch that ends at offset; zero: nothing was applied
	window     int64 // nanoseconds: ids older than that when they were applied may be missing
}

// stamp tells a batch from any other that could have its place. The append time alone does
// not: it stands still while the clock is behind.
type stamp struct {
	time int64  // append time, Unix nanoseconds
	crc  uint32 // of the payload, which has producer, sequence and timestamps in it
}

func stampOf(b record.Batch) stamp { return stamp{b.AppendTime(), b.PayloadCRC()} }

const positionSize = 4 + 1 + 8 + 8 + 4 + 8

func (p position) bytes() []byte {
	b := binary.BigEndian.AppendUint32(make([]byte, 0, positionSize), p.generation)
	if p.partial {
		b = append(b, 1)
	} else {
		b = append(b, 0)
	}
	b = binary.BigEndian.AppendUint64(b, uint64(p.offset))
	b = binary.BigEndian.AppendUint64(b, uint64(p.last.time))
	b = binary.BigEndian.AppendUint32(b, p.last.crc)
	return binary.BigEndian.AppendUint64(b, uint64(p.window))
}

func parsePosition(b []byte) (position, error) {
	if len(b) != positionSize || b[4] > 1 {
		return position{}, errLayout
	}
	return position{
		generation: binary.BigEndian.Uint32(b),
		partial:    b[4] == 1,
		offset:     int64(binary.BigEndian.Uint64(b[5:])),
		last:       stamp{int64(binary.BigEndian.Uint64(b[13:])), binary.BigEndian.Uint32(b[21:])},
		window:     int64(binary.BigEndian.Uint64(b[25:])),
	}, nil
}
