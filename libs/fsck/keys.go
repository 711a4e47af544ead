package fsck

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"hash/crc32"
	"slices"

	"github.com/headwaterdb/headwater/libs/engine"
)

// keys walks over the idx, hist and val rows, key by key. For each key it sees the replaced versions, oldest first,
// then the current one, and between them the larger values.
type keys struct {
	c *checker
	cursor
	lookups lookups

	again []byte // the key that was begun again because the state had changed

	idx, hist, val *rows
	left           int // rows that the page may still read
}

// cursor is the position of the walk between two pages. It consists of keys and not of the rows ahead, because the next
// page may find new rows before those.
type cursor struct {
	done []byte // the last key that is done; nil: none is
	key  *key   // the key that is being read; nil: none
}

// key is a key that is being walked over.
type key struct {
	key       []byte
	hist, val []byte // where to go on in these tables
	state     int    // that it was begun in
	loose     bool   // it has too many rows for one state, so a compaction may remove some between two pages
	last      link   // the last replaced version, whose successor has not been seen
	oldNeeded int    // bytes of a value under the key alone that a version names
	oldThere  int    // bytes of it that are there, and
	oldSum    uint32
	value     val // the next value that no version has been found for yet
}

// link is a replaced version: it waits for what followed it.
type link struct {
	version
	replaced int64 // the revision; 0: there is none
}

// val is a larger value that is stored under the stamp of a version.
type val struct {
	rev   int64
	bytes int
	there bool
}

// rows is a table that is read row by row, with one row ahead.
type rows struct {
	c    *checker
	it   engine.Iterator
	skip int // bytes of a row's key before the etcd key
	ok   bool
}

func (c *checker) open(table byte, from []byte) *rows {
	begin := c.row(table)
	if from != nil {
		begin = from
	}
	r := &rows{c: c, skip: len(c.o.Prefix) + 1}
	r.it = c.snap.Scan(c.ctx, engine.Range{Begin: begin, End: c.row(table + 1)})
	r.next()
	return r
}

func (r *rows) next() { r.ok = r.it.Next() }

// at returns where to begin to have the row ahead again; nil: there is none.
func (r *rows) at() []byte {
	if !r.ok {
		return nil
	}
	return bytes.Clone(r.it.Key())
}

// from says where to go on in the three tables.
func (u *cursor) from(c *checker) (idx, hist, val []byte) {
	switch {
	case u.key != nil:
		return append(c.row(tableIdx), u.key.key...), u.key.hist, u.key.val
	case u.done != nil:
		end := append(escape(nil, u.done), 0xff) // a key that begins with this key is escaped behind its rows
		idx = append(append(c.row(tableIdx), u.done...), 0)
		return idx, append(c.row(tableHist), end...), append(c.row(tableVal), end...)
	}
	return nil, nil, nil
}

// end closes the rows. It returns the error of reading them.
func (r *rows) end() error { return cmp.Or(r.it.Err(), r.it.Close()) }

// next reads a page.
func (k *keys) next() (more bool, err error) {
	c, before, again := k.c, k.cursor, k.again
	if before.key != nil && before.key.state != c.states && !bytes.Equal(before.key.key, k.again) {
		k.again, k.key = before.key.key, nil // begin it again, once
	} else if before.key != nil {
		copied := *before.key
		copied.loose = copied.loose || copied.state != c.states
		k.key = &copied
	}
	idx, hist, val := k.from(c)
	k.idx, k.hist, k.val = c.open(tableIdx, idx), c.open(tableHist, hist), c.open(tableVal, val)
	k.lookups, k.left = lookups{c: c}, c.pageRows
	for k.left > 0 && k.step() {
	}
	more = k.left <= 0
	if !more && k.key != nil {
		k.endKey()
	}
	if err = cmp.Or(k.idx.end(), k.hist.end(), k.val.end()); err == nil {
		err = k.lookups.run()
	}
	if err != nil {
		k.cursor, k.again = before, again
	}
	return more, err
}

