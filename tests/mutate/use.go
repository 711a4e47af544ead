package mutate

import (
	"fmt"
	"go/ast"
	"go/token"
)

// useAfter returns the edit that uses a name after the statement that declares it at an offset. If that statement is
// not part of a list but is in the head of an if or a for, the edit uses the name at the beginning of the body.
func useAfter(f *ast.File, lines *token.File, offset int, name string) []edit {
	pos := lines.Pos(offset)
	var found []edit
	use := func(p token.Pos) {
		at := lines.Offset(p)
		found = []edit{{at, at, fmt.Sprintf("; _ = %s; ", name)}}
	}
	begin := func(b *ast.BlockStmt) {
		at := lines.Offset(b.Lbrace) + 1
		found = []edit{{at, at, fmt.Sprintf(" _ = %s; ", name)}}
	}
	ast.Inspect(f, func(n ast.Node) bool {
		if n == nil || pos < n.Pos() || pos >= n.End() {
			return false
		}
		switch n := n.(type) { // the innermost comes last
		case *ast.BlockStmt:
			inList(n.List, pos, use)
		case *ast.CaseClause:
			inList(n.Body, pos, use)
		case *ast.CommClause:
			inList(n.Body, pos, use)
			if n.Comm != nil && pos < n.Comm.End() && pos >= n.Comm.Pos() {
				use(n.Colon + 1)
			}
		case *ast.IfStmt:
			if n.Init != nil && pos < n.Init.End() {
				begin(n.Body)
			}
		case *ast.ForStmt:
			if n.Init != nil && pos < n.Init.End() {
				begin(n.Body)
			}
		case *ast.RangeStmt:
			if pos < n.Body.Pos() {
				begin(n.Body)
			}
		}
		return true
	})
	return found
}

// inList calls use with the end of the declaring statement in a list.
func inList(list []ast.Stmt, pos token.Pos, use func(token.Pos)) {
	for _, s := range list {
		if pos < s.Pos() || pos >= s.End() {
			continue
		}
		switch s.(type) {
		case *ast.AssignStmt, *ast.DeclStmt:
			use(s.End())
		}
	}
}
