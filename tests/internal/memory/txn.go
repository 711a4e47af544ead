package memory

import (
	"context"
	"encoding/binary"
	"fmt"

	"github.com/headwaterdb/headwater/libs/engine"
	"github.com/headwaterdb/headwater/libs/engine/txnsize"
)

// change is one mutation. It is made when the version of the commit is known.
type change func(s *Store, version uint64, c *commit)

// txn is an engine.Txn.
type txn struct {
	reader
	s       *Store
	life    int                 // of the store when it began
	keys    map[string]struct{} // read
	spans   []span              // read
	touched []span              // AddWriteConflict
	changes []change
	size    txnsize.Size
	stamps  int
	used    int // 1 + the largest index used
	err     error
}

func clone(b []byte) []byte { return append([]byte{}, b...) }

// cloneEnd is clone for the end of a range, where nil says that there is none.
func cloneEnd(b []byte) []byte {
	if b == nil {
		return nil
	}
	return clone(b)
}

// Get implements engine.Reader.
func (t *txn) Get(ctx context.Context, key []byte) ([]byte, error) {
	if err := t.check(ctx); err != nil {
		return nil, err
	}
	if t.keys == nil {
		t.keys = make(map[string]struct{})
	}
	t.keys[string(key)] = struct{}{}
	t.size.ReadKey(len(key))
	return t.reader.Get(ctx, key)
}

// GetMany implements engine.Reader.
func (t *txn) GetMany(ctx context.Context, keys [][]byte) ([][]byte, error) {
	return getMany(ctx, keys, t.Get)
}

// Scan implements engine.Reader. Until the iterator is closed the whole range counts as read, and after that only the
// part that it has visited.
func (t *txn) Scan(ctx context.Context, q engine.Range) engine.Iterator {
	it := t.reader.Scan(ctx, q).(*iterator)
	if q.NoConflict || it.done {
		return it
	}
	at := len(t.spans)
	t.spans = append(t.spans, it.span)
	it.onClose = func(it *iterator) {
		switch {
		case t.ended || it.end || it.err != nil:
		case it.steps == 0:
			t.spans[at].end = t.spans[at].begin
			if t.spans[at].end == nil {
				t.spans[at].end = []byte{}
			}
		case it.reverse:
			t.spans[at].begin = it.at.key
		default:
			t.spans[at].end = append(clone(it.at.key), 0)
		}
	}
	return it
}

// admit checks one mutation, which has been counted. stamp is the number of bytes that a stamp takes in key and value.
func (t *txn) admit(key, value []byte, stamp int) bool {
	switch {
	case t.ended || t.err != nil:
	case len(key)+stamp > limits.KeyBytes:
		t.err = fmt.Errorf("memory: a key of %d bytes: %w", len(key), engine.ErrTooLarge)
	case len(value)+stamp > limits.ValueBytes:
		t.err = fmt.Errorf("memory: a value of %d bytes: %w", len(value), engine.ErrTooLarge)
	default:
		return true
	}
	return false
}

// Set implements engine.Txn.
func (t *txn) Set(key, value []byte) {
	t.size.Set(len(key), len(value))
	if t.admit(key, value, 0) {
		key, value := clone(key), clone(value)
		t.changes = append(t.changes, func(s *Store, _ uint64, c *commit) { s.set(c, key, value) })
	}
}

// Clear implements engine.Txn.
func (t *txn) Clear(key []byte) {
	t.size.Clear(len(key))
	if t.admit(key, nil, 0) {
		key := clone(key)
		t.changes = append(t.changes, func(s *Store, _ uint64, c *commit) {
			s.rows.Delete(row{key: key})
			c.keys[string(key)] = struct{}{}
		})
	}
}

// ClearRange implements engine.Txn.
func (t *txn) ClearRange(begin, end []byte) {
	r := span{clone(begin), cloneEnd(end)}
	if r.empty() {
		return
	}
	t.size.ClearRange(len(begin), len(end))
	if t.admit(nil, nil, 0) {
		t.changes = append(t.changes, func(s *Store, _ uint64, c *commit) { s.clear(c, r) })
	}
}

