package pebble

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"github.com/headwaterdb/headwater/libs/engine"
	"github.com/headwaterdb/headwater/libs/engine/enginetest"
)

// farBytes is a value's size in the tests of value files, farFile that of a file, which has a few of them.
const farBytes, farFile = 10 << 10, 64 << 10

func far(o Options) Options {
	o.ValueFiles, o.ValueBytes, o.ValueFileBytes = true, 8<<10, farFile
	return small(o)
}

// openFar opens a store with value files in memory.
func openFar(t *testing.T, o Options) *Store {
	t.Helper()
	if o.FS == nil {
		o.FS = vfs.NewMem()
	}
	o.CloseWithin = time.Minute
	s, err := Open("data", far(o))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// valueFilesOf returns the names of the value files.
func valueFilesOf(t *testing.T, fs vfs.FS) (names []string) {
	t.Helper()
	all, err := fs.List("data")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range all {
		if kindOf(name) == kindValues {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// TestConformanceCollected is TestConformance while values are moved from file to file without a pause.
func TestConformanceCollected(t *testing.T) {
	enginetest.Run(t, func(t *testing.T) enginetest.Engine {
		e := openMem(t, Options{ValueFiles: true, ValueBytes: 9, ValueFileBytes: 4 << 10})
		var wg sync.WaitGroup
		stir := func(s *Store) {
			wg.Go(func() {
				for s.values.collect(t.Context(), effort{garbage: 0, merge: true}) == nil {
					select {
					case <-s.stop:
						return
					default:
					}
				}
			})
		}
		stir(e.Store.(*Store))
		t.Cleanup(wg.Wait) // the stores are closed after it, so the context ends it
		reopen := e.Reopen
		e.Reopen = func(crashed bool) engine.Store {
			s := reopen(crashed)
			stir(s.(*Store))
			return s
		}
		return e
	})
}

// TestValuesWrittenOnce: the bytes of large values go to the disk once, in a value file, and not into logs and tables.
func TestValuesWrittenOnce(t *testing.T) {
	var logs, values atomic.Int64
	fs := &countingFS{FS: vfs.NewMem(), count: func(name string, n int) {
		if kindOf(name) == kindValues {
			values.Add(int64(n))
		} else {
			logs.Add(int64(n))
		}
	}}
	s := openFar(t, Options{FS: fs})
	const n = 50
	for i := range n {
		if err := put(s, fmt.Sprintf("k%02d", i%10), incompressible(i, farBytes)); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if v := values.Load(); v < n*farBytes || v > n*farBytes*102/100 {
		t.Errorf("%d bytes of values have been written for %d", v, n*farBytes)
	}
	if l := logs.Load(); l > n*farBytes/10 {
		t.Errorf("%d bytes have been written besides %d of values", l, n*farBytes)
	}
}

// countingFS counts what is written to files.
type countingFS struct {
	vfs.FS
	count func(name string, n int)
}

func (f *countingFS) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	file, err := f.FS.Create(name, c)
	if err != nil {
		return nil, err
	}
	return countingFile{file, func(n int) { f.count(f.PathBase(name), n) }}, nil
}

type countingFile struct {
	vfs.File
	count func(int)
}

func (f countingFile) Write(b []byte) (int, error) {
	f.count(len(b))
	return f.File.Write(b)
}

// TestValuesReadEveryWay: all ways of reading return large values, small ones, and values that look like pointers, of
// a store that goes on and of one opened again.
func TestValuesReadEveryWay(t *testing.T) {
	fs := vfs.NewMem()
	s := openFar(t, Options{FS: fs})
	want := map[string][]byte{}
	for i := range 40 {
		size := farBytes
		if i%3 == 0 {
			size = 100
		}
		want[fmt.Sprintf("k%02d", i)] = incompressible(i, size)
	}
	for key, v := range want {
		if err := put(s, key, v); err != nil {
			t.Fatal(err)
		}
	}
	// What is in the rows, as a client might have learned it, written as values.
	for i, key := range []string{"k01", "k02"} {
		raw, err := s.meta(append([]byte{userPrefix}, key...))
		if err != nil || !s.values.tagged(raw) {
			t.Fatal(raw, err)
		}
		for j, v := range [][]byte{raw, raw[:tagLen], raw[:refLen], raw[:3], append(raw[:refLen:refLen], 1), append(
			bytes.Clone(s.values.tag), kindVerbatim)} {
			name := fmt.Sprintf("odd%d%d", i, j)
			want[name] = bytes.Clone(v)
			if err := put(s, name, v); err != nil {
				t.Fatal(err)
			}
		}
		stamped := append(bytes.Clone(raw), make([]byte, engine.StampLen)...)
		for at := range tagLen + 2 {
			name := fmt.Sprintf("stamped%d%02d", i, at)
			if err := mutate(s, func(x engine.Txn) {
				x.UseStamps(1)
				v := bytes.Clone(stamped)
				clear(v[at : at+engine.StampLen])
				x.SetStampedValue([]byte(name), v, at)
			}); err != nil {
				t.Fatal(err)
			}
			v := bytes.Clone(stamped)
			stampInto(s, v[at:])
			want[name] = v
		}
	}
	if err := mutate(s, func(x engine.Txn) {
		x.UseStamps(1)
		x.SetStampedKey(append([]byte("s/"), make([]byte, engine.StampLen)...), 2, incompressible(7, farBytes))
	}); err != nil {
		t.Fatal(err)
	}
	stamped := append([]byte("s/"), make([]byte, engine.StampLen)...)
	stampInto(s, stamped[2:])
	want[string(stamped)] = incompressible(7, farBytes)
	for range 2 {
		readAll(t, s, want)
		if err := s.values.collect(t.Context(), effort{merge: true, asked: true}); err != nil {
			t.Fatal(err)
		}
		readAll(t, s, want)
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		s = openFar(t, Options{FS: fs})
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

// stampInto writes the stamp of the last commit over the beginning of b.
func stampInto(s *Store, b []byte) {
	binary.BigEndian.PutUint64(b, s.Stats().Version)
	clear(b[8:engine.StampLen])
}

// readAll checks that every way of reading shows want.
func readAll(t *testing.T, s *Store, want map[string][]byte) {
	t.Helper()
	r, err := s.Snapshot(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	var keys [][]byte
	for key, v := range want {
		keys = append(keys, []byte(key))
		if got, err := r.Get(t.Context(), []byte(key)); err != nil || !bytes.Equal(got, v) {
			t.Errorf("Get %q: %d bytes, %v", key, len(got), err)
		}
	}
	for _, some := range [][][]byte{keys, keys[:min(len(keys), manyKeys-1)]} {
		got, err := r.GetMany(t.Context(), some)
		if err != nil {
			t.Fatal(err)
		}
		for i, key := range some {
			if !bytes.Equal(got[i], want[string(key)]) {
				t.Errorf("GetMany %q: %d bytes", key, len(got[i]))
			}
		}
	}
	for _, reverse := range []bool{false, true} {
		n := 0
		it := r.Scan(t.Context(), engine.Range{Reverse: reverse})
		for ; it.Next(); n++ {
			if v, ok := want[string(it.Key())]; !ok || !bytes.Equal(it.Value(), v) {
				t.Errorf("Scan %q: %d bytes", it.Key(), len(it.Value()))
			}
		}
		if err := errors.Join(it.Err(), it.Close()); err != nil || n != len(want) {
			t.Errorf("Scan: %d rows of %d, %v", n, len(want), err)
		}
	}
}

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
		if v, err := old.Get(t.Context(), fmt.Appendf(nil, "k%02d", i)); err != nil || !bytes.Equal(v, incompressible(i, farBytes)) {
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
	if files, bytes, garbage := s.values.totals(); files != 1 || bytes > 4*farBytes || garbage > farBytes {
		t.Errorf("%d files, %d bytes, %d garbage", files, bytes, garbage)
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
	o := far(Options{FS: fs, CloseWithin: time.Minute})
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
	o := far(Options{FS: fs, CloseWithin: time.Minute})
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

// TestDamagedValue: a value that cannot be read back is an error of the reads that want it, and of nothing else: not
// of what is moved out of its file, nor of a start.
func TestDamagedValue(t *testing.T) {
	fs := vfs.NewMem()
	s := openFar(t, Options{FS: fs})
	want := map[string][]byte{}
	for i := range 5 {
		key := fmt.Sprintf("k%d", i)
		want[key] = incompressible(i, farBytes)
		if err := put(s, key, want[key]); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	name := valueFilesOf(t, fs)[0]
	files, err := filesIn(fs, "data")
	if err != nil {
		t.Fatal(err)
	}
	files[name][valueHeadLen+2*farBytes+77] ^= 1
	if fs, err = files.mem("data"); err != nil {
		t.Fatal(err)
	}
	var reports atomic.Int64
	s = openFar(t, Options{FS: fs, OnDamage: func(error) { reports.Add(1) }})
	defer func() { _ = s.Close() }()
	damaged := func() {
		t.Helper()
		r, err := s.Snapshot(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		var d *engine.Damage
		_, err = r.Get(t.Context(), []byte("k2"))
		if !errors.Is(err, engine.ErrDamaged) || !errors.As(err, &d) || d.File != name ||
			errors.Is(err, engine.ErrUnavailable) {
			t.Errorf("Get: %v", err)
		}
		it := r.Scan(t.Context(), engine.Range{})
		n := 0
		for it.Next() {
			n++
		}
		if !errors.Is(it.Err(), engine.ErrDamaged) || n != 2 {
			t.Errorf("Scan: %d rows, %v", n, it.Err())
		}
		_ = it.Close()
		for key, v := range want {
			if got, err := r.Get(t.Context(), []byte(key)); key != "k2" && (err != nil || !bytes.Equal(got, v)) {
				t.Errorf("%s: %v", key, err)
			}
		}
	}
	damaged()
	if reports.Load() == 0 {
		t.Error("OnDamage has not been called")
	}
	if err := mutate(s, func(x engine.Txn) { x.Clear([]byte("k0")) }); err != nil {
		t.Fatal(err)
	}
	delete(want, "k0")
	if err := put(s, "a", incompressible(9, farBytes)); err != nil {
		t.Fatal(err)
	}
	if err := s.values.collect(t.Context(), effort{}); err != nil {
		t.Fatal(err)
	}
	if err := mutate(s, func(x engine.Txn) { x.Clear([]byte("a")) }); err != nil {
		t.Fatal(err)
	}
	if _, err := fs.Stat(fs.PathJoin("data", name)); err != nil {
		t.Error("the file with the damage is gone:", err)
	}
	if err := mutate(s, func(x engine.Txn) { x.Set([]byte("k0"), nil) }); err != nil {
		t.Fatal(err)
	}
	want["k0"] = []byte{}
	damaged()
	if err := mutate(s, func(x engine.Txn) { x.Clear([]byte("k2")) }); err != nil {
		t.Fatal(err)
	}
	until(t, "the file goes with the damaged row", func() bool {
		_, err := fs.Stat(fs.PathJoin("data", name))
		return s.values.collect(t.Context(), asked) == nil && err != nil
	})
}

// TestValueFileNoSpace: a value file that finds no space fails the transactions that need it, one by one, and nothing
// else; when there is space again they are taken, and nothing that was acknowledged is lost.
func TestValueFileNoSpace(t *testing.T) {
	mem := vfs.NewMem()
	var full atomic.Int32 // of which operations
	fs := errorfs.Wrap(mem, errorfs.InjectorFunc(func(op errorfs.Op) error {
		if !strings.HasSuffix(op.Path, valuesExt) {
			return nil
		}
		switch op.Kind {
		case errorfs.OpCreate:
			if full.Load() == 1 {
				return syscall.ENOSPC
			}
		case errorfs.OpFileWrite:
			if full.Load() == 2 {
				return syscall.ENOSPC
			}
		case errorfs.OpFileSyncData:
			if full.Load() == 3 {
				return syscall.ENOSPC
			}
		default:
		}
		return nil
	}))
	s := openFar(t, Options{FS: fs})
	want := map[string][]byte{}
	for round := range int32(3) {
		full.Store(round + 1)
		for i := range 20 {
			err := put(s, fmt.Sprintf("refused%d", i), incompressible(i, farBytes))
			if err == nil {
				want[fmt.Sprintf("refused%d", i)] = incompressible(i, farBytes) // the file had room still
			} else if !errors.Is(err, engine.ErrNoSpace) || errors.Is(err, engine.ErrUnavailable) {
				t.Fatalf("round %d: %v", round, err)
			}
		}
		small := fmt.Sprintf("small%d", round)
		want[small] = []byte("x")
		if err := put(s, small, want[small]); err != nil {
			t.Fatal(err)
		}
		full.Store(0)
		for i := range 3 {
			key := fmt.Sprintf("k%d%d", round, i)
			want[key] = incompressible(i, farBytes)
			if err := put(s, key, want[key]); err != nil {
				t.Fatal(err)
			}
		}
		readAll(t, s, want)
		if err := s.values.collect(t.Context(), asked); err != nil {
			t.Fatal(err)
		}
		readAll(t, s, want)
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		s = openFar(t, Options{FS: fs})
		readAll(t, s, want)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestValueFileFails: a value file that cannot be written or synced fails the store, as the write-ahead log does.
// The goroutines of a failed Pebble are left behind, so this runs in a process of its own.
func TestValueFileFails(t *testing.T) {
	if os.Getenv(childEnv) == "" {
		child := exec.Command(os.Args[0], "-test.run=^TestValueFileFails$")
		child.Env = append(os.Environ(), childEnv+"=1")
		if out, err := child.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		return
	}
	for _, kind := range []errorfs.OpKind{errorfs.OpFileWrite, errorfs.OpFileSyncData} {
		mem := vfs.NewCrashableMem()
		var broken atomic.Bool
		fs := errorfs.Wrap(mem, errorfs.InjectorFunc(func(op errorfs.Op) error {
			if broken.Load() && op.Kind == kind && strings.HasSuffix(op.Path, valuesExt) {
				return syscall.EIO
			}
			return nil
		}))
		failed := make(chan error, 1)
		s, err := Open("data", far(Options{FS: fs, OnFailure: func(err error) { failed <- err }}))
		if err != nil {
			t.Fatal(err)
		}
		if err := put(s, "k", incompressible(1, farBytes)); err != nil {
			t.Fatal(err)
		}
		broken.Store(true)
		if err := put(s, "lost", incompressible(2, farBytes)); !errors.Is(err, engine.ErrUnavailable) {
			t.Fatal(err)
		}
		<-failed
		if err := put(s, "later", nil); !errors.Is(err, engine.ErrUnavailable) {
			t.Fatal(err)
		}
		_ = s.Close()
		s, err = Open("data", far(Options{FS: mem.CrashClone(vfs.CrashCloneCfg{}), CloseWithin: time.Minute}))
		if err != nil {
			t.Fatal(err)
		}
		readAll(t, s, map[string][]byte{"k": incompressible(1, farBytes)})
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestValuesBegun: a store has no value files, whatever else is activated, and its own release opens it, until it is told
// to have some, be it new or not. What it has stays where it is, it has value files for good, and the older release is
// told.
func TestValuesBegun(t *testing.T) {
	plain, adopt := Options{ValueBytes: 8 << 10}, Options{ValueBytes: 8 << 10, Adopt: true}
	begin, off := Options{ValueBytes: 8 << 10, ValueFiles: true}, Options{ValueBytes: -1}
	for name, starts := range map[string][]begun{
		"new":         {{begin, 1}, {plain, 2}, {off, 2}, {begin, 3}},
		"older":       {{plain, 0}, {plain, 0}, {begin, 1}, {plain, 2}, {off, 2}, {plain, 3}},
		"adopted":     {{adopt, 0}, {adopt, 0}, {begin, 1}, {adopt, 2}},
		"off, for it": {{begin, 1}, {off, 1}},
	} {
		t.Run(name, func(t *testing.T) { valuesBegun(t, starts) })
	}
}

// begun is one start in TestValuesBegun.
type begun struct {
	o     Options
	files int // that there are after it
}

func valuesBegun(t *testing.T, starts []begun) {
	fs := vfs.NewMem()
	want := map[string][]byte{}
	for i, start := range starts {
		o, files := start.o, start.files
		o.FS, o.CloseWithin = fs, time.Minute
		s, err := Open("data", small(o))
		if err != nil {
			t.Fatal(err)
		}
		key := fmt.Sprintf("k%d", i)
		want[key] = incompressible(i, farBytes)
		if err := put(s, key, want[key]); err != nil {
			t.Fatal(err)
		}
		readAll(t, s, want)
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		all, err := filesIn(fs, "data")
		if err != nil {
			t.Fatal(err)
		}
		version := ledgerPlain
		if files > 0 {
			version = ledgerOfValues
		}
		if head := fmt.Sprintf("0 %s %d ", itemStore, version); !bytes.HasPrefix(all[ledgerName], []byte(head)) {
			t.Errorf("start %d: the ledger begins with %.40q", i, all[ledgerName])
		}
		if got := len(valueFilesOf(t, fs)); got != files {
			t.Errorf("start %d: %d value files of %d", i, got, files)
		}
	}
}

// TestValuesWithoutLedger: a store whose ledger and fence have been removed, as an operator may do, starts with what is
// there; values in a file that is missing or cut are damage, then and at every later start.
func TestValuesWithoutLedger(t *testing.T) {
	fs := vfs.NewMem()
	s := openFar(t, Options{FS: fs})
	for i := range 20 {
		if err := put(s, fmt.Sprintf("k%02d", i), incompressible(i, farBytes)); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	names := valueFilesOf(t, fs)
	if len(names) != 3 {
		t.Fatal(names)
	}
	files, err := filesIn(fs, "data")
	if err != nil {
		t.Fatal(err)
	}
	delete(files, ledgerName)
	delete(files, fenceName)
	delete(files, names[0])
	files[names[1]] = files[names[1]][:valueHeadLen+farBytes+5]
	if fs, err = files.mem("data"); err != nil {
		t.Fatal(err)
	}
	for _, o := range []Options{{FS: fs}, {FS: fs, Adopt: true}, {FS: fs}} {
		s := openFar(t, o)
		shown := 0
		for i := range 20 {
			r, err := s.Snapshot(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			v, err := r.Get(t.Context(), fmt.Appendf(nil, "k%02d", i))
			switch {
			case err == nil && bytes.Equal(v, incompressible(i, farBytes)):
				shown++
			case !errors.Is(err, engine.ErrDamaged):
				t.Errorf("k%02d: %d bytes, %v", i, len(v), err)
			}
			r.Close()
		}
		if shown != 20-7-6 {
			t.Errorf("%d values of %d are shown", shown, 20)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestValuesOnDisk: what is cleared or overwritten leaves a real disk, and an idle store shrinks by itself; the files are
// for their owner alone.
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
