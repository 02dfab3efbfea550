package cluster

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sequitur-mq/sequitur/wire"
	"github.com/sequitur-mq/sequitur/wire/peer"
)

// short are deadlines that end soon, long ones those that a test never sees the end of.
const (
	short = 20 * time.Millisecond
	long  = time.Hour
)

func never(*Caller, wire.Kind, []byte) (wire.Message, error) { panic("no request was sent") }

// stream opens a stream of rpc.
func stream(t *testing.T, l *Listener) net.Conn {
	t.Helper()
	conn, err := Dial(context.Background(), l.Addr(), peer.StreamRPC)
	require.NoError(t, err)
	t.Cleanup(func() { conn.Close() })
	return conn
}

// announce sends the header of a request with a body of n bytes, and the first of them.
func announce(t *testing.T, conn net.Conn, n, sent int) {
	t.Helper()
	head := wire.FrameHeader{Length: uint32(12 + n), Kind: peer.KindWho, Version: 1, MetadataLength: uint32(n)}
	_, err := conn.Write(append(wire.AppendFrameHeader(nil, head), make([]byte, sent)...))
	require.NoError(t, err)
}

// requireClosed waits until the other side has closed the connection.
func requireClosed(t *testing.T, conn net.Conn) {
	t.Helper()
	require.NoError(t, conn.SetReadDeadline(time.Now().Add(30*time.Second)))
	_, err := io.Copy(io.Discard, conn)
	var timeout net.Error
	require.False(t, errors.As(err, &timeout) && timeout.Timeout(), "the connection is still open")
}

// Whoever says nothing, stops within a frame or falls silent is cut off.
func TestSlowCallers(t *testing.T) {
	whole := func(t *testing.T, conn net.Conn) {
		announce(t, conn, 0, 0)
		_, err := io.ReadFull(conn, make([]byte, 16))
		require.NoError(t, err)
	}
	for name, c := range map[string]struct {
		limits Limits
		act    func(t *testing.T, conn net.Conn)
	}{
		"no request": {Limits{Preamble: short, Frame: long, Silence: long}, func(*testing.T, net.Conn) {}},
		"part of a header": {Limits{Preamble: long, Frame: short, Silence: long}, func(t *testing.T, conn net.Conn) {
			_, err := conn.Write([]byte{1})
			require.NoError(t, err)
		}},
		"part of a body": {Limits{Preamble: long, Frame: short, Silence: long}, func(t *testing.T, conn net.Conn) {
			announce(t, conn, 100, 99)
		}},
		"silence": {Limits{Preamble: long, Frame: long, Silence: short}, whole},
	} {
		t.Run(name, func(t *testing.T) {
			l := serveRPC(t, &Server{Limits: c.limits, Handle: func(*Caller, wire.Kind, []byte) (wire.Message, error) {
				return &peer.LeavingResponse{}, nil
			}})
			conn := stream(t, l)
			c.act(t, conn)
			requireClosed(t, conn)
		})
	}
	t.Run("no preamble", func(t *testing.T) {
		l := serveRPC(t, &Server{Handle: never, Limits: Limits{Preamble: short}})
		conn, err := net.Dial("tcp", l.Addr())
		require.NoError(t, err)
		defer conn.Close()
		requireClosed(t, conn)
	})
}

// A caller that waits for an answer is silent for good reason.
func TestSilenceWhileARequestIsHandled(t *testing.T) {
	l := serveRPC(t, &Server{Limits: Limits{Silence: short}, Handle: func(*Caller, wire.Kind, []byte) (wire.Message, error) {
		<-time.After(5 * short)
		return &peer.LeavingResponse{Leaders: 3}, nil
	}})
	var resp peer.LeavingResponse
	require.NoError(t, newPool(t).Call(context.Background(), l.Addr(), peer.KindLeaving, &peer.LeavingRequest{}, &resp))
	require.Equal(t, uint32(3), resp.Leaders)
}

// Frames that are announced but do not come take no memory; those that come take it
// from what all connections share, and small ones pass when that is spent.
func TestMemoryOfTheClusterPort(t *testing.T) {
	const big = 4 << 20
	s := &Server{Limits: Limits{Preamble: long, Frame: long, Silence: long, Bytes: 3 * big}, Handle: func(_ *Caller, _ wire.Kind, body []byte) (wire.Message, error) {
		return &peer.LeavingResponse{Leaders: uint32(len(body))}, nil
	}}
	l := serveRPC(t, s)
	used := func() int {
		s.budget.mu.Lock()
		defer s.budget.mu.Unlock()
		return s.budget.used
	}
	first := stream(t, l)
	announce(t, first, 0, 0)
	_, err := io.ReadFull(first, make([]byte, 16))
	require.NoError(t, err)

	const idle = 20
	var conns []net.Conn
	for range idle {
		conn := stream(t, l)
		announce(t, conn, big, 1)
		conns = append(conns, conn)
	}
	require.Eventually(t, func() bool { return used() == idle*smallFrame }, 30*time.Second, time.Millisecond)
	cut := make(chan struct{}, idle)
	for _, conn := range conns {
		go func() {
			_, _ = conn.Write(make([]byte, big-2)) // fails where it is cut off
			_, _ = conn.Read(make([]byte, 1))
			cut <- struct{}{}
		}()
	}
	for range idle - 3 { // at most three fit
		<-cut
	}
	require.LessOrEqual(t, used(), 3*big)

	announce(t, first, 8, 8)
	_, err = io.ReadFull(first, make([]byte, 16))
	require.NoError(t, err, "small requests pass")
	for _, conn := range conns {
		conn.Close()
	}
	require.Eventually(t, func() bool { return used() == 0 }, 30*time.Second, time.Millisecond, "all is given back")
	for range 3 {
		<-cut
	}
	whole := stream(t, l)
	announce(t, whole, big, big)
	_, err = io.ReadFull(whole, make([]byte, 16))
	require.NoError(t, err, "large requests pass again")
}

// Connections beyond the limit are closed at once; those of Raft count until it closes
// them, and what was closed makes room.
func TestConnectionsOfTheClusterPort(t *testing.T) {
	l, err := Listen(context.Background(), "127.0.0.1:0", "", slog.New(slog.DiscardHandler), Limits{Connections: 2, Preamble: long})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, l.Close()) })
	taken := make(chan net.Conn, 2)
	l.Handle(peer.StreamRaft, func(conn net.Conn) { taken <- conn })
	var held []net.Conn
	for range 2 {
		conn, err := Dial(context.Background(), l.Addr(), peer.StreamRaft)
		require.NoError(t, err)
		defer conn.Close()
		held = append(held, <-taken)
	}
	third, err := net.Dial("tcp", l.Addr())
	require.NoError(t, err)
	defer third.Close()
	requireClosed(t, third)
	require.NoError(t, held[0].Close())
	_ = held[0].Close() // counts once
	conn, err := Dial(context.Background(), l.Addr(), peer.StreamRaft)
	require.NoError(t, err)
	defer conn.Close()
	held[0] = <-taken
	fourth, err := net.Dial("tcp", l.Addr())
	require.NoError(t, err)
	defer fourth.Close()
	requireClosed(t, fourth)
	for _, conn := range held {
		conn.Close()
	}
}
