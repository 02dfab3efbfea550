package sequitur

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sequitur-mq/sequitur/wire"
)

const (
	readBuffer = 64 << 10
	// maxAnswer bounds a frame that a broker may send.
	maxAnswer = 64 << 20
	// keepMetadata is the largest metadata buffer that a connection keeps.
	keepMetadata = 1 << 20
)

// responder takes the one outcome of a request: either answer or fail is called, once,
// on the connection's read loop. It must not block.
type responder interface {
	// answer hands over an answer. meta is valid during the call only; batches belong
	// to the callee.
	answer(meta, batches []byte)
	// fail says that no answer will come. The request may have been carried out.
	fail(err error)
}

type pending struct {
	to       responder
	since    int64 // of the client's clock
	deadline int64
	wait     int64 // that the broker was asked to hold the answer back at most
}

// conn is one connection to a broker. Requests are pipelined: they leave in the order
// of their write calls, answers are taken as they come. A conn that failed once stays
// dead; its lane makes a new one.
type conn struct {
	client *Client
	addr   string
	nc     net.Conn
	in     *bufio.Reader
	hello  wire.HelloResponse
	vers   [16]uint8 // by kind

	dead      atomic.Bool
	writeFrom atomic.Int64 // when the write under way began; 0: none
	heard     atomic.Int64 // when the last answer began to arrive
	forsaken  atomic.Int64 // when the broker was found to lead less than before; 0: not

	wmu sync.Mutex // held while writing

	mu      sync.Mutex
	next    uint32
	pending map[uint32]pending
	cause   error // set once, when dead
}

