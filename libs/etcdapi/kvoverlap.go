package etcdapi

import (
	"bytes"
	"context"

	"github.com/google/btree"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"

	"github.com/headwaterdb/headwater/libs/mvcc"
)

// overlapLookEvery is how many steps of the check lie between two checks whether the client still waits.
const overlapLookEvery = 1024

// checkOverlap refuses a transaction that could put a key twice, or put and delete it, in one branch. So a key changes
// at most once per revision. The branches of a nested transaction exclude each other and may touch the same keys. etcd
// misses two such cases (v3rpc/key.go checkIntervals) and lets a key change twice in one revision: a range that ends in
// "\x00", and a delete after the put of an earlier sibling. Errors: etcd's, and the context's.
//
// The writes of each part of the transaction are ordered sets. Two parts of one branch are compared and their sets are
// joined by walking over the smaller one, so the work grows as n log² n.
func checkOverlap(ctx context.Context, t *mvcc.TxnRequest) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	c := overlapCheck{ctx: ctx}
	return c.txn(t)
}

type overlapCheck struct {
	ctx   context.Context
	steps int
	// Nodes that sets have given back after they were joined into others; nil before there is a set, which most
	// transactions do not need.
	freePuts    *btree.FreeListG[[]byte]
	freeDeletes *btree.FreeListG[interval]
}

func (c *overlapCheck) txn(t *mvcc.TxnRequest) error {
	for _, ops := range [2][]mvcc.Op{t.Success, t.Failure} {
		switch free, decided := overlapFree(ops); {
		case free:
			continue
		case decided:
			return rpctypes.ErrGRPCDuplicateKey
		}
		if _, err := c.writes(ops); err != nil {
			return err
		}
	}
	return nil
}

// fewOps is the number of operations up to which each is compared with each other. That is cheaper than sets.
const fewOps = 12

// overlapFree decides the common case without sets: few operations, and no nested transactions. decided is false if the
// case is another one.
func overlapFree(ops []mvcc.Op) (free, decided bool) {
	if len(ops) > fewOps {
		return false, false
	}
	for i := range ops {
		if ops[i].Txn != nil {
			return false, false
		}
	}
	for i := range ops {
		for j := range i {
			if overlap(&ops[i], &ops[j]) || overlap(&ops[j], &ops[i]) {
				return false, true
			}
		}
	}
	return true, true
}

// overlap says whether a puts a key that b puts or deletes.
func overlap(a, b *mvcc.Op) bool {
	switch {
	case a.Put == nil:
		return false
	case b.Put != nil:
		return bytes.Equal(a.Put.Key, b.Put.Key)
	case b.Delete != nil:
		d, ok := intervalOf(b.Delete.Key, b.Delete.End)
		return ok && bytes.Compare(d.begin, a.Put.Key) <= 0 && d.before(a.Put.Key)
	}
	return false
}

// writes returns what a list of operations writes.
func (c *overlapCheck) writes(ops []mvcc.Op) (*writeSet, error) {
	all := c.newWriteSet()
	for i := range ops {
		if err := c.step(); err != nil {
			return nil, err
		}
		var err error
		switch o := &ops[i]; {
		case o.Put != nil:
			err = all.addPut(o.Put.Key)
		case o.Delete != nil:
			err = all.addDelete(o.Delete.Key, o.Delete.End)
		case o.Txn != nil:
			var nested *writeSet
			if nested, err = c.branches(o.Txn); err == nil {
				all, err = c.join(all, nested, false)
			}
		}
		if err != nil {
			return nil, err
		}
	}
	return all, nil
}

// branches returns what either branch of a nested transaction writes.
func (c *overlapCheck) branches(t *mvcc.TxnRequest) (*writeSet, error) {
	then, err := c.writes(t.Success)
	if err != nil {
		return nil, err
	}
	otherwise, err := c.writes(t.Failure)
	if err != nil {
		return nil, err
	}
	return c.join(then, otherwise, true)
}

func (c *overlapCheck) step() error {
	if c.steps++; c.steps%overlapLookEvery == 0 {
		return c.ctx.Err()
	}
	return nil
}

// join joins two sets, which must not be used any more. If the parts do not exclude each other, it refuses sets that
// overlap.
func (c *overlapCheck) join(a, b *writeSet, exclusive bool) (*writeSet, error) {
	if !exclusive {
		if err := c.disjoint(a, b); err != nil {
			return nil, err
		}
		if err := c.disjoint(b, a); err != nil {
			return nil, err
		}
	}
	if a.puts.Len() < b.puts.Len() {
		a.puts, b.puts = b.puts, a.puts
	}
	if a.deletes.Len() < b.deletes.Len() {
		a.deletes, b.deletes = b.deletes, a.deletes
	}
	var err error
	b.puts.Ascend(func(key []byte) bool {
		_, dup := a.puts.ReplaceOrInsert(key)
		if dup && !exclusive {
			err = rpctypes.ErrGRPCDuplicateKey
		} else {
			err = c.step()
		}
		return err == nil
	})
	if err != nil {
		return nil, err
	}
	b.deletes.Ascend(func(d interval) bool {
		a.insert(d)
		err = c.step()
		return err == nil
	})
	b.puts.Clear(true)
	b.deletes.Clear(true)
	return a, err
}

