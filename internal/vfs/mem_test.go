package vfs

import (
	"bytes"
	"io/fs"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

func seeded(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, 1)) }

func mustCreate(t testing.TB, fsys FS, name string, data []byte) File {
	t.Helper()
	f, err := fsys.Create(name)
	require.NoError(t, err)
	_, err = f.WriteAt(data, 0)
	require.NoError(t, err)
	return f
}

func content(t testing.TB, fsys FS, name string) []byte {
	t.Helper()
	f, err := fsys.Open(name)
	require.NoError(t, err)
	defer f.Close()
	size, err := f.Size()
	require.NoError(t, err)
	b := make([]byte, size)
	if size > 0 {
		_, err = f.ReadAt(b, 0)
		require.NoError(t, err)
	}
	return b
}

func names(t testing.TB, fsys FS, dir string) []string {
	t.Helper()
	list, err := fsys.ReadDir(dir)
	require.NoError(t, err)
	var out []string
	for _, e := range list {
		out = append(out, e.Name())
	}
	return out
}

func TestMemLock(t *testing.T) { testLock(t, NewMem(MemOptions{}), "/LOCK") }

func TestMemSyncDoesNotPersistTheName(t *testing.T) {
	m := NewMem(MemOptions{})
	require.NoError(t, m.MkdirAll("/d"))
	require.NoError(t, m.SyncDir("/"))
	f := mustCreate(t, m, "/d/f", []byte("x"))
	require.NoError(t, f.Sync())
	require.Empty(t, names(t, m.Crash(0, seeded(1)), "/d"))
	require.NoError(t, m.SyncDir("/d"))
	require.Equal(t, "x", string(content(t, m.Crash(0, seeded(1)), "/d/f")))
}

func TestMemDirectoryItselfNeedsItsParentSynced(t *testing.T) {
	m := NewMem(MemOptions{})
	require.NoError(t, m.MkdirAll("/a/b"))
	require.NoError(t, m.SyncDir("/a"))
	require.Empty(t, names(t, m.Crash(0, seeded(1)), "/"))
	require.NoError(t, m.SyncDir("/"))
	require.Equal(t, []string{"b"}, names(t, m.Crash(0, seeded(1)), "/a"))
}

func TestMemUnsyncedDataMayBeLostByTheSector(t *testing.T) {
	m := NewMem(MemOptions{})
	f := mustCreate(t, m, "/f", bytes.Repeat([]byte{1}, 8*sectorSize))
	require.NoError(t, f.Sync())
	require.NoError(t, m.SyncDir("/"))
	_, err := f.WriteAt(bytes.Repeat([]byte{2}, 8*sectorSize), 0)
	require.NoError(t, err)
	mixed := 0
	for seed := range uint64(64) {
		got := content(t, m.Crash(0.5, seeded(seed)), "/f")
		require.Len(t, got, 8*sectorSize)
		seen := map[byte]bool{}
		for s := range 8 {
			sector := got[s*sectorSize : (s+1)*sectorSize]
			require.Equal(t, bytes.Repeat(sector[:1], sectorSize), sector, "a sector is whole")
			seen[sector[0]] = true
		}
		if len(seen) == 2 {
			mixed++
		}
	}
	require.Greater(t, mixed, 10, "torn writes are common")
	require.EqualValues(t, 1, content(t, m.Crash(0, seeded(1)), "/f")[0])
	require.EqualValues(t, 2, content(t, m.Crash(1, seeded(1)), "/f")[0])
}

func TestMemDirectWritesAreDurableWhenTheyReturn(t *testing.T) {
	m := NewMem(MemOptions{})
	f := mustCreate(t, m, "/j", make([]byte, 4*DirectAlign))
	require.NoError(t, f.Sync())
	require.NoError(t, m.SyncDir("/"))
	d, direct, err := m.OpenDirect("/j")
	require.NoError(t, err)
	require.True(t, direct)
	buf := AlignedBuffer(DirectAlign)
	for i := range buf {
		buf[i] = 7
	}
	_, err = d.WriteAt(buf, 100)
	require.ErrorIs(t, err, syscall.EINVAL, "unaligned")
	_, err = d.WriteAt(buf, DirectAlign)
	require.NoError(t, err)
	require.Equal(t, buf, content(t, m.Crash(0, seeded(1)), "/j")[DirectAlign:2*DirectAlign])

	// A crash in the middle of the call tears it, whatever is kept.
	torn := false
	m.SetDuring(func(op Op, _ string) {
		for seed := range uint64(20) {
			require.Zero(t, content(t, m.Crash(0, seeded(seed)), "/j")[2*DirectAlign])
			got := content(t, m.Crash(1, seeded(seed)), "/j")[2*DirectAlign : 3*DirectAlign]
			n := bytes.Count(got, []byte{7})
			require.Zero(t, n%sectorSize)
			torn = torn || n > 0 && n < DirectAlign
		}
	})
	_, err = d.WriteAt(buf, 2*DirectAlign)
	require.NoError(t, err)
	require.True(t, torn)
	m.SetDuring(nil)
	require.Equal(t, buf, content(t, m.Crash(0, seeded(1)), "/j")[2*DirectAlign:3*DirectAlign])

	_, direct, err = NewMemWith(t, MemOptions{NoDirect: true}, "/j").OpenDirect("/j")
	require.NoError(t, err)
	require.False(t, direct)
}

