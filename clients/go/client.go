package sequitur

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"
)

const clientVersion = "0.1"

// Client is a connection to a cluster. It is safe for concurrent use.
type Client struct {
	opts    clientOptions
	servers []string
	ctx     context.Context // ends with Close
	cancel  context.CancelFunc
	start   time.Time // of the client's clock
	meta    metadata
	scout   *scout
	wg      sync.WaitGroup // every goroutine of the client itself

	mu     sync.Mutex
	closed bool
	nodes  map[string]*node
	conns  map[*conn]struct{}
	users  map[user]struct{}
}

// user is a producer or consumer.
type user interface {
	// abandon closes it, if nobody else did.
	abandon()
	// learned brings fresh metadata of a topic, or why there are none. It may come
	// though nothing was asked for.
	learned(topic string, info *topicInfo, err *Error)
	// suspect says that a broker leaves requests unanswered.
	suspect(n *node)
}

// Connect reaches one of the servers, "host:port" separated by commas. Any broker of the
// cluster will do; the others are learnt from it, and used too when those named here are
// gone later. It tries each server once and fails with [ErrUnreachable] when none answers.
func Connect(ctx context.Context, servers string, opts ...Option) (*Client, error) {
	c := &Client{
		opts: defaultClientOptions(), start: time.Now(), meta: newMetadata(),
		nodes: map[string]*node{}, conns: map[*conn]struct{}{}, users: map[user]struct{}{},
	}
	for _, o := range opts {
		o(&c.opts)
	}
	if err := c.opts.check(); err != nil {
		return nil, err
	}
	for s := range strings.SplitSeq(servers, ",") {
		if s = strings.TrimSpace(s); s != "" {
			c.servers = append(c.servers, s)
		}
	}
	if err := validServers(c.servers); err != nil {
		return nil, err
	}
	c.ctx, c.cancel = context.WithCancel(context.Background())
	c.scout = newScout(c)
	c.wg.Add(2)
	go c.watch()
	go c.scout.run()
	var tries []func(context.Context) (*conn, error)
	for _, addr := range c.servers {
		tries = append(tries, func(ctx context.Context) (*conn, error) { return c.node(addr).get(ctx, fetchLane) })
	}
	_, failures := first(ctx, metadataPatience, tries)
	if len(failures) == 0 {
		return c, nil
	}
	c.Close()
	if len(failures) == 1 {
		return nil, failures[0]
	}
	return nil, &Error{Code: CodeUnreachable, Op: "connect", Partition: -1, Retriable: true, Err: errors.Join(failures...),
		Message: "none of the servers answers; check the addresses and that a broker runs"}
}

// Close closes all connections. Producers and consumers of the client fail with
// [ErrClosed] from then on; records not yet acknowledged are given up, so close
// producers first. It waits for the goroutines of the client and of what it made.
func (c *Client) Close() error {
	c.mu.Lock()
	c.closed = true
	users := c.users
	c.users = map[user]struct{}{}
	c.mu.Unlock()
	for u := range users {
		u.abandon()
	}
	c.cancel()
	c.mu.Lock()
	for k := range c.conns {
		k.kill(ErrClosed)
	}
	c.mu.Unlock()
	c.wg.Wait()
	return nil
}

// now is the client's clock: nanoseconds since it was made, at least 1.
func (c *Client) now() int64 { return int64(time.Since(c.start)) + 1 }

// node returns the node of an address.
func (c *Client) node(addr string) *node {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := c.nodes[addr]
	if n == nil {
		n = newNode(c, addr)
		c.nodes[addr] = n
	}
	return n
}

// adopt takes a new connection into the client's care and starts its read loop; false
// if the client is closed.
func (c *Client) adopt(k *conn) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return false
	}
	c.conns[k] = struct{}{}
	c.wg.Add(1)
	go func() {
		defer c.wg.Done()
		k.readLoop()
	}()
	return true
}

// disconnected is called by a connection's read loop at its end.
func (c *Client) disconnected(k *conn, cause error) {
	c.mu.Lock()
	delete(c.conns, k)
	report := !c.closed
	c.mu.Unlock()
	if report {
		c.opts.hooks.Disconnected(k.addr, cause)
	}
}

// enlist takes a producer or consumer into the client's care.
func (c *Client) enlist(op string, u user) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return closed(op, "the client")
	}
	c.users[u] = struct{}{}
	return nil
}

func (c *Client) discharge(u user) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.users, u)
}

// watch finds connections that do not answer.
func (c *Client) watch() {
	defer c.wg.Done()
	tick := time.NewTicker(max(min(c.opts.requestTimeout/16, suspectAfter/4), time.Millisecond))
	defer tick.Stop()
	var conns []*conn
	for {
		select {
		case <-tick.C:
		case <-c.ctx.Done():
			return
		}
		conns = conns[:0]
		c.mu.Lock()
		for k := range c.conns {
			conns = append(conns, k)
		}
		c.mu.Unlock()
		now := c.now()
		for _, k := range conns {
			k.overdue(now)
			if k.silent(now) {
				c.suspect(k)
			}
		}
	}
}

// suspect has those who wait for a silent broker see whether another one leads by now.
func (c *Client) suspect(k *conn) {
	n := c.node(k.addr)
	if !c.mayAskOthers(n) {
		return
	}
	for _, u := range c.everybody() {
		u.suspect(n)
	}
}

func (c *Client) everybody() []user {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Collect(maps.Keys(c.users))
}
