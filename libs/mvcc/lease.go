package mvcc

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"slices"
	"strconv"

	"github.com/headwaterdb/headwater/libs/engine"
	"github.com/headwaterdb/headwater/libs/engine/retry"
)

// Fence is the claim of the owner of a shard of leases: the ballot in the shard's row at the time of the claim. A
// request that carries a Fence fails with ErrFenced once another process has claimed the shard (docs/design.md §7).
type Fence struct {
	shard  int
	ballot uint64
}

// LeaseGrant stores a lease. The caller keeps its time. fence, if not nil, must still be the owner's: nobody would
// expire a lease granted by an owner that has been replaced. A grant makes no revision; rev is the revision for the
// response header. Errors: ErrLeaseExists, ErrFenced, ErrNoSpace, and those of Put.
func (s *Store) LeaseGrant(ctx context.Context, id, ttl int64, fence *Fence) (rev int64, err error) {
	return s.submitRev(ctx, &leaseGrant{id: id, ttl: ttl, fence: fence})
}

// LeaseRevoke deletes a lease and, in one revision, the keys attached to it. fence, if not nil, must still be the
// owner's. Errors: ErrLeaseNotFound, ErrFenced, those of Put, and ErrLeaseEnding: the keys do not fit in one
// transaction, or the lease was ending already, and the caller must continue with LeaseRevokeStep.
func (s *Store) LeaseRevoke(ctx context.Context, id int64, fence *Fence) (rev int64, err error) {
	rev, err = s.submitRev(ctx, &leaseRevoke{id: id, fence: fence})
	if errors.Is(err, ErrTooLarge) {
		return s.endLater(ctx, id, fence)
	}
	return rev, err
}

// rowBytes is what a request about a lease or a compaction counts towards the size of its group.
const rowBytes = 64

func (s *Store) submitRev(ctx context.Context, m mutation) (int64, error) {
	res, err := s.submit(ctx, m, rowBytes)
	if err != nil {
		return 0, err
	}
	return res.Rev, nil
}

type leaseGrant struct {
	id, ttl int64
	fence   *Fence
}

func (*leaseGrant) keys(func([]byte)) {}
func (*leaseGrant) grows() bool       { return true }
func (*leaseGrant) proves() bool      { return false }

func (m *leaseGrant) run(ctx context.Context, g *group, res *Result) error {
	if err := g.checkFence(ctx, m.fence); err != nil {
		return err
	}
	l, err := g.lease(ctx, m.id)
	if err != nil {
		return err
	}
	if l.live || l.ending {
		return ErrLeaseExists
	}
	l.ttl, l.live, l.dirty = m.ttl, true, true
	res.Rev = g.rev
	return nil
}

type leaseRevoke struct {
	id    int64
	fence *Fence
}

func (*leaseRevoke) keys(func([]byte)) {}
func (*leaseRevoke) grows() bool       { return false }
func (*leaseRevoke) proves() bool      { return false }

func (m *leaseRevoke) run(ctx context.Context, g *group, res *Result) error {
	if err := g.checkFence(ctx, m.fence); err != nil {
		return err
	}
	l, err := g.lease(ctx, m.id)
	if err != nil {
		return err
	}
	switch {
	case l.ending:
		return ErrLeaseEnding
	case !l.live:
		return ErrLeaseNotFound
	}
	if err := g.onLease(ctx, m.id); err != nil {
		return err
	}
	most := 0
	if g.s.stepwise() {
		most = g.s.limits.TxnBytes / deletedBytesMin
	}
	attached, all, err := g.attached(ctx, m.id, most)
	if err != nil {
		return err
	}
	if !all { // known before all keys have been read
		return refusal{storeErr(engine.ErrTooLarge)}
	}
	if err := g.detach(ctx, attached); err != nil {
		return err
	}
	l.live, l.dirty = false, true
	res.Rev = g.rev
	return nil
}

// checkFence compares a fence with the ballot in its shard's row, which it reads once per group.
func (g *group) checkFence(ctx context.Context, f *Fence) error {
	if f == nil {
		return nil
	}
	ballot, ok := g.ballots[f.shard]
	if !ok {
		row, err := g.row(ctx, g.s.ownerRow(f.shard))
		if err != nil {
			return err
		}
		if ballot, err = parseBallot(row); err != nil {
			return err
		}
		if g.ballots == nil {
			g.ballots = map[int]uint64{}
		}
		g.ballots[f.shard] = ballot
	}
	if ballot != f.ballot {
		return ErrFenced
	}
	return nil
}

// attached returns the keys of a lease in order: those that the engine has, and those that the group has put. If most >
// 0 it may stop after that many of the engine's keys; all reports whether it has returned all of them.
func (g *group) attached(ctx context.Context, id int64, most int) (_ []*keyState, all bool, err error) {
	keys, all, err := g.s.leaseKeys(ctx, g.txn, id, most, g.budget.spend)
	if err != nil {
		return nil, false, err
	}
	if err := g.loadAttached(ctx, keys); err != nil {
		return nil, false, err
	}
	attached := make([]*keyState, 0, len(keys))
	for _, k := range keys {
		if st := g.states[string(k)]; !st.dirty && st.rec.lease == id {
			attached = append(attached, st)
		}
	}
	g.changes.Ascend(func(st *keyState) bool {
		if st.live && st.rec.lease == id {
			attached = append(attached, st)
		}
		return true
	})
	slices.SortFunc(attached, func(a, b *keyState) int { return bytes.Compare(a.key, b.key) })
	return attached, all, nil
}

