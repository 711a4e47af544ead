package remoteengine

import (
	"bytes"
	"context"

	"github.com/headwaterdb/headwater/libs/engine"
)

// txn is a transaction that the server holds. Its mutations are sent with the commit.
type txn struct {
	reader
	mutations []mutation
}

func (t *txn) do(v verb, a, b []byte, n int64) {
	t.mutations = append(t.mutations, mutation{Verb: v, A: bytes.Clone(a), B: bytes.Clone(b), NilB: b == nil, N: n})
}

// Set implements engine.Txn.
func (t *txn) Set(key, value []byte) { t.do(verbSet, key, value, 0) }

// Clear implements engine.Txn.
func (t *txn) Clear(key []byte) { t.do(verbClear, key, nil, 0) }

// ClearRange implements engine.Txn.
func (t *txn) ClearRange(begin, end []byte) { t.do(verbClearRange, begin, end, 0) }

// SetStampedKey implements engine.Txn.
func (t *txn) SetStampedKey(key []byte, at int, value []byte) {
	t.do(verbStampedKey, key, value, int64(at))
}

// SetStampedValue implements engine.Txn.
func (t *txn) SetStampedValue(key, value []byte, at int) {
	t.do(verbStampedValue, key, value, int64(at))
}

// Add implements engine.Txn of releases that have it.
func (t *txn) Add(key []byte, delta int64) { t.do(verbAdd, key, nil, delta) }

// UseStamps implements engine.Txn.
func (t *txn) UseStamps(n int) { t.do(verbUseStamps, nil, nil, int64(n)) }

// AddReadConflict implements engine.Txn.
func (t *txn) AddReadConflict(begin, end []byte) { t.do(verbReadConflict, begin, end, 0) }

// AddWriteConflict implements engine.Txn of releases that have it.
func (t *txn) AddWriteConflict(begin, end []byte) { t.do(verbWriteConflict, begin, end, 0) }

// Commit implements engine.Txn.
func (t *txn) Commit(ctx context.Context) (engine.Pending, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if t.closed {
		return nil, errEnded
	}
	_, err := t.c.call(ctx, &request{Op: opCommit, Reader: t.id, Mutations: t.mutations})
	switch {
	case err == nil:
		t.closed = true // Wait ends it
		return pending{t.c, t.id}, nil
	case ctx.Err() != nil:
		// The commit may have been sent, so it is Wait that has to report an unknown outcome.
		t.closed = true
		return unknown{err}, nil //nolint:nilerr // Wait returns it
	}
	return nil, err
}

// Discard implements engine.Txn.
func (t *txn) Discard() { t.Close() }

type pending struct {
	c  *Client
	id uint64
}

// Wait implements engine.Pending.
func (p pending) Wait(ctx context.Context) (engine.Stamp, error) {
	resp, err := p.c.call(ctx, &request{Op: opWait, Reader: p.id})
	if err != nil {
		return engine.Stamp{}, err
	}
	return resp.Stamp, nil
}

// unknown is a commit whose outcome the client never learnt.
type unknown struct{ err error }

// Wait implements engine.Pending.
func (u unknown) Wait(context.Context) (engine.Stamp, error) {
	return engine.Stamp{}, u.err
}
