package pebble

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"hash/crc32"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// The ledger says which files the store must have and what is in them. Without it Pebble cannot distinguish a directory
// that has lost files from one that never had them. It is a text file. Its lines are only appended, each with one sync:
//
//	<number> <item>[; <item>]... <CRC-32C of what stands before it, 8 hexadecimal digits>
//
// Lines are numbered from 0. Only the last line may have been cut by a crash. Any other fault is damage.
const (
	ledgerName = "LEDGER"
	ledgerTmp  = "LEDGER.tmp"
	// ledgerVersion is the newest version that this release knows. A store without a value log keeps version 1, so that
	// earlier releases can open it.
	ledgerVersion = ledgerOfValues
	ledgerPlain   = 1
	// ledgerOfValues is the version of a ledger that may list value files, of a store whose rows may refer to them.
	ledgerOfValues = 2
	// fenceName is a file that makes releases without a ledger refuse the directory, because they would change it
	// without updating the ledger. Their Pebble accepts no unknown file whose name begins with "marker.".
	fenceName = "marker.unknown to this version"
	fenceText = "This directory has a ledger (LEDGER). Releases of Headwater that do not keep it refuse the directory because of this file.\n"
)

// Items of a line, in its text: the first word, then the arguments.
const (
	itemStore    = "headwater-ledger" // version, store id: the first item of the first line
	itemOpen     = "open"             // nonce: a process opens the store; logs created from here on carry the nonce
	itemLog      = "log"              // name, nonce, name it was recycled from or "-": the log exists and is written to
	itemClosed   = "closed"           // name, size, checksum: the log gets no more records
	itemTable    = "table"            // name, size, checksum of the tail: the table is complete
	itemManifest = "manifest"         // name, size, checksum: so much of the manifest is synced
	itemMarker   = "marker"           // name: the marker that counts
	itemOptions  = "options"          // name, size, checksum
	itemValues   = "values"           // name, nonce of the file: the value file exists and is written to
	itemFilled   = "filled"           // name, size, checksum of the tail: the value file gets no more values
	itemGone     = "gone"             // name: the file has been removed
	itemStopped  = "stopped"          // the store has been closed: all of the above is exact
)

// tailBytes is the size of a table's end that its checksum covers: footer, index of meta blocks, and properties, which
// contain a number that is unique to the table. The other blocks have checksums of their own.
const tailBytes = 4 << 10

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// extent describes the beginning of a file, or the end of a table.
type extent struct {
	size int64
	sum  uint32
}

func (e extent) String() string { return fmt.Sprintf("%d %08x", e.size, e.sum) }

// logEntry is a log that must exist.
type logEntry struct {
	nonce  uint64 // the nonce in its records; 0: written before there was a ledger
	from   string // the log whose file it has taken over, or "-"
	closed bool
	extent // set if the log is closed
}

// marks are Pebble's two markers: files whose names say which manifest is current, and which format the files have.
const (
	markManifest = "marker.manifest."
	markFormat   = "marker.format-version."
)

// valuesEntry is a value file that must exist if a row refers to it.
type valuesEntry struct {
	nonce  uint64 // in the file's head; 0: a start without a ledger has found the file missing, cut or damaged
	filled bool
	extent // set if the file is filled
}

// ledgerState is the result of all lines of a ledger. It is not safe for concurrent use.
type ledgerState struct {
	version   int
	id        string // of the store; unique
	nonce     uint64 // of the process that opened it last
	logs      map[string]logEntry
	tables    map[string]extent
	manifests map[string]extent
	options   map[string]extent
	values    map[string]valuesEntry
	markers   map[string]string // by markManifest, markFormat: the file's name
	stopped   bool
}

func newLedgerState(id string) *ledgerState {
	return &ledgerState{
		version:   ledgerPlain,
		id:        id,
		logs:      map[string]logEntry{},
		tables:    map[string]extent{},
		manifests: map[string]extent{},
		options:   map[string]extent{},
		values:    map[string]valuesEntry{},
		markers:   map[string]string{},
	}
}

var errBadItem = errors.New("bad item")

// apply adds an item.
func (s *ledgerState) apply(item string) error {
	w := strings.Fields(item)
	if len(w) == 0 {
		return errBadItem
	}
	s.stopped = false
	switch kind, args := w[0], w[1:]; {
	case kind == itemStopped && len(args) == 0:
		s.stopped = true
	case kind == itemOpen && len(args) == 1:
		n, err := strconv.ParseUint(args[0], 16, 64)
		s.nonce = n
		return err
	case kind == itemLog && len(args) == 3:
		n, err := strconv.ParseUint(args[1], 16, 64)
		s.logs[args[0]] = logEntry{nonce: n, from: args[2]}
		return err
	case kind == itemValues && len(args) == 2 && s.version >= ledgerOfValues:
		n, err := strconv.ParseUint(args[1], 16, 64)
		s.values[args[0]] = valuesEntry{nonce: n}
		return err
	case kind == itemMarker && len(args) == 1:
		for _, mark := range []string{markManifest, markFormat} {
			if strings.HasPrefix(args[0], mark) {
				s.markers[mark] = args[0]
				return nil
			}
		}
		return errBadItem
	case kind == itemGone && len(args) == 1:
		delete(s.logs, args[0])
		delete(s.tables, args[0])
		delete(s.manifests, args[0])
		delete(s.options, args[0])
		delete(s.values, args[0])
	case len(args) == 3:
		return s.applyExtent(kind, args)
	default:
		return errBadItem
	}
	return nil
}

