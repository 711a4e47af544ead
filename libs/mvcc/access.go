package mvcc

import (
	"context"
	"encoding/binary"
	"slices"

	"github.com/headwaterdb/headwater/libs/engine"
)

// Access is the permission with which a request is carried out, as far as the data model needs to know. The caller
// decides who may do what, by users and roles with a number. The decision must still hold in the state in which the
// request is carried out. A request without Access is the server's own.
type Access struct {
	// Number is the number of the users and roles that allowed the request. If those of the state are newer, the
	// request fails with ErrAuthOld and changes nothing: the caller must decide again.
	Number uint64
	// MayWrite is called for each key that is on a lease on which the request puts a key, or which it revokes; nil: it
	// may write every key. It must be quick, because it is called within a group.
	MayWrite func(key []byte) bool
}

// authNone is the number of users and roles that nobody has ever changed (auth.InitialNumber).
const authNone = 1 << 1

type accessKey struct{}

// WithAccess returns a context for requests about leases and compactions in the name of a client. Other requests have
// an Access of their own.
func WithAccess(ctx context.Context, a *Access) context.Context {
	return context.WithValue(ctx, accessKey{}, a)
}

// accessOf returns the Access of a request that writes; nil: the request is the server's own.
func accessOf(ctx context.Context, m mutation) *Access {
	switch m := m.(type) {
	case *PutRequest:
		return m.Access
	case *DeleteRequest:
		return m.Access
	case *TxnRequest:
		return m.Access
	}
	a, _ := ctx.Value(accessKey{}).(*Access)
	return a
}

// admit refuses the request under evaluation if it was allowed by older users and roles than those of the state.
func (g *group) admit(a *Access) error {
	g.access = a
	if a == nil || !g.features.Has(FeatureAuth) {
		return nil
	}
	return g.s.admit(g.auth, a)
}

func (s *Store) admit(number uint64, a *Access) error {
	if number > a.Number {
		return ErrAuthOld
	}
	return nil
}

// loadAuth reads the number of users and roles; load has asked for the row.
func (g *group) loadAuth(ctx context.Context) error {
	g.auth = authNone
	if !g.features.Has(FeatureAuth) {
		return nil
	}
	row, err := g.row(ctx, g.s.authRow)
	if err == nil {
		g.auth, err = g.s.sawAuth(row)
	}
	return err
}

// admits is admit for a request that reads, in its snapshot, whose head has been read.
func (s *Store) admits(ctx context.Context, snap engine.Snapshot, a *Access) error {
	if a == nil || !s.Features().Has(FeatureAuth) {
		return nil
	}
	number, err := s.authOf(ctx, snap)
	if err != nil {
		return err
	}
	return s.admit(number, a)
}

// authAt caches the number of users and roles of one engine state.
type authAt struct{ version, number uint64 }

// authOf returns the number of users and roles in a snapshot of a keyspace that has the feature.
func (s *Store) authOf(ctx context.Context, snap engine.Snapshot) (uint64, error) {
	if a := s.auth.at.Load(); a != nil && a.version == snap.Version() {
		return a.number, nil
	}
	row, err := snap.Get(ctx, s.authRow)
	if err != nil {
		return 0, storeErr(err)
	}
	return s.cacheAuth(snap, row)
}

// cacheAuth stores the row of a snapshot, and returns its number.
func (s *Store) cacheAuth(snap engine.Snapshot, row []byte) (uint64, error) {
	number, err := s.sawAuth(row)
	if err == nil {
		if old := s.auth.at.Load(); old == nil || old.version < snap.Version() {
			s.auth.at.CompareAndSwap(old, &authAt{snap.Version(), number})
		}
	}
	return number, err
}

// scanAuth starts to read the row; nil: there is no such row, as far as is known.
func (s *Store) scanAuth(ctx context.Context, r engine.Reader) engine.Iterator {
	if !s.Features().Has(FeatureAuth) {
		return nil
	}
	end := append(slices.Clip(s.authRow), 0)
	return r.Scan(ctx, engine.Range{Begin: s.authRow, End: end, Limit: 1, NoConflict: true})
}

// parseAuth finishes what scanAuth has started. It returns 0 if that was nothing.
func (s *Store) parseAuth(snap engine.Snapshot, it engine.Iterator) (number uint64, err error) {
	if it == nil {
		return 0, nil
	}
	defer it.Close()
	var row []byte
	if it.Next() {
		row = it.Value()
	} else if err := it.Err(); err != nil {
		return 0, storeErr(err)
	}
	return s.cacheAuth(snap, row)
}

// sawAuth reads a row, and notes its number.
func (s *Store) sawAuth(row []byte) (uint64, error) {
	number, err := parseAuthNumber(row)
	if err != nil {
		return 0, err
	}
	for {
		old := s.auth.seen.Load()
		if number <= old || s.auth.seen.CompareAndSwap(old, number) {
			return number, nil
		}
	}
}

// parseAuthNumber reads the number from meta/auth, which does not exist before the first change.
func parseAuthNumber(row []byte) (uint64, error) {
	if row == nil {
		return authNone, nil
	}
	if len(row) < authRowMin || binary.BigEndian.Uint64(row) < authNone {
		return 0, ErrCorrupt
	}
	return binary.BigEndian.Uint64(row), nil
}

// AuthNumber returns the number of users and roles in the newest state that this Store has seen. It reads nothing.
func (s *Store) AuthNumber() uint64 { return max(authNone, s.auth.seen.Load()) }

// onLease checks whether the request under evaluation may write all keys that are on a lease.
func (g *group) onLease(ctx context.Context, id int64) error {
	if g.access == nil || g.access.MayWrite == nil {
		return nil
	}
	if l, err := g.lease(ctx, id); err != nil || !l.live {
		return err
	}
	keys, _, err := g.s.leaseKeys(ctx, g.txn, id, 0, g.budget.spend)
	if err != nil {
		return err
	}
	for _, k := range keys {
		st := g.states[string(k)]
		moved := st != nil && st.dirty && (!st.live || st.rec.lease != id)
		if !moved && !g.access.MayWrite(k) {
			return ErrDenied
		}
	}
	g.changes.Ascend(func(st *keyState) bool {
		if st.live && st.rec.lease == id && !g.access.MayWrite(st.key) {
			err = ErrDenied
		}
		return err == nil
	})
	return err
}

// onLeases is onLease for all puts of a transaction, in both branches.
func (t *TxnRequest) onLeases(ctx context.Context, g *group) error {
	if g.access == nil || g.access.MayWrite == nil {
		return nil
	}
	for _, ops := range [2][]Op{t.Success, t.Failure} {
		for i := range ops {
			var err error
			switch o := &ops[i]; {
			case o.Put != nil && o.Put.Lease != 0:
				err = g.onLease(ctx, o.Put.Lease)
			case o.Txn != nil:
				err = o.Txn.onLeases(ctx, g)
			}
			if err != nil {
				return err
			}
		}
	}
	return nil
}
