package pebble

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
)

// inTime returns what f sends, and fails the test if that takes for ever.
func inTime[T any](t *testing.T, what string, f func() T) (got T) {
	t.Helper()
	done := make(chan T, 1)
	go func() { done <- f() }()
	select {
	case got = <-done:
	case <-time.After(2 * time.Minute):
		t.Fatalf("%s: waits for ever", what)
	}
	return got
}

func openedInMemory(t *testing.T) *Store {
	t.Helper()
	s, err := Open("data", small(Options{FS: vfs.NewMem()}))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// watchedContext tells when somebody waits for its end.
type watchedContext struct {
	context.Context
	once   sync.Once
	waited chan struct{}
}

func (c *watchedContext) Done() <-chan struct{} {
	c.once.Do(func() { close(c.waited) })
	return c.Context.Done()
}

// TestCommitLeavesStall: a commit whose caller goes while compactions are behind returns, with nothing applied, and
// none that waits holds the writer lock.
func TestCommitLeavesStall(t *testing.T) {
	s := openedInMemory(t)
	s.stall.set(true)
	inner, cancel := context.WithCancel(t.Context())
	ctx := &watchedContext{Context: inner, waited: make(chan struct{})}
	x, err := s.Begin(ctx)
	if err != nil {
		t.Fatal(err)
	}
	x.Set([]byte("a"), []byte("1"))
	left := make(chan error, 1)
	go func() {
		_, err := x.Commit(ctx)
		left <- err
	}()
	inTime(t, "a commit that looks at its context", func() struct{} { return <-ctx.waited })
	if !s.wmu.TryLock() {
		t.Error("a commit that waits for compactions holds the writer lock")
	} else {
		s.wmu.Unlock()
	}
	cancel()
	err = inTime(t, "a commit whose caller has gone", func() error { return <-left })
	if !errors.Is(err, context.Canceled) {
		t.Errorf("a commit whose caller has gone: %v", err)
	}
	s.stall.set(false)
	if err := put(s, "b", []byte("1")); err != nil {
		t.Error(err)
	}
	if v := read(t, s, "a"); v != nil {
		t.Errorf("it was applied nevertheless: %q", v)
	}
}

// TestDefragmentBeforeGentlePass: a pass that the store has begun by itself gives way to Defragment.
func TestDefragmentBeforeGentlePass(t *testing.T) {
	s := openedInMemory(t)
	gentle, end := context.WithCancel(t.Context())
	defer end()
	s.passes <- struct{}{} // housekeep is at it
	s.gentle.Store(&end)
	go func() {
		<-gentle.Done()
		<-s.passes
	}()
	if err := inTime(t, "Defragment", func() error { return s.Defragment(t.Context()) }); err != nil {
		t.Error(err)
	}
	if s.endGentle(); s.wanted.Load() != 0 {
		t.Error("Defragment is wanted still")
	}
}

// TestRemovalNeedsNoLine: files are removed while a line of the ledger waits for space: that is what makes some.
func TestRemovalNeedsNoLine(t *testing.T) {
	s := openedInMemory(t)
	path := s.opts.FS.PathJoin("data", "999999.sst")
	f, err := s.opts.FS.Create(path, vfs.WriteCategoryUnspecified)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	s.ledger.mu.Lock()
	err = inTime(t, "a removal", func() error { return s.files.Remove(path) })
	s.ledger.mu.Unlock()
	if err != nil {
		t.Error(err)
	}
}

// TestStatsWhileSwapped: metrics are answered while Pebble is opened anew.
func TestStatsWhileSwapped(t *testing.T) {
	s := openedInMemory(t)
	if err := put(s, "a", []byte("1")); err != nil {
		t.Fatal(err)
	}
	before := s.Stats()
	s.swapping.Lock()
	defer s.swapping.Unlock()
	if got := inTime(t, "Stats", s.Stats); got.Commits != before.Commits || got.Commits == 0 {
		t.Errorf("%+v instead of %+v", got, before)
	}
}

// TestTornTable: the ledger does not list a table of which not all could be written, although Pebble syncs and closes
// it: a process killed before it is removed must be able to start.
func TestTornTable(t *testing.T) {
	full := errorfs.InjectorFunc(func(op errorfs.Op) error {
		if op.Kind == errorfs.OpFileWrite && strings.HasSuffix(op.Path, ".sst") {
			return syscall.ENOSPC
		}
		return nil
	})
	l, err := openLedger(vfs.NewMem(), "", false)
	if err != nil {
		t.Fatal(err)
	}
	f, err := (&ledgerFS{FS: errorfs.Wrap(l.fs, full), l: l}).Create("000007.sst", vfs.WriteCategoryUnspecified)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Write([]byte("block")); err == nil {
		t.Fatal("the write has not failed")
	}
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		t.Fatal(err)
	}
	if items := l.takePending(); len(items) > 0 {
		t.Errorf("the ledger would say %q", items)
	}
}

// TestFirstRecordOnFullDisk: a store that finds no space for its first record is not created, and its start does not
// wait.
func TestFirstRecordOnFullDisk(t *testing.T) {
	full := errorfs.InjectorFunc(func(op errorfs.Op) error {
		if op.Kind == errorfs.OpFileWrite && strings.HasSuffix(op.Path, ".log") {
			return syscall.ENOSPC
		}
		return nil
	})
	fs := vfs.NewMem()
	err := inTime(t, "Open", func() error {
		s, err := Open("data", small(Options{FS: errorfs.Wrap(fs, full)}))
		if err == nil {
			_ = s.Close()
		}
		return err
	})
	if err == nil || !strings.Contains(err.Error(), "no space left") {
		t.Errorf("on a full disk: %v", err)
	}
	s, err := Open("data", small(Options{FS: fs}))
	if err != nil {
		t.Fatalf("when there is space: %v", err)
	}
	if err := errors.Join(put(s, "a", []byte("1")), s.Close()); err != nil {
		t.Error(err)
	}
}

// TestWaitsBesideClose: commits are waited for, with contexts that can end, while the store is closed.
func TestWaitsBesideClose(t *testing.T) {
	for range 30 {
		s, err := Open("data", small(Options{FS: vfs.NewMem()}))
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		for i := range 16 {
			x, err := s.Begin(ctx)
			if err != nil {
				t.Fatal(err)
			}
			x.Set(fmt.Appendf(nil, "%d", i), nil)
			p, err := x.Commit(ctx)
			if err != nil {
				t.Fatal(err)
			}
			wg.Go(func() {
				if _, err := p.Wait(ctx); err != nil {
					t.Error(err)
				}
			})
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		wg.Wait()
		cancel()
	}
}
