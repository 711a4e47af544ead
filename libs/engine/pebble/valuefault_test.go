package pebble

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"github.com/headwaterdb/headwater/libs/engine"
)

// TestDamagedValue: a value that cannot be read back is an error of the reads that want it, and of nothing else: not
// of what is moved out of its file, nor of a start.
func TestDamagedValue(t *testing.T) {
	fs := vfs.NewMem()
	s := openFar(t, Options{FS: fs})
	want := fillFar(t, s, 5)
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
	if !alone(t) {
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
		s, err = Open("data", far(Options{FS: mem.CrashClone(vfs.CrashCloneCfg{})}))
		if err != nil {
			t.Fatal(err)
		}
		readAll(t, s, map[string][]byte{"k": incompressible(1, farBytes)})
		if err := s.Close(); err != nil {
			t.Fatal(err)
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
