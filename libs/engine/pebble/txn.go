package pebble

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"time"

	pdb "github.com/cockroachdb/pebble/v2"

	"github.com/headwaterdb/headwater/libs/engine"
	"github.com/headwaterdb/headwater/libs/engine/txnsize"
)

// txn is an engine.Txn: a reader, the set of what it has read, and a Pebble batch with its mutations.
type txn struct {
	reader
	reads   readSet
	batch   *shared // nil until the first mutation
	stamps  stamping
	parts   []*part // parts of other domains
	adds    []addition
	touches []span       // AddWriteConflict
	size    txnsize.Size // bounded by Limits.TxnBytes with Limits.Structures,
	bytes   int          // and without
	sets    bool
	class   class

	large      []largeValue // values for the value log
	largeBytes int
	valueFiles []*valueFile // that have them, once they are there

	err   error // the error of the first invalid mutation
	ended bool  // committed or discarded
	open  bool  // in Store.open

	prev, next *txn // in Store.open, oldest first
}

// addition is what is to be added to a counter.
type addition struct {
	row   []byte
	delta int64
}

// Get implements engine.Reader; the key becomes a read conflict.
func (t *txn) Get(ctx context.Context, key []byte) ([]byte, error) {
	if err := t.check(ctx); err != nil {
		return nil, err
	}
	row := append(append(make([]byte, 0, len(key)+1), userPrefix), key...)
	t.reads.points = append(t.reads.points, row)
	t.size.ReadKey(len(key))
	return t.get(row)
}

// GetMany implements engine.Reader; the keys become read conflicts.
func (t *txn) GetMany(ctx context.Context, keys [][]byte) ([][]byte, error) {
	if err := t.check(ctx); err != nil {
		return nil, err
	}
	rows := rowsOf(keys)
	t.reads.points = append(t.reads.points, rows...)
	for _, key := range keys {
		t.size.ReadKey(len(key))
	}
	return t.getRows(rows)
}

// Scan implements engine.Reader. What has been walked over becomes a read conflict: the whole range, until the iterator
// is closed; then only the part up to the last row returned, if there may be more behind it.
func (t *txn) Scan(ctx context.Context, q engine.Range) engine.Iterator {
	if q.NoConflict {
		return t.reader.Scan(ctx, q)
	}
	sp, _ := spanOf(make([]byte, 0, len(q.Begin)+len(q.End)+2), q.Begin, q.End)
	at := len(t.reads.ranges)
	t.reads.ranges = append(t.reads.ranges, sp)
	it := t.scan(ctx, q, sp)
	it.onClose = func(it *iterator) {
		switch {
		case t.ended || it.end || it.p == nil || it.err != nil:
		case it.steps == 0:
			t.reads.ranges[at].end = t.reads.ranges[at].begin
		case it.reverse:
			t.reads.ranges[at].begin = append([]byte(nil), it.p.Key()...)
		default:
			t.reads.ranges[at].end = append(append(make([]byte, 0, len(it.p.Key())+1), it.p.Key()...), 0)
		}
	}
	return it
}

// AddReadConflict implements engine.Txn.
func (t *txn) AddReadConflict(begin, end []byte) {
	sp, _ := spanOf(make([]byte, 0, len(begin)+len(end)+2), begin, end)
	if string(sp.begin) < string(sp.end) {
		t.reads.ranges = append(t.reads.ranges, sp)
		t.size.Conflict(len(begin), len(end))
	}
}

// Add implements engine.Txn. The sum is taken when the transaction is committed, one at a time.
func (t *txn) Add(key []byte, delta int64) {
	t.size.Add(len(key))
	if !t.admit(key, nil, 0) {
		return
	}
	t.writable()
	t.sets = true
	row := append([]byte{userPrefix}, key...)
	if i := slices.IndexFunc(t.adds, func(a addition) bool { return bytes.Equal(a.row, row) }); i >= 0 {
		t.adds[i].delta += delta
		return
	}
	t.adds = append(t.adds, addition{row, delta})
}

