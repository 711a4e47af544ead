package packages

import (
	"context"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// reaches matches imports and directives by which code can use what a package does not export.
var reaches = regexp.MustCompile(`(?m)^//go:linkname|^\s+(?:_ )?"(?:unsafe|reflect)"`)

// TestPrivate: every file that may use what a package does not export is listed in docs/private.md.
func TestPrivate(t *testing.T) {
	page, err := os.ReadFile(filepath.Join(root, "docs", "private.md"))
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	for _, dir := range []string{"libs", "services"} {
		err := filepath.WalkDir(filepath.Join(root, dir), func(p string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || !strings.HasSuffix(p, ".go") || strings.HasSuffix(p, "_test.go") {
				return err
			}
			text, err := os.ReadFile(p)
			if err != nil || !reaches.Match(text) {
				return err
			}
			found++
			name, err := filepath.Rel(root, p)
			if err == nil && !strings.Contains(string(page), "`"+filepath.ToSlash(name)+"`") {
				t.Errorf("%s uses unsafe, reflect or linkname, and is not in docs/private.md", name)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if found == 0 {
		t.Error("no such file was found, although libs/wire/messages.go is one")
	}
	for _, m := range regexp.MustCompile("`(libs/[^`]+\\.go)`").FindAllStringSubmatch(string(page), -1) {
		if _, err := os.Stat(filepath.Join(root, m[1])); err != nil {
			t.Errorf("docs/private.md: %v", err)
		}
	}
}

// goLimit bounds a run of the go command, which may have to build everything.
const goLimit = 10 * time.Minute

func goTest(t *testing.T, dir string, env []string, args ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), goLimit)
	defer cancel()
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = dir
	cmd.Env = append(append(os.Environ(), "CGO_ENABLED=0"), env...)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("go %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

// TestPublicAPI: watches also work without the undocumented features.
func TestPublicAPI(t *testing.T) {
	if testing.Short() {
		t.Skip("it builds everything again; skipped with -short")
	}
	goTest(t, root, nil, "test", "-tags", "publicapi", "./libs/wire")
	// TestWatchSendBothWays checks which of the two ways the code takes.
	goTest(t, root, nil, "test", "-tags", "publicapi", "-short", "-run", "Watch", "-skip", "TestWatchSendBothWays",
		"./libs/etcdapi")
}

// nextEnv enables the test against releases that are not in go.mod.
const nextEnv = "HEADWATER_TEST_NEXT"

// TestNext: the newest releases still have the undocumented features in use. It needs the module proxy, so it runs
// only on request.
func TestNext(t *testing.T) {
	if os.Getenv(nextEnv) == "" {
		t.Skipf("NOT TESTED against the next releases of grpc-go and Pebble: that is make next (%s=1)", nextEnv)
	}
	for module, packages := range map[string][]string{
		"google.golang.org/grpc":           {"./wire", "./server"},
		"github.com/cockroachdb/pebble/v2": {"./engine/pebble"},
	} {
		t.Run(module, func(t *testing.T) { testNext(t, module, packages) })
	}
}

func testNext(t *testing.T, module string, packages []string) {
	libs := filepath.Join(root, "libs")
	list := exec.CommandContext(t.Context(), "go", "list", "-m", "-versions", module)
	list.Dir, list.Env = libs, append(os.Environ(), "GOWORK=off")
	out, err := list.Output()
	versions := strings.Fields(string(out))
	if err != nil || len(versions) < 2 {
		t.Fatalf("cannot list the versions of %s: %v %q", module, err, versions)
	}
	next := versions[len(versions)-1]
	t.Logf("%s %s", module, next)
	// A separate go.mod in the same directory, because its replacements are relative.
	modFile := filepath.Join(libs, "next.mod")
	for from, to := range map[string]string{"go.mod": modFile, "go.sum": filepath.Join(libs, "next.sum")} {
		text, err := os.ReadFile(filepath.Join(libs, from))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(to, text, 0o644); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { os.Remove(to) })
	}
	goTest(t, libs, []string{"GOWORK=off"}, "get", "-modfile=next.mod", module+"@"+next)
	if !t.Failed() {
		goTest(t, libs, []string{"GOWORK=off"}, append([]string{"test", "-mod=mod", "-modfile=next.mod"},
			packages...)...)
	}
}
