package pebble

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/headwaterdb/headwater/libs/engine"
)

// isNoSpace reports whether err means that the disk, or the quota on it, is used up.
func isNoSpace(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}

// spaceFS is the file system under Pebble. A table that finds no space fails, is deleted and is written again later;
// one that a compaction writes fails before it takes what logs and memtables need. The log, the manifest and the
// small files around them cannot fail without taking the store down, so these operations wait for space; what is
// admitted (space.admit) sees to it that they only do when another process has taken it. It also allocates logs in
// chunks, and times their syncs.
type spaceFS struct {
	vfs.FS
	sp *space
}

// mustWrite reports whether writes of the file must not fail for lack of space.
func mustWrite(name string) bool {
	return !strings.HasSuffix(name, ".sst") && !strings.HasSuffix(name, ".blob")
}

// Categories that Pebble gives the tables that it writes.
const (
	compactionCategory = "pebble-compaction"
	flushCategory      = "pebble-memtable-flush"
)

// Unwrap implements vfs.FS.
func (f *spaceFS) Unwrap() vfs.FS { return f.FS }

func (f *spaceFS) wrap(file vfs.File, name string, c vfs.DiskWriteCategory) vfs.File {
	if file == nil {
		return nil
	}
	s := spaceFile{File: file, sp: f.sp, must: mustWrite(name)}
	switch {
	case filepath.Ext(name) == ".log":
		return &logFile{spaceFile: s, chunk: int64(f.sp.logChunk)}
	case !s.must && c == compactionCategory:
		return &compactionFile{spaceFile: s}
	case !s.must && c == flushCategory:
		return &flushFile{s}
	}
	return &s
}

// Create implements vfs.FS.
func (f *spaceFS) Create(name string, c vfs.DiskWriteCategory) (file vfs.File, err error) {
	if c == compactionCategory && !mustWrite(name) {
		if err := f.sp.mayCompact(); err != nil {
			return nil, f.sp.slow(false, err)
		}
	}
	err = f.sp.retry(mustWrite(name), func() error {
		file, err = f.FS.Create(name, c)
		if c == flushCategory && isNoSpace(err) {
			f.sp.noFlush.Store(true)
		}
		return err
	})
	return f.wrap(file, name, c), err
}

// OpenReadWrite implements vfs.FS.
func (f *spaceFS) OpenReadWrite(name string, c vfs.DiskWriteCategory, o ...vfs.OpenOption) (file vfs.File, err error) {
	err = f.sp.retry(mustWrite(name), func() error { file, err = f.FS.OpenReadWrite(name, c, o...); return err })
	return f.wrap(file, name, c), err
}

// ReuseForWrite implements vfs.FS. A log that was to be reused may have been trimmed.
func (f *spaceFS) ReuseForWrite(from, to string, c vfs.DiskWriteCategory) (file vfs.File, err error) {
	err = f.sp.retry(mustWrite(to), func() error { file, err = f.FS.ReuseForWrite(from, to, c); return err })
	if errors.Is(err, fs.ErrNotExist) {
		return f.Create(to, c)
	}
	wrapped := f.wrap(file, to, c)
	if l, ok := wrapped.(*logFile); ok {
		if i, err := file.Stat(); err == nil {
			l.allocated = i.Size()
		}
	}
	return wrapped, err
}

// Link implements vfs.FS.
func (f *spaceFS) Link(from, to string) error {
	return f.sp.retry(mustWrite(to), func() error { return f.FS.Link(from, to) })
}

// Rename implements vfs.FS.
func (f *spaceFS) Rename(from, to string) error {
	return f.sp.retry(mustWrite(to), func() error { return f.FS.Rename(from, to) })
}

// MkdirAll implements vfs.FS.
func (f *spaceFS) MkdirAll(dir string, perm os.FileMode) error {
	return f.sp.retry(true, func() error { return f.FS.MkdirAll(dir, perm) })
}

// spaceFile is a file opened for writing.
type spaceFile struct {
	vfs.File
	sp   *space
	must bool
}

// Write implements vfs.File.
func (f *spaceFile) Write(p []byte) (int, error) {
	n, err := f.File.Write(p)
	if err == nil || !isNoSpace(err) {
		return n, f.sp.slow(f.must, err)
	}
	err = f.sp.retry(f.must, func() error {
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
		return n, f.sp.slow(f.must, err)
	}
	err = f.sp.retry(f.must, func() error {
		var m int
		m, err = f.File.WriteAt(p[n:], at+int64(n))
		n += m
		return err
	})
	return n, err
}

// compactionFile is a table that a compaction writes.
type compactionFile struct {
	spaceFile
	unchecked int // bytes since the last check
}

// compactionCheckBytes is how much a compaction writes before the free space is checked again.
const compactionCheckBytes = 64 << 10

// Write implements vfs.File.
func (f *compactionFile) Write(p []byte) (int, error) {
	if f.unchecked += len(p); f.unchecked > compactionCheckBytes {
		f.unchecked = 0
		if err := f.sp.mayCompact(); err != nil {
			return 0, f.sp.slow(false, err)
		}
	}
	return f.spaceFile.Write(p)
}

// flushFile is a table that a memtable is written out to.
type flushFile struct{ spaceFile }

// Write implements vfs.File. A store that is being closed and waits no longer abandons the table.
func (f *flushFile) Write(p []byte) (int, error) {
	select {
	case <-f.sp.s.hurry:
		return 0, engine.ErrClosed
	default:
	}
	n, err := f.File.Write(p)
	if err == nil || !isNoSpace(err) {
		return n, err
	}
	f.sp.noFlush.Store(true) // set at once, so that commits do not pile up
	m, err := f.spaceFile.Write(p[n:])
	return n + m, err
}

// logFile is a file of the write-ahead log.
type logFile struct {
	spaceFile
	chunk     int64 // what is allocated at a time
	allocated int64
	size      int64 // written
}

// Preallocate implements vfs.File: Pebble asks for a memtable's worth at once, which is much for a log that may stay
// short. Write allocates as it goes.
func (f *logFile) Preallocate(int64, int64) error { return nil }

// Write implements vfs.File.
func (f *logFile) Write(p []byte) (int, error) {
	for f.chunk > 0 && f.size+int64(len(p)) > f.allocated {
		_ = f.File.Preallocate(f.allocated, f.chunk) // if this fails, the write fails and says why
		f.allocated += f.chunk
	}
	n, err := f.spaceFile.Write(p)
	f.size += int64(n)
	return n, err
}

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
