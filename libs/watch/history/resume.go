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
	id, closer, err := c.db.Get([]byte(rowIdentity))
	if errors.Is(err, pdb.ErrNotFound) {
		return window{}, errors.New("it is new")
	} else if err != nil {
		return window{}, err
	}
	same := bytes.Equal(id, c.opts.Identity)
	if err := closer.Close(); err != nil {
		return window{}, err
	}
	if !same {
		return window{}, errors.New("it belongs to another keyspace")
	}
	w, revs, err := c.load()
	if err != nil {
		return window{}, err
	}
	end := position
	if w.last > position { // a hub reads a stretch before its start again, and compare covers that too
		if end, err = log.Head(ctx); err != nil {
			return window{}, err
		}
	}
	if len(revs) == 0 || w.last > end {
		return window{}, fmt.Errorf("it ends at revision %d, the log at %d", w.last, end)
	}
	if err := c.compare(ctx, log, revs); err != nil {
		return window{}, err
	}
	return c.fill(ctx, log, w, position)
}

// load reads the chain of all rows, from its last break on, and their revisions.
func (c *Cache) load() (w window, revs []int64, err error) {
	it, err := c.db.NewIter(&pdb.IterOptions{LowerBound: []byte{rowEntry}, UpperBound: []byte(rowAfter)})
	if err != nil {
		return w, nil, err
	}
	defer func() { err = errors.Join(err, it.Close()) }()
	for ok := it.First(); ok; ok = it.Next() {
		r, err := parseRow(it.Key(), it.Value())
		if err != nil {
			return w, nil, err
		}
		if len(revs) == 0 || r.prev != w.last {
			w, revs = window{floor: r.prev}, revs[:0]
		}
		w.grow(mark{r.rev, int64(len(it.Key()) + len(it.Value())), r.at}, c.opts.MaxBytes)
		revs = append(revs, r.rev)
	}
	return w, revs, it.Error()
}

// compare compares a sample of the entries with the log, among them the first and the last. Compacted entries cannot be
// compared, and need not be, because nobody reads them any more.
func (c *Cache) compare(ctx context.Context, log Log, revs []int64) error {
	step := max(1, len(revs)/(samples-1))
	for i := 0; ; i += step {
		i = min(i, len(revs)-1)
		rev := revs[i]
		last := i == len(revs)-1
		if rev < log.CompactRevision() {
			if last {
				return errors.New("all of it is compacted")
			}
			continue
		}
		got, _, err := log.ReadLog(ctx, rev, 1, 1)
		if err != nil {
			return fmt.Errorf("the log cannot be read: %w", err)
		}
		value, closer, err := c.db.Get(entryKey(rev))
		if err != nil {
			return err
		}
		same := len(got) > 0 && got[0].Rev == rev &&
			bytes.Equal(value[rowHeader:], appendRow(nil, &got[0], 0, c.opts.Now())[rowHeader:])
		if err := closer.Close(); err != nil {
			return err
		}
		if !same {
			return fmt.Errorf("revision %d differs from the log", rev)
		}
		if last {
			return nil
		}
	}
}

// fill reads from the log what was written since the last run.
func (c *Cache) fill(ctx context.Context, log Log, w window, position int64) (window, error) {
	c.mu.Lock()
	c.window = w // store goes on from there
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
			return w, errors.New("it is too far behind the log")
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
	c.mu.RLock()
	last := c.window.last
	c.mu.RUnlock()
	return c.store(entries, last)
}
