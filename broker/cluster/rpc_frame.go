package cluster

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

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
	frame   time.Duration // for the rest of a frame, and to write one
	budget  *budget

	mu  sync.Mutex
	out []byte
}

func newRPCConn(conn net.Conn, frame time.Duration, b *budget) *rpcConn {
	return &rpcConn{Conn: conn, in: bufio.NewReaderSize(conn, 32<<10), frame: frame, budget: b}
}

// send writes one frame.
func (c *rpcConn) send(head wire.FrameHeader, m wire.Message) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.out = wire.AppendFrame(c.out[:0], head, m, 0)
	if len(c.out) > maxMessageBytes {
		return fmt.Errorf("a message of %d bytes is too long for another broker, at most %d are", len(c.out), maxMessageBytes)
	}
	if err := c.SetWriteDeadline(time.Now().Add(c.frame)); err != nil {
		return err
	}
	_, err := c.Write(c.out)
	if cap(c.out) > 1<<20 {
		c.out = nil
	}
	return err
}

// await waits for the first byte of a frame, for ever if silence is 0. Nothing is lost
// when it returns os.ErrDeadlineExceeded.
func (c *rpcConn) await(silence time.Duration) error {
	var until time.Time
	if silence > 0 {
		until = time.Now().Add(silence)
	}
	if err := c.SetReadDeadline(until); err != nil {
		return err
	}
	_, err := c.in.Peek(1)
	return err
}

// receive reads one frame, whose bytes have to come in time. The body is a new slice;
// its capacity is to be given back to the budget.
func (c *rpcConn) receive() (head wire.FrameHeader, body []byte, err error) {
	if err := c.SetReadDeadline(time.Now().Add(c.frame)); err != nil {
		return head, nil, err
	}
	head, err = wire.ReadFrameHeader(c.in, c.scratch[:], wire.FrameLimits{MaxFrameBytes: maxMessageBytes})
	if err != nil {
		return head, nil, err
	}
	if head.BatchesLength() != 0 {
		return head, nil, errors.New("batches follow a message that has none")
	}
	body, err = c.body(head.BodyLength())
	return head, body, err
}

// body reads n bytes. The length is only what somebody says: memory is taken as they come.
func (c *rpcConn) body(n int) (body []byte, err error) {
	taken := 0
	for len(body) < n {
		size := min(n, max(2*len(body), smallFrame))
		if err = c.budget.take(size-taken, taken); err != nil {
			break
		}
		taken = size
		grown := make([]byte, size)
		at := copy(grown, body)
		body = grown
		if _, err = io.ReadFull(c.in, body[at:]); err != nil {
			break
		}
	}
	if err != nil {
		c.budget.give(taken)
		return nil, err
	}
	return body, nil
}
