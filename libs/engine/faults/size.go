package faults

import "github.com/headwaterdb/headwater/libs/engine"

// What FoundationDB 7.3 counts beside the bytes of keys and values: the structures themselves. Transaction::getSize
// (NativeAPI.actor.cpp) sums
// VectorRef::expectedSize of the mutations and of the conflict ranges, which is sizeof of each element and the bytes
// that it names.
const (
	mutationBytes = 44 // sizeof(MutationRef)
	rangeBytes    = 24 // sizeof(KeyRangeRef)
	stampSuffix   = 4  // the offset behind the operand of a versionstamp
)

// size is a transaction's size as FoundationDB's client counts it before a commit, where read-your-writes is off:
// nothing is merged. The read conflicts
// of scans join the transaction only after the count; fences and the like too.
type size struct {
	bytes   int
	changes int
}

// conflictRange counts a conflict range.
func (z *size) conflictRange(begin, end []byte) { z.bytes += rangeBytes + len(begin) + len(end) }

// conflictKey counts the conflict range of one key: from it to the next key, which is a byte longer.
func (z *size) conflictKey(key int) { z.bytes += rangeBytes + 2*key + 1 }

// mutation counts a mutation with both of its parameters.
func (z *size) mutation(a, b int) {
	z.bytes += mutationBytes + a + b
	z.changes++
}

// Size returns what the transaction counts as so far, exactly as FoundationDB 7.3 does.
func (t *txn) Size() int { return t.size.bytes }

// Set implements engine.Txn.
func (t *txn) Set(key, value []byte) {
	t.size.mutation(len(key), len(value))
	t.size.conflictKey(len(key))
	t.Txn.Set(key, value)
}

// Clear implements engine.Txn: it is the clear of a range of one key.
func (t *txn) Clear(key []byte) {
	t.size.mutation(len(key), len(key)+1)
	t.size.conflictKey(len(key))
	t.Txn.Clear(key)
}

// ClearRange implements engine.Txn.
func (t *txn) ClearRange(begin, end []byte) {
	if end == nil || string(begin) < string(end) {
		t.size.mutation(len(begin), len(end))
		t.size.conflictRange(begin, end)
	}
	t.Txn.ClearRange(begin, end)
}

// SetStampedKey implements engine.Txn. Its conflict range is added by the cluster, which knows the key.
func (t *txn) SetStampedKey(key []byte, at int, value []byte) {
	t.size.mutation(len(key)+stampSuffix, len(value))
	t.Txn.SetStampedKey(key, at, value)
}

// SetStampedValue implements engine.Txn.
func (t *txn) SetStampedValue(key, value []byte, at int) {
	t.size.mutation(len(key), len(value)+stampSuffix)
	t.size.conflictKey(len(key))
	t.Txn.SetStampedValue(key, value, at)
}

// Add implements engine.Txn.
func (t *txn) Add(key []byte, delta int64) {
	t.size.mutation(len(key), len(engine.AppendCounter(nil, delta)))
	t.size.conflictKey(len(key))
	t.Txn.Add(key, delta)
}

// AddReadConflict implements engine.Txn.
func (t *txn) AddReadConflict(begin, end []byte) {
	if end == nil || string(begin) < string(end) {
		t.size.conflictRange(begin, end)
	}
	t.Txn.AddReadConflict(begin, end)
}

// AddWriteConflict implements engine.Txn.
func (t *txn) AddWriteConflict(begin, end []byte) {
	if end == nil || string(begin) < string(end) {
		t.size.conflictRange(begin, end)
	}
	t.Txn.AddWriteConflict(begin, end)
}
