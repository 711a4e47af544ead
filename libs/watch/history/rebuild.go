package history

import (
	"errors"
	"fmt"

	"github.com/headwaterdb/headwater/libs/engine/retry"
)

// rebuildPauses are those between attempts to make the cache anew.
var rebuildPauses = retry.Policy{Min: refillPauseMin, Max: refillPauseMax}

// rebuild makes a store that has failed anew and fills it from the log with what it held, until that has succeeded or
// the cache is closed. Reads come from the log meanwhile.
func (c *Cache) rebuild(err error) {
	c.mu.RLock()
	floor := c.window.floor
	c.mu.RUnlock()
	for ; c.ctx.Err() == nil; c.rebuilds++ {
		c.restarts.Add(1)
		c.opts.Log.Warn("watch history has failed, and is made anew from the log", "error", err)
		// What Pebble still does in the background goes into memory, so the failed store does not stay for the pause.
		if err := c.discard(); err != nil {
			c.opts.Log.Warn("watch history", "error", err)
		}
		if c.opts.Now().Sub(c.rebuiltAt) > calmTime {
			c.rebuilds = 0
		} else if rebuildPauses.Wait(c.ctx, c.rebuilds-1) != nil {
			return
		}
		c.rebuiltAt = c.opts.Now()
		if err = c.renew(true); err == nil {
			if err = c.refill(floor); err == nil {
				c.rebuilds++
				return
			}
		}
	}
}

// renew begins with an empty store; wiped says that what is in the directory cannot be used.
func (c *Cache) renew(wiped bool) error {
	if wiped {
		if err := c.discard(); err != nil {
			return err
		}
		if err := c.wipe(); err != nil {
			return err
		}
		if err := c.open(); err != nil {
			return err
		}
	}
	return c.clear()
}

// discard closes the store, if there is one. The window holds nothing until it is known what a new store has.
func (c *Cache) discard() error {
	c.mu.Lock()
	old := c.store
	c.store, c.window = nil, window{floor: c.window.floor, last: c.window.floor}
	c.mu.Unlock()
	if old == nil {
		return nil
	}
	return c.bury(old)
}

// refill fills an empty store from the log: what came after floor and has not been compacted since, up to where the
// queue begins.
func (c *Cache) refill(floor int64) error {
	w := window{floor: floor, last: floor}
	for {
		c.queueMu.Lock()
		target := c.queuePrev
		c.queueMu.Unlock()
		if compacted := min(c.log.CompactRevision()-1, target); compacted > w.last {
			w = window{floor: compacted, last: compacted}
		}
		var err error
		switch w, err = c.fill(c.ctx, c.log, w, target); {
		case errors.Is(err, errFar):
			w = window{floor: target, last: target}
		case err != nil && c.ctx.Err() == nil && c.log.CompactRevision() > w.last+1:
			continue // compacted meanwhile
		case err != nil:
			return fmt.Errorf("the log cannot be read: %w", err)
		}
		c.mu.Lock()
		c.window = w
		c.mu.Unlock()
		c.queueMu.Lock()
		done := c.queuePrev == target
		if done {
			c.queuePrev = w.last // nothing is in between
		}
		c.queueMu.Unlock()
		if done {
			return nil
		}
	}
}