// NewMemWith is a Mem that holds one empty file.
func NewMemWith(t *testing.T, o MemOptions, name string) *Mem {
	m := NewMem(o)
	require.NoError(t, mustCreate(t, m, name, nil).Close())
	return m
}

func TestMemRenameIsAtomicAndVolatile(t *testing.T) {
	m := NewMem(MemOptions{})
	old := mustCreate(t, m, "/f", []byte("old"))
	require.NoError(t, old.Sync())
	require.NoError(t, m.SyncDir("/"))
	tmp := mustCreate(t, m, "/f.tmp", []byte("new"))
	require.NoError(t, tmp.Sync())
	require.NoError(t, m.Rename("/f.tmp", "/f"))
	outcomes := map[string]int{}
	for seed := range uint64(60) {
		c := m.Crash(0.5, seeded(seed))
		got := string(content(t, c, "/f"))
		require.Contains(t, []string{"old", "new"}, got)
		if got == "new" {
			require.Equal(t, []string{"f"}, names(t, c, "/"))
		}
		outcomes[got]++
	}
	require.Len(t, outcomes, 2)
	require.NoError(t, m.SyncDir("/"))
	require.Equal(t, "new", string(content(t, m.Crash(0, seeded(1)), "/f")))
}

func TestMemRenameBetweenDirectories(t *testing.T) {
	m := NewMem(MemOptions{})
	require.NoError(t, m.MkdirAll("/a"))
	require.NoError(t, m.MkdirAll("/b"))
	f := mustCreate(t, m, "/a/f", []byte("x"))
	require.NoError(t, f.Sync())
	require.NoError(t, m.SyncFS("/"))
	require.NoError(t, m.Rename("/a/f", "/b/g"))
	both := map[bool]bool{}
	for seed := range uint64(40) {
		c := m.Crash(0.5, seeded(seed))
		a, b := len(names(t, c, "/a")), len(names(t, c, "/b"))
		require.Equal(t, 1, a+b, "the file is in exactly one of them")
		both[b == 1] = true
	}
	require.Len(t, both, 2)
	require.NoError(t, m.SyncDir("/b"))
	c := m.Crash(0, seeded(1))
	require.Empty(t, names(t, c, "/a"))
	require.Equal(t, []string{"g"}, names(t, c, "/b"))
}

func TestMemRemovedFileMayComeBack(t *testing.T) {
	m := NewMem(MemOptions{})
	f := mustCreate(t, m, "/f", []byte("x"))
	require.NoError(t, f.Sync())
	require.NoError(t, m.SyncDir("/"))
	require.NoError(t, m.Remove("/f"))
	require.Equal(t, "x", string(content(t, m.Crash(0, seeded(1)), "/f")))
	require.NoError(t, m.SyncDir("/"))
	_, err := m.Crash(0, seeded(1)).Open("/f")
	require.ErrorIs(t, err, fs.ErrNotExist)
	require.Len(t, readAll(t, f), 1, "an open file outlives its name")
}

func readAll(t *testing.T, f File) []byte {
	size, err := f.Size()
	require.NoError(t, err)
	b := make([]byte, size)
	_, err = f.ReadAt(b, 0)
	require.NoError(t, err)
	return b
}

func TestMemRemoveAll(t *testing.T) {
	m := NewMem(MemOptions{})
	require.NoError(t, m.MkdirAll("/a/b/c"))
	require.NoError(t, mustCreate(t, m, "/a/b/f", []byte("x")).Close())
	require.NoError(t, m.SyncFS("/"))
	require.Error(t, m.Remove("/a/b"))
	require.NoError(t, m.RemoveAll("/a/b"))
	require.NoError(t, m.RemoveAll("/a/b"))
	require.Empty(t, names(t, m, "/a"))
	require.Zero(t, m.Used())
	require.Equal(t, []string{"c", "f"}, names(t, m.Crash(0, seeded(1)), "/a/b"))
}

func TestMemSyncErrorLosesTheData(t *testing.T) {
	m := NewMem(MemOptions{})
	f := mustCreate(t, m, "/f", []byte("x"))
	require.NoError(t, m.SyncDir("/"))
	m.FailAt(1, syscall.EIO, OpSync)
	require.ErrorIs(t, f.Sync(), syscall.EIO)
	require.NoError(t, f.Sync(), "the next one succeeds and means nothing")
	require.Empty(t, content(t, m.Crash(0, seeded(1)), "/f"))
	require.Equal(t, "x", string(content(t, m, "/f")))
}

