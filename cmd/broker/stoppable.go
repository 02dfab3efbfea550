package main

import (
	"context"
	"io"
	"sync"
)

// stoppable is a reader whose Read ends when a context does, although the
// reader below may be stuck in a read of a terminal or a pipe.
type stoppable struct {
	ctx    context.Context
	chunks chan chunk
	free   chan []byte
	rest   []byte // of the chunk being handed out
	whole  []byte
	err    error

	in   io.Reader
	once sync.Once
	quit chan struct{}
}

type chunk struct {
	data []byte
	err  error
}

func newStoppable(ctx context.Context, in io.Reader) *stoppable {
	s := &stoppable{ctx: ctx, in: in, chunks: make(chan chunk, 1), free: make(chan []byte, 2), quit: make(chan struct{})}
	for range cap(s.free) {
		s.free <- make([]byte, 64<<10)
	}
	return s
}

// pump reads ahead. It ends with the input or at close, or, if it is stuck in
// a read then, with the process: a read of a terminal cannot be interrupted.
func (s *stoppable) pump() {
	for {
		var buf []byte
		select {
		case buf = <-s.free:
		case <-s.quit:
			return
		}
		n, err := s.in.Read(buf)
		select {
		case s.chunks <- chunk{buf[:n], err}:
		case <-s.quit:
			return
		}
		if err != nil {
			return
		}
	}
}

func (s *stoppable) close() { close(s.quit) }

// until replaces the context; not during a Read.
func (s *stoppable) until(ctx context.Context) { s.ctx = ctx }

// Read implements io.Reader.
func (s *stoppable) Read(p []byte) (int, error) {
	s.once.Do(func() { go s.pump() })
	for len(s.rest) == 0 {
		if s.err != nil {
			return 0, s.err
		}
		if s.whole != nil {
			s.free <- s.whole[:cap(s.whole)]
			s.whole = nil
		}
		select {
		case <-s.ctx.Done():
			return 0, context.Cause(s.ctx)
		case c := <-s.chunks:
			s.rest, s.whole, s.err = c.data, c.data, c.err
		}
	}
	n := copy(p, s.rest)
	s.rest = s.rest[n:]
	return n, nil
}
