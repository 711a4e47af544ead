package pebble

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	pdb "github.com/cockroachdb/pebble/v2"
)

// holdEnv makes the test binary open the directory it names, say so, and wait for its standard input to end.
const holdEnv = "HEADWATER_TEST_HOLD"

func TestHold(t *testing.T) {
	dir := os.Getenv(holdEnv)
	if dir == "" {
		t.Skip("runs in a process of its own")
	}
	s, err := Open(dir, small(Options{}))
	if err != nil {
		t.Fatal(err)
	}
	os.Stdout.WriteString("held\n")
	_, _ = os.Stdin.Read(make([]byte, 1))
	_ = s.Close()
}

// wantOpenError opens dir and checks that it fails with one line that says why.
func wantOpenError(t *testing.T, dir string, want error, words ...string) {
	t.Helper()
	s, err := Open(dir, small(Options{}))
	if err == nil {
		_ = s.Close()
		t.Fatalf("%s was opened", dir)
	}
	if want != nil && !errors.Is(err, want) {
		t.Errorf("error %q, want %q", err, want)
	}
	text := err.Error()
	if strings.ContainsAny(text, "\n\r") {
		t.Errorf("more than one line: %q", text)
	}
	for _, w := range append(words, dir) {
		if !strings.Contains(text, w) {
			t.Errorf("%q does not say %q", text, w)
		}
	}
	t.Log(text)
}

func TestOpenInUse(t *testing.T) {
	dir := t.TempDir()
	s, err := Open(dir, small(Options{}))
	if err != nil {
		t.Fatal(err)
	}
	wantOpenError(t, dir, ErrInUse, "in use by another process")
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}

	child := exec.Command(os.Args[0], "-test.run=^TestHold$")
	child.Env = append(os.Environ(), holdEnv+"="+dir)
	in, err := child.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	if line, err := out.Read(make([]byte, 5)); err != nil {
		t.Fatal(line, err)
	}
	wantOpenError(t, dir, ErrInUse, "in use by another process")
	_ = in.Close()
	if err := child.Wait(); err != nil {
		t.Fatal(err)
	}
	if s, err = Open(dir, small(Options{})); err != nil {
		t.Fatal("after the other process has ended:", err)
	}
	_ = s.Close()
}

func TestOpenUnwritable(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	wantOpenError(t, file, nil, "not a directory")
}

// filledDir returns a directory with some tables in it, cleanly closed.
func filledDir(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	s, err := Open(dir, small(Options{}))
	if err != nil {
		t.Fatal(err)
	}
	for i := range 200 {
		if err := put(s, string(incompressible(i, 8)), incompressible(i, 10<<10)); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return dir
}

// files returns the files of dir that match a pattern; there is at least one.
func files(t *testing.T, dir, pattern string) []string {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, pattern))
	if err != nil || len(names) == 0 {
		t.Fatalf("no %s in %s: %v", pattern, dir, err)
	}
	return names
}

func TestOpenCorrupt(t *testing.T) {
	if testing.Short() {
		t.Skip("one start after the other: there is nothing here for the race detector")
	}
	for name, damage := range map[string]func(t *testing.T, dir string) error{
		"table missing":      func(t *testing.T, dir string) error { return os.Remove(files(t, dir, "*.sst")[0]) },
		"table cut":          func(t *testing.T, dir string) error { return os.Truncate(files(t, dir, "*.sst")[0], 100) },
		"manifest missing":   func(t *testing.T, dir string) error { return os.Remove(files(t, dir, "MANIFEST-*")[0]) },
		"manifest of zeros":  func(t *testing.T, dir string) error { return zero(files(t, dir, "MANIFEST-*")[0]) },
		"manifest of noise":  func(t *testing.T, dir string) error { return noise(files(t, dir, "MANIFEST-*")[0]) },
		"manifest is empty":  func(t *testing.T, dir string) error { return os.Truncate(files(t, dir, "MANIFEST-*")[0], 0) },
		"options of noise":   func(t *testing.T, dir string) error { return noise(files(t, dir, "OPTIONS-*")[0]) },
		"format row damaged": func(t *testing.T, dir string) error { return setRow(dir, formatRow, []byte("xx")) },
		"version row damaged": func(t *testing.T, dir string) error {
			return setRow(dir, versionRow, []byte("x"))
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := filledDir(t)
			if err := damage(t, dir); err != nil {
				t.Fatal(err)
			}
			wantOpenError(t, dir, ErrCorrupt)
		})
	}
}

func zero(name string) error { return rewrite(name, func(b []byte) { clear(b) }) }
func noise(name string) error {
	return rewrite(name, func(b []byte) { copy(b, incompressible(1, len(b))) })
}

func rewrite(name string, f func(b []byte)) error {
	b, err := os.ReadFile(name)
	if err != nil {
		return err
	}
	f(b)
	return os.WriteFile(name, b, 0o600)
}

// setRow writes one of the engine's own rows with bare Pebble, as a release without a ledger would.
func setRow(dir string, row, value []byte) error {
	if err := errors.Join(os.Remove(filepath.Join(dir, ledgerName)),
		os.Remove(filepath.Join(dir, fenceName))); err != nil {
		return err
	}
	db, err := pdb.Open(dir, &pdb.Options{FormatMajorVersion: formatVersion, Logger: discard{}})
	if err != nil {
		return err
	}
	return errors.Join(db.Set(row, value, pdb.Sync), db.Close())
}

type discard struct{}

func (discard) Infof(string, ...any)  {}
func (discard) Errorf(string, ...any) {}
func (discard) Fatalf(string, ...any) {}

func TestOpenNewer(t *testing.T) {
	dir := filledDir(t)
	if err := setRow(dir, formatRow, []byte{storeFormat + 1}); err != nil {
		t.Fatal(err)
	}
	wantOpenError(t, dir, ErrNewerFormat, "newer version")

	dir = filledDir(t)
	marker := files(t, dir, "marker.format-version.*")[0]
	if err := os.Rename(marker, filepath.Join(dir, "marker.format-version.000099.999")); err != nil {
		t.Fatal(err)
	}
	wantOpenError(t, dir, ErrNewerFormat, "newer version")
}
