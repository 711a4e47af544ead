package pebble

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/headwaterdb/headwater/libs/engine"
)

// TestValuesCollected: files without live values go, those with few are rewritten, and a reader that was there before
// still reads what it saw.
func TestValuesCollected(t *testing.T) {
	fs := vfs.NewMem()
	s := openFar(t, Options{FS: fs})
	defer func() { _ = s.Close() }()
	const n = 30
	for i := range n {
		if err := put(s, fmt.Sprintf("k%02d", i), incompressible(i, farBytes)); err != nil {
			t.Fatal(err)
		}
	}
	before := valueFilesOf(t, fs)
	if len(before) < 4 {
		t.Fatal(before)
	}
	old, err := s.Snapshot(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	want := map[string][]byte{}
	if err := mutate(s, func(x engine.Txn) {
		for i := range n {
			if key := fmt.Sprintf("k%02d", i); i%10 != 0 {
				x.Clear([]byte(key))
			} else {
				want[key] = incompressible(i, farBytes)
			}
		}
	}); err != nil {
		t.Fatal(err)
	}
	idle := effort{garbage: rewriteIdle, merge: true}
	if err := s.values.collect(t.Context(), idle); err != nil {
		t.Fatal(err)
	}
	readAll(t, s, want)
	for i := range n {
		v, err := old.Get(t.Context(), fmt.Appendf(nil, "k%02d", i))
		if err != nil || !bytes.Equal(v, incompressible(i, farBytes)) {
			t.Fatalf("a reader from before: k%02d: %d bytes, %v", i, len(v), err)
		}
	}
	for _, name := range before {
		if _, err := fs.Stat(fs.PathJoin("data", name)); err != nil {
			t.Errorf("a reader needs %s: %v", name, err)
		}
	}
	old.Close()
	until(t, "the files go with their last reader", func() bool {
		if err := s.values.collect(t.Context(), idle); err != nil {
			t.Fatal(err)
		}
		return len(valueFilesOf(t, fs)) == 1
	})
	readAll(t, s, want)
	if have := s.values.totals(); have.bytes > 4*farBytes || have.garbage > farBytes {
		t.Errorf("%+v", have)
	}
}

// TestValuesMovedBesideWrites: values are moved while rows are overwritten and cleared: no write is lost, none comes
// back, and no transaction conflicts with the moves.
func TestValuesMovedBesideWrites(t *testing.T) {
	s := openFar(t, Options{FS: vfs.NewMem()})
	defer func() { _ = s.Close() }()
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		for ctx.Err() == nil {
			if err := s.values.collect(ctx, effort{garbage: 0, merge: true}); err != nil && ctx.Err() == nil {
				t.Error(err)
				return
			}
		}
	})
	rng := rand.New(rand.NewPCG(1, 1))
	want := map[string][]byte{}
	for i := range 400 {
		key := fmt.Sprintf("k%02d", rng.IntN(20))
		err := mutate(s, func(x engine.Txn) {
			if v, err := x.Get(t.Context(), []byte(key)); err != nil || !bytes.Equal(v, want[key]) {
				t.Errorf("%s has %d bytes, %v", key, len(v), err)
			}
			if i%5 == 0 {
				x.Clear([]byte(key))
				delete(want, key)
				return
			}
			want[key] = incompressible(i, farBytes)
			x.Set([]byte(key), want[key])
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	cancel()
	wg.Wait()
	readAll(t, s, want)
}

// TestSmallFilesMerged: every process begins a file; a store that rests does not keep them all.
func TestSmallFilesMerged(t *testing.T) {
	fs := vfs.NewMem()
	want := map[string][]byte{}
	for i := range smallFilesMax + 3 {
		s := openFar(t, Options{FS: fs, ValueFileBytes: 1})
		key := fmt.Sprintf("k%02d", i)
		want[key] = incompressible(i, farBytes)
		if err := errors.Join(put(s, key, want[key]), s.Close()); err != nil {
			t.Fatal(err)
		}
	}
	o := far(Options{FS: fs})
	o.ValueFileBytes = 1 << 20
	s, err := Open("data", o)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	if n := len(valueFilesOf(t, fs)); n != len(want) {
		t.Fatalf("%d files", n)
	}
	if err := s.values.collect(t.Context(), effort{garbage: rewriteIdle, merge: true}); err != nil {
		t.Fatal(err)
	}
	until(t, "one file is left", func() bool { s.values.reap(); return len(valueFilesOf(t, fs)) == 1 })
	readAll(t, s, want)
}

// TestValueReaders: no more files are kept open than valueReadersMax, and none that is gone.
func TestValueReaders(t *testing.T) {
	fs := &openFS{FS: vfs.NewMem()}
	o := far(Options{FS: fs})
	o.ValueFileBytes = 1 // one value each
	s, err := Open("data", o)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	const n = valueReadersMax + 20
	want := map[string][]byte{}
	for i := range n {
		key := fmt.Sprintf("k%03d", i)
		want[key] = incompressible(i, farBytes)
		if err := put(s, key, want[key]); err != nil {
			t.Fatal(err)
		}
	}
	readAll(t, s, want)
	if got := fs.open.Load(); got > valueReadersMax+1 || got < valueReadersMax/2 {
		t.Errorf("%d files are open", got)
	}
	if err := mutate(s, func(x engine.Txn) { x.ClearRange(nil, nil) }); err != nil {
		t.Fatal(err)
	}
	until(t, "no file is open", func() bool {
		return s.values.collect(t.Context(), asked) == nil && fs.open.Load() == 0
	})
}

// openFS counts the value files that are open.
type openFS struct {
	vfs.FS
	open atomic.Int64
}

func (f *openFS) opened(name string, file vfs.File, err error) (vfs.File, error) {
	if err != nil || kindOf(name) != kindValues {
		return file, err
	}
	f.open.Add(1)
	return &openedFile{File: file, fs: f}, nil
}

func (f *openFS) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	file, err := f.FS.Create(name, c)
	return f.opened(name, file, err)
}

func (f *openFS) Open(name string, o ...vfs.OpenOption) (vfs.File, error) {
	file, err := f.FS.Open(name, o...)
	return f.opened(name, file, err)
}

type openedFile struct {
	vfs.File
	fs *openFS
}

func (f *openedFile) Close() error {
	f.fs.open.Add(-1)
	return f.File.Close()
}

// TestValuesOnDisk: what is cleared or overwritten leaves a real disk when Defragment is called; the files are for
// their owner alone.
func TestValuesOnDisk(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	s, err := Open(dir, far(Options{}))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	const n = 60
	overwrite(t, s, 3, n, farBytes)
	for _, name := range files(t, dir, "*"+valuesExt) {
		if i, err := os.Stat(name); err != nil || i.Mode().Perm() != fileMode {
			t.Errorf("%s: %v, %v", name, i.Mode(), err)
		}
	}
	for _, live := range []int{n, n / 4, 0} {
		clearAll(t, s, live, n)
		if err := s.Defragment(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got, most := lengthsIn(t, dir), uint64(live*farBytes)*11/10+64<<10; got > most {
			t.Errorf("%d bytes of files for %d rows of %d bytes", got, live, farBytes)
		}
	}
}
