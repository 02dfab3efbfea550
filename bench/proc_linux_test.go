package bench

import (
	"net"
	"os"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestProcessUsage(t *testing.T) {
	u, err := processUsage(os.Getpid())
	require.NoError(t, err)
	require.Equal(t, os.Getpid(), u.PID)
	require.Positive(t, u.RSS)
	require.GreaterOrEqual(t, u.PeakRSS, u.RSS)
	_, err = processUsage(-1)
	require.ErrorIs(t, err, os.ErrNotExist)
}

func TestListenerPID(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	port := listener.Addr().(*net.TCPAddr).Port
	require.Equal(t, os.Getpid(), listenerPID(port))
	require.Equal(t, os.Getpid(), localListener("nats://"+listener.Addr().String()))
	require.NoError(t, listener.Close())
	require.Zero(t, listenerPID(port))
	require.Zero(t, localListener("nats://192.0.2.1:4222"))
}

func TestHostIsDescribed(t *testing.T) {
	h := DescribeHost(t.TempDir())
	require.Positive(t, h.Cores)
	require.Positive(t, h.MemoryMiB)
	require.NotEmpty(t, h.FileSystem)
	require.Contains(t, h.String(), h.Kernel)
}
