package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"time"
)

// roundTripBytes is about what a small record and its acknowledgement take.
const roundTripBytes = 128

// measureRoundTrip plays ping-pong over TCP with another process, or with a goroutine of this one if echo is nil.
func (p *Physical) measureRoundTrip(ctx context.Context, budget time.Duration, echo *Launcher) error {
	if echo != nil {
		peer, err := StartProcess(ctx, func(line string) (string, bool) {
			return strings.CutPrefix(line, ListeningPrefix)
		}, echo.Command, echo.Args("")...)
		if err != nil {
			return fmt.Errorf("start the other end of the round trip: %w", err)
		}
		p.RoundTripPeer = "another process"
		p.RoundTrip, err = pingPong(ctx, peer.Addr, budget)
		return errors.Join(err, peer.Stop())
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return fmt.Errorf("listen on loopback: %w", err)
	}
	defer listener.Close()
	echoed := make(chan error, 1)
	go func() { echoed <- ServeEcho(listener) }()
	p.RoundTripPeer = "this process"
	if p.RoundTrip, err = pingPong(ctx, listener.Addr().String(), budget); err != nil {
		return err
	}
	return <-echoed
}

// ServeEcho accepts one connection and sends back what comes, until the other end closes it.
func ServeEcho(listener net.Listener) error {
	conn, err := listener.Accept()
	if err != nil {
		return fmt.Errorf("accept on loopback: %w", err)
	}
	defer conn.Close()
	// Plain reads and writes, not the kernel's splice.
	_, err = io.CopyBuffer(struct{ io.Writer }{conn}, struct{ io.Reader }{conn}, make([]byte, roundTripBytes))
	return err
}

func pingPong(ctx context.Context, addr string, budget time.Duration) (*Latency, error) {
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("dial loopback: %w", err)
	}
	h, buf := NewHistogram(), make([]byte, roundTripBytes)
	for end := time.Now().Add(budget); err == nil && time.Now().Before(end) && ctx.Err() == nil; {
		start := time.Now()
		if _, err = conn.Write(buf); err == nil {
			_, err = io.ReadFull(conn, buf)
		}
		h.Record(time.Since(start))
	}
	if err := errors.Join(err, conn.Close()); err != nil {
		return nil, fmt.Errorf("loopback round trip: %w", err)
	}
	return summaryOf(ctx, h)
}
