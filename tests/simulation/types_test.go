package simulation

import (
	"bytes"
	"encoding/json"
	"errors"
	"go/ast"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"io"
	"maps"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// TestTypes: the program, and the packages with all planted faults in them, are correct Go. They are not compiled, and
// what they import is what is built for the tests of this machine, or the first build for another one would take longer
// than all other tests here.
func TestTypes(t *testing.T) {
	if testing.Short() { // the race detector's packages are others
		t.Skip("SKIPPED: it needs what go build builds")
	}
	guest, err := filepath.Glob(filepath.Join(root, guestPackage, "*.go"))
	if err != nil || len(guest) == 0 {
		t.Fatal(guest, err)
	}
	// Of what differs between the hosts, the native one's.
	guest = slices.DeleteFunc(guest, func(name string) bool { return strings.HasSuffix(name, "_wasip1.go") })
	faults, err := Planted()
	if err != nil {
		t.Fatal(err)
	}
	changed, err := plantAll(root, faults)
	if err != nil {
		t.Fatal(err)
	}
	dirs := make(map[string]bool)
	for file := range changed {
		dirs[path.Dir(file)] = true
	}
	c := &typeChecker{t: t, fset: token.NewFileSet(), changed: changed, exports: make(map[string]string)}
	parsed := map[string][]*ast.File{guestPackage: c.parse(guest)}
	for _, p := range c.list("-json=Dir,GoFiles", slices.Collect(maps.Keys(dirs))) {
		for i, name := range p.GoFiles {
			p.GoFiles[i] = filepath.Join(p.Dir, name)
		}
		dir := c.inTree(p.Dir)
		if guard := path.Join(dir, "planted_guard.go"); changed[guard] != nil {
			p.GoFiles = append(p.GoFiles, filepath.Join(root, filepath.FromSlash(guard)))
		}
		parsed[dir] = c.parse(p.GoFiles)
	}
	if len(parsed) != len(dirs)+1 {
		t.Fatalf("%d packages of %v and the program", len(parsed), dirs)
	}
	for _, p := range c.list("-export -deps -json=ImportPath,Export", c.imports(parsed)) {
		c.exports[p.ImportPath] = p.Export
	}
	conf := types.Config{
		Importer: importer.ForCompiler(c.fset, "gc", func(path string) (io.ReadCloser, error) {
			if c.exports[path] == "" {
				return nil, errors.New("no package " + path)
			}
			return os.Open(c.exports[path])
		}),
		Error: func(err error) { t.Error(err) },
	}
	for dir, files := range parsed {
		_, _ = conf.Check(dir, c.fset, files, nil) // Error tells
	}
}

type typeChecker struct {
	t       *testing.T
	fset    *token.FileSet
	changed map[string][]byte // by path in the tree
	exports map[string]string // by import path: the file that says what a package offers
}

type listed struct {
	Dir, ImportPath, Export string
	GoFiles                 []string
}

// list asks go list.
func (c *typeChecker) list(flags string, what []string) (all []listed) {
	c.t.Helper()
	for i, w := range what {
		if strings.HasPrefix(w, "libs/") {
			what[i] = "./" + w
		}
	}
	args := append([]string{"list"}, strings.Fields(flags)...)
	cmd := exec.CommandContext(c.t.Context(), "go", append(args, what...)...)
	cmd.Dir, cmd.Stderr = root, c.t.Output()
	out, err := cmd.Output()
	if err != nil {
		c.t.Fatal(err)
	}
	for d := json.NewDecoder(bytes.NewReader(out)); ; {
		var p listed
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			return all
		} else if err != nil {
			c.t.Fatal(err)
		}
		all = append(all, p)
	}
}

// inTree is the path of a directory in the tree.
func (c *typeChecker) inTree(dir string) string {
	c.t.Helper()
	tree, err := filepath.Abs(root)
	if err != nil {
		c.t.Fatal(err)
	}
	rel, err := filepath.Rel(tree, dir)
	if err != nil {
		c.t.Fatal(err)
	}
	return filepath.ToSlash(rel)
}

// parse reads files, or what stands in their place.
func (c *typeChecker) parse(names []string) (files []*ast.File) {
	c.t.Helper()
	for _, name := range names {
		abs, err := filepath.Abs(name)
		if err != nil {
			c.t.Fatal(err)
		}
		var src any
		if b := c.changed[c.inTree(abs)]; b != nil {
			src = b
		}
		f, err := parser.ParseFile(c.fset, abs, src, parser.SkipObjectResolution)
		if err != nil {
			c.t.Fatal(err)
		}
		files = append(files, f)
	}
	return files
}

// imports are all packages that files import.
func (c *typeChecker) imports(parsed map[string][]*ast.File) []string {
	all := make(map[string]bool)
	for _, files := range parsed {
		for _, f := range files {
			for _, i := range f.Imports {
				name, err := strconv.Unquote(i.Path.Value)
				if err != nil {
					c.t.Fatal(err)
				}
				all[name] = true
			}
		}
	}
	delete(all, "unsafe")
	return slices.Collect(maps.Keys(all))
}
