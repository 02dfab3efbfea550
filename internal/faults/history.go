package faults

import (
	"encoding/binary"
	"fmt"
	"slices"
	"sync"
	"time"
)

// ID names a record that was sent: the producer's number and a sequence that grows with every record of that producer
// in that partition.
type ID struct {
	Producer  uint32
	Partition int32
	Sequence  uint64
}

func (id ID) String() string {
	return fmt.Sprintf("record %d of producer %d in partition %d", id.Sequence, id.Producer, id.Partition)
}

const idBytes = 4 + 4 + 8

// value makes the value of the record: its id, then zeros up to size bytes.
func (id ID) value(size int) []byte {
	b := make([]byte, max(size, idBytes))
	binary.LittleEndian.PutUint32(b, id.Producer)
	binary.LittleEndian.PutUint32(b[4:], uint32(id.Partition))
	binary.LittleEndian.PutUint64(b[8:], id.Sequence)
	return b
}

func parseID(value []byte) (ID, error) {
	if len(value) < idBytes {
		return ID{}, fmt.Errorf("value of %d bytes was never sent", len(value))
	}
	return ID{binary.LittleEndian.Uint32(value), int32(binary.LittleEndian.Uint32(value[4:])), binary.LittleEndian.Uint64(value[8:])}, nil
}

// Send is one send, from the client's call to its outcome.
type Send struct {
	ID
	Invoked, Acked time.Duration // since the run began; Acked 0: no acknowledgement
	Offset         int64         // if acknowledged
	Err            string        // a final error: the outcome is not known
	Withdrawn      bool          // the client did not take it
}

// Read is a record that somebody read.
type Read struct {
	Offset int64
	ID     ID
}

// History is what clients saw.
type History struct {
	mu        sync.Mutex
	Sends     []Send
	Consumers []map[int32][]Read // by consumer, then partition, in the order in which records came
	Final     map[int32][]Read   // the topic, read from the start once all was healed
	Replicas  map[string]map[int32][]Read
	Stuck     []string // what did not come right after healing
}

// begin notes that a send begins and returns its number.
func (h *History) begin(id ID, at time.Duration) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.Sends = append(h.Sends, Send{ID: id, Invoked: at})
	return len(h.Sends) - 1
}

// end notes the outcome of a send.
func (h *History) end(number int, at time.Duration, offset int64, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	s := &h.Sends[number]
	if err != nil {
		s.Err = err.Error()
		return
	}
	s.Acked, s.Offset = at, offset
}

// withdraw notes that a send was not taken by the client: the run is over.
func (h *History) withdraw(number int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.Sends[number].Withdrawn = true
}

// errors returns the first few errors of sends.
func (h *History) errors(most int) (list []string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for i := range h.Sends {
		if s := &h.Sends[i]; s.Err != "" && len(list) < most {
			list = append(list, fmt.Sprintf("%v, sent after %v: %s", s.ID, s.Invoked, s.Err))
		}
	}
	return list
}

// counts returns how many sends there were, and how many of them were acknowledged and failed.
func (h *History) counts() (sent, acked, failed int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for i := range h.Sends {
		switch {
		case h.Sends[i].Acked > 0:
			acked++
		case h.Sends[i].Err != "":
			failed++
		}
	}
	return len(h.Sends), acked, failed
}

// longestPause is the longest time within [from, to) in which some partition acknowledged nothing. acks is what
// ackTimes returned.
func longestPause(acks [][]time.Duration, from, to time.Duration) (longest time.Duration) {
	for _, times := range acks {
		last := from
		i, _ := slices.BinarySearch(times, from)
		for ; i < len(times) && times[i] < to; i++ {
			longest, last = max(longest, times[i]-last), times[i]
		}
		longest = max(longest, to-last)
	}
	return longest
}

// ackTimes returns the times of all acknowledgements in order, by partition.
func (h *History) ackTimes(partitions int) [][]time.Duration {
	h.mu.Lock()
	defer h.mu.Unlock()
	acks := make([][]time.Duration, partitions)
	for i := range h.Sends {
		if s := &h.Sends[i]; s.Acked > 0 {
			acks[s.Partition] = append(acks[s.Partition], s.Acked)
		}
	}
	for _, times := range acks {
		slices.Sort(times)
	}
	return acks
}
