package sequitur

import (
	"errors"
	"io"
	"math"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sequitur-mq/sequitur/wire"
)

// A time-out names what the broker refused meanwhile.
func TestErrorMatchesTheRefusalBehindIt(t *testing.T) {
	err := error(&Error{Code: Code(wire.CodeTimeout.String()), Err: wire.Errorf(wire.CodeStorageFull, "no space")})
	require.ErrorIs(t, err, ErrTimeout)
	require.ErrorIs(t, err, ErrStorageFull)
	require.False(t, errors.Is(err, ErrCorrupt))
	require.False(t, errors.Is(&Error{Code: Code(wire.CodeTimeout.String())}, ErrStorageFull))
}

func TestTimesBeyondTheProtocolsRange(t *testing.T) {
	require.Equal(t, int64(math.MaxInt64), At(time.Date(2999, 1, 1, 0, 0, 0, 0, time.UTC)).nanoseconds())
	require.Equal(t, int64(math.MinInt64), At(time.Time{}).nanoseconds())
	require.Equal(t, int64(7), At(time.Unix(0, 7)).nanoseconds())
}

// Whatever listens at the address, the error says what is the matter with it.
func TestConnectSaysWhatListens(t *testing.T) {
	for want, behave := range map[string]func(net.Conn){
		"did not answer within": func(c net.Conn) { _, _ = io.Copy(io.Discard, c) },
		"does not speak the": func(c net.Conn) {
			_, _ = io.WriteString(c, "HTTP/1.1 400 Bad Request\r\n\r\n")
			_, _ = io.Copy(io.Discard, c)
		},
		"read hello: EOF": func(c net.Conn) { _, _ = c.Read(make([]byte, 1<<10)) },
	} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		done := make(chan struct{})
		go func() {
			defer close(done)
			c, err := l.Accept()
			if err != nil {
				return
			}
			defer c.Close()
			behave(c)
		}()
		timeout := time.Minute
		if strings.Contains(want, "did not answer") {
			timeout = 50 * time.Millisecond
		}
		_, err = Connect(t.Context(), l.Addr().String(), WithDialTimeout(timeout))
		require.ErrorIs(t, err, ErrUnreachable)
		require.ErrorContains(t, err, want)
		require.NoError(t, l.Close())
		<-done
	}
}
