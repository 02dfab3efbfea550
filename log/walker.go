package log

import (
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/sequitur-mq/sequitur/record"
)

// badBatch says where in a file no valid batch lies.
type badBatch struct {
	position int64
	reason   error
}

func (e *badBatch) Error() string { return fmt.Sprintf("at byte %d: %v", e.position, e.reason) }
func (e *badBatch) Unwrap() error { return e.reason }

// walker reads the batches of a stretch of a segment file in order.
type walker struct {
	r       io.ReaderAt
	at      int64 // of the next batch
	end     int64 // of the stretch
	headers bool  // read headers only, jumping over the rest: batches are cut to their header, payloads not verified
	buf     []byte
	from    int64 // where buf[0] lies in the file
	have    int
}

const (
	walkBuffer   = 256 << 10
	headerBuffer = 16 << 10
)

var errBeyondEnd = errors.New("batch reaches beyond the end")

// next returns the next batch, valid until the next call. At the end it returns io.EOF; where no valid batch lies, a
// *badBatch; other errors come from reading.
func (w *walker) next() (record.Batch, error) {
	if w.at >= w.end {
		return nil, io.EOF
	}
	head, err := w.view(record.HeaderSize)
	if err != nil {
		return nil, err
	}
	_, _, err = record.Parse(head, storedLimits())
	if err == nil || errors.Is(err, record.ErrShort) && len(head) == record.HeaderSize {
		err = record.Batch(head).VerifyStamp()
	}
	if err != nil {
		return nil, &badBatch{w.at, err}
	}
	length := int64(record.Batch(head).Length())
	if length > w.end-w.at {
		return nil, &badBatch{w.at, errBeyondEnd}
	}
	if w.headers {
		w.at += length
		return record.Batch(head), nil
	}
	whole, err := w.view(int(length))
	if err != nil {
		return nil, err
	}
	b := record.Batch(whole)
	if err := b.VerifyPayload(); err != nil {
		return nil, &badBatch{w.at, err}
	}
	w.at += length
	return b, nil
}

// view returns n bytes at the walker's place, fewer at the end.
func (w *walker) view(n int) ([]byte, error) {
	n = int(min(int64(n), w.end-w.at))
	if off := w.at - w.from; off >= 0 && off+int64(n) <= int64(w.have) {
		return w.buf[off : off+int64(n) : off+int64(n)], nil
	}
	if n > len(w.buf) {
		w.buf = make([]byte, n)
	}
	want := int(min(int64(len(w.buf)), w.end-w.at))
	got, err := w.r.ReadAt(w.buf[:want], w.at)
	w.from, w.have = w.at, got
	if got < n {
		if err == nil || errors.Is(err, io.EOF) {
			return nil, &badBatch{w.at, fmt.Errorf("file ends at byte %d: %w", w.at+int64(got), io.ErrUnexpectedEOF)}
		}
		return nil, fmt.Errorf("read segment at byte %d: %w", w.at, err)
	}
	return w.buf[:n:n], nil
}

// walkers are pooled: their buffers outlive a call.
type walkers struct{ whole, headers sync.Pool }

func (p *walkers) get(r io.ReaderAt, at, end int64, headers bool) *walker {
	pool, size := &p.whole, walkBuffer
	if headers {
		pool, size = &p.headers, headerBuffer
	}
	w, _ := pool.Get().(*walker)
	if w == nil {
		w = &walker{buf: make([]byte, size)}
	}
	w.r, w.at, w.end, w.headers, w.from, w.have = r, at, end, headers, 0, 0
	return w
}

func (p *walkers) put(w *walker) {
	w.r = nil
	if len(w.buf) > 2*walkBuffer {
		return
	}
	if w.headers {
		p.headers.Put(w)
	} else {
		p.whole.Put(w)
	}
}

// nextValid finds the first valid header above from that continues at or above offset, by looking at every byte. ok
// is false if there is none before end.
func nextValid(r io.ReaderAt, from, end, offset int64) (at int64, base int64, ok bool) {
	buf := make([]byte, walkBuffer)
	for at := from; end-at >= record.HeaderSize; {
		n := int(min(int64(len(buf)), end-at))
		n, _ = r.ReadAt(buf[:n], at)
		if n < record.HeaderSize {
			return 0, 0, false
		}
		for i := 0; i+record.HeaderSize <= n; i++ {
			b := record.Batch(buf[i : i+record.HeaderSize])
			if b.Format() != record.Format || int64(b.Length()) > end-at-int64(i) || b.BaseOffset() < offset {
				continue
			}
			if _, _, err := record.Parse(b, storedLimits()); err != nil && !errors.Is(err, record.ErrShort) {
				continue
			}
			if b.VerifyStamp() == nil {
				return at + int64(i), b.BaseOffset(), true
			}
		}
		at += int64(n - record.HeaderSize + 1)
	}
	return 0, 0, false
}
