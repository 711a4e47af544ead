package pebble

import (
	"fmt"
	"sync"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// ledgerRewrite is the size at which the ledger is rewritten, if that makes it much smaller.
const ledgerRewrite = 1 << 20

// ledgerRoom is the space that is allocated in advance for further lines, so that they can be written on a full disk.
const ledgerRoom = 64 << 10

// ledger is the open ledger of a store. Its methods may be called from any goroutine. After an error it accepts nothing
// more: every later call returns that error.
type ledger struct {
	fs    vfs.FS // below ledgerFS
	dir   string
	nonce uint64 // of this process; never changes
	// unwritten: the store belongs to a release that kept no ledger, and this one is in memory only; never changes
	// after openLedger.
	unwritten bool
	unsynced  []string // files to be synced by begin
	empty     []string // logs without a record, to be emptied by begin
	fenced    bool     // the fence was there when the ledger was opened
	lost      []string // tables that were listed and not there when the ledger was opened; never changes
	openLog   string   // the log that a killed process was writing to; "": it was not killed; never changes
	adopted   bool     // there was a store without a ledger when this one was opened; never changes
	created   bool     // there was neither a store nor a ledger then; never changes

	mu     sync.Mutex
	begun  bool
	state  *ledgerState
	file   vfs.File
	number int   // of the next line
	size   int64 // of the file
	fresh  int64 // of the file when it was written anew
	err    error

	// A mutex of its own, the inner one: what only adds to pending never waits for a line that waits for space. It may
	// be a removal, which makes some.
	pendingMu sync.Mutex
	pending   []string
}

func (l *ledger) path(name string) string { return l.fs.PathJoin(l.dir, name) }

// syncDir syncs the directory: names that have been made in it last.
func (l *ledger) syncDir() error {
	d, err := l.fs.OpenDir(l.dir)
	if err != nil {
		return err
	}
	err = d.Sync()
	if e := d.Close(); err == nil {
		err = e
	}
	return err
}

// later adds items that the next line may tell.
func (l *ledger) later(items ...string) {
	l.pendingMu.Lock()
	defer l.pendingMu.Unlock()
	l.pending = append(l.pending, items...)
}

// takePending returns what is pending, which is then the caller's to write.
func (l *ledger) takePending() []string {
	l.pendingMu.Lock()
	defer l.pendingMu.Unlock()
	items := l.pending
	l.pending = nil
	return items
}

// settle writes down what is pending. Afterwards it is durable.
func (l *ledger) settle() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	items := l.takePending()
	if len(items) == 0 {
		return l.err
	}
	return l.write(items)
}

// add writes items down, after what is pending. Afterwards they are durable.
func (l *ledger) add(items ...string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.write(append(l.takePending(), items...))
}

// write appends a line. l.mu is held.
func (l *ledger) write(items []string) error {
	if l.err != nil {
		return l.err
	}
	for _, item := range items {
		if err := l.state.apply(item); err != nil {
			l.err = fmt.Errorf("ledger: %q: %w", item, err)
			return l.err
		}
	}
	if l.unwritten {
		return nil
	}
	if l.size > ledgerRewrite && l.size > 4*l.fresh && !l.state.stopped {
		l.err = l.rewrite()
		return l.err
	}
	line := appendLine(nil, l.number, items)
	l.number++
	l.size += int64(len(line))
	if _, l.err = l.file.Write(line); l.err == nil {
		l.err = l.file.SyncData()
	}
	if l.err != nil {
		l.err = fmt.Errorf("ledger: %w", l.err)
	}
	return l.err
}

// rewrite replaces the file by what the state says, at once. l.mu is held.
func (l *ledger) rewrite() error {
	b, lines := l.state.encode()
	f, err := l.fs.Create(l.path(ledgerTmp), vfs.WriteCategoryUnspecified)
	if err != nil {
		return fmt.Errorf("ledger: %w", err)
	}
	_ = f.Preallocate(0, int64(len(b))+ledgerRoom) // lines do without
	if _, err = f.Write(b); err == nil {
		err = f.Sync()
	}
	if err == nil {
		err = l.fs.Rename(l.path(ledgerTmp), l.path(ledgerName))
	}
	if err == nil {
		err = l.syncDir()
	}
	if err != nil {
		_ = f.Close()
		_ = l.fs.Remove(l.path(ledgerTmp)) // it takes space
		return fmt.Errorf("ledger: %w", err)
	}
	if l.file != nil {
		_ = l.file.Close()
	}
	l.file, l.number, l.size, l.fresh = f, lines, int64(len(b)), int64(len(b))
	return nil
}

// close ends the ledger. stopped says that the store has been closed properly: what the ledger says is exact from now
// on.
func (l *ledger) close(stopped bool) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.file == nil {
		return nil
	}
	var err error
	if stopped {
		err = l.write(append(l.takePending(), itemStopped))
	}
	_ = l.file.Close()
	l.file = nil
	if l.err == nil {
		l.err = fmt.Errorf("ledger: closed")
	}
	return err
}
