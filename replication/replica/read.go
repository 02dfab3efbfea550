package replica

import "github.com/sequitur-mq/sequitur/log"

// Read returns whole batches from the one that holds the offset from on, at least one
// and about maxBytes, never beyond the high watermark; an empty chunk if from is the
// high watermark. verify checks all CRCs first. The errors are those of log.Read:
// log.ErrOutOfRange, *log.CorruptError. The chunk must be released.
func (r *Replica) Read(from int64, maxBytes int, verify bool) (*log.Chunk, error) {
	return r.log.Read(from, r.HighWatermark(), maxBytes, verify)
}

// Leads reports whether this replica leads the partition, as far as it knows. It takes
// no lock.
func (r *Replica) Leads() bool { return r.led.Load() != 0 }

// LedEpoch is the epoch in which this replica leads, as far as it knows, 0 if it does not.
// It takes no lock. Nothing that was appended in the epoch is truncated, and the high
// watermark does not rise over others' records, before it is seen to have changed.
func (r *Replica) LedEpoch() uint32 { return r.led.Load() }

// Start is the lowest offset that may be read.
func (r *Replica) Start() int64 { return r.log.Start() }

// OffsetByTime returns the first offset whose append time is at or after ns, in Unix
// nanoseconds, and that time. With none below the high watermark it returns the high
// watermark and -1.
func (r *Replica) OffsetByTime(ns int64) (offset, at int64, err error) {
	hw := r.HighWatermark()
	offset, at, err = r.log.OffsetByTime(ns)
	if err != nil {
		return 0, 0, err
	}
	if at < 0 || offset >= hw {
		return hw, -1, nil
	}
	return offset, at, nil
}
