package vfs

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"unsafe"

	"github.com/stretchr/testify/require"
)

func TestOSFile(t *testing.T) {
	fsys, dir := OS(), t.TempDir()
	name := filepath.Join(dir, "a", "b", "file")
	require.NoError(t, fsys.MkdirAll(filepath.Dir(name)))
	_, err := fsys.Open(name)
	require.ErrorIs(t, err, fs.ErrNotExist)
	_, err = fsys.OpenReadWrite(name)
	require.ErrorIs(t, err, fs.ErrNotExist)

	f, err := fsys.Create(name)
	require.NoError(t, err)
	_, err = f.WriteAt([]byte("hello"), 3)
	require.NoError(t, err)
	require.NoError(t, f.StartWriteback(0, 8))
	require.NoError(t, f.Sync())
	require.NoError(t, fsys.SyncDir(filepath.Dir(name)))
	require.NoError(t, fsys.SyncFS(dir))
	size, err := f.Size()
	require.NoError(t, err)
	require.EqualValues(t, 8, size)
	require.NoError(t, f.Preallocate(0, 4096))
	size, _ = f.Size()
	require.EqualValues(t, 4096, size)
	require.NoError(t, f.Truncate(5))
	buf := make([]byte, 8)
	n, err := f.ReadAt(buf, 0)
	require.ErrorIs(t, err, io.EOF)
	require.Equal(t, "\x00\x00\x00he", string(buf[:n]))
	require.NotNil(t, f.OSFile())
	_, ok := f.Fd()
	require.True(t, ok)
	require.Equal(t, name, f.Name())
	require.NoError(t, f.Close())
	require.ErrorIs(t, f.Sync(), os.ErrClosed)

	require.NoError(t, fsys.Rename(name, name+"2"))
	list, err := fsys.ReadDir(filepath.Dir(name))
	require.NoError(t, err)
	require.Len(t, list, 1)
	require.Equal(t, "file2", list[0].Name())
	info, err := fsys.Stat(name + "2")
	require.NoError(t, err)
	require.EqualValues(t, 5, info.Size())
	require.Error(t, fsys.Remove(filepath.Dir(name)), "not empty")
	require.NoError(t, fsys.Remove(name+"2"))
	require.NoError(t, fsys.RemoveAll(filepath.Join(dir, "a")))

	free, total, err := fsys.Free(dir)
	require.NoError(t, err)
	require.Positive(t, free)
	require.GreaterOrEqual(t, total, free)
}

func TestOSDirect(t *testing.T) {
	fsys, name := OS(), filepath.Join(t.TempDir(), "journal")
	f, err := fsys.Create(name)
	require.NoError(t, err)
	require.NoError(t, f.Close())
	// Whether the temporary directory allows O_DIRECT is its affair; writing must work either way.
	d, direct, err := fsys.OpenDirect(name)
	require.NoError(t, err)
	defer d.Close()
	buf := AlignedBuffer(2 * DirectAlign)
	require.Zero(t, uintptr(unsafe.Pointer(&buf[0]))%DirectAlign)
	require.Len(t, buf, 2*DirectAlign)
	copy(buf, "direct")
	_, err = d.WriteAt(buf, DirectAlign)
	require.NoError(t, err)
	if !direct {
		require.NoError(t, d.Sync())
	}
	got := AlignedBuffer(DirectAlign)
	_, err = d.ReadAt(got, DirectAlign)
	require.NoError(t, err)
	require.Equal(t, "direct", string(got[:6]))
	_, _, err = fsys.OpenDirect(name + "x")
	require.ErrorIs(t, err, fs.ErrNotExist)
}

func TestOSLock(t *testing.T) {
	testLock(t, OS(), filepath.Join(t.TempDir(), "LOCK"))
}

func testLock(t *testing.T, fsys FS, name string) {
	_, err := fsys.LockShared(name)
	require.ErrorIs(t, err, fs.ErrNotExist)
	l, err := fsys.Lock(name)
	require.NoError(t, err)
	_, err = fsys.Lock(name)
	require.True(t, errors.Is(err, ErrLocked), "%v", err)
	_, err = fsys.LockShared(name)
	require.ErrorIs(t, err, ErrLocked)
	require.NoError(t, l.Close())
	r1, err := fsys.LockShared(name)
	require.NoError(t, err)
	r2, err := fsys.LockShared(name)
	require.NoError(t, err)
	_, err = fsys.Lock(name)
	require.ErrorIs(t, err, ErrLocked)
	require.NoError(t, r1.Close())
	require.NoError(t, r2.Close())
	l, err = fsys.Lock(name)
	require.NoError(t, err)
	require.NoError(t, l.Close())
}
