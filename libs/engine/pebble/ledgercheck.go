package pebble

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/cockroachdb/pebble/v2/record"
)

// check compares the files with the ledger, and takes out of the state what is gone and not needed.
func (c *checker) check() error {
	if err := c.checkMarkers(); err != nil {
		return err
	}
	for _, check := range []func() error{c.checkManifest, c.checkTables, c.checkLogs, c.checkOptions, c.checkValues} {
		if err := check(); err != nil {
			return err
		}
	}
	return nil
}

// marker is one of Pebble's markers: "marker.<what>.<count>.<value>".
type marker struct {
	name  string
	count uint64
	value string
}

func parseMarker(name, prefix string) (marker, bool) {
	rest, ok := strings.CutPrefix(name, prefix)
	count, value, ok2 := strings.Cut(rest, ".")
	n, err := strconv.ParseUint(count, 10, 64)
	return marker{name, n, value}, ok && ok2 && err == nil
}

// newestMarker returns the marker that Pebble goes by; one without a name if there is none.
func newestMarker(names []string, prefix string) (newest marker) {
	for _, name := range names {
		if m, ok := parseMarker(name, prefix); ok && (newest.name == "" || m.count > newest.count) {
			newest = m
		}
	}
	return newest
}

// checkMarkers checks that the markers are those of the ledger, or newer ones that a killed process had no time to
// write down.
func (c *checker) checkMarkers() error {
	for _, mark := range []string{markManifest, markFormat} {
		found, listed := newestMarker(c.names, mark), c.state.markers[mark]
		if found.name == listed {
			continue
		}
		if found.name == "" {
			return refused(listed, "is missing")
		}
		known := true
		if mark == markManifest {
			_, known = c.state.manifests[found.value]
			known = known && !c.exact
		}
		if old, _ := parseMarker(listed, mark); !known || listed != "" && found.count <= old.count {
			return refused(found.name, fmt.Sprintf("is not the newest marker in the ledger (%s)", orNone(listed)))
		}
		c.state.markers[mark] = found.name
	}
	return nil
}

func orNone(name string) string {
	if name == "" {
		return "none"
	}
	return name
}

// checkManifest checks that the manifest begins with what has been synced of it. What follows may be lost and found:
// nothing has been done yet that rests on it.
func (c *checker) checkManifest() error {
	maps.DeleteFunc(c.state.manifests, func(name string, _ extent) bool { return !c.has(name) && name != c.current() })
	name := c.current()
	if name == "" {
		return nil
	}
	want, ok := c.state.manifests[name]
	if !ok {
		return refused(name, "is not in the ledger")
	}
	if err := c.checkPrefix(name, want, c.exact); err != nil {
		return err
	}
	if !c.exact {
		c.unsynced = append(c.unsynced, name)
	}
	return c.readManifest(name)
}

// current returns the name of the manifest that counts.
func (c *checker) current() string {
	m, _ := parseMarker(c.state.markers[markManifest], markManifest)
	return m.value
}

// checkPrefix checks that a file begins with want, and that it is no longer than that if exact.
func (c *checker) checkPrefix(name string, want extent, exact bool) error {
	got, err := prefixOf(c.fs, c.path(name), want.size)
	if err != nil {
		return unreadable(name, err)
	}
	if got.size < want.size {
		return refused(name, fmt.Sprintf("is cut: it has %d bytes of %d", got.size, want.size))
	}
	if got.sum != want.sum {
		return refused(name, "is damaged, an older copy, or another store's")
	}
	if exact {
		if st, err := c.fs.Stat(c.path(name)); err != nil || st.Size() != want.size {
			return refused(name, fmt.Sprintf("is longer than the %d bytes that it had", want.size))
		}
	}
	return nil
}

// Tags of a record in the manifest. Pebble writes those that are wanted here first.
const (
	tagComparator = 1
	tagLogNumber  = 2
	tagNextFile   = 3
	tagLastSeq    = 4
	tagPrevLog    = 9
	tagNewBacking = 105
	tagOldBacking = 106
)

// readManifest finds out from which log on logs are needed.
func (c *checker) readManifest(name string) error {
	f, err := c.fs.Open(c.path(name))
	if err != nil {
		return unreadable(name, err)
	}
	defer func() { _ = f.Close() }()
	for rr := record.NewReader(f, 0); ; {
		r, err := rr.Next()
		var b []byte
		if err == nil {
			b, err = io.ReadAll(r)
		}
		if errors.Is(err, io.EOF) || record.IsInvalidRecord(err) {
			return nil // as Pebble: a record that is not whole was never acted upon
		}
		if err != nil {
			return unreadable(name, err)
		}
		c.readEdit(bytes.NewReader(b))
	}
}

