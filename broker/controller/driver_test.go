package controller

import (
	"context"
	"encoding/json"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/sequitur-mq/sequitur/consensus/controller"
	"github.com/sequitur-mq/sequitur/wire"
	"github.com/sequitur-mq/sequitur/wire/peer"
)

// All tests here run in virtual time, in which sleeping is letting things happen.

func TestKilledBrokersLeadersMove(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBed(t, 1, 2, 3)
		defer b.close()
		id := b.createTopic("orders", 30, 3)
		pass(500 * time.Millisecond)
		leaders, all := b.led(id)
		require.True(t, all)
		require.Equal(t, map[uint32]int{1: 10, 2: 10, 3: 10}, leaders)

		b.kill(3)
		pass(20 * time.Millisecond) // two entries of consensus, a probe, a round of votes
		leaders, all = b.led(id)
		require.True(t, all)
		require.Equal(t, map[uint32]int{1: 15, 2: 15}, leaders)
		for _, p := range b.partitions(id) {
			require.LessOrEqual(t, p.Epoch, uint32(2))
		}
	})
}

func TestSilentBrokerIsFoundDead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBed(t, 1, 2, 3)
		defer b.close()
		id := b.createTopic("orders", 6, 3)
		pass(500 * time.Millisecond)
		b.hang(2)
		pass(750 * time.Millisecond)
		for _, p := range b.partitions(id) {
			require.NotEqual(t, uint32(2), p.Leader.Node)
			require.False(t, p.Leader.IsZero())
		}
		s, err := b.driver.Status(context.Background())
		require.NoError(t, err)
		require.Equal(t, "dead", s.Brokers[1].State)
		require.Equal(t, 6, s.Partitions.UnderReplicated)
		require.Zero(t, s.Partitions.WithoutLeader)
	})
}

// A controller that comes into office learns all it needs, and carries on; the one that
// left it does nothing more.
func TestControllerMoves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBed(t, 1, 2, 3)
		defer b.close()
		id := b.createTopic("orders", 6, 3)
		pass(500 * time.Millisecond)

		old, next := b.driver, b.newDriver()
		b.kill(3)
		old.SetLeader(false, 1)
		next.SetLeader(true, 2)
		b.mu.Lock()
		b.driver = next
		b.mu.Unlock()
		pass(30 * time.Millisecond)
		_, all := b.led(id)
		require.True(t, all)
		require.Equal(t, wire.CodeNotLeader, old.Heartbeat(&peer.HeartbeatRequest{Node: 1, Session: 1}).Code)
		_, err := old.Status(context.Background())
		require.ErrorIs(t, err, wire.ErrNotLeader)
		old.Close()

		resp := next.Heartbeat(&peer.HeartbeatRequest{Node: 1, Disk: 1, Session: 1})
		require.NoError(t, resp.Err())
		require.Equal(t, uint64(2), resp.Term)
		require.Equal(t, wire.CodeInvalidRequest, next.Heartbeat(&peer.HeartbeatRequest{Node: 1, Disk: 1, Session: 99}).Code, "it must register")
	})
}

func TestLeavingWaitsForTheHeirs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBed(t, 1, 2, 3)
		defer b.close()
		id := b.createTopic("orders", 9, 3)
		pass(500 * time.Millisecond)
		resp := b.driver.Leaving(context.Background(), 2)
		require.NoError(t, resp.Err())
		require.Zero(t, resp.Leaders)
		leaders, _ := b.led(id)
		require.Zero(t, leaders[2])
		require.Equal(t, wire.CodeNotLeader, b.driver.Leaving(context.Background(), 7).Code)
	})
}

