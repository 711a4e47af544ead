//go:build foundationdb

package foundationdb

import (
	"context"

	"github.com/apple/foundationdb/bindings/go/src/fdb"
)

// iterator is an engine.Iterator. It returns the rows of one batch while the next is on its way.
type iterator struct {
	r     *reader
	ctx   context.Context
	rows  *fdb.RangeIterator  // nil: nothing (more) to ask for
	key   fdb.Key             // a range of one key,
	value fdb.FutureByteSlice // whose value is asked for instead; nil: no such range, or it has been taken
	batch []fdb.KeyValue
	at    int // in batch
	err   error
}

// Next implements engine.Iterator.
func (it *iterator) Next() bool {
	if it.at++; it.at < len(it.batch) {
		return true
	}
	if it.value != nil && it.err == nil {
		return it.take()
	}
	for it.rows != nil && it.err == nil {
		if it.fill(); len(it.batch) > 0 {
			return it.err == nil
		}
	}
	it.batch, it.at = nil, 0
	return false
}

// take takes the row of a range of one key.
func (it *iterator) take() bool {
	f := it.value
	it.value = nil
	var g guard
	if !f.IsReady() { // it often is, because it was asked for before something else was waited for
		g = watchOver(it.ctx, it.r.s.o.Timeout, f.Cancel)
	}
	value, err := f.Get()
	g.release()
	if err != nil {
		it.err = it.r.s.readErr(it.ctx, err)
	}
	if value == nil {
		return false
	}
	it.batch, it.at = []fdb.KeyValue{{Key: it.key, Value: value}}, 0
	return true
}

// fill takes the next batch. Taking its last row makes the binding ask for the one after it.
func (it *iterator) fill() {
	it.batch, it.at = it.batch[:0], 0
	if it.err = it.r.usable(it.ctx); it.err != nil {
		return
	}
	if f := awaited(it.rows); f != nil && !f.IsReady() {
		g := watchOver(it.ctx, it.r.s.o.Timeout, f.Cancel)
		f.BlockUntilReady()
		g.release()
	}
	if !it.rows.Advance() {
		it.rows = nil
		return
	}
	n := max(arrived(it.rows), 1) // 1: an error
	if cap(it.batch) < n {
		it.batch = make([]fdb.KeyValue, 0, n)
	}
	for range n {
		kv, err := it.rows.Get()
		if err != nil {
			it.err = it.r.s.readErr(it.ctx, err)
			it.batch = nil
			return
		}
		it.batch = append(it.batch, kv)
	}
}

// Key implements engine.Iterator.
func (it *iterator) Key() []byte { return it.batch[it.at].Key[len(it.r.s.o.Root):] }

// Value implements engine.Iterator.
func (it *iterator) Value() []byte { return it.batch[it.at].Value }

// Err implements engine.Iterator.
func (it *iterator) Err() error { return it.err }

// Close implements engine.Iterator. It waits for nothing. A commit waits for all that its transaction has requested,
// this iterator's rows included.
func (it *iterator) Close() error {
	if it.rows != nil {
		if f := awaited(it.rows); f != nil {
			f.Cancel()
		}
		it.rows = nil
	}
	it.value = nil
	it.batch, it.at = nil, 0
	return it.err
}
