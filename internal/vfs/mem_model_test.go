package vfs

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// model is the simplest description of a disk with one directory: for every file the contents it had since its last
// sync, for the directory the sets of names since its last sync.
type model struct {
	names []map[string]*modelFile // oldest (durable) first, newest last
}

type modelFile struct{ versions [][]byte }

func (f *modelFile) now() []byte            { return f.versions[len(f.versions)-1] }
func (f *modelFile) set(b []byte)           { f.versions = append(f.versions, b) }
func (f *modelFile) durable()               { f.versions = [][]byte{f.now()} }
func (m *model) now() map[string]*modelFile { return m.names[len(m.names)-1] }

func (m *model) change(edit func(map[string]*modelFile)) {
	next := map[string]*modelFile{}
	for k, v := range m.now() {
		next[k] = v
	}
	edit(next)
	m.names = append(m.names, next)
}

// TestMemAgainstModel runs random operations and crashes, and checks each crash against what the model allows.
func TestMemAgainstModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		disk := NewMem(MemOptions{})
		mod := &model{names: []map[string]*modelFile{{}}}
		name := rapid.SampledFrom([]string{"a", "b", "c"})
		open := func(n string) File {
			f, err := disk.OpenReadWrite("/" + n)
			require.NoError(t, err)
			return f
		}
		t.Repeat(map[string]func(*rapid.T){
			"create": func(t *rapid.T) {
				n := name.Draw(t, "name")
				f, err := disk.Create("/" + n)
				require.NoError(t, err)
				require.NoError(t, f.Close())
				if old, ok := mod.now()[n]; ok {
					if len(old.now()) > 0 {
						old.set(nil)
					}
					return
				}
				mod.change(func(m map[string]*modelFile) { m[n] = &modelFile{versions: [][]byte{nil}} })
			},
			"write": func(t *rapid.T) {
				n := name.Draw(t, "name")
				mf, ok := mod.now()[n]
				if !ok {
					return
				}
				off := rapid.IntRange(0, 3000).Draw(t, "off")
				data := bytes.Repeat([]byte{rapid.Byte().Draw(t, "byte")}, rapid.IntRange(1, 2000).Draw(t, "len"))
				f := open(n)
				_, err := f.WriteAt(data, int64(off))
				require.NoError(t, err)
				require.NoError(t, f.Close())
				next := resized(slices.Clone(mf.now()), int64(max(off+len(data), len(mf.now()))))
				copy(next[off:], data)
				mf.set(next)
			},
			"truncate": func(t *rapid.T) {
				n := name.Draw(t, "name")
				mf, ok := mod.now()[n]
				if !ok {
					return
				}
				size := rapid.Int64Range(0, 3000).Draw(t, "size")
				f := open(n)
				require.NoError(t, f.Truncate(size))
				require.NoError(t, f.Close())
				mf.set(resized(slices.Clone(mf.now()), size))
			},
			"sync": func(t *rapid.T) {
				n := name.Draw(t, "name")
				if mf, ok := mod.now()[n]; ok {
					f := open(n)
					require.NoError(t, f.Sync())
					require.NoError(t, f.Close())
					mf.durable()
				}
			},
			"rename": func(t *rapid.T) {
				from, to := name.Draw(t, "from"), name.Draw(t, "to")
				err := disk.Rename("/"+from, "/"+to)
				mf, ok := mod.now()[from]
				require.Equal(t, !ok, errors.Is(err, fs.ErrNotExist))
				if ok && from != to {
					mod.change(func(m map[string]*modelFile) { delete(m, from); m[to] = mf })
				}
			},
			"remove": func(t *rapid.T) {
				n := name.Draw(t, "name")
				err := disk.Remove("/" + n)
				_, ok := mod.now()[n]
				require.Equal(t, !ok, errors.Is(err, fs.ErrNotExist))
				if ok {
					mod.change(func(m map[string]*modelFile) { delete(m, n) })
				}
			},
			"sync directory": func(t *rapid.T) {
				require.NoError(t, disk.SyncDir("/"))
				mod.names = mod.names[len(mod.names)-1:]
			},
			"sync all": func(t *rapid.T) {
				require.NoError(t, disk.SyncFS("/"))
				mod.names = mod.names[len(mod.names)-1:]
				for _, f := range mod.now() {
					f.durable()
				}
			},
			"": func(t *rapid.T) {
				keep := rapid.SampledFrom([]float64{0, 0.2, 0.5, 0.8, 1}).Draw(t, "keep")
				checkCrash(t, disk.Crash(keep, seeded(rapid.Uint64().Draw(t, "seed"))), mod, keep)
				checkCrash(t, disk, mod, 1)
			},
		})
	})
}

