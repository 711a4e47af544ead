package pebble

import (
	"errors"
	"hash/crc32"
	"io"
	"strings"
	"sync"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// ledgerFS is the file system that Pebble sees. It writes down in the ledger what Pebble does, at the moments at
// which the ledger must know:
//
//   - a log, when its name is durable and before anything is in it; its size, when it has been closed, with the next
//     line;
//   - a table, when it is complete and before the manifest names it;
//   - the manifest, when it has been synced and before Pebble acts upon that, by removing logs and tables;
//   - a marker, when it is durable and before Pebble acts upon it.
//
// So the ledger never claims what a crash can take away, and whatever Pebble has removed was superseded by something
// that the ledger knows.
type ledgerFS struct {
	vfs.FS
	l *ledger

	mu    sync.RWMutex // held for writing while markers are written down, so that no sync overtakes that
	moved []string     // markers created, to be written down with the next sync of the directory
}

// fileKind is what a file of Pebble's is, by its name.
type fileKind int

const (
	kindOther fileKind = iota
	kindLog
	kindTable
	kindManifest
	kindMarker
	kindOptions
	kindValues
)

func kindOf(name string) fileKind {
	switch {
	case strings.HasSuffix(name, ".log"):
		return kindLog
	case strings.HasSuffix(name, ".sst"), strings.HasSuffix(name, ".blob"):
		return kindTable
	case strings.HasPrefix(name, "MANIFEST-"):
		return kindManifest
	case strings.HasPrefix(name, "marker."):
		return kindMarker
	case strings.HasPrefix(name, "OPTIONS-"):
		return kindOptions
	case strings.HasSuffix(name, valuesExt):
		return kindValues
	}
	return kindOther
}

// Unwrap implements vfs.FS.
func (f *ledgerFS) Unwrap() vfs.FS { return f.FS }

// List implements vfs.FS. Pebble must not see the fence, which its own check of markers would refuse.
func (f *ledgerFS) List(dir string) ([]string, error) {
	names, err := f.FS.List(dir)
	kept := names[:0]
	for _, name := range names {
		if name != fenceName {
			kept = append(kept, name)
		}
	}
	return kept, err
}

// Create implements vfs.FS.
func (f *ledgerFS) Create(path string, c vfs.DiskWriteCategory) (vfs.File, error) {
	name := f.PathBase(path)
	if kindOf(name) == kindMarker {
		// What it names is there for good before it is.
		if err := f.l.syncDir(); err != nil {
			return nil, err
		}
	}
	file, err := f.FS.Create(path, c)
	if kindOf(name) == kindLog {
		return f.openedLog(file, name, "-", err)
	}
	if err != nil {
		return nil, err
	}
	switch kindOf(name) {
	case kindTable:
		return &writtenTable{File: file, l: f.l, name: name}, nil
	case kindManifest:
		return &writtenManifest{File: file, l: f.l, name: name}, nil
	case kindMarker:
		f.markerMoved(name)
	}
	return file, nil
}

// ReuseForWrite implements vfs.FS.
func (f *ledgerFS) ReuseForWrite(from, to string, c vfs.DiskWriteCategory) (vfs.File, error) {
	file, err := f.FS.ReuseForWrite(from, to, c)
	if err == nil {
		f.l.later(itemGone + " " + f.PathBase(from))
	}
	return f.openedLog(file, f.PathBase(to), f.PathBase(from), err)
}

// openedLog writes down that a log exists. err is what opening it has said.
func (f *ledgerFS) openedLog(file vfs.File, name, from string, err error) (vfs.File, error) {
	if err != nil {
		return nil, err
	}
	if err = f.l.syncDir(); err == nil {
		err = f.l.add(logItem(name, f.l.nonce, from))
	}
	if err != nil {
		_ = file.Close()
		return nil, err
	}
	return &writtenLog{File: file, l: f.l, name: name}, nil
}

// Rename implements vfs.FS.
func (f *ledgerFS) Rename(from, to string) error {
	if err := f.FS.Rename(from, to); err != nil {
		return err
	}
	name := f.PathBase(to)
	switch kindOf(name) {
	case kindOptions:
		e, err := prefixOf(f.FS, to, -1)
		if err != nil {
			return err
		}
		f.l.later(fileItem(itemOptions, name, e))
	case kindTable:
		return f.foundTable(to)
	}
	return nil
}

// Link implements vfs.FS.
func (f *ledgerFS) Link(from, to string) error {
	if err := f.FS.Link(from, to); err != nil || kindOf(f.PathBase(to)) != kindTable {
		return err
	}
	return f.foundTable(to)
}

func (f *ledgerFS) foundTable(path string) error {
	e, err := tailOf(f.FS, path)
	if err == nil {
		f.l.later(fileItem(itemTable, f.PathBase(path), e))
	}
	return err
}

// Remove implements vfs.FS.
func (f *ledgerFS) Remove(path string) error {
	name := f.PathBase(path)
	kind := kindOf(name)
	if kind == kindMarker {
		// The new marker's name is durable before the old one goes: at no time is there none.
		if err := f.l.syncDir(); err != nil {
			return err
		}
	}
	err := f.FS.Remove(path)
	if err == nil && kind != kindOther && kind != kindMarker {
		f.l.later(itemGone + " " + name)
	}
	return err
}

// OpenDir implements vfs.FS.
func (f *ledgerFS) OpenDir(dir string) (vfs.File, error) {
	file, err := f.FS.OpenDir(dir)
	if err != nil {
		return nil, err
	}
	return &syncedDir{file, f}, nil
}

func (f *ledgerFS) markerMoved(name string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.moved = append(f.moved, itemMarker+" "+name)
}

// syncMarkers syncs the directory and writes down the markers that have moved; false if there are none.
func (f *ledgerFS) syncMarkers(dir vfs.File) (bool, error) {
	f.mu.RLock()
	n := len(f.moved)
	f.mu.RUnlock()
	if n == 0 {
		return false, nil
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	err := dir.Sync()
	if err == nil && len(f.moved) > 0 {
		err = f.l.add(f.moved...)
		f.moved = nil
	}
	return true, err
}

// syncedDir is the store's directory.
type syncedDir struct {
	vfs.File
	fs *ledgerFS
}

// Sync implements vfs.File.
func (d *syncedDir) Sync() error {
	if done, err := d.fs.syncMarkers(d.File); done {
		return err
	}
	return d.File.Sync()
}

// writtenLog is a log that is being written.
type writtenLog struct {
	vfs.File
	l    *ledger
	name string
	extent
	dirty bool
}

// Write implements vfs.File.
func (w *writtenLog) Write(p []byte) (int, error) {
	w.dirty = true
	sum := crc32.Update(w.sum, castagnoli, p) // before: Write may change p
	n, err := w.File.Write(p)
	if err == nil {
		w.size, w.sum = w.size+int64(len(p)), sum
	}
	return n, err
}

// Sync implements vfs.File.
func (w *writtenLog) Sync() error { return w.synced(w.File.Sync()) }

// SyncData implements vfs.File.
func (w *writtenLog) SyncData() error { return w.synced(w.File.SyncData()) }

func (w *writtenLog) synced(err error) error {
	if err == nil {
		w.dirty = false
	}
	return err
}

// Close implements vfs.File.
func (w *writtenLog) Close() error {
	err := w.File.Close()
	if err == nil && !w.dirty {
		w.l.later(fileItem(itemClosed, w.name, w.extent))
	}
	return err
}

// writtenTable is a table that is being written.
type writtenTable struct {
	vfs.File
	l     *ledger
	name  string
	size  int64
	tail  []byte
	dirty bool // not synced
	torn  bool // a write has failed: Pebble gives the table up, and syncs what there is of it nevertheless
}

// Write implements vfs.File.
func (t *writtenTable) Write(p []byte) (int, error) {
	t.dirty = true
	t.size += int64(len(p))
	t.tail = append(t.tail, p[max(0, len(p)-tailBytes):]...)
	t.tail = append(t.tail[:0], t.tail[max(0, len(t.tail)-tailBytes):]...)
	n, err := t.File.Write(p)
	t.torn = t.torn || err != nil
	return n, err
}

// Sync implements vfs.File.
func (t *writtenTable) Sync() error { return t.synced(t.File.Sync()) }

// SyncData implements vfs.File.
func (t *writtenTable) SyncData() error { return t.synced(t.File.SyncData()) }

func (t *writtenTable) synced(err error) error {
	if err == nil {
		t.dirty = false
	}
	return err
}

// Close implements vfs.File. A table that Pebble gives up is not complete, and a crash may change it.
func (t *writtenTable) Close() error {
	err := t.File.Close()
	if err == nil && !t.dirty && !t.torn {
		t.l.later(fileItem(itemTable, t.name, extent{t.size, crc32.Checksum(t.tail, castagnoli)}))
	}
	return err
}

// writtenManifest is the manifest that is being written.
type writtenManifest struct {
	vfs.File
	l    *ledger
	name string
	extent
}

// Write implements vfs.File. Tables that the record may name are in the ledger first.
func (m *writtenManifest) Write(p []byte) (int, error) {
	if err := m.l.settle(); err != nil {
		return 0, err
	}
	sum := crc32.Update(m.sum, castagnoli, p)
	n, err := m.File.Write(p)
	if err == nil {
		m.size, m.sum = m.size+int64(len(p)), sum
	}
	return n, err
}

// Sync implements vfs.File.
func (m *writtenManifest) Sync() error {
	if err := m.File.Sync(); err != nil {
		return err
	}
	return m.l.add(fileItem(itemManifest, m.name, m.extent))
}

// prefixOf returns the extent of a file's first size bytes, or of as many as there are; of all if size is negative.
func prefixOf(fs vfs.FS, path string, size int64) (extent, error) {
	f, err := fs.Open(path)
	if err != nil {
		return extent{}, err
	}
	defer func() { _ = f.Close() }()
	var r io.Reader = f
	if size >= 0 {
		r = io.LimitReader(f, size)
	}
	h := crc32.New(castagnoli)
	n, err := io.CopyBuffer(h, r, make([]byte, 256<<10))
	return extent{n, h.Sum32()}, err
}

// tailOf returns the size of a table and the checksum of its end.
func tailOf(fs vfs.FS, path string) (extent, error) {
	f, err := fs.Open(path)
	if err != nil {
		return extent{}, err
	}
	defer func() { _ = f.Close() }()
	st, err := f.Stat()
	if err != nil {
		return extent{}, err
	}
	tail := make([]byte, min(st.Size(), tailBytes))
	if _, err := f.ReadAt(tail, st.Size()-int64(len(tail))); err != nil && !errors.Is(err, io.EOF) {
		return extent{}, err
	}
	return extent{st.Size(), crc32.Checksum(tail, castagnoli)}, nil
}
