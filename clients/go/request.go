package sequitur

import (
	"context"
	"errors"
	"fmt"
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

// status returns the status that starts every response.
type status interface{ Err() error }

const (
	// metadataPatience is how long a broker is waited for before another one is asked
	// for metadata; mostPatience the same for other questions that cost brokers little.
	metadataPatience = 150 * time.Millisecond
	mostPatience     = time.Second
)

// question says how to ask for something that any broker can answer.
type question struct {
	op       string
	kind     wire.Kind
	avoid    *node         // is asked last
	without  *node         // is not asked
	limit    time.Duration // for retries; 0: every broker is tried once
	patience time.Duration // after which the next broker is asked; 0: as long as it takes
	final    wire.Code     // a refusal after which nothing is tried again: the broker has done so
}

// ask sends a request to any broker that answers. from is who did. lost says that an
// attempt before may have been carried out though no answer came; on failure that is
// MaybeDone of the error.
func (c *Client) ask(ctx context.Context, q question, req, resp wire.Message) (from *node, lost bool, failure *Error) {
	retry := c.newHunter()
	limit := time.Now().Add(q.limit)
	for {
		var maybe bool
		from, maybe, failure = c.askOnce(ctx, q, req, resp)
		lost = lost || maybe
		if failure == nil {
			return from, lost, nil
		}
		failure.MaybeDone = lost
		if ctx.Err() != nil {
			gone := canceled(ctx, q.op, "")
			gone.MaybeDone = lost
			return nil, lost, gone
		}
		wait := retry.failed(failure.after)
		if failure.Code == Code(wire.CodeOverloaded.String()) {
			wait = retry.refused(failure.after)
		}
		final := q.final != wire.CodeNone && failure.Code == Code(q.final.String())
		if !failure.Retriable || final || q.limit == 0 || time.Now().Add(wait).After(limit) {
			return nil, lost, failure
		}
		if pause(ctx, wait) != nil {
			gone := canceled(ctx, q.op, "")
			gone.MaybeDone = lost
			return nil, lost, gone
		}
		q.patience *= 2
	}
}

// askOnce tries one broker after the other until one answers.
func (c *Client) askOnce(ctx context.Context, q question, req, resp wire.Message) (from *node, lost bool, failure *Error) {
	nodes := c.candidates(q.avoid, q.without)
	for i, n := range nodes {
		patience := q.patience
		if len(nodes) == 1 && q.without == nil {
			patience = 0
		}
		maybe, err := n.askWithin(ctx, patience, q.kind, req, resp)
		if err == nil {
			return n, lost, nil
		}
		failure = wireError(q.op, "", -1, err)
		failure.Broker = n.addr
		lost = lost || maybe || failure.MaybeDone
		var refusal *wire.Error
		refused := errors.As(err, &refusal)
		if ctx.Err() != nil || refused && (!elsewhere(refusal.Code) || !failure.Retriable) || !failure.Retriable {
			return nil, lost, failure
		}
		if refused && i == len(nodes)-1 {
			return nil, lost, failure
		}
	}
	if failure == nil {
		failure = wireError(q.op, "", -1, errNoServers)
	}
	if len(nodes) > 1 {
		for _, n := range nodes {
			n.revive() // breakers are for when there is somebody else to ask
		}
	}
	return nil, lost, failure
}

// askWithin sends one request to one broker, for at most a time if that is not 0.
func (n *node) askWithin(ctx context.Context, patience time.Duration, kind wire.Kind, req, resp wire.Message) (lost bool, err error) {
	try := ctx
	if patience > 0 {
		var cancel context.CancelFunc
		try, cancel = context.WithTimeout(ctx, patience)
		defer cancel()
	}
	k, err := n.get(try, fetchLane)
	if err == nil {
		if lost, err = k.ask(try, kind, req, resp); err == nil {
			err = resp.(status).Err()
		}
	}
	if err != nil && ctx.Err() == nil && try.Err() != nil {
		n.silent.Store(n.client.now())
		return lost, fmt.Errorf("%s did not answer within %v", n.addr, patience)
	}
	if err == nil {
		n.silent.Store(0)
	}
	return lost, err
}

// silentFor is how long a broker that did not answer in time is asked last.
const silentFor = 2 * time.Second

// candidates lists the brokers to ask: those with a connection, then the known ones,
// then the servers given to Connect, then former brokers, then those that were silent
// of late or are to be avoided.
func (c *Client) candidates(avoid, without *node) []*node {
	current, former := c.meta.addresses()
	addrs := append(append(current, c.servers...), former...)
	var live, idle, failed []*node
	for i, addr := range addrs {
		if slices.Contains(addrs[:i], addr) {
			continue
		}
		n := c.node(addr)
		since := n.silent.Load()
		switch {
		case n == without:
		case n == avoid, since != 0 && c.now()-since < int64(silentFor):
			failed = append(failed, n)
		case n.live(fetchLane) != nil:
			live = append(live, n)
		case n.failing():
			failed = append([]*node{n}, failed...)
		default:
			idle = append(idle, n)
		}
	}
	return slices.Concat(live, idle, failed)
}

// mayAskOthers reports whether there are brokers besides one.
func (c *Client) mayAskOthers(than *node) bool {
	current, _ := c.meta.addresses()
	return slices.ContainsFunc(current, func(addr string) bool { return than == nil || addr != than.addr })
}

// ask sends a repeatable request to one broker, once. The error is an *Error.
func (n *node) ask(ctx context.Context, op string, kind wire.Kind, req, resp wire.Message, patience time.Duration) error {
	_, err := n.askWithin(ctx, patience, kind, req, resp)
	if err == nil {
		return nil
	}
	if ctx.Err() != nil && errors.Is(err, ctx.Err()) {
		return canceled(ctx, op, "")
	}
	e := wireError(op, "", -1, err)
	e.Broker = n.addr
	return e
}
