package history

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	pdb "github.com/cockroachdb/pebble/v2"

	"github.com/headwaterdb/headwater/libs/revlog"
)

// resume returns the window of the entries in the directory that log confirms, filled up to position. An error means
// that nothing in the directory can be used.
func (c *Cache) resume(ctx context.Context, log Log, position int64) (window, error) {
	id, closer, err := c.store.db.Get([]byte(rowIdentity))
	if errors.Is(err, pdb.ErrNotFound) {
		return window{}, errNew
	} else if err != nil {
		return window{}, err
	}
	same := bytes.Equal(id, c.opts.identity())
	if err := closer.Close(); err != nil {
		return window{}, err
	}
	if !same {
		return window{}, errors.New("it belongs to another keyspace, or another release has written it")
	}
	w, rows, err := c.load()
	if err != nil {
		return window{}, err
	}
	end := position
	if w.last > position { // a hub reads a stretch before its start again, and compare covers that too
		if end, err = log.Head(ctx); err != nil {
			return window{}, err
		}
	}
	if len(rows) == 0 || w.last > end {
		return window{}, fmt.Errorf("it ends at revision %d, the log at %d", w.last, end)
	}
	if err := c.compare(ctx, log, rows); err != nil {
		return window{}, err
	}
	return c.fill(ctx, log, w, position)
}

// load reads the chain of all rows, from its last break on, and the revisions by which the rows are named.
func (c *Cache) load() (w window, rows []int64, err error) {
	it, err := c.store.db.NewIter(&pdb.IterOptions{LowerBound: []byte{rowEntry}, UpperBound: []byte(rowAfter)})
	if err != nil {
		return w, nil, err
	}
	defer func() { err = errors.Join(err, it.Close()) }()
	for ok := it.First(); ok; ok = it.Next() {
		r, err := parseRow(it.Key(), it.Value())
		if err != nil {
			return w, nil, err
		}
		if len(rows) == 0 || r.prev != w.last {
			w, rows = window{floor: r.prev}, rows[:0]
		}
		w.grow(mark{r.last, int64(len(it.Key()) + len(it.Value())), r.at}, c.opts.MaxBytes)
		rows = append(rows, r.last)
	}
	return w, rows, it.Error()
}

// compare compares entries with the log: the first and the last of some rows, among them the first and the last row.
// Compacted entries cannot be compared, and need not be, because nobody reads them any more.
func (c *Cache) compare(ctx context.Context, log Log, rows []int64) error {
	step := max(1, len(rows)/(samples-1))
	for i := 0; ; i += step {
		i = min(i, len(rows)-1)
		first, last, err := c.ends(rows[i])
		if err != nil {
			return err
		}
		for _, p := range []revlog.Payload{first, last} {
			if err := c.compareEntry(ctx, log, p); err != nil {
				return err
			}
		}
		if i < len(rows)-1 {
			continue
		}
		if last.Rev < log.CompactRevision() {
			return errors.New("all of it is compacted")
		}
		return nil
	}
}

// compareEntry compares an entry with the log.
func (c *Cache) compareEntry(ctx context.Context, log Log, p revlog.Payload) error {
	if p.Rev < log.CompactRevision() {
		return nil
	}
	got, _, err := log.ReadLog(ctx, p.Rev, 1, 1)
	if err != nil {
		return fmt.Errorf("the log cannot be read: %w", err)
	}
	e, err := c.opts.Codec.Parse(p.Bytes, p.Rev)
	if err != nil {
		return err
	}
	if len(got) == 0 || got[0].Rev != p.Rev || !bytes.Equal(c.encode(&e), c.encode(&got[0])) {
		return fmt.Errorf("revision %d differs from the log", p.Rev)
	}
	return nil
}

// ends returns the first and the last entry of a row.
func (c *Cache) ends(rev int64) (first, last revlog.Payload, err error) {
	key := entryKey(rev)
	value, closer, err := c.store.db.Get(key)
	if err != nil {
		return first, last, err
	}
	r, err := parseRow(key, bytes.Clone(value))
	if err = errors.Join(err, closer.Close()); err != nil {
		return first, last, err
	}
	err = r.visit(func(p revlog.Payload) bool {
		if first.Rev == 0 {
			first = p
		}
		last = p
		return true
	})
	return first, last, err
}

// encode encodes an entry that the log has decoded.
func (c *Cache) encode(e *revlog.Entry) (b []byte) {
	for i := range e.Events {
		b, _ = c.opts.Codec.AppendEvent(b, &e.Events[i], e.Rev)
	}
	return b
}

// fill reads from the log what was written since the last run.
func (c *Cache) fill(ctx context.Context, log Log, w window, position int64) (window, error) {
	c.mu.Lock()
	c.window = w // put goes on from there
	c.mu.Unlock()
	for n, from := 0, w.last+1; from <= position; {
		entries, next, err := log.ReadLog(ctx, from, fillStep, fillBytes)
		switch {
		case err != nil:
			return w, err
		case next <= from:
			return w, errors.New("the log ends early")
		}
		for len(entries) > 0 && entries[len(entries)-1].Rev > position {
			entries = entries[:len(entries)-1]
		}
		if n += len(entries); n > fillEntries {
			return w, errFar
		}
		from = next
		if err := c.extend(entries); err != nil {
			return w, err
		}
	}
	// A crash may have brought back rows that were trimmed.
	if err := c.trim(); err != nil {
		return w, err
	}
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.window, nil
}

// extend stores entries after the last.
func (c *Cache) extend(entries []revlog.Entry) error {
	if len(entries) == 0 {
		return nil
	}
	payloads := make([]revlog.Payload, len(entries))
	for i := range entries {
		payloads[i] = revlog.Payload{Rev: entries[i].Rev, Bytes: c.encode(&entries[i])}
	}
	c.mu.RLock()
	last := c.window.last
	c.mu.RUnlock()
	return c.put(payloads, last)
}
