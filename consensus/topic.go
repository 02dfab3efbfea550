package consensus

import (
	"time"

	"github.com/sequitur-mq/sequitur/wire"
)

// Topic is one topic as the machine knows it. It is never changed after it was
// published by the machine: an altered topic is a new value, so a *Topic may be
// kept and read without a lock.
type Topic struct {
	ID         wire.UUID
	Name       string
	Version    uint32 // grows with every alteration
	Config     wire.TopicConfig
	Partitions []Partition // index = partition number
}

const minSized = 1

func (t *Topic) appendTo(dst []byte) []byte {
	return appendSized(dst, func(dst []byte) []byte {
		dst = append(dst, t.ID[:]...)
		dst = appendBytes(dst, t.Name)
		dst = le.AppendUint32(dst, t.Version)
		dst = appendConfig(dst, &t.Config)
		dst = appendCount(dst, len(t.Partitions))
		for i := range t.Partitions {
			dst = t.Partitions[i].appendTo(dst)
		}
		return dst
	})
}

func (d *decoder) topic() *Topic {
	in := d.sized()
	defer d.join(in)
	t := &Topic{ID: in.uuid(), Name: string(in.bytes()), Version: in.u32(), Config: in.config()}
	if n := in.count(minPartition); n > 0 {
		t.Partitions = make([]Partition, n)
	}
	for i := range t.Partitions {
		t.Partitions[i] = in.partition()
		if i > 0 {
			t.Partitions[i].share(&t.Partitions[i-1])
		}
	}
	return t
}

func appendConfig(dst []byte, c *wire.TopicConfig) []byte {
	ms := func(dst []byte, d time.Duration) []byte {
		return le.AppendUint64(dst, uint64(d/time.Millisecond))
	}
	return appendSized(dst, func(dst []byte) []byte {
		dst = le.AppendUint32(dst, c.Partitions)
		dst = append(dst, byte(c.Partitioner))
		dst = appendCount(dst, len(c.Splits))
		for _, s := range c.Splits {
			dst = appendBytes(dst, s)
		}
		dst = le.AppendUint32(dst, c.VirtualNodes)
		dst = le.AppendUint16(dst, c.ReplicationFactor)
		dst = append(dst, byte(c.Fsync))
		dst = ms(dst, c.FsyncInterval)
		dst = ms(dst, c.RetentionTime)
		dst = le.AppendUint64(dst, c.RetentionBytes)
		dst = append(dst, byte(c.Cleanup))
		dst = le.AppendUint32(dst, c.SegmentBytes)
		dst = ms(dst, c.TombstoneRetention)
		dst = ms(dst, c.DedupWindow)
		dst = le.AppendUint32(dst, c.MaxBatchBytes)
		return append(dst, byte(c.Ordering))
	})
}

func (d *decoder) config() (c wire.TopicConfig) {
	in := d.sized()
	defer d.join(in)
	ms := func() time.Duration {
		return time.Duration(min(in.u64(), uint64(1<<63-1)/uint64(time.Millisecond))) * time.Millisecond
	}
	c.Partitions = in.u32()
	c.Partitioner = wire.Partitioner(in.u8())
	if n := in.count(minSized); n > 0 {
		c.Splits = make([][]byte, n)
	}
	for i := range c.Splits {
		c.Splits[i] = append([]byte{}, in.bytes()...)
	}
	c.VirtualNodes = in.u32()
	c.ReplicationFactor = in.u16()
	c.Fsync = wire.Fsync(in.u8())
	c.FsyncInterval = ms()
	c.RetentionTime = ms()
	c.RetentionBytes = in.u64()
	c.Cleanup = wire.Cleanup(in.u8())
	c.SegmentBytes = in.u32()
	c.TombstoneRetention = ms()
	c.DedupWindow = ms()
	c.MaxBatchBytes = in.u32()
	c.Ordering = wire.Ordering(in.u8())
	return c
}
