package cluster

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"

	"github.com/sequitur-mq/sequitur/wire"
)

// maxMessageBytes bounds one request or answer between brokers. The largest are
// metadata commands and heartbeats that name every partition.
const maxMessageBytes = 16 << 20

// An rpcConn frames messages on a connection: one reader, many writers.
type rpcConn struct {
	net.Conn
	in      *bufio.Reader
	scratch [wire.FrameHeaderSize]byte

	mu  sync.Mutex
	out []byte
}

func newRPCConn(conn net.Conn) *rpcConn {
	return &rpcConn{Conn: conn, in: bufio.NewReaderSize(conn, 32<<10)}
}

// send writes one frame.
func (c *rpcConn) send(head wire.FrameHeader, m wire.Message) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.out = wire.AppendFrame(c.out[:0], head, m, 0)
	if len(c.out) > maxMessageBytes {
		return fmt.Errorf("a message of %d bytes is too long for another broker, at most %d are", len(c.out), maxMessageBytes)
	}
	_, err := c.Write(c.out)
	if cap(c.out) > 1<<20 {
		c.out = nil
	}
	return err
}

// receive reads one frame. The body is a new slice.
func (c *rpcConn) receive() (wire.FrameHeader, []byte, error) {
	head, err := wire.ReadFrameHeader(c.in, c.scratch[:], wire.FrameLimits{MaxFrameBytes: maxMessageBytes})
	if err != nil {
		return head, nil, err
	}
	if head.BatchesLength() != 0 {
		return head, nil, errors.New("batches follow a message that has none")
	}
	body := make([]byte, head.BodyLength())
	if _, err := io.ReadFull(c.in, body); err != nil {
		return head, nil, err
	}
	return head, body, nil
}
