package packages

import (
	"fmt"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const (
	root   = "../.."
	module = "github.com/headwaterdb/headwater/"
)

// imports are the imports of packages, by directory below the root.
type imports map[string][]string

// readCode reads the imports of all packages below some directories, tests and testdata left out.
func readCode(dirs ...string) (imports, error) {
	all := imports{}
	for _, dir := range dirs {
		err := filepath.WalkDir(filepath.Join(root, dir), func(p string, d fs.DirEntry, err error) error {
			switch {
			case err != nil:
				return err
			case d.IsDir() && d.Name() == "testdata":
				return fs.SkipDir
			case d.IsDir() || !strings.HasSuffix(p, ".go") || strings.HasSuffix(p, "_test.go"):
				return nil
			}
			file, err := parser.ParseFile(token.NewFileSet(), p, nil, parser.ImportsOnly)
			if err != nil {
				return err
			}
			rel, err := filepath.Rel(root, filepath.Dir(p))
			if err != nil {
				return err
			}
			at := filepath.ToSlash(rel)
			all[at] = append(all[at], []string{}...)
			for _, i := range file.Imports {
				name, err := strconv.Unquote(i.Path.Value)
				if err != nil {
					return err
				}
				all[at] = append(all[at], name)
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	for at := range all {
		slices.Sort(all[at])
		all[at] = slices.Compact(all[at])
	}
	return all, nil
}

// own returns those imports of a package that are packages of this repository, by directory.
func (i imports) own(at string) (own []string) {
	for _, name := range i[at] {
		if dir, ok := strings.CutPrefix(name, module); ok {
			own = append(own, dir)
		}
	}
	return own
}

// section returns the text between the two marks of a name in the document.
func section(doc, name string) (string, error) {
	_, rest, ok := strings.Cut(doc, "<!-- "+name+": begin -->\n")
	text, _, ok2 := strings.Cut(rest, "<!-- "+name+": end -->\n")
	if !ok || !ok2 {
		return "", fmt.Errorf("no section %q", name)
	}
	return text, nil
}

var quoted = regexp.MustCompile("`([^`]+)`")

// table reads the rows of a section. It returns the names in the last column, by the name in the first.
func table(doc, name string) (map[string][]string, error) {
	text, err := section(doc, name)
	if err != nil {
		return nil, err
	}
	rows := make(map[string][]string)
	for line := range strings.Lines(text) {
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), "|")
		key := quoted.FindStringSubmatch(cells[0])
		if key == nil {
			continue // the head
		}
		if _, twice := rows[key[1]]; twice {
			return nil, fmt.Errorf("two rows of %s", key[1])
		}
		rows[key[1]] = []string{}
		for _, m := range quoted.FindAllStringSubmatch(cells[len(cells)-1], -1) {
			rows[key[1]] = append(rows[key[1]], m[1])
		}
	}
	if len(rows) == 0 {
		return nil, fmt.Errorf("section %q has no rows", name)
	}
	return rows, nil
}

var packageName = regexp.MustCompile(`\b(?:libs|services|protos)/[a-z0-9/]+`)

// floors reads on which floor each package is drawn. 0 is the highest.
func floors(doc string) (map[string]int, error) {
	text, err := section(doc, "floors")
	if err != nil {
		return nil, err
	}
	at := make(map[string]int)
	floor := 0
	for line := range strings.Lines(text) {
		if strings.Contains(line, "├") {
			floor++
		}
		for _, name := range packageName.FindAllString(line, -1) {
			if _, twice := at[name]; twice {
				return nil, fmt.Errorf("%s appears twice in the drawing", name)
			}
			at[name] = floor
		}
	}
	return at, nil
}

// differences lists where a table of imports differs from the code.
func differences(drawn map[string][]string, code imports) (wrong []string) {
	for _, at := range slices.Sorted(maps.Keys(code)) {
		want, ok := drawn[at]
		if !ok {
			wrong = append(wrong, fmt.Sprintf("%s is not in the table", at))
			continue
		}
		has := code.own(at)
		for _, name := range has {
			if !slices.Contains(want, name) {
				wrong = append(wrong, fmt.Sprintf("%s imports %s, which is not drawn", at, name))
			}
		}
		for _, name := range want {
			if !slices.Contains(has, name) {
				wrong = append(wrong, fmt.Sprintf("%s is drawn to import %s, and does not", at, name))
			}
		}
	}
	for _, at := range slices.Sorted(maps.Keys(drawn)) {
		if _, ok := code[at]; !ok {
			wrong = append(wrong, fmt.Sprintf("%s is in the table, and there is no such package", at))
		}
	}
	return wrong
}

// climbs lists the imports that do not go downwards.
func climbs(at map[string]int, code imports) (wrong []string) {
	for _, from := range slices.Sorted(maps.Keys(code)) {
		floor, ok := at[from]
		if !ok {
			wrong = append(wrong, from+" is on no floor")
			continue
		}
		for _, to := range code.own(from) {
			if below, ok := at[to]; !ok || below <= floor {
				wrong = append(wrong, fmt.Sprintf("%s imports %s, which is not below it", from, to))
			}
		}
	}
	return wrong
}

// strays lists the packages that import a module which only other packages may import.
func strays(only map[string][]string, code imports) (wrong []string) {
	for _, outside := range slices.Sorted(maps.Keys(only)) {
		var users []string
		for _, at := range slices.Sorted(maps.Keys(code)) {
			if slices.ContainsFunc(code[at], func(name string) bool { return within(name, outside) }) {
				users = append(users, at)
			}
		}
		if !slices.Equal(users, only[outside]) {
			wrong = append(wrong, fmt.Sprintf("%s is imported by %q, drawn are %q", outside, users, only[outside]))
		}
	}
	return wrong
}

// within reports whether a package belongs to a module.
func within(name, module string) bool { return name == module || strings.HasPrefix(name, module+"/") }

func document(t *testing.T) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(root, "docs", "architecture.md"))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func code(t *testing.T) imports {
	t.Helper()
	c, err := readCode("libs", "protos", "services")
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// report fails the test with each error.
func report(t *testing.T, wrong []string) {
	t.Helper()
	for _, w := range wrong {
		t.Errorf("docs/architecture.md: %s", w)
	}
}

// TestDrawing: the tables and the drawing of docs/architecture.md agree with the code.
func TestDrawing(t *testing.T) {
	doc, c := document(t), code(t)
	drawn, err := table(doc, "packages")
	if err != nil {
		t.Fatal(err)
	}
	report(t, differences(drawn, c))
	at, err := floors(doc)
	if err != nil {
		t.Fatal(err)
	}
	report(t, climbs(at, c))
	only, err := table(doc, "outside")
	if err != nil {
		t.Fatal(err)
	}
	report(t, strays(only, c))
}

// TestBinaries: no binary links what the document says it does not.
func TestBinaries(t *testing.T) {
	never, err := table(document(t), "binaries")
	if err != nil {
		t.Fatal(err)
	}
	for binary, modules := range never {
		cmd := exec.CommandContext(t.Context(), "go", "list", "-deps", "./"+path.Clean(binary))
		cmd.Dir = root
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("%s: %v", binary, err)
		}
		for name := range strings.FieldsSeq(string(out)) {
			for _, m := range modules {
				if within(name, m) || strings.HasPrefix(name, m+"/v") {
					t.Errorf("%s links %s", binary, name)
				}
			}
		}
	}
}

// TestNotice: the test notices packages that are missing in the drawing or drawn wrongly.
func TestNotice(t *testing.T) {
	doc := "<!-- packages: begin -->\n| package | what | imports |\n|---|---|---|\n" +
		"| `libs/a` | A | `libs/b` |\n| `libs/b` | B | none |\n<!-- packages: end -->\n" +
		"<!-- floors: begin -->\n│ libs/a │\n├──┤\n│ libs/b │ libs/c │\n<!-- floors: end -->\n" +
		"<!-- outside: begin -->\n| `example.com/x` | `libs/b` |\n<!-- outside: end -->\n"
	for want, c := range map[string]imports{
		"": {"libs/a": {module + "libs/b"}, "libs/b": {"example.com/x/y"}},
		"libs/b imports libs/a, which is not drawn": {"libs/a": {module + "libs/b"}, "libs/b": {"example.com/x", module + "libs/a"}},
		"libs/b imports libs/a, which is not below": {"libs/a": {module + "libs/b"}, "libs/b": {"example.com/x", module + "libs/a"}},
		"libs/a is drawn to import libs/b":          {"libs/a": nil, "libs/b": {"example.com/x"}},
		"libs/c is not in the table":                {"libs/a": {module + "libs/b"}, "libs/b": {"example.com/x"}, "libs/c": nil},
		"libs/d is on no floor":                     {"libs/a": {module + "libs/b"}, "libs/b": {"example.com/x"}, "libs/d": nil},
		"there is no such package":                  {"libs/a": {module + "libs/b"}},
		"example.com/x is imported by":              {"libs/a": {"example.com/x", module + "libs/b"}, "libs/b": {"example.com/x"}},
	} {
		drawn, err := table(doc, "packages")
		if err != nil {
			t.Fatal(err)
		}
		at, err := floors(doc)
		if err != nil {
			t.Fatal(err)
		}
		only, err := table(doc, "outside")
		if err != nil {
			t.Fatal(err)
		}
		wrong := slices.Concat(differences(drawn, c), climbs(at, c), strays(only, c))
		if want == "" && len(wrong) > 0 || want != "" && !strings.Contains(strings.Join(wrong, "\n"), want) {
			t.Errorf("%q: %q", want, wrong)
		}
	}
	for _, bad := range []string{"", "<!-- packages: begin -->\n<!-- packages: end -->\n"} {
		if _, err := table(bad, "packages"); err == nil {
			t.Errorf("%q has a table", bad)
		}
	}
}
