//go:build foundationdb

package foundationdb

import (
	"context"
	"encoding/binary"
	"fmt"

	"github.com/apple/foundationdb/bindings/go/src/fdb"

	"github.com/headwaterdb/headwater/libs/engine"
	"github.com/headwaterdb/headwater/libs/engine/txnsize"
)

// txn is an engine.Txn. Mutations are passed to the client library at once.
type txn struct {
	reader
	size    txnsize.Size
	use     int   // stamps announced by UseStamps
	indexes int   // stamps needed: the largest index used, plus 1
	err     error // the first thing wrong with the transaction
	fence   fdb.Key
}

// Begin implements engine.Store.
func (s *Store) Begin(ctx context.Context) (engine.Txn, error) {
	v, err := s.view(ctx)
	if err != nil {
		return nil, err
	}
	return s.begin(int64(v.version))
}

// Get implements engine.Reader.
func (t *txn) Get(ctx context.Context, key []byte) ([]byte, error) {
	t.noteRead(key)
	return t.reader.Get(ctx, key)
}

// GetMany implements engine.Reader.
func (t *txn) GetMany(ctx context.Context, keys [][]byte) ([][]byte, error) {
	for _, key := range keys {
		t.noteRead(key)
	}
	return t.reader.GetMany(ctx, keys)
}

// Scan implements engine.Reader. Of a range of one key it reads that key, which counts at once. The client library does
// not count other scans.
func (t *txn) Scan(ctx context.Context, q engine.Range) engine.Iterator {
	if q.OneKey() && !q.NoConflict {
		t.noteRead(q.Begin)
	}
	return t.reader.Scan(ctx, q)
}

// noteRead counts a key that is read with a conflict.
func (t *txn) noteRead(key []byte) {
	t.size.ReadKey(t.under(key))
	t.noteFence(key)
}

// noteFence remembers the first key that was read with a conflict, for the fence.
func (t *txn) noteFence(key []byte) {
	if t.fence == nil && len(key) <= t.s.limits.KeyBytes { // nothing longer becomes a conflict
		t.fence = t.s.key(key)
	}
}

// AddReadConflict implements engine.Txn.
func (t *txn) AddReadConflict(begin, end []byte) {
	span, ok := t.s.span(begin, end)
	if !ok || t.ended || t.err != nil {
		return
	}
	t.size.Conflict(len(span.Begin.FDBKey()), len(span.End.FDBKey()))
	t.noteFence(begin)
	if err := t.tr.AddReadConflictRange(span); err != nil {
		t.err = wrap(err)
	}
}

// admit checks the sizes of one mutation, which has been counted. stamp is how many bytes a stamp takes in key and
// value.
func (t *txn) admit(key, value []byte, stamp int) bool {
	l := &t.s.limits
	switch {
	case t.ended || t.err != nil:
		return false
	case len(key)+stamp > l.KeyBytes:
		t.err = fmt.Errorf("foundationdb: a key of %d bytes: %w", len(key), engine.ErrTooLarge)
	case len(value)+stamp > l.ValueBytes:
		t.err = fmt.Errorf("foundationdb: a value of %d bytes: %w", len(value), engine.ErrTooLarge)
	case t.size.Bytes() > l.TxnBytes:
		t.err = t.tooLarge()
	}
	return t.err == nil
}

func (t *txn) tooLarge() error {
	return fmt.Errorf("foundationdb: a transaction of more than %d bytes: %w", t.s.limits.TxnBytes, engine.ErrTooLarge)
}

// under returns the length of a key under the root.
func (t *txn) under(key []byte) int { return len(t.s.o.Root) + len(key) }

// Set implements engine.Txn.
func (t *txn) Set(key, value []byte) {
	t.size.Set(t.under(key), len(value))
	if t.admit(key, value, 0) {
		t.tr.Set(t.s.key(key), value)
	}
}

// Clear implements engine.Txn.
func (t *txn) Clear(key []byte) {
	t.size.Clear(t.under(key))
	if t.admit(key, nil, 0) {
		t.tr.Clear(t.s.key(key))
	}
}

