package mvcc

import (
	"context"
	"fmt"

	"github.com/headwaterdb/headwater/libs/engine"
)

// errKeysMax answers a request that would make more keys than Options.KeysMax.
var errKeysMax = fmt.Errorf("%w: the limit of keys", ErrNoSpace)

// loadKeys counts the keys at the start of a Store that bounds them.
func (s *Store) loadKeys(ctx context.Context) error {
	if s.o.KeysMax == 0 {
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
	if s.o.KeysMax > 0 {
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
	if g.wanted++; g.s.keys.Load()+g.born+g.wanted <= bound {
		return nil
	}
	if g.s.o.OverKeys != nil {
		g.s.o.OverKeys()
	}
	return errKeysMax
}