// step reads the next row; false if there is none.
func (k *keys) step() bool {
	name, rest, r := k.ahead()
	if r == nil {
		return false
	}
	if k.key == nil || !bytes.Equal(name, k.key.key) {
		if k.key != nil {
			k.endKey()
		}
		rows := escape(nil, name)
		hist, val := append(k.c.row(tableHist), rows...), append(k.c.row(tableVal), rows...)
		k.key = &key{key: name, state: k.c.states, hist: hist, val: val}
		k.c.page.count.Keys++
	}
	k.c.count(r.it.Key(), r.it.Value())
	switch r {
	case k.hist:
		k.key.hist = append(bytes.Clone(r.it.Key()), 0)
		k.replaced(rest, r.it.Value())
	case k.val:
		k.key.val = append(bytes.Clone(r.it.Key()), 0)
		k.chunk(rest, r.it.Value())
	case k.idx:
		k.current(r.it.Value())
		k.endKey()
	}
	r.next()
	k.left--
	return true
}

// ahead says which row is next, and its key. For the smallest key these are the values that belong before the next hist
// row, then that row, then the other values, then the idx row.
func (k *keys) ahead() (name, rest []byte, r *rows) {
	val, valRest := k.escaped(k.val)
	hist, histRest := k.escaped(k.hist)
	switch {
	case val != nil && (hist == nil || bytes.Compare(val, hist) < 0),
		val != nil && bytes.Equal(val, hist) && !k.afterHist(valRest, histRest):
		name, rest, r = val, valRest, k.val
	case hist != nil:
		name, rest, r = hist, histRest, k.hist
	}
	if k.idx.ok {
		if n := k.idx.it.Key()[k.idx.skip:]; r == nil || bytes.Compare(n, name) < 0 {
			return bytes.Clone(n), nil, k.idx
		}
	}
	return name, rest, r
}

// afterHist says whether a row of a value comes after a hist row of the same key: its version is not older than the
// replacement.
func (k *keys) afterHist(val, hist []byte) bool {
	if len(val) != stampLen+chunkLen || len(hist) != stampLen {
		return false
	}
	return bytes.Compare(val[:stampLen], hist) >= 0
}

// escaped splits the key of the row ahead; nil: there is none. It skips rows without a key.
func (k *keys) escaped(r *rows) (name, rest []byte) {
	for ; r.ok; r.next() {
		if name, rest, ok := unescape(r.it.Key()[r.skip:]); ok && len(name) > 0 {
			return name, rest
		}
		k.c.findf(nil, 0, "row %x has no key", r.it.Key())
	}
	return nil, nil
}

// chunk takes a row of a larger value.
func (k *keys) chunk(rest, b []byte) {
	key, c := k.key, k.c
	v := &key.value
	var had int
	switch len(rest) {
	case chunkLen:
		had = key.oldThere
		key.oldThere += len(b)
		key.oldSum = crc32.Update(key.oldSum, castagnoli, b)
	case stampLen + chunkLen:
		rev, ok := c.rev(rest)
		if !ok {
			k.findf(0, "val row with an invalid stamp: %x", rest)
			return
		}
		if v.there && v.rev != rev {
			k.findf(v.rev, "a value of %d bytes that belongs to no version", v.bytes)
			v.there = false
		}
		if !v.there {
			*v = val{rev: rev, there: true}
		}
		had = v.bytes
		v.bytes += len(b)
		rest = rest[stampLen:]
	default:
		k.findf(0, "val row with %d bytes behind the key", len(rest))
		return
	}
	if had == 0 {
		c.page.count.Values++
	}
	if no := int(binary.BigEndian.Uint16(rest)); no*c.chunk != had || len(b) > c.chunk || len(b) == 0 {
		k.findf(v.rev, "chunk %d of a value, with %d bytes, follows %d bytes", no, len(b), had)
	}
}

// findf adds a finding of the key under way.
func (k *keys) findf(rev int64, text string, args ...any) {
	if !k.key.loose {
		k.c.findf(k.key.key, rev, text, args...)
	}
}

