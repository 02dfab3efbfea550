package cluster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/sequitur-mq/sequitur/wire/peer"
)

const (
	dialTimeout   = time.Second
	complainAfter = 10 * time.Second // of a complaint about too many connections
)

// Dial opens a stream to the cluster port of another broker.
func Dial(ctx context.Context, addr string, kind peer.Stream) (net.Conn, error) {
	d := net.Dialer{Timeout: dialTimeout}
	conn, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	if _, err := conn.Write(peer.AppendPreamble(nil, kind)); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return conn, nil
}

// A Listener accepts streams and hands them to whoever serves their kind. The
// connections of rpc and replication are closed by Close; those of Raft belong
// to Raft.
type Listener struct {
	listener net.Listener
	log      *slog.Logger
	addr     string
	limits   Limits
	running  sync.WaitGroup
	stop     chan struct{}
	refused  time.Time // of the accepting goroutine: when a refusal was logged last

	mu      sync.Mutex
	count   int // of connections, those of Raft too
	serve   map[peer.Stream]func(net.Conn)
	open    map[net.Conn]struct{}
	stopped bool
}

// Listen takes the cluster port. Nothing is served before Handle says how.
// advertise is the address that others reach it at; empty: the one listened on.
func Listen(ctx context.Context, addr, advertise string, logger *slog.Logger, limits Limits) (*Listener, error) {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("listen for other brokers: %w", err)
	}
	if advertise == "" {
		advertise = listener.Addr().String()
	}
	l := &Listener{
		listener: listener, log: logger, addr: advertise, stop: make(chan struct{}), limits: limits.withDefaults(),
		serve: map[peer.Stream]func(net.Conn){}, open: map[net.Conn]struct{}{},
	}
	l.running.Add(1)
	go l.accept()
	return l, nil
}

// Addr is the address that other brokers reach this one at.
func (l *Listener) Addr() string { return l.addr }

// Handle says who serves the streams of a kind. serve runs on a goroutine of
// the connection, which is closed when it returns, unless it is Raft's.
func (l *Listener) Handle(kind peer.Stream, serve func(net.Conn)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.serve[kind] = serve
}

// Close closes the port and every connection that is served here, and waits for
// those who serve them.
func (l *Listener) Close() error {
	l.mu.Lock()
	if l.stopped {
		l.mu.Unlock()
		return nil
	}
	l.stopped = true
	close(l.stop)
	err := l.listener.Close()
	for conn := range l.open {
		conn.Close()
	}
	l.mu.Unlock()
	l.running.Wait()
	return err
}

func (l *Listener) accept() {
	defer l.running.Done()
	for {
		conn, err := l.listener.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			l.log.Warn("accept a connection of another broker", "error", err)
			select {
			case <-time.After(50 * time.Millisecond):
			case <-l.stop:
				return
			}
			continue
		}
		if conn, err = l.add(conn); err != nil {
			if l.refuse(err) {
				continue
			}
			return
		}
		go func() {
			defer l.running.Done()
			l.dispatch(conn)
		}()
	}
}

var (
	errStopped = errors.New("the port is closed")
	errTooMany = errors.New("too many connections")
)

// add makes an accepted connection one of the listener's, or closes it.
func (l *Listener) add(conn net.Conn) (net.Conn, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.stopped || l.count >= l.limits.Connections {
		conn.Close()
		if l.stopped {
			return nil, errStopped
		}
		return nil, errTooMany
	}
	l.count++
	l.open[conn] = struct{}{}
	l.running.Add(1)
	return conn, nil
}

// refuse logs, now and then, that a connection was one too many, and reports whether to
// go on.
func (l *Listener) refuse(err error) bool {
	if errors.Is(err, errStopped) {
		return false
	}
	if now := time.Now(); now.Sub(l.refused) >= complainAfter {
		l.refused = now
		l.log.Warn("a connection to the cluster port was refused", "error", err, "limit", l.limits.Connections)
	}
	return true
}

func (l *Listener) remove(conn net.Conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.open, conn)
	l.count--
}

// dispatch reads the preamble and serves the stream.
func (l *Listener) dispatch(conn net.Conn) {
	kind, err := readPreamble(conn, l.limits.Preamble)
	if err != nil {
		l.log.Debug("connection to the cluster port refused", "addr", conn.RemoteAddr(), "error", err)
		l.remove(conn)
		conn.Close()
		return
	}
	l.mu.Lock()
	serve := l.serve[kind]
	raft := kind == peer.StreamRaft && serve != nil
	if raft {
		delete(l.open, conn)
	}
	l.mu.Unlock()
	if raft {
		serve(&counted{Conn: conn, gone: func() { l.remove(conn) }})
		return
	}
	if serve != nil {
		serve(conn)
	}
	l.remove(conn)
	conn.Close()
}

func readPreamble(conn net.Conn, within time.Duration) (peer.Stream, error) {
	if err := conn.SetReadDeadline(time.Now().Add(within)); err != nil {
		return 0, err
	}
	var b [peer.PreambleSize]byte
	if _, err := io.ReadFull(conn, b[:]); err != nil {
		return 0, fmt.Errorf("read the preamble: %w", err)
	}
	kind, err := peer.ParsePreamble(b[:])
	if err != nil {
		return 0, err
	}
	return kind, conn.SetReadDeadline(time.Time{})
}
