package controller

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/sequitur-mq/sequitur/consensus"
	"github.com/sequitur-mq/sequitur/consensus/controller"
	"github.com/sequitur-mq/sequitur/replication"
	"github.com/sequitur-mq/sequitur/wire"
	"github.com/sequitur-mq/sequitur/wire/peer"
)

var errClosed = wire.Errorf(wire.CodeShuttingDown, "the broker is stopping: ask another one")

func notController(self uint32) error {
	return wire.Errorf(wire.CodeNotLeader, "broker %d is not the controller", self)
}

// ask has the machine's goroutine run fn, and waits for that.
func (d *Driver) ask(ctx context.Context, fn func(now time.Duration)) error {
	done := make(chan struct{})
	if !d.tell(func(now time.Duration) { fn(now); close(done) }) {
		return errClosed
	}
	select {
	case <-done:
		return nil
	case <-d.ended:
		return errClosed
	case <-ctx.Done():
		return wire.Errorf(wire.CodeTimeout, "the controller is busy: %v", ctx.Err())
	}
}

// Heartbeat takes in what a broker says about itself. The answer is NOT_LEADER if this
// broker is not the controller, INVALID_REQUEST if the broker has to register first.
func (d *Driver) Heartbeat(req *peer.HeartbeatRequest) (resp peer.HeartbeatResponse) {
	h := heartbeatOf(req)
	err := d.ask(context.Background(), func(now time.Duration) {
		if !d.machine.Active() {
			resp.Status = wire.StatusOf(notController(d.o.Self))
			return
		}
		err := d.machine.Heartbeat(now, h)
		switch {
		case errors.Is(err, controller.ErrRegister):
			resp.Status = wire.StatusOf(wire.Errorf(wire.CodeInvalidRequest, "%v", err))
		case err != nil:
			resp.Status = wire.StatusOf(notController(d.o.Self))
		}
		resp.Term = d.machine.Term()
		resp.Applied = d.machine.Applied()
	})
	if err != nil {
		resp.Status = wire.StatusOf(err)
	}
	return resp
}

func heartbeatOf(req *peer.HeartbeatRequest) *controller.Heartbeat {
	h := &controller.Heartbeat{
		Node: req.Node, Disk: req.Disk, Session: req.Session, Applied: req.Applied, DiskFree: req.DiskFree,
		Partitions: req.Partitions, Leaders: req.Leaders, Full: req.Full,
	}
	for _, s := range req.Serving {
		h.Serving = append(h.Serving, controller.FenceItem{Topic: s.ID.Topic, Partition: s.ID.Partition, Epoch: s.Epoch})
	}
	for _, l := range req.CaughtUp {
		h.CaughtUp = append(h.CaughtUp, controller.CaughtUp{
			FenceItem: controller.FenceItem{Topic: l.ID.Topic, Partition: l.ID.Partition, Epoch: l.Epoch},
			Member:    replication.Member(l.Member),
		})
	}
	for _, s := range req.Suspects {
		h.Suspects = append(h.Suspects, controller.Suspect{Topic: s.Topic, Partition: s.Partition})
	}
	return h
}

// request gives the machine something to answer, and waits for the answer.
func (d *Driver) request(ctx context.Context, fn func(now time.Duration, id uint64)) (controller.Reply, error) {
	id := d.lastReply.Add(1)
	answer := make(chan controller.Reply, 1)
	if !d.tell(func(now time.Duration) {
		d.replies[id] = answer
		fn(now, id)
	}) {
		return controller.Reply{}, errClosed
	}
	select {
	case r := <-answer:
		return r, r.Err
	case <-d.ended:
		return controller.Reply{}, errClosed
	case <-ctx.Done():
		d.tell(func(time.Duration) { delete(d.replies, id) })
		return controller.Reply{}, wire.Errorf(wire.CodeTimeout, "the controller has not done it in time: %v; it may still come about", ctx.Err())
	}
}

// Leaving has everything handed over that a broker leads which is going to stop. It
// answers when that is done or takes too long.
func (d *Driver) Leaving(ctx context.Context, node uint32) (resp peer.LeavingResponse) {
	r, err := d.request(ctx, func(now time.Duration, id uint64) { d.machine.Leaving(now, id, node) })
	if err != nil {
		resp.Status = wire.StatusOf(err)
		return resp
	}
	resp.Leaders = uint32(r.Leaders)
	return resp
}

// Admin answers a question of an administrator or carries out an order; kinds and
// bodies are those of package consensus/controller.
func (d *Driver) Admin(ctx context.Context, kind uint16, body []byte) ([]byte, error) {
	switch kind {
	case controller.AdminStatus:
		s, err := d.Status(ctx)
		if err != nil {
			return nil, err
		}
		return json.Marshal(s)
	case controller.AdminChange:
		var r controller.Request
		if err := json.Unmarshal(body, &r); err != nil {
			return nil, wire.Errorf(wire.CodeInvalidRequest, "order of an administrator: %v", err)
		}
		return nil, d.Order(ctx, r)
	}
	return nil, wire.Errorf(wire.CodeUnsupported, "request %d of an administrator is not known to this version", kind)
}

// Order carries out an order of an administrator; Status shows how it goes on.
func (d *Driver) Order(ctx context.Context, r controller.Request) error {
	_, err := d.request(ctx, func(now time.Duration, id uint64) { d.machine.Request(now, id, r) })
	if errors.Is(err, consensus.ErrChanged) {
		err = wire.Errorf(wire.CodeOverloaded, "the metadata changed meanwhile: ask again")
	}
	if err != nil {
		return fmt.Errorf("%s: %w", r.Action, err)
	}
	return nil
}

// Status describes the cluster.
func (d *Driver) Status(ctx context.Context) (*controller.Status, error) {
	var s controller.Status
	active := false
	err := d.ask(ctx, func(now time.Duration) {
		if active = d.machine.Active(); active {
			s = d.machine.Status(now)
		}
	})
	switch {
	case err != nil:
		return nil, err
	case !active:
		return nil, notController(d.o.Self)
	}
	s.Controller = d.o.Self
	return &s, nil
}
