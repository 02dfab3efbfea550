package cluster

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"

	"github.com/sequitur-mq/sequitur/wire"
	"github.com/sequitur-mq/sequitur/wire/peer"
)

var (
	// ErrUnreachable says that a request did not get to another broker, or its
	// answer not back: whether it was carried out is not known.
	ErrUnreachable = errors.New("broker not reachable")
	// ErrStopped is returned for requests after Close.
	ErrStopped = errors.New("this broker stops")
)

// Peers sends requests to other brokers over one connection to each address,
// any number at a time. Connections are made when they are needed, and again
// when they broke.
type Peers struct {
	dial func(ctx context.Context, addr string) (net.Conn, error)

	mu      sync.Mutex
	conns   map[string]*peerConn
	closed  bool
	running sync.WaitGroup
}

// NewPeers returns a pool without connections.
func NewPeers() *Peers {
	return &Peers{
		dial:  func(ctx context.Context, addr string) (net.Conn, error) { return Dial(ctx, addr, peer.StreamRPC) },
		conns: map[string]*peerConn{},
	}
}

// A peerConn is a connection and what waits for answers on it.
type peerConn struct {
	ready chan struct{} // closed when conn or err is set
	conn  *rpcConn
	err   error

	mu      sync.Mutex
	next    uint32
	waiting map[uint32]chan<- answer
	broken  error
}

type answer struct {
	body []byte
	err  error
}

// Call sends a request and waits for its answer. The errors of the transport are
// ErrUnreachable, those of ctx, and ErrStopped; what the other broker says is
// in the answer.
func (p *Peers) Call(ctx context.Context, addr string, kind wire.Kind, req, resp wire.Message) error {
	err := p.call(ctx, addr, kind, req, resp)
	if err != nil {
		return fmt.Errorf("ask the broker at %s: %w", addr, err)
	}
	return nil
}

func (p *Peers) call(ctx context.Context, addr string, kind wire.Kind, req, resp wire.Message) error {
	c, err := p.connection(ctx, addr)
	if err != nil {
		return err
	}
	answers := make(chan answer, 1)
	id, err := c.register(answers)
	if err != nil {
		return err
	}
	if err := c.conn.send(wire.FrameHeader{Kind: kind, Version: 1, Correlation: id}, req); err != nil {
		c.conn.Close() // its reader ends everything that waits
		c.forget(id)
		return fmt.Errorf("%w: %w", ErrUnreachable, err)
	}
	select {
	case a := <-answers:
		if a.err != nil {
			return a.err
		}
		return resp.Decode(a.body)
	case <-ctx.Done():
		c.forget(id)
		return context.Cause(ctx)
	}
}

// connection returns the connection to an address, making it if there is none.
func (p *Peers) connection(ctx context.Context, addr string) (*peerConn, error) {
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return nil, ErrStopped
	}
	c, ok := p.conns[addr]
	if !ok {
		c = &peerConn{ready: make(chan struct{}), waiting: map[uint32]chan<- answer{}}
		p.conns[addr] = c
		p.running.Add(1)
		go func() {
			defer p.running.Done()
			p.run(addr, c)
		}()
	}
	p.mu.Unlock()
	select {
	case <-c.ready:
		return c, c.err
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// run makes a connection and reads answers until it breaks.
func (p *Peers) run(addr string, c *peerConn) {
	ctx, cancel := context.WithTimeout(context.Background(), dialTimeout)
	conn, err := p.dial(ctx, addr)
	cancel()
	if err != nil {
		p.drop(addr, c)
		c.err = fmt.Errorf("%w: %w", ErrUnreachable, err)
		close(c.ready)
		return
	}
	c.conn = newRPCConn(conn, Limits{}.withDefaults().Frame, nil)
	close(c.ready)
	p.mu.Lock()
	if p.closed {
		conn.Close()
	}
	p.mu.Unlock()
	for err == nil {
		var head wire.FrameHeader
		var body []byte
		if err = c.conn.await(0); err != nil {
			break
		}
		if head, body, err = c.conn.receive(); err == nil {
			c.answered(head.Correlation, body)
		}
	}
	conn.Close()
	p.drop(addr, c)
	c.fail(fmt.Errorf("%w: %w", ErrUnreachable, err))
}

// drop makes the next request use another connection.
func (p *Peers) drop(addr string, c *peerConn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.conns[addr] == c {
		delete(p.conns, addr)
	}
}

// Close ends all connections; requests in flight fail.
func (p *Peers) Close() {
	p.mu.Lock()
	p.closed = true
	for _, c := range p.conns {
		select {
		case <-c.ready:
			if c.conn != nil {
				c.conn.Close()
			}
		default: // run closes it
		}
	}
	p.mu.Unlock()
	p.running.Wait()
}

func (c *peerConn) register(answers chan<- answer) (uint32, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.broken != nil {
		return 0, c.broken
	}
	c.next++
	c.waiting[c.next] = answers
	return c.next, nil
}

func (c *peerConn) forget(id uint32) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.waiting, id)
}

func (c *peerConn) answered(id uint32, body []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if w, ok := c.waiting[id]; ok {
		delete(c.waiting, id)
		w <- answer{body: body}
	}
}

func (c *peerConn) fail(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.broken = err
	for id, w := range c.waiting {
		delete(c.waiting, id)
		w <- answer{err: err}
	}
}
