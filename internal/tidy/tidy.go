// Package tidy checks that the house stays one that people want to live in:
// the arrows between rooms, the purity of the state machines, the bounds on
// files and functions, and a doc comment on every package. Its test runs over
// the whole module and names every place that breaks a rule.
package tidy

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"path/filepath"
	"sort"
	"strings"
)

const (
	module           = "github.com/sequitur-mq/sequitur"
	maxFileLines     = 500
	maxFunctionLines = 80
)

// Problem is one broken rule at one place.
type Problem struct {
	Where string // file:line or folder, relative to the module root
	What  string // what is wrong and what to do
}

func (p Problem) String() string { return p.Where + ": " + p.What }

type checker struct {
	root     string
	fset     *token.FileSet
	problems []Problem
	docs     map[string]bool // folder -> some file carries a package doc comment
}

// Check reads every Go file below root (a module root) and returns the broken
// rules, sorted by place.
func Check(root string) ([]Problem, error) {
	c := &checker{root: root, fset: token.NewFileSet(), docs: map[string]bool{}}
	err := filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if base := d.Name(); name != root && (base == "testdata" || strings.HasPrefix(base, ".")) {
				return filepath.SkipDir
			}
			return nil
		}
		if strings.HasSuffix(name, ".go") {
			return c.file(name)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("tidy: walk %s: %w", root, err)
	}
	for dir, has := range c.docs {
		if !has {
			c.report(dir, "package has no doc comment; say what lives here and what does not")
		}
	}
	sort.Slice(c.problems, func(i, j int) bool { return c.problems[i].String() < c.problems[j].String() })
	return c.problems, nil
}

func (c *checker) report(where, format string, args ...any) {
	c.problems = append(c.problems, Problem{Where: where, What: fmt.Sprintf(format, args...)})
}

func (c *checker) at(pos token.Pos) string {
	p := c.fset.Position(pos)
	rel, err := filepath.Rel(c.root, p.Filename)
	if err != nil {
		rel = p.Filename
	}
	return fmt.Sprintf("%s:%d", filepath.ToSlash(rel), p.Line)
}

func (c *checker) file(name string) error {
	f, err := parser.ParseFile(c.fset, name, nil, parser.ParseComments)
	if err != nil {
		return fmt.Errorf("tidy: %w", err)
	}
	rel, err := filepath.Rel(c.root, name)
	if err != nil {
		return err
	}
	dir := path.Dir(filepath.ToSlash(rel))
	if strings.HasSuffix(name, "_test.go") {
		c.testHabits(f)
		return nil
	}
	c.docs[dir] = c.docs[dir] || (f.Doc != nil && len(strings.TrimSpace(f.Doc.Text())) > 0)
	if bannedNames[f.Name.Name] {
		c.report(c.at(f.Package), "package name %q says nothing; name it after the noun that lives there", f.Name.Name)
	}
	home, ok := roomOf(dir)
	if !ok {
		c.report(c.at(f.Package), "folder %s is in no room; add it to the table in internal/tidy/rooms.go and ARCHITECTURE.md", dir)
		return nil
	}
	c.arrows(f, home)
	if rooms[home].pure {
		c.purity(f)
	}
	if !ast.IsGenerated(f) {
		c.bounds(f)
	}
	return nil
}

// roomOf finds the room that a folder belongs to: the longest room name that
// is the folder or a parent of it.
func roomOf(dir string) (string, bool) {
	best := ""
	for name := range rooms {
		if (dir == name || strings.HasPrefix(dir, name+"/")) && len(name) > len(best) {
			best = name
		}
	}
	return best, best != ""
}

func (c *checker) arrows(f *ast.File, home string) {
	r := rooms[home]
	for _, imp := range f.Imports {
		target := strings.Trim(imp.Path.Value, `"`)
		if r.anything || !strings.HasPrefix(target, module+"/") {
			continue
		}
		there, ok := roomOf(strings.TrimPrefix(target, module+"/"))
		if !ok {
			c.report(c.at(imp.Pos()), "imports %s, which is in no room", target)
			continue
		}
		if there == home {
			continue
		}
		allowed := false
		for _, name := range r.imports {
			allowed = allowed || name == there
		}
		if !allowed {
			c.report(c.at(imp.Pos()), "room %s may not import room %s (it may import: %s)", home, there, strings.Join(r.imports, ", "))
		}
	}
}

func (c *checker) purity(f *ast.File) {
	timeName := ""
	for _, imp := range f.Imports {
		target := strings.Trim(imp.Path.Value, `"`)
		if why, bad := pureForbidden[target]; bad {
			c.report(c.at(imp.Pos()), "a pure room may not import %s: %s", target, why)
		}
		if target == "time" {
			timeName = "time"
			if imp.Name != nil {
				timeName = imp.Name.Name
			}
		}
	}
	if timeName == "" {
		return
	}
	ast.Inspect(f, func(n ast.Node) bool {
		if name, ok := selector(n, timeName); ok && clockReads[name] {
			c.report(c.at(n.Pos()), "a pure room may not read the clock (time.%s): time is passed in", name)
		}
		return true
	})
}

var clockReads = map[string]bool{
	"Now": true, "Since": true, "Until": true, "Sleep": true, "After": true,
	"AfterFunc": true, "NewTimer": true, "NewTicker": true, "Tick": true,
}

func selector(n ast.Node, pkg string) (string, bool) {
	sel, ok := n.(*ast.SelectorExpr)
	if !ok {
		return "", false
	}
	id, ok := sel.X.(*ast.Ident)
	if !ok || id.Name != pkg {
		return "", false
	}
	return sel.Sel.Name, true
}

func (c *checker) bounds(f *ast.File) {
	if n := c.fset.File(f.Pos()).LineCount(); n > maxFileLines {
		c.report(c.at(f.Package), "file has %d lines, the bound is %d: split it by noun", n, maxFileLines)
	}
	for _, decl := range f.Decls {
		fn, ok := decl.(*ast.FuncDecl)
		if !ok {
			continue
		}
		if fn.Name.Name == "init" && fn.Recv == nil {
			c.report(c.at(fn.Pos()), "init functions hide work from the reader: make it an explicit call")
		}
		lines := c.fset.Position(fn.End()).Line - c.fset.Position(fn.Pos()).Line + 1
		if lines > maxFunctionLines {
			c.report(c.at(fn.Pos()), "function %s has %d lines, the bound is %d", fn.Name.Name, lines, maxFunctionLines)
		}
	}
}

// testHabits refuses what makes tests lie: sleeping for a condition, and
// skipping.
func (c *checker) testHabits(f *ast.File) {
	ast.Inspect(f, func(n ast.Node) bool {
		if name, ok := selector(n, "time"); ok && name == "Sleep" {
			c.report(c.at(n.Pos()), "tests do not sleep: wait for the condition itself")
		}
		call, ok := n.(*ast.CallExpr)
		if !ok {
			return true
		}
		sel, ok := call.Fun.(*ast.SelectorExpr)
		if !ok {
			return true
		}
		switch sel.Sel.Name {
		case "Skip", "Skipf", "SkipNow":
			if id, ok := sel.X.(*ast.Ident); ok && (id.Name == "t" || id.Name == "b" || id.Name == "tb") {
				c.report(c.at(n.Pos()), "tests are not skipped: make it run everywhere or make it a documented command")
			}
		}
		return true
	})
}
