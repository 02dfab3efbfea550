package controller

import (
	"context"
	"errors"
	"syscall"

	"time"

	"github.com/sequitur-mq/sequitur/consensus"
	"github.com/sequitur-mq/sequitur/consensus/controller"
	"github.com/sequitur-mq/sequitur/replication"
	"github.com/sequitur-mq/sequitur/wire/peer"
)

// perform starts what the machine wants done.
func (d *Driver) perform(e controller.Effect) {
	switch e := e.(type) {
	case controller.Propose:
		d.metrics.proposed(e.Command)
		d.o.Metadata.Propose(e.Command, func(r consensus.Result, err error) {
			d.tell(func(now time.Duration) {
				d.view(func(m *consensus.Machine) { d.machine.Proposed(now, e.ID, r, err, m) })
			})
		})
	case controller.SendFence:
		d.call(func() { d.fence(e) })
	case controller.SendProbe:
		d.call(func() { d.probe(e) })
	case controller.Reply:
		if to := d.replies[e.ID]; to != nil {
			delete(d.replies, e.ID)
			to <- e // has room
		}
	case controller.Note:
		if e.Warn {
			d.o.Logger.Warn(e.Text)
		} else {
			d.o.Logger.Info(e.Text)
		}
	}
}

func (d *Driver) call(fn func()) {
	d.calls.Add(1)
	go func() {
		defer d.calls.Done()
		fn()
	}()
}

func (d *Driver) fence(e controller.SendFence) {
	ctx, cancel := context.WithTimeout(d.ctx, d.o.FenceTimeout)
	defer cancel()
	req := &peer.FenceRequest{Term: e.Term, Items: make([]peer.EpochOf, len(e.Items))}
	for i, item := range e.Items {
		req.Items[i] = peer.EpochOf{ID: peer.PartitionID{Topic: item.Topic, Partition: item.Partition}, Epoch: item.Epoch}
	}
	resp, err := d.o.RPC.Fence(ctx, e.Node, req)
	var ballots []controller.Ballot
	var from replication.Member
	if err == nil {
		from = replication.Member(resp.From)
		ballots = make([]controller.Ballot, len(resp.Items))
		for i := range resp.Items {
			v := &resp.Items[i]
			ballots[i] = controller.Ballot{Err: v.Err(), Vote: replication.Vote{
				From: from, Epoch: v.Epoch, LastEpoch: v.LastEpoch, End: v.End, Suspect: v.Suspect, Fence: v.Fence,
			}}
		}
	}
	d.tell(func(now time.Duration) { d.machine.Fenced(now, e.Node, e.ID, from, ballots, err) })
}

func (d *Driver) probe(e controller.SendProbe) {
	ctx, cancel := context.WithTimeout(d.ctx, d.o.ProbeTimeout)
	defer cancel()
	session, err := d.o.RPC.Probe(ctx, e.Node)
	result := controller.ProbeAnswered
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		result = controller.ProbeRefused
	case err != nil:
		result = controller.ProbeSilent
	}
	d.tell(func(now time.Duration) { d.machine.Probed(now, e.Node, e.ID, result, session) })
}
