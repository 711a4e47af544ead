package pebble

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"

	pdb "github.com/cockroachdb/pebble/v2"
)

// valueFileNumber returns the number of a value file; false if that is no value file's name.
func valueFileNumber(name string) (uint64, bool) {
	s, ok := strings.CutSuffix(name, valuesExt)
	n, err := strconv.ParseUint(s, 10, 64)
	return n, ok && err == nil && name == valueFileName(n)
}

// checkValues checks the value files that are there. Those of a killed process may be gone, if no row refers to them,
// and one that is not filled may end behind the last value that a row refers to: Pebble knows the rows, so the rest is
// checked when it is open (valueLog.start).
func (c *checker) checkValues() error {
	for _, name := range slices.Sorted(maps.Keys(c.state.values)) {
		want := c.state.values[name]
		if !c.has(name) {
			if c.exact && want.nonce != 0 {
				return refused(name, "is missing")
			}
			continue
		}
		if want.nonce == 0 {
			continue
		}
		number, ok := valueFileNumber(name)
		head, err := readHead(c.fs, c.path(name))
		switch {
		case err != nil:
			return unreadable(name, err)
		case len(head) < valueHeadLen:
			return refused(name, fmt.Sprintf("is cut: it has %d bytes", len(head)))
		case !ok || !sameHead(head, number, want.nonce):
			return refused(name, "is damaged, an older copy, or another store's")
		case !want.filled:
			continue
		}
		got, err := tailOf(c.fs, c.path(name))
		switch {
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

// adoptValues lists the value files of a store whose ledger has been removed.
func (c *checker) adoptValues() {
	for _, name := range c.names {
		if _, ok := valueFileNumber(name); !ok {
			continue
		}
		c.state.version = ledgerOfValues
		head, _ := readHead(c.fs, c.path(name))
		var nonce uint64
		if len(head) == valueHeadLen {
			nonce = binary.BigEndian.Uint64(head[valueHeadLen-12:])
		}
		if number, _ := valueFileNumber(name); !sameHead(head, number, nonce) {
			nonce = 0
		}
		c.state.values[name] = valuesEntry{nonce: nonce}
	}
}

// activateValues makes a store one with a value log. The ledger says so already, so earlier releases refuse the
// directory; the format row says it too, for a directory without its ledger.
func activateValues(b *pdb.Batch) {
	_ = b.Set(formatRow, []byte{formatOfValues}, nil) // fails on indexed batches only
	_ = b.Set(tagRow, newTag(), nil)
}

// load reads how a store of a format uses value files, and checks those that the rows refer to. Pebble is open, and
// nobody uses the store yet.
func (v *valueLog) load(format byte) error {
	if format != formatOfValues {
		return nil
	}
	s := v.s
	tag, err := s.meta(tagRow)
	if err != nil {
		return err
	}
	if len(tag) != tagLen {
		return fmt.Errorf("%w: value tag row of %d bytes", ErrCorrupt, len(tag))
	}
	v.tag, v.next = tag, 1
	if s.opts.ValueBytes > 0 {
		v.limit = s.opts.ValueBytes
	}
	if err := s.ledger.raise(); err != nil {
		return err
	}
	return v.start()
}

// start compares the value files that there are, those that the ledger lists, and those that rows refer to. It takes
// stock of them, and removes those that nothing needs.
func (v *valueLog) start() error {
	s := v.s
	sizes, err := v.sizesOnDisk()
	if err != nil {
		return err
	}
	listed := s.ledger.valueFiles()
	ends, err := v.ends()
	switch {
	case err == nil:
	case isDamage(err):
		// Some back rows cannot be read, and with them perhaps rows that need a file. Those reads will say so.
		_ = s.damaged(err)
		ends = nil
	default:
		return err
	}
	for number, end := range ends {
		v.next = max(v.next, number+1)
		name := valueFileName(number)
		err := v.check(name, end, listed, sizes)
		if err != nil && !s.ledger.adopted {
			return err
		}
		if err != nil {
			s.log.Warn("values cannot be read", "error", err.Error())
			s.ledger.later(valuesItem(name, 0))
		}
	}
	for name := range sizes {
		number, _ := valueFileNumber(name)
		v.next = max(v.next, number+1)
		if _, ok := listed[name]; !ok && ends != nil && !s.readOnly.Load() {
			// A process was killed before it had listed this file, or after it had removed the values that were in it.
			_ = s.opts.FS.Remove(s.opts.FS.PathJoin(s.space.dir, name))
		}
	}
	for name, e := range listed {
		number, _ := valueFileNumber(name)
		v.next = max(v.next, number+1)
		size, there := sizes[name]
		if !there {
			if _, needed := ends[number]; !needed && ends != nil {
				s.ledger.later(itemGone + " " + name)
			}
			continue
		}
		if err := v.take(number, name, e, size); err != nil {
			return err
		}
	}
	return nil
}

// check checks one file that rows refer to, up to end.
func (v *valueLog) check(name string, end int64, listed map[string]valuesEntry, sizes map[string]int64) error {
	size, there := sizes[name]
	e, known := listed[name]
	switch {
	case known && e.nonce == 0 && !v.s.ledger.adopted:
		return nil
	case !there:
		what := "is missing"
		if log := v.s.ledger.openLog; log != "" { // it may have had the commit after which the file was removed
			what += ", or " + log + " has been cut"
		}
		return &refusal{file: name, what: what, late: true}
	case !known:
		return &refusal{file: name, what: "is not in the ledger", late: true}
	case size < end:
		return &refusal{file: name, what: fmt.Sprintf("is cut: it has %d bytes of %d", size, end), late: true}
	}
	return nil
}

// take takes stock of a file. What a killed process has left in it is synced before the ledger claims it.
func (v *valueLog) take(number uint64, name string, e valuesEntry, size int64) error {
	fs, path := v.s.opts.FS, v.s.opts.FS.PathJoin(v.s.space.dir, name)
	if !e.filled && e.nonce != 0 {
		f, err := fs.Open(path)
		if err == nil {
			err = errors.Join(f.Sync(), f.Close())
		}
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		tail, err := tailOf(fs, path)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		v.s.ledger.later(fileItem(itemFilled, name, tail))
		size = tail.size
	}
	f := &valueFile{number: number, name: name, nonce: e.nonce, filled: true}
	f.size.Store(size)
	f.synced.Store(size)
	v.files[number] = f
	return nil
}

// sizesOnDisk returns the lengths of the value files in the directory.
func (v *valueLog) sizesOnDisk() (map[string]int64, error) {
	fs, dir := v.s.opts.FS, v.s.space.dir
	names, err := fs.List(dir)
	if err != nil {
		return nil, err
	}
	sizes := map[string]int64{}
	for _, name := range names {
		if _, ok := valueFileNumber(name); !ok {
			continue
		}
		i, err := fs.Stat(fs.PathJoin(dir, name))
		if err != nil {
			return nil, err
		}
		sizes[name] = i.Size()
	}
	return sizes, nil
}

// ends returns the files that have back rows, and up to where these say that there are values.
func (v *valueLog) ends() (map[uint64]int64, error) {
	ends := map[uint64]int64{}
	it, err := v.s.db.NewIter(&pdb.IterOptions{LowerBound: allBackRows.begin, UpperBound: allBackRows.end})
	if err != nil {
		return nil, err
	}
	for ok := it.Last(); ok; { // from each file's last value to the file before
		raw, err := it.ValueAndErr()
		if err != nil {
			return nil, errors.Join(err, it.Close())
		}
		b, ok2 := parseBack(it.Key(), raw)
		if !ok2 || b.offset > math.MaxInt64-int64(b.length) {
			return nil, errors.Join(fmt.Errorf("%w: back row %x", ErrCorrupt, it.Key()), it.Close())
		}
		ends[b.file] = b.offset + int64(b.length)
		ok = it.SeekLT(backSpan(b.file).begin)
	}
	return ends, it.Close()
}
