package session

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/sequitur-mq/sequitur/wire"
	"github.com/sequitur-mq/sequitur/wire/peer"
)

// readBuffer takes in several small frames with one read; large ones bypass it.
const readBuffer = 64 << 10

// frames reads a connection.
type frames struct {
	conn    net.Conn
	in      *bufio.Reader
	silence time.Duration
	checked time.Time // when the deadline was moved
	header  [wire.FrameHeaderSize]byte
}

func newFrames(conn net.Conn, silence time.Duration) *frames {
	return &frames{conn: conn, in: bufio.NewReaderSize(conn, readBuffer), silence: silence}
}

// next reads the header of the next frame. Its body is to be read by body.
func (f *frames) next() (wire.FrameHeader, error) {
	if now := time.Now(); now.Sub(f.checked) > f.silence/16 {
		f.checked = now
		if err := f.conn.SetReadDeadline(now.Add(f.silence)); err != nil {
			return wire.FrameHeader{}, err
		}
	}
	head, err := wire.ReadFrameHeader(f.in, f.header[:], wire.FrameLimits{MaxFrameBytes: maxFrame})
	if err == nil && head.Version != uint8(peer.MaxVersion) {
		err = wire.Errorf(wire.CodeUnsupportedVersion, "%s version %d is not known", peer.KindName(head.Kind), head.Version)
	}
	return head, err
}

// body reads what follows a header; b has its length.
func (f *frames) body(b []byte) error {
	_, err := io.ReadFull(f.in, b)
	return err
}

// message reads a whole frame of a kind without batches.
func (f *frames) message(kind wire.Kind, m wire.Message) error {
	head, err := f.next()
	if err != nil {
		return err
	}
	if head.Kind != kind || head.BodyLength() > wire.MaxHelloBytes {
		return wire.Errorf(wire.CodeInvalidRequest, "%s of %d bytes where %s is due", peer.KindName(head.Kind), head.BodyLength(), peer.KindName(kind))
	}
	b := make([]byte, head.BodyLength())
	if err := f.body(b); err != nil {
		return err
	}
	return m.Decode(b[:head.MetadataLength])
}

// send writes a frame without batches.
func send(conn net.Conn, kind wire.Kind, flags uint16, m wire.Message) error {
	head := wire.FrameHeader{Kind: kind, Version: uint8(peer.MaxVersion), Flags: flags}
	_, err := conn.Write(wire.AppendFrame(nil, head, m, 0))
	return err
}

// ended says how a session ended, for the log: nil if there is nothing to say.
func ended(err error) error {
	var timeout net.Error
	switch {
	case err == nil, errors.Is(err, io.EOF), errors.Is(err, net.ErrClosed):
		return nil
	case errors.As(err, &timeout) && timeout.Timeout():
		return fmt.Errorf("silence: %w", err)
	}
	return err
}
