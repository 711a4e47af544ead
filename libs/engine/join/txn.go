package join

import (
	"context"

	"github.com/headwaterdb/headwater/libs/engine"
)

// txn is a transaction of a domain. It reads in the engine's transaction, where its read conflicts are too, so that it
// can always be committed alone. While it has a record, its mutations are there and nowhere else.
type txn struct {
	engine.Txn
	d     *domain
	rec   *record // nil: it goes alone, and mutations go to the engine's transaction
	known uint64  // the newest commit of the domain when it began
}

var (
	_ engine.Shrinker = (*txn)(nil)
	_ engine.Vital    = (*txn)(nil)
)

// spill has the transaction go alone.
func (t *txn) spill() {
	if rec := t.rec; rec != nil {
		t.rec = nil
		rec.replay(t.Txn)
	}
}

// check has the transaction go alone if it has become too large to be joined.
func (t *txn) check() {
	if !t.rec.small() {
		t.spill()
	}
}

// Get implements engine.Reader.
func (t *txn) Get(ctx context.Context, key []byte) ([]byte, error) {
	if t.rec != nil {
		t.rec.read(key)
		t.check()
	}
	return t.Txn.Get(ctx, key)
}

// GetMany implements engine.Reader.
func (t *txn) GetMany(ctx context.Context, keys [][]byte) ([][]byte, error) {
	for _, key := range keys {
		if t.rec == nil {
			break
		}
		t.rec.read(key)
		t.check()
	}
	return t.Txn.GetMany(ctx, keys)
}

// Scan implements engine.Reader.
func (t *txn) Scan(ctx context.Context, r engine.Range) engine.Iterator {
	if !r.NoConflict {
		t.spill()
	}
	return t.Txn.Scan(ctx, r)
}

// AddReadConflict implements engine.Txn.
func (t *txn) AddReadConflict(begin, end []byte) {
	if t.rec != nil && (end == nil || string(begin) < string(end)) {
		t.rec.readRange(begin, end)
		t.check()
	}
	t.Txn.AddReadConflict(begin, end)
}

// AddWriteConflict implements engine.Txn.
func (t *txn) AddWriteConflict(begin, end []byte) {
	t.spill()
	t.Txn.AddWriteConflict(begin, end)
}

// Set implements engine.Txn.
func (t *txn) Set(key, value []byte) {
	if t.rec == nil {
		t.Txn.Set(key, value)
		return
	}
	t.rec.change(set, key, value, 0)
	t.check()
}

// Clear implements engine.Txn.
func (t *txn) Clear(key []byte) {
	if t.rec == nil {
		t.Txn.Clear(key)
		return
	}
	t.rec.change(clearKey, key, nil, 0)
	t.check()
}

// ClearRange implements engine.Txn.
func (t *txn) ClearRange(begin, end []byte) {
	if t.rec == nil {
		t.Txn.ClearRange(begin, end)
		return
	}
	if end != nil && string(begin) >= string(end) {
		return // an empty range is no mutation, and its end, which may be of no bytes, is not the store's
	}
	t.rec.clearRange(begin, end)
	t.check()
}

// Add implements engine.Txn.
func (t *txn) Add(key []byte, delta int64) {
	if t.rec == nil {
		t.Txn.Add(key, delta)
		return
	}
	t.rec.change(add, key, nil, delta)
	t.check()
}

// SetStampedKey implements engine.Txn.
func (t *txn) SetStampedKey(key []byte, at int, value []byte) {
	if t.rec == nil {
		t.Txn.SetStampedKey(key, at, value)
		return
	}
	t.rec.stamp(stampedKey, key, value, key, at)
	t.check()
}

// SetStampedValue implements engine.Txn.
func (t *txn) SetStampedValue(key, value []byte, at int) {
	if t.rec == nil {
		t.Txn.SetStampedValue(key, value, at)
		return
	}
	t.rec.stamp(stampedValue, key, value, value, at)
	t.check()
}

// UseStamps implements engine.Txn.
func (t *txn) UseStamps(n int) {
	if t.rec == nil {
		t.Txn.UseStamps(n)
		return
	}
	t.rec.use = max(t.rec.use, n)
}

// Shrinks implements engine.Shrinker, if the engine's transaction does. A joined transaction has no mark; if there is
// no space for it its members commit alone, with theirs.
func (t *txn) Shrinks() {
	if s, ok := t.Txn.(engine.Shrinker); ok {
		s.Shrinks()
	}
}

// Vital implements engine.Vital, as far as the engine's transaction does.
func (t *txn) Vital() {
	if v, ok := t.Txn.(engine.Vital); ok {
		v.Vital()
		return
	}
	t.Shrinks()
}

// Discard implements engine.Txn.
func (t *txn) Discard() {
	t.rec = nil
	t.Txn.Discard() // which does nothing after Commit
}

// joinable says that the transaction may wait for others.
func (t *txn) joinable() bool {
	return t.rec != nil && t.rec.use > 0 && t.rec.indexes <= t.rec.use && len(t.rec.ops) > 0
}

// Commit implements engine.Txn. A transaction that waits for others has its errors in Wait.
func (t *txn) Commit(ctx context.Context) (engine.Pending, error) {
	if !t.joinable() {
		t.spill()
		return t.d.commit(ctx, t.Txn, false)
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	m := &member{
		flow: &t.d.flow, d: t.d, txn: t.Txn, rec: t.rec, version: t.Version(), known: t.known,
		bytes: len(t.rec.buf), reads: len(t.rec.reads), done: make(chan struct{}),
	}
	if t.d.s.wait(m) {
		t.rec, t.Txn = nil, ended{version: m.version}
		return m, nil
	}
	t.spill()
	return t.d.commit(ctx, t.Txn, true)
}
