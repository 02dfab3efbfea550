package consensus

import (
	"fmt"
	"time"

	"github.com/hashicorp/raft"

	"github.com/sequitur-mq/sequitur/log"
	"github.com/sequitur-mq/sequitur/record"
)

// encodeEntry encodes what an entry has besides index and term. The format is in the
// package documentation.
func encodeEntry(e *raft.Log) []byte {
	dst := make([]byte, 0, raftEntryHeader+10+len(e.Extensions)+len(e.Data))
	dst = append(dst, raftEntryVersion, byte(e.Type))
	dst = le.AppendUint64(dst, e.Term)
	var at int64
	if !e.AppendedAt.IsZero() {
		at = e.AppendedAt.UnixNano()
	}
	dst = le.AppendUint64(dst, uint64(at))
	dst = appendBytes(dst, e.Extensions)
	return append(dst, e.Data...)
}

// decodeEntry reads the entry that is a batch, which the entry aliases.
func decodeEntry(b record.Batch) (*raft.Log, error) {
	var reader record.Reader
	var dec record.Decompressor
	if err := reader.Reset(b, &dec, record.DefaultLimits()); err != nil {
		return nil, err
	}
	var r record.Record
	if ok, err := reader.Next(&r); err != nil {
		return nil, err
	} else if !ok || b.Count() != 1 || b.LastOffsetDelta() != 0 {
		return nil, fmt.Errorf("%w: batch at offset %d is no Raft log entry", errMalformed, b.BaseOffset())
	}
	d := &decoder{b: r.Value}
	if v := d.u8(); d.err == nil && v != raftEntryVersion {
		return nil, fmt.Errorf("%w: Raft log entry %d has version %d, this broker reads %d: start a newer broker", errMalformed, b.BaseOffset(), v, raftEntryVersion)
	}
	e := &raft.Log{Index: uint64(b.BaseOffset()), Type: raft.LogType(d.u8()), Term: d.u64()}
	if at := int64(d.u64()); at != 0 {
		e.AppendedAt = time.Unix(0, at).UTC()
	}
	if ext := d.bytes(); len(ext) > 0 {
		e.Extensions = ext
	}
	if len(d.b) > 0 {
		e.Data = d.b
	}
	if d.err != nil {
		return nil, fmt.Errorf("Raft log entry %d: %w", b.BaseOffset(), d.err)
	}
	return e, nil
}

// entryCache holds the last entries of the log.
type entryCache struct {
	entries []*raft.Log // consecutive
	bytes   int
}

func (c *entryCache) add(e *raft.Log) {
	if n := len(c.entries); n > 0 && c.entries[n-1].Index+1 != e.Index {
		*c = entryCache{}
	}
	c.entries = append(c.entries, e)
	c.bytes += len(e.Data)
	for len(c.entries) > cachedEntries || c.bytes > cachedBytes && len(c.entries) > 1 {
		c.bytes -= len(c.entries[0].Data)
		c.entries[0] = nil
		c.entries = c.entries[1:]
	}
}

func (c *entryCache) get(index uint64) *raft.Log {
	if len(c.entries) == 0 || index < c.entries[0].Index || index-c.entries[0].Index >= uint64(len(c.entries)) {
		return nil
	}
	return c.entries[index-c.entries[0].Index]
}

// keep drops what is not in [first, next).
func (c *entryCache) keep(first, next uint64) {
	old := c.entries
	*c = entryCache{}
	for _, e := range old {
		if e.Index >= first && e.Index < next {
			c.add(e)
		}
	}
}

// done is a completion to wait for.
type done chan error

// Complete implements log.Completion.
func (d done) Complete(err error) { d <- err }

// wait starts something and waits until it is durable.
func wait(start func(log.Completion) error) error {
	d := make(done, 1)
	if err := start(d); err != nil {
		return err
	}
	return <-d
}

// appendAndWait appends batches and waits until they are durable.
func appendAndWait(p *log.Partition, batches []byte) error {
	d := make(done, 1)
	pending, err := p.Append(batches, d)
	if err != nil || !pending {
		return err
	}
	return <-d
}
