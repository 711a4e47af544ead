package history

import (
	"time"

	pdb "github.com/cockroachdb/pebble/v2"

	"github.com/headwaterdb/headwater/libs/revlog"
)

// write moves the queue into the store until Close, and makes the store anew when it has failed; err: it has already.
func (c *Cache) write(err error) {
	defer close(c.done)
	t := time.NewTicker(trimEvery)
	defer t.Stop()
	for {
		if err != nil {
			c.rebuild(err)
		}
		if c.store == nil {
			return // closed before there was a new one
		}
		err = nil
		select {
		case <-c.queued:
			err = c.drain()
		case <-t.C:
			err = c.trim()
		case <-c.failed:
		case <-c.ctx.Done():
			_ = c.drain() // what is lost is read from the log again
			return
		}
		if cause := c.store.cause(); cause != nil {
			err = cause
		}
	}
}

// drain writes what is queued.
func (c *Cache) drain() error {
	c.queueMu.Lock()
	entries, prev := c.queue, c.queuePrev
	if len(entries) > 0 {
		c.queue, c.queueBytes, c.queuePrev = nil, 0, c.tail
	}
	c.queueMu.Unlock()
	if len(entries) == 0 {
		return nil
	}
	return c.put(entries, prev)
}

// put writes entries that follow revision prev. If that is not the last one written, the window begins anew.
func (c *Cache) put(entries []revlog.Payload, prev int64) error {
	c.mu.RLock()
	gap := c.window.last != prev
	c.mu.RUnlock()
	if gap {
		c.restarts.Add(1)
		c.opts.Log.Warn("watch history cannot keep up and starts again", "revision", prev)
		c.mu.Lock()
		c.window = window{floor: prev, last: prev}
		c.mu.Unlock()
		if err := c.clear(); err != nil {
			return err
		}
	}
	b := c.store.db.NewBatch()
	defer b.Close()
	now, limit := c.opts.Now(), int(min(rowBytes, c.opts.MaxBytes/marksMax))
	var grown []mark
	for left := entries; len(left) > 0; {
		before := left
		c.buf, left = appendRow(c.buf[:0], before, prev, now, limit)
		prev = before[len(before)-len(left)-1].Rev
		key := entryKey(prev)
		if err := b.Set(key, c.buf, nil); err != nil {
			return err
		}
		grown = append(grown, mark{prev, int64(len(key) + len(c.buf)), now})
	}
	if cap(c.buf) > 2*rowBytes {
		c.buf = nil // it had an entry that is larger than a row should be
	}
	if err := b.Commit(pdb.NoSync); err != nil {
		return err
	}
	c.mu.Lock()
	for _, m := range grown {
		c.window.grow(m, c.opts.MaxBytes)
	}
	floor, trimmed := c.window.trim(c.opts.MaxBytes, now.Add(-c.opts.MaxAge))
	c.mu.Unlock()
	return c.remove(floor, trimmed)
}

// grow accounts for one row, or more that are trimmed together.
func (w *window) grow(m mark, maxBytes int64) {
	w.last = m.last
	w.bytes += m.bytes
	if n := len(w.marks); n > 0 && w.marks[n-1].bytes+m.bytes <= maxBytes/marksMax {
		m.bytes += w.marks[n-1].bytes
		w.marks[n-1] = m
		return
	}
	w.marks = append(w.marks, m)
}

// trim takes out what is too old or too much, but never the last stretch for its size alone. It returns the floor, and
// says whether that has risen.
func (w *window) trim(maxBytes int64, oldest time.Time) (floor int64, trimmed bool) {
	n := 0
	for n < len(w.marks) && (w.marks[n].at.Before(oldest) || w.bytes > maxBytes && n+1 < len(w.marks)) {
		w.bytes -= w.marks[n].bytes
		w.floor = w.marks[n].last
		n++
	}
	if n > 0 {
		w.marks = append([]mark(nil), w.marks[n:]...)
	}
	return w.floor, n > 0
}

// trim removes what has become too old.
func (c *Cache) trim() error {
	oldest := c.opts.Now().Add(-c.opts.MaxAge)
	c.mu.Lock()
	floor, trimmed := c.window.trim(c.opts.MaxBytes, oldest)
	c.mu.Unlock()
	return c.remove(floor, trimmed)
}

// remove removes the rows up to floor.
func (c *Cache) remove(floor int64, trimmed bool) error {
	if !trimmed {
		return nil
	}
	return c.store.db.DeleteRange(entryKey(0), entryKey(floor+1), pdb.NoSync)
}

// clear removes all rows and writes the identity.
func (c *Cache) clear() error {
	b := c.store.db.NewBatch()
	defer b.Close()
	if err := b.DeleteRange([]byte{rowEntry}, []byte(rowAfter), nil); err != nil {
		return err
	}
	if err := b.Set([]byte(rowIdentity), c.opts.identity(), nil); err != nil {
		return err
	}
	return b.Commit(pdb.NoSync)
}
