package broker

import (
	"errors"
	"io"
	"sync"
	"syscall"

	"github.com/sequitur-mq/sequitur/log"
	"github.com/sequitur-mq/sequitur/replication/replica"
	"github.com/sequitur-mq/sequitur/wire"
)

// A fetchWriter evaluates and writes fetches on a connection's write goroutine.
type fetchWriter struct {
	c     *conn
	resp  wire.FetchResponse
	start int // the partition to look at first next time
}

const (
	// stagingBytes is how much small pieces are gathered into one write.
	stagingBytes = 64 << 10
	// sendfileBytes is what makes sendfile worth a system call of its own.
	sendfileBytes = 16 << 10
)

// serve looks at the partitions of a fetch and answers it. It reports false,
// and the fetch is to be parked, if there is too little and it may wait.
func (w *fetchWriter) serve(f *fetch, last bool) (served bool, err error) {
	begin := f.arrived
	if begin.IsZero() {
		begin = w.c.h.now()
	}
	f.woken.Store(false)
	total, failed := w.look(f, last)
	if !last && !failed && total < max(int(f.req.MinBytes), 1) {
		for i := range f.parts {
			f.parts[i].release()
		}
		if f.watchAll() {
			f.woken.Store(true)
		}
		return false, nil
	}
	err = w.write(f, total)
	w.c.h.metrics.fetchLatency.observe(w.c.h.now().Sub(begin))
	return true, err
}

// look reads what the partitions have, in turn, and fills the response.
func (w *fetchWriter) look(f *fetch, last bool) (total int, failed bool) {
	limit := int(w.c.h.cfg.MaxFetchBytes)
	if f.req.MaxBytes > 0 {
		limit = min(limit, int(f.req.MaxBytes))
	}
	w.resp.Parts = w.resp.Parts[:0]
	n := len(f.parts)
	if n == 0 {
		return 0, false
	}
	first := w.start % n
	for k := range n {
		i := (first + k) % n
		res := wire.FetchResult{Index: uint32(i)}
		err := w.read(f, i, limit-total, last, &res)
		if err != nil {
			res.Code, res.Message = w.c.h.partError(err)
			failed = true
		}
		if res.Bytes > 0 || err != nil {
			w.resp.Parts = append(w.resp.Parts, res)
			w.start = i + 1
		}
		total += int(res.Bytes)
	}
	return total, failed
}

// read reads one partition. room may be used up already: then only a
// partition's errors are of interest, and those can wait as well.
func (w *fetchWriter) read(f *fetch, i, room int, last bool, res *wire.FetchResult) error {
	want, part := &f.req.Parts[i], &f.parts[i]
	if part.err != nil {
		return part.err
	}
	if room <= 0 {
		return nil
	}
	if part.partition.topic.deleted.Load() {
		return unknownTopic(part.partition.topic.name)
	}
	if !part.partition.serves(part.replica, f.req.Flags&wire.FetchFromFollower != 0) {
		return wrapTopic(part.partition.topic.name, part.partition.number, replica.ErrNotLeader)
	}
	part.seen = part.replica.HighWatermark()
	if part.seen == want.Offset {
		return nil
	}
	if want.Offset > part.seen && w.c.h.cfg.clustered() {
		// Another replica may know more of what is committed: its reader waits here,
		// and is never told that its position does not exist.
		if !last {
			return nil
		}
		res.HighWatermark, res.LogStart = part.seen, part.replica.Start()
		return wrapTopic(part.partition.topic.name, part.partition.number, wire.ErrOffsetNotAvailable)
	}
	res.HighWatermark, res.LogStart = part.seen, part.replica.Start()
	if want.MaxBytes > 0 {
		room = min(room, int(want.MaxBytes))
	}
	verify := f.req.Flags&wire.FetchVerify != 0 || part.partition.suspect.Load()
	chunk, err := part.replica.Read(want.Offset, room, verify)
	if err != nil {
		var hole *log.CorruptError
		if errors.As(err, &hole) {
			res.HoleFrom, res.HoleTo = hole.From, hole.To
		}
		return wrapTopic(part.partition.topic.name, part.partition.number, err)
	}
	part.chunk = chunk
	res.Bytes = uint32(chunk.Len())
	return nil
}

// count counts what was sent, records by their offsets.
func (p *fetchPart) count(from int64, m *metrics) {
	records, bytes := uint64(p.chunk.Next()-from), uint64(p.chunk.Len())
	t := &p.partition.topic.counters
	t.fetchedRecords.Add(records)
	t.fetchedBytes.Add(bytes)
	m.fetchedRecords.Add(records)
	m.fetchedBytes.Add(bytes)
}

func (p *fetchPart) release() {
	if p.chunk != nil {
		p.chunk.Release()
		p.chunk = nil
	}
}

// write writes the response: small pieces together, large ones straight from
// where they are.
func (w *fetchWriter) write(f *fetch, total int) error {
	w.c.allowWrite(int64(total))
	s := w.c.h.stagings.get(w.c.nc)
	defer w.c.h.stagings.put(s)
	head := f.head
	head.Flags = wire.FlagResponse
	s.buf = wire.AppendFrame(s.buf, head, &w.resp, total)
	for i := range w.resp.Parts {
		index := w.resp.Parts[i].Index
		part := &f.parts[index]
		if part.chunk == nil || part.chunk.Len() == 0 {
			continue
		}
		if err := s.chunk(part.chunk); err != nil {
			if errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, syscall.EIO) {
				// The next attempt is verified before its answer begins, and
				// says what is wrong.
				part.partition.suspect.Store(true)
			}
			return err
		}
		part.count(f.req.Parts[index].Offset, w.c.h.metrics)
		part.release()
	}
	return s.flush()
}

// A staging gathers small writes to a connection.
type staging struct {
	dst io.Writer
	buf []byte
}

// stagings pools what connections need while they write a fetch.
type stagings struct{ pool sync.Pool }

func (p *stagings) get(dst io.Writer) *staging {
	s, ok := p.pool.Get().(*staging)
	if !ok {
		s = &staging{buf: make([]byte, 0, stagingBytes)}
	}
	s.dst = dst
	return s
}

func (p *stagings) put(s *staging) {
	s.dst, s.buf = nil, s.buf[:0]
	if cap(s.buf) <= 2*stagingBytes {
		p.pool.Put(s)
	}
}

func (s *staging) chunk(c *log.Chunk) (err error) {
	switch {
	case c.InMemory():
		_, err = c.WriteTo(s)
	case c.Len() <= sendfileBytes:
		if len(s.buf)+c.Len() > stagingBytes {
			err = s.flush()
		}
		if err == nil {
			s.buf, err = c.AppendTo(s.buf)
		}
	default:
		if err = s.flush(); err == nil {
			_, err = c.WriteTo(s.dst)
		}
	}
	return err
}

// Write implements io.Writer for chunks in memory.
func (s *staging) Write(b []byte) (int, error) {
	if len(s.buf)+len(b) > stagingBytes {
		if err := s.flush(); err != nil {
			return 0, err
		}
		if len(b) >= stagingBytes/2 {
			return s.dst.Write(b)
		}
	}
	s.buf = append(s.buf, b...)
	return len(b), nil
}

func (s *staging) flush() error {
	if len(s.buf) == 0 {
		return nil
	}
	_, err := s.dst.Write(s.buf)
	s.buf = s.buf[:0]
	return err
}
