package admin

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

// source is a broker whose state a test sets.
type source struct {
	health, ready atomic.Pointer[error]
	snapshot      func() Snapshot
}

func (s *source) Health() error { return load(&s.health) }
func (s *source) Ready() error  { return load(&s.ready) }
func (s *source) Snapshot() Snapshot {
	if s.snapshot == nil {
		return Snapshot{}
	}
	return s.snapshot()
}

func load(p *atomic.Pointer[error]) error {
	if err := p.Load(); err != nil {
		return *err
	}
	return nil
}

func store(p *atomic.Pointer[error], err error) { p.Store(&err) }

// start serves s until the end of the test and returns a client without idle
// connections to leak.
func start(t *testing.T, s Source) (*Server, func(method, path string) (int, string)) {
	t.Cleanup(func() { goleak.VerifyNone(t) })
	server, err := Start(s, "127.0.0.1:0", nil)
	require.NoError(t, err)
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	t.Cleanup(func() { require.NoError(t, server.Close(context.Background())) })
	return server, func(method, path string) (int, string) {
		req, err := http.NewRequest(method, "http://"+server.Addr()+path, nil)
		require.NoError(t, err)
		resp, err := client.Do(req)
		require.NoError(t, err)
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		return resp.StatusCode, string(body)
	}
}

func TestHealthAndReadiness(t *testing.T) {
	s := &source{}
	_, get := start(t, s)
	for _, c := range []struct {
		path, good string
		state      *atomic.Pointer[error]
	}{{"/healthz", "ok\n", &s.health}, {"/readyz", "ready\n", &s.ready}} {
		code, body := get("GET", c.path)
		require.Equal(t, http.StatusOK, code)
		require.Equal(t, c.good, body)

		store(c.state, errors.New("the disk failed: write journal/0001.jnl: input/output error"))
		code, body = get("GET", c.path)
		require.Equal(t, http.StatusServiceUnavailable, code)
		require.Equal(t, "the disk failed: write journal/0001.jnl: input/output error\n", body)

		store(c.state, nil)
		code, _ = get("GET", c.path)
		require.Equal(t, http.StatusOK, code)
	}
}

func TestOtherRequests(t *testing.T) {
	_, get := start(t, &source{})
	code, body := get("GET", "/")
	require.Equal(t, http.StatusOK, code)
	require.Contains(t, body, "/metrics")
	code, _ = get("HEAD", "/healthz")
	require.Equal(t, http.StatusOK, code)
	code, _ = get("GET", "/other")
	require.Equal(t, http.StatusNotFound, code)
	code, _ = get("POST", "/healthz")
	require.Equal(t, http.StatusMethodNotAllowed, code)
	code, _ = get("GET", "/healthz?"+strings.Repeat("x", 40<<10))
	require.Equal(t, http.StatusRequestHeaderFieldsTooLarge, code)
}

func TestStartSaysWhyItCannotListen(t *testing.T) {
	server, _ := start(t, &source{})
	_, err := Start(&source{}, server.Addr(), nil)
	require.ErrorContains(t, err, server.Addr())
	require.ErrorContains(t, err, "--http")
}

// Close waits for a request in progress and cuts off one that does not end.
func TestCloseIsGraceful(t *testing.T) {
	defer goleak.VerifyNone(t)
	for _, patient := range []bool{true, false} {
		t.Run(fmt.Sprint("patient=", patient), func(t *testing.T) {
			asked, answer := make(chan struct{}), make(chan struct{})
			s := &source{snapshot: func() Snapshot {
				close(asked)
				<-answer
				return Snapshot{}
			}}
			server, err := Start(s, "127.0.0.1:0", nil)
			require.NoError(t, err)
			conn, err := net.Dial("tcp", server.Addr())
			require.NoError(t, err)
			defer conn.Close()
			_, err = fmt.Fprint(conn, "GET /metrics HTTP/1.0\r\n\r\n")
			require.NoError(t, err)
			<-asked

			ctx, cancel := context.WithCancel(context.Background())
			defer cancel()
			closed := make(chan error)
			go func() { closed <- server.Close(ctx) }()
			if !patient {
				cancel()
				require.ErrorIs(t, <-closed, context.Canceled)
				close(answer)
				_, err = io.ReadAll(conn) // ends one way or the other: nothing holds it
				_ = err
				return
			}
			_, err = net.Dial("tcp", server.Addr())
			for err == nil { // until the listener is closed
				_, err = net.Dial("tcp", server.Addr())
			}
			close(answer)
			require.NoError(t, <-closed)
			body, err := io.ReadAll(conn)
			require.NoError(t, err)
			require.Contains(t, string(body), "200 OK")
		})
	}
}

func TestTimeoutsAreSet(t *testing.T) {
	server, _ := start(t, &source{})
	for _, d := range []time.Duration{server.http.ReadTimeout, server.http.WriteTimeout, server.http.IdleTimeout} {
		require.Positive(t, d)
	}
}
