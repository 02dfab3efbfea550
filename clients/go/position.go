package sequitur

import (
	"fmt"
	"math"
	"time"

	"github.com/sequitur-mq/sequitur/wire"
)

// Position is a place in a partition, as the application names it.
type Position struct {
	kind   positionKind
	offset int64
	time   time.Time
}

type positionKind uint8

const (
	positionStart positionKind = iota
	positionEnd
	positionOffset
	positionTime
)

// Start is the first record that is still stored.
func Start() Position { return Position{kind: positionStart} }

// End is behind the last committed record.
func End() Position { return Position{kind: positionEnd} }

// Offset is the record with this offset.
func Offset(offset int64) Position { return Position{kind: positionOffset, offset: offset} }

// At is the first record appended at or after a time, by the broker's clock; the end
// if there is none.
func At(t time.Time) Position { return Position{kind: positionTime, time: t} }

// String is start, end, the offset, or the time in RFC 3339.
func (p Position) String() string {
	switch p.kind {
	case positionStart:
		return "start"
	case positionEnd:
		return "end"
	case positionOffset:
		return fmt.Sprint(p.offset)
	}
	return p.time.Format(time.RFC3339Nano)
}

// wireKind is what to ask the broker for; false for offsets, which need no question.
func (p Position) wireKind() (wire.OffsetKind, bool) {
	switch p.kind {
	case positionStart:
		return wire.OffsetStart, true
	case positionEnd:
		return wire.OffsetEnd, true
	case positionTime:
		return wire.OffsetByTime, true
	}
	return 0, false
}

// nanoseconds is the time of At as the protocol has it: Unix nanoseconds, which end in
// 1677 and 2262. Earlier and later times stand for the first and the last of them.
func (p Position) nanoseconds() int64 {
	first, last := time.Unix(0, math.MinInt64), time.Unix(0, math.MaxInt64)
	switch {
	case p.time.Before(first):
		return math.MinInt64
	case p.time.After(last):
		return math.MaxInt64
	}
	return p.time.UnixNano()
}