func TestMemFaults(t *testing.T) {
	m := NewMem(MemOptions{})
	f := mustCreate(t, m, "/f", []byte("abc"))
	ops := m.Ops()
	m.FailAt(2, syscall.ENOSPC)
	_, err := f.WriteAt([]byte("1"), 0)
	require.NoError(t, err)
	_, err = f.WriteAt([]byte("2"), 0)
	require.ErrorIs(t, err, syscall.ENOSPC)
	require.True(t, IsDiskFull(err))
	require.Equal(t, "1bc", string(content(t, m, "/f")))
	require.EqualValues(t, 2, m.Ops()-ops)
	m.SetFault(func(op Op, name string) error {
		if op == OpRead && filepath.Base(name) == "f" {
			return syscall.EIO
		}
		return nil
	})
	_, err = f.ReadAt(make([]byte, 1), 0)
	require.ErrorIs(t, err, syscall.EIO)
	m.SetFault(nil)

	m.CrashAt(2)
	require.NoError(t, f.Sync())
	m.CrashAt(0)
	require.NoError(t, m.SyncDir("/"), "cancelled")
}

func TestMemCrashAt(t *testing.T) {
	m := NewMem(MemOptions{})
	f := mustCreate(t, m, "/f", []byte("abc"))
	require.NoError(t, f.Sync())
	require.NoError(t, m.SyncDir("/"))
	m.CrashAt(2)
	_, err := f.WriteAt([]byte("1"), 0)
	require.NoError(t, err)
	require.False(t, m.Crashed())
	require.ErrorIs(t, f.Sync(), ErrCrashed)
	<-m.CrashC()
	_, err = f.ReadAt(make([]byte, 1), 0)
	require.ErrorIs(t, err, ErrCrashed)
	_, err = m.Open("/f")
	require.ErrorIs(t, err, ErrCrashed)
	require.NoError(t, f.Close())
	require.Equal(t, "abc", string(content(t, m.Crash(0, seeded(1)), "/f")), "the sync in flight promised nothing")
	after := m.Crash(1, seeded(1))
	require.Equal(t, "1bc", string(content(t, after, "/f")))
	require.False(t, after.Crashed())
}

func TestMemCapacity(t *testing.T) {
	m := NewMem(MemOptions{Capacity: 3 * blockSize})
	f := mustCreate(t, m, "/f", make([]byte, blockSize))
	free, total, err := m.Free("/")
	require.NoError(t, err)
	require.EqualValues(t, 2*blockSize, free)
	require.EqualValues(t, 3*blockSize, total)
	require.NoError(t, f.Truncate(100*blockSize), "holes are free")
	require.ErrorIs(t, f.Preallocate(0, 100*blockSize), syscall.ENOSPC)
	require.NoError(t, f.Truncate(blockSize))
	g := mustCreate(t, m, "/g", nil)
	n, err := g.WriteAt(make([]byte, 4*blockSize), 0)
	require.ErrorIs(t, err, syscall.ENOSPC)
	require.Positive(t, n)
	size, err := g.Size()
	require.NoError(t, err)
	require.EqualValues(t, n, size)
	_, err = f.WriteAt([]byte("overwriting needs no room"), 0)
	require.NoError(t, err)
	require.NoError(t, m.Remove("/g"))
	require.EqualValues(t, 3*blockSize, m.Used(), "still open")
	require.NoError(t, g.Close())
	require.LessOrEqual(t, m.Used(), int64(2*blockSize))
	m.SetCapacity(0)
	require.NoError(t, f.Preallocate(0, 100*blockSize))
}

func TestMemFlipBit(t *testing.T) {
	m := NewMem(MemOptions{})
	f := mustCreate(t, m, "/f", []byte{0, 0})
	require.NoError(t, m.SyncDir("/"))
	require.NoError(t, f.Sync())
	_, err := f.WriteAt([]byte{0}, 1)
	require.NoError(t, err)
	require.NoError(t, m.FlipBit("/f", 9))
	require.Error(t, m.FlipBit("/f", 16))
	for _, keep := range []float64{0, 0.5, 1} {
		require.Equal(t, []byte{0, 2}, content(t, m.Crash(keep, seeded(1)), "/f"))
	}
}

func TestMemCrashDoesNotTouchTheOriginal(t *testing.T) {
	m := NewMem(MemOptions{})
	f := mustCreate(t, m, "/f", []byte("abc"))
	c := m.Crash(1, seeded(1))
	g, err := c.OpenReadWrite("/f")
	require.NoError(t, err)
	_, err = g.WriteAt([]byte("xyz"), 0)
	require.NoError(t, err)
	require.Equal(t, "abc", string(readAll(t, f)))
	require.True(t, slices.Equal(names(t, m, "/"), names(t, c, "/")))
}
