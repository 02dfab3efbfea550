package bench

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func listening(line string) (string, bool) { return strings.CutPrefix(line, ListeningPrefix) }

func TestProcessTellsItsAddressAndStops(t *testing.T) {
	p, err := StartProcess(t.Context(), listening, "sh", "-c", "echo warming up; echo listening on here; cat")
	require.NoError(t, err)
	require.Equal(t, "here", p.Addr)
	require.NoError(t, p.Stop())
}

func TestProcessIsKilled(t *testing.T) {
	p, err := StartProcess(t.Context(), listening, "sh", "-c", "echo listening on here; trap '' INT; cat; cat")
	require.NoError(t, err)
	require.NoError(t, p.Kill())
	require.NoError(t, p.Kill(), "again")
}

func TestProcessThatFailsTellsWhy(t *testing.T) {
	_, err := StartProcess(t.Context(), listening, "sh", "-c", "echo no such directory >&2; exit 3")
	require.ErrorContains(t, err, "exit status 3")
	require.ErrorContains(t, err, "no such directory")
	_, err = StartProcess(t.Context(), listening, "/does/not/exist")
	require.Error(t, err)
}
