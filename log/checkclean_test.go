package log

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sequitur-mq/sequitur/internal/vfs"
)

// checkClean runs the checker on a directory that nobody has open.
func checkClean(t testing.TB, fsys vfs.FS, dir string) {
	t.Helper()
	r, err := Check(dir, CheckOptions{FS: fsys, Records: true})
	require.NoError(t, err)
	for _, f := range r.Findings {
		require.Equal(t, SeverityNote, f.Severity, f.String())
	}
}

// checkAtEnd runs the checker when the test is over, unless it damaged its files on purpose or left its store open.
func checkAtEnd(t testing.TB, fsys vfs.FS, dir string) {
	t.Cleanup(func() {
		if !t.Failed() && !damagedOnPurpose[strings.Split(t.Name(), "/")[0]] {
			checkClean(t, fsys, dir)
		}
	})
}

// damagedOnPurpose are the tests that leave damage behind because damage is what they are about.
var damagedOnPurpose = map[string]bool{
	"TestJournalHeaderHasCopy":                  true, // both copies of a header are damaged in the end
	"TestAppendAfterTheActiveSegmentWasRemoved": true, // a segment stays missing
	"TestUnknownDirectoriesStay":                true, // which the checker mentions
}