// stampAt checks the place and the index of a stamp in b, a copy.
func (t *txn) stampAt(b []byte, at int) bool {
	if at < 0 || at+engine.StampLen > len(b) {
		if t.err == nil {
			t.err = fmt.Errorf("memory: a stamp at %d of %d bytes", at, len(b))
		}
		return false
	}
	t.used = max(t.used, 1+int(binary.BigEndian.Uint16(b[at+engine.StampLen-2:])))
	return true
}

func fill(b []byte, at int, version uint64) {
	binary.BigEndian.PutUint64(b[at:], version)
	b[at+8], b[at+9] = 0, 0
}

// SetStampedKey implements engine.Txn.
func (t *txn) SetStampedKey(key []byte, at int, value []byte) {
	t.size.StampedKey(len(key), len(value))
	key = clone(key)
	t.setStamped(key, clone(value), key, at)
}

// SetStampedValue implements engine.Txn.
func (t *txn) SetStampedValue(key, value []byte, at int) {
	t.size.StampedValue(len(key), len(value))
	value = clone(value)
	t.setStamped(clone(key), value, value, at)
}

// setStamped sets a row with a stamp in its key or value, which are copies.
func (t *txn) setStamped(key, value, stamped []byte, at int) {
	if t.admit(key, value, txnsize.StampBytes) && t.stampAt(stamped, at) {
		t.changes = append(t.changes, func(s *Store, version uint64, c *commit) {
			fill(stamped, at, version)
			s.set(c, key, value)
		})
	}
}

// Add implements engine.Txn.
func (t *txn) Add(key []byte, delta int64) {
	t.size.Add(len(key))
	if t.admit(key, nil, 0) {
		key := clone(key)
		t.changes = append(t.changes, func(s *Store, _ uint64, c *commit) {
			old, _ := s.rows.Get(row{key: key})
			sum, _ := engine.ParseCounter(old.value)
			s.set(c, key, engine.AppendCounter(nil, sum+delta))
		})
	}
}

// UseStamps implements engine.Txn.
func (t *txn) UseStamps(n int) { t.stamps = max(t.stamps, n) }

// AddReadConflict implements engine.Txn.
func (t *txn) AddReadConflict(begin, end []byte) {
	if r := (span{clone(begin), cloneEnd(end)}); !r.empty() {
		t.spans = append(t.spans, r)
		t.size.Conflict(len(begin), len(end))
	}
}

// AddWriteConflict implements engine.Txn.
func (t *txn) AddWriteConflict(begin, end []byte) {
	if r := (span{clone(begin), cloneEnd(end)}); !r.empty() {
		t.touched = append(t.touched, r)
		t.size.Conflict(len(begin), len(end))
	}
}

// Discard implements engine.Txn.
func (t *txn) Discard() { t.ended = true }

// fits checks what can be checked before the commit.
func (t *txn) fits() error {
	switch {
	case t.err != nil:
		return t.err
	case t.used > t.stamps:
		return fmt.Errorf("memory: stamp %d of %d", t.used-1, t.stamps)
	case t.stamps > limits.MaxStamps:
		return fmt.Errorf("memory: %d stamps: %w", t.stamps, engine.ErrTooLarge)
	case t.size.Bytes() > limits.TxnBytes:
		return fmt.Errorf("memory: a transaction of %d bytes: %w", t.size.Bytes(), engine.ErrTooLarge)
	}
	return nil
}

// Commit implements engine.Txn.
func (t *txn) Commit(ctx context.Context) (engine.Pending, error) {
	if err := t.check(ctx); err != nil {
		t.ended = true
		return nil, err
	}
	t.ended = true
	if err := t.fits(); err != nil {
		return nil, err
	}
	s := t.s
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.closed:
		return nil, engine.ErrClosed
	case len(t.changes) == 0 && t.stamps == 0:
		return pending{}, nil
	case t.version < s.floor, t.life != s.life:
		return nil, engine.ErrTooOld
	case s.conflicts(t):
		return nil, engine.ErrConflict
	}
	version := s.apply(t)
	if t.stamps == 0 {
		return pending{}, nil
	}
	return pending{engine.Stamp{Version: version}}, nil
}

// pending is a commit that has happened.
type pending struct{ first engine.Stamp }

// Wait implements engine.Pending.
func (p pending) Wait(context.Context) (engine.Stamp, error) { return p.first, nil }
