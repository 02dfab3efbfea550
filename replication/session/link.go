package session

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
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
	return f.decode(b[:head.MetadataLength], m)
}

// send writes a frame without batches.
func send(conn net.Conn, kind wire.Kind, flags uint16, m wire.Message) error {
	_, err := conn.Write(appendFrame(nil, kind, flags, m, 0))
	return err
}

// sumSize is the size of the CRC32C that the metadata of a session ends with. It covers
// the frame's header and the metadata before it. Batches have checksums of their own;
// but a bit flipped in an offset could have something counted as durable that is not,
// and the checksum of TCP is weak.
const sumSize = 4

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// appendFrame appends a frame up to its metadata; batches bytes follow.
func appendFrame(dst []byte, kind wire.Kind, flags uint16, m wire.Message, batches int) []byte {
	start := len(dst)
	dst = wire.AppendFrame(dst, wire.FrameHeader{Kind: kind, Version: uint8(peer.MaxVersion), Flags: flags}, m, 0)
	header := dst[start : start+wire.FrameHeaderSize]
	metadata := len(dst) - start - wire.FrameHeaderSize + sumSize
	binary.LittleEndian.PutUint32(header, uint32(wire.FrameHeaderSize-4+metadata+batches))
	binary.LittleEndian.PutUint32(header[12:], uint32(metadata))
	return binary.LittleEndian.AppendUint32(dst, crc32.Checksum(dst[start:], castagnoli))
}

// decode checks and decodes the metadata of the frame whose header was read last.
func (f *frames) decode(metadata []byte, m wire.Message) error {
	n := len(metadata) - sumSize
	if n < 0 {
		return wire.Errorf(wire.CodeCorruptMessage, "frame without a checksum")
	}
	sum := crc32.Update(crc32.Checksum(f.header[:], castagnoli), castagnoli, metadata[:n])
	if sum != binary.LittleEndian.Uint32(metadata[n:]) {
		return wire.Errorf(wire.CodeCorruptMessage, "frame damaged on its way")
	}
	return m.Decode(metadata[:n])
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
