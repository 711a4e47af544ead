package mutate

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const sample = `package p

import "strings"

func clamp(n int, text string) (int, error) {
	err := check(text)
	if n < 0 && err == nil {
		n = 0
	}
	for range 3 {
		n++
	}
	strings.ToUpper(text)
	return n + 1, err
}

type T[X any] struct{}

func (t *T[X]) yes() bool { log.Warn("said"); return true }
`

// TestMutants: each operator finds all its places, and changes them as documented.
func TestMutants(t *testing.T) {
	found, err := Mutants("p/a.go", []byte(sample))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for i := range found {
		changed := string(found[i].Apply([]byte(sample)))
		got = append(got, found[i].String()+" -> "+difference(sample, changed))
	}
	want := []string{
		"p/a.go clamp: negate `n < 0 && err == nil` -> if !(n < 0 && err == nil) {",
		"p/a.go clamp: bound `n < 0` -> if n <= 0 && err == nil {",
		"p/a.go clamp: logic `n < 0 && err == nil` -> if n < 0 || err == nil {",
		"p/a.go clamp: equal `err == nil` -> if n < 0 && err != nil {",
		"p/a.go clamp: drop `n = 0` -> ",
		"p/a.go clamp: skip `for range 3` -> for range 3 { break;",
		"p/a.go clamp: drop `n++` -> ",
		"p/a.go clamp: drop `strings.ToUpper(text)` -> ",
		"p/a.go clamp: sum `n + 1` -> return n - 1, err",
		"p/a.go clamp: swallow `return n + 1, err` -> return n + 1, nil",
		"p/a.go T.yes: answer `return true` -> func (t *T[X]) yes() bool { log.Warn(\"said\"); return false }",
	}
	slices.Sort(got)
	slices.Sort(want)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// difference returns the first line of b that differs from a's.
func difference(a, b string) string {
	as, bs := strings.Split(a, "\n"), strings.Split(b, "\n")
	for i := range bs {
		if as[i] != bs[i] {
			return strings.TrimSpace(bs[i])
		}
	}
	return "nothing"
}

// write makes a module of one package whose tests notice some changes.
func write(t *testing.T, files map[string]string) (root string) {
	t.Helper()
	root = t.TempDir()
	t.Setenv("GOWORK", "off")
	t.Setenv("GOFLAGS", "")
	for name, text := range files {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

// TestRun: some mutants survive a weak test, the list says which may, a mutant that leaves names unused still compiles,
// and a second run takes all results from the file.
func TestRun(t *testing.T) {
	root := write(t, map[string]string{
		"go.mod": "module m\n\ngo 1.26\n",
		"p/p.go": "package p\n\nimport \"os\"\n\n" +
			"func Sign(n int) bool {\n\tname := \"X\"\n\tos.Setenv(name, \"y\")\n\treturn n < 0\n}\n\n" +
			"func never(n int) bool { return n > 0 }\n",
		"p/t_test.go": "package p\n\nimport \"testing\"\n\n" +
			"func TestSign(t *testing.T) {\n\tif Sign(1) || !Sign(-1) {\n\t\tt.Fatal()\n\t}\n" +
			"\tif Sign(0) {\n\t\tt.Fatal()\n\t}\n}\n",
	})
	r := Runner{Root: root, Results: filepath.Join(root, "out", "results"), Out: io.Discard}
	list := func(text string) {
		t.Helper()
		var err error
		if r.Survivors, err = ParseSurvivors(strings.NewReader(text)); err != nil {
			t.Fatal(err)
		}
	}
	list("")
	for range 2 { // the second run takes the results from the file
		all, err := r.Run(t.Context(), []string{"p"})
		want := []string{
			"survived, not listed: p/p.go Sign: drop `os.Setenv(name, \"y\")`",
			"unreached, not listed: p/p.go never: bound `n > 0`",
		}
		if !errors.Is(err, ErrSurprise) || len(all) != 1 || all[0].Count[Killed] != 1 {
			t.Fatalf("%v, %+v", err, all)
		}
		if diff := cmp.Diff(want, all[0].Surprise); diff != "" {
			t.Error(diff)
		}
	}
	list("p/p.go Sign: drop `os.Setenv(name, \"y\")`\n\tnobody reads it\np/p.go never: *\n\tnobody calls it\n")
	if _, err := r.Run(t.Context(), []string{"p"}); err != nil {
		t.Error("all are listed:", err)
	}
	list("p/p.go Sign: drop `os.Setenv(name, \"y\")`\n\tr\np/p.go never: *\n\tr\n" +
		"p/p.go Sign: bound `n < 0`\n\tr\np/p.go gone: *\n\tr\n")
	all, err := r.Run(t.Context(), []string{"p"})
	want := []string{
		"listed, but killed: p/p.go Sign: bound `n < 0`",
		"listed, but there is no such mutant: p/p.go gone: *",
	}
	if !errors.Is(err, ErrSurprise) || !cmp.Equal(all[0].Surprise, want) {
		t.Errorf("%v, %v", err, all)
	}
}

// TestSurvivorsFile: the list in the tree can be parsed, so each entry has a reason.
func TestSurvivorsFile(t *testing.T) {
	f, err := os.Open("survivors.txt")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := ParseSurvivors(f); err != nil {
		t.Error(err)
	}
	for _, bad := range []string{"a: b\n", "\treason\n", "a\n\tr\na\n\tr\n"} {
		if _, err := ParseSurvivors(strings.NewReader(bad)); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}
