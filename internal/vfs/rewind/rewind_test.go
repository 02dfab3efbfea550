package rewind

import (
	"bytes"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sequitur-mq/sequitur/internal/vfs"
)

func start(t *testing.T) (fs vfs.FS, root, side string) {
	base := t.TempDir()
	root, side = filepath.Join(base, "data"), filepath.Join(base, "side")
	require.NoError(t, os.Mkdir(root, 0o750))
	fs, err := Record(side)
	require.NoError(t, err)
	return fs, root, side
}

func undo(t *testing.T, root, side string, keep float64, seed uint64) Report {
	r, err := Undo(root, side, keep, rand.New(rand.NewPCG(seed, 1)))
	require.NoError(t, err)
	require.NoDirExists(t, side)
	return r
}

func write(t *testing.T, f vfs.File, off int64, data string) {
	_, err := f.WriteAt([]byte(data), off)
	require.NoError(t, err)
}

// With nothing kept, a disk holds what was synced and nothing else.
func TestOnlyWhatWasSyncedStays(t *testing.T) {
	fs, root, side := start(t)
	a, err := fs.Create(filepath.Join(root, "a"))
	require.NoError(t, err)
	write(t, a, 0, "synced")
	require.NoError(t, a.Sync())
	require.NoError(t, fs.SyncDir(root))
	write(t, a, 2, "XX")
	write(t, a, 6, " and not")
	require.NoError(t, fs.Rename(filepath.Join(root, "a"), filepath.Join(root, "b")))
	c, err := fs.Create(filepath.Join(root, "c"))
	require.NoError(t, err)
	write(t, c, 0, "data synced, name not")
	require.NoError(t, c.Sync())
	require.NoError(t, fs.MkdirAll(filepath.Join(root, "d", "e")))

	undo(t, root, side, 0, 1)
	got, err := os.ReadFile(filepath.Join(root, "a"))
	require.NoError(t, err)
	require.Equal(t, "synced", string(got))
	for _, name := range []string{"b", "c", "d"} {
		require.NoFileExists(t, filepath.Join(root, name))
		require.NoDirExists(t, filepath.Join(root, name))
	}
}

func TestRemovedReplacedAndCutFilesComeBack(t *testing.T) {
	fs, root, side := start(t)
	for _, name := range []string{"gone", "old", "new", "cut", "again"} {
		f, err := fs.Create(filepath.Join(root, name))
		require.NoError(t, err)
		write(t, f, 0, "content of "+name)
		require.NoError(t, f.Close())
	}
	require.NoError(t, fs.SyncFS(root))
	require.NoError(t, fs.Remove(filepath.Join(root, "gone")))
	require.NoError(t, fs.Rename(filepath.Join(root, "new"), filepath.Join(root, "old")))
	f, err := fs.OpenReadWrite(filepath.Join(root, "cut"))
	require.NoError(t, err)
	require.NoError(t, f.Truncate(3))
	write(t, f, 3, "something else that is longer")
	_, err = fs.Create(filepath.Join(root, "again"))
	require.NoError(t, err)

	undo(t, root, side, 0, 1)
	for _, name := range []string{"gone", "old", "new", "cut", "again"} {
		got, err := os.ReadFile(filepath.Join(root, name))
		require.NoError(t, err)
		require.Equal(t, "content of "+name, string(got))
	}
}

func TestEverythingKeptIsEverything(t *testing.T) {
	fs, root, side := start(t)
	f, err := fs.Create(filepath.Join(root, "a"))
	require.NoError(t, err)
	write(t, f, 0, "one")
	require.NoError(t, f.Preallocate(0, 5000))
	require.NoError(t, f.Truncate(2))
	write(t, f, 2, "e")
	require.NoError(t, fs.Rename(filepath.Join(root, "a"), filepath.Join(root, "b")))
	r := undo(t, root, side, 1, 1)
	require.Zero(t, r.Undone)
	require.Equal(t, r.Changes, r.AtRisk)
	got, err := os.ReadFile(filepath.Join(root, "b"))
	require.NoError(t, err)
	require.Equal(t, "one", string(got))
}

// Whatever is lost, synced bytes are there, and each other sector is old or new.
func TestAnySubsetOfSectors(t *testing.T) {
	torn := false
	for seed := range uint64(50) {
		fs, root, side := start(t)
		f, err := fs.Create(filepath.Join(root, "a"))
		require.NoError(t, err)
		write(t, f, 0, string(bytes.Repeat([]byte{'s'}, 3*sector)))
		require.NoError(t, f.Sync())
		require.NoError(t, fs.SyncDir(root))
		write(t, f, sector, string(bytes.Repeat([]byte{'n'}, 4*sector)))
		undo(t, root, side, 0.5, seed)
		got, err := os.ReadFile(filepath.Join(root, "a"))
		require.NoError(t, err)
		require.GreaterOrEqual(t, len(got), 3*sector)
		require.LessOrEqual(t, len(got), 5*sector)
		require.Equal(t, bytes.Repeat([]byte{'s'}, sector), got[:sector])
		seen := map[byte]bool{}
		for at := sector; at < len(got); at += sector {
			require.Equal(t, bytes.Repeat(got[at:at+1], len(got[at:min(at+sector, len(got))])), got[at:min(at+sector, len(got))])
			want := "sn"
			if at >= 3*sector {
				want = "\x00n"
			}
			require.Contains(t, want, string(got[at]))
			seen[got[at]] = true
		}
		torn = torn || len(seen) > 1
	}
	require.True(t, torn, "no write was torn")
}

// Writes past the page cache are durable at once where the file system offers them.
func TestDirectWritesStay(t *testing.T) {
	fs, root, side := start(t)
	name := filepath.Join(root, "j")
	f, err := fs.Create(name)
	require.NoError(t, err)
	require.NoError(t, f.Preallocate(0, vfs.DirectAlign))
	require.NoError(t, f.Sync())
	require.NoError(t, fs.SyncDir(root))
	d, direct, err := fs.OpenDirect(name)
	require.NoError(t, err)
	b := vfs.AlignedBuffer(vfs.DirectAlign)
	b[0] = 'x'
	_, err = d.WriteAt(b, 0)
	require.NoError(t, err)
	undo(t, root, side, 0, 1)
	got, err := os.ReadFile(name)
	require.NoError(t, err)
	require.Equal(t, direct, got[0] == 'x')
}

func TestNoteCutShortIsNoChange(t *testing.T) {
	fs, root, side := start(t)
	f, err := fs.Create(filepath.Join(root, "a"))
	require.NoError(t, err)
	require.NoError(t, fs.SyncDir(root))
	write(t, f, 0, "lost")
	changes := filepath.Join(side, changesFile)
	info, err := os.Stat(changes)
	require.NoError(t, err)
	write(t, f, 0, "then this")
	require.NoError(t, os.Truncate(changes, info.Size()+9))
	require.NoError(t, os.WriteFile(filepath.Join(root, "a"), []byte("lost"), 0o600))
	undo(t, root, side, 0, 1)
	got, err := os.ReadFile(filepath.Join(root, "a"))
	require.NoError(t, err)
	require.Empty(t, got)
}
