package sequitur

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sony/gobreaker/v2"
)

// laneKind says what a connection is for: a broker has one connection per lane, so
// that long polls and big fetches delay no produce.
type laneKind int

const (
	produceLane laneKind = iota
	fetchLane            // and everything else
	lanes
)

// node is a broker as seen by this client: its address, circuit breaker and lanes.
type node struct {
	client  *Client
	addr    string
	breaker atomic.Pointer[gobreaker.CircuitBreaker[*conn]]
	lanes   [lanes]lane
	silent  atomic.Int64 // client clock when a question was not answered in time, 0: answered since

	mu      sync.Mutex
	lastErr error // of the last attempt to connect
}

type lane struct {
	dialing chan struct{} // holds one token while somebody dials
	conn    atomic.Pointer[conn]
}

func newNode(c *Client, addr string) *node {
	n := &node{client: c, addr: addr}
	for i := range n.lanes {
		n.lanes[i].dialing = make(chan struct{}, 1)
	}
	n.breaker.Store(n.newBreaker())
	return n
}

func (n *node) newBreaker() *gobreaker.CircuitBreaker[*conn] {
	c := n.client
	return gobreaker.NewCircuitBreaker[*conn](gobreaker.Settings{
		Name:        n.addr,
		MaxRequests: 1, // half-open: one attempt decides
		Timeout:     c.opts.breakerOpen,
		ReadyToTrip: func(counts gobreaker.Counts) bool {
			return counts.ConsecutiveFailures >= c.opts.breakerAfter
		},
		OnStateChange: func(addr string, from, to gobreaker.State) {
			c.opts.hooks.BreakerChanged(addr, from.String(), to.String())
		},
		IsExcluded: func(err error) bool { return errors.Is(err, errCallerGone) },
	})
}

// revive closes the breaker: others say that the broker is there, or nobody else is.
func (n *node) revive() {
	old := n.breaker.Load()
	if state := old.State(); state != gobreaker.StateClosed && n.breaker.CompareAndSwap(old, n.newBreaker()) {
		n.client.opts.hooks.BreakerChanged(n.addr, state.String(), gobreaker.StateClosed.String())
	}
}

// failing reports whether the last attempt to connect failed.
func (n *node) failing() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.lastErr != nil
}

// errCallerGone marks attempts which the caller gave up: they say nothing about the
// broker.
var errCallerGone = errors.New("the caller gave up")

// live returns the lane's connection if there is one that works.
func (n *node) live(kind laneKind) *conn {
	if k := n.lanes[kind].conn.Load(); k != nil && !k.dead.Load() {
		return k
	}
	return nil
}

// get returns the lane's connection, connecting once if there is none. Concurrent
// callers share the attempt. The error is an *Error.
func (n *node) get(ctx context.Context, kind laneKind) (*conn, error) {
	if k := n.live(kind); k != nil {
		return k, nil
	}
	l := &n.lanes[kind]
	select {
	case l.dialing <- struct{}{}:
		defer func() { <-l.dialing }()
	case <-ctx.Done():
		return nil, canceled(ctx, "connect to "+n.addr, "")
	}
	if k := n.live(kind); k != nil {
		return k, nil
	}
	k, err := n.breaker.Load().Execute(func() (*conn, error) { return n.dial(ctx) })
	if err != nil {
		return nil, n.unreachable(ctx, err)
	}
	l.conn.Store(k)
	return k, nil
}

func (n *node) dial(ctx context.Context) (*conn, error) {
	began := time.Now()
	k, err := dialConn(ctx, n.client, n.addr)
	n.client.opts.hooks.Connected(n.addr, time.Since(began), err)
	if err != nil && (ctx.Err() != nil || n.client.ctx.Err() != nil) {
		return nil, fmt.Errorf("%w: %w", errCallerGone, err)
	}
	n.mu.Lock()
	n.lastErr = err
	n.mu.Unlock()
	return k, err
}

// unreachable explains why there is no connection.
func (n *node) unreachable(ctx context.Context, err error) error {
	op := "connect to " + n.addr
	switch {
	case n.client.ctx.Err() != nil:
		return closed(op, "the client")
	case ctx.Err() != nil:
		return canceled(ctx, op, "")
	case errors.Is(err, gobreaker.ErrOpenState) || errors.Is(err, gobreaker.ErrTooManyRequests):
		n.mu.Lock()
		last := n.lastErr
		n.mu.Unlock()
		return &Error{Code: CodeUnreachable, Op: op, Partition: -1, Broker: n.addr, Retriable: true, Err: last,
			Message: fmt.Sprintf("its circuit breaker is open after repeated failures, the next attempt comes within %v; check that the broker runs", n.client.opts.breakerOpen)}
	}
	e := wireError(op, "", -1, err)
	if e.Code == CodeUnreachable {
		e.Message = "no connection; check the address and that the broker runs"
	}
	return e
}