func TestAdministratorsOrders(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBed(t, 1, 2, 3, 4)
		defer b.close()
		id := b.createTopic("orders", 4, 3)
		pass(500 * time.Millisecond)
		p := b.partitions(id)[0]
		to := p.Set.Members[1].Node
		if to == p.Leader.Node {
			to = p.Set.Members[0].Node
		}
		order, err := json.Marshal(controller.Request{Action: controller.MoveLeader, Topic: id, Node: to})
		require.NoError(t, err)
		_, err = b.driver.Admin(context.Background(), controller.AdminChange, order)
		require.NoError(t, err)
		require.Equal(t, to, b.partitions(id)[0].Leader.Node)

		require.NoError(t, b.driver.Order(context.Background(), controller.Request{Action: controller.Drain, Node: 4}))
		body, err := b.driver.Admin(context.Background(), controller.AdminStatus, nil)
		require.NoError(t, err)
		var s controller.Status
		require.NoError(t, json.Unmarshal(body, &s))
		require.Equal(t, uint32(1), s.Controller)
		require.Equal(t, "draining", s.Brokers[3].State)
		require.NotEmpty(t, s.Moves)

		err = b.driver.Order(context.Background(), controller.Request{Action: controller.Drain, Node: 9})
		require.ErrorIs(t, err, wire.ErrInvalidRequest)
		_, err = b.driver.Admin(context.Background(), controller.AdminChange, []byte("{"))
		require.ErrorIs(t, err, wire.ErrInvalidRequest)
		_, err = b.driver.Admin(context.Background(), 99, nil)
		require.ErrorIs(t, err, wire.ErrUnsupported)
	})
}

// An order that is not carried out in time says so, and its answer hurts nobody later.
func TestOrdersTimeOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBed(t, 1, 2, 3, 4)
		defer b.close()
		b.createTopic("orders", 1, 3)
		pass(200 * time.Millisecond)
		ctx, cancel := context.WithTimeout(context.Background(), time.Millisecond)
		defer cancel()
		err := b.driver.Order(ctx, controller.Request{Action: controller.Drain, Node: 4})
		require.ErrorIs(t, err, wire.ErrTimeout)
		pass(time.Second)
	})
}

// Metadata that cannot be written are tried again, without a storm.
func TestFailedProposalsAreTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBed(t, 1, 2, 3)
		defer b.close()
		id := b.createTopic("orders", 3, 3)
		pass(500 * time.Millisecond)
		b.meta.mu.Lock()
		b.meta.err = errors.New("no majority")
		b.meta.mu.Unlock()
		b.kill(2)
		pass(2 * time.Second)
		b.meta.mu.Lock()
		b.meta.err = nil
		b.meta.mu.Unlock()
		pass(2 * time.Second)
		_, all := b.led(id)
		require.True(t, all)
	})
}

// Close ends calls that hang, and whoever waits for an answer.
func TestCloseWhileCallsHang(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBed(t, 1, 2, 3)
		id := b.createTopic("orders", 1, 3)
		pass(500 * time.Millisecond)
		b.hang(1)
		b.hang(2)
		b.hang(3)
		leader := b.partitions(id)[0].Leader.Node
		waiting := make(chan peer.LeavingResponse, 1)
		go func() { waiting <- b.driver.Leaving(context.Background(), leader) }()
		pass(20 * time.Millisecond) // votes are being asked for
		d := b.driver
		d.Close()
		defer b.close()
		require.Error(t, func() error { r := <-waiting; return r.Err() }())
		require.Equal(t, wire.CodeShuttingDown, d.Heartbeat(&peer.HeartbeatRequest{Node: 1}).Code)
	})
}

func TestMetricsAreShownByTheController(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBed(t, 1, 2, 3)
		defer b.close()
		registry := prometheus.NewRegistry()
		d := New(Options{Self: 2, Metadata: b.meta, RPC: b, Registerer: registry})
		b.meta.follow(d)
		b.createTopic("orders", 5, 3)
		pass(300 * time.Millisecond)
		d.SetLeader(true, 2)
		pass(1500 * time.Millisecond)
		families, err := registry.Gather()
		require.NoError(t, err)
		values := map[string]float64{}
		for _, f := range families {
			if g := f.GetMetric()[0].GetGauge(); g != nil {
				values[f.GetName()] = g.GetValue()
			}
		}
		require.Equal(t, 1.0, values["sequitur_controller_active"])
		require.Equal(t, 5.0, values["sequitur_controller_partitions"])
		d.Close()
		families, err = registry.Gather()
		require.NoError(t, err)
		require.Empty(t, families)
	})
}
