package mutate

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"slices"
	"strings"
)

// textMax bounds the text of a mutant's name.
const textMax = 100

// Mutant is one small change to a file.
type Mutant struct {
	File string // from the root of the repository, with slashes
	Func string // Name or Type.Name
	Op   string // see operators
	Text string // what is changed, on one line, cut at textMax
	N    int    // its place among the mutants of the function with the same operator and text, from 1

	edit edit
}

// edit replaces src[start:end].
type edit struct {
	start, end int
	with       string
}

// String returns the mutant's name in lists. It changes only if the function's name or the text changes.
func (m *Mutant) String() string {
	s := fmt.Sprintf("%s %s: %s `%s`", m.File, m.Func, m.Op, m.Text)
	if m.N > 1 {
		s += fmt.Sprintf(" (%d)", m.N)
	}
	return s
}

// Apply returns the changed file.
func (m *Mutant) Apply(src []byte) []byte { return apply(src, []edit{m.edit}) }

// apply makes edits that do not overlap.
func apply(src []byte, edits []edit) []byte {
	edits = slices.Clone(edits)
	slices.SortFunc(edits, func(a, b edit) int { return b.start - a.start })
	out := slices.Clone(src)
	for _, e := range edits {
		out = slices.Replace(out, e.start, e.end, []byte(e.with)...)
	}
	return out
}

// Mutants returns all mutants of a Go file. name is its path from the root of the repository. Errors: those of the
// parser.
func Mutants(name string, src []byte) ([]Mutant, error) {
	files := token.NewFileSet()
	f, err := parser.ParseFile(files, name, src, parser.SkipObjectResolution)
	if err != nil {
		return nil, err
	}
	w := &walker{file: name, src: src, base: files.File(f.Pos()).Base(), count: map[string]int{}}
	for _, d := range f.Decls {
		if fn, ok := d.(*ast.FuncDecl); ok && fn.Body != nil {
			w.fn = funcName(fn)
			w.walk(fn.Body)
		}
	}
	slices.SortStableFunc(w.found, func(a, b Mutant) int { return a.edit.start - b.edit.start })
	return w.found, nil
}

func funcName(fn *ast.FuncDecl) string {
	if fn.Recv == nil || len(fn.Recv.List) == 0 {
		return fn.Name.Name
	}
	t := fn.Recv.List[0].Type
	for {
		switch x := t.(type) {
		case *ast.StarExpr:
			t = x.X
		case *ast.IndexExpr:
			t = x.X
		case *ast.IndexListExpr:
			t = x.X
		case *ast.Ident:
			return x.Name + "." + fn.Name.Name
		default:
			return fn.Name.Name
		}
	}
}

// walker finds the mutants of one function after the other.
type walker struct {
	file  string
	src   []byte
	base  int
	fn    string
	count map[string]int
	found []Mutant
}

func (w *walker) offset(p token.Pos) int { return int(p) - w.base }

func (w *walker) text(n ast.Node) string { return string(w.src[w.offset(n.Pos()):w.offset(n.End())]) }

// add records the mutant that replaces n by with. shown is the code that its name shows.
func (w *walker) add(op string, n, shown ast.Node, with string) {
	w.addEdit(op, shown, edit{w.offset(n.Pos()), w.offset(n.End()), with})
}

func (w *walker) addEdit(op string, shown ast.Node, e edit) {
	m := Mutant{File: w.file, Func: w.fn, Op: op, Text: oneLine(w.text(shown)), edit: e}
	id := m.Func + "\x00" + m.Op + "\x00" + m.Text
	w.count[id]++
	m.N = w.count[id]
	w.found = append(w.found, m)
}

// oneLine returns text with single spaces, without characters that would end a name.
func oneLine(text string) string {
	text = strings.ReplaceAll(strings.Join(strings.Fields(text), " "), "`", "'")
	if len(text) > textMax {
		text = strings.ToValidUTF8(text[:textMax], "") + "…"
	}
	return text
}