// leaseKeys returns the keys attached to a lease, or with most > 0 the first of them, and whether these are all. spend
// is called for each key first.
func (s *Store) leaseKeys(
	ctx context.Context, r engine.Reader, id int64, most int, spend func(bytes int) error,
) (keys [][]byte, all bool, err error) {
	begin := s.rows.leaseKey(id, nil)
	it := r.Scan(ctx, engine.Range{Begin: begin, End: prefixEnd(begin), KeysOnly: true})
	defer it.Close()
	for it.Next() {
		if most > 0 && len(keys) == most {
			return keys, false, nil
		}
		if err := spend(0); err != nil {
			return nil, false, err
		}
		keys = append(keys, bytes.Clone(it.Key()[len(begin):]))
	}
	return keys, true, storeErr(it.Err())
}

// LeaseKeys returns the keys attached to a lease in order, and the head. An unknown lease has no keys. Errors:
// ErrUnavailable, the context's.
func (s *Store) LeaseKeys(ctx context.Context, id int64) (keys [][]byte, rev int64, err error) {
	err = s.view(ctx, func(snap engine.Snapshot) error {
		if rev, err = s.headOf(ctx, snap); err != nil {
			return err
		}
		if s.Features().Has(FeatureAuth) { // the caller may need the permission to know them
			if _, err = s.authOf(ctx, snap); err != nil {
				return err
			}
		}
		keys, _, err = s.leaseKeys(ctx, snap, id, 0, func(int) error { return nil })
		return err
	})
	return keys, rev, wanted(leaseOf(id), err)
}

// Leases visits all leases, in no particular order. A lease that is ending is visited with LeaseEnding as its time to
// live. Errors: ErrUnavailable, the context's, visit's.
func (s *Store) Leases(ctx context.Context, visit func(id, ttl int64) error) error {
	r := s.rows.tableRange(tableLease)
	err := s.view(ctx, func(snap engine.Snapshot) error {
		it := snap.Scan(ctx, r)
		defer it.Close()
		for it.Next() {
			key := it.Key()[len(s.rows.prefix)+1:]
			ttl, ending, err := parseLease(it.Value())
			if err != nil || len(key) != 8 {
				return ErrCorrupt
			}
			if ending {
				ttl = LeaseEnding
			}
			if err := visit(int64(binary.BigEndian.Uint64(key)), ttl); err != nil {
				return err
			}
			r.Begin = append(bytes.Clone(it.Key()), 0)
		}
		return it.Err()
	})
	return wanted("the list of leases", err)
}

// ClaimLeases makes the caller the owner of a shard of the keyspace's leases. Fences of the shard that were given out
// before are no longer valid. The callers agree on which leases belong to which shard; where leases are not sharded,
// all are in shard 0. Errors: ErrUnavailable, the context's.
func (s *Store) ClaimLeases(ctx context.Context, shard int) (Fence, error) {
	f := Fence{shard: shard}
	err := s.update(ctx, func(txn engine.Txn) error {
		ballot, err := s.readBallot(ctx, txn, shard)
		if err != nil {
			return err
		}
		f.ballot = ballot + 1
		txn.Set(s.ownerRow(shard), binary.BigEndian.AppendUint64(nil, f.ballot))
		return nil
	})
	return f, err
}

// ownerRow is the key of the row that holds the ballot of a shard's owner.
func (s *Store) ownerRow(shard int) []byte {
	name := metaOwner
	if shard != 0 {
		name += "/" + strconv.Itoa(shard)
	}
	return s.rows.meta(name)
}

func (s *Store) readBallot(ctx context.Context, r engine.Reader, shard int) (uint64, error) {
	row, err := r.Get(ctx, s.ownerRow(shard))
	if err != nil {
		return 0, storeErr(err)
	}
	return parseBallot(row)
}

// parseBallot reads an owner's row. The row does not exist before the first claim.
func parseBallot(row []byte) (uint64, error) {
	if row == nil {
		return 0, nil
	}
	if len(row) != 8 {
		return 0, ErrCorrupt
	}
	return binary.BigEndian.Uint64(row), nil
}

// update runs a transaction without revisions beside the groups, until it commits or the engine is unavailable. f must
// be idempotent: it may run several times, also after a commit whose outcome was unknown.
func (s *Store) update(ctx context.Context, f func(engine.Txn) error) error {
	unavailable := 0
	err := updates.Do(ctx, func(err error) bool {
		class := engine.ClassOf(err)
		if class == engine.Unavailable {
			unavailable++
		}
		return class.Passes() && unavailable <= unavailableMax
	}, func() error { return s.tryUpdate(ctx, f) })
	return s.noted(storeErr(err))
}

// updates bounds the attempts of one such transaction.
var updates = retry.Policy{Min: pauses.Min, Max: pauses.Max, Attempts: attemptsMax}

func (s *Store) tryUpdate(ctx context.Context, f func(engine.Txn) error) error {
	txn, err := s.eng.Begin(ctx)
	return finishUpdate(ctx, txn, f, err)
}

// finishUpdate runs a transaction. If it could not begin, beginErr says why.
func finishUpdate(ctx context.Context, txn engine.Txn, f func(engine.Txn) error, beginErr error) error {
	if beginErr != nil {
		return beginErr
	}
	defer txn.Discard()
	if err := f(txn); err != nil {
		return err
	}
	markVital(txn) // what is kept beside the groups: the owner of leases, alarms, what compaction removes
	p, err := txn.Commit(ctx)
	if err != nil {
		return err
	}
	_, err = p.Wait(ctx)
	return err
}
