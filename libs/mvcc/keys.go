package mvcc

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/headwaterdb/headwater/libs/engine"
)

// errKeysMax is the answer to a request that would bring the number of keys above Options.KeysMax.
var errKeysMax = fmt.Errorf("%w: the limit of keys", ErrNoSpace)

// Where other processes write the keyspace too, a group that makes keys reads the counters of the count index. Near the
// bound it reads them with a conflict. The bound is then exact, and groups that make keys are committed one after the
// other. Further away it reads them without a conflict, and not every time.
const (
	// keysSlack and keysGroups set when a group may do without the conflict: it must stay below the bound by keysSlack,
	// plus keysGroups times the keys that it makes itself. All groups that are under way at the same time make fewer
	// keys.
	keysSlack  = 4096
	keysGroups = 64
	// keysAge is how old a count may be for a group to rely on it, in addition to the age of the recent state that it
	// was read in.
	keysAge = 50 * time.Millisecond
)

// keysSeen is a count of all keys and the time it was read, by the queue's clock.
type keysSeen struct{ n, at int64 }

// loadKeys counts the keys when a Store opens that has a bound and is the only writer.
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

// Keys returns the number of keys. known is false if there is no count index or it is not complete yet: the number then
// cannot be told without reading a row of each key. Errors: ErrUnavailable, ErrCorrupt, the context's.
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

// admitKey returns an error if a put would make one key too many. Deletes of the same request do not make room: they
// run after the check.
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

// over reports that a bound has refused a request. It is called only for final answers: a refusal in an attempt that is
// repeated does not count.
func (s *Store) over(err error) {
	switch {
	case errors.Is(err, errKeysMax) && s.o.OverKeys != nil:
		s.o.OverKeys()
	case errors.Is(err, errQuota) && s.o.OverQuota != nil:
		s.o.OverQuota()
	}
}

// keysThere returns the number of keys before the group, where other processes make keys too. If it is above far, the
// number is that of the group's state, and any change of it until the commit is a conflict. Otherwise the number is a
// moment old.
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
