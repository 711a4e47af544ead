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

// auth is what a Store knows of the keyspace's users and roles: not what they are, but how new.
type authSeen struct {
	seen atomic.Uint64 // the greatest number
	at   atomic.Pointer[authAt]
	fed  uint64 // the number that Options.AuthChanged has been told of; whoever feeds has it
}

// The row meta/auth is a number (8) and the ids of the last changes, the last one in front, by which a change whose
// outcome was unknown knows itself again.
const (
	authRowMin  = 8
	changeIDs   = 4
	changeIDLen = 8
)

// AuthRow is a row of the table of users and roles: a key within the table, and a value; nil: there is none.
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

// AuthChange says what becomes of users and roles at a number: the next number, and the rows that are written; the same
// number and no rows: nothing is to be changed. It may be called several times. Its errors are those of UpdateAuth.
type AuthChange func(number uint64, rows []AuthRow) (next uint64, set []AuthRow, err error)

// UpdateAuth changes users and roles in a transaction of its own, and returns the head. Every request that carries an
// Access of before and is carried out after it fails with ErrAuthOld. The first change sets FeatureAuth. Errors:
// ErrUnavailable (the outcome is unknown), ErrNoSpace, ErrTooLarge, the context's, change's.
func (s *Store) UpdateAuth(ctx context.Context, change AuthChange) (rev int64, err error) {
	return s.updateAuth(ctx, change, false)
}

// FollowAuth is UpdateAuth for a keyspace that follows: users and roles become those of its source. Errors: as
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

// changeAuth is one run of UpdateAuth. row is what meta/auth is afterwards.
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
			return rev, row, nil // the run before has happened
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

// authFollows refuses a change of users and roles that does not fit a keyspace that follows, or does not. What is no
// such change, as a secret with which tokens are signed, is made in either.
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
