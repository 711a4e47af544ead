package mvcc

import (
	"context"
	"encoding/binary"

	"github.com/headwaterdb/headwater/libs/engine"
)

// A change of the buckets either moves where groups count (a boundary is set, a merge begins), or it settles what such
// a change has begun: it moves what was counted before to where groups count now. How much that is must not change from
// the time it is read until it has been moved. So no group that counts by the boundaries from before the first change
// may be committed any more when the second one begins. Before FeatureFences, and on engines of this process, every
// change conflicts with every group: a group reads the row of the last change with a conflict.
//
// With FeatureFences a group on an engine over a network reads that row without one, and adds a conflict with its
// fence instead. The fence of a change is a key under its number, which nobody writes. Between the two changes is a
// third one, the seal. It acts as if it had written the fences of all changes before the last one that moved anything.
// So it stops the groups that have not seen that one, and no others. The keeper lets them end first (bucketsSettle).

// change is what the row of the last change of the buckets says.
type change struct {
	number uint64 // 0: the index has not been begun
	// moved is the number of the last change that moved where groups count.
	moved uint64
	// sealed is moved as it was at the last seal: no group counts as before that change any more.
	sealed uint64
}

// parseChange reads the row of the last change.
func parseChange(row []byte) (change, error) {
	switch len(row) {
	case 0:
		return change{}, nil
	case 8: // any change may have moved something
		n := binary.BigEndian.Uint64(row)
		return change{number: n, moved: n}, nil
	case 24:
		c := change{
			binary.BigEndian.Uint64(row), binary.BigEndian.Uint64(row[8:]), binary.BigEndian.Uint64(row[16:]),
		}
		if c.sealed > c.moved || c.moved > c.number {
			return change{}, ErrCorrupt
		}
		return c, nil
	}
	return change{}, ErrCorrupt
}

// row is the row of a change in a keyspace with features.
func (c change) row(f Features) []byte {
	row := binary.BigEndian.AppendUint64(nil, c.number)
	if f.Has(FeatureFences) {
		row = binary.BigEndian.AppendUint64(row, c.moved)
		row = binary.BigEndian.AppendUint64(row, c.sealed)
	}
	return row
}

// next is the change after c.
func (c change) next(moves bool) change {
	c.number++
	if moves {
		c.moved = c.number
	}
	return c
}

// countsAs says that groups count by c as by other, so that either may stand for the other.
func (c change) countsAs(other change) bool {
	return max(c.moved, other.moved) <= min(c.number, other.number)
}

// fence is the key that groups which know a change conflict at. It is no row.
func (s *Store) fence(number uint64) []byte {
	row := append(make([]byte, 0, len(s.bucketsRow)+1+8+1), s.bucketsRow...) // with room for the key behind it
	return binary.BigEndian.AppendUint64(append(row, 0), number)
}

// fenced says whether groups of a keyspace with features use fences.
func (s *Store) fenced(f Features) bool { return !s.limits.Dense && f.Has(FeatureCounts|FeatureFences) }

// loadBuckets learns what buckets the group's changes count in. The conflict is with changes after which they count
// elsewhere. last is the read of scanChange, if it has been started.
func (g *group) loadBuckets(ctx context.Context, last engine.Iterator) error {
	c, err := change{}, error(nil)
	if last != nil {
		if c, err = g.s.parseChange(last); err != nil {
			return err
		}
	}
	if !g.features.Has(FeatureCounts) {
		return nil
	}
	if !g.s.fenced(g.features) {
		return g.loadBucketsExactly(ctx)
	}
	if last == nil {
		if c, err = g.s.parseChange(g.s.scanChange(ctx, g.txn)); err != nil {
			return err
		}
	}
	if txn, writes := g.txn.(engine.Txn); writes {
		at := g.s.fence(c.number)
		txn.AddReadConflict(at[:len(at):len(at)], append(at, 0))
	}
	if known := g.s.buckets.Load(); known != nil && known.countsAs(c) {
		g.buckets = known
		return nil
	}
	g.buckets, err = g.s.bucketsOf(ctx, g.txn, c)
	return err
}

// loadBucketsExactly is loadBuckets without fences: any change of the buckets is a conflict.
func (g *group) loadBucketsExactly(ctx context.Context) error {
	if !g.features.Has(FeatureCounts) {
		return nil
	}
	row, err := g.row(ctx, g.s.bucketsRow)
	if err != nil {
		return err
	}
	c, err := parseChange(row)
	if err != nil {
		return err
	}
	g.buckets, err = g.s.bucketsOf(ctx, g.txn, c)
	return err
}
