package tidy

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

var markdownLink = regexp.MustCompile(`\]\(([^)#]+)(#[^)]*)?\)`)

// deadLinks returns the relative links of a page that lead nowhere.
func deadLinks(t *testing.T, page string) []string {
	t.Helper()
	text, err := os.ReadFile(page)
	require.NoError(t, err)
	var dead []string
	for _, m := range markdownLink.FindAllStringSubmatch(string(text), -1) {
		if strings.Contains(m[1], "://") {
			continue
		}
		if _, err := os.Stat(filepath.Join(filepath.Dir(page), filepath.FromSlash(m[1]))); err != nil {
			dead = append(dead, page+" links to "+m[1]+", which is not there")
		}
	}
	return dead
}

func TestDocumentationLinksLeadSomewhere(t *testing.T) {
	root := filepath.Join("..", "..")
	pages, err := filepath.Glob(filepath.Join(root, "*.md"))
	require.NoError(t, err)
	more, err := filepath.Glob(filepath.Join(root, "docs", "*.md"))
	require.NoError(t, err)
	require.NotEmpty(t, more)
	for _, page := range append(pages, more...) {
		for _, dead := range deadLinks(t, page) {
			t.Error(dead)
		}
	}
}

func TestDeadLinkIsFound(t *testing.T) {
	page := filepath.Join(t.TempDir(), "page.md")
	require.NoError(t, os.WriteFile(page, []byte("[a](gone.md) [b](page.md#x) [c](https://example.org)"), 0o644))
	require.Len(t, deadLinks(t, page), 1)
}

// ARCHITECTURE.md's table of rooms and the table that is enforced name the same rooms.
func TestArchitectureNamesEveryRoom(t *testing.T) {
	root := filepath.Join("..", "..")
	text, err := os.ReadFile(filepath.Join(root, "ARCHITECTURE.md"))
	require.NoError(t, err)
	for name := range rooms {
		if _, err := os.Stat(filepath.Join(root, filepath.FromSlash(name))); err == nil {
			require.Contains(t, string(text), "`"+name+"`", "room %s is not in ARCHITECTURE.md", name)
		}
	}
}