// applyExtent adds an item that describes a file's content.
func (s *ledgerState) applyExtent(kind string, args []string) error {
	size, err1 := strconv.ParseInt(args[1], 10, 64)
	sum, err2 := strconv.ParseUint(args[2], 16, 32)
	if err := cmp.Or(err1, err2); err != nil {
		return err
	}
	e := extent{size, uint32(sum)}
	switch kind {
	case itemClosed:
		l := s.logs[args[0]]
		l.closed, l.extent = true, e
		s.logs[args[0]] = l
	case itemTable:
		s.tables[args[0]] = e
	case itemManifest:
		s.manifests[args[0]] = e
	case itemOptions:
		s.options[args[0]] = e
	case itemFilled:
		v, listed := s.values[args[0]]
		if !listed {
			return errBadItem
		}
		v.filled, v.extent = true, e
		s.values[args[0]] = v
	default:
		return errBadItem
	}
	return nil
}

// items returns the state as items that apply takes.
func (s *ledgerState) items() []string {
	items := []string{fmt.Sprintf("%s %d %s", itemStore, s.version, s.id)}
	for _, name := range slices.Sorted(maps.Keys(s.logs)) {
		l := s.logs[name]
		items = append(items, logItem(name, l.nonce, cmp.Or(l.from, "-")))
		if l.closed {
			items = append(items, fileItem(itemClosed, name, l.extent))
		}
	}
	for _, files := range []struct {
		kind string
		of   map[string]extent
	}{{itemTable, s.tables}, {itemManifest, s.manifests}, {itemOptions, s.options}} {
		for _, name := range slices.Sorted(maps.Keys(files.of)) {
			items = append(items, fileItem(files.kind, name, files.of[name]))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(s.values)) {
		v := s.values[name]
		items = append(items, valuesItem(name, v.nonce))
		if v.filled {
			items = append(items, fileItem(itemFilled, name, v.extent))
		}
	}
	for _, mark := range slices.Sorted(maps.Keys(s.markers)) {
		items = append(items, itemMarker+" "+s.markers[mark])
	}
	return append(items, fmt.Sprintf("%s %016x", itemOpen, s.nonce))
}

func logItem(name string, nonce uint64, from string) string {
	return fmt.Sprintf("%s %s %016x %s", itemLog, name, nonce, from)
}

func valuesItem(name string, nonce uint64) string {
	return fmt.Sprintf("%s %s %016x", itemValues, name, nonce)
}

func fileItem(kind, name string, e extent) string { return kind + " " + name + " " + e.String() }

// appendLine appends a line of items.
func appendLine(b []byte, number int, items []string) []byte {
	from := len(b)
	b = strconv.AppendInt(b, int64(number), 10)
	b = append(b, ' ')
	b = append(b, strings.Join(items, "; ")...)
	b = append(b, ' ')
	return fmt.Appendf(b, "%08x\n", crc32.Checksum(b[from:], castagnoli))
}

// splitLine returns the items of the line with the given number; false if the line is not complete.
func splitLine(line []byte, number int) ([]string, bool) {
	const sumLen = 8
	cut := len(line) - sumLen
	if cut < 2 || line[cut-1] != ' ' {
		return nil, false
	}
	if string(line[cut:]) != fmt.Sprintf("%08x", crc32.Checksum(line[:cut], castagnoli)) {
		return nil, false
	}
	prefix := strconv.Itoa(number) + " "
	text, ok := strings.CutPrefix(string(line[:cut-1]), prefix)
	return strings.Split(text, "; "), ok
}

// itemsPerLine bounds the items of a line when the whole ledger is written.
const itemsPerLine = 64

// encode returns the state as a whole ledger, and the number of the line that follows.
func (s *ledgerState) encode() ([]byte, int) {
	var b []byte
	n := 0
	for chunk := range slices.Chunk(s.items(), itemsPerLine) {
		b = appendLine(b, n, chunk)
		n++
	}
	return b, n
}

// parseLedger reads a ledger. It ignores an incomplete last line, which a crash may have left.
func parseLedger(b []byte) (*ledgerState, error) {
	first, rest, _ := bytes.Cut(b, []byte{'\n'})
	items, ok := splitLine(first, 0)
	if !ok {
		return nil, refused(ledgerName, "has no beginning")
	}
	head := strings.Fields(items[0])
	if len(head) != 3 || head[0] != itemStore {
		return nil, refused(ledgerName, "is not a ledger")
	}
	version, err := strconv.Atoi(head[1])
	if err != nil || version > ledgerVersion {
		return nil, fmt.Errorf(
			"%w: %s has format %s, this version knows %d", ErrNewerFormat, ledgerName, head[1], ledgerVersion,
		)
	}
	s := newLedgerState(head[2])
	s.version = version
	items = items[1:]
	for n := 0; ; n++ {
		for _, item := range items {
			if err := s.apply(item); err != nil {
				return nil, refused(ledgerName, fmt.Sprintf("has a line that makes no sense (%d: %q)", n, item))
			}
		}
		var line []byte
		line, rest, _ = bytes.Cut(rest, []byte{'\n'})
		if items, ok = splitLine(line, n+1); ok {
			continue
		}
		if laterLine(rest) {
			return nil, refused(ledgerName, fmt.Sprintf("is damaged in line %d", n+1))
		}
		return s, nil
	}
}

// laterLine reports whether one of the lines in b is complete, whatever its number.
func laterLine(b []byte) bool {
	for line := range bytes.SplitSeq(b, []byte{'\n'}) {
		number, _, _ := bytes.Cut(line, []byte{' '})
		if n, err := strconv.Atoi(string(number)); err == nil {
			if _, ok := splitLine(line, n); ok {
				return true
			}
		}
	}
	return false
}
