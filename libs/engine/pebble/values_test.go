package pebble

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

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
		e := openMem(t, valuesOf(Options{}))
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

// TestValuesBegun: a store has no value files, whatever else is activated, and its own release opens it, until it is
// told to have some, be it new or not, or only if it is new. What it has stays where it is, it has value files for
// good, and the older release is told.
func TestValuesBegun(t *testing.T) {
	plain, adopt := Options{ValueBytes: 8 << 10}, Options{ValueBytes: 8 << 10, Adopt: true}
	begin, off := Options{ValueBytes: 8 << 10, ValueFiles: true}, Options{ValueBytes: -1}
	ifNew := Options{ValueBytes: 8 << 10, NewValueFiles: true}
	for name, starts := range map[string][]begun{
		"new":         {{begin, 1}, {plain, 2}, {off, 2}, {begin, 3}},
		"older":       {{plain, 0}, {plain, 0}, {begin, 1}, {plain, 2}, {off, 2}, {plain, 3}},
		"adopted":     {{adopt, 0}, {adopt, 0}, {begin, 1}, {adopt, 2}},
		"off, for it": {{begin, 1}, {off, 1}},
		"if new":      {{ifNew, 1}, {ifNew, 2}, {plain, 3}},
		"if new, old": {{plain, 0}, {ifNew, 0}, {adopt, 0}, {ifNew, 0}, {begin, 1}, {ifNew, 2}},
	} {
		t.Run(name, func(t *testing.T) { valuesBegun(t, starts) })
	}
}

// putOnce opens a store, puts a large value k<i>, reads all that is wanted, and closes the store.
func putOnce(t *testing.T, o Options, i int, want map[string][]byte) {
	t.Helper()
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
		o.FS = fs
		putOnce(t, o, i, want)
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
