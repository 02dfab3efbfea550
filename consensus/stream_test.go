package consensus

import (
	"context"
	"net"
	"testing"
	"time"

	"github.com/hashicorp/raft"
	"github.com/stretchr/testify/require"
)

func TestServerAddresses(t *testing.T) {
	disk := [16]byte{1, 2, 15: 255}
	got, addr, err := splitAddress(serverAddress(disk, "host:7651"))
	require.NoError(t, err)
	require.Equal(t, disk, got)
	require.Equal(t, "host:7651", addr)
	for _, bad := range []raft.ServerAddress{"", "host:7651", "@host:7651", "0102@host:7651", "zz@host"} {
		_, _, err := splitAddress(bad)
		require.Error(t, err, "%q", bad)
	}
}

// pair is the stream layers of two brokers.
func pair(t *testing.T) (from, to *StreamLayer) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	dial := func(ctx context.Context, addr string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "tcp", addr)
	}
	from, to = NewStreamLayer("nowhere:1", dial), NewStreamLayer(l.Addr().String(), dial)
	from.self, to.self = [16]byte{1}, [16]byte{2}
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			to.Hand(conn)
		}
	}()
	t.Cleanup(func() {
		_ = l.Close()
		_ = from.Close()
		_ = to.Close()
	})
	return from, to
}

func TestStreamsReachOnlyTheDiskTheyAreMeantFor(t *testing.T) {
	from, to := pair(t)
	type outcome struct {
		text string
		err  error
	}
	got := make(chan outcome)
	accept := func() {
		conn, err := to.Accept()
		if err == nil {
			b := make([]byte, 5)
			_, err = conn.Read(b)
			got <- outcome{string(b), err}
			_ = conn.Close()
		}
	}
	go accept()
	conn, err := from.Dial(serverAddress(to.self, to.addr), time.Minute)
	require.NoError(t, err)
	_, err = conn.Write([]byte("hello"))
	require.NoError(t, err)
	require.Equal(t, outcome{"hello", nil}, <-got)

	go accept()
	conn, err = from.Dial(serverAddress([16]byte{9}, to.addr), time.Minute)
	require.NoError(t, err)
	_, _ = conn.Write([]byte("hello"))
	require.ErrorContains(t, (<-got).err, "that disk is gone from this address")

	require.NoError(t, to.Close())
	_, err = to.Accept()
	require.ErrorIs(t, err, net.ErrClosed)
	_, err = to.Dial(serverAddress(to.self, to.addr), time.Minute)
	require.Error(t, err)
}

// heartbeatThroughConsumer sends a heartbeat to a transport on which a handler for heartbeats was
// set, as Raft does, and says whether it came out where Raft's main loop reads.
func heartbeatThroughConsumer(t *testing.T, wrap func(*raft.NetworkTransport) raft.Transport) bool {
	from, to := pair(t)
	config := func(l *StreamLayer) *raft.NetworkTransportConfig {
		return &raft.NetworkTransportConfig{Stream: l, MaxPool: 1, Timeout: time.Minute, Logger: raftLogger(discard)}
	}
	sender := raft.NewNetworkTransportWithConfig(config(from))
	inner := raft.NewNetworkTransportWithConfig(config(to))
	receiver := wrap(inner)
	fast := make(chan struct{}, 1)
	receiver.SetHeartbeatHandler(func(rpc raft.RPC) {
		fast <- struct{}{}
		rpc.Respond(&raft.AppendEntriesResponse{}, nil)
	})
	sent := make(chan error, 1)
	go func() {
		sent <- sender.AppendEntries("", receiver.LocalAddr(), &raft.AppendEntriesRequest{
			RPCHeader: raft.RPCHeader{ProtocolVersion: 3, Addr: []byte("leader")}, Term: 5,
		}, &raft.AppendEntriesResponse{})
	}()
	consumed := false
	select {
	case rpc := <-receiver.Consumer():
		rpc.Respond(&raft.AppendEntriesResponse{}, nil)
		consumed = true
	case <-fast:
	}
	require.NoError(t, <-sent)
	require.NoError(t, sender.Close())
	sender.CloseStreams()
	require.NoError(t, inner.Close())
	inner.CloseStreams()
	return consumed
}

func TestHeartbeatsTakeTheWayOfEveryRequest(t *testing.T) {
	require.True(t, heartbeatThroughConsumer(t, func(n *raft.NetworkTransport) raft.Transport { return transport{NetworkTransport: n} }),
		"heartbeats must go through Raft's main loop")
	require.False(t, heartbeatThroughConsumer(t, func(n *raft.NetworkTransport) raft.Transport { return n }),
		"this test would not notice the fast path")
	// newRaft takes no other transport.
	var _ raft.WithPreVote = transport{}
	var _ raft.WithClose = transport{}
}
