package broker

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/sequitur-mq/sequitur/wire"
)

// A conn is one client connection: a read goroutine, which also handles the
// requests, and a write goroutine. The requests in flight complete on other
// goroutines, which only ever queue their answers here.
//
// Life: hello -> requests -> no more requests (end of stream, protocol error,
// stop of the broker) -> everything in flight answered -> closed.
type conn struct {
	s      *server
	h      *handler
	nc     net.Conn
	raw    syscall.RawConn // nil if nc is no TCP connection
	client string          // as hello named it, for logs

	// Of the read goroutine.
	in       frameReader
	draining atomic.Bool  // no more requests are wanted
	progress atomic.Int64 // Unix ns of the last progress inside a frame that holds memory, 0 outside

	writeDeadline time.Time   // of whoever holds writing
	direct        directWrite // of whoever holds writing

	fetchBytes atomic.Int64 // memory of the fetches in flight

	mu       sync.Mutex
	readable sync.Cond // the read goroutine waits here for its share
	writable sync.Cond // the write goroutine waits here for work
	out      outbox    // see conn_writer.go
	requests int       // in flight: read and not yet answered
	bytes    int64     // of request frames in flight
	finished bool      // no more requests will come
	broken   bool      // the peer is gone: answers are dropped
	parked   fetchList // fetches that wait for records
}

func newConn(s *server, nc net.Conn) *conn {
	c := &conn{s: s, h: s.handler, nc: nc}
	c.in.src = nc
	c.direct.write = c.direct.once
	c.readable.L, c.writable.L = &c.mu, &c.mu
	if sc, ok := nc.(syscall.Conn); ok {
		if raw, err := sc.SyscallConn(); err == nil {
			c.raw = raw
			// A peer that takes nothing at all; one that takes little has longer.
			setUserTimeout(raw, time.Duration(s.cfg.WriteTimeout))
		}
	}
	return c
}

// run serves the connection until it is closed; both of its goroutines have
// ended when it returns.
func (c *conn) run() {
	written := make(chan struct{})
	go func() {
		defer close(written)
		c.writeLoop()
	}()
	err := c.readLoop()
	c.finish(err)
	<-written
	c.dropFetches()
	c.linger()
	c.nc.Close()
	if err != nil && !errors.Is(err, io.EOF) {
		c.s.log.Debug("connection closed", "client", c.client, "addr", c.nc.RemoteAddr(), "error", err)
	}
}

// finish says that no more requests will come. Parked fetches end: either the
// peer is gone or everyone has to leave.
func (c *conn) finish(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.finished = true
	var we *wire.Error
	if err != nil && !errors.As(err, &we) && !c.draining.Load() && !errors.Is(err, io.EOF) {
		c.broken = true
	}
	for f := c.parked.first; f != nil; f = c.parked.first {
		f.last = true
		c.queueFetch(f)
	}
	c.writable.Signal()
}

// linger gives the peer a moment to read its last answers: closing a socket
// with unread input would discard them.
func (c *conn) linger() {
	c.mu.Lock()
	broken := c.broken
	c.mu.Unlock()
	tcp, ok := c.nc.(*net.TCPConn)
	if !ok || broken || tcp.CloseWrite() != nil {
		return
	}
	if c.nc.SetReadDeadline(time.Now().Add(lingerTime)) == nil {
		_, _ = io.Copy(io.Discard, c.nc)
	}
}

const lingerTime = 250 * time.Millisecond

// drain makes the connection end once what is in flight is answered. It may be
// called at any time, by anyone.
func (c *conn) drain() {
	c.draining.Store(true)
	_ = c.nc.SetReadDeadline(time.Unix(1, 0))
	c.mu.Lock()
	c.readable.Signal()
	c.mu.Unlock()
}

// abort closes the connection with whatever is in flight.
func (c *conn) abort() {
	c.nc.Close()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.broken = true
	c.readable.Signal()
	c.writable.Signal()
}

var errDraining = errors.New("the broker stops")

// errLeaving refuses appends on a broker of a cluster that is about to stop.
var errLeaving = errors.New("the broker is about to stop and hands its partitions over")

// setReadDeadline sets when reading fails, unless the connection drains: then
// it fails at once.
func (c *conn) setReadDeadline(t time.Time) {
	_ = c.nc.SetReadDeadline(t)
	if c.draining.Load() {
		_ = c.nc.SetReadDeadline(time.Unix(1, 0))
	}
}

// readLoop reads and handles requests until there can be no more. A *wire.Error
// was answered to the client.
func (c *conn) readLoop() error {
	if err := c.readHello(); err != nil {
		return err
	}
	lim := wire.FrameLimits{
		MaxFrameBytes:    uint32(c.h.cfg.MaxFrameBytes),
		MaxMetadataBytes: wire.DefaultMaxRequestMetadata,
	}
	for {
		head, err := c.in.header(lim)
		if err != nil {
			return c.refuse(head, err)
		}
		if err := c.h.checkRequest(head); err != nil {
			return c.refuse(head, err)
		}
		if err := c.readRequest(head); err != nil {
			return c.refuse(head, err)
		}
	}
}

