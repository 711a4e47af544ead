package fsck

import (
	"bytes"
	"encoding/binary"
	"errors"

	"github.com/headwaterdb/headwater/libs/engine"
)

// logs walks over the log.
type logs struct {
	c    *checker
	from []byte // the row to go on at; nil: the first
}

// next reads a page.
func (l *logs) next() (more bool, err error) {
	c := l.c
	begin := c.row(tableLog)
	if l.from != nil {
		begin = l.from
	}
	it := c.snap.Scan(c.ctx, engine.Range{Begin: begin, End: c.row(tableLog + 1)})
	defer it.Close()
	last, rows := int64(0), 0
	var puts []event // without a previous version
	var want []histWant
	ok := it.Next()
	for ok && rows < c.pageRows {
		rev, payload, good := int64(0), []byte(nil), false
		rev, payload, ok, good = c.entry(it, &rows)
		last = rev
		if !good {
			continue
		}
		events, good := c.parseEntry(payload, rev)
		if !good {
			c.findf(nil, rev, "log entry of %d bytes cannot be decoded", len(payload))
			continue
		}
		c.page.count.Entries++
		c.page.count.Events += int64(len(events))
		for i := range events {
			p, h := l.event(&events[i], rev, i)
			puts, want = append(puts, p...), append(want, h...)
		}
	}
	if err := it.Err(); err != nil {
		return false, err
	}
	if !ok && last != 0 && last != c.at.head {
		c.findf(nil, last, "the log ends here, the head is %d", c.at.head)
	}
	from := c.row(tableLog + 1)
	if ok {
		from = bytes.Clone(it.Key())
	}
	if err := l.hists(want); err != nil {
		return false, err
	}
	if err := l.creations(puts); err != nil {
		return false, err
	}
	l.from = from
	return ok, nil
}

// entry reads the entry that begins at the iterator's row, and moves to the row after it.
func (c *checker) entry(it engine.Iterator, rows *int) (rev int64, payload []byte, more, good bool) {
	at := len(c.o.Prefix) + 1
	first := bytes.Clone(it.Key())
	rev, good = c.rev(first[at:])
	size, n := binary.Uvarint(it.Value())
	switch {
	case !good, len(first) != at+stampLen, n <= 0:
		c.findf(nil, rev, "log row %x is not the beginning of an entry", first[at:])
		good = false
	case rev < c.at.compacted, rev > c.at.head:
		c.findf(nil, rev, "log entry beyond the head %d, or below %d, up to which all is removed", c.at.head,
			c.at.compacted)
	}
	c.count(first, it.Value())
	*rows++
	payload = bytes.Clone(it.Value()[max(n, 0):])
	had, no := len(payload), 0
	for more = it.Next(); more && good && bytes.HasPrefix(it.Key(), first); more = it.Next() {
		c.count(it.Key(), it.Value())
		*rows++
		no++
		rest := it.Key()[len(first):]
		if len(rest) != chunkLen || int(binary.BigEndian.Uint16(rest)) != no || no*c.chunk != had {
			c.findf(nil, rev, "chunk %x of a log entry follows %d bytes", rest, had)
		}
		payload = append(payload, it.Value()...)
		had = len(payload)
	}
	if good && uint64(len(payload)) != size {
		c.findf(nil, rev, "log entry has %d bytes of %d", len(payload), size)
		good = false
	}
	return rev, payload, more, good
}

// histWant is a hist row that must be there.
type histWant struct {
	key []byte
	rev int64
}

// event checks an event by itself, and returns what must be there because of it.
func (l *logs) event(ev *event, rev int64, i int) (creations []event, want []histWant) {
	c := l.c
	made, prev := ev.made, ev.prev
	switch {
	case !ev.hasPrev && rev <= c.at.compact: // a restored keyspace does not know what it replaced
		if ev.delete {
			return nil, nil
		}
	case ev.delete && !ev.hasPrev:
		c.findf(ev.key, rev, "a delete of a key that did not exist")
	case ev.delete:
	case ev.hasPrev && (made.create != prev.create || made.version != prev.version+1):
		c.findf(ev.key, rev, "%v follows %v", made, prev)
	case !ev.hasPrev && (made.create != rev || made.version != 1):
		c.findf(ev.key, rev, "%v follows no version", made)
	}
	if ev.hasPrev && prev.mod >= rev {
		c.findf(ev.key, rev, "replaces %v", prev)
	}
	if c.goneInPart(rev, i) {
		return nil, nil
	}
	if ev.hasPrev {
		return nil, []histWant{{ev.key, rev}}
	}
	return []event{*ev}, nil
}

