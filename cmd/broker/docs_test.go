package main

import (
	"fmt"
	"io"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"github.com/stretchr/testify/require"

	sequitur "github.com/sequitur-mq/sequitur/clients/go"
)

const cliPage = "../../docs/cli.md"

// settingsTable is the table of topic settings in docs/cli.md.
func settingsTable() string {
	var b strings.Builder
	b.WriteString("| flag | default | what it sets |\n|---|---|---|\n")
	cfg := sequitur.DefaultTopicConfig()
	for _, f := range sequitur.TopicFields() {
		value := fieldText(f, &cfg)
		if value != "" {
			value = "`" + value + "`"
		}
		fmt.Fprintf(&b, "| `--%s %s` | %s | %s |\n", f.Name, strings.ReplaceAll(f.Type, "|", "\\|"), value, f.Doc)
	}
	return b.String()
}

func commands(c *cobra.Command, each func(*cobra.Command)) {
	each(c)
	for _, sub := range c.Commands() {
		commands(sub, each)
	}
}

// The page names every command, flag and exit code, and none that is not
// there; docs/operations.md has the broker's settings.
func TestDocumentationIsComplete(t *testing.T) {
	raw, err := os.ReadFile(cliPage)
	require.NoError(t, err)
	page := string(raw)
	require.True(t, strings.Contains(page, "<!-- settings -->\n"+settingsTable()+"<!-- end settings -->"), "the table of settings should be:\n%s", settingsTable())

	c := &cli{args: []string{"broker"}, stdout: io.Discard, stderr: io.Discard, getenv: func(string) string { return "" }}
	flags := map[string]bool{"help": true}
	commands(c.rootCommand(), func(cmd *cobra.Command) {
		require.True(t, strings.Contains(page, strings.TrimPrefix(cmd.CommandPath(), "broker topic ")), "the page lacks %s", cmd.CommandPath())
		cmd.Flags().VisitAll(func(f *pflag.Flag) {
			flags[f.Name] = true
			if _, elsewhere := f.Value.(*settingFlag); !f.Hidden && !elsewhere && f.Name != "help" {
				require.True(t, regexp.MustCompile(`--`+f.Name+`\b`).MatchString(page), "the page lacks --%s of %s", f.Name, cmd.CommandPath())
			}
		})
		cmd.PersistentFlags().VisitAll(func(f *pflag.Flag) { flags[f.Name] = true })
	})
	for _, m := range regexp.MustCompile(`--([a-z][a-z-]+)`).FindAllStringSubmatch(page, -1) {
		require.True(t, flags[m[1]], "the page speaks of --%s, which is no flag", m[1])
	}
	for _, code := range []int{
		exitOK, exitFailure, exitUsage, exitUnreachable, exitNotFound, exitCorrupt, exitPartial, exitTimeout, exitStorage, exitInUse, exitInterrupted,
	} {
		require.True(t, strings.Contains(page, fmt.Sprintf("\n| %d | ", code)), "the page lacks exit code %d", code)
	}
}
