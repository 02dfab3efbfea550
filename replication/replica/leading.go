package replica

import (
	"errors"
	"fmt"

	"github.com/sequitur-mq/sequitur/log"
	"github.com/sequitur-mq/sequitur/replication"
)

// Fetched takes in where a follower is, and returns what to send it: see
// replication.Leader.Fetch. Fetches of another epoch are answered with Ignore.
func (r *Replica) Fetched(f replication.Fetch) (replication.Answer, error) {
	r.mu.Lock()
	defer r.unlock()
	if r.leader == nil || r.closed || r.broken != nil {
		return replication.Answer{}, r.broken
	}
	r.advanceStart()
	answer, err := r.leader.Fetch(f)
	if err != nil {
		if errors.Is(err, replication.ErrInvariant) {
			r.violate(err)
		}
		return replication.Answer{}, fmt.Errorf("fetch of %v: %w", f.From, err)
	}
	if answer.Advanced {
		r.advance()
	}
	return answer, nil
}

// advanceStart tells the machine what retention removed. The caller holds mu.
func (r *Replica) advanceStart() {
	start := min(r.log.Start(), r.machine.HighWatermark())
	if start <= r.machine.Start() {
		return
	}
	if err := r.machine.AdvanceStart(start); err != nil {
		r.violate(err)
	}
}

// ReadForFollower returns what a follower at an offset lacks, durable or not: whole
// batches of about maxBytes, at least one, and what to say with them. With nothing new
// the chunk is nil and Data has no records. The chunk must be released. more says that
// the log goes on behind it.
//
// Errors: a *NotLeaderError, and those of log.Read.
func (r *Replica) ReadForFollower(from int64, maxBytes int) (chunk *log.Chunk, data replication.Data, more bool, err error) {
	r.mu.Lock()
	if r.leader == nil {
		err = r.notLeader()
		r.unlock()
		return nil, replication.Data{}, false, err
	}
	end := r.leader.End()
	data = r.leader.Data(from, max(from, end))
	r.unlock()
	if from >= end {
		return nil, data, false, nil
	}
	chunk, err = r.log.Read(from, end, maxBytes, false)
	// What was read is this leader's log only if it was not truncated meanwhile, which
	// nobody does to a leader.
	if r.led.Load() != data.Epoch {
		if err == nil {
			chunk.Release()
		}
		return nil, replication.Data{}, false, &NotLeaderError{Epoch: data.Epoch}
	}
	if err != nil {
		data.LogStart = r.log.Start()
		return nil, data, false, err
	}
	data.End = chunk.Next()
	return chunk, data, data.End < end, nil
}
