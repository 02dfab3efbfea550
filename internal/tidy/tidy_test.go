package tidy

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestHouseIsTidy(t *testing.T) {
	problems, err := Check(filepath.Join("..", ".."))
	require.NoError(t, err)
	for _, p := range problems {
		t.Errorf("%s", p)
	}
}

// Each rule must be able to fail: a small module breaks it on purpose.
func TestRulesHaveTeeth(t *testing.T) {
	long := "// Package p.\npackage p\n" + strings.Repeat("// line\n", maxFileLines)
	longFunc := "// Package p.\npackage p\n\nfunc f() {\n" + strings.Repeat("\t_ = 1\n", maxFunctionLines) + "}\n"
	for name, c := range map[string]struct{ file, source, want string }{
		"wrong arrow":      {"record/a.go", "// Package record.\npackage record\nimport _ \"" + module + "/log\"\n", "may not import room log"},
		"child into room":  {"log/x/a.go", "// Package x.\npackage x\nimport _ \"" + module + "/broker\"\n", "may not import room broker"},
		"unknown room":     {"attic/a.go", "// Package attic.\npackage attic\n", "in no room"},
		"unknown import":   {"log/a.go", "// Package log.\npackage log\nimport _ \"" + module + "/attic\"\n", "in no room"},
		"impure import":    {"txn/a.go", "// Package txn.\npackage txn\nimport _ \"os\"\n", "may not import os"},
		"lock in machine":  {"wire/a.go", "// Package wire.\npackage wire\nimport _ \"sync\"\n", "may not import sync"},
		"clock in machine": {"txn/a.go", "// Package txn.\npackage txn\nimport \"time\"\nvar t = time.Now()\n", "may not read the clock"},
		"renamed clock":    {"txn/a.go", "// Package txn.\npackage txn\nimport x \"time\"\nvar t = x.Now\n", "may not read the clock"},
		"long file":        {"log/a.go", long, "the bound is 500"},
		"long function":    {"log/a.go", longFunc, "the bound is 80"},
		"init":             {"log/a.go", "// Package log.\npackage log\nfunc init() {}\n", "init functions"},
		"no doc":           {"log/a.go", "package log\n", "no doc comment"},
		"name":             {"log/util/a.go", "// Package util.\npackage util\n", "says nothing"},
		"sleep":            {"log/a_test.go", "package log\nimport \"time\"\nfunc f() { time.Sleep(1) }\n", "do not sleep"},
		"skip":             {"log/a_test.go", "package log\nimport \"testing\"\nfunc TestA(t *testing.T) { t.Skip() }\n", "not skipped"},
	} {
		t.Run(name, func(t *testing.T) {
			root := t.TempDir()
			write(t, root, c.file, c.source)
			problems, err := Check(root)
			require.NoError(t, err)
			require.NotEmpty(t, problems)
			all := ""
			for _, p := range problems {
				all += p.String() + "\n"
			}
			require.Contains(t, all, c.want)
		})
	}
}

func TestCleanModulePasses(t *testing.T) {
	root := t.TempDir()
	write(t, root, "wire/a.go", "// Package wire is clean.\npackage wire\nimport _ \""+module+"/record\"\n")
	write(t, root, "wire/testdata/bad.go", "not go at all")
	problems, err := Check(root)
	require.NoError(t, err)
	require.Empty(t, problems)
}

func write(t *testing.T, root, name, source string) {
	t.Helper()
	full := filepath.Join(root, filepath.FromSlash(name))
	require.NoError(t, os.MkdirAll(filepath.Dir(full), 0o755))
	require.NoError(t, os.WriteFile(full, []byte(source), 0o644))
}
