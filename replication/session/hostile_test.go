package session

import (
	"context"
	"io"
	"math"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sequitur-mq/sequitur/internal/vfs"
	"github.com/sequitur-mq/sequitur/log"
	"github.com/sequitur-mq/sequitur/replication"
	"github.com/sequitur-mq/sequitur/replication/replica"
	"github.com/sequitur-mq/sequitur/wire"
	"github.com/sequitur-mq/sequitur/wire/peer"
)

// alone is a replica that leads epoch 1 of itself and another node.
func alone(f testing.TB, leader replication.Member) (*replica.Replica, replication.Member) {
	store := openStore(f, vfs.NewMem(vfs.MemOptions{}))
	f.Cleanup(func() { store.Close() })
	id := log.ID{Topic: topic}
	require.NoError(f, store.Create(log.Spec{ID: id}))
	p, _ := store.Partition(id)
	me := replication.Member{Node: 1, Disk: 1}
	r, err := replica.Open(p, replica.Options{Self: me})
	require.NoError(f, err)
	done := make(chan error, 1)
	r.Fence(1, fenced(done))
	require.NoError(f, <-done)
	set := replication.ReplicaSet{Members: []replication.Member{me, {Node: 2, Disk: 2}}}
	require.NoError(f, r.Assign(replica.Assignment{Epoch: 1, Leader: leader, Set: set}))
	return r, me
}

type one struct{ r *replica.Replica }

func (o one) Replica([16]byte, uint32) (*replica.Replica, error) { return o.r, nil }

// framed makes frames of a kind out of arbitrary bytes, so that the fuzzer gets past the
// checksum.
func framed(kind wire.Kind, data []byte) (all []byte) {
	for len(data) > 0 {
		n := min(len(data), 1+int(data[0]))
		batches := min(n/2, int(data[0])%16)
		all = appendFrame(all, kind, 0, raw(data[:n-batches]), batches)
		all = append(all, data[n-batches:n]...)
		data = data[n:]
	}
	return all
}

type raw []byte

func (r raw) AppendTo(dst []byte) []byte { return append(dst, r...) }
func (r raw) Decode([]byte) error        { return nil }

// FuzzServe feeds arbitrary frames to a leader: it must end the session and nothing else.
func FuzzServe(f *testing.F) {
	f.Add([]byte{}, false)
	f.Add((&peer.Progress{Entries: []peer.ProgressEntry{{Handle: 1, Flags: peer.ProgressOpen | peer.ProgressSeek, Seek: 1, Epoch: 1}}}).AppendTo(nil), true)
	f.Add([]byte("GET / HTTP/1.1\r\n\r\n"), false)
	r, me := alone(f, replication.Member{Node: 1, Disk: 1})
	hello := &peer.SessionHello{MinVersion: 1, MaxVersion: 1, From: peer.Member{Node: 2, Disk: 2}, To: toPeer(me)}
	f.Fuzz(func(t *testing.T, data []byte, greeted bool) {
		if greeted {
			data = append(appendFrame(nil, peer.KindSessionHello, 0, hello, 0), framed(peer.KindProgress, data)...)
		}
		ours, theirs := net.Pipe()
		done := make(chan struct{})
		go func() {
			defer close(done)
			_ = Serve(context.Background(), ours, one{r}, Options{Self: me})
		}()
		drained := make(chan struct{})
		go func() {
			defer close(drained)
			b := make([]byte, 4096)
			for {
				if _, err := theirs.Read(b); err != nil {
					return
				}
			}
		}()
		_, _ = theirs.Write(data)
		theirs.Close()
		<-done
		<-drained
	})
}

// FuzzFollow feeds arbitrary frames to a follower.
func FuzzFollow(f *testing.F) {
	f.Add([]byte{}, false)
	f.Add((&peer.Push{Entries: []peer.PushEntry{{Handle: 1, Kind: peer.PushData, Seek: 1, Epoch: 1, HighWatermark: 9}}}).AppendTo(nil), true)
	leader := replication.Member{Node: 2, Disk: 2}
	f.Fuzz(func(t *testing.T, data []byte, greeted bool) {
		r, me := alone(t, leader)
		if greeted {
			welcome := &peer.SessionWelcome{Version: 1, From: toPeer(leader)}
			data = append(appendFrame(nil, peer.KindSessionHello, wire.FlagResponse, welcome, 0), framed(peer.KindPush, data)...)
		}
		dialed := make(chan net.Conn, 1)
		m := NewManager(func(context.Context, uint32) (net.Conn, error) {
			ours, theirs := net.Pipe()
			select {
			case dialed <- theirs:
				return ours, nil
			default:
				return nil, net.ErrClosed
			}
		}, Options{Self: me, BackoffMin: time.Hour, BackoffMax: time.Hour})
		m.Follow(Key{Topic: topic}, r, leader)
		conn := <-dialed
		drained := make(chan struct{})
		go func() {
			defer close(drained)
			b := make([]byte, 4096)
			for {
				if _, err := conn.Read(b); err != nil {
					return
				}
			}
		}()
		_, _ = conn.Write(data)
		conn.Close()
		<-drained
		m.Close()
		require.LessOrEqual(t, r.HighWatermark(), r.Log().End())
	})
}

// A follower that announces more than its reports can have is cut off before any memory
// is set aside; the longest report passes.
func TestLongProgress(t *testing.T) {
	var longest peer.Progress
	for range maxEntries {
		longest.Entries = append(longest.Entries, peer.ProgressEntry{
			Flags: peer.ProgressOpen, Handle: math.MaxUint32, Round: math.MaxUint64, Received: math.MaxUint64,
		})
	}
	require.Less(t, len(longest.AppendTo(nil))+sumSize, maxProgress)

	r, me := alone(t, replication.Member{Node: 1, Disk: 1})
	hello := &peer.SessionHello{MinVersion: 1, MaxVersion: 1, From: peer.Member{Node: 2, Disk: 2}, To: toPeer(me)}
	ours, theirs := net.Pipe()
	defer theirs.Close()
	done := make(chan error, 1)
	go func() {
		done <- Serve(context.Background(), ours, one{r}, Options{Self: me, Handshake: time.Hour, Silence: time.Hour, Idle: time.Hour})
	}()
	_, err := theirs.Write(appendFrame(nil, peer.KindSessionHello, 0, hello, 0))
	require.NoError(t, err)
	_, err = wire.ReadFrameHeader(theirs, make([]byte, wire.FrameHeaderSize), wire.FrameLimits{})
	require.NoError(t, err)
	go func() { _, _ = io.Copy(io.Discard, theirs) }()
	head := wire.FrameHeader{Length: 12 + maxProgress + 1, Kind: peer.KindProgress, Version: uint8(peer.MaxVersion), MetadataLength: maxProgress + 1}
	_, err = theirs.Write(wire.AppendFrameHeader(nil, head))
	require.NoError(t, err)
	require.ErrorIs(t, <-done, wire.ErrFrameTooLarge)
}
