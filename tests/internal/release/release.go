//go:build unix

package release

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// Format1 is the last commit whose data has format 1.
const Format1 = "c3345b6ff9349fd1ec9e542a75c459582b122ff5"

// module is what the import paths of all packages begin with.
const module = "github.com/headwaterdb/headwater/"

// Overlay is what is laid over the tree of a release. Dirs are packages of this tree, as directories below the root.
// Their tests, and the files with the base names in Without, are left out. Files are laid over those, by their paths in
// the release. They are what a program needs in another form for that release.
type Overlay struct {
	Dirs    []string
	Without []string
	Files   map[string]string
}

// Build builds the program of a directory of a release and returns its path.
func Build(tb testing.TB, commit, dir string, o Overlay) string {
	tb.Helper()
	root := root(tb)
	if err := git(root, nil, "cat-file", "-e", commit+"^{commit}"); err != nil {
		tb.Skipf("SKIPPED: nothing was tested against the release of commit %.12s, which is not in the history (a "+
			"shallow clone?): %v",
			commit, err)
	}
	path, err := build(root, commit, dir, o)
	if err != nil {
		tb.Fatal(err)
	}
	return path
}

// root is the directory of this tree.
func root(tb testing.TB) string {
	tb.Helper()
	dir, err := os.Getwd()
	for err == nil {
		if _, err := os.Stat(filepath.Join(dir, "go.work")); err == nil {
			return dir
		}
		if filepath.Dir(dir) == dir {
			err = errors.New("release: there is no go.work above the working directory")
		}
		dir = filepath.Dir(dir)
	}
	tb.Fatal(err)
	return ""
}

func git(root string, out io.Writer, args ...string) error {
	return run(exec.Command("git", append([]string{"-C", root}, args...)...), out)
}

func run(cmd *exec.Cmd, out io.Writer) error {
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = out, &said
	if out == nil {
		cmd.Stdout = &said
	}
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s: %w: %s", strings.Join(cmd.Args, " "), err, bytes.TrimSpace(said.Bytes()))
	}
	return nil
}

func build(root, commit, dir string, o Overlay) (string, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	place := filepath.Join(cache, "headwater-test", "release-"+commit[:12])
	if err := os.MkdirAll(place, 0o755); err != nil {
		return "", err
	}
	unlock, err := lock(filepath.Join(place, "lock"))
	if err != nil {
		return "", err
	}
	defer unlock()
	src := filepath.Join(place, "src")
	if err := export(root, commit, src); err != nil {
		return "", err
	}
	for _, d := range o.Dirs {
		if err := lay(filepath.Join(root, d), filepath.Join(src, d), o.Without); err != nil {
			return "", err
		}
	}
	for to, from := range o.Files {
		if err := layFile(filepath.Join(root, from), filepath.Join(src, to)); err != nil {
			return "", err
		}
	}
	path := filepath.Join(place, "bin", strings.ReplaceAll(dir, "/", "-"))
	cmd := exec.Command("go", "build", "-o", path, module+dir)
	cmd.Dir = src
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOWORK=", "GOFLAGS=", "PWD="+src)
	return path, run(cmd, nil)
}

func lock(path string) (unlock func(), err error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return func() { f.Close() }, nil
}

// export writes the commit's tree to src, unless it is there. src appears as a whole or not at all.
func export(root, commit, src string) error {
	if _, err := os.Stat(src); err == nil {
		return nil
	}
	tmp := src + ".tmp"
	if err := os.RemoveAll(tmp); err != nil {
		return err
	}
	if err := os.Mkdir(tmp, 0o755); err != nil {
		return err
	}
	archive := tmp + "/.tar"
	if err := git(root, nil, "archive", "--format=tar", "-o", archive, commit); err != nil {
		return err
	}
	if err := run(exec.Command("tar", "-xf", archive, "-C", tmp), nil); err != nil {
		return err
	}
	if err := os.Remove(archive); err != nil {
		return err
	}
	return os.Rename(tmp, src)
}

// lay makes the directory to, with the files of the package in from.
func lay(from, to string, without []string) error {
	if err := os.RemoveAll(to); err != nil {
		return err
	}
	if err := os.MkdirAll(to, 0o755); err != nil {
		return err
	}
	files, err := filepath.Glob(filepath.Join(from, "*.go"))
	if err != nil {
		return err
	}
	if len(files) == 0 {
		return fmt.Errorf("release: %s has no files", from)
	}
	for _, f := range files {
		name := filepath.Base(f)
		if strings.HasSuffix(name, "_test.go") || slices.Contains(without, name) {
			continue
		}
		if err := layFile(f, filepath.Join(to, name)); err != nil {
			return err
		}
	}
	return nil
}

func layFile(from, to string) error {
	text, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return os.WriteFile(to, text, 0o644)
}
