package broker

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/sequitur-mq/sequitur/broker/cluster"
	"github.com/sequitur-mq/sequitur/broker/controller"
	"github.com/sequitur-mq/sequitur/consensus"
	"github.com/sequitur-mq/sequitur/replication/session"
	"github.com/sequitur-mq/sequitur/wire"
)

// clustered is what a broker of a cluster has besides that of one by itself.
type clustered struct {
	log       *slog.Logger
	listener  *cluster.Listener
	peers     *cluster.Peers
	node      *cluster.Node
	raft      *consensus.Raft
	meta      cluster.Metadata // the same
	driver    *controller.Driver
	following *following
	session   uint64        // tells this life of the process from others
	began     chan struct{} // closed when everything above is there, or nothing will be
	beginning sync.Once
	life      context.Context
	end       context.CancelFunc
	repairs   sync.WaitGroup

	mu       sync.Mutex
	sessions *session.Manager // nil until this broker knows which member it is
	closed   bool
}

func (c *clustered) begin() { c.beginning.Do(func() { close(c.began) }) }

// brokers lists who takes part, and the one that controls: 0 if none is known.
func (c *clustered) brokers() (list []wire.BrokerMetadata, controller uint32) {
	c.meta.View(func(m *consensus.Machine) {
		for _, b := range m.Brokers() {
			list = append(list, wire.BrokerMetadata{ID: b.Node, Addr: b.Addr, Rack: b.Rack})
		}
	})
	controller, _ = c.meta.Leader()
	return list, controller
}

// leadersWait bounds how long the creation of topics waits for their leaders.
const leadersWait = 5 * time.Second

// awaitLeaders waits until new topics are led, as far as this broker knows.
func (c *clustered) awaitLeaders(topics []*consensus.Topic) {
	ctx, cancel := context.WithTimeout(context.Background(), leadersWait)
	defer cancel()
	for {
		changed := c.following.next()
		waiting := false
		c.meta.View(func(m *consensus.Machine) {
			for _, t := range topics {
				if now, ok := m.TopicByID(t.ID); ok && !led(now) {
					waiting = true
				}
			}
		})
		if !waiting {
			return
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return
		}
	}
}

func led(t *consensus.Topic) bool {
	for i := range t.Partitions {
		if t.Partitions[i].Leader.IsZero() {
			return false
		}
	}
	return true
}

// close ends everything but the metadata, which the caller closes, and then the
// controller.
func (c *clustered) close() {
	c.end()
	c.begin()
	if c.node != nil {
		c.node.Close()
	}
	c.mu.Lock()
	c.closed = true
	sessions := c.sessions
	c.mu.Unlock()
	if sessions != nil {
		sessions.Close()
	}
	_ = c.listener.Close() // nobody is to hear of it
	c.peers.Close()
	c.repairs.Wait()
}
