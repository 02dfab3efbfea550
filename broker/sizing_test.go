package broker

import (
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sequitur-mq/sequitur/internal/vfs"
)

func TestSizesFitTheDisk(t *testing.T) {
	large := DefaultConfig()
	large.fitToDisk(1 << 40)
	require.EqualValues(t, 64<<20, large.JournalFileBytes)
	require.EqualValues(t, 256<<20, large.JournalBytes)
	require.EqualValues(t, 256<<20, large.ReserveBytes)

	for _, total := range []uint64{64 << 20, 200 << 20, 1 << 30, 2 << 30} {
		small := DefaultConfig()
		small.fitToDisk(total)
		require.LessOrEqual(t, uint64(small.ReserveBytes), total/8)
		require.GreaterOrEqual(t, int64(small.JournalFileBytes), int64(leastJournalFileBytes))
		taken := uint64(max(small.JournalBytes, 3*small.JournalFileBytes)+small.ReserveBytes) + 16<<20
		require.Less(t, taken, total*3/4, "a disk of %d bytes has room for records", total)
	}

	asked := DefaultConfig()
	asked.JournalFileBytes, asked.JournalBytes, asked.ReserveBytes = 1<<20, 8<<20, 1
	asked.fitToDisk(1 << 40)
	require.EqualValues(t, 1<<20, asked.JournalFileBytes)
	require.EqualValues(t, 8<<20, asked.JournalBytes)
	require.EqualValues(t, 1, asked.ReserveBytes)
}

func TestDiskSizeOfADirectoryToCome(t *testing.T) {
	dir := t.TempDir()
	require.Equal(t, diskSize(vfs.OS(), dir), diskSize(vfs.OS(), filepath.Join(dir, "not", "there", "yet")))
	require.NotZero(t, diskSize(vfs.OS(), dir))
}
