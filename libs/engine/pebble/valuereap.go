package pebble

import (
	"context"
	"errors"
	"io/fs"
	"slices"
	"time"
)

// reap removes the doomed files that nobody can read any more, and reports whether there are others.
func (v *valueLog) reap() (left bool) {
	s := v.s
	v.mu.Lock()
	all := slices.Clone(v.doomed)
	v.mu.Unlock()
	if len(all) == 0 {
		return false
	}
	earliest := uint64(s.db.Metrics().Snapshots.EarliestSeqNum)
	gone := map[*valueFile]bool{}
	for _, d := range all {
		if earliest <= d.seq {
			continue // a view that is still open may show what was there
		}
		v.readers.forget(d.file.number)
		err := s.files.Remove(s.opts.FS.PathJoin(s.space.dir, d.file.name)) // the ledger hears of it
		if errors.Is(err, fs.ErrNotExist) {
			s.ledger.later(itemGone + " " + d.file.name) // somebody else has removed it
			err = nil
		}
		if err != nil {
			v.tellKept(d.file.name, err)
		}
		gone[d.file] = err == nil
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	v.doomed = slices.DeleteFunc(v.doomed, func(d doomed) bool { return gone[d.file] })
	return len(v.doomed) > 0
}

// tellKept logs that a file cannot be removed, unless one has been logged a moment ago.
func (v *valueLog) tellKept(name string, err error) {
	now := time.Now()
	v.mu.Lock()
	soon := !v.told.IsZero() && now.Sub(v.told) < collectLogEvery
	if !soon {
		v.told = now
	}
	v.mu.Unlock()
	if !soon {
		v.s.log.Warn(
			"a value file without values cannot be removed, will be tried again", "file", name, "error",
			cause(err).Error(),
		)
	}
}

// awaitRemoval waits, for at most removalWait, until doomed files are gone.
func (v *valueLog) awaitRemoval(ctx context.Context) {
	tick := time.NewTicker(obsoletePoll)
	defer tick.Stop()
	for end := time.Now().Add(removalWait); v.reap() && time.Now().Before(end); {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}
