package broker

import (
	"syscall"
	"time"

	"github.com/sequitur-mq/sequitur/wire"
)

const (
	// maxOutboxBytes is how many bytes of answers may wait to be written before
	// the connection stops reading requests.
	maxOutboxBytes = 1 << 20
	// keepOutbox is the largest answer buffer that a connection keeps.
	keepOutbox = 64 << 10
)

// An outbox is what waits to be written to a connection: encoded answers, which
// leave together in one system call, and fetches whose turn it is to be
// evaluated and written. All fields are guarded by the connection's lock.
//
// Invariant: whoever set writing, and nobody else, writes to the socket.
type outbox struct {
	answers []byte
	spare   []byte // the buffer that was written last, for reuse
	fetches []*fetch
	bytes   int  // of answers, and of those that are being written
	writing bool // somebody writes to the socket
	rest    []byte
}

// answer queues the response to a request in flight, whose share of the
// connection is given back. It may be called on any goroutine and never blocks:
// it writes at once if the socket takes it and nothing else is in flight, so
// that a lone request is not delayed by waking the write goroutine.
func (c *conn) answer(head wire.FrameHeader, m wire.Message, cost int64) {
	c.mu.Lock()
	c.endLocked(cost)
	if c.broken {
		c.mu.Unlock()
		return
	}
	c.appendLocked(head, m)
	if c.raw == nil || c.out.writing || c.requests > c.parked.n || len(c.out.fetches) > 0 || len(c.out.answers) > directBytes {
		c.writable.Signal()
		c.mu.Unlock()
		return
	}
	b := c.takeLocked()
	c.mu.Unlock()
	n := c.writeNow(b)
	c.mu.Lock()
	if n < len(b) {
		// The write goroutine goes on with the rest, still as the one writer.
		c.out.rest = b[n:]
	} else {
		c.writtenLocked(b)
	}
	if n < len(b) || len(c.out.answers) > 0 || len(c.out.fetches) > 0 || c.finished {
		c.writable.Signal()
	}
	c.mu.Unlock()
}

// directBytes is the most that a completing goroutine writes itself.
const directBytes = 4 << 10

// reject queues an answer to a request that was never counted as in flight.
func (c *conn) reject(head wire.FrameHeader, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.broken {
		c.appendLocked(head, &statusOnly{Status: wire.StatusOf(err)})
		c.writable.Signal()
	}
}

// end gives back the share of a request that gets no answer.
func (c *conn) end(cost int64) {
	c.mu.Lock()
	c.endLocked(cost)
	if c.finished {
		c.writable.Signal()
	}
	c.mu.Unlock()
}

func (c *conn) endLocked(cost int64) {
	c.requests--
	c.bytes -= cost
	c.readable.Signal()
}

func (c *conn) appendLocked(head wire.FrameHeader, m wire.Message) {
	before := len(c.out.answers)
	head.Flags = wire.FlagResponse
	c.out.answers = wire.AppendFrame(c.out.answers, head, m, 0)
	c.out.bytes += len(c.out.answers) - before
}

// takeLocked takes the queued answers for writing.
func (c *conn) takeLocked() []byte {
	b := c.out.answers
	c.out.answers, c.out.spare = c.out.spare[:0], nil
	c.out.writing = true
	return b
}

// writtenLocked ends the writing of b.
func (c *conn) writtenLocked(b []byte) {
	c.out.writing = false
	c.out.rest = nil
	c.out.bytes = len(c.out.answers)
	if c.out.spare == nil && cap(b) <= keepOutbox {
		c.out.spare = b[:0]
	}
	c.readable.Signal()
}

// writeNow writes what the socket takes without waiting and returns how much.
// The caller holds writing.
func (c *conn) writeNow(b []byte) int {
	c.direct.b, c.direct.n = b, 0
	_ = c.raw.Write(c.direct.write)
	c.direct.b = nil
	return c.direct.n
}

// A directWrite is one system call on the socket, without an allocation.
type directWrite struct {
	b     []byte
	n     int
	write func(fd uintptr) bool // once; whatever is left is the write goroutine's
}

func (d *directWrite) once(fd uintptr) bool {
	for {
		n, err := syscall.Write(int(fd), d.b)
		if err != syscall.EINTR {
			d.n = max(n, 0)
			return true
		}
	}
}

// writeLoop is the write goroutine.
func (c *conn) writeLoop() {
	w := fetchWriter{c: c}
	for {
		c.mu.Lock()
		for !c.workLocked() {
			if c.broken || c.finished && c.requests == 0 && !c.out.writing {
				c.mu.Unlock()
				return
			}
			c.writable.Wait()
		}
		if c.out.rest != nil || len(c.out.answers) > 0 {
			b := c.out.rest
			if b == nil {
				b = c.takeLocked()
			}
			c.mu.Unlock()
			err := c.write(b)
			c.mu.Lock()
			c.writtenLocked(b)
			c.mu.Unlock()
			if err != nil {
				c.abort()
				return
			}
			continue
		}
		f := c.out.fetches[0]
		c.out.fetches = append(c.out.fetches[:0], c.out.fetches[1:]...)
		c.out.writing = true
		f.state = fetchServing
		last := f.last
		c.mu.Unlock()
		if !c.serveFetch(&w, f, last) {
			c.abort()
			return
		}
	}
}

// workLocked reports whether the write goroutine has something to do now.
func (c *conn) workLocked() bool {
	if c.broken {
		return false
	}
	if c.out.writing {
		return c.out.rest != nil // left over by a goroutine that could not write all
	}
	return len(c.out.answers) > 0 || len(c.out.fetches) > 0
}

// serveFetch answers a fetch, or parks it again if there is too little. It
// reports false if the connection is lost.
func (c *conn) serveFetch(w *fetchWriter, f *fetch, last bool) bool {
	served, err := w.serve(f, last)
	c.mu.Lock()
	c.out.writing = false
	if !served {
		c.parkLocked(f)
		c.mu.Unlock()
		return true
	}
	c.endLocked(f.cost)
	c.mu.Unlock()
	f.recycle()
	return err == nil
}

// write writes b, for as long as the peer keeps reading.
func (c *conn) write(b []byte) error {
	c.allowWrite(int64(len(b)))
	_, err := c.nc.Write(b)
	return err
}

// allowWrite gives the peer time to read n bytes. Moving the deadline costs, so
// it is left alone while it is far enough away.
func (c *conn) allowWrite(n int64) {
	now := time.Now()
	need := now.Add(transferTime(c.h.cfg.WriteTimeout, n))
	if n > directBytes || c.writeDeadline.Before(now.Add(time.Duration(c.h.cfg.WriteTimeout)/2)) {
		_ = c.nc.SetWriteDeadline(need)
		c.writeDeadline = need
	}
}
