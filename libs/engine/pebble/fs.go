package pebble

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// isNoSpace tells whether err says that the disk, or the quota on it, is used up.
func isNoSpace(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}

// spaceFS is the file system under Pebble. A table that finds no space fails, is deleted and is written again later. The
// log, the manifest and the small files around them cannot fail without taking the store down, so these operations wait
// for space. It also times the syncs of the log.
type spaceFS struct {
	vfs.FS
	sp *space
}

// vital tells whether the file may not fail for want of space.
func vital(name string) bool {
	return !strings.HasSuffix(name, ".sst") && !strings.HasSuffix(name, ".blob")
}

// Unwrap implements vfs.FS.
func (f *spaceFS) Unwrap() vfs.FS { return f.FS }

func (f *spaceFS) wrap(file vfs.File, name string) vfs.File {
	if file == nil {
		return nil
	}
	s := spaceFile{File: file, sp: f.sp, vital: vital(name)}
	if filepath.Ext(name) == ".log" {
		return &logFile{s}
	}
	return &s
}

// Create implements vfs.FS.
func (f *spaceFS) Create(name string, c vfs.DiskWriteCategory) (file vfs.File, err error) {
	err = f.sp.retry(vital(name), func() error { file, err = f.FS.Create(name, c); return err })
	return f.wrap(file, name), err
}

// OpenReadWrite implements vfs.FS.
func (f *spaceFS) OpenReadWrite(name string, c vfs.DiskWriteCategory, o ...vfs.OpenOption) (file vfs.File, err error) {
	err = f.sp.retry(vital(name), func() error { file, err = f.FS.OpenReadWrite(name, c, o...); return err })
	return f.wrap(file, name), err
}

// ReuseForWrite implements vfs.FS.
func (f *spaceFS) ReuseForWrite(from, to string, c vfs.DiskWriteCategory) (file vfs.File, err error) {
	err = f.sp.retry(vital(to), func() error { file, err = f.FS.ReuseForWrite(from, to, c); return err })
	return f.wrap(file, to), err
}

// Link implements vfs.FS.
func (f *spaceFS) Link(from, to string) error {
	return f.sp.retry(vital(to), func() error { return f.FS.Link(from, to) })
}

// Rename implements vfs.FS.
func (f *spaceFS) Rename(from, to string) error {
	return f.sp.retry(vital(to), func() error { return f.FS.Rename(from, to) })
}

// MkdirAll implements vfs.FS.
func (f *spaceFS) MkdirAll(dir string, perm os.FileMode) error {
	return f.sp.retry(true, func() error { return f.FS.MkdirAll(dir, perm) })
}

// spaceFile is a file opened for writing.
type spaceFile struct {
	vfs.File
	sp    *space
	vital bool
}

// Write implements vfs.File.
func (f *spaceFile) Write(p []byte) (int, error) {
	n, err := f.File.Write(p)
	if err == nil || !isNoSpace(err) {
		return n, f.sp.slow(f.vital, err)
	}
	err = f.sp.retry(f.vital, func() error {
		var m int
		m, err = f.File.Write(p[n:])
		n += m
		return err
	})
	return n, err
}

// WriteAt implements vfs.File.
func (f *spaceFile) WriteAt(p []byte, at int64) (int, error) {
	n, err := f.File.WriteAt(p, at)
	if err == nil || !isNoSpace(err) {
		return n, f.sp.slow(f.vital, err)
	}
	err = f.sp.retry(f.vital, func() error {
		var m int
		m, err = f.File.WriteAt(p[n:], at+int64(n))
		n += m
		return err
	})
	return n, err
}

// logFile is a file of the write-ahead log.
type logFile struct{ spaceFile }

// Sync implements vfs.File.
func (f *logFile) Sync() error { return f.timed(f.File.Sync) }

// SyncData implements vfs.File.
func (f *logFile) SyncData() error { return f.timed(f.File.SyncData) }

func (f *logFile) timed(sync func() error) error {
	start := time.Now()
	err := sync()
	f.sp.s.opts.Observe.WALSync(time.Since(start))
	return err
}
