package simulation

import (
	"context"
	"embed"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// foreign holds what takes the place of files in modules of others, which do not build for WebAssembly as they are, or
// read sockets past package net: their copies are changed, in a directory of their own. Names end in .txt so that
// nothing else builds them.
//
//go:embed foreign
var foreign embed.FS

// guestPackage is the program that is simulated.
const guestPackage = "./tests/simulation/guest"

// changedModule is a module of others of which a changed copy is built in.
type changedModule struct {
	path   string
	remove []string // files and directories that are left out
}

// wasmModules do not build for WebAssembly.
var wasmModules = []changedModule{
	{path: "github.com/coreos/go-systemd/v22"},
	{path: "go.etcd.io/bbolt", remove: []string{"cmd", "tests"}},
	{path: "go.etcd.io/etcd/client/pkg/v3"},
	{path: "go.etcd.io/etcd/tests/v3", remove: []string{
		"antithesis", "common", "e2e", "fixtures", "framework", "integration",
		"robustness/client/kvhash.go", "robustness/report/wal.go",
	}},
}

// nativeModules read sockets by their file descriptors, which those in memory do not have.
var nativeModules = []changedModule{
	{path: "google.golang.org/grpc"},
}

// builder builds the program.
type builder struct {
	root    string // of the tree
	dir     string // where the copies and what is built are
	modules []changedModule
}

// newBuilder prepares builds of the tree at root in dir, which is made if it is not there. It copies modules of others
// and changes the copies.
func newBuilder(ctx context.Context, root, dir string, modules []changedModule) (*builder, error) {
	b := &builder{root, dir, modules}
	for _, m := range modules {
		if err := b.copyModule(ctx, m); err != nil {
			return nil, fmt.Errorf("simulation: copy of %s: %w", m.path, err)
		}
	}
	if err := b.writeWorkspace(); err != nil {
		return nil, fmt.Errorf("simulation: workspace: %w", err)
	}
	return b, nil
}

func (b *builder) moduleDir(path string) string {
	return filepath.Join(b.dir, "modules", filepath.FromSlash(path))
}

// copyModule copies a module out of Go's module cache, but for its tests, and puts our files in.
func (b *builder) copyModule(ctx context.Context, m changedModule) error {
	// On a fresh machine the module is not in Go's module cache yet. Download prints where it is afterwards.
	cmd := exec.CommandContext(ctx, "go", "mod", "download", "-json", m.path)
	cmd.Dir = filepath.Join(b.root, "tests")
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return fmt.Errorf("go mod download: %w\n%s", err, out)
	}
	var module struct{ Dir string }
	if err := json.Unmarshal(out, &module); err != nil {
		return fmt.Errorf("go mod download: %w", err)
	}
	from, to := module.Dir, b.moduleDir(m.path)
	err = filepath.WalkDir(from, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, path)
		switch {
		case err != nil:
			return err
		case slices.Contains(m.remove, filepath.ToSlash(rel)) && e.IsDir():
			return filepath.SkipDir
		case slices.Contains(m.remove, filepath.ToSlash(rel)), e.IsDir(), !isSource(rel):
			return nil
		}
		return copyFile(path, filepath.Join(to, rel))
	})
	if err != nil {
		return err
	}
	return b.putForeign(m.path, to)
}

func isSource(name string) bool {
	return filepath.Base(name) == "go.mod" || strings.HasSuffix(name, ".go") && !strings.HasSuffix(name, "_test.go")
}

// copyFile writes a file if it has other content than before, so that Go's build cache knows it again.
func copyFile(from, to string) error {
	b, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return writeFile(to, b)
}

func writeFile(to string, b []byte) error {
	if old, err := os.ReadFile(to); err == nil && string(old) == string(b) {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return err
	}
	return os.WriteFile(to, b, 0o600)
}

func (b *builder) putForeign(module, to string) error {
	root := "foreign/" + module
	return fs.WalkDir(foreign, root, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		content, err := foreign.ReadFile(path)
		if err != nil {
			return err
		}
		rel := strings.TrimSuffix(strings.TrimPrefix(path, root+"/"), ".txt")
		return writeFile(filepath.Join(to, filepath.FromSlash(rel)), content)
	})
}

// writeWorkspace writes a go.work that is the tree's, with the changed copies in the place of their modules.
func (b *builder) writeWorkspace() error {
	work, err := os.ReadFile(filepath.Join(b.root, "go.work"))
	if err != nil {
		return err
	}
	text := strings.ReplaceAll(string(work), "\t./", "\t"+filepath.ToSlash(b.root)+"/")
	for _, m := range b.modules {
		text += fmt.Sprintf("\nreplace %s => %s\n", m.path, b.moduleDir(m.path))
	}
	if err := writeFile(filepath.Join(b.dir, "go.work"), []byte(text)); err != nil {
		return err
	}
	return copyFile(filepath.Join(b.root, "go.work.sum"), filepath.Join(b.dir, "go.work.sum"))
}

// goBuild builds a package of the tree into a file in dir, and returns its name.
func (b *builder) goBuild(ctx context.Context, pkg, file string, env, flags []string, all ...files) (string, error) {
	out := filepath.Join(b.dir, file)
	overlay, err := writeOverlay(b.dir, file, all...)
	if err != nil {
		return "", err
	}
	// Without debugging information it links in half the time; panics have their lines nevertheless.
	args := []string{"build", "-trimpath", "-buildvcs=false", "-ldflags=-w", "-overlay=" + overlay, "-o", out}
	cmd := exec.CommandContext(ctx, "go", append(append(args, flags...), pkg)...)
	cmd.Dir = b.root
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=", "GOWORK="+filepath.Join(b.dir, "go.work"))
	cmd.Env = append(cmd.Env, env...)
	if said, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("simulation: build: %w\n%s", err, said)
	}
	return out, nil
}

// files are what stands in the place of files below root in a build, by their paths there; nil: nothing.
type files struct {
	root    string
	instead map[string][]byte
}

// writeOverlay writes what go build reads as its overlay, and returns the name of that file.
func writeOverlay(dir, name string, all ...files) (string, error) {
	replace := make(map[string]string)
	for i, some := range all {
		for path, content := range some.instead {
			changed := ""
			if content != nil {
				changed = filepath.Join(dir, "overlays", name, fmt.Sprint(i), filepath.FromSlash(path))
				if err := writeFile(changed, content); err != nil {
					return "", err
				}
			}
			replace[filepath.Join(some.root, filepath.FromSlash(path))] = changed
		}
	}
	list, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		return "", err
	}
	file := filepath.Join(dir, "overlays", name+".json")
	return file, writeFile(file, list)
}
