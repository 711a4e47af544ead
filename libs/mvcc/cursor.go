package mvcc

import (
	"bytes"
	"context"

	"github.com/headwaterdb/headwater/libs/engine"
	"github.com/headwaterdb/headwater/libs/revlog"
)

// need says which parts of a key a scan must deliver.
type need uint8

const (
	needKey   need = iota // the key alone, for counting
	needMeta              // revisions, version and lease too
	needValue             // everything
)

// cursor scans a range of keys as of one revision. What a revision shows never changes, so its reads add no conflict to
// a transaction.
type cursor struct {
	s      *Store
	r      engine.Reader
	rev    int64 // the revision to read at
	head   int64 // the head in r's state
	need   need
	limit  int64   // -1: all
	renews bool    // the caller goes on in a new reader after errRenew
	budget *budget // nil: unbounded
	copied int     // bytes of values that r holds until it is closed

	walk valueWalk // of an engine of this process
	page page      // of another
	kv   KV        // the one handed to the visitor
}

// scan visits the keys of [key, end) in order; end as in RangeRequest but not empty.
func (c *cursor) scan(ctx context.Context, key, end []byte, visit Visit) error {
	if !toEnd(end) && bytes.Compare(key, end) >= 0 {
		return nil
	}
	scan := c.historic
	if c.rev >= c.head {
		scan = c.latest
	}
	c.walk = valueWalk{s: c.s, r: c.r, steps: walkSteps}
	defer c.walk.close() // its error was returned already
	if err := scan(ctx, key, end, visit); err != nil {
		return err
	}
	return c.flush(ctx, visit)
}

// spend counts a row.
func (c *cursor) spend() error {
	if c.budget == nil {
		return nil
	}
	return c.budget.spend(0)
}

func (c *cursor) idx(ctx context.Context, key, end []byte) engine.Iterator {
	begin, stop := c.s.rows.idxBounds(key, end)
	limit := 0
	if c.limit >= 0 && c.rev >= c.head {
		limit = int(c.limit)
	}
	bare := c.need == needKey && c.rev >= c.head // at an older revision, which keys exist depends on the records
	return c.r.Scan(ctx, engine.Range{Begin: begin, End: stop, Limit: limit, KeysOnly: bare, NoConflict: true})
}

func (c *cursor) latest(ctx context.Context, key, end []byte, visit Visit) error {
	if c.limit == 0 {
		return nil
	}
	it := c.idx(ctx, key, end)
	defer it.Close()
	var rec record
	for it.Next() {
		if err := c.spend(); err != nil {
			return err
		}
		if c.need != needKey {
			if err := parseRecord(it.Value(), c.s.refs, &rec); err != nil {
				return err
			}
		}
		if err := c.emitRecord(ctx, c.s.rows.idxKey(it.Key()), &rec, visit); err != nil {
			return err
		}
	}
	return it.Err()
}

func (c *cursor) emitRecord(ctx context.Context, key []byte, rec *record, visit Visit) error {
	c.kv = KV{Key: key, Create: rec.create, Mod: rec.mod, Version: rec.version, Lease: rec.lease}
	if c.need == needValue {
		if !rec.inline() {
			return c.fetch(ctx, &c.kv, rec.ref(key), visit)
		}
		c.kv.Value = rec.value
	}
	return c.emit(ctx, &c.kv, visit)
}

// historic merges the current rows with the hist rows. The first hist row of a key after the revision says what the key
// was at the revision. Without one it was the current record, if that is old enough (docs/design.md §3).
func (c *cursor) historic(ctx context.Context, key, end []byte, visit Visit) error {
	if c.limit == 0 {
		return nil
	}
	it := c.idx(ctx, key, end)
	defer it.Close()
	h := c.history(ctx, key, end)
	defer h.it.Close()
	var rec record
	more, hist := it.Next(), h.next()
	left := c.limit
	for (more || hist) && h.err == nil {
		if err := c.spend(); err != nil {
			return err
		}
		if !more && it.Err() != nil {
			break // the rest of hist must not be visited before the rest of idx
		}
		var k []byte
		order := 1
		if more {
			k = c.s.rows.idxKey(it.Key())
			order = -1
			if hist {
				order = bytes.Compare(k, h.key)
			}
		}
		emitted, err := c.emitHistoric(ctx, k, it, h, order, &rec, visit)
		if err != nil {
			return err
		}
		if emitted {
			if left--; left == 0 {
				return nil
			}
		}
		if order <= 0 {
			more = it.Next()
		}
		if order >= 0 {
			hist = h.next()
		}
	}
	if h.err != nil {
		return h.err
	}
	return it.Err()
}

func (c *cursor) emitHistoric(
	ctx context.Context, k []byte, it engine.Iterator, h *history, order int, rec *record, visit Visit,
) (bool, error) {
	if order < 0 {
		if err := parseRecord(it.Value(), c.s.refs, rec); err != nil {
			return false, err
		}
		if rec.mod > c.rev {
			return false, nil
		}
		return true, c.emitRecord(ctx, k, rec, visit)
	}
	if h.was.mod > c.rev {
		return false, nil
	}
	kv := h.was.kv(h.key)
	if c.need == needValue && h.was.place() != revlog.PlaceInline {
		return true, c.fetch(ctx, &kv, h.was.ref(h.key), visit)
	}
	if c.need == needValue && h.was.size > 0 {
		return true, c.fetchLog(ctx, &kv, h.stamp, h.was.at, h.was.size, visit)
	}
	return true, c.emit(ctx, &kv, visit)
}

// history walks over the hist rows of a range, and stops at the first row of each key that is after the revision.
type history struct {
	c     *cursor
	it    engine.Iterator
	key   []byte
	stamp engine.Stamp
	was   replaced
	err   error
}

