package session

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/sequitur-mq/sequitur/log"
	"github.com/sequitur-mq/sequitur/replication"
	"github.com/sequitur-mq/sequitur/wire"
	"github.com/sequitur-mq/sequitur/wire/peer"
)

// server is the leader's side of a session.
type server struct {
	options  Options
	conn     net.Conn
	out      io.Writer // the same, for chunks
	in       *frames
	follower replication.Member
	replicas Replicas
	agenda   *agenda[feed]
	feeds    map[uint32]*feed // the reader's

	sent     atomic.Uint64 // bytes of batches, by the writer
	received atomic.Uint64 // of those, the ones that the follower has done with
	blocked  atomic.Bool   // the writer waits for the window

	// The writer's, used again for each frame.
	push   peer.Push
	chunks []*log.Chunk
	more   []*feed
	buf    []byte
}

// Serve is the leader's side of one session, on a connection that begins with the
// follower's hello. It returns when the session has ended, with the reason unless that
// is an ordinary one, and has closed the connection and waited for its goroutines then.
func Serve(ctx context.Context, conn net.Conn, replicas Replicas, o Options) error {
	o = o.withDefaults()
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	s := &server{
		options: o, conn: conn, out: output(conn), in: newFrames(conn, o.Silence), replicas: replicas,
		agenda: newAgenda[feed](o.HighWatermarkDelay), feeds: map[uint32]*feed{},
	}
	if err := s.welcome(); err != nil {
		return ended(err)
	}
	var writing sync.WaitGroup
	var failure error
	done := make(chan struct{})
	writing.Go(func() {
		failure = s.write(done)
		conn.Close()
	})
	err := s.read()
	close(done)
	conn.Close()
	writing.Wait()
	s.agenda.close()
	for _, f := range s.feeds {
		f.leave()
	}
	return errors.Join(ended(err), ended(failure))
}

// welcome reads the hello and answers it.
func (s *server) welcome() error {
	if err := s.conn.SetDeadline(time.Now().Add(s.options.Handshake)); err != nil {
		return err
	}
	hello := new(peer.SessionHello)
	s.in.checked = time.Now()
	err := s.in.message(peer.KindSessionHello, hello)
	welcome := peer.SessionWelcome{From: toPeer(s.options.Self), Session: s.options.Nonce}
	if err == nil {
		welcome.Version, err = wire.Negotiate(hello.MinVersion, hello.MaxVersion, peer.MinVersion, peer.MaxVersion)
	}
	switch {
	case err != nil:
	case hello.Cluster != s.options.Cluster:
		err = wire.Errorf(wire.CodeUnauthorized, "broker %d is of cluster %v, this one of %v", hello.From.Node, hello.Cluster, s.options.Cluster)
	case fromPeer(hello.To) != s.options.Self:
		err = wire.Errorf(wire.CodeNotLeader, "this is %v, not %v", s.options.Self, fromPeer(hello.To))
	}
	s.follower = fromPeer(hello.From)
	welcome.Status = wire.StatusOf(err)
	if failed := send(s.conn, peer.KindSessionHello, wire.FlagResponse, &welcome); failed != nil && err == nil {
		err = failed
	}
	if err != nil {
		return fmt.Errorf("replication session of %v: %w", s.follower, err)
	}
	return s.conn.SetDeadline(time.Time{})
}

// read takes in what the follower reports until the session ends.
func (s *server) read() error {
	var progress peer.Progress
	var b []byte
	s.in.checked = time.Time{}
	for {
		head, err := s.in.next()
		if err != nil {
			return err
		}
		if head.Kind != peer.KindProgress || head.BatchesLength() != 0 {
			return wire.Errorf(wire.CodeInvalidRequest, "%s where progress is due", peer.KindName(head.Kind))
		}
		if head.BodyLength() > maxProgress {
			return wire.Errorf(wire.CodeFrameTooLarge, "progress of %d bytes, at most %d are taken", head.BodyLength(), maxProgress)
		}
		if n := head.BodyLength(); n > cap(b) {
			b = make([]byte, n, max(n, 4096))
		}
		b = b[:head.BodyLength()]
		if err := s.in.body(b); err != nil {
			return err
		}
		if err := s.in.decode(b, &progress); err != nil {
			return err
		}
		if err := s.took(progress.Received); err != nil {
			return err
		}
		for i := range progress.Entries {
			if err := s.progress(&progress.Entries[i]); err != nil {
				return err
			}
		}
	}
}

// took opens the window for what the follower has done with.
func (s *server) took(received uint64) error {
	if received > s.sent.Load() || received < s.received.Load() {
		return wire.Errorf(wire.CodeInvalidRequest, "%d bytes taken in, %d were sent", received, s.sent.Load())
	}
	s.received.Store(received)
	if s.blocked.Swap(false) {
		s.agenda.ring()
	}
	return nil
}

