package main

import (
	"cmp"
	"errors"
	"fmt"
	"go/ast"
	"go/token"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/tools/go/analysis"
	"golang.org/x/tools/go/analysis/checker"
	"golang.org/x/tools/go/packages"
)

// finding is what a linter says about a line.
type finding struct {
	pos    token.Position
	linter string
	text   string
}

// inspect runs all linters of a configuration over packages, which are named relative to a directory. The findings are
// in the order of their places.
func inspect(c *config, dir string, patterns []string) ([]finding, error) {
	analyzers, linterOf, err := makeAnalyzers(c)
	if err != nil {
		return nil, err
	}
	modules, err := load(dir, patterns)
	if err != nil {
		return nil, err
	}
	var found []finding
	seen := make(map[*ast.File]bool)
	var files []*ast.File
	for _, pkgs := range modules {
		graph, err := checker.Analyze(analyzers, pkgs, nil)
		if err != nil {
			return nil, err
		}
		for _, act := range graph.Roots {
			if act.Err != nil {
				return nil, fmt.Errorf("%s: %w", act, act.Err)
			}
			for _, d := range act.Diagnostics {
				text := d.Message
				if linterOf[act.Analyzer] == "staticcheck" {
					text = act.Analyzer.Name + ": " + text
				}
				found = append(found, finding{act.Package.Fset.Position(d.Pos), linterOf[act.Analyzer], text})
			}
		}
		for _, p := range pkgs {
			for _, f := range p.Syntax {
				if !seen[f] {
					seen[f], files = true, append(files, f)
				}
			}
		}
	}
	return filter(c, dir, fset(modules), files, found)
}

// makeAnalyzers makes the analyzers of all linters that a configuration enables, and returns the linter of each.
func makeAnalyzers(c *config) ([]*analysis.Analyzer, map[*analysis.Analyzer]string, error) {
	var all []*analysis.Analyzer
	linterOf := make(map[*analysis.Analyzer]string)
	for _, name := range c.enabled() {
		if name == nolintlint || name == govet {
			continue
		}
		makeIt, ok := linters[name]
		if !ok {
			return nil, nil, fmt.Errorf("lint does not link the linter %q: add it to tests/lint/linters.go", name)
		}
		made, err := makeIt(c)
		if err != nil {
			return nil, nil, err
		}
		for _, a := range made {
			all, linterOf[a] = append(all, a), name
		}
	}
	return all, linterOf, nil
}

// load reads packages with their tests, by module. For a package with tests it returns the variant that is compiled
// with the tests, which has all files of the other variant.
func load(dir string, patterns []string) (map[string][]*packages.Package, error) {
	all, err := packages.Load(&packages.Config{
		Mode:  packages.LoadSyntax | packages.NeedModule | packages.NeedForTest,
		Dir:   dir,
		Tests: true,
		Fset:  token.NewFileSet(),
	}, patterns...)
	if err != nil {
		return nil, err
	}
	tested := make(map[string]bool)
	loaded := make(map[*packages.Package]bool)
	for _, p := range all {
		loaded[p] = true
		if p.ForTest == p.PkgPath {
			tested[p.PkgPath] = true
		}
	}
	modules := make(map[string][]*packages.Package)
	for _, p := range all {
		for _, err := range p.Errors {
			return nil, err
		}
		// What is not loaded from source has no syntax, and no analyzer can look into it.
		for path, i := range p.Imports {
			if !loaded[i] || i.Module.Path != p.Module.Path {
				delete(p.Imports, path)
			}
		}
		if strings.HasSuffix(p.ID, ".test") || p.ForTest == "" && tested[p.PkgPath] {
			continue
		}
		modules[p.Module.Path] = append(modules[p.Module.Path], p)
	}
	if len(modules) == 0 {
		return nil, errors.New("no packages")
	}
	return modules, nil
}

// fset returns the file set, which all packages share.
func fset(modules map[string][]*packages.Package) *token.FileSet {
	for _, pkgs := range modules {
		return pkgs[0].Fset
	}
	return nil
}

// filter leaves out what is found in generated files, what the configuration excludes, and what comments suppress. It
// adds what is wrong with these comments.
func filter(c *config, dir string, fset *token.FileSet, files []*ast.File, found []finding) ([]finding, error) {
	base, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	byFile := make(map[string][]*suppression)
	generated := make(map[string]bool)
	for _, f := range files {
		name := fset.File(f.FileStart).Name()
		if generated[name] = ast.IsGenerated(f); !generated[name] {
			byFile[name] = suppressions(fset, f)
		}
	}
	kept := slices.DeleteFunc(found, func(f finding) bool {
		suppressed := false
		for _, s := range byFile[f.pos.Filename] {
			suppressed = s.suppresses(f) || suppressed
		}
		return suppressed || generated[f.pos.Filename] || c.excluded(f.linter, f.pos.Filename)
	})
	if slices.Contains(c.enabled(), nolintlint) {
		for _, all := range byFile {
			for _, s := range all {
				kept = append(kept, s.complaints(c)...)
			}
		}
	}
	for i := range kept {
		if rel, err := filepath.Rel(base, kept[i].pos.Filename); err == nil {
			kept[i].pos.Filename = rel
		}
	}
	slices.SortFunc(kept, func(a, b finding) int {
		return cmp.Or(cmp.Compare(a.pos.Filename, b.pos.Filename), cmp.Compare(a.pos.Line, b.pos.Line),
			cmp.Compare(a.pos.Column, b.pos.Column), cmp.Compare(a.linter, b.linter), cmp.Compare(a.text, b.text))
	})
	return slices.Compact(kept), nil
}