func (c *cursor) history(ctx context.Context, key, end []byte) *history {
	begin, stop := c.s.rows.escapedBounds(tableHist, key, end)
	return &history{c: c, it: c.r.Scan(ctx, engine.Range{Begin: begin, End: stop, NoConflict: true})}
}

func (h *history) next() bool {
	skip := h.key != nil
	for h.it.Next() {
		if h.err = h.c.spend(); h.err != nil {
			return false
		}
		row := h.it.Key()[len(h.c.s.rows.prefix)+1:]
		key, rest, err := unescape(row)
		if err != nil {
			h.err = err
			return false
		}
		if skip && bytes.Equal(key, h.key) {
			continue
		}
		st, err := engine.ParseStamp(rest)
		if err != nil {
			h.err = ErrCorrupt
			return false
		}
		own := h.c.s.meta.Space.Of(st)
		if own <= h.c.rev {
			continue
		}
		h.key, h.stamp = append(h.key[:0], key...), st
		if h.key == nil {
			h.key = []byte{}
		}
		h.err = parseReplaced(h.it.Value(), h.c.s.refs, &h.was, own)
		return h.err == nil
	}
	h.err = h.it.Err()
	return false
}

// kv returns the version in a hist row, without its value.
func (r *replaced) kv(key []byte) KV {
	return KV{Key: key, Create: r.create, Mod: r.mod, Version: r.version, Lease: r.lease}
}

// ref returns the reference to the value of a version that is not inline.
func (r *replaced) ref(key []byte) ValueRef {
	return ValueRef{Key: key, Mod: r.mod, Size: r.size, Place: r.place()}
}

// replacedKV returns the version in the hist row of a stamp.
func (s *Store) replacedKV(
	ctx context.Context, r engine.Reader, key []byte, was *replaced, st engine.Stamp, values bool,
) (kv KV, err error) {
	kv = was.kv(key)
	switch {
	case !values || was.size == 0:
	case was.place() != revlog.PlaceInline:
		kv.Value, err = s.valueAt(ctx, r, was.ref(key))
	default:
		kv.Value, err = s.logBytes(ctx, r, st, was.at, was.size)
	}
	return kv, err
}

// cut returns size bytes at offset at of the chunks laid end to end. It copies only if they span several chunks.
func cut(chunks [][]byte, at, size int) ([]byte, error) {
	if len(chunks) == 1 {
		if at+size > len(chunks[0]) {
			return nil, ErrCorrupt
		}
		return chunks[0][at : at+size : at+size], nil
	}
	all := bytes.Join(chunks, nil)
	if at+size > len(all) {
		return nil, ErrCorrupt
	}
	return all[at : at+size : at+size], nil
}

// get reads one key as of rev from a reader whose head is given; ok is false if the key did not exist.
func (s *Store) get(
	ctx context.Context, r engine.Reader, key []byte, rev, head int64, values bool, kv *KV,
) (ok bool, err error) {
	if rev < head {
		if ok, done, err := s.getHistoric(ctx, r, key, rev, values, kv); done || err != nil {
			return ok, err
		}
	}
	b, err := r.Get(ctx, s.rows.idx(make([]byte, 0, len(s.rows.prefix)+1+len(key)), key))
	if err != nil {
		return false, storeErr(err)
	}
	if b == nil {
		return false, nil
	}
	var rec record
	if err := parseRecord(b, s.refs, &rec); err != nil {
		return false, err
	}
	if rec.mod > rev {
		return false, nil
	}
	*kv = KV{Key: key, Create: rec.create, Mod: rec.mod, Version: rec.version, Lease: rec.lease}
	if values {
		kv.Value, err = s.valueOf(ctx, r, key, &rec)
	}
	return true, err
}

// getHistoric looks for the version of key that was replaced after rev. done says whether it has decided the answer.
func (s *Store) getHistoric(
	ctx context.Context, r engine.Reader, key []byte, rev int64, values bool, kv *KV,
) (ok, done bool, err error) {
	_, stop := s.rows.escapedBounds(tableHist, key, nil)
	it := r.Scan(ctx, engine.Range{Begin: s.rows.hist(nil, key, s.meta.Space.Stamp(rev+1)), End: stop, Limit: 1})
	defer it.Close()
	if !it.Next() {
		return false, false, storeErr(it.Err())
	}
	st, err := engine.ParseStamp(it.Key()[len(it.Key())-engine.StampLen:])
	if err != nil {
		return false, false, ErrCorrupt
	}
	var was replaced
	if err := parseReplaced(it.Value(), s.refs, &was, s.meta.Space.Of(st)); err != nil {
		return false, false, err
	}
	if was.mod > rev {
		return false, true, nil
	}
	*kv, err = s.replacedKV(ctx, r, key, &was, st, values)
	return err == nil, true, storeErr(err)
}

// valueOf returns the value of a current record.
func (s *Store) valueOf(ctx context.Context, r engine.Reader, key []byte, rec *record) ([]byte, error) {
	if rec.inline() {
		return rec.value, nil
	}
	return s.valueAt(ctx, r, rec.ref(key))
}

// valueAt returns a value that must exist.
func (s *Store) valueAt(ctx context.Context, r engine.Reader, ref ValueRef) ([]byte, error) {
	values, err := s.readValues(ctx, r, []ValueRef{ref})
	if err != nil {
		return nil, err
	}
	if values[0] == nil {
		return nil, ErrCorrupt
	}
	return values[0], nil
}

// chunksOf returns how many chunks size bytes need.
func chunksOf(size, chunk int) int { return (size + chunk - 1) / chunk }