// stored checks that a version's value is where it says.
func (k *keys) stored(v *version) {
	key := k.key
	switch {
	case v.place == own && key.value.there && key.value.rev == v.mod:
		if key.value.bytes != v.size {
			k.findf(v.mod, "a value of %d bytes, of which %d are there", v.size, key.value.bytes)
		}
		key.value = val{}
	case v.place == own:
		k.findf(v.mod, "a value of %d bytes is not there", v.size)
	case v.place == old:
		key.oldNeeded = v.size
	}
	if key.value.there && key.value.rev <= v.mod {
		k.findf(key.value.rev, "a value of %d bytes that belongs to no version", key.value.bytes)
		key.value = val{}
	}
}

// replaced takes a hist row.
func (k *keys) replaced(rest, b []byte) {
	key, c := k.key, k.c
	at, ok := c.rev(rest)
	if !ok || len(rest) != stampLen {
		c.findf(key.key, 0, "hist row with an invalid stamp: %x", rest)
		return
	}
	v, ok := c.parseHist(b, at)
	switch {
	case !ok:
		c.findf(key.key, at, "hist row %x cannot be decoded", b)
		return
	case v.mod >= at, v.create > v.mod, v.version < 1, (v.version == 1) != (v.create == v.mod):
		c.findf(key.key, at, "hist row %v", v)
	case at > c.at.head || at < c.at.compacted:
		c.findf(key.key, at, "hist row beyond the head %d, or below %d, where everything is removed", c.at.head,
			c.at.compacted)
	}
	c.page.count.Replaced++
	k.follow(&v)
	k.stored(&v)
	key.last = link{version: v, replaced: at}
}

// current takes the idx row.
func (k *keys) current(b []byte) {
	key, c := k.key, k.c
	v, ok := c.parseIdx(b)
	if !ok {
		c.findf(key.key, 0, "idx row %x cannot be decoded", b)
		key.last = link{}
		return
	}
	if v.create > v.mod || v.mod > c.at.head || v.version < 1 || (v.version == 1) != (v.create == v.mod) {
		c.findf(key.key, 0, "idx row %v, head %d", v, c.at.head)
	}
	if v.place == old && key.oldThere == v.size {
		v.sum, v.known = key.oldSum, true
	}
	c.page.count.Current++
	c.inBucket(key.key)
	k.follow(&v)
	k.stored(&v)
	key.last = link{}
	k.lookups.made(key.key, &v)
	if v.lease != 0 {
		k.lookups.attached(key.key, v.lease)
	}
}

// follow links the last replaced version with the one after it; nil: the key was deleted. The log says what replaced
// it.
func (k *keys) follow(next *version) {
	last := k.key.last
	if last.replaced == 0 {
		return
	}
	if next != nil && last.replaced >= k.c.at.compacted { // else rows between may have been removed
		put := next.mod == last.replaced
		switch {
		case next.mod < last.replaced:
			k.findf(last.replaced, "a replaced version was followed by %v", *next)
		case put && (next.create != last.create || next.version != last.version.version+1):
			k.findf(last.replaced, "%v was followed by %v", last.version, *next)
		case !put && next.create <= last.replaced:
			k.findf(last.replaced, "deleted, but the next version is %v", *next)
		}
	}
	k.lookups.replaced(k.key.key, last, next)
}

// endKey ends the walk over a key.
func (k *keys) endKey() {
	k.follow(nil)
	key := k.key
	if key.value.there {
		k.findf(key.value.rev, "a value of %d bytes that belongs to no version", key.value.bytes)
	}
	if key.oldNeeded != key.oldThere {
		k.findf(0, "a value under the key alone has %d bytes, of which %d are there", key.oldNeeded, key.oldThere)
	}
	k.done, k.key = key.key, nil
}

// lookups are what the versions of a page must find elsewhere. They are made together at the end of the page.
type lookups struct {
	c     *checker
	wants []want
	rows  [][]byte // that must be there
	why   []Finding
}