// dialConn connects, greets, and starts the read loop, which ends with the connection.
func dialConn(ctx context.Context, c *Client, addr string) (*conn, error) {
	silent := fmt.Errorf("it accepted the connection but did not answer within %v", c.opts.dialTimeout)
	ctx, cancel := context.WithTimeoutCause(ctx, c.opts.dialTimeout, silent)
	defer cancel()
	defer context.AfterFunc(c.ctx, cancel)()
	nc, err := c.opts.dial(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	k := &conn{client: c, addr: addr, nc: nc, in: bufio.NewReaderSize(nc, readBuffer), pending: map[uint32]pending{}}
	stop := context.AfterFunc(ctx, func() { nc.Close() })
	err = k.greet()
	if !stop() {
		err = context.Cause(ctx) // rather than the closed connection that it led to
	}
	if err != nil {
		nc.Close()
		return nil, err
	}
	if !c.adopt(k) {
		nc.Close()
		return nil, closed("connect", "the client")
	}
	return k, nil
}

// greet exchanges hello and settles the versions of all requests.
func (k *conn) greet() error {
	req := wire.HelloRequest{
		Magic:      wire.Magic,
		MinVersion: wire.MinProtocolVersion, MaxVersion: wire.MaxProtocolVersion,
		ClientName: k.client.opts.name, ClientVersion: clientVersion,
	}
	h := wire.FrameHeader{Kind: wire.KindHello, Version: 1}
	if _, err := k.nc.Write(wire.AppendFrame(nil, h, &req, 0)); err != nil {
		return fmt.Errorf("send hello: %w", err)
	}
	var scratch [wire.FrameHeaderSize]byte
	h, err := wire.ReadFrameHeader(k.in, scratch[:], wire.FrameLimits{MaxFrameBytes: wire.MaxHelloBytes})
	switch {
	case errors.As(err, new(*wire.Error)), err == nil && (h.Kind != wire.KindHello || !h.Response()):
		return errors.New("what answers there does not speak the broker's protocol; is this its native port?")
	case err != nil:
		return fmt.Errorf("read hello: %w", err)
	}
	body := make([]byte, h.BodyLength())
	if _, err := io.ReadFull(k.in, body); err != nil {
		return fmt.Errorf("read hello: %w", err)
	}
	if err := k.hello.Decode(body[:h.MetadataLength]); err != nil {
		return err
	}
	if err := k.hello.Err(); err != nil {
		return err
	}
	for _, api := range wire.APIs() {
		if v, err := k.hello.APIVersion(api.Kind); err == nil {
			k.vers[api.Kind] = v
		}
	}
	return nil
}

// register announces a request and returns its correlation id. The responder is
// called exactly once if the error is nil, unless forget takes it back.
func (k *conn) register(to responder, wait time.Duration) (uint32, error) {
	now := k.client.now()
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.cause != nil {
		return 0, k.cause
	}
	k.next++
	k.pending[k.next] = pending{to, now, now + int64(k.client.opts.requestTimeout+wait), int64(wait)}
	return k.next, nil
}

// forget takes a request back; false if its outcome is known or on its way.
func (k *conn) forget(id uint32) bool {
	_, ok := k.take(id)
	return ok
}

func (k *conn) take(id uint32) (pending, bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	p, ok := k.pending[id]
	delete(k.pending, id)
	return p, ok
}

// header starts a request frame; an error if the broker does not serve the kind.
func (k *conn) header(kind wire.Kind, id uint32) (wire.FrameHeader, error) {
	if k.vers[kind] == 0 {
		_, err := k.hello.APIVersion(kind)
		return wire.FrameHeader{}, err
	}
	return wire.FrameHeader{Kind: kind, Version: k.vers[kind], Correlation: id}, nil
}

// write sends one frame, in as few system calls as possible. On an error the
// connection is dead and the read loop fails what is pending.
func (k *conn) write(frame []byte) error {
	k.wmu.Lock()
	k.writeFrom.Store(k.client.now())
	_, err := k.nc.Write(frame)
	k.writeFrom.Store(0)
	k.wmu.Unlock()
	if err != nil {
		k.kill(fmt.Errorf("write to %s: %w", k.addr, err))
	}
	return err
}

// writev is write for a frame in several pieces; bufs is consumed.
func (k *conn) writev(bufs *net.Buffers) error {
	k.wmu.Lock()
	k.writeFrom.Store(k.client.now())
	_, err := bufs.WriteTo(k.nc)
	k.writeFrom.Store(0)
	k.wmu.Unlock()
	if err != nil {
		k.kill(fmt.Errorf("write to %s: %w", k.addr, err))
	}
	return err
}

func (k *conn) readLoop() {
	err := k.readFrames()
	k.kill(err)
	k.mu.Lock()
	orphans := k.pending
	k.pending = nil
	err = k.cause
	k.mu.Unlock()
	k.client.disconnected(k, err)
	for _, p := range orphans {
		p.to.fail(err)
	}
}

func (k *conn) readFrames() error {
	scratch := make([]byte, wire.FrameHeaderSize)
	var meta []byte
	for {
		h, err := wire.ReadFrameHeader(k.in, scratch, wire.FrameLimits{MaxFrameBytes: maxAnswer})
		if err != nil {
			if errors.Is(err, io.EOF) {
				err = errors.New("the broker closed the connection")
			}
			return fmt.Errorf("read from %s: %w", k.addr, err)
		}
		k.heard.Store(k.client.now())
		if !h.Response() {
			return fmt.Errorf("read from %s: a request came where an answer was expected", k.addr)
		}
		if n := int(h.MetadataLength); cap(meta) < n || cap(meta) > keepMetadata && n < keepMetadata {
			meta = make([]byte, n, max(n, 4<<10))
		}
		meta = meta[:h.MetadataLength]
		if _, err := io.ReadFull(k.in, meta); err != nil {
			return fmt.Errorf("read from %s: %w", k.addr, err)
		}
		var batches []byte
		if n := h.BatchesLength(); n > 0 {
			batches = make([]byte, n)
			if _, err := io.ReadFull(k.in, batches); err != nil {
				return fmt.Errorf("read from %s: %w", k.addr, err)
			}
		}
		if p, ok := k.take(h.Correlation); ok {
			p.to.answer(meta, batches)
		}
	}
}

// kill makes the connection dead; its read loop then fails what is pending.
func (k *conn) kill(cause error) {
	k.mu.Lock()
	if k.cause == nil {
		k.cause = cause
	}
	k.mu.Unlock()
	k.dead.Store(true)
	k.nc.Close()
}

// overdue kills the connection if a request, or a write, has waited too long.
func (k *conn) overdue(now int64) {
	if from := k.writeFrom.Load(); from != 0 && now-from > int64(k.client.opts.requestTimeout) {
		k.kill(fmt.Errorf("%s took no data for %v", k.addr, k.client.opts.requestTimeout))
		return
	}
	late, oldest := false, now
	k.mu.Lock()
	for _, p := range k.pending {
		late = late || now > p.deadline
		oldest = min(oldest, p.since)
	}
	k.mu.Unlock()
	if late {
		k.kill(fmt.Errorf("%s did not answer for %v", k.addr, k.client.opts.requestTimeout))
	}
	if since := k.forsaken.Load(); since != 0 && now-since > int64(forsakenFor) {
		if oldest <= since {
			k.kill(errForsaken)
		}
		k.forsaken.CompareAndSwap(since, 0)
	}
}

const (
	// suspectAfter is how long a broker may be silent, with requests unanswered, before
	// others are asked whether it still leads what it did.
	suspectAfter = 400 * time.Millisecond
	// forsakenFor is how long a broker has to answer what it was asked before it lost
	// partitions to another leader.
	forsakenFor = 50 * time.Millisecond
)

var errForsaken = errors.New("the broker lost partitions to another leader and does not answer")

// silent reports whether requests wait and nothing comes.
func (k *conn) silent(now int64) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	heard := k.heard.Load()
	for _, p := range k.pending {
		if now-max(p.since+p.wait, heard) > int64(suspectAfter) {
			return true
		}
	}
	return false
}
