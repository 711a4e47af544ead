package mvcc

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/headwaterdb/headwater/libs/engine"
)

// errKeysMax answers a request that would make more keys than Options.KeysMax.
var errKeysMax = fmt.Errorf("%w: the limit of keys", ErrNoSpace)

// Where others write the keyspace too, a group that makes keys looks at the counters of the count index. Near the
// bound it reads them with a conflict, so that the bound is exact, and groups that make keys come one after the other.
// Further away it does not, nor does it look each time.
const (
	// keysSlack, and keysGroups times what a group makes itself, is how far from the bound it must stay to do without
	// the conflict: more keys than are made by all groups together that are under way with it.
	keysSlack  = 4096
	keysGroups = 64
	// keysAge is how old a count may be that such a group relies on, beside the age of a recent state that it was
	// read in.
	keysAge = 50 * time.Millisecond
)

// keysSeen is a count of all keys, and when it was read, by the queue's clock.
type keysSeen struct{ n, at int64 }

// loadKeys counts the keys at the start of a Store that bounds them and is the only writer.
func (s *Store) loadKeys(ctx context.Context) error {
	if s.o.KeysMax == 0 || !s.limits.Dense {
		return nil
	}
	n, err := s.countKeys(ctx)
	s.keys.Store(n)
	return err
}

// allKeys is the range of all keys.
var allKeys = []byte{0}

func (s *Store) countKeys(ctx context.Context) (int64, error) {
	r := &RangeRequest{Key: allKeys, End: allKeys, CountOnly: true, Serializable: true}
	info, err := s.Range(ctx, r, func(*KV) error { return nil })
	return info.Count, err
}

// Keys returns the number of keys that are there. known is false where that cannot be told without reading a row of
// each: there is no count index, or it is not made yet. Errors: ErrUnavailable, ErrCorrupt, the context's.
func (s *Store) Keys(ctx context.Context) (n int64, known bool, err error) {
	if s.o.KeysMax > 0 && s.limits.Dense {
		return s.keys.Load(), true, nil
	}
	err = s.view(ctx, func(snap engine.Snapshot) (err error) {
		n, known, err = s.countLatest(ctx, snap, allKeys, allKeys, func() error { return ctx.Err() })
		return err
	})
	return n, known, err
}

// admitKey finds out whether a put would make one key too many. Deletes of the same request do not count: they come
// after it has been checked.
func (g *group) admitKey(ctx context.Context, key []byte) error {
	bound := g.s.o.KeysMax
	if bound == 0 {
		return nil
	}
	st, err := g.state(ctx, key)
	if err != nil || st.live {
		return err
	}
	g.wanted++
	more := g.born + g.wanted
	there := g.s.keys.Load()
	if !g.s.limits.Dense {
		if there, err = g.keysThere(ctx, bound-keysGroups*more-keysSlack); err != nil {
			return err
		}
	}
	if there+more <= bound {
		return nil
	}
	return errKeysMax
}

// over tells of a bound that has refused a request for good: what an attempt answers that is made again does not count.
func (s *Store) over(err error) {
	switch {
	case errors.Is(err, errKeysMax) && s.o.OverKeys != nil:
		s.o.OverKeys()
	case errors.Is(err, errQuota) && s.o.OverQuota != nil:
		s.o.OverQuota()
	}
}

// keysThere returns the number of keys before the group, where others make some too: that of the group's state if there
// are more than far, and from then on any other number is a conflict; else one of a moment ago.
func (g *group) keysThere(ctx context.Context, far int64) (int64, error) {
	if g.keysExact {
		return g.keys, nil
	}
	now := g.s.queue.now()
	seen := g.s.keysSeen.Load()
	if seen != nil && seen.n <= far && now-seen.at < int64(keysAge) {
		return seen.n, nil
	}
	if !g.keysRead {
		n, err := g.readKeys(ctx)
		if err != nil {
			return 0, err
		}
		g.keys, g.keysRead = n, true
		g.s.keysSeen.Store(&keysSeen{n, now})
	}
	if g.keys > far {
		txn, writes := g.txn.(engine.Txn)
		if counters := g.s.rows.tableRange(tableCounter); writes {
			txn.AddReadConflict(counters.Begin, counters.End)
		}
		g.keysExact = true
	}
	return g.keys, nil
}

// readKeys counts the keys of the group's state, without a conflict where there is a count index.
func (g *group) readKeys(ctx context.Context) (n int64, err error) {
	n, ok, err := g.s.countLatest(ctx, g.txn, allKeys, allKeys, ctx.Err)
	if ok || err != nil {
		return n, err
	}
	it := g.txn.Scan(ctx, g.s.rows.tableRange(tableIdx))
	defer it.Close()
	for n = 0; it.Next(); n++ {
		if err := g.budget.spend(0); err != nil {
			return 0, err
		}
	}
	return n, storeErr(it.Err())
}
