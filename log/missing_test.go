package log

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sequitur-mq/sequitur/internal/vfs"
)

// Somebody removes the active segment of a partition: its offsets are damaged and nothing else is. Appends go on behind
// them, in a new segment, also after the next restart.
func TestAppendAfterTheActiveSegmentWasRemoved(t *testing.T) {
	dir := t.TempDir()
	s := openStore(t, dir, smallOptions(vfs.OS()))
	require.NoError(t, s.Create(Spec{ID: testID(1)}))
	newProducer(t, partition(t, s, testID(1))).append(3, 100)
	require.NoError(t, s.Close())
	files, err := filepath.Glob(filepath.Join(dir, "partitions", "*", "*", "*.log"))
	require.NoError(t, err)
	require.Len(t, files, 1)
	require.NoError(t, os.Remove(files[0]))

	s = openStore(t, dir, smallOptions(vfs.OS()))
	p := partition(t, s, testID(1))
	require.EqualValues(t, 3, p.End())
	added := newProducer(t, p).append(2, 100)
	require.NoError(t, s.Err())
	for range 2 {
		_, err = readFrom(p, 0, 1<<20, false)
		require.ErrorIs(t, err, ErrCorrupt)
		got, err := readFrom(p, 3, 1<<20, false)
		require.NoError(t, err)
		require.Equal(t, added, got)
		settle(t, s)
		require.NoError(t, s.Close())
		s = openStore(t, dir, smallOptions(vfs.OS()))
		p = partition(t, s, testID(1))
		require.EqualValues(t, 5, p.End())
	}
	require.NoError(t, s.Close())
}
