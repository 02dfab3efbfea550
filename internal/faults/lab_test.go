package faults

import (
	"errors"
	"fmt"
	"net"
	"os"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/vishvananda/netns"
)

// The tests of this package run in a network namespace of their own, where that is permitted.
func TestMain(m *testing.M) {
	code, ran, err := Isolate()
	switch {
	case err != nil && !errors.Is(err, ErrNotPermitted):
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	case !ran:
		code = m.Run()
	}
	os.Exit(code)
}

// listen accepts on a host and answers every connection with one byte.
func (l *lab) listen(t *testing.T, number int) (addr string) {
	t.Helper()
	listener := onHost(t, l, number, func() (net.Listener, error) { return net.Listen("tcp", hostIP(number).String()+":0") })
	t.Cleanup(func() { listener.Close() })
	go func() {
		for {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			c.Write([]byte("x"))
			c.Close()
		}
	}()
	return listener.Addr().String()
}

func onHost[T any](t *testing.T, l *lab, number int, fn func() (T, error)) T {
	t.Helper()
	type result struct {
		v   T
		err error
	}
	done := make(chan result)
	go lockedTo(l, number, func() {
		v, err := fn()
		done <- result{v, err}
	})
	r := <-done
	require.NoError(t, r.err)
	return r.v
}

func TestCablesCanBeCutOneWayAndHealed(t *testing.T) {
	l, err := newLab(3)
	if os.Getenv(isolatedEnv) == "" {
		require.Error(t, err, "a lab in the machine's own network")
		return
	}
	require.NoError(t, err)
	defer l.close()
	reach := func(from, to int, timeout time.Duration) error {
		addr := l.listen(t, to)
		type result struct{ err error }
		return onHost(t, l, from, func() (result, error) {
			c, err := net.DialTimeout("tcp", addr, timeout)
			if err == nil {
				c.Close()
			}
			return result{err}, nil
		}).err
	}
	for _, pair := range [][2]int{{1, 2}, {2, 3}, {3, 1}} {
		require.NoError(t, reach(pair[0], pair[1], 10*time.Second))
	}
	require.NoError(t, l.cut(1, 2))
	require.Error(t, reach(1, 2, 200*time.Millisecond), "the request is lost")
	require.Error(t, reach(2, 1, 200*time.Millisecond), "the answer is lost")
	require.NoError(t, reach(1, 3, 10*time.Second))
	require.NoError(t, reach(2, 3, 10*time.Second))
	c, err := net.DialTimeout("tcp", l.listen(t, 1), 10*time.Second)
	require.NoError(t, err, "clients are not cut off")
	c.Close()
	require.NoError(t, l.heal())
	require.NoError(t, reach(1, 2, 10*time.Second))

	require.NoError(t, l.cutBoth(map[int]bool{3: true}))
	require.Error(t, reach(1, 3, 200*time.Millisecond))
	require.Error(t, reach(3, 2, 200*time.Millisecond))
	require.NoError(t, reach(1, 2, 10*time.Second))
}

// lockedTo runs fn on a thread that is in the host's namespace and ends with it.
func lockedTo(l *lab, number int, fn func()) {
	runtime.LockOSThread() // and never unlocked: the thread ends here
	if err := netns.Set(l.hosts[number-1].ns); err != nil {
		panic(err)
	}
	fn()
}