// disjoint refuses puts of a that lie in deletes of b.
func (c *overlapCheck) disjoint(a, b *writeSet) (err error) {
	if a.puts.Len() < b.deletes.Len() {
		a.puts.Ascend(func(key []byte) bool {
			if b.deleted(key) {
				err = rpctypes.ErrGRPCDuplicateKey
			} else {
				err = c.step()
			}
			return err == nil
		})
		return err
	}
	b.deletes.Ascend(func(d interval) bool {
		if a.putIn(d) {
			err = rpctypes.ErrGRPCDuplicateKey
		} else {
			err = c.step()
		}
		return err == nil
	})
	return err
}

// writeSet is what a part of a transaction puts, and what it deletes, as intervals that neither overlap nor touch.
type writeSet struct {
	puts    *btree.BTreeG[[]byte]
	deletes *btree.BTreeG[interval]
}

// interval is the keys k with begin <= k < end. A nil end means no end.
type interval struct{ begin, end []byte }

// The degree of the trees, and how many of their nodes are kept for reuse.
const (
	overlapDegree = 16
	freeNodes     = 32
)

func lessKey(a, b []byte) bool        { return bytes.Compare(a, b) < 0 }
func lessInterval(a, b interval) bool { return bytes.Compare(a.begin, b.begin) < 0 }

func (c *overlapCheck) newWriteSet() *writeSet {
	if c.freePuts == nil {
		c.freePuts = btree.NewFreeListG[[]byte](freeNodes)
		c.freeDeletes = btree.NewFreeListG[interval](freeNodes)
	}
	return &writeSet{
		puts:    btree.NewWithFreeListG(overlapDegree, lessKey, c.freePuts),
		deletes: btree.NewWithFreeListG(overlapDegree, lessInterval, c.freeDeletes),
	}
}

func (w *writeSet) addPut(key []byte) error {
	if w.deleted(key) {
		return rpctypes.ErrGRPCDuplicateKey
	}
	if _, dup := w.puts.ReplaceOrInsert(key); dup {
		return rpctypes.ErrGRPCDuplicateKey
	}
	return nil
}

func (w *writeSet) addDelete(key, end []byte) error {
	d, ok := intervalOf(key, end)
	if !ok {
		return nil
	}
	if w.putIn(d) {
		return rpctypes.ErrGRPCDuplicateKey
	}
	w.insert(d)
	return nil
}

// intervalOf returns an etcd range as an interval. A single key has no end, and an end of "\x00" means all keys from
// there on. An inverted range is no interval.
func intervalOf(key, end []byte) (d interval, ok bool) {
	switch {
	case len(end) == 0:
		return interval{key, append(key[:len(key):len(key)], 0)}, true
	case len(end) == 1 && end[0] == 0:
		return interval{begin: key}, true
	}
	return interval{key, end}, bytes.Compare(key, end) < 0
}

// before says whether a key lies before the end of an interval.
func (d interval) before(key []byte) bool { return d.end == nil || bytes.Compare(key, d.end) < 0 }

// deleted says whether a key lies in one of the intervals.
func (w *writeSet) deleted(key []byte) (in bool) {
	w.deletes.DescendLessOrEqual(interval{begin: key}, func(d interval) bool {
		in = d.before(key)
		return false
	})
	return in
}

// putIn says whether one of the puts lies in d.
func (w *writeSet) putIn(d interval) (in bool) {
	w.puts.AscendGreaterOrEqual(d.begin, func(key []byte) bool {
		in = d.before(key)
		return false
	})
	return in
}

// insert adds d, joined with the intervals that it overlaps or touches.
func (w *writeSet) insert(d interval) {
	w.deletes.DescendLessOrEqual(d, func(o interval) bool {
		if o.end == nil || bytes.Compare(o.end, d.begin) >= 0 {
			d.begin = o.begin
			d.end = later(d.end, o.end)
		}
		return false
	})
	for {
		next, ok := interval{}, false
		w.deletes.AscendGreaterOrEqual(d, func(o interval) bool {
			next, ok = o, d.end == nil || bytes.Compare(o.begin, d.end) <= 0
			return false
		})
		if !ok {
			break
		}
		w.deletes.Delete(next)
		d.end = later(d.end, next.end)
	}
	w.deletes.ReplaceOrInsert(d)
}

// later returns the later of two ends.
func later(a, b []byte) []byte {
	if a == nil || b == nil {
		return nil
	}
	if bytes.Compare(a, b) < 0 {
		return b
	}
	return a
}
