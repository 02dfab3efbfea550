package main

import (
	"bytes"
	"io"
	"os"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

type failingWriter struct{ err error }

func (w failingWriter) Write([]byte) (int, error) { return 0, w.err }

func TestLostOutputIsNoSuccess(t *testing.T) {
	run := func(stdout io.Writer) (int, string) {
		var stderr bytes.Buffer
		c := &cli{args: []string{"broker", "version"}, stdin: os.Stdin, stdout: stdout, stderr: &stderr, getenv: func(string) string { return "" }}
		return c.run(), stderr.String()
	}
	code, text := run(failingWriter{syscall.ENOSPC})
	require.Equal(t, exitFailure, code)
	require.Contains(t, text, "no space left on device")
	require.Contains(t, text, "output is not complete")

	code, text = run(failingWriter{syscall.EPIPE})
	require.Zero(t, code, "the reader had seen enough")
	require.Empty(t, text)

	code, _ = run(io.Discard)
	require.Zero(t, code)
}
