package etcdapi

import (
	"context"
	"errors"
	"slices"

	"github.com/headwaterdb/headwater/libs/auth"
	"github.com/headwaterdb/headwater/libs/mvcc"
)

// KV returns the store behind the guard. Each request is checked in its own transaction.
func (g *Guard) KV(store KVStore) KVStore { return guardedKV{store, g} }

type guardedKV struct {
	store KVStore
	g     *Guard
}

// Range implements KVStore.
func (k guardedKV) Range(ctx context.Context, r *mvcc.RangeRequest, visit mvcc.Visit) (info mvcc.RangeInfo, err error) {
	if r.Access = k.g.open(); r.Access != nil {
		if info, err = k.store.Range(ctx, r, visit); !errors.Is(err, mvcc.ErrAuthOld) {
			return info, err
		}
	}
	err = k.g.carry(ctx, rangeNeeds(r), func(a *mvcc.Access) (err error) {
		r.Access = a
		info, err = k.store.Range(ctx, r, visit)
		return err
	})
	return info, err
}

func rangeNeeds(r *mvcc.RangeRequest) need {
	return func(s *auth.State, id auth.Identity) error {
		if err := s.MayRead(id, r.Key, r.End); err != nil {
			return err
		}
		return s.Current(id)
	}
}

// Put implements KVStore.
func (k guardedKV) Put(ctx context.Context, r *mvcc.PutRequest) (*mvcc.Result, error) {
	return write(ctx, k.g, &r.Access, putNeeds(r), func() (*mvcc.Result, error) { return k.store.Put(ctx, r) })
}

// write carries out a request that writes. a points to its Access.
func write(
	ctx context.Context, g *Guard, a **mvcc.Access, may need, do func() (*mvcc.Result, error),
) (res *mvcc.Result, err error) {
	if *a = g.open(); *a != nil {
		if res, err = do(); !errors.Is(err, mvcc.ErrAuthOld) {
			return res, err
		}
	}
	err = g.carry(ctx, may, func(now *mvcc.Access) (err error) {
		*a = now
		res, err = do()
		return err
	})
	return res, err
}

// putNeeds returns what a put needs, except what only the transaction knows: the keys on the lease (mvcc.Access).
func putNeeds(r *mvcc.PutRequest) need {
	return func(s *auth.State, id auth.Identity) error {
		if err := s.MayWrite(id, r.Key, nil); err != nil || !r.PrevKV {
			return err
		}
		return s.MayRead(id, r.Key, nil)
	}
}

// DeleteRange implements KVStore.
func (k guardedKV) DeleteRange(ctx context.Context, r *mvcc.DeleteRequest) (*mvcc.Result, error) {
	return write(
		ctx,
		k.g,
		&r.Access,
		deleteNeeds(r),
		func() (*mvcc.Result, error) { return k.store.DeleteRange(ctx, r) },
	)
}

func deleteNeeds(r *mvcc.DeleteRequest) need {
	return func(s *auth.State, id auth.Identity) error {
		if err := s.MayWrite(id, r.Key, r.End); err != nil || !r.PrevKV {
			return err
		}
		return s.MayRead(id, r.Key, r.End)
	}
}

// Txn implements KVStore.
func (k guardedKV) Txn(ctx context.Context, r *mvcc.TxnRequest) (*mvcc.Result, error) {
	may := txnNeeds(r)
	if onlyRanges(r.Success) && onlyRanges(r.Failure) { // etcd checks reads afterwards, even one without operations
		may = func(s *auth.State, id auth.Identity) error {
			if err := txnNeeds(r)(s, id); err != nil {
				return err
			}
			return s.Current(id)
		}
	}
	return write(ctx, k.g, &r.Access, may, func() (*mvcc.Result, error) { return k.store.Txn(ctx, r) })
}

// txnNeeds returns what all compares and all operations of both branches need, whichever branch is taken.
func txnNeeds(r *mvcc.TxnRequest) need {
	return func(s *auth.State, id auth.Identity) error {
		for i := range r.Compares {
			if err := s.MayRead(id, r.Compares[i].Key, r.Compares[i].End); err != nil {
				return err
			}
		}
		for _, ops := range [2][]mvcc.Op{r.Success, r.Failure} {
			for i := range ops {
				if err := opNeeds(&ops[i])(s, id); err != nil {
					return err
				}
			}
		}
		return nil
	}
}

func onlyRanges(ops []mvcc.Op) bool {
	return !slices.ContainsFunc(ops, func(o mvcc.Op) bool { return o.Range == nil })
}

func opNeeds(o *mvcc.Op) need {
	switch {
	case o.Range != nil:
		return func(s *auth.State, id auth.Identity) error { return s.MayRead(id, o.Range.Key, o.Range.End) }
	case o.Put != nil:
		return putNeeds(o.Put)
	case o.Delete != nil:
		return deleteNeeds(o.Delete)
	case o.Txn != nil:
		return txnNeeds(o.Txn)
	}
	return func(*auth.State, auth.Identity) error { return auth.ErrPermissionDenied } // an unknown operation
}

// Compact implements KVStore.
func (k guardedKV) Compact(ctx context.Context, rev int64, physical bool) (head int64, err error) {
	err = k.g.carry(ctx, needAdmin, func(a *mvcc.Access) (err error) {
		head, err = k.store.Compact(mvcc.WithAccess(ctx, a), rev, physical)
		return err
	})
	return head, err
}