// AddWriteConflict implements engine.Txn.
func (t *txn) AddWriteConflict(begin, end []byte) {
	sp, _ := spanOf(make([]byte, 0, len(begin)+len(end)+2), begin, end)
	if string(sp.begin) < string(sp.end) {
		t.touches = append(t.touches, sp)
		t.size.Conflict(len(begin), len(end))
	}
}

// Shrinks implements engine.Shrinker. A transaction that sets nothing is taken as one without it.
func (t *txn) Shrinks() { t.class = max(t.class, shrinking) }

// Vital implements engine.Vital.
func (t *txn) Vital() { t.class = vital }

// forSpace returns the class in which the transaction is admitted.
func (t *txn) forSpace() class {
	if !t.sets {
		return max(t.class, shrinking)
	}
	return t.class
}

func (t *txn) writable() *pdb.Batch {
	if t.batch == nil {
		t.batch = &shared{batch: t.v.s.db.NewBatch(pdb.WithMaxRetainedSizeBytes(batchRetainBytes))}
		t.batch.refs.Store(1)
	}
	return t.batch.batch
}

// admit checks the sizes of one mutation, which has been counted. stamp is how many bytes a stamp takes in key and
// value.
func (t *txn) admit(key, value []byte, stamp int) bool {
	l := &t.v.s.limits
	t.bytes += len(key) + len(value)
	switch {
	case t.ended || t.err != nil:
		return false
	case l.KeyBytes > 0 && len(key)+stamp > l.KeyBytes:
		t.err = fmt.Errorf("pebble: a key of %d bytes: %w", len(key), engine.ErrTooLarge)
	case l.ValueBytes > 0 && len(value)+stamp > l.ValueBytes:
		t.err = fmt.Errorf("pebble: a value of %d bytes: %w", len(value), engine.ErrTooLarge)
	default:
		t.err = t.tooLarge()
	}
	return t.err == nil
}

// tooLarge returns an error if the transaction exceeds its bound.
func (t *txn) tooLarge() error {
	l, n := &t.v.s.limits, t.bytes
	if l.Structures {
		n = t.size.Bytes()
	}
	if n <= l.TxnBytes {
		return nil
	}
	return fmt.Errorf("pebble: a transaction of more than %d bytes: %w", l.TxnBytes, engine.ErrTooLarge)
}

// Set implements engine.Txn.
func (t *txn) Set(key, value []byte) {
	t.size.Set(len(key), len(value))
	if t.admit(key, value, 0) {
		t.set(key, value)
	}
}

// set sets a row. A large value goes to the value log.
func (t *txn) set(key, value []byte) {
	v := &t.v.s.values
	switch {
	case len(value) >= v.limit:
		t.setLarge(key, value)
	case v.needsMark(value, tagLen):
		t.setMarked(key, value)
	default:
		t.setPlain(key, nil, value)
	}
}

// setPlain sets a row to two parts of a value.
func (t *txn) setPlain(key, head, value []byte) {
	op := t.writable().SetDeferred(len(key)+1, len(head)+len(value))
	op.Key[0] = userPrefix
	copy(op.Key[1:], key)
	copy(op.Value[copy(op.Value, head):], value)
	_ = op.Finish() // fails on indexed batches only
	t.sets = true
}

// setMarked sets a row to a value that could be taken for a pointer.
func (t *txn) setMarked(key, value []byte) {
	t.setPlain(key, append(t.v.s.values.tag[:tagLen:tagLen], kindVerbatim), value)
}

// setLarge sets a row to a pointer, and writes the back row. Commit puts the value into a value file and completes
// both.
func (t *txn) setLarge(key, value []byte) {
	var blank [pointerLen - refLen]byte
	t.setPlain(key, append(t.v.s.values.tag[:tagLen:tagLen], kindPointer), blank[:])
	l := largeValue{value: append([]byte(nil), value...), pointer: len(t.batch.batch.Repr()) - len(blank)}
	size := 4 + 1 + len(key)
	op := t.batch.batch.SetDeferred(backKeyLen, size)
	copy(op.Key, backKey(0, 0))
	op.Value = append(append(appendBack(op.Value[:0], len(value)), userPrefix), key...)
	_ = op.Finish()
	l.back = len(t.batch.batch.Repr()) - size - varintLen(size) - (backKeyLen - 2)
	t.large = append(t.large, l)
	t.largeBytes += len(value)
}

