package session

import (
	"log/slog"
	"time"

	"github.com/sequitur-mq/sequitur/replication"
	"github.com/sequitur-mq/sequitur/replication/replica"
	"github.com/sequitur-mq/sequitur/wire"
	"github.com/sequitur-mq/sequitur/wire/peer"
)

// Options are shared by both sides. Zero fields take the defaults named here.
type Options struct {
	Self    replication.Member
	Cluster wire.UUID
	Nonce   uint64       // which life of this process this is
	Logger  *slog.Logger // default: discard

	Idle      time.Duration // a sign of life is sent after so long without anything else; default 100 ms
	Silence   time.Duration // the session ends after so long without a frame; default 600 ms
	Handshake time.Duration // for hello and welcome; default 2 s

	Window          int // bytes sent and not done with per session; default 8 MiB
	PartitionWindow int // the same per partition, one batch always; default 1 MiB
	ChunkBytes      int // read of a partition at once; default 256 KiB
	FrameBytes      int // of batches in a frame, about; default 512 KiB

	HighWatermarkDelay time.Duration // longest wait of a high watermark for company; default 5 ms

	BackoffMin, BackoffMax time.Duration // between connections; default 10 ms and 1 s
}

func (o Options) withDefaults() Options {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	setDefault(&o.Idle, 100*time.Millisecond)
	setDefault(&o.Silence, 600*time.Millisecond)
	setDefault(&o.Handshake, 2*time.Second)
	setDefault(&o.Window, 8<<20)
	setDefault(&o.PartitionWindow, 1<<20)
	setDefault(&o.ChunkBytes, 256<<10)
	setDefault(&o.FrameBytes, 512<<10)
	setDefault(&o.HighWatermarkDelay, 5*time.Millisecond)
	setDefault(&o.BackoffMin, 10*time.Millisecond)
	setDefault(&o.BackoffMax, time.Second)
	return o
}

func setDefault[T int | time.Duration](v *T, value T) {
	if *v <= 0 {
		*v = value
	}
}

// Key names a partition.
type Key struct {
	Topic     [16]byte
	Partition uint32
}

// Replicas finds the replicas of this broker.
type Replicas interface {
	Replica(topic [16]byte, partition uint32) (*replica.Replica, error)
}

// maxEntries bounds the entries of a frame that is sent, maxFrame a frame that is read.
const (
	maxEntries = 4096
	maxFrame   = 16 << 20
	// maxProgress bounds the frames of a follower: maxEntries of at most 73 bytes fit.
	maxProgress = 512 << 10
)

func toPeer(m replication.Member) peer.Member { return peer.Member{Node: m.Node, Disk: m.Disk} }
func fromPeer(m peer.Member) replication.Member {
	return replication.Member{Node: m.Node, Disk: m.Disk}
}
