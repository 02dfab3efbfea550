package main

import (
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

// version is set by the linker for releases: -ldflags "-X main.version=1.2.3".
var version = "dev"

type versionJSON struct {
	Version string `json:"version"`
	Commit  string `json:"commit"` // empty where the build does not know it
	Go      string `json:"go"`
	OS      string `json:"os"`
	Arch    string `json:"arch"`
}

func thisVersion() versionJSON {
	v := versionJSON{Version: version, Go: runtime.Version(), OS: runtime.GOOS, Arch: runtime.GOARCH}
	if info, ok := debug.ReadBuildInfo(); ok {
		modified := false
		for _, s := range info.Settings {
			switch s.Key {
			case "vcs.revision":
				v.Commit = s.Value
			case "vcs.modified":
				modified = s.Value == "true"
			}
		}
		if modified {
			v.Commit += "+"
		}
		if main := info.Main.Version; v.Version == "dev" && main != "" && main != "(devel)" {
			v.Version = main
		}
	}
	return v
}

func (c *cli) versionCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "version",
		Short:   "Print the version",
		Example: "  broker version --json",
		Args:    names(0, 0, "no arguments"),
		RunE: func(cmd *cobra.Command, args []string) error {
			v := thisVersion()
			if c.json {
				return c.printJSON(v)
			}
			commit := ""
			if v.Commit != "" {
				commit = " (" + v.Commit[:min(12, len(v.Commit))] + ")"
			}
			fmt.Fprintf(c.stdout, "sequitur broker %s%s, %s %s/%s\n", v.Version, commit, v.Go, v.OS, v.Arch)
			return nil
		},
	}
	c.jsonFlag(cmd, "print a JSON object")
	return cmd
}
