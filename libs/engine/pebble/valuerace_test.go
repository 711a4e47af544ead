package pebble

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"github.com/headwaterdb/headwater/libs/engine"
)

// Tests of the moments between the steps of the collector. The test takes the steps itself.

// openStepped opens a store whose collector does nothing until the test has ended.
func openStepped(t *testing.T, o Options) *Store {
	t.Helper()
	s := openFar(t, o)
	s.values.collecting <- struct{}{}
	t.Cleanup(func() {
		<-s.values.collecting
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// fillFar puts large values k0 … k<n-1>.
func fillFar(t *testing.T, s *Store, n int) map[string][]byte {
	t.Helper()
	want := map[string][]byte{}
	for i := range n {
		key := fmt.Sprintf("k%d", i)
		want[key] = incompressible(i, farBytes)
		if err := put(s, key, want[key]); err != nil {
			t.Fatal(err)
		}
	}
	return want
}

func clearFar(t *testing.T, s *Store, want map[string][]byte, keys ...string) {
	t.Helper()
	if err := mutate(s, func(x engine.Txn) {
		for _, key := range keys {
			x.Clear([]byte(key))
			delete(want, key)
		}
	}); err != nil {
		t.Fatal(err)
	}
}

// filledNow fills the active file and returns it.
func filledNow(t *testing.T, s *Store) *valueFile {
	t.Helper()
	s.values.appending.Lock()
	defer s.values.appending.Unlock()
	f := s.values.active
	if err := s.values.fill(); err != nil {
		t.Fatal(err)
	}
	return f
}

func lookAt(t *testing.T, s *Store, files ...*valueFile) {
	t.Helper()
	if err := s.values.look(t.Context(), files, 0); err != nil {
		t.Fatal(err)
	}
}

// removeNow removes what the collector takes for dead.
func removeNow(t *testing.T, s *Store) {
	t.Helper()
	if err := s.values.removeDead(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.values.reap()
}

func exists(fs vfs.FS, f *valueFile) bool {
	_, err := fs.Stat(fs.PathJoin("data", f.name))
	return err == nil
}

// TestValueFileFilledAfterLook: a file in which nothing was live gets values and is filled before it is removed.
func TestValueFileFilledAfterLook(t *testing.T) {
	s := openStepped(t, Options{})
	want := fillFar(t, s, 1)
	f := s.values.active
	clearFar(t, s, want, "k0")
	lookAt(t, s, f)
	if f.live != 0 || f.filled {
		t.Fatal(f.live, f.filled)
	}
	for i := 0; !f.filled; i++ {
		key := fmt.Sprintf("l%d", i)
		want[key] = incompressible(i, farBytes)
		if err := put(s, key, want[key]); err != nil {
			t.Fatal(err)
		}
	}
	removeNow(t, s)
	readAll(t, s, want)
}

// TestValueFileOfTransactionInFlight: a transaction has put its value into a file, which is filled and looked at before
// the row is written.
func TestValueFileOfTransactionInFlight(t *testing.T) {
	for name, at := range map[string]func(s *Store, f *valueFile) []*valueFile{
		"listed before": func(_ *Store, f *valueFile) []*valueFile { return []*valueFile{f} },
		"listed now":    func(s *Store, _ *valueFile) []*valueFile { return s.values.restful(asked) },
	} {
		t.Run(name, func(t *testing.T) {
			s := openStepped(t, Options{})
			want := fillFar(t, s, 1)
			f := s.values.active
			clearFar(t, s, want, "k0")
			s.wmu.Lock() // the transaction waits here, with its value synced
			done := make(chan error, 1)
			want["k1"] = incompressible(1, farBytes)
			go func() { done <- put(s, "k1", want["k1"]) }()
			until(t, "the value is in the file", func() bool {
				return f.size.Load() == valueHeadLenOf(2) && f.synced.Load() == f.size.Load()
			})
			if got := filledNow(t, s); got != f {
				t.Fatal(got.name)
			}
			lookAt(t, s, at(s, f)...)
			s.wmu.Unlock()
			if err := <-done; err != nil {
				t.Fatal(err)
			}
			removeNow(t, s)
			readAll(t, s, want)
			lookAt(t, s, f)
			if f.live != farBytes {
				t.Errorf("%d bytes are live", f.live)
			}
		})
	}
}

// valueHeadLenOf is the size of a file with n values of farBytes.
func valueHeadLenOf(n int) int64 { return int64(valueHeadLen + n*farBytes) }

// TestValueMovedBesideOverwrite: rows are overwritten and cleared after their values have been read to be moved, and
// before the rows are changed: what was written last stays.
func TestValueMovedBesideOverwrite(t *testing.T) {
	var between atomic.Pointer[func()]
	mem := vfs.NewMem()
	s := openStepped(t, Options{FS: errorfs.Wrap(mem, errorfs.InjectorFunc(func(op errorfs.Op) error {
		if op.Kind == errorfs.OpFileSyncData && strings.HasSuffix(op.Path, valuesExt) {
			if do := between.Swap(nil); do != nil {
				(*do)()
			}
		}
		return nil
	}))})
	want := fillFar(t, s, 4)
	f := filledNow(t, s)
	lookAt(t, s, f)
	do := func() {
		clearFar(t, s, want, "k1")
		for _, key := range []string{"k0", "k2"} {
			want[key] = []byte("new " + key)
			if err := put(s, key, want[key]); err != nil {
				t.Error(err)
			}
		}
	}
	between.Store(&do)
	if err := s.values.rewrite(t.Context(), f); err != nil {
		t.Fatal(err)
	}
	if between.Load() != nil {
		t.Fatal("nothing was moved")
	}
	readAll(t, s, want)
	lookAt(t, s, f)
	removeNow(t, s)
	if exists(mem, f) {
		t.Error("the file is still there")
	}
	readAll(t, s, want)
	filled := filledNow(t, s)
	lookAt(t, s, filled)
	if filled.live != farBytes {
		t.Errorf("%d bytes are live in the new file", filled.live)
	}
}

// TestValueFileOfOpenReaders: a snapshot, a scan and a transaction from before the commit that removes a file's back
// rows keep the file; those that come between it and the removal do not need it.
func TestValueFileOfOpenReaders(t *testing.T) {
	mem := vfs.NewMem()
	s := openStepped(t, Options{FS: mem})
	want := fillFar(t, s, 3)
	was := bytes.Clone(want["k0"])
	f := filledNow(t, s)
	old, err := s.Snapshot(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	scan := old.Scan(t.Context(), engine.Range{})
	if !scan.Next() {
		t.Fatal(scan.Err())
	}
	clearFar(t, s, want, "k0", "k1", "k2")
	lookAt(t, s, f)
	removeNow(t, s)
	mid, err := s.Snapshot(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer mid.Close()
	if !s.values.reap() || !exists(mem, f) {
		t.Fatal("the file has gone under a reader")
	}
	if v, err := old.Get(t.Context(), []byte("k0")); err != nil || !bytes.Equal(v, was) {
		t.Errorf("%d bytes, %v", len(v), err)
	}
	for n := 1; n < 3; n++ {
		if !scan.Next() || !bytes.Equal(scan.Value(), incompressible(n, farBytes)) {
			t.Errorf("row %d: %v", n, scan.Err())
		}
	}
	if err := scan.Close(); err != nil {
		t.Error(err)
	}
	old.Close()
	if s.values.reap() || exists(mem, f) {
		t.Error("the file has outlived its readers")
	}
	if v, err := mid.Get(t.Context(), []byte("k0")); err != nil || v != nil {
		t.Errorf("%d bytes, %v", len(v), err)
	}
}

// TestValueFileFilledIsTold: the ledger hears that a file is filled before the collector may remove it.
func TestValueFileFilledIsTold(t *testing.T) {
	fs := &openFS{FS: vfs.NewMem()}
	s := openStepped(t, Options{FS: fs})
	clearFar(t, s, fillFar(t, s, 1), "k0")
	f := s.values.active
	lookAt(t, s, f)
	s.ledger.pendingMu.Lock()
	done := make(chan struct{})
	go func() {
		defer close(done)
		filledNow(t, s)
	}()
	until(t, "the file is closed", func() bool { return fs.open.Load() == 0 })
	for range 10_000 {
		if len(s.values.dead()) > 0 {
			t.Error("the file may be removed before the ledger has heard that it is filled")
			break
		}
		runtime.Gosched()
	}
	s.ledger.pendingMu.Unlock()
	<-done
	removeNow(t, s)
}

// TestValueFileKeptUntilDurable: a file stays until the commit that has removed its back rows is durable: a crash
// before that brings them back.
func TestValueFileKeptUntilDurable(t *testing.T) {
	mem := vfs.NewCrashableMem()
	var armed atomic.Bool
	blocked, release := make(chan struct{}, 64), make(chan struct{})
	s := openStepped(t, Options{FS: errorfs.Wrap(mem, errorfs.InjectorFunc(func(op errorfs.Op) error {
		syncs := op.Kind == errorfs.OpFileSync || op.Kind == errorfs.OpFileSyncData
		if syncs && strings.HasSuffix(op.Path, ".log") && armed.Load() {
			blocked <- struct{}{}
			<-release
		}
		return nil
	}))})
	want := fillFar(t, s, 2)
	f := filledNow(t, s)
	clearFar(t, s, want, "k0", "k1")
	lookAt(t, s, f)
	armed.Store(true)
	done := make(chan error, 1)
	go func() { done <- s.values.removeDead(t.Context()) }()
	<-blocked
	for range 1000 {
		s.values.reap()
		runtime.Gosched()
	}
	if !exists(mem, f) {
		t.Error("the file has gone before its back rows have")
	}
	crashed := openFar(t, Options{FS: mem.CrashClone(vfs.CrashCloneCfg{})})
	readAll(t, crashed, want)
	if err := crashed.Close(); err != nil {
		t.Error(err)
	}
	armed.Store(false)
	close(release)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if s.values.reap() || exists(mem, f) {
		t.Error("the file is still there")
	}
}

// TestCrashWhileCollected: a crash at every operation of the collector, from a rewrite to the removal, loses nothing.
func TestCrashWhileCollected(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	mem := vfs.NewCrashableMem()
	type clone struct {
		fs      *vfs.MemFS
		op      string
		percent int
	}
	var clones []clone
	var armed atomic.Bool
	take := func(op string) {
		for _, percent := range []int{0, 50, 100} {
			fs := mem.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: percent, RNG: rng})
			clones = append(clones, clone{fs, op, percent})
		}
	}
	var mu sync.Mutex
	s := openStepped(t, Options{FS: errorfs.Wrap(mem, errorfs.InjectorFunc(func(op errorfs.Op) error {
		if armed.Load() && op.Kind.ReadOrWrite() == errorfs.OpIsWrite {
			mu.Lock()
			defer mu.Unlock()
			take(fmt.Sprintf("%v %s", op.Kind, op.Path))
		}
		return nil
	}))})
	want := fillFar(t, s, 4)
	f := filledNow(t, s)
	clearFar(t, s, want, "k0", "k2")
	lookAt(t, s, f)
	armed.Store(true)
	if err := s.values.rewrite(t.Context(), f); err != nil {
		t.Fatal(err)
	}
	lookAt(t, s, f)
	removeNow(t, s)
	armed.Store(false)
	if exists(mem, f) {
		t.Fatal("nothing was removed")
	}
	take("the end")
	if len(clones) < 30 {
		t.Errorf("only %d crashes", len(clones))
	}
	for _, c := range clones {
		s, err := Open("data", far(Options{FS: c.fs}))
		if err != nil {
			t.Errorf("crash before %s, %d %%: %v", c.op, c.percent, err)
			continue
		}
		readAll(t, s, want)
		if err := s.values.collect(t.Context(), asked); err != nil {
			t.Error(err)
		}
		readAll(t, s, want)
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		if t.Failed() {
			t.Fatalf("crash before %s, %d %%", c.op, c.percent)
		}
	}
}
