package pebble

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"slices"
	"strings"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// openLedger checks the store in dir against its ledger, and returns the open ledger. An empty directory gets a new
// ledger. A store written by a release that kept no ledger gets one if adopt is set. Otherwise it is checked as far as
// possible without a ledger, and stays as that release left it. After an error nothing in the directory has been
// changed, unless the error is the file system's.
func openLedger(fsys vfs.FS, dir string, adopt bool) (*ledger, error) {
	names, err := fsys.List(dir)
	if err != nil {
		return nil, err
	}
	slices.Sort(names)
	c := &checker{fs: fsys, dir: dir, names: names}
	if err := c.load(); err != nil {
		return nil, err
	}
	l := &ledger{fs: fsys, dir: dir, nonce: randomID(), state: c.state, lost: c.lost}
	l.state.nonce, l.state.stopped = l.nonce, false
	l.unwritten = c.old && !adopt
	l.empty, l.unsynced, l.fenced, l.adopted = c.empty, c.unsynced, c.has(fenceName), c.old
	l.openLog = c.openLog
	l.created = !c.old && !c.has(ledgerName)
	return l, nil
}

// upgrade makes the ledger one that may list value files. It must be called before begin.
func (l *ledger) upgrade() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.state.version = ledgerOfValues
}

// raise makes a ledger that has been made anew, without value files in sight, one that may list some.
func (l *ledger) raise() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.state.version >= ledgerOfValues {
		return nil
	}
	l.state.version = ledgerOfValues
	if l.file == nil { // begin writes it, or it is in memory only
		return nil
	}
	l.err = l.rewrite()
	return l.err
}

// ofValues reports whether the ledger may list value files.
func (l *ledger) ofValues() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.state.version >= ledgerOfValues
}

// valueFiles returns the value files that are listed.
func (l *ledger) valueFiles() map[string]valuesEntry {
	l.mu.Lock()
	defer l.mu.Unlock()
	return maps.Clone(l.state.values)
}

// begin records that this process opens the store. Until then nothing has been changed, and Pebble may be opened
// read-only. After an error, of begin or of a later line, it may be called again, and then rewrites the ledger. Once it
// has succeeded it does nothing.
func (l *ledger) begin() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.begun && l.err == nil {
		return nil
	}
	err := l.clear()
	if err == nil && !l.unwritten {
		err = l.writeAll()
	}
	if err == nil {
		l.begun, l.err = true, nil
		l.empty, l.unsynced = nil, nil // once only: from now on the files are Pebble's
	}
	return err
}

// writeAll writes the whole ledger, and the fence.
func (l *ledger) writeAll() error {
	if err := l.harden(); err != nil {
		return err
	}
	if err := l.rewrite(); err != nil || l.fenced {
		return err
	}
	err := l.writeFence()
	l.fenced = err == nil
	return err
}

// writeFence makes older releases refuse the directory. It must follow the ledger: a fence without a ledger means a
// lost ledger.
func (l *ledger) writeFence() error {
	f, err := l.fs.Create(l.path(fenceName), vfs.WriteCategoryUnspecified)
	if err != nil {
		return err
	}
	_, err = f.Write([]byte(fenceText))
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = l.syncDir()
	}
	return err
}

// hasManifest reports whether the store has been created.
func (l *ledger) hasManifest() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.state.markers[markManifest] != ""
}

// checker compares a directory with a ledger.
type checker struct {
	fs    vfs.FS
	dir   string
	names []string // of the files, sorted
	state *ledgerState
	old   bool // there is a store, but no ledger
	exact bool // the store was closed: nothing may differ
	minLog,
	lastSeq uint64 // what the manifest says: older logs are not needed; the last sequence number it knows
	lost    []string // tables that are not there: removed, unless the manifest names them
	openLog string   // the log that a killed process was writing to; "": it was not killed
	// unsynced are files in which more was found than is known to be durable: the last process may have been killed
	// before it synced them.
	unsynced []string
	empty    []string // logs without a record, to be emptied, for Pebble takes the rest of one for damage later
}

func (c *checker) path(name string) string { return c.fs.PathJoin(c.dir, name) }

func (c *checker) has(name string) bool {
	_, found := slices.BinarySearch(c.names, name)
	return found
}

