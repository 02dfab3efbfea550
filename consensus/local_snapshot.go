package consensus

import (
	"fmt"

	"github.com/sequitur-mq/sequitur/record"
)

// snapshot appends the state in chunks. Where that fails, for want of space for
// instance, the commands stay, and the next attempt comes when as many again
// have been added.
func (l *Local) snapshot() {
	state := l.machine.Snapshot() // only this goroutine changes the machine
	next := int64(l.machine.Applied())
	l.grown, l.lastSize = 0, len(state)
	chunks := (len(state) + chunkBytes - 1) / chunkBytes
	for i := range chunks {
		part := state[i*chunkBytes : min((i+1)*chunkBytes, len(state))]
		value := make([]byte, 0, chunkHeader+len(part))
		value = le.AppendUint64(value, uint64(next))
		value = le.AppendUint32(value, uint32(i))
		value = le.AppendUint32(value, uint32(chunks))
		value = append(value, part...)
		p := &proposal{l: l}
		if i == chunks-1 {
			p.next = next
		}
		if err := l.append(p, []byte{recordSnapshot}, value); err != nil {
			l.o.Logger.Warn("metadata snapshot was not stored; its log stays longer", "error", err)
			return
		}
	}
}

// dropBelow drops the commands that a durable snapshot covers.
func (l *Local) dropBelow(next int64) {
	if err := l.partition.AdvanceStart(next, nil); err != nil {
		l.o.Logger.Warn("metadata log was not shortened", "error", err)
	}
}

// replay makes the state from the newest whole snapshot and the commands that
// it does not cover.
func (l *Local) replay() error {
	newest, err := l.newestSnapshot()
	if err != nil {
		return err
	}
	if newest != nil {
		if err := l.machine.Restore(newest); err != nil {
			return err
		}
		l.lastSize = len(newest)
	} else if start := l.partition.Start(); start > 0 {
		return fmt.Errorf("%w: the log begins at %d and holds no snapshot", errMalformed, start)
	}
	return l.walk(func(offset int64, kind byte, value []byte) error {
		if kind != recordCommand || index(offset) <= l.machine.Applied() {
			return nil
		}
		l.grown += len(value)
		_, err := l.machine.Apply(index(offset), value)
		return err
	})
}

// newestSnapshot returns the last snapshot of which every chunk is there, nil
// if there is none.
func (l *Local) newestSnapshot() (newest []byte, err error) {
	var partial []byte
	var next uint64
	var chunk, chunks uint32
	err = l.walk(func(offset int64, kind byte, value []byte) error {
		if kind != recordSnapshot {
			return nil
		}
		d := &decoder{b: value}
		n, i, of := d.u64(), d.u32(), d.u32()
		if d.err != nil {
			return fmt.Errorf("snapshot chunk at offset %d: %w", offset, d.err)
		}
		if i == 0 {
			partial, next, chunk, chunks = nil, n, 0, of
		}
		if n != next || i != chunk || of != chunks {
			return nil // the rest of a snapshot whose beginning is gone
		}
		partial = append(partial, d.b...)
		if chunk++; chunk == chunks {
			newest, partial = partial, nil
		}
		return nil
	})
	return newest, err
}

// walk reads every record of the partition.
func (l *Local) walk(fn func(offset int64, kind byte, value []byte) error) error {
	var reader record.Reader
	var dec record.Decompressor
	return l.partition.Batches(l.partition.Start(), func(b record.Batch) error {
		if b.Attributes().Control() {
			return nil
		}
		if err := reader.Reset(b, &dec, record.DefaultLimits()); err != nil {
			return err
		}
		var r record.Record
		for {
			ok, err := reader.Next(&r)
			if err != nil || !ok {
				return err
			}
			if len(r.Key) != 1 {
				return fmt.Errorf("%w: record at offset %d has a key of %d bytes", errMalformed, b.BaseOffset()+r.OffsetDelta, len(r.Key))
			}
			if err := fn(b.BaseOffset()+r.OffsetDelta, r.Key[0], r.Value); err != nil {
				return err
			}
		}
	})
}
