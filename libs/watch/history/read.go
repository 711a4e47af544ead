package history

import (
	"bytes"
	"context"

	pdb "github.com/cockroachdb/pebble/v2"

	"github.com/headwaterdb/headwater/libs/revlog"
)

// Cached is a Log with a Cache in front of its ReadLog.
type Cached struct {
	Log
	cache *Cache
}

// Over returns log with the cache in front.
func (c *Cache) Over(log Log) *Cached { return &Cached{log, c} }

// Served implements watch.Cached.
func (l *Cached) Served() (reads, entries uint64) {
	return l.cache.reads.Load(), l.cache.entries.Load()
}

// ReadLog answers from the cache if that has the entry at or after from and everything between, else from the log.
func (l *Cached) ReadLog(ctx context.Context, from int64, maxEntries, maxBytes int) ([]revlog.Entry, int64, error) {
	if from >= l.CompactRevision() {
		if entries, next, ok := l.cache.read(from, maxEntries, maxBytes); ok {
			return entries, next, nil
		}
	}
	return l.Log.ReadLog(ctx, from, maxEntries, maxBytes)
}

// read is ReadLog on the rows; ok is false if they do not cover from, or cannot be read.
func (c *Cache) read(from int64, maxEntries, maxBytes int) (entries []revlog.Entry, next int64, ok bool) {
	s, it, w, err := c.iterate(from)
	if s == nil {
		return nil, 0, false
	}
	defer s.users.Done()
	if err == nil {
		entries, err = c.collect(it, from, w.last, maxEntries, maxBytes)
	}
	if err != nil {
		c.fail(s, err)
	}
	if err != nil || s.dead.Load() {
		return nil, 0, false
	}
	c.reads.Add(1)
	c.entries.Add(uint64(len(entries)))
	return entries, entries[len(entries)-1].Rev + 1, true
}

// iterate opens an iterator at from. No store: the window does not hold it. Else the caller says when it is done with
// the store.
func (c *Cache) iterate(from int64) (s *store, it *pdb.Iterator, w window, err error) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	w = c.window
	if !c.started || c.store == nil || c.store.dead.Load() || from <= w.floor || from > w.last {
		return nil, nil, w, nil
	}
	c.store.users.Add(1)
	it, err = c.store.db.NewIter(&pdb.IterOptions{LowerBound: entryKey(from), UpperBound: entryKey(w.last + 1)})
	return c.store, it, w, err
}

// collect reads rows from an iterator that it closes, at least one entry, and follows their chain.
func (c *Cache) collect(
	it *pdb.Iterator, from, last int64, maxEntries, maxBytes int,
) (entries []revlog.Entry, err error) {
	defer func() {
		if closed := it.Close(); err == nil {
			err = closed
		}
	}()
	entries = make([]revlog.Entry, 0, max(1, min(maxEntries, prefetchEntries)))
	prev, full := from-1, false
	for ok := it.First(); ok && !full; ok = it.Next() {
		r, err := parseRow(it.Key(), it.Value())
		if err != nil {
			return nil, err
		}
		// The first row follows something before from; each other one follows the one before it.
		if r.prev > prev || len(entries) > 0 && r.prev != prev {
			return nil, errHole
		}
		prev = r.last
		var damage error
		err = r.visit(func(p revlog.Payload) bool {
			if p.Rev < from {
				return true
			}
			// Each entry has memory of its own, so that one that waits for its client does not keep a whole row.
			e, err := c.opts.Codec.Parse(bytes.Clone(p.Bytes), p.Rev)
			if err != nil {
				damage = err
				return false
			}
			entries = append(entries, e)
			maxBytes -= len(p.Bytes)
			full = maxBytes <= 0 || len(entries) >= maxEntries
			return !full
		})
		if err == nil {
			err = damage
		}
		if err != nil {
			return nil, err
		}
	}
	if err := it.Error(); err != nil {
		return nil, err
	}
	if len(entries) == 0 || !full && prev != last {
		return nil, errHole
	}
	return entries, nil
}