func (c *checker) histRow(key []byte, rev int64) []byte {
	return c.stamp(escape(c.row(tableHist), key), rev)
}

// hists checks that hist rows are there. Their content is checked when they are walked over.
func (l *logs) hists(want []histWant) error {
	rows := make([][]byte, len(want))
	for i, w := range want {
		rows[i] = l.c.histRow(w.key, w.rev)
	}
	found, err := l.c.get(rows)
	if err != nil {
		return err
	}
	for i, row := range found {
		if row == nil {
			l.c.findf(want[i].key, want[i].rev, "the hist row of a replacement is missing")
		}
	}
	return nil
}

// creations checks that the first versions of keys are there, as the idx row or as the next hist row.
func (l *logs) creations(puts []event) error {
	c := l.c
	rows := make([][]byte, len(puts))
	for i := range puts {
		rows[i] = append(c.row(tableIdx), puts[i].key...)
	}
	found, err := c.get(rows)
	if err != nil {
		return err
	}
	var missing []*event
	var ranges []engine.Range
	for i := range puts {
		if v, ok := c.parseIdx(found[i]); ok && v.mod == puts[i].made.mod {
			continue
		}
		key := escape(c.row(tableHist), puts[i].key)
		missing = append(missing, &puts[i])
		ranges = append(ranges, engine.Range{
			Begin: c.stamp(bytes.Clone(key), puts[i].made.mod+1), End: append(key, 0xff), Limit: 1,
		})
	}
	return c.scans(ranges, func(i int, key, value []byte) {
		var v version
		if ev := missing[i]; ev != nil && key != nil {
			at, _ := c.rev(key[len(key)-stampLen:])
			if v, _ = c.parseHist(value, at); v.mod == ev.made.mod {
				missing[i] = nil
			}
		}
	}, func(i int) {
		// The removal may have taken the row although the entry is still there.
		if ev := missing[i]; ev != nil && ev.made.mod >= c.at.partRev {
			c.findf(ev.key, ev.made.mod, "the log has %v, but there is no row of it", ev.made)
		}
	})
}

// scans reads ranges, scansAtOnce at a time. It calls row for each row, and end after each range. What it passes to row
// is valid during the call. (Gets would keep what they have read until the snapshot ends.)
func (c *checker) scans(ranges []engine.Range, row func(i int, key, value []byte), end func(i int)) error {
	for from := 0; from < len(ranges); from += scansAtOnce {
		some := ranges[from:min(from+scansAtOnce, len(ranges))]
		its := make([]engine.Iterator, len(some)) // start all of them before waiting for the first
		for i, q := range some {
			its[i] = c.snap.Scan(c.ctx, q)
		}
		var errs []error
		for i, it := range its {
			for it.Next() {
				row(from+i, it.Key(), it.Value())
			}
			err := errors.Join(it.Err(), it.Close())
			if errs = append(errs, err); err == nil {
				end(from + i)
			}
		}
		if err := errors.Join(errs...); err != nil {
			return err
		}
	}
	return nil
}

// get returns the values of rows; nil for a row that is not there.
func (c *checker) get(rows [][]byte) ([][]byte, error) {
	ranges := make([]engine.Range, len(rows))
	for i, row := range rows {
		ranges[i] = engine.Range{Begin: row, End: append(row[:len(row):len(row)], 0), Limit: 1}
	}
	values := make([][]byte, len(rows))
	return values, c.scans(ranges, func(i int, _, value []byte) { values[i] = append([]byte{}, value...) },
		func(int) {})
}

// entries reads entries of the log; nil for one that is not there or cannot be decoded.
func (c *checker) entries(revs []int64) ([][]event, error) {
	ranges := make([]engine.Range, len(revs))
	for i, rev := range revs {
		begin := c.stamp(c.row(tableLog), rev)
		ranges[i] = engine.Range{Begin: begin, End: append(bytes.Clone(begin), 0xff, 0xff, 0xff)}
	}
	all := make([][]event, len(revs))
	var payload []byte
	var rows int
	return all, c.scans(ranges, func(_ int, _, value []byte) {
		if rows++; rows == 1 {
			_, n := binary.Uvarint(value)
			value = value[max(n, 0):]
		}
		payload = append(payload, value...)
	}, func(i int) {
		all[i], _ = c.parseEntry(payload, revs[i])
		payload, rows = payload[:0], 0
	})
}