// load finds or makes the state and checks the files.
func (c *checker) load() error {
	switch {
	case c.has(ledgerName):
		b, err := c.read(ledgerName)
		if err != nil {
			return err
		}
		if c.state, err = parseLedger(b); err != nil {
			return err
		}
		c.exact = c.state.stopped
		return c.check()
	case c.has(fenceName):
		return refused(ledgerName, "is missing")
	}
	c.state = newLedgerState(fmt.Sprintf("%016x%016x", randomID(), randomID()))
	if i := slices.IndexFunc(c.names, ofStore); i >= 0 {
		c.old = true
		return c.adopt(c.names[i])
	}
	return nil
}

// ofStore reports whether a file with this name is part of a store. Where there is one, no new store is created.
func ofStore(name string) bool {
	return kindOf(name) != kindOther || name == "CURRENT" || strings.HasSuffix(name, ".dbtmp")
}

// read returns a small file's contents.
func (c *checker) read(name string) ([]byte, error) {
	f, err := c.fs.Open(c.path(name))
	if err != nil {
		return nil, unreadable(name, err)
	}
	defer func() { _ = f.Close() }()
	b, err := io.ReadAll(f)
	if err != nil {
		return nil, unreadable(name, err)
	}
	return b, nil
}

// unreadable says why a file cannot be read: it is missing, the disk fails, or access is denied.
func unreadable(name string, err error) error {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return refused(name, "is missing")
	case errors.Is(err, fs.ErrPermission):
		return err
	}
	return refused(name, fmt.Sprintf("cannot be read (%v)", cause(err)))
}

// harden syncs what the checks have found and the ledger is about to record. Otherwise a power loss could take it back.
func (l *ledger) harden() error {
	for _, name := range l.unsynced {
		f, err := l.fs.Open(l.path(name))
		if err != nil {
			return err
		}
		if err := errors.Join(f.Sync(), f.Close()); err != nil {
			return err
		}
	}
	if len(l.unsynced) == 0 {
		return nil
	}
	return l.syncDir()
}

// clear empties the logs that have no record, after all checks.
func (l *ledger) clear() error {
	for _, name := range l.empty {
		f, err := l.fs.Create(l.path(name), vfs.WriteCategoryUnspecified)
		if err != nil {
			return err
		}
		if err := errors.Join(f.Sync(), f.Close()); err != nil {
			return err
		}
	}
	if len(l.empty) == 0 {
		return nil
	}
	return l.syncDir()
}

// adopt creates a ledger state for a store without a ledger. one is one of the store's files.
func (c *checker) adopt(one string) error {
	for _, mark := range []string{markManifest, markFormat} {
		m := newestMarker(c.names, mark)
		if m.name == "" {
			return refused(mark+"*", fmt.Sprintf("is missing, although there are files of a store (%s)", one))
		}
		c.state.markers[mark] = m.name
	}
	manifest := newestMarker(c.names, markManifest).value
	e, err := prefixOf(c.fs, c.path(manifest), -1)
	if err != nil {
		return unreadable(manifest, err)
	}
	c.unsynced = append(c.unsynced, manifest)
	c.state.manifests[manifest] = e
	if err := c.readManifest(manifest); err != nil {
		return err
	}
	for _, name := range c.names {
		if kindOf(name) != kindTable {
			continue
		}
		if c.state.tables[name], err = tailOf(c.fs, c.path(name)); err != nil {
			return unreadable(name, err)
		}
		c.unsynced = append(c.unsynced, name)
	}
	c.adoptValues()
	return c.adoptLogs()
}

// adoptLogs does this for the logs. A missing log can be detected only by a gap in the sequence numbers.
func (c *checker) adoptLogs() error {
	logs := c.logs()
	next := c.lastSeq + 1
	for i, name := range logs {
		scan, err := c.scan(name, 0)
		switch {
		case err != nil:
			return err
		case scan.proof, scan.torn && i < len(logs)-1:
			return refused(name, fmt.Sprintf("is damaged at byte %d", scan.end))
		case scan.gap, scan.records > 0 && (i == 0 && scan.firstSeq > next || i > 0 && scan.firstSeq != next):
			return refused(name, "does not follow what is before it: a log is missing, or the manifest is an old one")
		case scan.records > 0:
			next = scan.nextSeq
		case i == 0 && next < firstSeq:
			next = firstSeq
		}
		if err := c.closeLog(name, scan); err != nil {
			return err
		}
	}
	return nil
}

// firstSeq is Pebble's first sequence number in a new store.
const firstSeq = 10
