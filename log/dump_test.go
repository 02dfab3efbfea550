package log

import (
	"bytes"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sequitur-mq/sequitur/internal/vfs"
)

// walkFiles lists all files below dir.
func walkFiles(t testing.TB, fsys vfs.FS, dir string) (files []string) {
	t.Helper()
	list, err := fsys.ReadDir(dir)
	require.NoError(t, err)
	for _, e := range list {
		name := filepath.Join(dir, e.Name())
		if e.IsDir() {
			files = append(files, walkFiles(t, fsys, name)...)
		} else {
			files = append(files, name)
		}
	}
	return files
}

// finished is a directory that a workload has left behind.
func finished(t testing.TB, seed uint64, rounds int) (*vfs.Mem, *workload) {
	t.Helper()
	fsys := vfs.NewMem(vfs.MemOptions{})
	w := newWorkload(fsys, seed)
	require.NoError(t, w.run(rounds))
	require.NoError(t, w.close())
	return fsys, w
}

func TestDumpPrintsEveryKindOfFile(t *testing.T) {
	fsys, w := finished(t, 5, 200)
	seen := map[string]bool{}
	for _, name := range walkFiles(t, fsys, w.dir) {
		if filepath.Base(name) == lockFile {
			continue
		}
		var out bytes.Buffer
		require.NoError(t, Dump(&out, name, DumpOptions{FS: fsys, Records: true}), name)
		require.NotContains(t, out.String(), "DAMAGE")
		kind, _, _ := strings.Cut(out.String(), ":")
		seen[kind] = true
	}
	require.Equal(t, map[string]bool{"segment": true, "index": true, "journal file": true, "checkpoint": true, "identity": true, "producers": true}, seen)
	require.ErrorIs(t, Dump(new(bytes.Buffer), filepath.Join(w.dir, lockFile), DumpOptions{FS: fsys}), errUnknownFile)
}

func TestDumpSaysWhereDamageIs(t *testing.T) {
	fsys, w := finished(t, 5, 120)
	for _, name := range walkFiles(t, fsys, w.dir) {
		info, err := fsys.Stat(name)
		require.NoError(t, err)
		if info.Size() == 0 || filepath.Ext(name) == journalSuffix {
			continue
		}
		require.NoError(t, fsys.FlipBit(name, info.Size()*8/3))
		var out bytes.Buffer
		require.ErrorIs(t, Dump(&out, name, DumpOptions{FS: fsys}), ErrCorrupt, name)
		require.Contains(t, out.String(), "DAMAGE at byte ")
	}
}

func TestDumpStopsAtTheLimit(t *testing.T) {
	fsys, w := finished(t, 6, 100)
	for _, name := range walkFiles(t, fsys, w.dir) {
		if filepath.Ext(name) != segmentSuffix {
			continue
		}
		var out bytes.Buffer
		require.NoError(t, Dump(&out, name, DumpOptions{FS: fsys, Limit: 1, MaxBytes: 3, Records: true}))
		require.LessOrEqual(t, strings.Count(out.String(), " length "), 1)
	}
}
