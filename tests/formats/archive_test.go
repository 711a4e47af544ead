package formats

import (
	"archive/tar"
	"bufio"
	"compress/gzip"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/headwaterdb/headwater/libs/engine"
)

// unpack writes a tar.gz of testdata to a directory of the test.
func unpack(tb testing.TB, name string) (dir string) {
	tb.Helper()
	dir = tb.TempDir()
	f, err := os.Open(filepath.Join("testdata", name+".tar.gz"))
	if err != nil {
		tb.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		tb.Fatal(err)
	}
	for r := tar.NewReader(z); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return dir
		}
		if err != nil || !filepath.IsLocal(h.Name) {
			tb.Fatal(h.Name, err)
		}
		path := filepath.Join(dir, h.Name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			tb.Fatal(err)
		}
		text, err := io.ReadAll(r)
		if err == nil {
			err = os.WriteFile(path, text, 0o600)
		}
		if err != nil {
			tb.Fatal(err)
		}
	}
}

// pack is the inverse of unpack.
func pack(tb testing.TB, dir, name string) {
	tb.Helper()
	f, err := os.Create(filepath.Join("testdata", name+".tar.gz"))
	if err != nil {
		tb.Fatal(err)
	}
	z, _ := gzip.NewWriterLevel(f, gzip.BestCompression)
	w := tar.NewWriter(z)
	err = fs.WalkDir(os.DirFS(dir), ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := os.ReadFile(filepath.Join(dir, path))
		if err != nil {
			return err
		}
		if err := w.WriteHeader(&tar.Header{Name: path, Mode: 0o600, Size: int64(len(text))}); err != nil {
			return err
		}
		_, err = w.Write(text)
		return err
	})
	if err := errors.Join(err, w.Close(), z.Close(), f.Close()); err != nil {
		tb.Fatal(err)
	}
}

// dump writes all rows of an engine.
func dump(ctx context.Context, e engine.Store, path string) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	z, _ := gzip.NewWriterLevel(f, gzip.BestCompression)
	var b []byte
	err = visit(ctx, e, engine.Range{}, func(key, value []byte) {
		for _, part := range [][]byte{key, value} {
			b = append(binary.AppendUvarint(b, uint64(len(part))), part...)
		}
	})
	_, writeErr := z.Write(b)
	return errors.Join(err, writeErr, z.Close(), f.Close())
}

// visit visits the rows of a range.
func visit(ctx context.Context, e engine.Store, r engine.Range, f func(key, value []byte)) error {
	snap, err := e.Snapshot(ctx)
	if err != nil {
		return err
	}
	defer snap.Close()
	it := snap.Scan(ctx, r)
	defer it.Close()
	for it.Next() {
		f(it.Key(), it.Value())
	}
	return it.Err()
}

// restore writes the rows of a dump into an engine, and makes the engine's versions go on above those of the rows.
func restore(ctx context.Context, e engine.Store, path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		return err
	}
	for r := bufio.NewReader(z); ; {
		key, err := part(r)
		if errors.Is(err, io.EOF) {
			return forward(ctx, e, dumpedVersionMax)
		}
		value, valueErr := part(r)
		if err := errors.Join(err, valueErr); err != nil {
			return err
		}
		if _, err := update(ctx, e, func(x engine.Txn) { x.Set(key, value) }); err != nil {
			return err
		}
	}
}

// dumpedVersionMax is above all versions in the rows of a dump.
const dumpedVersionMax = 1 << 32

func part(r *bufio.Reader) ([]byte, error) {
	n, err := binary.ReadUvarint(r)
	if err != nil {
		return nil, err
	}
	b := make([]byte, n)
	_, err = io.ReadFull(r, b)
	return b, err
}

// forward commits until the engine's stamps are above version.
func forward(ctx context.Context, e engine.Store, version uint64) error {
	for {
		st, err := update(ctx, e, func(x engine.Txn) {
			x.UseStamps(1)
			x.SetStampedValue([]byte("\x00forwarded"), make([]byte, engine.StampLen), 0)
		})
		if err != nil || st.Version > version {
			return err
		}
	}
}

func update(ctx context.Context, e engine.Store, f func(engine.Txn)) (st engine.Stamp, err error) {
	x, err := e.Begin(ctx)
	if err != nil {
		return st, err
	}
	defer x.Discard()
	f(x)
	p, err := x.Commit(ctx)
	if err != nil {
		return st, err
	}
	return p.Wait(ctx)
}