// ClearRange implements engine.Txn.
func (t *txn) ClearRange(begin, end []byte) {
	span, ok := t.s.span(begin, end)
	if !ok {
		return
	}
	t.size.ClearRange(len(span.Begin.FDBKey()), len(span.End.FDBKey()))
	if t.admit(nil, nil, 0) {
		t.tr.ClearRange(span)
	}
}

// Add implements engine.Txn.
func (t *txn) Add(key []byte, delta int64) {
	t.size.Add(t.under(key))
	if t.admit(key, nil, 0) {
		t.tr.Add(t.s.key(key), engine.AppendCounter(nil, delta))
	}
}

// AddWriteConflict implements engine.Txn.
func (t *txn) AddWriteConflict(begin, end []byte) {
	span, ok := t.s.span(begin, end)
	if !ok || t.ended || t.err != nil {
		return
	}
	t.size.Conflict(len(span.Begin.FDBKey()), len(span.End.FDBKey()))
	if err := t.tr.AddWriteConflictRange(span); err != nil {
		t.err = wrap(err)
	}
}

// SetStampedKey implements engine.Txn.
func (t *txn) SetStampedKey(key []byte, at int, value []byte) {
	t.size.StampedKey(t.under(key), len(value))
	if t.stampAt(key, at) && t.admit(key, value, txnsize.StampBytes) {
		t.tr.SetVersionstampedKey(fdb.Key(stampOperand(t.s.o.Root, key, at)), value)
	}
}

// SetStampedValue implements engine.Txn.
func (t *txn) SetStampedValue(key, value []byte, at int) {
	t.size.StampedValue(t.under(key), len(value))
	if t.stampAt(value, at) && t.admit(key, value, txnsize.StampBytes) {
		t.tr.SetVersionstampedValue(t.s.key(key), stampOperand(nil, value, at))
	}
}

// stampOperand returns the form in which FoundationDB takes root+b with a versionstamp at offset at of b: the offset,
// counted from the beginning, follows as 4 bytes, little-endian.
func stampOperand(root, b []byte, at int) []byte {
	op := append(make([]byte, 0, len(root)+len(b)+txnsize.StampBytes), root...)
	return binary.LittleEndian.AppendUint32(append(op, b...), uint32(len(root)+at))
}

// stampAt checks that b has room for a stamp at offset at, and records the stamp's index.
func (t *txn) stampAt(b []byte, at int) bool {
	if at < 0 || at+engine.StampLen > len(b) {
		if t.err == nil {
			t.err = fmt.Errorf("foundationdb: a stamp at offset %d of %d bytes", at, len(b))
		}
		return false
	}
	t.indexes = max(t.indexes, int(binary.BigEndian.Uint16(b[at+engine.StampLen-2:]))+1)
	return true
}

// UseStamps implements engine.Txn.
func (t *txn) UseStamps(n int) { t.use = max(t.use, n) }

// fits makes the checks that are possible before anything is sent.
func (t *txn) fits() error {
	l := &t.s.limits
	switch {
	case t.err != nil:
		return t.err
	case t.use > l.MaxStamps:
		return fmt.Errorf("foundationdb: %d stamps, at most %d: %w", t.use, l.MaxStamps, engine.ErrTooLarge)
	case t.indexes > t.use:
		return fmt.Errorf("foundationdb: stamp index %d used, but UseStamps(%d)", t.indexes-1, t.use)
	case t.size.Bytes() > l.TxnBytes:
		return t.tooLarge()
	}
	return nil
}

var _ engine.Forker = (*txn)(nil)

// Fork implements engine.Forker.
func (t *txn) Fork(ctx context.Context) (engine.Txn, error) {
	if err := t.reader.usable(ctx); err != nil {
		return nil, err
	}
	return t.s.begin(int64(t.version))
}

// Discard implements engine.Txn.
func (t *txn) Discard() {
	if t.ended {
		return
	}
	t.ended = true
	t.tr.Reset() // frees its memory before the garbage collector would
}
