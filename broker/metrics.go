package broker

import (
	"sync/atomic"

	"github.com/sequitur-mq/sequitur/wire"
)

const (
	maxKinds = 16
	maxCodes = 64
)

// metrics are the broker's counters. They are only ever added to; Snapshot makes
// something to look at of them.
type metrics struct {
	requests [maxKinds]atomic.Uint64
	errors   errorCounts

	accepted, refusedConns atomic.Uint64
	evicted                atomic.Uint64

	producedRecords, producedBatches, producedBytes atomic.Uint64
	duplicates                                      atomic.Uint64
	fetchedRecords, fetchedBytes                    atomic.Uint64
	fetchParked                                     atomic.Uint64

	produceLatency, fetchLatency histogram
}

type errorCounts [maxCodes]atomic.Uint64

func (e *errorCounts) count(c wire.Code) {
	if c != wire.CodeNone {
		e[min(int(c), maxCodes-1)].Add(1)
	}
}

// topicCounters count what goes through one topic.
type topicCounters struct {
	producedRecords, producedBytes atomic.Uint64
	fetchedRecords, fetchedBytes   atomic.Uint64
}
