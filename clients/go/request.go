package sequitur

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/sequitur-mq/sequitur/wire"
)

// call is one request of which somebody waits for the answer.
type call struct {
	resp wire.Message
	done chan error // nil: resp is decoded
}

func (c *call) answer(meta, _ []byte) { c.done <- c.resp.Decode(meta) }
func (c *call) fail(err error)        { c.done <- err }

// ask sends a request and waits for its answer. lost says that the request may have
// been carried out though no answer came.
func (k *conn) ask(ctx context.Context, kind wire.Kind, req, resp wire.Message) (lost bool, err error) {
	c := &call{resp: resp, done: make(chan error, 1)}
	id, err := k.register(c, 0)
	if err != nil {
		return false, err
	}
	h, err := k.header(kind, id)
	if err != nil {
		k.forget(id)
		return false, err
	}
	_ = k.write(wire.AppendFrame(nil, h, req, 0)) // a failed write fails the call
	select {
	case err = <-c.done:
	case <-ctx.Done():
		if k.forget(id) {
			return true, ctx.Err()
		}
		err = <-c.done
	}
	return err != nil, err
}

// repeats says what may be done about a lost answer.
type repeats bool

const (
	repeatable repeats = true  // send the request again
	once       repeats = false // report that the outcome is unknown
)

// status returns the status that starts every response.
type status interface{ Err() error }

// askAny sends a request to any broker that answers, retrying for at most the request
// timeout. The error is an *Error.
func (c *Client) askAny(ctx context.Context, op string, kind wire.Kind, req, resp wire.Message, again repeats) error {
	retry := c.newRetrier()
	limit := time.Now().Add(c.opts.requestTimeout)
	for {
		err := c.askOnce(ctx, op, kind, req, resp, again)
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			gone := canceled(ctx, op, "")
			gone.MaybeDone = err.MaybeDone
			return gone
		}
		if !err.Retriable || err.MaybeDone && again == once {
			return err
		}
		wait := retry.failed(err.after)
		if err.Code == Code(wire.CodeOverloaded.String()) {
			wait = retry.refused(err.after)
		}
		if time.Now().Add(wait).After(limit) {
			return err
		}
		if pause(ctx, wait) != nil {
			return canceled(ctx, op, "")
		}
	}
}

// askOnce tries one broker after the other until one answers.
func (c *Client) askOnce(ctx context.Context, op string, kind wire.Kind, req, resp wire.Message, again repeats) *Error {
	var failure *Error
	for _, n := range c.candidates() {
		k, err := n.get(ctx, fetchLane)
		if err == nil {
			var lost bool
			if lost, err = k.ask(ctx, kind, req, resp); err == nil {
				err = resp.(status).Err()
			}
			if err == nil {
				return nil
			}
			failure = wireError(op, "", -1, err)
			failure.MaybeDone = failure.MaybeDone || lost
			if failure.Code != CodeUnreachable || lost && again == once {
				failure.Broker = n.addr
				return failure
			}
		}
		failure = wireError(op, "", -1, err)
		failure.Broker = n.addr
		if !failure.Retriable || ctx.Err() != nil {
			return failure
		}
	}
	if failure == nil {
		failure = wireError(op, "", -1, errNoServers)
	}
	return failure
}

// candidates lists the brokers to ask: those with a connection, then the known ones,
// then the servers given to Connect.
func (c *Client) candidates() []*node {
	addrs := append(c.meta.brokers(), c.servers...)
	var with, without []*node
	for i, addr := range addrs {
		if slices.Contains(addrs[:i], addr) {
			continue
		}
		if n := c.node(addr); n.live(fetchLane) != nil {
			with = append(with, n)
		} else {
			without = append(without, n)
		}
	}
	return append(with, without...)
}

// askNode sends a repeatable request to one broker, once. The error is an *Error.
func (n *node) ask(ctx context.Context, op string, kind wire.Kind, req, resp wire.Message) error {
	k, err := n.get(ctx, fetchLane)
	if err != nil {
		return err
	}
	if _, err = k.ask(ctx, kind, req, resp); err == nil {
		err = resp.(status).Err()
	}
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil && errors.Is(err, ctx.Err()):
		return canceled(ctx, op, "")
	}
	e := wireError(op, "", -1, err)
	e.Broker = n.addr
	return e
}
