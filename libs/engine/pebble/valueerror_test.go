package pebble

import (
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

// failAt lets one operation on value files fail, once.
type failAt struct {
	err   error
	left  atomic.Int64 // operations until it fails; below 0: none fails
	fired atomic.Bool
}

// MaybeError implements errorfs.Injector.
func (f *failAt) MaybeError(op errorfs.Op) error {
	if !strings.HasSuffix(op.Path, valuesExt) || op.Kind.ReadOrWrite() != errorfs.OpIsWrite || f.left.Load() < 0 {
		return nil
	}
	if f.left.Add(-1) < 0 {
		f.fired.Store(true)
		return f.err
	}
	return nil
}

func (f *failAt) String() string { return f.err.Error() }

// TestValueErrorsWhileCollected: whatever operation on a value file fails while values are moved and files removed,
// once, everything that was acknowledged is there: in the same process after ENOSPC, and after a crash.
func TestValueErrorsWhileCollected(t *testing.T) {
	if !alone(t) {
		return
	}
	for _, e := range []error{syscall.ENOSPC, syscall.EIO} {
		at := int64(0)
		for ; valueErrorAt(t, e, at) && !t.Failed(); at++ {
		}
		t.Logf("%v: %d operations", e, at)
		if at < 8 {
			t.Error("too few operations for a test")
		}
	}
}

// valueErrorAt lets operation number at fail. It reports whether there were so many.
func valueErrorAt(t *testing.T, e error, at int64) bool {
	mem, fail := vfs.NewCrashableMem(), &failAt{err: e}
	fail.left.Store(-1)
	s := openFar(t, Options{FS: errorfs.Wrap(mem, fail)})
	s.values.collecting <- struct{}{}
	want := fillFar(t, s, 10)
	clearFar(t, s, want, "k0", "k1", "k2", "k4", "k5", "k8")
	<-s.values.collecting
	fail.left.Store(at)
	collected := s.values.collect(t.Context(), asked)
	for i := range 8 {
		key := fmt.Sprintf("l%d", i)
		if err := put(s, key, incompressible(i, farBytes)); err == nil {
			want[key] = incompressible(i, farBytes)
		}
	}
	fail.left.Store(-1)
	if errors.Is(e, syscall.ENOSPC) && s.err() != nil {
		t.Errorf("operation %d: the store has failed: %v, %v", at, s.err(), collected)
	}
	crashed := mem.CrashClone(vfs.CrashCloneCfg{})
	if s.err() == nil {
		readAll(t, s, want)
		if err := s.values.collect(t.Context(), asked); err != nil {
			t.Error(err)
		}
		readAll(t, s, want)
	}
	if err := s.Close(); err != nil && !errors.Is(err, engine.ErrUnavailable) {
		t.Error(err)
	}
	for _, fs := range []vfs.FS{crashed, mem} {
		s := openFar(t, Options{FS: fs})
		readAll(t, s, want)
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
	if t.Failed() {
		t.Logf("operation %d, %v", at, e)
	}
	return fail.fired.Load()
}

// TestValueFileSyncedOnce: the collector's failed sync of a file fails the store; nobody whose value is in that file is
// told that it is there because a later sync succeeds.
func TestValueFileSyncedOnce(t *testing.T) {
	if !alone(t) {
		return
	}
	fail := &failAt{err: syscall.EIO}
	fail.left.Store(-1)
	s := openFar(t, Options{FS: errorfs.Wrap(vfs.NewMem(), fail)})
	s.values.collecting <- struct{}{}
	clearFar(t, s, fillFar(t, s, 1), "k0")
	f := s.values.active
	lookAt(t, s, f)
	var files []*valueFile // of a transaction that has not synced yet
	if _, err := s.values.append(incompressible(1, farBytes), &files); err != nil {
		t.Fatal(err)
	}
	fail.left.Store(0)
	if _, err := s.values.settle(asked); !errors.Is(err, engine.ErrUnavailable) || s.err() == nil {
		t.Errorf("the collector's sync: %v; the store: %v", err, s.err())
	}
	if !fail.fired.Load() {
		t.Error("nothing was synced")
	}
	if err := s.values.syncAll(files); !errors.Is(err, engine.ErrUnavailable) {
		t.Errorf("the transaction's sync: %v", err)
	}
	<-s.values.collecting
	_ = s.Close()
}

// TestValueFileRemovedByHand: a file that somebody has removed before the collector does is not missed at the next
// start.
func TestValueFileRemovedByHand(t *testing.T) {
	fs := vfs.NewMem()
	s := openFar(t, Options{FS: fs})
	s.values.collecting <- struct{}{}
	want := fillFar(t, s, 2)
	f := filledNow(t, s)
	clearFar(t, s, want, "k0", "k1")
	lookAt(t, s, f)
	if err := s.values.removeDead(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := fs.Remove(fs.PathJoin("data", f.name)); err != nil {
		t.Fatal(err)
	}
	if s.values.reap() {
		t.Error("the file is still waited for")
	}
	<-s.values.collecting
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = openFar(t, Options{FS: fs})
	readAll(t, s, want)
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

// TestValuesWithNewLedger: a ledger that has been removed by hand, while there was no value file, comes back as one
// that may list some.
func TestValuesWithNewLedger(t *testing.T) {
	for _, adopt := range []bool{false, true} {
		fs := vfs.NewMem()
		s := openFar(t, Options{FS: fs})
		if err := errors.Join(put(s, "small", []byte("x")), s.Close()); err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{ledgerName, fenceName} {
			if err := fs.Remove(fs.PathJoin("data", name)); err != nil {
				t.Fatal(err)
			}
		}
		want := map[string][]byte{"small": []byte("x")}
		for i := range 3 {
			putOnce(t, Options{FS: fs, Adopt: adopt, ValueBytes: 8 << 10}, i, want)
		}
		if n := len(valueFilesOf(t, fs)); n != 3 {
			t.Errorf("%d value files", n)
		}
	}
}
