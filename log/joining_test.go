package log

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sequitur-mq/sequitur/internal/vfs"
)

// A directory that is to join a cluster keeps its node and disk, and the first
// cluster that it was told, over restarts.
func TestPreparedIdentity(t *testing.T) {
	mem := vfs.NewMem(vfs.MemOptions{})
	first, err := PrepareIdentity(mem, "data", 7)
	require.NoError(t, err)
	require.Equal(t, uint32(7), first.Node)
	require.Zero(t, first.Cluster)
	require.NotZero(t, first.Disk)
	again, err := PrepareIdentity(mem, "data", 8)
	require.NoError(t, err)
	require.Equal(t, first, again, "an identity is never replaced")

	s, err := Open("data", Options{FS: mem})
	require.NoError(t, err)
	require.Equal(t, first, s.Identity())
	_, err = PrepareIdentity(mem, "data", 7)
	require.ErrorIs(t, err, ErrLocked)
	cluster := [16]byte{1, 2, 3}
	require.NoError(t, s.SetCluster(cluster))
	require.NoError(t, s.SetCluster(cluster))
	require.ErrorContains(t, s.SetCluster([16]byte{9}), "use another directory")
	require.NoError(t, s.Close())

	first.Cluster = cluster
	again, err = PrepareIdentity(mem, "data", 7)
	require.NoError(t, err)
	require.Equal(t, first, again)
}

// A directory with data and no identity is damaged, not new.
func TestPreparedIdentityLost(t *testing.T) {
	mem := vfs.NewMem(vfs.MemOptions{})
	s, err := Open("data", Options{FS: mem})
	require.NoError(t, err)
	require.NoError(t, s.Close())
	require.NoError(t, mem.Remove("data/"+identityFile))
	_, err = PrepareIdentity(mem, "data", 1)
	require.ErrorIs(t, err, ErrCorrupt)
}
