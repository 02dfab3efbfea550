package log

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"syscall"
)

// Chunk is a stretch of whole batches, either in the memory tail or in a segment file. It is used by one goroutine and
// must be released; batches stay readable until then, whatever retention, truncation or deletion do meanwhile.
type Chunk struct {
	n    int
	next int64

	h   *handle // of a stretch of a file
	pos int64

	tail *tail
	refs []tailRef // pinned
	mem  [][]byte
	pool *sync.Pool
}

// Len is the number of bytes.
func (c *Chunk) Len() int { return c.n }

// Next is the offset after the last batch: where the next read begins.
func (c *Chunk) Next() int64 { return c.next }

// InMemory reports whether the bytes come from the memory tail.
func (c *Chunk) InMemory() bool { return c.h == nil }

// AppendTo appends the bytes to dst.
func (c *Chunk) AppendTo(dst []byte) ([]byte, error) {
	if c.h == nil {
		for _, b := range c.mem {
			dst = append(dst, b...)
		}
		return dst, nil
	}
	at := len(dst)
	dst = slices.Grow(dst, c.n)[:at+c.n]
	if n, err := c.h.f.ReadAt(dst[at:], c.pos); n < c.n {
		return dst[:at], fmt.Errorf("read segment %s: %w", c.h.f.Name(), err)
	}
	return dst, nil
}

// WriteTo writes the bytes to w: from memory with one write per stretch, from a file with sendfile where w is a
// connection of the operating system, so that the bytes do not pass through the process.
func (c *Chunk) WriteTo(w io.Writer) (int64, error) {
	if c.h == nil {
		return c.writeMemory(w)
	}
	var sent int64
	if conn, ok := w.(syscall.Conn); ok {
		if fd, ok := c.h.f.Fd(); ok {
			n, handled, err := sendFile(conn, fd, c.pos, int64(c.n))
			if handled {
				if err != nil {
					err = fmt.Errorf("send segment %s: %w", c.h.f.Name(), err)
				}
				return n, err
			}
			sent = n
		}
	}
	n, err := io.Copy(onlyWriter{w}, io.NewSectionReader(c.h.f, c.pos+sent, int64(c.n)-sent))
	sent += n
	if err == nil && sent < int64(c.n) {
		err = fmt.Errorf("read segment %s: %w", c.h.f.Name(), io.ErrUnexpectedEOF)
	}
	return sent, err
}

// onlyWriter hides a ReadFrom that would try to be clever with the section reader.
type onlyWriter struct{ io.Writer }

func (c *Chunk) writeMemory(w io.Writer) (sent int64, err error) {
	for _, b := range c.mem {
		n, err := w.Write(b)
		sent += int64(n)
		if err != nil {
			return sent, err
		}
	}
	return sent, nil
}

// Release gives the chunk back. It must not be used afterwards.
func (c *Chunk) Release() {
	if c.h != nil {
		c.h.release()
	}
	for _, r := range c.refs {
		c.tail.unpin(r.slab)
	}
	clear(c.refs)
	clear(c.mem)
	pool := c.pool
	*c = Chunk{refs: c.refs[:0], mem: c.mem[:0]}
	if pool != nil {
		pool.Put(c)
	}
}

var errSendUnsupported = errors.New("sendfile not supported here")