// Clear implements engine.Txn.
func (t *txn) Clear(key []byte) {
	t.size.Clear(len(key))
	if !t.admit(key, nil, 0) {
		return
	}
	op := t.writable().DeleteDeferred(len(key) + 1)
	op.Key[0] = userPrefix
	copy(op.Key[1:], key)
	_ = op.Finish()
}

// ClearRange implements engine.Txn.
func (t *txn) ClearRange(begin, end []byte) {
	var sp span
	sp, t.key = spanOf(t.key, begin, end)
	if string(sp.begin) >= string(sp.end) {
		return
	}
	t.size.ClearRange(len(begin), len(end))
	t.bytes += len(begin) + len(end)
	if t.admit(nil, nil, 0) {
		_ = t.writable().DeleteRange(sp.begin, sp.end, nil)
	}
}

// fits makes the checks that are possible before the commit starts.
func (t *txn) fits() error {
	l := &t.v.s.limits
	if t.err != nil {
		return t.err
	}
	if err := t.eachStamping(func(st *stamping) error { return st.fits(l.MaxStamps) }); err != nil {
		return err
	}
	if err := t.tooLarge(); err != nil {
		return err
	}
	return t.tooOld()
}

// Commit implements engine.Txn.
func (t *txn) Commit(ctx context.Context) (engine.Pending, error) { return t.commit(ctx, &t.stamps) }

// commit commits the transaction for one of its parts.
func (t *txn) commit(ctx context.Context, part *stamping) (engine.Pending, error) {
	s := t.v.s
	if t.ended {
		return nil, fmt.Errorf("pebble: Commit after the transaction's end: %w", engine.ErrClosed)
	}
	err := t.check(ctx)
	if err == nil {
		err = t.fits()
	}
	if err == nil && t.batch != nil {
		// Large values are written once.
		err = s.space.admit(t.forSpace(), len(t.batch.batch.Repr())+t.largeBytes/writeCost)
	}
	if err == nil && len(t.large) > 0 {
		defer func() { s.values.landed(t.valueFiles) }()
		err = s.values.put(t)
	}
	if err != nil {
		t.end()
		return nil, err
	}
	p := &pending{t: t, part: part, start: time.Now()}
	if t.batch == nil && !t.usesStamps() {
		p.commit = t.v.commit
	} else if p.commit, err = s.commit(ctx, t); err != nil {
		t.end()
		return nil, err
	}
	t.end()
	return p, nil
}

var _ engine.Forker = (*txn)(nil)

// Fork implements engine.Forker. The domain of a fork is the store's.
func (t *txn) Fork(ctx context.Context) (engine.Txn, error) {
	if err := t.check(ctx); err != nil {
		return nil, err
	}
	s, f := t.v.s, &txn{}
	s.mu.Lock()
	defer s.mu.Unlock()
	t.v.refs.Add(1)
	f.init(t.v)
	f.begun = t.begun
	s.enterBehind(f, t)
	return f, nil
}

// Discard implements engine.Txn.
func (t *txn) Discard() {
	if t.ended {
		return
	}
	t.end()
	t.mem.release()
}

// end takes the transaction out of the store. Values that it has read stay valid until Wait, or until they are garbage.
func (t *txn) end() {
	t.ended, t.done = true, true
	if t.batch != nil {
		t.batch.release()
		t.batch = nil
	}
	t.large = nil
	t.v.s.leave(t)
	t.v.unref()
}

// pending is an engine.Pending.
type pending struct {
	t      *txn
	commit *commit
	part   *stamping // that Commit was called on
	start  time.Time
}

// Wait implements engine.Pending.
func (p *pending) Wait(ctx context.Context) (engine.Stamp, error) {
	if err := p.commit.wait(ctx); err != nil {
		p.t.mem.forget()
		return engine.Stamp{}, err
	}
	p.t.mem.release()
	p.t.v.s.opts.Observe.Commit(time.Since(p.start))
	return p.part.first, nil
}
