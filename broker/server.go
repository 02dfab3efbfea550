package broker

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// A server accepts connections and owns them: each runs on goroutines that the
// server waits for.
type server struct {
	cfg      *Config
	log      *slog.Logger
	handler  *handler
	listener net.Listener
	budget   *budget
	buffers  *buffers

	stopping chan struct{} // closed when no more connections and requests are wanted
	running  sync.WaitGroup
	lastLook atomic.Int64 // Unix ns of the last look for stalled frames

	mu    sync.Mutex
	conns map[*conn]struct{}
}

func newServer(h *handler, listener net.Listener) *server {
	return &server{
		cfg: h.cfg, log: h.log, handler: h, listener: listener,
		budget: newBudget(int64(h.cfg.MemoryBytes)), buffers: &buffers{},
		stopping: make(chan struct{}), conns: map[*conn]struct{}{},
	}
}

func (s *server) start() {
	s.running.Add(1)
	go s.acceptLoop()
}

// acceptLoop accepts until the listener is closed. Running out of descriptors
// or memory is no reason to stop: it pauses and goes on.
func (s *server) acceptLoop() {
	defer s.running.Done()
	for {
		nc, err := s.listener.Accept()
		switch {
		case err == nil:
			s.serve(nc)
		case errors.Is(err, net.ErrClosed):
			return
		default:
			s.log.Warn("accept a connection", "error", err)
			select {
			case <-time.After(50 * time.Millisecond):
			case <-s.stopping:
				return
			}
		}
	}
}

// serve starts a connection, if there may be another one.
func (s *server) serve(nc net.Conn) {
	c := newConn(s, nc)
	s.mu.Lock()
	full := len(s.conns) >= s.cfg.MaxConnections
	if full || s.stopped() {
		s.mu.Unlock()
		nc.Close()
		s.handler.metrics.refusedConns.Add(1)
		if full {
			s.log.Warn("connection refused: max-connections are open", "addr", nc.RemoteAddr(), "max-connections", s.cfg.MaxConnections)
		}
		return
	}
	s.conns[c] = struct{}{}
	s.running.Add(1)
	s.mu.Unlock()
	s.handler.metrics.accepted.Add(1)
	go func() {
		defer s.running.Done()
		c.run()
		s.mu.Lock()
		delete(s.conns, c)
		s.mu.Unlock()
	}()
}

func (s *server) stopped() bool {
	select {
	case <-s.stopping:
		return true
	default:
		return false
	}
}

// each calls fn for every open connection.
func (s *server) each(fn func(*conn)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.conns {
		fn(c)
	}
}

func (s *server) connections() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.conns)
}

// stop closes the listener, lets every connection finish what is in flight and
// returns when all have ended. When ctx is done those that are left are cut off.
func (s *server) stop(ctx context.Context) {
	s.mu.Lock()
	close(s.stopping)
	s.mu.Unlock()
	s.listener.Close()
	s.each((*conn).drain)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		s.running.Wait()
	}()
	select {
	case <-ended:
		return
	case <-ctx.Done():
		s.log.Warn("connections are cut off: their requests did not finish in time", "connections", s.connections())
	}
	s.each((*conn).abort)
	<-ended
}

// acquire takes memory for a frame. Where there is none for half of the time
// that a request may wait, connections that hold memory for a frame that does
// not come are cut off.
func (s *server) acquire(cost int64) (grant, bool) {
	if g, ok := s.budget.tryAcquire(cost); ok {
		return g, true
	}
	wait := time.Duration(s.cfg.OverloadWait) / 2
	if g, ok := s.budget.acquire(cost, wait, s.stopping); ok {
		return g, true
	}
	s.cutStalled()
	return s.budget.acquire(cost, wait, s.stopping)
}

// stallTime is how long a frame may make no progress when memory is short.
const stallTime = time.Second

func (s *server) cutStalled() {
	now := time.Now().UnixNano()
	last := s.lastLook.Load()
	if now-last < int64(stallTime/4) || !s.lastLook.CompareAndSwap(last, now) {
		return
	}
	s.each(func(c *conn) {
		if at := c.progress.Load(); at != 0 && now-at > int64(stallTime) {
			s.handler.metrics.evicted.Add(1)
			s.log.Warn("connection cut off: memory is short and its request does not arrive", "client", c.client, "addr", c.nc.RemoteAddr())
			c.nc.Close() // its goroutines notice and end
		}
	})
}
