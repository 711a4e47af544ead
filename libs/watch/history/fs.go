package history

import (
	"io"
	"os"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// mortalFS passes everything on to a file system until something cannot be written, the directory being gone or the
// disk full. From then on what is written goes into memory, where it stays until the store is thrown away, which is
// soon: Pebble ends the process, or waits for ever, when it cannot write, and a cache is not worth either.
type mortalFS struct {
	vfs.FS
	grave  *vfs.MemFS
	fail   func(error)
	dead   atomic.Bool
	locked atomic.Bool // the lock of the directory was refused
}

func newMortalFS(fs vfs.FS, fail func(error)) *mortalFS {
	return &mortalFS{FS: fs, grave: vfs.NewMem(), fail: fail}
}

// die notes a failed write.
func (m *mortalFS) die(err error) {
	m.dead.Store(true)
	m.fail(err)
}

// Lock implements vfs.FS.
func (m *mortalFS) Lock(name string) (io.Closer, error) {
	l, err := m.FS.Lock(name)
	if err != nil {
		m.locked.Store(true)
	}
	return l, err
}

// Create implements vfs.FS.
func (m *mortalFS) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	if !m.dead.Load() {
		f, err := m.FS.Create(name, c)
		if err == nil {
			return &mortalFile{f, m}, nil
		}
		m.die(err)
	}
	if err := m.grave.MkdirAll(m.PathDir(name), 0o700); err != nil {
		return nil, err
	}
	return m.grave.Create(name, c)
}

// ReuseForWrite implements vfs.FS.
func (m *mortalFS) ReuseForWrite(oldName, newName string, c vfs.DiskWriteCategory) (vfs.File, error) {
	if err := m.Remove(oldName); err != nil {
		return nil, err
	}
	return m.Create(newName, c)
}

// Open implements vfs.FS. A file that is not there is an error of the read that wants it.
func (m *mortalFS) Open(name string, o ...vfs.OpenOption) (vfs.File, error) {
	f, err := m.FS.Open(name, o...)
	if err != nil && m.dead.Load() {
		return m.grave.Open(name, o...)
	}
	return f, err
}

// OpenDir implements vfs.FS.
func (m *mortalFS) OpenDir(name string) (vfs.File, error) {
	if !m.dead.Load() {
		f, err := m.FS.OpenDir(name)
		if err == nil {
			return &mortalFile{f, m}, nil
		}
		m.die(err)
	}
	if err := m.grave.MkdirAll(name, 0o700); err != nil {
		return nil, err
	}
	return m.grave.OpenDir(name)
}

// Stat implements vfs.FS.
func (m *mortalFS) Stat(name string) (vfs.FileInfo, error) {
	i, err := m.FS.Stat(name)
	if err != nil && m.dead.Load() {
		return m.grave.Stat(name)
	}
	return i, err
}

// Remove implements vfs.FS. A file that is gone already is as good as removed.
func (m *mortalFS) Remove(name string) error {
	if err := m.FS.Remove(name); err != nil && !os.IsNotExist(err) && !m.dead.Load() {
		m.die(err)
	}
	return nil
}

// Rename implements vfs.FS.
func (m *mortalFS) Rename(oldName, newName string) error {
	if !m.dead.Load() {
		err := m.FS.Rename(oldName, newName)
		if err == nil {
			return nil
		}
		m.die(err)
	}
	_ = m.grave.Rename(oldName, newName) // nobody looks for it
	return nil
}

// mortalFile is a file that is written, or a directory.
type mortalFile struct {
	vfs.File
	fs *mortalFS
}

func (f *mortalFile) survive(err error) error {
	if err != nil {
		f.fs.die(err)
	}
	return nil
}

// Write implements vfs.File.
func (f *mortalFile) Write(p []byte) (int, error) {
	_, err := f.File.Write(p)
	return len(p), f.survive(err)
}

// WriteAt implements vfs.File.
func (f *mortalFile) WriteAt(p []byte, at int64) (int, error) {
	_, err := f.File.WriteAt(p, at)
	return len(p), f.survive(err)
}

// Preallocate implements vfs.File. If it fails, so do writes, or it does not matter.
func (f *mortalFile) Preallocate(at, n int64) error {
	_ = f.File.Preallocate(at, n)
	return nil
}

// Sync implements vfs.File.
func (f *mortalFile) Sync() error { return f.survive(f.File.Sync()) }

// SyncData implements vfs.File.
func (f *mortalFile) SyncData() error { return f.survive(f.File.SyncData()) }

// SyncTo implements vfs.File.
func (f *mortalFile) SyncTo(n int64) (full bool, err error) {
	full, err = f.File.SyncTo(n)
	return full, f.survive(err)
}
