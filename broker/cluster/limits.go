package cluster

import (
	"net"
	"sync"
	"time"

	"github.com/sequitur-mq/sequitur/wire"
)

// Limits bound what the cluster port spends on those who connect to it, who may be
// anybody that reaches it. Zero fields take the defaults named here.
type Limits struct {
	Connections int           // open at once, of all kinds; default 512
	Preamble    time.Duration // for the preamble, and for the first request of rpc; default 5 s
	Frame       time.Duration // for the rest of a frame that has begun, and to write one; default 5 s
	Silence     time.Duration // between requests of rpc while none is handled; default 10 s
	Bytes       int           // of requests of rpc that are read and handled; default 64 MiB
}

func (l Limits) withDefaults() Limits {
	setDefault(&l.Connections, 512)
	setDefault(&l.Preamble, 5*time.Second)
	setDefault(&l.Frame, 5*time.Second)
	setDefault(&l.Silence, 10*time.Second)
	setDefault(&l.Bytes, 64<<20)
	return l
}

func setDefault[T int | time.Duration](v *T, value T) {
	if *v <= 0 {
		*v = value
	}
}

// smallFrame is what a frame may take though the budget is spent, so that large ones
// cannot keep heartbeats out; and the most that is allocated before its bytes came.
const smallFrame = 64 << 10

// A budget is bytes that all connections share. nil: without bounds.
type budget struct {
	mu    sync.Mutex
	used  int
	bytes int
}

// take takes n bytes more for a frame that has had `had` of them.
func (b *budget) take(n, had int) error {
	if b == nil {
		return nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	most := b.bytes
	if had+n <= smallFrame {
		most *= 2
	}
	if b.used+n > most {
		return wire.Errorf(wire.CodeOverloaded, "%d bytes of requests of other brokers are being read or handled", b.used)
	}
	b.used += n
	return nil
}

func (b *budget) give(n int) {
	if b == nil {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.used -= n
}

// A counted connection is one of the listener's until it is closed.
type counted struct {
	net.Conn
	once sync.Once
	gone func()
}

// Close implements net.Conn.
func (c *counted) Close() error {
	c.once.Do(c.gone)
	return c.Conn.Close()
}
