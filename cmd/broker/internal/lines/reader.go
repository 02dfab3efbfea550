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
	in    io.Reader
	limit int
	buf   []byte // unread bytes are buf[start:end]
	start int
	end   int
	scan  int // buf[start:scan] is known to hold no LF
	count int64
	read  int64
	err   error // what the input answered last, once it answered an error
}

// NewReader returns a reader of lines up to limit bytes, LF not counted. Its
// memory is bounded by twice the limit plus the size of one read.
func NewReader(in io.Reader, limit int) *Reader {
	return &Reader{in: in, limit: limit, buf: make([]byte, readSize)}
}

// Next returns the next line without its LF. The line is valid until the next
// call. At the end of the input it returns io.EOF; a failed read is returned
// after the whole lines before it (a torn line is not returned).
func (r *Reader) Next() ([]byte, error) {
	for {
		if i := bytes.IndexByte(r.buf[r.scan:r.end], '\n'); i >= 0 {
			line := r.buf[r.start : r.scan+i]
			r.start = r.scan + i + 1
			r.scan = r.start
			return r.deliver(line)
		}
		r.scan = r.end
		if r.end-r.start > r.limit {
			return nil, r.tooLong()
		}
		if r.err == io.EOF && r.end > r.start {
			line := r.buf[r.start:r.end]
			r.start, r.scan = r.end, r.end
			return r.deliver(line)
		}
		if r.err != nil {
			return nil, r.err
		}
		r.fill()
	}
}

func (r *Reader) deliver(line []byte) ([]byte, error) {
	if len(line) > r.limit {
		return nil, r.tooLong()
	}
	r.count++
	return line, nil
}

func (r *Reader) tooLong() error {
	r.err = &TooLongError{Line: r.count + 1, Limit: r.limit}
	r.start, r.scan = r.end, r.end // nothing after the refused line is a line start
	return r.err
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

// Count reads in to its end and returns how many lines it holds, by the same
// rule as Reader, without keeping them.
func Count(in io.Reader) (int64, error) {
	buf := make([]byte, readSize)
	var lines int64
	torn := false
	for {
		n, err := in.Read(buf)
		if n > 0 {
			lines += int64(bytes.Count(buf[:n], []byte{'\n'}))
			torn = buf[n-1] != '\n'
		}
		if err != nil {
			if torn {
				lines++
			}
			if err == io.EOF {
				err = nil
			}
			return lines, err
		}
	}
}
