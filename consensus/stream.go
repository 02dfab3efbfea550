package consensus

import (
	"context"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// Server addresses of Raft are "<disk UUID in hex>@<cluster address>". A connection
// begins with the 16 bytes of the UUID that it is meant for, and a broker with another
// disk closes it: otherwise a broker with a wiped disk, at its old address, would
// acknowledge and vote under a name whose promises it has forgotten.

// serverAddress is a broker's address in Raft.
func serverAddress(disk [16]byte, addr string) raft.ServerAddress {
	return raft.ServerAddress(string(serverID(disk)) + "@" + addr)
}

// serverID is a disk's name in Raft.
func serverID(disk [16]byte) raft.ServerID { return raft.ServerID(fmt.Sprintf("%x", disk)) }

func splitAddress(a raft.ServerAddress) (disk [16]byte, addr string, err error) {
	name, addr, ok := strings.Cut(string(a), "@")
	id, err := hex.DecodeString(name)
	if !ok || err != nil || len(id) != len(disk) {
		return disk, "", fmt.Errorf("%q is no address of a Raft server", a)
	}
	return [16]byte(id), addr, nil
}

// dialTimeout bounds how long a connection may take to come up and to name its target.
const dialTimeout = time.Second

// StreamLayer gives Raft its connections: those that the listener of the cluster port
// hands over, and those that it dials itself. All of them are closed with it.
type StreamLayer struct {
	addr string
	dial func(ctx context.Context, addr string) (net.Conn, error)
	self [16]byte // set before anything else happens, by OpenRaft
	// anyDisk breaks the rule that a stream reaches only the disk that it is meant for,
	// for a test that shows what follows.
	anyDisk bool

	accepted chan net.Conn
	broken   chan struct{} // an incoming connection broke
	ctx      context.Context
	cancel   context.CancelFunc

	mu    sync.Mutex
	conns map[*streamConn]struct{}
}

// NewStreamLayer makes the connections of the broker that others reach at addr, the
// advertised host:port of its cluster port. dial connects to the cluster port of another
// broker; what goes before the bytes of a Raft stream is its business, and that of who
// calls Hand.
func NewStreamLayer(addr string, dial func(ctx context.Context, addr string) (net.Conn, error)) *StreamLayer {
	l := &StreamLayer{addr: addr, dial: dial, accepted: make(chan net.Conn), broken: make(chan struct{}, 1), conns: map[*streamConn]struct{}{}}
	l.ctx, l.cancel = context.WithCancel(context.Background())
	return l
}

// Hand gives an accepted connection to Raft, which closes it. It blocks until Raft takes
// it, and closes it at once after Close.
func (l *StreamLayer) Hand(conn net.Conn) {
	c, err := l.track(conn, true)
	if err != nil {
		return
	}
	select {
	case l.accepted <- c:
	case <-l.ctx.Done():
		_ = c.Close()
	}
}

// Accept implements net.Listener.
func (l *StreamLayer) Accept() (net.Conn, error) {
	select {
	case c := <-l.accepted:
		return c, nil
	case <-l.ctx.Done():
		return nil, net.ErrClosed
	}
}

// Dial implements raft.StreamLayer.
func (l *StreamLayer) Dial(address raft.ServerAddress, timeout time.Duration) (net.Conn, error) {
	disk, addr, err := splitAddress(address)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(l.ctx, min(timeout, dialTimeout))
	defer cancel()
	var conn net.Conn
	if disk == l.self {
		// To itself, which is how a lone voter is told to lead at once.
		var other net.Conn
		conn, other = net.Pipe()
		go l.Hand(other)
	} else if conn, err = l.dial(ctx, addr); err != nil {
		return nil, err
	}
	if err = conn.SetWriteDeadline(time.Now().Add(dialTimeout)); err == nil {
		_, err = conn.Write(disk[:])
	}
	if err == nil {
		err = conn.SetWriteDeadline(time.Time{})
	}
	if err != nil {
		_ = conn.Close()
		return nil, fmt.Errorf("connect to %s: %w", addr, err)
	}
	return l.track(conn, false)
}

// Close implements net.Listener: it closes every connection.
func (l *StreamLayer) Close() error {
	l.cancel()
	l.mu.Lock()
	defer l.mu.Unlock()
	for c := range l.conns {
		_ = c.Conn.Close()
	}
	clear(l.conns)
	return nil
}

// Addr implements net.Listener.
func (l *StreamLayer) Addr() net.Addr { return raftAddr(serverAddress(l.self, l.addr)) }

type raftAddr string

func (raftAddr) Network() string  { return "raft" }
func (a raftAddr) String() string { return string(a) }

// track makes sure that Close finds the connection.
func (l *StreamLayer) track(conn net.Conn, incoming bool) (*streamConn, error) {
	c := &streamConn{Conn: conn, layer: l, incoming: incoming, unchecked: incoming}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ctx.Err() != nil {
		_ = conn.Close()
		return nil, net.ErrClosed
	}
	l.conns[c] = struct{}{}
	return c, nil
}

// streamConn is a connection of Raft. An incoming one checks at the first read whether
// it is meant for this disk.
type streamConn struct {
	net.Conn
	layer     *StreamLayer
	incoming  bool
	unchecked bool
}

// Read implements net.Conn.
func (c *streamConn) Read(b []byte) (int, error) {
	if c.unchecked {
		if err := c.check(); err != nil {
			return 0, err
		}
		c.unchecked = false
	}
	n, err := c.Conn.Read(b)
	if err != nil && c.incoming {
		signal(c.layer.broken)
	}
	return n, err
}

func (c *streamConn) check() error {
	var target [16]byte
	if err := c.SetReadDeadline(time.Now().Add(dialTimeout)); err != nil {
		return err
	}
	if _, err := io.ReadFull(c.Conn, target[:]); err != nil {
		return err
	}
	if target != c.layer.self && !c.layer.anyDisk {
		return fmt.Errorf("connection for disk %x arrived at disk %x; that disk is gone from this address", target, c.layer.self)
	}
	return c.SetReadDeadline(time.Time{})
}

// Close implements net.Conn.
func (c *streamConn) Close() error {
	c.layer.mu.Lock()
	delete(c.layer.conns, c)
	c.layer.mu.Unlock()
	return c.Conn.Close()
}

// transport is hashicorp/raft's, without its fast path for heartbeats: that handles them
// on the goroutine of the connection, where they race the leader's loop and logs can
// diverge (hashicorp/raft issue 695). Without the handler they take the way of every
// other request, through Raft's main loop.
//
// Entries for a server that does not answer wait, see away.
type transport struct {
	*raft.NetworkTransport
	away *away
}

// SetHeartbeatHandler implements raft.Transport; it does nothing.
func (transport) SetHeartbeatHandler(func(raft.RPC)) {}
