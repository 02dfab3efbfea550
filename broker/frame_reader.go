package broker

import (
	"io"

	"github.com/sequitur-mq/sequitur/wire"
)

const (
	// readAhead is how much a connection reads beyond what it needs now, so
	// that many small frames cost one system call.
	readAhead = 8 << 10
	// frameSlack is what a frame buffer has beyond its frame, so that reading
	// the end of a large frame brings the header of the next one along.
	frameSlack = 1 << 10
)

// A frameReader cuts the byte stream of a connection into frames.
type frameReader struct {
	src  io.Reader
	buf  [readAhead]byte
	r, w int // buf[r:w] is read but not consumed
}

// header reads the next frame's header. io.EOF means that the stream ended
// between two frames. Errors of the header itself are *wire.Error.
func (f *frameReader) header(lim wire.FrameLimits) (wire.FrameHeader, error) {
	for f.w-f.r < wire.FrameHeaderSize {
		if f.r > 0 {
			f.w = copy(f.buf[:], f.buf[f.r:f.w])
			f.r = 0
		}
		n, err := f.src.Read(f.buf[f.w:])
		if f.w += n; err != nil && f.w < wire.FrameHeaderSize {
			if err == io.EOF && f.w > 0 {
				err = io.ErrUnexpectedEOF
			}
			return wire.FrameHeader{}, err
		}
	}
	h, err := wire.ParseFrameHeader(f.buf[f.r:f.r+wire.FrameHeaderSize], lim)
	f.r += wire.FrameHeaderSize
	return h, err
}

// buffered reports whether n more bytes can be had without waiting.
func (f *frameReader) buffered(n int) bool { return f.w-f.r >= n }

// peek returns the next byte without consuming it.
func (f *frameReader) peek() (byte, error) {
	if f.r == f.w {
		n, err := f.src.Read(f.buf[:])
		if f.r, f.w = 0, n; n == 0 {
			return 0, noEOF(err)
		}
	}
	return f.buf[f.r], nil
}

// body reads the next n bytes into dst, whose capacity may exceed n by up to
// frameSlack for reading ahead. progress is called after each read.
func (f *frameReader) body(dst []byte, n int, progress func()) error {
	have := copy(dst[:n], f.buf[f.r:f.w])
	f.r += have
	for have < n {
		// Invariant: the read-ahead buffer is empty.
		m, err := f.src.Read(dst[have:min(cap(dst), n+frameSlack)])
		have += m
		if err != nil && have < n {
			return noEOF(err)
		}
		progress()
	}
	if have > n {
		f.r, f.w = 0, copy(f.buf[:], dst[n:have])
	}
	return nil
}

// discard reads n bytes and forgets them.
func (f *frameReader) discard(n int) error {
	for {
		take := min(n, f.w-f.r)
		f.r += take
		if n -= take; n == 0 {
			return nil
		}
		m, err := f.src.Read(f.buf[:])
		if f.r, f.w = 0, m; err != nil && m == 0 {
			return noEOF(err)
		}
	}
}

// noEOF turns the end of the stream inside a frame into an error of its own.
func noEOF(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}
