package pebble

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/headwaterdb/headwater/libs/engine"
)

// brokenFS fails operations on files whose name ends in suffix, once broken is set.
type brokenFS struct {
	vfs.FS
	suffix string
	broken atomic.Bool
}

func (f *brokenFS) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	file, err := f.FS.Create(name, c)
	return f.wrap(file, name), err
}

func (f *brokenFS) ReuseForWrite(from, to string, c vfs.DiskWriteCategory) (vfs.File, error) {
	file, err := f.FS.ReuseForWrite(from, to, c)
	return f.wrap(file, to), err
}

func (f *brokenFS) wrap(file vfs.File, name string) vfs.File {
	if file == nil || !strings.Contains(name, f.suffix) {
		return file
	}
	return &brokenFile{file, f}
}

type brokenFile struct {
	vfs.File
	fs *brokenFS
}

func (f *brokenFile) Sync() error {
	if f.fs.broken.Load() {
		return syscall.EIO
	}
	return f.File.Sync()
}

func (f *brokenFile) SyncData() error {
	if f.fs.broken.Load() {
		return syscall.EIO
	}
	return f.File.SyncData()
}

// TestLogFails: when the log cannot be synced, no commit is acknowledged any more, everything says ErrUnavailable,
// what was acknowledged is there after a start, and the process lives.
func TestLogFails(t *testing.T) {
	mem := vfs.NewCrashableMem()
	fs := &brokenFS{FS: mem, suffix: ".log"}
	failed := make(chan error, 2)
	o := small(Options{FS: fs, OnFailure: func(err error) { failed <- err }})
	s, err := Open("data", o)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 10 {
		if err := put(s, fmt.Sprintf("k%d", i), []byte("x")); err != nil {
			t.Fatal(err)
		}
	}
	r, err := s.Snapshot(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	waiter := make(chan error, 1)
	go func() { waiter <- s.WaitChange(context.Background(), []byte("k0"), []byte("x")) }()

	fs.broken.Store(true)
	if err := put(s, "lost", []byte("x")); !errors.Is(err, engine.ErrUnavailable) {
		t.Fatalf("a commit whose sync failed: %v", err)
	}
	fs.broken.Store(false) // a later sync that succeeds proves nothing (fsyncgate)
	if err := <-failed; !errors.Is(err, syscall.EIO) {
		t.Errorf("OnFailure: %v", err)
	}
	if err := <-waiter; !errors.Is(err, engine.ErrUnavailable) {
		t.Errorf("WaitChange: %v", err)
	}
	if _, err := r.Get(t.Context(), []byte("k0")); !errors.Is(err, engine.ErrUnavailable) {
		t.Errorf("Get: %v", err)
	}
	if err := put(s, "more", []byte("x")); !errors.Is(err, engine.ErrUnavailable) {
		t.Errorf("a later commit: %v", err)
	}
	r.Close()
	if err := s.Close(); !errors.Is(err, engine.ErrUnavailable) {
		t.Errorf("Close: %v", err)
	}

	o.FS, o.OnFailure = mem.CrashClone(vfs.CrashCloneCfg{}), nil
	if s, err = Open("data", o); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	for i := range 10 {
		if read(t, s, fmt.Sprintf("k%d", i)) == nil {
			t.Errorf("acknowledged row k%d is lost", i)
		}
	}
}

// TestManifestFails: Pebble wants to end the process when its manifest cannot be written; the store fails instead.
// The goroutines of the failed Pebble are left behind, so this runs in a process of its own.
func TestManifestFails(t *testing.T) {
	if !alone(t) {
		return
	}
	mem := vfs.NewCrashableMem()
	fs := &brokenFS{FS: mem, suffix: "MANIFEST"}
	failed := make(chan error, 2)
	s, err := Open("data", small(Options{FS: fs, OnFailure: func(err error) { failed <- err }}))
	if err != nil {
		t.Fatal(err)
	}
	if err := put(s, "k", []byte("x")); err != nil {
		t.Fatal(err)
	}
	fs.broken.Store(true)
	for err == nil { // fill memtables until one is written out
		err = put(s, "fill", incompressible(1, 100<<10))
	}
	if !errors.Is(err, engine.ErrUnavailable) {
		t.Fatal(err)
	}
	<-failed
	if err := s.Close(); !errors.Is(err, engine.ErrUnavailable) {
		t.Errorf("Close: %v", err)
	}
	o := small(Options{FS: mem.CrashClone(vfs.CrashCloneCfg{})})
	if s, err = Open("data", o); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	if read(t, s, "k") == nil {
		t.Error("an acknowledged row is lost")
	}
}

// TestTooOldByTime: with FoundationDB's limits a transaction lives for five seconds.
func TestTooOldByTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, err := Open("data", small(Options{FDBLimits: true, FS: vfs.NewMem()}))
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = s.Close() }()
		for i := range 10 {
			if err := put(s, fmt.Sprintf("k%d", i), nil); err != nil {
				t.Fatal(err)
			}
		}
		x, err := s.Begin(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		r, err := s.Snapshot(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		it := r.Scan(t.Context(), engine.Range{})
		if !it.Next() {
			t.Fatal(it.Err())
		}
		time.Sleep(fdbTxnAge)
		if _, err := r.Get(t.Context(), []byte("k1")); err != nil {
			t.Errorf("at 5 s: %v", err)
		}
		time.Sleep(time.Millisecond)
		if it.Next() || !errors.Is(it.Err(), engine.ErrTooOld) {
			t.Errorf("in the middle of a scan: %v", it.Err())
		}
		_ = it.Close()
		if _, err := r.Get(t.Context(), []byte("k1")); !errors.Is(err, engine.ErrTooOld) {
			t.Errorf("snapshot: %v", err)
		}
		if _, err := x.Get(t.Context(), []byte("k1")); !errors.Is(err, engine.ErrTooOld) {
			t.Errorf("transaction: %v", err)
		}
		x.Set([]byte("a"), nil)
		if _, err := x.Commit(t.Context()); !errors.Is(err, engine.ErrTooOld) {
			t.Errorf("commit: %v", err)
		}
	})
}

// TestTooOldByWindow: a transaction that more commits have passed than the window holds cannot be checked.
func TestTooOldByWindow(t *testing.T) {
	s, err := Open("data", small(Options{FS: vfs.NewMem(), WindowCommits: 5}))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	for _, test := range []struct {
		commits int
		read    bool
		want    error
	}{{5, true, nil}, {6, true, engine.ErrTooOld}, {6, false, nil}} {
		x, err := s.Begin(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if test.read {
			if _, err := x.Get(t.Context(), []byte("x")); err != nil {
				t.Fatal(err)
			}
		}
		for range test.commits {
			if err := put(s, "other", []byte("1")); err != nil {
				t.Fatal(err)
			}
		}
		x.Set([]byte("y"), nil)
		p, err := x.Commit(t.Context())
		if !errors.Is(err, test.want) {
			t.Errorf("after %d commits: %v, want %v", test.commits, err, test.want)
		}
		if err == nil {
			if _, err := p.Wait(t.Context()); err != nil {
				t.Error(err)
			}
		}
	}
	if st := s.Stats(); st.WindowSets != 0 || st.OpenTxns != 0 || st.Undurable != 0 {
		t.Errorf("with no transaction open: %+v", st)
	}
}
