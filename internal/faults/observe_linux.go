package faults

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	sequitur "github.com/sequitur-mq/sequitur/clients/go"
	"github.com/sequitur-mq/sequitur/log"
	"github.com/sequitur-mq/sequitur/record"
)

// readReplicas stops all brokers and reads the topic from each one's disk.
func (c *cluster) readReplicas(ctx context.Context, o Options) (map[string]map[int32][]Read, error) {
	ctx, cancel := context.WithTimeout(ctx, o.Patience)
	defer cancel()
	if err := c.complete(ctx); err != nil {
		return nil, err
	}
	holders, err := c.holders(ctx)
	if err != nil {
		return nil, err
	}
	all := map[string]map[int32][]Read{}
	for _, n := range c.nodes[:c.first] {
		if err := c.stop(n); err != nil {
			return nil, err
		}
	}
	for _, n := range c.nodes[:c.first] {
		reads, err := readDisk(n.dir)
		if err != nil {
			return nil, fmt.Errorf("read the disk of %s: %w", n.name(), err)
		}
		held := map[int32][]Read{}
		for _, partition := range holders[n.number] {
			held[partition] = reads[partition]
		}
		all[n.name()] = held
	}
	return all, nil
}

// holders is which partitions of the topic each broker holds.
func (c *cluster) holders(ctx context.Context) (map[int][]int32, error) {
	d, err := c.admin.DescribeTopic(ctx, topic)
	if err != nil {
		return nil, err
	}
	held := map[int][]int32{}
	for i, p := range d.Partitions {
		for _, node := range p.Replicas {
			held[int(node)] = append(held[int(node)], int32(i))
		}
	}
	return held, nil
}

// readDisk reads the topic's partitions from a stopped broker's directory. The topic is the only one.
func readDisk(dir string) (map[int32][]Read, error) {
	store, err := log.Open(dir, log.Options{})
	if err != nil {
		return nil, err
	}
	defer store.Close()
	all := map[int32][]Read{}
	var reader record.Reader
	var decompressor record.Decompressor
	for _, id := range store.IDs() {
		if id.Topic[0] == '_' && id.Topic[1] == '_' {
			continue // the broker's own
		}
		p, _ := store.Partition(id)
		err := p.Batches(p.Start(), func(b record.Batch) error {
			if b.Attributes().Control() {
				return nil
			}
			if err := reader.Reset(b, &decompressor, record.DefaultLimits()); err != nil {
				return err
			}
			var r record.Record
			for {
				ok, err := reader.Next(&r)
				if err != nil || !ok {
					return err
				}
				rid, err := parseID(r.Value)
				if err != nil {
					return err
				}
				all[int32(id.Partition)] = append(all[int32(id.Partition)], Read{b.BaseOffset() + r.OffsetDelta, rid})
			}
		})
		if err != nil {
			return nil, fmt.Errorf("partition %s: %w", id, err)
		}
	}
	return all, nil
}

// status is what `broker cluster status --json` prints, as far as it is needed here.
type status struct {
	Brokers []struct {
		Node    int    `json:"node"`
		State   string `json:"state"`
		Damaged int    `json:"damaged_replicas"`
	} `json:"brokers"`
	Partitions struct {
		WithoutLeader   int `json:"without_leader"`
		UnderReplicated int `json:"under_replicated"`
		Moving          int `json:"moving"`
	} `json:"partitions"`
}

// missing says which of the brokers are not there, or "".
func (s status) missing(numbers ...int) string {
	alive := map[int]bool{}
	for _, b := range s.Brokers {
		alive[b.Node] = b.State == "alive"
	}
	for _, number := range numbers {
		if !alive[number] {
			return fmt.Sprintf("broker %d is not alive", number)
		}
	}
	return ""
}

// complete waits until all brokers are there and every replica has everything.
func (c *cluster) complete(ctx context.Context) error {
	return c.until(ctx, func(s status) string {
		for _, n := range c.nodes[:c.first] {
			if what := s.missing(n.number); what != "" {
				return what
			}
		}
		for _, b := range s.Brokers {
			if b.Damaged > 0 {
				return fmt.Sprintf("broker %d has %d damaged replicas", b.Node, b.Damaged)
			}
		}
		if p := s.Partitions; p.WithoutLeader > 0 || p.UnderReplicated > 0 || p.Moving > 0 {
			return fmt.Sprintf("%d partitions without leader, %d under-replicated, %d on the move", p.WithoutLeader, p.UnderReplicated, p.Moving)
		}
		return ""
	})
}

// until asks for the cluster's status until nothing is wrong with it.
func (c *cluster) until(ctx context.Context, wrong func(status) string) error {
	last := "the cluster does not answer"
	for {
		s, err := c.status(ctx)
		if err == nil {
			if last = wrong(s); last == "" {
				return nil
			}
		} else if ctx.Err() == nil {
			last = err.Error()
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w; %s", ctx.Err(), last)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// status asks the controller, by way of any broker, with a client of its own: the load's may be busy.
func (c *cluster) status(ctx context.Context) (s status, err error) {
	if c.admin == nil {
		if c.admin, err = sequitur.Connect(ctx, c.servers()); err != nil {
			return s, err
		}
	}
	document, err := c.admin.ClusterStatus(ctx)
	if err != nil {
		return s, err
	}
	if err := json.Unmarshal(document, &s); err != nil {
		return s, fmt.Errorf("cluster status: %w: %s", err, document)
	}
	return s, nil
}
