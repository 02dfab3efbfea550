package broker

import (
	"context"
	"errors"
	"time"

	"github.com/sequitur-mq/sequitur/broker/cluster"
	"github.com/sequitur-mq/sequitur/consensus"
	"github.com/sequitur-mq/sequitur/log"
	"github.com/sequitur-mq/sequitur/replication/replica"
	"github.com/sequitur-mq/sequitur/wire"
	"github.com/sequitur-mq/sequitur/wire/peer"
)

const (
	repairEvery   = time.Second
	repairTimeout = 10 * time.Second // for one answer
	repairBytes   = 4 << 20          // of one answer, about
)

// Read implements cluster.Replicas: batches of the log here, verified, for the repair
// of another replica.
func (f *following) Read(req *peer.ReadRequest) (*peer.ReadResponse, error) {
	id := log.ID{Topic: req.ID.Topic, Partition: req.ID.Partition}
	p, ok := f.topics.store.Partition(id)
	if !ok {
		return nil, wire.Errorf(wire.CodeUnknownPartition, "no replica of partition %s here", id)
	}
	end := min(req.To, p.End())
	if req.From >= end {
		return nil, wire.Errorf(wire.CodeOffsetOutOfRange, "the log of partition %s ends at %d here", id, p.End())
	}
	c, err := p.Read(req.From, end, int(min(req.MaxBytes, repairBytes)), true)
	if err != nil {
		if errors.Is(err, log.ErrCorrupt) {
			return nil, wire.Errorf(wire.CodeCorrupt, "%v", err)
		}
		return nil, wire.Errorf(wire.CodeOffsetOutOfRange, "%v", err)
	}
	defer c.Release()
	resp := &peer.ReadResponse{Next: c.Next()}
	resp.Batches, err = c.AppendTo(nil)
	return resp, err
}

// repair looks for damage of replicas on this broker, and has it repaired from the
// others, until the broker stops.
func (c *clustered) repair(store *log.Store) {
	ticker := time.NewTicker(repairEvery)
	defer ticker.Stop()
	for {
		select {
		case <-c.life.Done():
			return
		case <-ticker.C:
		}
		if store.Stats().Holes == 0 {
			continue
		}
		for _, p := range c.following.replicas() {
			if r := p.replica.Load(); r != nil && len(r.Log().Holes()) > 0 {
				c.repairOne(p, r)
			}
		}
	}
}

// replicas lists the partitions held here.
func (f *following) replicas() []*partition {
	f.mu.Lock()
	defer f.mu.Unlock()
	list := make([]*partition, 0, len(f.held))
	for _, p := range f.held {
		list = append(list, p)
	}
	return list
}

// repairOne repairs what it can of one replica. Until all of it is repaired the replica
// does not vote, and if it leads another one will.
func (c *clustered) repairOne(p *partition, r *replica.Replica) {
	r.Recheck()
	defer r.Recheck()
	for c.life.Err() == nil {
		from, to, err := r.Log().Damaged()
		if err == nil && from < to {
			err = c.repairRange(p, r.Log(), from, to)
		}
		if err != nil {
			c.log.Warn("damage is not repaired; this is tried again", "partition", p.logID().String(), "from", from, "to", to, "error", err)
		}
		if err != nil || from >= to {
			return
		}
	}
}

// repairRange replaces a damaged range by what another replica has: the leader's copy
// if it has one, that of anybody with the same epochs else.
func (c *clustered) repairRange(p *partition, l *log.Partition, from, to int64) error {
	err := errors.New("there is no other replica")
	for _, addr := range c.others(p) {
		var batches []byte
		if batches, err = c.fetchRange(addr, l.ID(), from, to); err != nil {
			continue
		}
		done := make(repaired, 1)
		if err = l.RepairHole(from, to, batches, done); err == nil {
			return <-done
		}
	}
	return err
}

// repaired waits for a repair to be durable.
type repaired chan error

// Complete implements log.Completion.
func (r repaired) Complete(err error) { r <- err }

// others are the cluster addresses of the other brokers with a replica, the leader's
// first.
func (c *clustered) others(p *partition) (list []string) {
	meta := &p.topic.meta.Load().Partitions[p.number]
	self := c.following.self.Load()
	c.meta.View(func(m *consensus.Machine) {
		for _, member := range append(meta.Set.Voters(), meta.Set.Learners...) {
			b, ok := m.Broker(member.Node)
			switch {
			case !ok || self == nil || member == *self || b.Disk != member.Disk:
			case member == meta.Leader:
				list = append([]string{b.ClusterAddr}, list...)
			default:
				list = append(list, b.ClusterAddr)
			}
		}
	})
	return list
}

// fetchRange asks a broker for the batches of [from, to).
func (c *clustered) fetchRange(addr string, id log.ID, from, to int64) (batches []byte, err error) {
	for from < to {
		var resp peer.ReadResponse
		if err := c.ask(addr, &peer.ReadRequest{ID: partitionID(id), From: from, To: to, MaxBytes: repairBytes}, &resp); err != nil {
			return nil, err
		}
		if resp.Next <= from {
			return nil, wire.Errorf(wire.CodeCorrupt, "the answer for offset %d ends at %d", from, resp.Next)
		}
		batches, from = append(batches, resp.Batches...), resp.Next
	}
	return batches, nil
}

func (c *clustered) ask(addr string, req *peer.ReadRequest, resp *peer.ReadResponse) error {
	ctx, cancel := context.WithTimeout(c.life, repairTimeout)
	defer cancel()
	if err := c.peers.Call(ctx, addr, peer.KindRead, req, resp); err != nil {
		return err
	}
	return resp.Err()
}

var _ cluster.Replicas = (*following)(nil)