// progress takes in one partition's entry.
func (s *server) progress(e *peer.ProgressEntry) error {
	f := s.feeds[e.Handle]
	switch {
	case e.Flags&peer.ProgressDrop != 0:
		if f != nil {
			delete(s.feeds, e.Handle)
			f.leave()
		}
		return nil
	case e.Flags&peer.ProgressOpen != 0:
		if f != nil {
			return wire.Errorf(wire.CodeInvalidRequest, "handle %d is open", e.Handle)
		}
		f = newFeed(s, e.Handle, e.ID)
		s.feeds[e.Handle] = f
	case f == nil:
		return wire.Errorf(wire.CodeInvalidRequest, "handle %d is not open", e.Handle)
	}
	fetch := replication.Fetch{
		From: s.follower, Epoch: e.Epoch, Offset: e.Offset, LastEpoch: e.LastEpoch, Durable: e.Durable, Round: e.Round,
	}
	if e.Flags&peer.ProgressSeek != 0 {
		return f.seekTo(e.Seek, fetch)
	}
	return f.report(e, fetch)
}

// write pushes what is on the agenda until done is closed.
func (s *server) write(done <-chan struct{}) error {
	idle := time.NewTicker(s.options.Idle)
	defer idle.Stop()
	var list []*feed
	wrote := false
	for {
		due := false // a sign of life
		if len(list) == 0 || s.waits() {
			select {
			case <-done:
				return nil
			case <-s.agenda.wake:
			case <-idle.C:
				due, wrote = !wrote, false
			}
		}
		list = s.gather(s.take(list))
		if len(s.push.Entries) == 0 && !due {
			continue
		}
		wrote = true
		if err := s.flush(); err != nil {
			return err
		}
	}
}

// take adds to the list what is on the agenda and not in the list yet.
func (s *server) take(list []*feed) []*feed {
	n := len(list)
	list = s.agenda.take(list)
	for _, f := range list[n:] {
		if !f.listed {
			f.listed = true
			list[n] = f
			n++
		}
	}
	return list[:n]
}

// full says that the follower has to do with something first.
func (s *server) full() bool { return s.sent.Load()-s.received.Load() >= uint64(s.options.Window) }

// waits says that nothing can be sent before the follower reports, who wakes the writer
// then.
func (s *server) waits() bool {
	if !s.full() {
		return false
	}
	s.blocked.Store(true)
	return s.full()
}

// gather fills the next frame from the feeds and returns those that have more.
func (s *server) gather(list []*feed) []*feed {
	s.push.Entries, s.chunks, s.more = s.push.Entries[:0], s.chunks[:0], s.more[:0]
	bytes, at := 0, 0
	for at < len(list) && bytes < s.options.FrameBytes && len(s.push.Entries) < maxEntries && !s.full() {
		f := list[at]
		at++
		n, again := f.gather()
		bytes += n
		s.sent.Add(uint64(n))
		if f.listed = again; again {
			s.more = append(s.more, f)
		}
	}
	// Those that were not looked at come first, then those that have more.
	n := copy(list, list[at:])
	n += copy(list[n:], s.more)
	clear(list[n:])
	return list[:n]
}

// flush writes the frame that gather made: in one piece as far as it comes from memory,
// and from files without passing through the process.
func (s *server) flush() error {
	total := 0
	for _, c := range s.chunks {
		total += c.Len()
	}
	s.buf = appendFrame(s.buf[:0], peer.KindPush, 0, &s.push, total)
	var err error
	for i, c := range s.chunks {
		if err == nil {
			err = s.flushChunk(c)
		}
		c.Release()
		s.chunks[i] = nil
	}
	if err == nil && len(s.buf) > 0 {
		_, err = s.conn.Write(s.buf)
	}
	if cap(s.buf) > 2*s.options.FrameBytes+(64<<10) {
		s.buf = nil
	}
	return err
}

// sendFrom is the size from which sendfile, with a write of its own for what is before,
// beats copying from the page cache into the frame.
const sendFrom = 64 << 10

func (s *server) flushChunk(c *log.Chunk) (err error) {
	if c.InMemory() || c.Len() < sendFrom {
		s.buf, err = c.AppendTo(s.buf)
		return err
	}
	if _, err = s.conn.Write(s.buf); err != nil {
		return err
	}
	s.buf = s.buf[:0]
	_, err = c.WriteTo(s.out)
	return err
}

// rawConn is a connection that hands out its raw form without allocating.
type rawConn struct {
	net.Conn
	raw syscall.RawConn
}

// SyscallConn implements syscall.Conn.
func (c *rawConn) SyscallConn() (syscall.RawConn, error) { return c.raw, nil }

// output is where chunks of conn are written to.
func output(conn net.Conn) io.Writer {
	if sc, ok := conn.(syscall.Conn); ok {
		if raw, err := sc.SyscallConn(); err == nil {
			return &rawConn{conn, raw}
		}
	}
	return conn
}
