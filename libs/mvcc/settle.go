package mvcc

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"math"

	"github.com/headwaterdb/headwater/libs/engine"
)

// settleMax bounds the rows of leases that a transaction changes where the engine bounds transactions.
const settleMax = 4096

// settleMany changes rows of leases until the transaction that ends the following has few left to change. What they say
// means nothing until then.
func (s *Store) settleMany(ctx context.Context, leases []ImportLease) error {
	for more := !s.limits.Dense; more; {
		var features Features
		var grown int64
		err := s.update(ctx, func(txn engine.Txn) error {
			row, err := txn.Get(ctx, s.rows.meta(metaFollow))
			if more = false; err != nil || row == nil {
				return cmp.Or(err, errNothing)
			}
			if _, features, err = s.parseHead(txn, s.scanHead(ctx, txn)); err != nil {
				return err
			}
			grown, more, err = s.settleLeases(ctx, txn, features, leases, settleMax)
			if err == nil && !more {
				err = errNothing
			}
			return err
		})
		switch {
		case err == nil:
			s.grew(features, grown)
		case !errors.Is(err, errNothing):
			return err
		}
	}
	return nil
}

// settleLast changes the rest, in the transaction that ends the following, and tells those who look after many
// keyspaces that there are leases.
func (s *Store) settleLast(
	ctx context.Context, txn engine.Txn, f Features, leases []ImportLease,
) (grown int64, err error) {
	grown, _, err = s.settleLeases(ctx, txn, f, leases, math.MaxInt)
	if b := s.o.Beside; b != nil && len(leases) > 0 {
		b.noteLeases(txn)
	}
	return grown, err
}

// leaseChange is a row of a lease as it is to be.
type leaseChange struct {
	row, value []byte // no value: it goes
	grown      int64
}

// settleLeases makes the rows of the leases those that are given, and changes no more than so many: more says that
// there are others. The keys that are on them stay on them.
func (s *Store) settleLeases(
	ctx context.Context, txn engine.Txn, f Features, leases []ImportLease, most int,
) (grown int64, more bool, err error) {
	changes, err := s.leaseChanges(ctx, txn, leases)
	if err != nil {
		return 0, false, err
	}
	if more = len(changes) > most; more {
		changes = changes[:most]
	}
	for _, c := range changes {
		if grown += c.grown; c.value == nil {
			txn.Clear(c.row)
		} else {
			txn.Set(c.row, c.value)
		}
	}
	if f.Has(FeatureSizes) && grown != 0 {
		txn.Add(s.sizeRow, grown)
	}
	return grown, more, nil
}

// leaseChanges compares the rows of the leases with those that are given.
func (s *Store) leaseChanges(
	ctx context.Context, txn engine.Txn, leases []ImportLease,
) (changes []leaseChange, err error) {
	want := make(map[int64][]byte, len(leases))
	for _, l := range leases {
		want[l.ID] = appendLease(nil, l.TTL, false)
	}
	it := txn.Scan(ctx, s.rows.tableRange(tableLease))
	defer it.Close()
	for it.Next() {
		id := s.rows.tableKey(it.Key())
		if len(id) != 8 {
			return nil, ErrCorrupt
		}
		wanted := want[int64(binary.BigEndian.Uint64(id))]
		delete(want, int64(binary.BigEndian.Uint64(id)))
		if bytes.Equal(wanted, it.Value()) {
			continue
		}
		c := leaseChange{row: bytes.Clone(it.Key()), value: wanted, grown: -s.rows.bytes(it.Key(), len(it.Value()))}
		if wanted != nil {
			c.grown += s.rows.bytes(c.row, len(wanted))
		}
		changes = append(changes, c)
	}
	for id, v := range want {
		row := s.rows.lease(nil, id)
		changes = append(changes, leaseChange{row: row, value: v, grown: s.rows.bytes(row, len(v))})
	}
	return changes, it.Err()
}