// checkRequest checks what the header alone can tell. Its errors end the
// connection: the client speaks something else than we do.
func (h *handler) checkRequest(head wire.FrameHeader) error {
	if head.Response() {
		return wire.Errorf(wire.CodeInvalidRequest, "a broker takes requests, not responses: clear bit 0 of the flags")
	}
	if head.Kind == wire.KindHello {
		return wire.Errorf(wire.CodeInvalidRequest, "hello was said already on this connection")
	}
	if head.Kind != wire.KindProduce && head.BatchesLength() != 0 {
		return wire.Errorf(wire.CodeInvalidRequest, "%d bytes of batches follow a %v request, which has none", head.BatchesLength(), head.Kind)
	}
	if int(head.Kind) < len(h.served) && head.Version >= h.served[head.Kind].Min && head.Version <= h.served[head.Kind].Max {
		return nil
	}
	return wire.CheckVersion(head.Kind, head.Version)
}

// refuse answers an error that ends the connection, where there is a request to
// answer to. It returns the error.
func (c *conn) refuse(head wire.FrameHeader, err error) error {
	if c.draining.Load() && errors.Is(err, os.ErrDeadlineExceeded) {
		return errDraining
	}
	var we *wire.Error
	if errors.As(err, &we) {
		c.h.metrics.errors.count(we.Code)
		c.reject(head, err)
	}
	return err
}

// readRequest reads the rest of a request and handles it. Its errors end the
// connection; what is wrong with the request alone is answered.
func (c *conn) readRequest(head wire.FrameHeader) error {
	size := head.BodyLength()
	cost := bufferCost(size + frameSlack)
	if err := c.awaitShare(cost); err != nil {
		return err
	}
	g, ok := c.s.acquire(cost)
	if !ok {
		return c.overloaded(head)
	}
	buf := c.s.buffers.get(size + frameSlack)
	if err := c.readBody(buf, size); err != nil {
		c.s.buffers.put(buf)
		c.s.budget.release(g)
		return err
	}
	c.begin(cost)
	c.h.metrics.requests[head.Kind].Add(1)
	r := request{c: c, head: head, grant: g, buf: buf}
	return c.h.handle(r)
}

// readBody reads the body of a frame. A frame that is not there yet has to keep
// coming: it holds memory that others want.
func (c *conn) readBody(buf *buffer, size int) error {
	if c.in.buffered(size) {
		return c.in.body(buf.bytes, size, nil)
	}
	now := time.Now()
	c.progress.Store(now.UnixNano())
	c.setReadDeadline(now.Add(transferTime(c.h.cfg.WriteTimeout, int64(size))))
	err := c.in.body(buf.bytes, size, func() { c.progress.Store(time.Now().UnixNano()) })
	c.setReadDeadline(time.Time{})
	c.progress.Store(0)
	return err
}

// transferTime is how long n bytes may take: a fixed time, and 64 KiB/s.
func transferTime(fixed Duration, n int64) time.Duration {
	return time.Duration(fixed) + time.Duration(n>>16)*time.Second
}

// awaitShare waits until the connection may have a frame of the given cost in
// flight. Meanwhile nothing is read from it: its peer sees TCP's window close.
func (c *conn) awaitShare(cost int64) error {
	cfg := c.h.cfg
	c.mu.Lock()
	defer c.mu.Unlock()
	for !c.broken && !c.draining.Load() &&
		(c.requests >= cfg.MaxInflightRequests || c.out.bytes > maxOutboxBytes ||
			c.requests > 0 && c.bytes+cost > int64(cfg.ConnectionBytes)) {
		c.readable.Wait()
	}
	if c.broken || c.draining.Load() {
		return errDraining
	}
	return nil
}

// begin counts a request as in flight.
func (c *conn) begin(cost int64) {
	c.mu.Lock()
	c.requests++
	c.bytes += cost
	c.mu.Unlock()
}

// overloaded answers that the broker has no memory for a request, and reads
// over it.
func (c *conn) overloaded(head wire.FrameHeader) error {
	silent := false
	size := head.BodyLength()
	if head.Kind == wire.KindProduce && size > 0 {
		acks, err := c.in.peek()
		if err != nil {
			return err
		}
		silent = wire.Acks(acks) == wire.AcksNone
	}
	c.setReadDeadline(time.Now().Add(transferTime(c.h.cfg.WriteTimeout, int64(size))))
	if err := c.in.discard(size); err != nil {
		return err
	}
	c.setReadDeadline(time.Time{})
	c.h.metrics.errors.count(wire.CodeOverloaded)
	if !silent {
		c.reject(head, &wire.Error{Code: wire.CodeOverloaded, RetryAfter: time.Duration(c.h.cfg.RetryAfter)})
	}
	return nil
}
