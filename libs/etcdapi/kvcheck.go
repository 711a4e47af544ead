package etcdapi

import (
	"bytes"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"

	"github.com/headwaterdb/headwater/libs/mvcc"
)

// Checks of requests that need no data, in etcd's order (v3rpc/key.go).

func checkRange(r *mvcc.RangeRequest) error {
	switch {
	case len(r.Key) == 0:
		return rpctypes.ErrGRPCEmptyKey
	case r.Order < mvcc.SortNone || r.Order > mvcc.SortDescend, r.Target < mvcc.SortByKey || r.Target > mvcc.SortByValue:
		return rpctypes.ErrGRPCInvalidSortOption
	}
	return nil
}

func checkPut(r *mvcc.PutRequest) error {
	switch {
	case len(r.Key) == 0:
		return rpctypes.ErrGRPCEmptyKey
	case r.IgnoreValue && len(r.Value) != 0:
		return rpctypes.ErrGRPCValueProvided
	case r.IgnoreLease && r.Lease != 0:
		return rpctypes.ErrGRPCLeaseProvided
	}
	return nil
}

// checkTxn checks a transaction and those nested in it; each level's budget of operations is what the level above has left.
func checkTxn(t *mvcc.TxnRequest, maxOps int) error {
	n := max(len(t.Compares), len(t.Success), len(t.Failure))
	if n > maxOps {
		return rpctypes.ErrGRPCTooManyOps
	}
	for i := range t.Compares {
		if len(t.Compares[i].Key) == 0 {
			return rpctypes.ErrGRPCEmptyKey
		}
	}
	for _, ops := range [2][]mvcc.Op{t.Success, t.Failure} {
		for i := range ops {
			if err := checkOp(&ops[i], maxOps-n); err != nil {
				return err
			}
		}
	}
	return nil
}

func checkOp(o *mvcc.Op, maxOps int) error {
	switch {
	case o.Range != nil:
		return checkRange(o.Range)
	case o.Put != nil:
		return checkPut(o.Put)
	case o.Delete != nil:
		if len(o.Delete.Key) == 0 {
			return rpctypes.ErrGRPCEmptyKey
		}
		return nil
	case o.Txn != nil:
		return checkTxn(o.Txn, maxOps)
	}
	return rpctypes.ErrGRPCKeyNotFound // etcd's answer to an operation that is none
}

// writeSet is what a list of operations may put and delete.
type writeSet struct {
	puts map[string]struct{}
	dels []delRange
}

type delRange struct{ key, end []byte }

func (d delRange) has(key string) bool {
	switch {
	case len(d.end) == 0:
		return string(d.key) == key
	case len(d.end) == 1 && d.end[0] == 0:
		return key >= string(d.key)
	}
	return key >= string(d.key) && key < string(d.end)
}

// checkOverlap refuses transactions that could put a key twice, or put and delete it, in one branch: with it a key changes at
// most once per revision.
func checkOverlap(t *mvcc.TxnRequest) error {
	for _, ops := range [2][]mvcc.Op{t.Success, t.Failure} {
		if overlapFree(ops) {
			continue
		}
		if _, ok := writesOf(ops); !ok {
			return rpctypes.ErrGRPCDuplicateKey
		}
	}
	return nil
}

// overlapFree decides the common case without building sets: at most one operation writes, and it is not a transaction.
func overlapFree(ops []mvcc.Op) bool {
	writes := 0
	for i := range ops {
		switch {
		case ops[i].Txn != nil:
			return false
		case ops[i].Put != nil, ops[i].Delete != nil:
			writes++
		}
	}
	return writes <= 1
}

// writesOf returns the write set of a list of operations, or false if two of them overlap. The branches of one nested
// transaction exclude each other and may touch the same keys.
func writesOf(ops []mvcc.Op) (w writeSet, ok bool) {
	w.puts = make(map[string]struct{})
	for i := range ops {
		if d := ops[i].Delete; d != nil && (len(d.End) == 0 || len(d.End) == 1 && d.End[0] == 0 || bytes.Compare(d.Key, d.End) < 0) {
			w.dels = append(w.dels, delRange{d.Key, d.End})
		}
	}
	for i := range ops {
		if t := ops[i].Txn; t != nil && !w.addNested(t) {
			return w, false
		}
	}
	for i := range ops {
		if p := ops[i].Put; p != nil {
			if !w.add(string(p.Key), nil) {
				return w, false
			}
		}
	}
	return w, true
}

func (w *writeSet) addNested(t *mvcc.TxnRequest) bool {
	then, ok := writesOf(t.Success)
	if !ok {
		return false
	}
	otherwise, ok := writesOf(t.Failure)
	if !ok {
		return false
	}
	// Deletes of keys that an earlier sibling puts: etcd looks the other way round only (v3rpc/key.go checkIntervals) and lets
	// such a key change twice in one revision.
	if w.putWithin(then.dels) || w.putWithin(otherwise.dels) {
		return false
	}
	for k := range then.puts {
		if !w.add(k, nil) {
			return false
		}
	}
	for k := range otherwise.puts {
		if !w.add(k, then.puts) {
			return false
		}
	}
	w.dels = append(append(w.dels, then.dels...), otherwise.dels...)
	return true
}

// putWithin says that one of the puts lies in one of the ranges.
func (w *writeSet) putWithin(dels []delRange) bool {
	for _, d := range dels {
		for k := range w.puts {
			if d.has(k) {
				return true
			}
		}
	}
	return false
}

// add adds a put; a key that is there already is allowed if it is in except.
func (w *writeSet) add(key string, except map[string]struct{}) bool {
	if _, dup := w.puts[key]; dup {
		if _, ok := except[key]; !ok {
			return false
		}
	}
	for _, d := range w.dels {
		if d.has(key) {
			return false
		}
	}
	w.puts[key] = struct{}{}
	return true
}
