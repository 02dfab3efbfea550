package bench

import (
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestPhysicalMeasuresAndCleans(t *testing.T) {
	dir := t.TempDir()
	p, err := MeasurePhysical(t.Context(), dir, 400*time.Millisecond, nil)
	require.NoError(t, err)
	require.NotEmpty(t, p.FlushKind)
	require.Positive(t, p.FloorUs())
	require.Positive(t, p.JournalMBs)
	require.Positive(t, p.JournalSegmentsMBs)
	require.Positive(t, p.MemcpyGBs)
	require.Positive(t, p.CRC32CGBs)
	left, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Empty(t, left)
}

func TestSharedFlushMeasuresAndCleans(t *testing.T) {
	dir := t.TempDir()
	l, err := MeasureSharedFlush(t.Context(), dir, 2, 10*time.Millisecond)
	require.NoError(t, err)
	require.Positive(t, l.Count)
	left, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Empty(t, left)
}

func TestForgetFiles(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(dir+"/file", make([]byte, 1<<16), 0o600))
	require.NoError(t, forgetFiles(dir))
	settle(dir)
}
