package broker

import (
	"context"
	"encoding/json"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sequitur-mq/sequitur/consensus"
	"github.com/sequitur-mq/sequitur/consensus/controller"
)

// status asks the controller, over any broker that runs.
func (bed *clusterBed) status() (s controller.Status) {
	bed.t.Helper()
	bed.eventually("a controller answers", func(ctx context.Context, b *Broker) bool {
		body, err := b.handler.clustered.node.Admin(ctx, controller.AdminStatus, nil, true)
		return err == nil && json.Unmarshal(body, &s) == nil
	})
	return s
}

func (bed *clusterBed) order(r controller.Request) {
	bed.t.Helper()
	body, err := json.Marshal(r)
	require.NoError(bed.t, err)
	bed.eventually("a controller takes the order", func(ctx context.Context, b *Broker) bool {
		_, err = b.handler.clustered.node.Admin(ctx, controller.AdminChange, body, true)
		if err != nil {
			bed.t.Logf("%s: %v", r.Action, err)
		}
		return err == nil
	})
}

// eventually tries fn with brokers that run until it is true.
func (bed *clusterBed) eventually(what string, fn func(context.Context, *Broker) bool) {
	bed.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for {
		for _, b := range bed.brokers {
			if b != nil && fn(ctx, b) {
				return
			}
		}
		select {
		case <-ctx.Done():
			bed.t.Fatalf("not in time: %s", what)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// settled waits until nothing moves, everything is led and all replicas are there.
func (bed *clusterBed) settled() (s controller.Status) {
	bed.t.Helper()
	bed.eventually("the cluster is at rest", func(context.Context, *Broker) bool {
		s = bed.status()
		return len(s.Moves) == 0 && s.Partitions.WithoutLeader == 0 && s.Partitions.UnderReplicated == 0
	})
	return s
}

func (bed *clusterBed) topic(name string) (t *consensus.Topic) {
	for _, b := range bed.brokers {
		if b != nil {
			b.handler.clustered.meta.View(func(m *consensus.Machine) { t, _ = m.Topic(name) })
			return t
		}
	}
	return nil
}

// join starts one more broker.
func (bed *clusterBed) join() (i int) {
	bed.t.Helper()
	i = len(bed.configs)
	var addrs []string
	for _, c := range bed.configs {
		addrs = append(addrs, c.ClusterListen)
	}
	addrs = append(addrs, freePort(bed.t))
	bed.configs = append(bed.configs, clusterConfig(bed.t, i, addrs))
	bed.brokers = append(bed.brokers, nil)
	bed.start(i)
	bed.await()
	return i
}

// Leaders and replicas move from broker to broker, and brokers come and go, while
// producers send: nothing is lost, doubled or out of order.
func TestMovesUnderLoad(t *testing.T) {
	bed := startCluster(t, 3)
	c := bed.client()
	bed.create(c, "orders", 6, 3)
	loads := []*load{startLoad(t, c, "orders", 0)}
	step := func(name string, fn func()) {
		began := time.Now()
		_, from := loads[0].longest(0)
		fn()
		s := bed.settled()
		longest, _ := loads[0].longest(from)
		t.Logf("%s: %v, longest pause %v", name, time.Since(began).Round(time.Millisecond), longest)
		for _, b := range s.Brokers {
			t.Logf("  broker %d#%d %s leads %d, replicas %d", b.Node, b.Disk, b.State, b.Leaders, b.Replicas)
		}
	}
	step("at the start", func() { <-time.After(200 * time.Millisecond) })
	step("move all leaders", func() {
		for i, p := range bed.topic("orders").Partitions {
			to := p.Set.Members[(slices.Index(p.Set.Members, p.Leader)+1)%3]
			bed.order(controller.Request{Action: controller.MoveLeader, Topic: bed.topic("orders").ID, Partition: uint32(i), Node: to.Node})
		}
	})
	step("join", func() { bed.join() })
	step("add", func() { bed.order(controller.Request{Action: controller.Add, Node: 4}) })
	step("drain", func() {
		bed.order(controller.Request{Action: controller.Drain, Node: 2})
		bed.eventually("broker 2 holds nothing", func(context.Context, *Broker) bool { return bed.status().Brokers[1].Replicas == 0 })
	})
	step("wipe", func() {
		bed.kill(2)
		require.NoError(t, os.RemoveAll(bed.configs[2].DataDir))
		bed.start(2)
		bed.await()
	})
	step("cancel the drain", func() { bed.order(controller.Request{Action: controller.Cancel, Node: 2}) })
	step("rebalance", func() { bed.order(controller.Request{Action: controller.Rebalance}) })
	step("stop as planned", func() {
		bed.stop(0)
		bed.start(0)
		bed.await()
	})
	for _, l := range loads {
		n := l.end()
		t.Logf("%d records acknowledged", n)
	}
	loads[0].check(c)
}
