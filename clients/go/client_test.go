package sequitur

import (
	"context"
	"errors"
	"net"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sequitur-mq/sequitur/wire"
)

// deadAddr is an address where nobody listens.
func deadAddr(t *testing.T) string {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer ln.Close()
	return ln.Addr().String()
}

func TestConnect(t *testing.T) {
	s := startServer(t)
	dead := deadAddr(t)
	c, err := Connect(t.Context(), dead+", "+s.addr())
	require.NoError(t, err)
	require.NoError(t, c.Close())
	require.NoError(t, c.Close())

	_, err = Connect(t.Context(), dead)
	require.ErrorIs(t, err, ErrUnreachable)
	require.ErrorContains(t, err, "connect to "+dead+": UNREACHABLE: no connection; check the address and that the broker runs")
	var e *Error
	require.ErrorAs(t, err, &e)
	require.True(t, e.Retriable)
	_, err = Connect(t.Context(), dead+","+dead)
	require.ErrorIs(t, err, ErrUnreachable)
	for _, bad := range []string{"", "nohost", "host:", " , "} {
		_, err = Connect(t.Context(), bad)
		require.ErrorIs(t, err, ErrMisuse)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = Connect(ctx, s.addr())
	require.ErrorIs(t, err, context.Canceled)
	for _, o := range []Option{WithDialTimeout(0), WithRequestTimeout(0), WithRetryBackoff(0, 0), WithBreaker(0, 0), WithHooks(nil), WithDialer(nil)} {
		_, err = Connect(t.Context(), s.addr(), o)
		require.ErrorIs(t, err, ErrMisuse)
	}
}

// breakerLog keeps the changes of breakers.
type breakerLog struct {
	NoHooks
	changes chan string
	dials   chan error
}

func (b *breakerLog) BreakerChanged(_, from, to string) { b.changes <- from + " " + to }
func (b *breakerLog) Connected(_ string, _ time.Duration, err error) {
	b.dials <- err
}

func TestCircuitBreakerOpens(t *testing.T) {
	s := startServer(t)
	log := &breakerLog{changes: make(chan string, 10), dials: make(chan error, 10)}
	c := connect(t, s.addr(), WithHooks(log), WithBreaker(3, time.Hour))
	require.NoError(t, <-log.dials)
	s.stop()
	for range 3 {
		_, err := c.node(s.addr()).get(t.Context(), produceLane)
		require.ErrorIs(t, err, ErrUnreachable)
		require.ErrorIs(t, <-log.dials, syscall.ECONNREFUSED)
	}
	require.Equal(t, "closed open", <-log.changes)
	_, err := c.node(s.addr()).get(t.Context(), produceLane)
	require.ErrorIs(t, err, ErrUnreachable)
	require.ErrorIs(t, err, syscall.ECONNREFUSED, "the reason is still named")
	require.ErrorContains(t, err, "circuit breaker is open")
	require.Empty(t, log.dials, "nobody dialled")
}

func TestCircuitBreakerCloses(t *testing.T) {
	s := startServer(t)
	s.create("orders", config(1))
	log := &breakerLog{changes: make(chan string, 1000), dials: make(chan error, 1000)}
	c := connect(t, s.addr(), WithHooks(log), WithBreaker(3, 20*time.Millisecond), WithRetryBackoff(time.Millisecond, 2*time.Millisecond))
	p := newProducer(t, c)
	_, err := p.Send(t.Context(), Record{Topic: "orders"})
	require.NoError(t, err)
	s.stop()
	sent := make(chan error)
	go func() {
		_, err := p.Send(t.Context(), Record{Topic: "orders"})
		sent <- err
	}()
	require.Equal(t, "closed open", <-log.changes)
	require.Equal(t, "open half-open", <-log.changes)
	require.Equal(t, "half-open open", <-log.changes, "one failure is enough")
	s.restart()
	require.NoError(t, <-sent)
	for change := range log.changes {
		if change == "half-open closed" {
			break
		}
	}
	require.NoError(t, p.Close(t.Context()))
}

// A connection on which nothing is answered is given up, and the batch sent again on
// a new one.
func TestRequestTimeout(t *testing.T) {
	s := startServer(t)
	s.create("orders", config(1))
	c := connect(t, s.addr(), WithRequestTimeout(50*time.Millisecond), WithRetryBackoff(time.Millisecond, 5*time.Millisecond))
	for c.meta.topic("orders") == nil { // a slow machine may need more than the timeout
		_, _ = c.topic(t.Context(), "test", "orders")
	}
	p := newProducer(t, c)
	once := true
	s.set(func() {
		s.hang = func(k wire.Kind) bool {
			hang := k == wire.KindProduce && once
			once = once && !hang
			return hang
		}
	})
	_, err := p.Send(t.Context(), Record{Topic: "orders", Value: []byte("s/0")})
	require.NoError(t, err)
	s.serveHeld() // the old connection's copy comes late
	require.Equal(t, []string{"s/0"}, s.log("orders", 0))
	require.NoError(t, p.Close(t.Context()))
}

func TestErrors(t *testing.T) {
	e := wireError("send to", "orders", 3, &wire.Error{Code: wire.CodeStorageFull})
	require.Equal(t, "send to orders/3: STORAGE_FULL: "+wire.CodeStorageFull.Message(), e.Error())
	require.ErrorIs(t, e, ErrStorageFull)
	require.NotErrorIs(t, e, ErrOverloaded)
	require.ErrorIs(t, e, &Error{Code: "STORAGE_FULL"})
	require.True(t, e.Retriable)
	cause := errors.New("connection reset by peer")
	e = wireError("fetch", "", -1, cause)
	require.ErrorIs(t, e, ErrUnreachable)
	require.ErrorIs(t, e, cause)
	require.ErrorContains(t, e, "connection reset by peer")
	// Every code of the protocol has its variable.
	for _, info := range wire.ErrorTable() {
		_, ok := map[wire.Code]bool{wire.CodeNone: true, wire.CodeUnknown: true, wire.CodeFrameTooLarge: true, wire.CodeStaleSequence: true}[info.Code]
		if !ok {
			require.True(t, hasSentinel(info.Code), info.Name)
		}
	}
}

func hasSentinel(code wire.Code) bool {
	e := &Error{Code: Code(code.String())}
	for _, s := range []error{
		ErrTimeout, ErrUnknownTopic, ErrUnknownPartition, ErrTopicExists, ErrInvalidTopicName, ErrInvalidConfig, ErrNotLeader,
		ErrOffsetOutOfRange, ErrBatchTooLarge, ErrSequenceGap, ErrProducerFenced, ErrUnknownProducer, ErrStorageFull, ErrStorageFailed,
		ErrCorrupt, ErrCorruptMessage, ErrOverloaded, ErrUnsupportedVersion, ErrInvalidRequest, ErrShuttingDown, ErrUnauthorized, ErrUnsupported,
		ErrOffsetNotAvailable,
	} {
		if errors.Is(e, s) {
			return true
		}
	}
	return false
}
