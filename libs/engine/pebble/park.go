package pebble

import (
	"fmt"
	"path/filepath"
	"sync/atomic"

	pdb "github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// park blocks the goroutine for good. It is called within Pebble when the store has failed. Pebble gives up by a panic
// or by Fatalf. It releases its mutex before it writes to the disk, so a stack that unwinds from there (as when the log
// cannot be rotated) unlocks DB.mu twice, which ends the process and cannot be recovered from. So the stack does not
// unwind, and everyone who waits for such a goroutine also waits for Store.failed.
func park() { select {} }

// lose handles an error on which Pebble would panic. For an open store it fails the store and does not return. While
// the store is being closed it returns the error. After a failure, a goroutine left behind in a rotation may call lose
// while the store is being closed: only the closing goroutine returns then.
func (s *Store) lose(err error) {
	closing := s.closingDB.Load() && (s.failure.Load() == nil || runsUnder("pebble/v2.(*DB).Close"))
	if s.opened.Load() && !closing && !s.space.opening.Load() {
		_ = s.fail(err)
		park()
	}
}

// run is guard for an open store: if the store fails, f is left behind.
func (s *Store) run(f func() error) error {
	done := make(chan error, 1)
	go func() { done <- guard(f) }()
	select {
	case err := <-done:
		return err
	case <-s.failed:
		return s.err()
	}
}

// applied is the result of a batch: the state after it, or why it could not be applied.
type applied struct {
	snap *pdb.Snapshot
	err  error
}

// apply passes a batch to Pebble and returns the state after it, or the error with which the store has failed. The
// writer lock is held. The applier takes the snapshot too, because a goroutine within Pebble that has given up may hold
// DB.mu.
func (s *Store) apply(b *pdb.Batch) (*pdb.Snapshot, error) {
	s.applies <- b
	select {
	case r := <-s.applyResult:
		return r.snap, r.err
	case <-s.failed:
		return nil, s.err()
	}
}

// applier applies batches in its own goroutine, which can be left behind.
func (s *Store) applier() {
	for b := range s.applies {
		var r applied
		r.err = guard(func() error {
			err := s.db.ApplyNoSyncWait(b, pdb.Sync)
			if err == nil {
				r.snap = s.db.NewSnapshot()
			}
			return err
		})
		s.applyResult <- r
	}
}

// steadyFS is the file system that Pebble sees. An error on which Pebble would panic fails the store instead. These are
// the errors of rotating the log: the old log cannot be completed, a new one cannot be created, or a directory cannot
// be synced.
type steadyFS struct {
	vfs.FS
	s *Store
}

// Unwrap implements vfs.FS.
func (f *steadyFS) Unwrap() vfs.FS { return f.FS }

// Create implements vfs.FS.
func (f *steadyFS) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	file, err := f.FS.Create(name, c)
	return f.log(name, file, err)
}

// ReuseForWrite implements vfs.FS.
func (f *steadyFS) ReuseForWrite(from, to string, c vfs.DiskWriteCategory) (vfs.File, error) {
	file, err := f.FS.ReuseForWrite(from, to, c)
	return f.log(to, file, err)
}

func (f *steadyFS) log(name string, file vfs.File, err error) (vfs.File, error) {
	if filepath.Ext(name) != ".log" {
		return file, err
	}
	if err != nil {
		f.s.lose(fmt.Errorf("write-ahead log: %w", err))
		return nil, err
	}
	return &steadyLog{File: file, s: f.s}, nil
}

// OpenDir implements vfs.FS.
func (f *steadyFS) OpenDir(name string) (vfs.File, error) {
	dir, err := f.FS.OpenDir(name)
	if err != nil {
		return nil, err
	}
	return &steadyDir{dir, f.s}, nil
}

// steadyLog is a file of the write-ahead log.
type steadyLog struct {
	vfs.File
	s      *Store
	broken atomic.Pointer[error]
}

// note keeps the first error. The commits that wait for the log fail the store.
func (f *steadyLog) note(err error) error {
	if err != nil {
		f.broken.CompareAndSwap(nil, &err)
	}
	return err
}

// Write implements vfs.File.
func (f *steadyLog) Write(p []byte) (int, error) {
	n, err := f.File.Write(p)
	return n, f.note(err)
}

// Sync implements vfs.File.
func (f *steadyLog) Sync() error { return f.note(f.File.Sync()) }

// SyncData implements vfs.File.
func (f *steadyLog) SyncData() error { return f.note(f.File.SyncData()) }

// SyncTo implements vfs.File.
func (f *steadyLog) SyncTo(length int64) (fullSync bool, err error) {
	fullSync, err = f.File.SyncTo(length)
	return fullSync, f.note(err)
}

// Close implements vfs.File.
func (f *steadyLog) Close() error {
	err := f.note(f.File.Close())
	if broken := f.broken.Load(); broken != nil {
		f.s.lose(fmt.Errorf("write-ahead log: %w", *broken))
	}
	return err
}

// steadyDir is the store's directory.
type steadyDir struct {
	vfs.File
	s *Store
}

// Sync implements vfs.File.
func (d *steadyDir) Sync() error {
	err := d.File.Sync()
	if err != nil {
		d.s.lose(fmt.Errorf("store directory: %w", err))
	}
	return err
}
