// Package lines turns a stream of bytes into records for `broker produce`: it
// splits at LF and nowhere else, keeps every other byte (CR and NUL too), and
// picks a key out of a line by regular expression or by field number.
//
// Nothing here knows about topics or connections.
package lines

import (
	"bytes"
	"fmt"
	"io"
)

// readSize is how much is asked of the input at a time. A short read is
// handed on at once, so that typed lines are sent as they are typed.
const readSize = 64 << 10

// TooLongError says that a line is longer than the limit. The line was not
// returned and the reader cannot go on.
type TooLongError struct {
	Line  int64 // number of the line, from 1
	Limit int   // bytes allowed, LF not counted
}

func (e *TooLongError) Error() string {
	return fmt.Sprintf("line %d is longer than the limit of %d bytes", e.Line, e.Limit)
}

// Reader splits its input at LF (0x0A). A last line without LF is a line too;
// an empty line is an empty line.
type Reader struct {
	in      io.Reader
	limit   int
	buf     []byte // unread bytes are buf[start:end]
	start   int
	end     int
	scan    int // buf[start:scan] is known to hold no LF
	count   int64
	read    int64
	err     error // what the input answered last, once it answered an error
	refused error // a line was too long: final, start stays at that line
}

// NewReader returns a reader of lines up to limit bytes, LF not counted. Its
// memory is bounded by twice the limit plus the size of one read.
func NewReader(in io.Reader, limit int) *Reader {
	return &Reader{in: in, limit: limit, buf: make([]byte, readSize)}
}

// Next returns the next line without its LF. The line is valid until the next
// call. At the end of the input it returns io.EOF; a failed read is returned
// after the whole lines before it (a torn line is not returned). A line over
// the limit is refused with *TooLongError, by this and every later call.
func (r *Reader) Next() ([]byte, error) {
	for r.refused == nil {
		if i := bytes.IndexByte(r.buf[r.scan:r.end], '\n'); i >= 0 {
			return r.deliver(r.scan+i, 1)
		}
		r.scan = r.end
		switch {
		case r.end-r.start > r.limit, r.err == io.EOF && r.end > r.start:
			return r.deliver(r.end, 0)
		case r.err != nil:
			return nil, r.err
		}
		r.fill()
	}
	return nil, r.refused
}

// deliver hands out buf[start:end] and steps over it and its terminator, or
// refuses it.
func (r *Reader) deliver(end, terminator int) ([]byte, error) {
	line := r.buf[r.start:end]
	if len(line) > r.limit {
		r.refused = &TooLongError{Line: r.count + 1, Limit: r.limit}
		return nil, r.refused
	}
	r.count++
	r.start = end + terminator
	r.scan = r.start
	return line, nil
}

func (r *Reader) fill() {
	if r.start == r.end {
		r.start, r.end, r.scan = 0, 0, 0
	}
	if r.end == len(r.buf) {
		if r.start > 0 {
			copy(r.buf, r.buf[r.start:r.end])
			r.end -= r.start
			r.scan -= r.start
			r.start = 0
		} else {
			grown := make([]byte, min(2*len(r.buf), r.limit+readSize+1))
			copy(grown, r.buf[:r.end])
			r.buf = grown
		}
	}
	n, err := r.in.Read(r.buf[r.end:min(len(r.buf), r.end+readSize)])
	r.end += n
	r.read += int64(n)
	r.err = err
}

// Number returns the number of the line that Next returned last, from 1.
func (r *Reader) Number() int64 { return r.count }

// BytesRead returns how many bytes were taken from the input so far.
func (r *Reader) BytesRead() int64 { return r.read }

// CountRest reads the input to its end and returns how many lines were not
// handed out, a refused or torn one included. A read that failed before is
// tried again. The reader is used up by it.
func (r *Reader) CountRest() (int64, error) {
	lines := int64(bytes.Count(r.buf[r.start:r.end], []byte{'\n'}))
	torn := r.end > r.start && r.buf[r.end-1] != '\n'
	for once := r.err != io.EOF; once || r.err == nil; once = false {
		r.start, r.end, r.scan = 0, 0, 0
		r.fill()
		if chunk := r.buf[:r.end]; len(chunk) > 0 {
			lines += int64(bytes.Count(chunk, []byte{'\n'}))
			torn = chunk[len(chunk)-1] != '\n'
		}
	}
	r.start, r.end, r.scan = 0, 0, 0
	if torn {
		lines++
	}
	if r.err == io.EOF {
		return lines, nil
	}
	return lines, r.err
}
