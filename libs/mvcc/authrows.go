package mvcc

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"slices"
	"sync/atomic"

	"github.com/headwaterdb/headwater/libs/engine"
)

// authSeen is what a Store knows about the keyspace's users and roles: not their content, but how new they are.
type authSeen struct {
	seen atomic.Uint64 // the greatest number
	at   atomic.Pointer[authAt]
	fed  uint64 // the number that Options.AuthChanged has got; used by the feeder
}

// The row meta/auth has a number (8) and the ids of the last changes, the newest first. A change with an unknown
// outcome finds out by its id whether it has happened.
const (
	authRowMin  = 8
	changeIDs   = 4
	changeIDLen = 8
)

// AuthRow is a row of the table of users and roles: a key within the table, and a value; nil: the row does not exist.
type AuthRow struct{ Key, Value []byte }

// ReadAuth returns the users and roles with their number, and the head. Errors: ErrUnavailable, ErrCorrupt, the
// context's.
func (s *Store) ReadAuth(ctx context.Context) (number uint64, rows []AuthRow, rev int64, err error) {
	err = s.view(ctx, func(snap engine.Snapshot) error {
		if rev, err = s.headOf(ctx, snap); err != nil {
			return err
		}
		number, rows = authNone, nil
		if !s.Features().Has(FeatureAuth) {
			return nil
		}
		if number, err = s.authOf(ctx, snap); err != nil {
			return err
		}
		rows, err = s.readAuthRows(ctx, snap)
		return err
	})
	return number, rows, rev, err
}

func (s *Store) readAuthRows(ctx context.Context, r engine.Reader) (rows []AuthRow, err error) {
	it := r.Scan(ctx, s.rows.tableRange(tableAuth))
	defer it.Close()
	for it.Next() {
		rows = append(rows, AuthRow{bytes.Clone(s.rows.tableKey(it.Key())), bytes.Clone(it.Value())})
	}
	return rows, storeErr(it.Err())
}

// AuthChange returns how users and roles change at a number: the next number, and the rows to write. The same number
// and no rows mean that nothing changes. It may be called several times. UpdateAuth returns its errors.
type AuthChange func(number uint64, rows []AuthRow) (next uint64, set []AuthRow, err error)

// UpdateAuth changes users and roles in a transaction of its own, and returns the head. A request with an older Access
// that is carried out after it fails with ErrAuthOld. The first change sets FeatureAuth. Errors: ErrUnavailable (the
// outcome is unknown), ErrNoSpace, ErrTooLarge, the context's, change's.
func (s *Store) UpdateAuth(ctx context.Context, change AuthChange) (rev int64, err error) {
	return s.updateAuth(ctx, change, false)
}

// FollowAuth is UpdateAuth for a keyspace that follows: it gets the users and roles of its source. Errors: as
// UpdateAuth, and ErrNotFollowing.
func (s *Store) FollowAuth(ctx context.Context, change AuthChange) (rev int64, err error) {
	return s.updateAuth(ctx, change, true)
}

// updateAuth is UpdateAuth, or with follows FollowAuth.
func (s *Store) updateAuth(ctx context.Context, change AuthChange, follows bool) (rev int64, err error) {
	if !s.Features().Has(FeatureAuth) {
		number, rows, rev, err := s.ReadAuth(ctx)
		if err != nil {
			return 0, err
		}
		next, set, err := change(number, rows)
		if err != nil || next == number && len(set) == 0 {
			return rev, err
		}
		if err := authFollows(s.Following(), follows, next != number); err != nil {
			return 0, err
		}
		if err := s.Activate(ctx, FeatureAuth); err != nil {
			return 0, err
		}
	}
	id := make([]byte, changeIDLen)
	rand.Read(id)
	var row []byte
	err = s.update(ctx, func(txn engine.Txn) error {
		rev, row, err = s.changeAuth(ctx, txn, id, change, follows)
		return err
	})
	if err == nil {
		_, err = s.sawAuth(row)
	}
	return rev, err
}

// changeAuth is one run of UpdateAuth. row is the new value of meta/auth.
func (s *Store) changeAuth(
	ctx context.Context, txn engine.Txn, id []byte, change AuthChange, follows bool,
) (rev int64, row []byte, err error) {
	rev, features, err := s.parseHead(txn, s.scanHead(ctx, txn))
	if err != nil {
		return 0, nil, err
	}
	if row, err = txn.Get(ctx, s.authRow); err != nil {
		return 0, nil, err
	}
	number, err := parseAuthNumber(row)
	if err != nil {
		return 0, nil, err
	}
	ids := row[min(len(row), authRowMin):]
	for have := range slices.Chunk(ids, changeIDLen) {
		if bytes.Equal(have, id) {
			return rev, row, nil // an earlier run has been committed
		}
	}
	rows, err := s.readAuthRows(ctx, txn)
	if err != nil {
		return 0, nil, err
	}
	next, set, err := change(number, rows)
	if err != nil || next == number && len(set) == 0 {
		return rev, row, err
	}
	if err := authFollows(features.Has(FeatureFollows), follows, next != number); err != nil {
		return 0, nil, err
	}
	for _, r := range set {
		key := append(s.rows.table(nil, tableAuth), r.Key...)
		if r.Value == nil {
			txn.Clear(key)
		} else {
			txn.Set(key, r.Value)
		}
	}
	row = append(binary.BigEndian.AppendUint64(nil, next), id...)
	row = append(row, ids[:min(len(ids), (changeIDs-1)*changeIDLen)]...)
	txn.Set(s.authRow, row)
	return rev, row, nil
}

// authFollows refuses a change of users and roles that only a following keyspace may make, in one that does not follow,
// and the other way round. Changes of other kinds, such as a new secret that signs tokens, are allowed in both.
func authFollows(is, follows, changes bool) error {
	switch {
	case follows && !is:
		return ErrNotFollowing
	case is && !follows && changes:
		return ErrFollowing
	}
	return nil
}

// AttachedKeys visits the keys that are on leases, in no particular order. Errors: ErrUnavailable, the context's,
// visit's.
func (s *Store) AttachedKeys(ctx context.Context, visit func(key []byte) error) error {
	r := s.rows.tableRange(tableLeaseKey)
	r.KeysOnly = true
	return s.view(ctx, func(snap engine.Snapshot) error {
		it := snap.Scan(ctx, r)
		defer it.Close()
		for it.Next() {
			key := s.rows.tableKey(it.Key())
			if len(key) < 8 {
				return ErrCorrupt
			}
			if err := visit(key[8:]); err != nil {
				return err
			}
			r.Begin = append(bytes.Clone(it.Key()), 0)
		}
		return it.Err()
	})
}
