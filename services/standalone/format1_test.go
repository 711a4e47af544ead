package main

import (
	"archive/tar"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
)

// format1Env names a binary of a release that keeps no ledger: TestWriteFormat1 lets it write the fixtures again.
const format1Env = "HEADWATER_TEST_FORMAT1"

// format1Keys is how many keys the fixtures hold: f00000 … at revisions 2, 3, …, each with format1Bytes of one letter.
const format1Keys, format1Bytes = 160, 60_000

func format1Value(i int) string {
	return strings.Repeat(string(rune('a'+i%26)), format1Bytes)
}

// TestWriteFormat1 writes testdata/format1-stopped.tar.gz and format1-killed.tar.gz.
func TestWriteFormat1(t *testing.T) {
	old := os.Getenv(format1Env)
	if old == "" {
		t.Skip("the fixtures are there; " + format1Env + " names the binary that writes them")
	}
	defer func(p string) { program = p }(program)
	program = old
	writeFixtures(t, "format1", format1Keys)
}

// writeFixtures lets the program write testdata/<what>-stopped.tar.gz and <what>-killed.tar.gz, with so many keys.
func writeFixtures(t *testing.T, what string, keys int) {
	t.Helper()
	for name, sig := range map[string]os.Signal{"stopped": syscall.SIGTERM, "killed": syscall.SIGKILL} {
		dir := filepath.Join(t.TempDir(), "d")
		p := start(t, dir, "--memtable-bytes", "1048576")
		c := p.client(t)
		for i := range keys {
			if err := put(t, c, fmt.Sprintf("f%05d", i), format1Value(i)); err != nil {
				t.Fatal(err)
			}
		}
		p.stop(t, sig)
		if err := pack(filepath.Join("testdata", what+"-"+name+".tar.gz"), dir); err != nil {
			t.Fatal(err)
		}
	}
}

// pack writes a directory into an archive, without the ballast and the socket of a server that was killed.
func pack(archive, dir string) (err error) {
	f, err := os.Create(archive)
	if err != nil {
		return err
	}
	z, _ := gzip.NewWriterLevel(f, gzip.BestCompression)
	w := tar.NewWriter(z)
	defer func() { err = errors.Join(err, w.Close(), z.Close(), f.Close()) }()
	return filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() || d.Name() == "BALLAST" {
			return err
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(dir, path)
		if err := w.WriteHeader(&tar.Header{Name: filepath.ToSlash(rel), Mode: 0o600, Size: int64(len(b))}); err != nil {
			return err
		}
		_, err = w.Write(b)
		return err
	})
}

// unpack is the reverse, into a new directory.
func unpack(t *testing.T, archive string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "d")
	f, err := os.Open(archive)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	for r := tar.NewReader(z); ; {
		h, err := r.Next()
		if err == io.EOF {
			return dir
		}
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(dir, filepath.FromSlash(h.Name))
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// TestFormat1: directories of the previous release, which kept no ledger, are opened and stay without until they are
// told to have one, and what can be seen to be missing in them is.
func TestFormat1(t *testing.T) {
	for _, name := range []string{"stopped", "killed"} {
		t.Run(name, func(t *testing.T) {
			archive := filepath.Join("testdata", "format1-"+name+".tar.gz")
			dir := unpack(t, archive)
			for i, args := range [][]string{nil, nil, {"--activate-features=all"}, nil} {
				p := start(t, dir, args...)
				c := p.client(t)
				for i := range format1Keys {
					if get(t, c, fmt.Sprintf("f%05d", i)) != format1Value(i) {
						t.Fatalf("key %d is not what was put", i)
					}
				}
				r, err := c.Get(t.Context(), fmt.Sprintf("f%05d", format1Keys-1))
				if err != nil || r.Kvs[0].ModRevision != format1Keys+1 {
					t.Fatal(r, err)
				}
				_ = c.Close()
				p.stop(t, syscall.SIGKILL)
				if _, err := os.Stat(filepath.Join(dir, storeDir, "LEDGER")); (err == nil) != (i >= 2) {
					t.Fatalf("start %d: %v", i, err)
				}
			}
			for _, pattern := range []string{"marker.manifest.*", "marker.format-version.*", "MANIFEST-*", "*.sst"} {
				dir := unpack(t, archive)
				names, _ := filepath.Glob(filepath.Join(dir, storeDir, pattern))
				if len(names) == 0 {
					t.Fatal("no", pattern)
				}
				if err := os.Remove(names[len(names)-1]); err != nil {
					t.Fatal(err)
				}
				fails(t, nil, 1, "corrupt: ", "--listen-client-urls", "http://127.0.0.1:0", "--data-dir", dir)
			}
		})
	}
}

// TestFormat1Quota: the quota goes by the size of the files where no row tells what is live.
func TestFormat1Quota(t *testing.T) {
	dir := unpack(t, filepath.Join("testdata", "format1-stopped.tar.gz"))
	p := start(t, dir, "--quota-backend-bytes", "4096")
	c := p.client(t)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	for {
		_, err := c.Put(ctx, "k", "v")
		if errors.Is(err, rpctypes.ErrNoSpace) {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}
