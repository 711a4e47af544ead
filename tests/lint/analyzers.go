package main

import (
	"bytes"
	"fmt"
	"go/token"
	"go/types"
	"runtime"

	"github.com/go-critic/go-critic/checkers"
	"github.com/go-critic/go-critic/linter"
	"github.com/golangci/misspell"
	"github.com/golangci/unconvert"
	"golang.org/x/tools/go/analysis"
	"golang.org/x/tools/go/analysis/passes/buildssa"
	"golang.org/x/tools/go/packages"
	"honnef.co/go/tools/unused"
	"mvdan.cc/gofumpt/format"
	"mvdan.cc/unparam/check"
)

// These linters are no analyzers by themselves: golangci-lint makes analyzers of them too.

// langVersion is the version of Go whose rules gofumpt and gocritic apply: that of all go.mod files.
const langVersion = "go1.26"

var gofumptAnalyzer = &analysis.Analyzer{
	Name: "gofumpt",
	Doc:  "reports files that gofumpt would format",
	Run: func(pass *analysis.Pass) (any, error) {
		for _, f := range pass.Files {
			file := pass.Fset.File(f.FileStart)
			text, err := pass.ReadFile(file.Name())
			if err != nil {
				return nil, err
			}
			formatted, err := format.Source(text, format.Options{LangVersion: langVersion})
			if err != nil {
				return nil, err
			}
			if line := firstDifference(text, formatted); line > 0 {
				pass.Reportf(file.LineStart(line), "gofumpt would format this line otherwise")
			}
		}
		return nil, nil
	},
}

// firstDifference is the number of the first line in which two texts differ, and 0 if they are equal.
func firstDifference(a, b []byte) int {
	if bytes.Equal(a, b) {
		return 0
	}
	was, is := bytes.SplitAfter(a, []byte("\n")), bytes.SplitAfter(b, []byte("\n"))
	n := 0
	for n < len(was)-1 && n < len(is) && bytes.Equal(was[n], is[n]) {
		n++
	}
	return n + 1
}

// newMisspell looks for misspelled words in whole files, comments and strings alike.
func newMisspell(*config) ([]*analysis.Analyzer, error) {
	words := &misspell.Replacer{Replacements: misspell.DictMain}
	words.Compile()
	return []*analysis.Analyzer{{
		Name: "misspell",
		Doc:  "reports misspelled English words",
		Run: func(pass *analysis.Pass) (any, error) {
			for _, f := range pass.Files {
				file := pass.Fset.File(f.FileStart)
				text, err := pass.ReadFile(file.Name())
				if err != nil {
					return nil, err
				}
				_, diffs := words.Replace(string(text))
				for _, d := range diffs {
					pass.Reportf(file.LineStart(d.Line)+token.Pos(d.Column), "%q is misspelled: %q", d.Original,
						d.Corrected)
				}
			}
			return nil, nil
		},
	}}, nil
}

// newGocritic has the checkers that golangci-lint enables by default: those that look for bugs or for style, and are
// neither experimental nor a matter of opinion.
func newGocritic(*config) ([]*analysis.Analyzer, error) {
	if err := checkers.InitEmbeddedRules(); err != nil {
		return nil, err
	}
	var infos []*linter.CheckerInfo
	for _, info := range linter.GetCheckersInfo() {
		if !info.HasTag(linter.ExperimentalTag) && !info.HasTag(linter.OpinionatedTag) &&
			!info.HasTag(linter.PerformanceTag) && !info.HasTag(linter.SecurityTag) {
			infos = append(infos, info)
		}
	}
	return []*analysis.Analyzer{{
		Name: "gocritic",
		Doc:  "reports suspicious code",
		Run:  func(pass *analysis.Pass) (any, error) { return nil, criticize(pass, infos) },
	}}, nil
}

// criticize runs checkers of gocritic on a package.
func criticize(pass *analysis.Pass, infos []*linter.CheckerInfo) error {
	ctx := linter.NewContext(pass.Fset, types.SizesFor("gc", runtime.GOARCH))
	ctx.SetGoVersion(langVersion)
	ctx.SetPackageInfo(pass.TypesInfo, pass.Pkg)
	for _, info := range infos {
		c, err := linter.NewChecker(ctx, info)
		if err != nil {
			return fmt.Errorf("%s: %w", info.Name, err)
		}
		for _, f := range pass.Files {
			ctx.SetFileInfo(f.Name.Name, f)
			for _, w := range c.Check(f) {
				pass.Reportf(w.Pos, "%s: %s", info.Name, w.Text)
			}
		}
	}
	return nil
}

var unconvertAnalyzer = &analysis.Analyzer{
	Name: "unconvert",
	Doc:  "reports conversions to the type that a value has already",
	Run: func(pass *analysis.Pass) (any, error) {
		for _, p := range unconvert.Run(pass) {
			pass.Reportf(at(pass, p), "unnecessary conversion")
		}
		return nil, nil
	},
}

var unparamAnalyzer = &analysis.Analyzer{
	Name:     "unparam",
	Doc:      "reports parameters that are always the same and results that nobody uses",
	Requires: []*analysis.Analyzer{buildssa.Analyzer},
	Run: func(pass *analysis.Pass) (any, error) {
		c := new(check.Checker)
		c.Packages([]*packages.Package{{
			Fset: pass.Fset, Syntax: pass.Files, Types: pass.Pkg, TypesInfo: pass.TypesInfo,
		}})
		c.ProgramSSA(pass.ResultOf[buildssa.Analyzer].(*buildssa.SSA).Pkg.Prog)
		issues, err := c.Check()
		for _, i := range issues {
			pass.Reportf(i.Pos(), "%s", i.Message())
		}
		return nil, err
	},
}

var unusedAnalyzer = &analysis.Analyzer{
	Name:     "unused",
	Doc:      "reports code that nothing uses",
	Requires: []*analysis.Analyzer{unused.Analyzer.Analyzer},
	Run: func(pass *analysis.Pass) (any, error) {
		for _, o := range pass.ResultOf[unused.Analyzer.Analyzer].(unused.Result).Unused {
			if o.Kind != "type param" {
				pass.Reportf(at(pass, o.Position), "%s %s is unused", o.Kind, o.Name)
			}
		}
		return nil, nil
	},
}

// at finds the place of a position that has a file and a line.
func at(pass *analysis.Pass, p token.Position) token.Pos {
	for _, f := range pass.Files {
		if file := pass.Fset.File(f.FileStart); file.Name() == p.Filename {
			return file.LineStart(p.Line) + token.Pos(p.Column-1)
		}
	}
	return token.NoPos
}