// want is an event that must be in the log.
type want struct {
	rev  int64
	key  []byte
	v    *version // gets the checksum of its value from the first of its events
	prev bool     // v is what it replaced; else what it made
	next *version
}

// made requires the event that made a version.
func (l *lookups) made(key []byte, v *version) {
	if v.mod >= l.c.at.compacted {
		l.wants = append(l.wants, want{rev: v.mod, key: key, v: v})
	}
}

// replaced requires the event that replaced a version, and the one that made it.
func (l *lookups) replaced(key []byte, last link, next *version) {
	if last.replaced < l.c.at.compacted {
		return // removed after it was read
	}
	v := &last.version
	l.wants = append(l.wants, want{rev: last.replaced, key: key, v: v, prev: true, next: next})
	l.made(key, v)
}

// attached requires a lease, and the row that attaches a key to it.
func (l *lookups) attached(key []byte, lease int64) {
	id := binary.BigEndian.AppendUint64(nil, uint64(lease))
	for text, row := range map[string][]byte{
		"is attached to a lease that does not exist":   append(l.c.row(tableLease), id...),
		"is attached to a lease that does not have it": append(append(l.c.row(tableLeaseKey), id...), key...),
	} {
		l.rows = append(l.rows, row)
		l.why = append(l.why, Finding{Key: bytes.Clone(key), Text: text})
	}
}

// run makes the lookups.
func (l *lookups) run() error {
	found, err := l.c.get(l.rows)
	if err != nil {
		return err
	}
	for i, row := range found {
		if row == nil {
			l.c.page.findings = append(l.c.page.findings, l.why[i])
		}
	}
	slices.SortStableFunc(l.wants, func(a, b want) int { return cmp.Compare(a.rev, b.rev) })
	for len(l.wants) > 0 {
		revs := make([]int64, 0, entriesAtOnce)
		n := 0
		for ; n < len(l.wants); n++ {
			if rev := l.wants[n].rev; len(revs) == 0 || revs[len(revs)-1] != rev {
				if len(revs) == entriesAtOnce {
					break
				}
				revs = append(revs, rev)
			}
		}
		if err := l.some(revs, l.wants[:n]); err != nil {
			return err
		}
		l.wants = l.wants[n:]
	}
	return nil
}

// some makes the lookups in some entries. Both are in order.
func (l *lookups) some(revs []int64, wants []want) error {
	entries, err := l.c.entries(revs)
	if err != nil {
		return err
	}
	for i, rev := range revs {
		byKey := map[string]int{}
		for j, ev := range entries[i] {
			byKey[string(ev.key)] = j
		}
		for ; len(wants) > 0 && wants[0].rev == rev; wants = wants[1:] {
			w := &wants[0]
			if j, ok := byKey[string(w.key)]; ok {
				l.match(w, &entries[i][j])
			} else {
				l.c.findf(w.key, rev, "the log does not have %s", w.what())
			}
		}
	}
	return nil
}

func (w *want) what() string {
	if w.prev {
		return "the replacement of " + w.v.String()
	}
	return w.v.String()
}

// match compares a version with its event.
func (l *lookups) match(w *want, ev *event) {
	has := &ev.made
	if w.prev {
		has = &ev.prev
	}
	defer func() {
		if has.known && !w.v.known {
			w.v.sum, w.v.known = has.sum, true
		}
	}()
	switch {
	case !w.prev && (ev.delete || !w.v.same(ev.made) || !w.v.placed(ev.made)):
		l.c.findf(w.key, w.rev, "%v, but the log has %v", *w.v, ev.made)
	case !w.prev:
	case !ev.hasPrev || !w.v.same(ev.prev) || w.v.at != ev.prev.at:
		l.c.findf(w.key, w.rev, "the hist row has %v at %d, the log %v at %d", *w.v, w.v.at, ev.prev, ev.prev.at)
	case ev.delete != (w.next == nil || w.next.mod != w.rev):
		l.c.findf(w.key, w.rev, "the log says delete: %v, but the version was followed by %v", ev.delete, w.next)
	}
}
