package pebble

import (
	"errors"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/headwaterdb/headwater/libs/engine"
)

// failingFS fails one kind of operation once it is broken.
type failingFS struct {
	vfs.FS
	op     string
	broken atomic.Bool
}

func (f *failingFS) fails(op string) error {
	if f.broken.Load() && f.op == op {
		if op == "create" {
			return &os.PathError{Op: op, Path: "x.log", Err: syscall.ENOENT}
		}
		return syscall.EIO
	}
	return nil
}

func (f *failingFS) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	if filepath.Ext(name) != ".log" {
		return f.FS.Create(name, c)
	}
	if err := f.fails("create"); err != nil {
		return nil, err
	}
	file, err := f.FS.Create(name, c)
	return &failingFile{file, f}, err
}

func (f *failingFS) ReuseForWrite(from, to string, c vfs.DiskWriteCategory) (vfs.File, error) {
	if err := f.fails("create"); err != nil {
		return nil, err
	}
	file, err := f.FS.ReuseForWrite(from, to, c)
	return &failingFile{file, f}, err
}

func (f *failingFS) OpenDir(name string) (vfs.File, error) {
	dir, err := f.FS.OpenDir(name)
	return &failingDir{dir, f}, err
}

type failingFile struct {
	vfs.File
	fs *failingFS
}

func (f *failingFile) Write(p []byte) (int, error) {
	if err := f.fs.fails("write"); err != nil {
		return 0, err
	}
	return f.File.Write(p)
}

func (f *failingFile) SyncData() error { return errors.Join(f.fs.fails("sync"), f.File.SyncData()) }
func (f *failingFile) Sync() error     { return errors.Join(f.fs.fails("sync"), f.File.Sync()) }
func (f *failingFile) Close() error    { return errors.Join(f.File.Close(), f.fs.fails("close")) }

type failingDir struct {
	vfs.File
	fs *failingFS
}

func (d *failingDir) Sync() error { return errors.Join(d.fs.fails("syncdir"), d.File.Sync()) }

// TestRotationFails: whatever of a rotation of the log fails under load, the store fails and the process lives: all
// commits return, Close does, and what was acknowledged is there after the next start. "removed" removes the
// directory itself. Pebble's goroutines are left behind, so each runs in a process of its own.
func TestRotationFails(t *testing.T) {
	for _, op := range []string{"create", "write", "sync", "close", "syncdir", "removed"} {
		t.Run(op, func(t *testing.T) {
			if alone(t) {
				rotationFails(t, op)
			}
		})
	}
}

func rotationFails(t *testing.T, op string) {
	dir, mem := "data", vfs.NewCrashableMem()
	fs := &failingFS{FS: mem, op: op}
	failed := make(chan error, 1)
	o := small(Options{FS: fs, OnFailure: func(err error) { failed <- err }})
	if op == "removed" {
		dir, o.FS = filepath.Join(t.TempDir(), "data"), nil
	}
	s, err := Open(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	if err := put(s, "k", []byte("x")); err != nil {
		t.Fatal(err)
	}
	var writers sync.WaitGroup
	for i := range 4 {
		writers.Go(func() {
			var err error
			for err == nil {
				err = put(s, string(rune('a'+i)), incompressible(1, 100<<10))
			}
			if !errors.Is(err, engine.ErrUnavailable) {
				t.Error(err)
			}
		})
	}
	if op == "removed" {
		if err := os.RemoveAll(dir); err != nil {
			_ = os.RemoveAll(dir) // a file was made meanwhile
		}
	}
	fs.broken.Store(true)
	<-failed
	writers.Wait()
	if err := s.Close(); !errors.Is(err, engine.ErrUnavailable) {
		t.Errorf("Close: %v", err)
	}
	if op == "removed" {
		return
	}
	if s, err = Open(dir, small(Options{FS: mem.CrashClone(vfs.CrashCloneCfg{})})); err != nil {
		t.Fatal(err)
	}
	if read(t, s, "k") == nil {
		t.Error("an acknowledged row is lost")
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

// TestPrivate: all files of a store are for their owner alone, whatever the umask is.
func TestPrivate(t *testing.T) {
	defer syscall.Umask(syscall.Umask(0))
	dir := filepath.Join(t.TempDir(), "data")
	s, err := Open(dir, small(Options{BallastBytes: 1 << 20}))
	if err != nil {
		t.Fatal(err)
	}
	for range 20 { // several logs and tables
		if err := put(s, "k", incompressible(1, 200<<10)); err != nil {
			t.Fatal(err)
		}
	}
	walk := func() (files int) {
		t.Helper()
		err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
			if errors.Is(err, os.ErrNotExist) {
				return nil // deleted meanwhile
			}
			if err != nil {
				return err
			}
			fi, err := d.Info()
			if errors.Is(err, os.ErrNotExist) {
				return nil
			}
			if err != nil {
				return err
			}
			files++
			if fi.Mode().Perm()&0o077 != 0 {
				t.Errorf("%s: %v", path, fi.Mode())
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		return files
	}
	if n := walk(); n < 8 { // directory, LOCK, BALLAST, MANIFEST, OPTIONS, two markers, a log
		t.Errorf("only %d files", n)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	walk()
}
