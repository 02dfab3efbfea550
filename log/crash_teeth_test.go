package log

import (
	"errors"
	"path/filepath"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sequitur-mq/sequitur/internal/vfs"
)

// lyingFS says that it has synced what it has not.
type lyingFS struct {
	vfs.FS
	file func(name string) bool // whose Sync does nothing
	late func(name string) bool // whose Sync is done only before the next write
	dirs bool                   // SyncDir does nothing
}

type lyingFile struct{ vfs.File }

func (lyingFile) Sync() error { return nil }

type lateFile struct {
	vfs.File
	owes atomic.Bool
}

func (f *lateFile) Sync() error {
	f.owes.Store(true)
	return nil
}

func (f *lateFile) settle() error {
	if f.owes.Swap(false) {
		return f.File.Sync()
	}
	return nil
}

func (f *lateFile) WriteAt(p []byte, off int64) (int, error) {
	if err := f.settle(); err != nil {
		return 0, err
	}
	return f.File.WriteAt(p, off)
}

func (f *lateFile) Close() error { return errors.Join(f.settle(), f.File.Close()) }

func (l lyingFS) wrap(f vfs.File, err error) (vfs.File, error) {
	switch {
	case err != nil:
	case l.file != nil && l.file(f.Name()):
		return lyingFile{f}, nil
	case l.late != nil && l.late(f.Name()):
		return &lateFile{File: f}, nil
	}
	return f, err
}

func (l lyingFS) Create(name string) (vfs.File, error) { return l.wrap(l.FS.Create(name)) }
func (l lyingFS) Open(name string) (vfs.File, error)   { return l.wrap(l.FS.Open(name)) }
func (l lyingFS) OpenReadWrite(name string) (vfs.File, error) {
	return l.wrap(l.FS.OpenReadWrite(name))
}
func (l lyingFS) OpenDirect(name string) (vfs.File, bool, error) {
	f, err := l.OpenReadWrite(name)
	return f, false, err
}

func (l lyingFS) SyncDir(dir string) error {
	if l.dirs {
		return nil
	}
	return l.FS.SyncDir(dir)
}

func withSuffix(suffix string) func(string) bool {
	return func(name string) bool { return filepath.Ext(name) == suffix }
}

// TestTheSuiteHasTeeth breaks one rule at a time. The suite must notice each.
func TestTheSuiteHasTeeth(t *testing.T) {
	lying := func(l lyingFS) func(vfs.FS) vfs.FS {
		return func(fsys vfs.FS) vfs.FS { l.FS = fsys; return l }
	}
	const tries = 12
	t.Run("none broken", func(t *testing.T) {
		c := &crashSuite{sample: 0.05, seed: 1}
		require.NoError(t, c.withDefaults().run())
	})
	for name, c := range map[string]*crashSuite{
		"acknowledging before the journal is synced":  {wrap: lying(lyingFS{late: withSuffix(journalSuffix)})},
		"a checkpoint before its segments are synced": {wrap: lying(lyingFS{file: withSuffix(segmentSuffix)})},
		"names not synced":                            {wrap: lying(lyingFS{dirs: true})},
		"laps without salt":                           {tune: func(o *Options) { o.switches = &switches{sameSalt: true} }, keeps: []float64{1}},
		"snapshots after the state they belong to":    {tune: func(o *Options) { o.switches = &switches{lateSnapshot: true} }},
	} {
		t.Run(name, func(t *testing.T) {
			c.sample, c.enough = 0.1, 1
			for c.seed = 1; c.seed <= tries; c.seed++ {
				c.failed = nil
				c.stopped.Store(false)
				if err := c.withDefaults().run(); err != nil {
					t.Logf("noticed with seed %d, after %d images: %.300s", c.seed, c.images.Load(), err)
					return
				}
			}
			require.Fail(t, "the suite does not notice", "%d images judged", c.images.Load())
		})
	}
}
