package mutate

import (
	"go/ast"
	"go/token"
)

// Operators, by the names that mutants have:
//
//	negate   the condition of an if, or of a case without a tag, is negated
//	skip     a loop ends before its first round
//	bound    < becomes <=, > becomes >=, and the other way round
//	logic    && becomes ||, and the other way round
//	equal    == becomes !=, and the other way round, within a larger condition
//	sum      + becomes -, and the other way round
//	drop     a statement is left out: a call, an assignment, defer, go, a send, ++, continue, break
//	swallow  the error that a return ends with becomes nil
//	answer   true that is returned becomes false, and the other way round
const (
	opNegate  = "negate"
	opSkip    = "skip"
	opBound   = "bound"
	opLogic   = "logic"
	opEqual   = "equal"
	opSum     = "sum"
	opDrop    = "drop"
	opSwallow = "swallow"
	opAnswer  = "answer"
)

// binary are the operators that are exchanged for one another.
var binary = map[token.Token]struct {
	op   string
	with token.Token
}{
	token.LSS: {opBound, token.LEQ}, token.LEQ: {opBound, token.LSS},
	token.GTR: {opBound, token.GEQ}, token.GEQ: {opBound, token.GTR},
	token.LAND: {opLogic, token.LOR}, token.LOR: {opLogic, token.LAND},
	token.EQL: {opEqual, token.NEQ}, token.NEQ: {opEqual, token.EQL},
	token.ADD: {opSum, token.SUB}, token.SUB: {opSum, token.ADD},
}

// walk finds the mutants in a function's body.
func (w *walker) walk(body ast.Node) {
	whole := map[ast.Node]bool{} // conditions that negate covers
	ast.Inspect(body, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.IfStmt:
			w.negate(n.Cond, whole)
		case *ast.ForStmt:
			w.skip(n, n.Body)
			w.parts(n)
			return false
		case *ast.RangeStmt:
			w.skip(n, n.Body)
		case *ast.SwitchStmt:
			w.cases(n, whole)
		case *ast.BinaryExpr:
			w.binary(n, whole[n])
		case *ast.ReturnStmt:
			w.results(n)
		case ast.Stmt:
			w.drop(n)
		}
		return true
	})
}

// parts walks a loop without its post statement, because a loop without one only runs for ever.
func (w *walker) parts(n *ast.ForStmt) {
	if n.Init != nil {
		w.walk(n.Init)
	}
	if n.Cond != nil {
		w.walk(n.Cond)
	}
	w.walk(n.Body)
}

func (w *walker) negate(cond ast.Expr, whole map[ast.Node]bool) {
	whole[cond] = true
	w.add(opNegate, cond, cond, "!("+w.text(cond)+")")
}

func (w *walker) cases(n *ast.SwitchStmt, whole map[ast.Node]bool) {
	if n.Tag != nil {
		return
	}
	for _, c := range n.Body.List {
		for _, cond := range c.(*ast.CaseClause).List {
			w.negate(cond, whole)
		}
	}
}

// skip puts a break in front of a loop's body. The name shows the loop's head.
func (w *walker) skip(loop ast.Node, body *ast.BlockStmt) {
	at := w.offset(body.Lbrace) + 1
	w.addEdit(opSkip, span{loop.Pos(), body.Lbrace}, edit{at, at, " break; "})
}

// span is a part of a node.
type span struct{ pos, end token.Pos }

func (s span) Pos() token.Pos { return s.pos }
func (s span) End() token.Pos { return s.end }

// binary exchanges an operator. It leaves == alone if it is the whole condition, because negate makes the same mutant.
func (w *walker) binary(n *ast.BinaryExpr, whole bool) {
	b, ok := binary[n.Op]
	if !ok || whole && b.op == opEqual || b.op == opSum && (isString(n.X) || isString(n.Y)) {
		return
	}
	at := w.offset(n.OpPos)
	w.addEdit(b.op, n, edit{at, at + len(n.Op.String()), b.with.String()})
}

func isString(e ast.Expr) bool {
	switch e := e.(type) {
	case *ast.BasicLit:
		return e.Kind == token.STRING
	case *ast.BinaryExpr:
		return isString(e.X) || isString(e.Y)
	}
	return false
}

func (w *walker) results(n *ast.ReturnStmt) {
	for i, r := range n.Results {
		id, ok := r.(*ast.Ident)
		switch {
		case !ok:
		case id.Name == "true":
			w.add(opAnswer, r, n, "false")
		case id.Name == "false":
			w.add(opAnswer, r, n, "true")
		case id.Name == "err" && i == len(n.Results)-1:
			w.add(opSwallow, r, n, "nil")
		}
	}
}

func (w *walker) drop(n ast.Stmt) {
	switch s := n.(type) {
	case *ast.ExprStmt:
		if call, ok := s.X.(*ast.CallExpr); !ok || speaks(call) {
			return
		}
	case *ast.AssignStmt:
		if s.Tok == token.DEFINE || blank(s.Lhs) {
			return
		}
	case *ast.BranchStmt:
		if s.Tok != token.CONTINUE && s.Tok != token.BREAK {
			return
		}
	case *ast.IncDecStmt, *ast.DeferStmt, *ast.GoStmt, *ast.SendStmt:
	default:
		return
	}
	w.add(opDrop, n, n, "")
}

// blank reports whether all values are assigned to the blank identifier.
func blank(lhs []ast.Expr) bool {
	for _, e := range lhs {
		if id, ok := e.(*ast.Ident); !ok || id.Name != "_" {
			return false
		}
	}
	return true
}

// speaks reports whether a call only logs, or panics because of an impossible state.
func speaks(call *ast.CallExpr) bool {
	switch f := call.Fun.(type) {
	case *ast.Ident:
		return f.Name == "panic"
	case *ast.SelectorExpr:
		switch f.Sel.Name {
		case "Debug", "Info", "Warn", "Error":
			return len(call.Args) > 0 && isString(call.Args[0])
		}
	}
	return false
}
