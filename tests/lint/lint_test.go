package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const (
	configuration = "../../.golangci.yml"
	planted       = "testdata/planted"
)

// TestPlanted: every linter that .golangci.yml enables finds the fault that is planted for it, in its line, and no
// linter finds anything else. So a linter that stops working, or that has no planted fault, fails the test.
func TestPlanted(t *testing.T) {
	t.Setenv("GOWORK", "off")
	c, err := readConfig(configuration)
	if err != nil {
		t.Fatal(err)
	}
	want, linters := wanted(t)
	for _, name := range c.enabled() {
		if name != govet && !slices.Contains(linters, name) {
			t.Errorf("no fault is planted for %s", name)
		}
	}
	found, err := inspect(c, planted, []string{"./..."})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, f := range found {
		got = append(got, fmt.Sprintf("%s:%d %s", f.pos.Filename, f.pos.Line, f.linter))
	}
	got = slices.Compact(got)
	for _, w := range want {
		if !slices.Contains(got, w) {
			t.Errorf("not found: %s", w)
		}
	}
	for _, g := range got {
		if !slices.Contains(want, g) {
			t.Errorf("found, but not planted: %s", g)
		}
	}
}

// wanted reads the comments "want LINTER and LINTER" of the planted code. It returns file, line and linter of each, and
// the names of the linters.
func wanted(t *testing.T) (want, linters []string) {
	files, err := filepath.Glob(planted + "/libs/mvcc/*.go")
	if err != nil || len(files) == 0 {
		t.Fatal("no planted code: ", err)
	}
	for _, name := range files {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		rel, err := filepath.Rel(planted, name)
		if err != nil {
			t.Fatal(err)
		}
		n := 0
		for line := range strings.Lines(string(text)) {
			n++
			_, names, ok := strings.Cut(strings.TrimSpace(line), " want ")
			if !ok || !strings.Contains(line, "//") {
				continue
			}
			for _, linter := range strings.Split(names, " and ") {
				want = append(want, fmt.Sprintf("%s:%d %s", rel, n, linter))
				linters = append(linters, linter)
			}
		}
	}
	return want, linters
}

// TestConfiguration: a configuration that lint would not obey in full is refused.
func TestConfiguration(t *testing.T) {
	for text, want := range map[string]string{
		"linters: {default: all}":                                      "knows only none",
		"linters: {default: none, disable: [misspell]}":                "field disable not found",
		"linters: {default: none, enable: [dupl]}":                     `does not link the linter "dupl"`,
		"linters: {default: none, enable: [staticcheck]}":              `wants "all" first`,
		"formatters: {enable: [golines]}\nlinters: {default: none}":    `does not link the linter "golines"`,
		"linters: {default: none, exclusions: {rules: [{path: '('}]}}": "missing closing )",
	} {
		name := filepath.Join(t.TempDir(), "golangci.yml")
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		var out, errs bytes.Buffer
		if code := run(name, planted, []string{"./..."}, &out, &errs); code != 2 ||
			!strings.Contains(errs.String(), want) {
			t.Errorf("%s: code %d, %q, want code 2 and %q", text, code, errs.String(), want)
		}
	}
}
