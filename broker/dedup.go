package broker

import (
	"path/filepath"

	"github.com/sequitur-mq/sequitur/broker/dedup"
	"github.com/sequitur-mq/sequitur/internal/vfs"
	"github.com/sequitur-mq/sequitur/replication/replica"
	"github.com/sequitur-mq/sequitur/wire"
)

// newDedup makes the message-id index, which opens nothing before its first use.
// It lies in a real directory whatever file system the log is on.
func (b *Broker) newDedup() *dedup.Index {
	fs := b.cfg.fs
	if fs == nil {
		fs = vfs.OS()
	}
	return dedup.New(dedup.Options{
		Dir:    filepath.Join(b.cfg.DataDir, "views", "dedup"),
		Logger: b.log,
		Free:   func() (free, total uint64, err error) { return fs.Free(b.cfg.DataDir) },
	})
}

// appendTo appends the batches of a part, on topics with a deduplication window
// without the records that the partition has already.
func (p *produceRequest) appendTo(r *replica.Replica, to *partition, i int, batches []byte) (replica.Result, bool, error) {
	if to.config().DedupWindow == 0 || !dedup.HasIDs(batches) {
		return r.Append(batches, replica.Acks(p.req.Acks), p, i)
	}
	// Before the append, after which the waiter may be called at any time.
	part := &p.parts[i]
	part.view = to.messageIDs(r)
	claim, found, err := part.view.Claim(batches, nil)
	if err != nil {
		return replica.Result{}, false, err
	}
	part.found = found
	epoch := uint32(0)
	if claim != nil {
		batches, epoch = claim.Batches, claim.Epoch
	}
	result, pending, err := r.AppendIn(epoch, batches, replica.Acks(p.req.Acks), p, i)
	claim.Finish(result, err)
	return result, pending, err
}

// duplicates fills in what deduplication found of a part that was appended, and
// returns how many of its records were not stored. The caller holds mu.
func (p *produceRequest) duplicates(i int, result replica.Result) uint64 {
	part, out := &p.parts[i], &p.resp.Parts[i]
	if part.view == nil {
		return 0
	}
	part.view.Committed()
	out.Duplicates = dedup.AppendDuplicates(out.Duplicates, part.found, result)
	return uint64(len(part.found))
}

// messageIDs returns the partition's part of the message-id index.
func (p *partition) messageIDs(r *replica.Replica) *dedup.Partition {
	if v := p.view.Load(); v != nil {
		return v
	}
	v := p.topic.topics.ids.Partition(r, p.config().DedupWindow)
	if p.view.CompareAndSwap(nil, v) {
		// The topic may have been altered or deleted since its configuration was read.
		v.SetWindow(p.config().DedupWindow)
		if p.topic.deleted.Load() {
			p.topic.topics.ids.Drop(p.logID())
		}
	}
	return v
}

// alterDedup changes the windows of a topic's partitions that are in use.
func (t *topic) alterDedup(config *wire.TopicConfig) {
	for i := range t.partitions {
		if v := t.partitions[i].view.Load(); v != nil {
			v.SetWindow(config.DedupWindow)
		}
	}
}

// dropDedup forgets the message ids of a deleted topic.
func (t *topic) dropDedup() {
	for i := range t.partitions {
		if t.partitions[i].view.Load() != nil {
			t.topics.ids.Drop(t.partitions[i].logID())
		}
	}
}

// dedup is the figures of message-id deduplication.
func (b *Broker) dedup() Dedup {
	s := b.ids.Stats()
	return Dedup{
		Open: s.Open, Lookups: s.Lookups, Duplicates: s.Duplicates, Pending: s.Pending,
		IndexBytes: s.IndexBytes, Rebuilding: s.Rebuilding,
	}
}
