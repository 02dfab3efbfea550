package controller

import (
	"testing"
	"time"

	"github.com/sequitur-mq/sequitur/consensus"
	"github.com/sequitur-mq/sequitur/replication"
	"github.com/sequitur-mq/sequitur/wire"
)

// BenchmarkFailover is the controller's own time, and that of the metadata machine, from
// the death of a broker that leads a third of 10,000 partitions until all are led.
func BenchmarkFailover(b *testing.B) {
	m := consensus.NewMachine()
	index := uint64(0)
	do := func(c consensus.Command) consensus.Result {
		index++
		r, err := m.Apply(index, consensus.Encode(c))
		if err != nil {
			b.Fatal(err)
		}
		return r
	}
	for node := range uint32(3) {
		do(consensus.RegisterBroker{Broker: consensus.Broker{Node: node + 1, DiskUUID: [16]byte{byte(node + 1)}, Session: 1, Voter: true}})
	}
	placed, err := PlaceTopic(m, wire.UUID{1}, 10_000, 3)
	if err != nil {
		b.Fatal(err)
	}
	do(consensus.CreateTopics{Topics: []*consensus.Topic{{
		ID: wire.UUID{1}, Name: "many", Partitions: placed, Config: wire.TopicConfig{Partitions: 10_000, ReplicationFactor: 3},
	}}})
	now := time.Duration(0)
	c := New(Settings{BalanceAfter: -1})
	dead := uint32(0)
	heartbeats := func() {
		for node := range uint32(3) {
			if node+1 == dead {
				continue
			}
			h := &Heartbeat{Node: node + 1, Session: 1}
			t, _ := m.Topic("many")
			for i, p := range t.Partitions {
				if p.Leader.Node == node+1 {
					h.Serving = append(h.Serving, FenceItem{t.ID, uint32(i), p.Epoch})
				}
			}
			if err := c.Heartbeat(now, h); err != nil {
				b.Fatal(err)
			}
		}
	}
	// settle carries effects out until there are none, and says how many commands it took.
	settle := func() (commands int) {
		for again := true; again; {
			again = false
			now += time.Millisecond
			for _, e := range c.Run(now) {
				switch e := e.(type) {
				case Propose:
					again = true
					commands++
					c.Proposed(now, e.ID, do(e.Command), nil, m)
				case SendFence:
					again = true
					ballots := make([]Ballot, len(e.Items))
					from := replication.Member{Node: e.Node, Disk: e.Node}
					for i, item := range e.Items {
						ballots[i].Vote = replication.Vote{From: from, Epoch: item.Epoch, LastEpoch: item.Epoch - 1, End: 5, Fence: item.Epoch}
					}
					c.Fenced(now, e.Node, e.ID, from, ballots, nil)
				case SendProbe:
					again = true
					c.Probed(now, e.Node, e.ID, ProbeRefused, 0)
				}
			}
		}
		return commands
	}
	c.Became(now, 1, m)
	heartbeats()
	settle()
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		b.StopTimer()
		now += 20 * time.Second // all back-offs are over
		c.ran = now
		dead = 0
		heartbeats()
		settle()
		dead = uint32(i%3) + 1
		b.StartTimer()
		c.Disconnected(now, dead)
		if n := settle(); n != 2 && i > 0 {
			b.Fatalf("%d commands", n)
		}
	}
}
