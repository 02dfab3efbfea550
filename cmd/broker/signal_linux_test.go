package main

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

// The first signal stops a broker gracefully, however long that takes; the
// second one ends it at once with code 130, and nothing acknowledged is lost.
// The stop takes for ever here: its first word goes into a pipe that is full.
func TestSecondSignalEndsServe(t *testing.T) {
	for _, signals := range [][2]syscall.Signal{{syscall.SIGINT, syscall.SIGTERM}, {syscall.SIGTERM, syscall.SIGINT}} {
		dir := t.TempDir()
		p := prepareServe(t, dir, "")
		p.cmd.Stderr = fullPipe(t)
		p.launch()
		s, err := p.awaitServe()
		require.NoError(t, err)
		ok(t, s.addr, nil, "topic", "create", "t")
		ok(t, s.addr, []byte("acknowledged\n"), "produce", "t")
		s.signal(signals[0])
		s.signal(signals[1])
		require.Equal(t, exitInterrupted, s.wait().code)
		clean(t, dir)
		s = serve(t, dir, "")
		require.Equal(t, "acknowledged\n", ok(t, s.addr, nil, "consume", "t"))
		require.Equal(t, exitOK, s.stop().code)
	}
}

// fullPipe is the end of a pipe to which nothing more can be written.
func fullPipe(t *testing.T) *os.File {
	var ends [2]int
	require.NoError(t, syscall.Pipe2(ends[:], syscall.O_CLOEXEC|syscall.O_NONBLOCK))
	t.Cleanup(func() { syscall.Close(ends[0]) })
	for size := 4096; size > 0; {
		if _, err := syscall.Write(ends[1], make([]byte, size)); err == syscall.EAGAIN {
			size /= 2
		} else {
			require.NoError(t, err)
		}
	}
	full := os.NewFile(uintptr(ends[1]), "full pipe")
	t.Cleanup(func() { full.Close() })
	return full
}

// A disk that fails ends the broker with code 8 and the reason, and so does a
// stop that cannot put everything on disk. What was acknowledged is there
// after it. Here the directory of the next file is no directory any more.
func TestFailedDiskEndsServe(t *testing.T) {
	for _, broken := range []string{"journal", "partitions"} {
		dir := t.TempDir()
		s := serve(t, dir, "")
		ok(t, s.addr, nil, "topic", "create", "t")
		aside := filepath.Join(t.TempDir(), broken)
		require.NoError(t, os.Rename(filepath.Join(dir, broken), aside))
		require.NoError(t, os.WriteFile(filepath.Join(dir, broken), nil, 0o600))
		l := startLoad(t, s.addr, "t", "--timeout", "1s")
		if broken == "journal" {
			for !s.ended() { // until its first file is full
				_ = l.offer(2000)
			}
		} else {
			l.feed(1)
			_, acked := l.stdout.untilLines(1)
			if acked { // from the journal; the segment comes with the checkpoint
				s.signal(syscall.SIGTERM)
			}
		}
		r := s.wait()
		require.Equal(t, exitStorage, r.code, r.stderr)
		require.Contains(t, r.stderr, "broker: the broker has stopped: ")
		require.Contains(t, r.stderr, filepath.Join(dir, broken))
		require.Contains(t, r.stderr, "check the disk, then: ")
		sent := l.result(t)

		require.NoError(t, os.Remove(filepath.Join(dir, broken)))
		require.NoError(t, os.Rename(aside, filepath.Join(dir, broken)))
		clean(t, dir)
		s = serve(t, dir, "")
		l.verify(s.addr, "t", sent)
		require.Equal(t, exitOK, s.stop().code)
		require.NotContains(t, strings.ToLower(r.stderr), "panic")
	}
}

// ended reports whether the process has.
func (p *process) ended() bool {
	p.stdout.mu.Lock()
	defer p.stdout.mu.Unlock()
	return p.stdout.closed
}
