// Package logtest checks what tests leave behind: every test that opened a store should end with CheckClean on its
// directory. It belongs to tests alone.
package logtest

import (
	"testing"

	"github.com/sequitur-mq/sequitur/internal/vfs"
	"github.com/sequitur-mq/sequitur/log"
)

// CheckClean runs log.Check on a directory whose store is closed, or was killed, and fails the test at any finding that
// is not normal after that. fsys nil is the operating system's file system. In most tests:
//
//	t.Cleanup(func() { logtest.CheckClean(t, nil, dir) })
//
// before the store is opened, so that it runs after whatever closes it.
func CheckClean(t testing.TB, fsys vfs.FS, dir string) {
	t.Helper()
	r, err := log.Check(dir, log.CheckOptions{FS: fsys, Records: true})
	if err != nil {
		t.Errorf("check data directory: %v", err)
		return
	}
	for _, f := range r.Findings {
		if f.Severity != log.SeverityNote {
			t.Errorf("check data directory %s: %s", dir, f)
		}
	}
}
