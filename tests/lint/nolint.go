package main

import (
	"go/ast"
	"go/token"
	"regexp"
	"slices"
	"strings"
)

// nolintlint is the name under which lint reports a //nolint comment that is not as it should be.
const nolintlint = "nolintlint"

// suppression is a //nolint comment. It suppresses what some linters find in the lines from first to last of a file.
type suppression struct {
	file        string
	first, last int
	linters     []string
	reason      string
	used        map[string]bool // by linter
}

var nolintComment = regexp.MustCompile(`^//\s*nolint(?::([a-z0-9, ]+))?\s*(?://\s*(.*))?$`)

// suppressions reads the //nolint comments of a file. A comment behind code counts for its line; a comment on a line of
// its own counts for the statement or declaration that follows it.
func suppressions(fset *token.FileSet, f *ast.File) []*suppression {
	var found []*suppression
	for _, group := range f.Comments {
		for _, c := range group.List {
			m := nolintComment.FindStringSubmatch(c.Text)
			if m == nil {
				continue
			}
			p := fset.Position(c.Pos())
			s := &suppression{file: p.Filename, first: p.Line, last: p.Line, reason: m[2], used: map[string]bool{}}
			for name := range strings.SplitSeq(m[1], ",") {
				if name = strings.TrimSpace(name); name != "" {
					s.linters = append(s.linters, name)
				}
			}
			s.last = max(s.last, endOfNext(fset, f, p))
			found = append(found, s)
		}
	}
	return found
}

// endOfNext is the last line of what starts on the line after p, in the same column.
func endOfNext(fset *token.FileSet, f *ast.File, p token.Position) int {
	last := 0
	ast.Inspect(f, func(n ast.Node) bool {
		if n != nil {
			if s := fset.Position(n.Pos()); s.Line == p.Line+1 && s.Column == p.Column {
				last = max(last, fset.Position(n.End()).Line)
			}
		}
		return true
	})
	return last
}

// suppresses says whether the comment suppresses a finding, and notes that it did.
func (s *suppression) suppresses(x finding) bool {
	if x.pos.Filename != s.file || x.pos.Line < s.first || x.pos.Line > s.last ||
		!slices.Contains(s.linters, x.linter) {
		return false
	}
	s.used[x.linter] = true
	return true
}

// complaints are what is wrong with the comment itself, once all findings have been shown to it.
func (s *suppression) complaints(c *config) []finding {
	var found []finding
	complain := func(text string) {
		found = append(found, finding{
			pos: token.Position{Filename: s.file, Line: s.first}, linter: nolintlint, text: text,
		})
	}
	if len(s.linters) == 0 {
		complain("name the linter: //nolint:name // why")
	}
	if s.reason == "" {
		complain("give the reason: //nolint:name // why")
	}
	for _, l := range s.linters {
		switch {
		case !slices.Contains(c.enabled(), l):
			complain("the linter " + l + " is not enabled: remove it from this comment")
		case !s.used[l]:
			complain("the linter " + l + " finds nothing here: remove it from this comment")
		}
	}
	return found
}
