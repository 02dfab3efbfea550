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
	preambleTimeout = 5 * time.Second
	dialTimeout     = time.Second
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
	running  sync.WaitGroup
	stop     chan struct{}

	mu      sync.Mutex
	serve   map[peer.Stream]func(net.Conn)
	open    map[net.Conn]struct{}
	stopped bool
}

// Listen takes the cluster port. Nothing is served before Handle says how.
// advertise is the address that others reach it at; empty: the one listened on.
func Listen(ctx context.Context, addr, advertise string, logger *slog.Logger) (*Listener, error) {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("listen for other brokers: %w", err)
	}
	if advertise == "" {
		advertise = listener.Addr().String()
	}
	l := &Listener{
		listener: listener, log: logger, addr: advertise, stop: make(chan struct{}),
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
		if !l.add(conn) {
			conn.Close()
			return
		}
		go func() {
			defer l.running.Done()
			l.dispatch(conn)
		}()
	}
}

func (l *Listener) add(conn net.Conn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.stopped {
		return false
	}
	l.open[conn] = struct{}{}
	l.running.Add(1)
	return true
}

func (l *Listener) remove(conn net.Conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.open, conn)
}

// dispatch reads the preamble and serves the stream.
func (l *Listener) dispatch(conn net.Conn) {
	kind, err := readPreamble(conn)
	if err != nil {
		l.log.Debug("connection to the cluster port refused", "addr", conn.RemoteAddr(), "error", err)
		l.remove(conn)
		conn.Close()
		return
	}
	l.mu.Lock()
	serve := l.serve[kind]
	if kind == peer.StreamRaft && serve != nil {
		delete(l.open, conn)
	}
	l.mu.Unlock()
	if serve != nil {
		serve(conn)
	}
	if kind != peer.StreamRaft || serve == nil {
		l.remove(conn)
		conn.Close()
	}
}

func readPreamble(conn net.Conn) (peer.Stream, error) {
	if err := conn.SetReadDeadline(time.Now().Add(preambleTimeout)); err != nil {
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
