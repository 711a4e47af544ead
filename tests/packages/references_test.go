package packages

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// texts are the files of the tree that people read.
var texts = []string{".go", ".md", ".proto", ".yaml", ".yml", ".sh", ".template", ".tmpl"}

var (
	markdownLink = regexp.MustCompile(`\]\(([^()\s]+)\)`)
	heading      = regexp.MustCompile(`(?m)^#{1,6} +(.+)$`)
	page         = regexp.MustCompile(`\bdocs/[\w./-]+\.md\b`)
	ofDesign     = regexp.MustCompile(`docs/design\.md (§\d+|I\d+)`)
	invariant    = regexp.MustCompile(`\bI(1[0-2]|[1-9])\b`)
	bare         = regexp.MustCompile(`(?i)\b(design|designed)[ ,]+(§|I)\d+`)
	outsideTree  = regexp.MustCompile(`\.\./shared/|etcd-surface\.md|ecosystem\.md|\bDESIGN\b`)
	quotedPath   = regexp.MustCompile("`((?:bench|charts|deploy|docs|k8s|libs|protos|services|tests)/[\\w./-]+)`")
	fenced       = regexp.MustCompile("(?ms)^ *```.*?^ *```")
)

// walkTexts calls visit with every text of the tree by its path below the root.
func walkTexts(t *testing.T, visit func(path, text string)) {
	t.Helper()
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := d.Name()
		if d.IsDir() {
			skipped := strings.HasPrefix(name, ".") || slices.Contains([]string{"bin", "data", "testdata"}, name)
			if path != root && skipped {
				return filepath.SkipDir
			}
			return nil
		}
		self := filepath.Join(root, "tests/packages/references_test.go")
		if !slices.Contains(texts, filepath.Ext(name)) || path == self {
			return nil
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, path)
		visit(filepath.ToSlash(rel), string(b))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// anchor returns the name that a forge gives to a heading.
func anchor(heading string) string {
	var b strings.Builder
	for _, r := range strings.ToLower(strings.TrimSpace(heading)) {
		switch {
		case r == ' ':
			b.WriteByte('-')
		case r == '-' || r == '_' || r >= 'a' && r <= 'z' || r >= '0' && r <= '9',
			r > 127 && r != '·' && r != '…' && r != '→':
			b.WriteRune(r)
		}
	}
	return b.String()
}

func anchors(text string) map[string]bool {
	names := map[string]bool{}
	for _, m := range heading.FindAllStringSubmatch(fenced.ReplaceAllString(text, ""), -1) {
		names[anchor(m[1])] = true
	}
	return names
}

// TestReferences: every link between pages leads somewhere, every section that code refers to exists, and nothing
// refers to anything outside the tree.
func TestReferences(t *testing.T) {
	design, err := os.ReadFile(filepath.Join(root, "docs/design.md"))
	if err != nil {
		t.Fatal(err)
	}
	links, sections := 0, 0
	walkTexts(t, func(path, text string) {
		for _, p := range page.FindAllString(text, -1) {
			if _, err := os.Stat(filepath.Join(root, p)); err != nil {
				t.Errorf("%s names %s, which does not exist", path, p)
			}
		}
		for _, m := range outsideTree.FindAllString(text, -1) {
			t.Errorf("%s refers to %q, which is not in the tree", path, m)
		}
		for _, m := range bare.FindAllString(text, -1) {
			t.Errorf("%s: %q is to be written docs/design.md and the section", path, m)
		}
		for _, m := range ofDesign.FindAllStringSubmatch(text, -1) {
			sections++
			if !designHas(string(design), m[1]) {
				t.Errorf("%s: docs/design.md has no %s", path, m[1])
			}
		}
		if strings.HasSuffix(path, ".md") {
			links += checkLinks(t, path, text)
			checkPaths(t, path, text)
		}
	})
	if links < 50 || sections < 5 {
		t.Errorf("only %d links and %d sections: is this the tree?", links, sections)
	}
	for _, m := range []string{"I1", "I12", "§13"} {
		if !designHas(string(design), m) {
			t.Errorf("docs/design.md has no %s", m)
		}
	}
	if designHas(string(design), "I13") || designHas(string(design), "§99") {
		t.Error("a section that docs/design.md lacks was found in it")
	}
}

// designHas reports whether the design has a section (§6) or an invariant (I8).
func designHas(design, name string) bool {
	if number, ok := strings.CutPrefix(name, "§"); ok {
		return strings.Contains(design, "\n## "+number+". ")
	}
	return invariant.MatchString(name) && strings.Contains(design, "**"+name+".**")
}

// checkPaths checks that the directories and files that a page names in backticks exist.
func checkPaths(t *testing.T, path, text string) {
	t.Helper()
	for _, m := range quotedPath.FindAllStringSubmatch(text, -1) {
		name := strings.TrimSuffix(m[1], "/...")
		if !slices.ContainsFunc([]string{name, name + ".go"}, func(name string) bool {
			_, err := os.Stat(filepath.Join(root, name))
			return err == nil
		}) {
			t.Errorf("%s names %s, which does not exist", path, m[1])
		}
	}
}

func checkLinks(t *testing.T, path, text string) (links int) {
	for _, m := range markdownLink.FindAllStringSubmatch(fenced.ReplaceAllString(text, ""), -1) {
		target, name, _ := strings.Cut(m[1], "#")
		if strings.Contains(target, "://") || strings.HasPrefix(target, "mailto:") {
			continue
		}
		links++
		file := path
		if target != "" {
			file = filepath.ToSlash(filepath.Join(filepath.Dir(path), target))
		}
		b, err := os.ReadFile(filepath.Join(root, file))
		if info, statErr := os.Stat(filepath.Join(root, file)); err != nil && (statErr != nil || !info.IsDir()) {
			t.Errorf("%s links to %s, which does not exist", path, m[1])
			continue
		}
		if name != "" && !anchors(string(b))[name] {
			t.Errorf("%s links to %s: there is no such heading", path, m[1])
		}
	}
	return links
}
