package mvcc

import (
	"bytes"
	"context"
	"sort"

	"github.com/headwaterdb/headwater/libs/engine"
)

// The count index (FeatureCounts) cuts the keys of a keyspace into buckets. The boundary row of a bucket says where it
// begins and in what state it is, its counter row how many keys it has. A group adds what it changes to the counters
// of the buckets concerned, in its own transaction and without reading them. It reads one row about the buckets: the
// number of their last change. The boundaries themselves it has in memory. What makes a group conflict with changes is
// in fences.go.

// Bounds of the buckets' sizes. A count walks over the keys of two buckets at most, at the ends of its range.
const (
	// bucketKeysDense is how many keys a bucket may have on an engine of this process: walking over them takes less
	// than half a millisecond.
	bucketKeysDense = 4096
	// bucketKeysFar is the same on an engine over a network, which sends small values with the keys: a few pages.
	bucketKeysFar = 1024
)

// bucketState is the value of a boundary row.
type bucketState byte

const (
	// bucketSettled: the counter is the number of keys.
	bucketSettled bucketState = 1
	// bucketSplit: the keys that the bucket had when it was split off still count in the next settled one to the left.
	bucketSplit bucketState = 2
	// bucketMerged: its keys count in the next bucket to the left from now on; the counter has what was before.
	bucketMerged bucketState = 3
	// bucketUncounted: the counter lacks the keys that the bucket had when the index was begun.
	bucketUncounted bucketState = 4
)

// joins says that a bucket and the one to its left are exact only together.
func (s bucketState) joins() bool { return s == bucketSplit || s == bucketMerged }

// buckets are all buckets of a keyspace between two changes of them. Nobody changes one.
type buckets struct {
	change          // the last one
	starts [][]byte // in order; the first is empty
	states []bucketState
	plain  bool // all are settled
}

// at returns the bucket that a key lies in.
func (b *buckets) at(key []byte) int {
	return sort.Search(len(b.starts), func(i int) bool { return bytes.Compare(b.starts[i], key) > 0 }) - 1
}

// counts returns the bucket that a key counts in, and where the keys end that do so too; nil: nowhere.
func (b *buckets) counts(key []byte) (i int, end []byte) {
	i = b.at(key)
	for b.states[i] == bucketMerged {
		i--
	}
	return i, b.end(i)
}

// end returns where the keys end that count in a bucket; nil: nowhere.
func (b *buckets) end(i int) []byte {
	for i++; i < len(b.starts); i++ {
		if b.states[i] != bucketMerged {
			return b.starts[i]
		}
	}
	return nil
}

// base returns the bucket to the left that others join.
func (b *buckets) base(i int) int {
	for b.states[i].joins() {
		i--
	}
	return i
}

// group returns where the buckets end that are exact only together with bucket i, which joins no other.
func (b *buckets) group(i int) int {
	for i++; i < len(b.starts) && b.states[i].joins(); i++ {
	}
	return i
}

// boundary is the row that says that a bucket begins at a key.
func (r rows) boundary(dst, start []byte) []byte {
	return append(r.table(dst, tableBoundary), start...)
}

// counter is the row that has the number of its keys.
func (r rows) counter(dst, start []byte) []byte { return append(r.table(dst, tableCounter), start...) }

// newBuckets begins the index of a keyspace, in a transaction that reads it with a conflict: state says whether the
// keyspace is new, without keys.
func newBuckets(txn importRows, r rows, state bucketState) {
	txn.Set(r.boundary(nil, nil), []byte{byte(state)})
	txn.Set(r.meta(metaBuckets), change{number: 1}.row(0))
}

// bucketsOf returns the buckets in a reader's state, in which a change is the last; nil before the first. It adds no
// conflict: the caller has read the row of the change.
func (s *Store) bucketsOf(ctx context.Context, r engine.Reader, last change) (*buckets, error) {
	if last.number == 0 {
		return nil, nil
	}
	known := s.buckets.Load()
	if known != nil && known.number == last.number {
		return known, nil
	}
	b, err := s.readBuckets(ctx, r, last)
	if err != nil {
		return nil, storeErr(err)
	}
	if known == nil || known.number < last.number {
		s.buckets.CompareAndSwap(known, b)
	}
	return b, nil
}

func (s *Store) readBuckets(ctx context.Context, r engine.Reader, last change) (*buckets, error) {
	b := &buckets{change: last, plain: true}
	rng := s.rows.tableRange(tableBoundary)
	rng.NoConflict = true
	it := r.Scan(ctx, rng)
	defer it.Close()
	for it.Next() {
		value := it.Value()
		if len(value) != 1 || value[0] < byte(bucketSettled) || value[0] > byte(bucketUncounted) {
			return nil, ErrCorrupt
		}
		b.starts = append(b.starts, bytes.Clone(s.rows.tableKey(it.Key())))
		b.states = append(b.states, bucketState(value[0]))
		b.plain = b.plain && value[0] == byte(bucketSettled)
	}
	if err := it.Err(); err != nil {
		return nil, err
	}
	if len(b.starts) == 0 || len(b.starts[0]) != 0 || b.states[0].joins() {
		return nil, ErrCorrupt
	}
	return b, nil
}

// counters adds the keys that the group creates and deletes to the counters of their buckets.
func (w *rowWriter) counters() {
	b := w.g.buckets
	if b == nil {
		return
	}
	at, sum := -1, int64(0)
	var end []byte
	add := func() {
		if sum != 0 {
			w.k = w.g.s.rows.counter(w.k[:0], b.starts[at])
			w.txn.Add(w.k, sum)
			w.g.counted += max(sum, -sum)
		}
		sum = 0
	}
	w.g.changes.Ascend(func(st *keyState) bool {
		if st.live == st.lived {
			return true
		}
		if at < 0 || end != nil && bytes.Compare(st.key, end) >= 0 {
			add()
			at, end = b.counts(st.key)
		}
		sum += st.born()
		return true
	})
	add()
}

// born is by how much the group changes the number of keys by this one.
func (st *keyState) born() int64 {
	switch {
	case st.live && !st.lived:
		return 1
	case st.lived && !st.live:
		return -1
	}
	return 0
}
