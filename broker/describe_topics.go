package broker

import (
	"path/filepath"

	"github.com/sequitur-mq/sequitur/log"
	"github.com/sequitur-mq/sequitur/wire"
)

// DescribeTopics, version 1: Metadata's answer for each topic, and what is stored of
// each partition: first offset, high watermark, bytes, segments and damaged
// ranges.

func (h *handler) describeTopics(r request) error {
	var req wire.DescribeTopicsRequest
	if err := r.decode(&req); err != nil {
		return err
	}
	found, err := h.findTopics(req.Topics)
	if err != nil {
		r.fail(err)
		return nil
	}
	resp := wire.DescribeTopicsResponse{Topics: make([]wire.TopicDescription, len(found))}
	for i, f := range found {
		d := &resp.Topics[i]
		d.TopicMetadata = f.metadata()
		d.Stats = make([]wire.PartitionStats, len(d.Partitions))
		for n := range d.Stats {
			d.Stats[n] = h.partitionStats(log.ID{Topic: d.UUID, Partition: uint32(n)})
		}
	}
	r.answer(&resp)
	return nil
}

// maxHoles bounds the damaged ranges that are listed per partition.
const maxHoles = 100

// partitionStats reads the log, not the replica: describing ten thousand idle
// partitions opens none of them.
func (h *handler) partitionStats(id log.ID) (s wire.PartitionStats) {
	p, ok := h.topics.store.Partition(id)
	if !ok {
		return s
	}
	st := p.Stat()
	s = wire.PartitionStats{Start: st.Start, End: st.Durable, Bytes: uint64(st.Bytes), Segments: uint32(st.Segments)}
	for _, hole := range st.Holes[:min(len(st.Holes), maxHoles)] {
		s.Holes = append(s.Holes, wire.Hole{From: hole.From, To: hole.To, File: h.inDataDir(hole.File), Position: hole.Position})
	}
	return s
}

// inDataDir names a file as seen from the data directory, as the offline check
// does.
func (h *handler) inDataDir(file string) string {
	dir, err := filepath.Abs(h.cfg.DataDir)
	if err != nil {
		return file
	}
	if name, err := filepath.Rel(dir, file); err == nil && filepath.IsLocal(name) {
		return name
	}
	return file
}
