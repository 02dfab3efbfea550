package cluster

import (
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"sync"

	"github.com/sequitur-mq/sequitur/wire"
)

// maxConcurrent bounds the requests of one connection that are being handled.
const maxConcurrent = 128

// A Caller is a connection that requests come in on. Handlers may note which
// broker it is, so that its end is known as that broker's.
type Caller struct {
	Addr string // of the other end

	mu   sync.Mutex
	node uint32
}

// Is notes that the broker with this node id is at the other end.
func (c *Caller) Is(node uint32) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.node = node
}

// Node is the broker at the other end, 0 if it is not known.
func (c *Caller) Node() uint32 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.node
}

// A Handler answers a request of another broker; each runs on a goroutine of its
// own. An error is answered too, and so is a request that cannot be decoded.
type Handler func(from *Caller, kind wire.Kind, body []byte) (wire.Message, error)

// A Server serves rpc connections.
type Server struct {
	Handle Handler
	// Lost is called when a connection has ended whose caller was known.
	Lost   func(node uint32)
	Log    *slog.Logger
	Limits Limits

	ready  sync.Once
	budget *budget
}

// Serve reads requests until the connection ends, and returns when all of them
// have been handled.
func (s *Server) Serve(nc net.Conn) {
	s.ready.Do(func() {
		s.Limits = s.Limits.withDefaults()
		s.budget = &budget{bytes: s.Limits.Bytes}
	})
	c := newRPCConn(nc, s.Limits.Frame, s.budget)
	from := &Caller{Addr: nc.RemoteAddr().String()}
	slots := make(chan struct{}, maxConcurrent)
	var running sync.WaitGroup
	silence := s.Limits.Preamble
	for {
		err := c.await(silence)
		if errors.Is(err, os.ErrDeadlineExceeded) && len(slots) > 0 {
			continue // it waits for answers
		}
		silence = s.Limits.Silence
		var head wire.FrameHeader
		var body []byte
		if err == nil {
			head, body, err = c.receive()
		}
		if err != nil {
			if !errors.Is(err, io.EOF) && !errors.Is(err, net.ErrClosed) {
				s.Log.Debug("connection of another broker ended", "addr", from.Addr, "node", from.Node(), "error", err)
			}
			break
		}
		slots <- struct{}{}
		running.Add(1)
		go func() {
			defer func() { s.budget.give(len(body)); <-slots; running.Done() }()
			s.serve(c, from, head, body)
		}()
	}
	nc.Close()
	if node := from.Node(); node != 0 && s.Lost != nil {
		s.Lost(node)
	}
	running.Wait()
}

func (s *Server) serve(c *rpcConn, from *Caller, head wire.FrameHeader, body []byte) {
	m, err := s.Handle(from, head.Kind, body)
	if err != nil {
		m = failure(err)
	}
	head.Flags |= wire.FlagResponse
	if err := c.send(head, m); err != nil {
		c.Close()
	}
}

// failure is an answer that is an error and nothing else.
func failure(err error) wire.Message {
	var we *wire.Error
	if !errors.As(err, &we) {
		we = &wire.Error{Code: wire.CodeUnknown, Message: err.Error()}
	}
	return &wire.AlterTopicResponse{Status: wire.StatusOf(we)}
}
