package fsck

import (
	"bytes"
	"encoding/binary"
	"errors"
	"slices"
	"strings"

	"github.com/headwaterdb/headwater/libs/engine"
)

// leaseEnding follows the time to live in the row of a lease that ends in several steps.
const leaseEnding = 1

// leases walks over the attachments and then over the leases.
type leases struct {
	c    *checker
	from []byte
	rest bool // the attachments have been walked over
}

// next reads a page.
func (l *leases) next() (more bool, err error) {
	c, table := l.c, byte(tableLeaseKey)
	if l.rest {
		table = tableLease
	}
	r := c.open(table, l.from)
	var wants lookups
	wants.c = c
	var keys [][]byte
	var ids []int64
	n := 0
	for ; r.ok && n < c.pageRows; n++ {
		row := r.it.Key()[r.skip:]
		c.count(r.it.Key(), r.it.Value())
		switch {
		case table == tableLease:
			c.page.count.Leases++
			if v := r.it.Value(); len(row) != 8 || len(v) != 8 && (len(v) != 9 || v[8] != leaseEnding) {
				c.findf(nil, 0, "lease row %x = %x", row, r.it.Value())
			}
		case len(row) < 8 || len(r.it.Value()) != 0:
			c.findf(nil, 0, "leasekey row %x = %x", row, r.it.Value())
		default:
			ids, keys = append(ids, int64(binary.BigEndian.Uint64(row))), append(keys, bytes.Clone(row[8:]))
		}
		r.next()
	}
	at, more := r.at(), r.ok
	if err := r.end(); err != nil {
		return false, err
	}
	if err := l.attached(keys, ids); err != nil {
		return false, err
	}
	if !more && !l.rest {
		l.rest, l.from = true, nil
		return true, nil
	}
	l.from = at
	return more, nil
}

// attached checks that a key has the lease that names it.
func (l *leases) attached(keys [][]byte, ids []int64) error {
	rows := make([][]byte, len(keys))
	for i, key := range keys {
		rows[i] = append(l.c.row(tableIdx), key...)
	}
	found, err := l.c.get(rows)
	if err != nil {
		return err
	}
	for i, row := range found {
		if v, ok := l.c.parseIdx(row); !ok || v.lease != ids[i] {
			l.c.findf(keys[i], 0, "lease %x has this key, but the key has lease %x", ids[i], v.lease)
		}
	}
	return nil
}

// metaNames are the rows of meta. A name that ends with a slash may be followed by anything.
var metaNames = []string{
	"alarm/",
	"auth",
	"buckets",
	"compact",
	"compacted",
	"follow",
	"hold/",
	"keyspace",
	"live",
	"owner",
	"owner/",
	"part",
}

// others walks over the small tables, and over the gaps between tables.
func (c *checker) others() *otherRows {
	o := &otherRows{c: c}
	begin := append([]byte{}, c.o.Prefix...)
	o.skip = []byte{tableHist, tableIdx, tableLease, tableLeaseKey, tableLog, tableVal}
	slices.Sort(o.skip)
	for _, table := range append(o.skip, tableEnd) {
		o.ranges = append(o.ranges, engine.Range{Begin: begin, End: c.row(table)})
		begin = c.row(table + 1)
	}
	return o
}

type otherRows struct {
	c      *checker
	skip   []byte
	ranges []engine.Range
}

// next reads a page of a range, or its rest.
func (o *otherRows) next() (more bool, err error) {
	c := o.c
	q := o.ranges[0]
	q.Limit = c.pageRows
	it := c.snap.Scan(c.ctx, q)
	var last []byte
	n := 0
	for ; it.Next(); n++ {
		last = append(last[:0], it.Key()...)
		row := it.Key()[len(c.o.Prefix):]
		if len(row) == 0 {
			c.findf(nil, 0, "a row at the prefix itself")
			continue
		}
		c.count(it.Key(), it.Value())
		o.check(row[0], row[1:], it.Value())
	}
	if err := errors.Join(it.Err(), it.Close()); err != nil {
		return false, err
	}
	if n < c.pageRows {
		o.ranges = o.ranges[1:]
		o.cursors()
		return len(o.ranges) > 0, nil
	}
	last = append(last, 0)
	o.ranges[0].Begin = last
	return true, nil
}

// cursors checks, at the end, that the compact revision and the removal agree.
func (o *otherRows) cursors() {
	if at := o.c.at; len(o.ranges) == 0 && (at.compacted > at.compact || at.compact > at.head) {
		o.c.findf(nil, 0, "the removal is at %d, the compact revision %d, the head %d",
			at.compacted, at.compact, at.head)
	}
}

func (o *otherRows) check(table byte, k, v []byte) {
	switch table {
	case tableAuth:
		if len(k) == 0 || !strings.ContainsRune("rsu", rune(k[0])) || len(v) == 0 && k[0] != 'r' {
			o.c.findf(nil, 0, "row %q of users and roles", k)
		}
	case tableBoundary:
		o.c.boundary(k, v)
	case tableCounter:
		o.c.counter(k, v)
	case tableCommit:
		if len(k) != 17 || len(v) != 8 && len(v) != 8+stampLen {
			o.c.findf(nil, 0, "commit row %x = %x", k, v)
		}
	case tableHead:
		if len(k) != 0 {
			o.c.findf(nil, 0, "unknown row %x beside the head", k)
		}
	case tableMeta:
		if string(k) == "buckets" {
			if o.c.b.change = true; len(v) != 8 && len(v) != 24 {
				o.c.findf(nil, 0, "the row of the last change of buckets is %x", v)
			}
		}
		if !slices.ContainsFunc(metaNames, func(name string) bool {
			return string(k) == name || strings.HasSuffix(name, "/") && strings.HasPrefix(string(k), name)
		}) {
			o.c.findf(nil, 0, "unknown meta row %q", k)
		}
	default:
		o.c.findf(nil, 0, "row of an unknown table: %c%x", table, k)
	}
}
