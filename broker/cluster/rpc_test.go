package cluster

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/sequitur-mq/sequitur/wire"
	"github.com/sequitur-mq/sequitur/wire/peer"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// serveRPC serves requests on a port of its own until the test ends.
func serveRPC(t *testing.T, s *Server) *Listener {
	t.Helper()
	l, err := Listen(context.Background(), "127.0.0.1:0", "", slog.New(slog.DiscardHandler), s.Limits)
	require.NoError(t, err)
	s.Log = slog.New(slog.DiscardHandler)
	l.Handle(peer.StreamRPC, s.Serve)
	t.Cleanup(func() { require.NoError(t, l.Close()) })
	return l
}

func newPool(t *testing.T) *Peers {
	p := NewPeers()
	t.Cleanup(p.Close)
	return p
}

// Answers find the request that they belong to, in whatever order they come.
func TestCallsAreConcurrent(t *testing.T) {
	release := make(chan struct{})
	l := serveRPC(t, &Server{Handle: func(_ *Caller, kind wire.Kind, body []byte) (wire.Message, error) {
		require.Equal(t, peer.KindLeaving, kind)
		var req peer.LeavingRequest
		if err := req.Decode(body); err != nil {
			return nil, err
		}
		if req.Node == 1 {
			<-release
		} else {
			close(release)
		}
		return &peer.LeavingResponse{Leaders: req.Node * 10}, nil
	}})
	p := newPool(t)
	var first peer.LeavingResponse
	done := make(chan error, 1)
	go func() {
		done <- p.Call(context.Background(), l.Addr(), peer.KindLeaving, &peer.LeavingRequest{Node: 1}, &first)
	}()
	var second peer.LeavingResponse
	require.NoError(t, p.Call(context.Background(), l.Addr(), peer.KindLeaving, &peer.LeavingRequest{Node: 2}, &second))
	require.NoError(t, <-done)
	require.Equal(t, uint32(10), first.Leaders)
	require.Equal(t, uint32(20), second.Leaders)
}

// An error of a handler arrives as what it is; a connection that ends fails what
// waits on it, and the next call makes a new one.
func TestCallFailures(t *testing.T) {
	var lost sync.WaitGroup
	lost.Add(1)
	callers := make(chan net.Conn, 4)
	s := &Server{
		Handle: func(from *Caller, _ wire.Kind, body []byte) (wire.Message, error) {
			var req peer.LeavingRequest
			if err := req.Decode(body); err != nil {
				return nil, err
			}
			switch req.Node {
			case 1:
				return nil, wire.Errorf(wire.CodeNotLeader, "not here")
			case 2:
				from.Is(2)
				(<-callers).Close()
				<-time.After(time.Millisecond)
			}
			return &peer.LeavingResponse{Leaders: 7}, nil
		},
		Lost: func(node uint32) {
			if node == 2 {
				lost.Done()
			}
		},
	}
	l := serveRPC(t, s)
	l.Handle(peer.StreamRPC, func(nc net.Conn) { callers <- nc; s.Serve(nc) })
	p := newPool(t)
	var resp peer.LeavingResponse
	require.NoError(t, p.Call(context.Background(), l.Addr(), peer.KindLeaving, &peer.LeavingRequest{Node: 1}, &resp))
	require.ErrorIs(t, resp.Err(), wire.ErrNotLeader)
	require.ErrorIs(t, p.Call(context.Background(), l.Addr(), peer.KindLeaving, &peer.LeavingRequest{Node: 2}, &resp), ErrUnreachable)
	lost.Wait()
	require.NoError(t, p.Call(context.Background(), l.Addr(), peer.KindLeaving, &peer.LeavingRequest{Node: 3}, &resp))
	require.Equal(t, uint32(7), resp.Leaders)

	gone, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	addr := gone.Addr().String()
	require.NoError(t, gone.Close())
	require.ErrorIs(t, p.Call(context.Background(), addr, peer.KindWho, &peer.WhoRequest{}, &peer.WhoResponse{}), ErrUnreachable)
	ctx, cancel := context.WithCancelCause(context.Background())
	enough := errors.New("enough")
	cancel(enough)
	require.ErrorIs(t, p.Call(ctx, l.Addr(), peer.KindLeaving, &peer.LeavingRequest{Node: 3}, &resp), enough)
}

// What is no broker's stream is closed without an answer, and Raft's streams go
// to Raft.
func TestStreams(t *testing.T) {
	l := serveRPC(t, &Server{})
	nc, err := net.Dial("tcp", l.Addr())
	require.NoError(t, err)
	defer nc.Close()
	_, err = nc.Write([]byte("GET / HTTP/1.1\r\n"))
	require.NoError(t, err)
	require.NoError(t, nc.SetReadDeadline(time.Now().Add(30*time.Second)))
	_, err = nc.Read(make([]byte, 1))
	require.Error(t, err)

	taken := make(chan net.Conn, 1)
	l.Handle(peer.StreamRaft, func(nc net.Conn) { taken <- nc })
	out, err := Dial(context.Background(), l.Addr(), peer.StreamRaft)
	require.NoError(t, err)
	defer out.Close()
	in := <-taken
	defer in.Close()
	_, err = out.Write([]byte("x"))
	require.NoError(t, err)
	b := make([]byte, 1)
	_, err = in.Read(b)
	require.NoError(t, err, "a stream of Raft is Raft's to close")
	require.Equal(t, "x", string(b))
}

// A process that dies closes its connections before its port: a probe that came in
// between is cut off, which must not be taken for "not known".
func TestProbeOfADyingProcessIsRefused(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	go func() {
		for i := 0; ; i++ {
			c, err := l.Accept()
			if err != nil {
				return
			}
			if i == 2 {
				l.Close()
			}
			c.Close()
		}
	}()
	_, err = whoIsThere(t.Context(), l.Addr().String())
	require.ErrorIs(t, err, syscall.ECONNREFUSED)
}