func checkCrash(t *rapid.T, got *Mem, mod *model, keep float64) {
	list, err := got.ReadDir("/")
	require.NoError(t, err)
	found := map[string][]byte{}
	for _, e := range list {
		n, err := got.find(e.Name())
		require.NoError(t, err)
		found[e.Name()] = n.data
	}
	allowed := mod.names
	switch keep {
	case 0:
		allowed = allowed[:1]
	case 1:
		allowed = allowed[len(allowed)-1:]
	}
	var why []string
	for _, names := range allowed {
		reason := matches(found, names, keep)
		if reason == "" {
			return
		}
		why = append(why, reason)
	}
	t.Fatalf("no allowed state fits what is there after keeping %v: %q", keep, why)
}

func matches(found map[string][]byte, want map[string]*modelFile, keep float64) string {
	if len(found) != len(want) {
		return fmt.Sprintf("%d names instead of %d", len(found), len(want))
	}
	for n, f := range want {
		data, ok := found[n]
		if !ok {
			return n + " missing"
		}
		switch {
		case keep == 0 && !bytes.Equal(data, f.versions[0]):
			return n + " is not the durable content"
		case keep == 1 && !bytes.Equal(data, f.now()):
			return n + " is not the newest content"
		}
		if reason := sectorsAllowed(data, f.versions); reason != "" {
			return n + ": " + reason
		}
	}
	return ""
}

// sectorsAllowed: every sector is that of some version since the sync, possibly cut short, with zeros where the size got
// ahead of the data.
func sectorsAllowed(data []byte, versions [][]byte) string {
	for lo := 0; lo < len(data); lo += sectorSize {
		sector := data[lo:min(lo+sectorSize, len(data))]
		ok := slices.ContainsFunc(versions, func(v []byte) bool {
			v = v[min(lo, len(v)):min(lo+len(sector), len(v))]
			same := 0
			for same < len(v) && v[same] == sector[same] {
				same++
			}
			return len(bytes.Trim(sector[same:], "\x00")) == 0
		})
		if !ok {
			return fmt.Sprintf("sector at %d is of no version", lo)
		}
	}
	return ""
}

// TestMemBehavesLikeTheOS runs the same random calls on both and compares every answer.
func TestMemBehavesLikeTheOS(t *testing.T) {
	behavesLikeTheOS(t, func(*rapid.T, string) FS { return NewMem(MemOptions{}) })
}

// TestOverlayBehavesLikeTheOS does the same with an overlay of a directory that holds something already, and checks
// that nothing of it changes.
func TestOverlayBehavesLikeTheOS(t *testing.T) {
	behavesLikeTheOS(t, func(t *rapid.T, dir string) FS {
		below := NewMem(MemOptions{})
		for _, f := range []FS{below, OS()} {
			require.NoError(t, f.MkdirAll(filepath.Join(dir, "d", "e")))
			for _, n := range []string{"a", "d/a", "d/e/f"} {
				file, err := f.Create(filepath.Join(dir, n))
				require.NoError(t, err)
				_, err = file.WriteAt(bytes.Repeat([]byte(n), 2000), 0)
				require.NoError(t, err)
				require.NoError(t, file.Close())
			}
		}
		ops := below.Ops()
		t.Cleanup(func() { require.Equal(t, ops, below.Ops(), "nothing reaches the file system below") })
		return NewOverlay(below)
	})
}

