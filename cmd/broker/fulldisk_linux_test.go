package main

import (
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

// A disk that really fills up: produce waits and is refused while it is full,
// reads go on, and sending resumes by itself when space returns. It needs a
// file system of its own, which only root may mount; elsewhere
// TestFullDiskIsRefused is what is left.
func TestFullDiskRecoversByItself(t *testing.T) {
	disk := t.TempDir()
	if err := syscall.Mount("tmpfs", disk, "tmpfs", 0, "size=96m"); err != nil {
		t.Logf("no file system of its own: %v", err)
		return
	}
	t.Cleanup(func() { require.NoError(t, syscall.Unmount(disk, syscall.MNT_DETACH)) })
	dir := filepath.Join(disk, "data")
	s := serve(t, dir, "", "--reserve-bytes", "24MiB", "--journal-bytes", "16MiB")
	ok(t, s.addr, nil, "topic", "create", "t")
	l := startLoad(t, s.addr, "t", "--timeout", "4m")
	l.feed(1000)
	_, alive := l.stdout.untilLines(1000)
	require.True(t, alive, "%s", l.stderr.bytes())

	ballast := filepath.Join(disk, "ballast")
	fill(t, ballast)
	// The broker looks at the free space now and then, so a few more may pass.
	ok(t, s.addr, nil, "topic", "create", "other")
	var r result
	for tries := 0; r.code != exitStorage; tries++ {
		require.Less(t, tries, 1000, "the full disk is not noticed")
		require.Contains(t, []int{exitOK, exitTimeout}, r.code, r.stderr) // slow is no answer yet
		r = run(t, s.addr, []byte("refused\n"), "produce", "other", "--timeout", "300ms")
	}
	require.Equal(t, exitStorage, r.code, r.stderr)
	require.Contains(t, r.stderr, "full")
	l.feed(500) // waits
	require.Equal(t, 1000, strings.Count(ok(t, s.addr, nil, "consume", "t"), "\n"), "reads go on, and nothing was taken")

	require.NoError(t, os.Remove(ballast))
	r = l.result(t)
	require.Equal(t, exitOK, r.code, r.stderr)
	require.Len(t, readAcks(t, string(r.stdout)), 1500)
	l.verify(s.addr, "t", r)
	require.Equal(t, exitOK, s.stop().code)
	clean(t, dir)
}

// fill writes a file until the disk takes no more.
func fill(t *testing.T, name string) {
	t.Helper()
	f, err := os.Create(name)
	require.NoError(t, err)
	defer f.Close()
	_, err = io.Copy(f, endless{})
	require.ErrorIs(t, err, syscall.ENOSPC)
}

type endless struct{}

func (endless) Read(p []byte) (int, error) { clear(p); return len(p), nil }