// readEdit reads the beginning of one record of the manifest.
func (c *checker) readEdit(r *bytes.Reader) {
	number := func() uint64 { n, _ := binary.ReadUvarint(r); return n }
	for {
		switch tag, err := binary.ReadUvarint(r); {
		case err != nil:
			return
		case tag == tagComparator:
			_, _ = r.Seek(int64(number()), io.SeekCurrent)
		case tag == tagLogNumber:
			c.minLog = number()
		case tag == tagNextFile, tag == tagPrevLog, tag == tagOldBacking:
			number()
		case tag == tagNewBacking:
			number()
			number()
		case tag == tagLastSeq:
			if n := number(); n != 0 {
				c.lastSeq = n
			}
		default:
			return
		}
	}
}

// checkTables checks the tables that are there. Which there must be, Pebble knows from the manifest; after a proper
// end it is all in the ledger.
func (c *checker) checkTables() error {
	for _, name := range slices.Sorted(maps.Keys(c.state.tables)) {
		want := c.state.tables[name]
		got, err := tailOf(c.fs, c.path(name))
		switch {
		case errors.Is(err, fs.ErrNotExist) && !c.exact:
			delete(c.state.tables, name)
			c.lost = append(c.lost, name)
		case err != nil:
			return unreadable(name, err)
		case got.size != want.size:
			return refused(name, fmt.Sprintf("has %d bytes instead of %d", got.size, want.size))
		case got.sum != want.sum:
			return refused(name, "is damaged, an older copy, or another store's")
		}
	}
	return nil
}

// checkOptions checks the files that say how Pebble was set up.
func (c *checker) checkOptions() error {
	for _, name := range slices.Sorted(maps.Keys(c.state.options)) {
		if !c.has(name) && !c.exact {
			delete(c.state.options, name)
			continue
		}
		if err := c.checkPrefix(name, c.state.options[name], true); err != nil {
			return err
		}
	}
	return nil
}

// logNumber returns the number of a log; false if that is no log's name.
func logNumber(name string) (uint64, bool) {
	s, ok := strings.CutSuffix(name, ".log")
	n, err := strconv.ParseUint(s, 10, 64)
	return n, ok && err == nil
}

// logs returns the names of the logs in the directory that are needed, the oldest first.
func (c *checker) logs() []string {
	var logs []string
	for _, name := range c.names {
		if n, ok := logNumber(name); ok && n >= c.minLog {
			logs = append(logs, name)
		}
	}
	slices.SortFunc(logs, func(a, b string) int {
		x, _ := logNumber(a)
		y, _ := logNumber(b)
		return int(int64(x) - int64(y))
	})
	return logs
}

// scan reads a log whose records carry nonce.
func (c *checker) scan(name string, nonce uint64) (logScan, error) {
	number, _ := logNumber(name)
	f, err := c.fs.Open(c.path(name))
	if err != nil {
		return logScan{}, unreadable(name, err)
	}
	defer func() { _ = f.Close() }()
	scan, err := scanLog(f, uint32(number), nonce)
	if err != nil {
		return scan, unreadable(name, err)
	}
	return scan, nil
}

// checkLogs checks that the logs that are needed are there, and what is in them.
func (c *checker) checkLogs() error {
	maps.DeleteFunc(c.state.logs, func(name string, _ logEntry) bool {
		n, ok := logNumber(name)
		return !ok || n < c.minLog
	})
	for _, name := range slices.Sorted(maps.Keys(c.state.logs)) {
		if !c.has(name) {
			return refused(name, "is missing")
		}
	}
	for _, name := range c.logs() {
		e, listed := c.state.logs[name]
		var err error
		switch {
		case listed && e.closed:
			err = c.checkPrefix(name, e.extent, false)
		case listed:
			err = c.checkOpenLog(name, e)
		default:
			err = c.checkNewLog(name)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// checkOpenLog checks the log that a killed process was writing to. It may end where any crash could have ended it.
func (c *checker) checkOpenLog(name string, e logEntry) error {
	scan, err := c.scan(name, e.nonce)
	if err != nil {
		return err
	}
	from, _ := logNumber(e.from)
	switch {
	case scan.marked < scan.records, scan.other != 0 && uint64(scan.other) != from:
		return refused(name, "is another store's")
	case scan.proof:
		return refused(name, fmt.Sprintf("is damaged at byte %d, before records that are whole", scan.end))
	case scan.gap:
		return refused(name, "lacks records")
	}
	c.openLog = name
	return c.closeLog(name, scan)
}

// checkNewLog checks a log that is not in the ledger: its process was killed before it could write to it.
func (c *checker) checkNewLog(name string) error {
	scan, err := c.scan(name, 0)
	if err != nil {
		return err
	}
	if scan.records > 0 {
		return refused(name, "is not in the ledger")
	}
	if scan.torn {
		c.empty = append(c.empty, name)
	}
	return nil
}

// closeLog puts down what has been found in a log: from now on it must not have less.
func (c *checker) closeLog(name string, scan logScan) error {
	e, err := prefixOf(c.fs, c.path(name), scan.end)
	if err != nil {
		return unreadable(name, err)
	}
	c.unsynced = append(c.unsynced, name)
	old := c.state.logs[name]
	c.state.logs[name] = logEntry{nonce: old.nonce, from: old.from, closed: true, extent: e}
	if scan.records == 0 && scan.torn {
		c.empty = append(c.empty, name)
	}
	return nil
}