func behavesLikeTheOS(t *testing.T, other func(t *rapid.T, dir string) FS) {
	root := t.TempDir()
	round := 0
	rapid.Check(t, func(t *rapid.T) {
		round++
		dir := filepath.Join(root, fmt.Sprint(round))
		mem, real := other(t, dir), OS()
		_, overlay := mem.(*Overlay)
		for _, f := range []FS{mem, real} {
			require.NoError(t, f.MkdirAll(dir))
		}
		names := []string{"a", "b", "d", "d/a", "d/b", "d/e", "d/e/f"}
		pick := func(label string) string {
			return filepath.Join(dir, rapid.SampledFrom(names).Draw(t, label))
		}
		same := func(what string, do func(FS) (any, error)) {
			v1, err1 := do(mem)
			v2, err2 := do(real)
			require.Equal(t, errorClass(err2), errorClass(err1), "%s: mem %v, os %v", what, err1, err2)
			require.Equal(t, v2, v1, what)
		}
		t.Repeat(map[string]func(*rapid.T){
			"create": func(*rapid.T) {
				n := pick("name")
				same("create", func(f FS) (any, error) { return nil, closeAfter(f.Create(n)) })
			},
			"write": func(t *rapid.T) {
				n, off := pick("name"), rapid.Int64Range(0, 5000).Draw(t, "off")
				data := rapid.SliceOfN(rapid.Byte(), 0, 20).Draw(t, "data")
				same("write", func(f FS) (any, error) {
					file, err := f.OpenReadWrite(n)
					if err != nil {
						return nil, err
					}
					defer file.Close()
					return file.WriteAt(data, off)
				})
			},
			"resize": func(t *rapid.T) {
				n, size := pick("name"), rapid.Int64Range(1, 5000).Draw(t, "size")
				grow := rapid.Bool().Draw(t, "preallocate")
				same("resize", func(f FS) (any, error) {
					file, err := f.OpenReadWrite(n)
					if err != nil {
						return nil, err
					}
					defer file.Close()
					if grow {
						err = file.Preallocate(10, size)
					} else {
						err = file.Truncate(size)
					}
					got, _ := file.Size()
					return got, err
				})
			},
			"read": func(t *rapid.T) {
				n, off, size := pick("name"), rapid.Int64Range(0, 5000).Draw(t, "off"), rapid.IntRange(1, 3000).Draw(t, "n")
				same("read", func(f FS) (any, error) {
					file, err := f.Open(n)
					if err != nil {
						return nil, err
					}
					defer file.Close()
					b := make([]byte, size)
					got, err := file.ReadAt(b, off)
					if errors.Is(err, syscall.EISDIR) { // the OS opens directories and then refuses to read them
						return nil, err
					}
					return b[:got], err
				})
			},
			"rename": func(*rapid.T) {
				from, to := pick("from"), pick("to")
				if info, err := mem.Stat(from); overlay && err == nil && info.IsDir() {
					return // files only
				}
				same("rename "+from+" "+to, func(f FS) (any, error) { return nil, f.Rename(from, to) })
			},
			"remove": func(*rapid.T) {
				n := pick("name")
				same("remove", func(f FS) (any, error) { return nil, f.Remove(n) })
			},
			"remove all": func(*rapid.T) {
				n := pick("name")
				same("remove all", func(f FS) (any, error) { return nil, f.RemoveAll(n) })
			},
			"mkdir": func(*rapid.T) {
				n := pick("name")
				same("mkdir", func(f FS) (any, error) { return nil, f.MkdirAll(n) })
			},
			"": func(t *rapid.T) {
				same("list", func(f FS) (any, error) { return tree(f, dir) })
			},
		})
		require.NoError(t, real.RemoveAll(dir))
	})
}

func closeAfter(f File, err error) error {
	if err != nil {
		return err
	}
	return f.Close()
}

func tree(f FS, dir string) ([]string, error) {
	list, err := f.ReadDir(dir)
	var out []string
	for _, e := range list {
		name := filepath.Join(dir, e.Name())
		if e.IsDir() {
			sub, err := tree(f, name)
			if err != nil {
				return nil, err
			}
			out = append(append(out, name+"/"), sub...)
			continue
		}
		info, err := f.Stat(name)
		if err != nil {
			return nil, err
		}
		out = append(out, fmt.Sprintf("%s %d", name, info.Size()))
	}
	return out, err
}

// errorClass is what callers may tell apart.
func errorClass(err error) string {
	switch {
	case err == nil:
		return "none"
	case errors.Is(err, fs.ErrNotExist):
		return "not exist"
	case errors.Is(err, syscall.ENOTEMPTY):
		return "not empty"
	case errors.Is(err, syscall.EISDIR), errors.Is(err, syscall.ENOTDIR), errors.Is(err, fs.ErrExist), errors.Is(err, syscall.EINVAL):
		return "wrong kind"
	}
	return err.Error()
}
