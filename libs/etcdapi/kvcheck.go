package etcdapi

import (
	"math"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"

	"github.com/headwaterdb/headwater/libs/mvcc"
)

// Checks of requests that need no data, in etcd's order (v3rpc/key.go).

func checkRange(r *mvcc.RangeRequest) error {
	switch {
	case len(r.Key) == 0:
		return rpctypes.ErrGRPCEmptyKey
	case r.Order < mvcc.SortNone || r.Order > mvcc.SortDescend,
		r.Target < mvcc.SortByKey || r.Target > mvcc.SortByValue:
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

// Limits of transactions in addition to etcd's, which only bounds what one path through the nesting may hold.
const (
	// txnTotalFactor times MaxTxnOps is how many compares and operations a transaction may have, including all nested
	// ones. A flat transaction has at most 3 × MaxTxnOps. One with a level of nesting has at most 2 × MaxTxnOps²/4
	// operations that can take effect. No known client comes near.
	txnTotalFactor = 64
	// txnLevelsMax is how deep transactions may nest.
	txnLevelsMax = 256
)

// checkTxn checks a transaction and the nested ones. Each level may have as many operations as the level above has
// left.
func checkTxn(t *mvcc.TxnRequest, maxOps int) error {
	c := txnCheck{left: txnTotal(maxOps)}
	return c.txn(t, maxOps, txnLevelsMax)
}

// txnTotal is how many compares and operations a transaction may have in all.
func txnTotal(maxOps int) int {
	if maxOps > math.MaxInt32/txnTotalFactor {
		return math.MaxInt32
	}
	return maxOps * txnTotalFactor
}

type txnCheck struct{ left int }

func (c *txnCheck) txn(t *mvcc.TxnRequest, maxOps, levels int) error {
	n := max(len(t.Compares), len(t.Success), len(t.Failure))
	c.left -= len(t.Compares) + len(t.Success) + len(t.Failure)
	if n > maxOps || c.left < 0 || levels == 0 {
		return rpctypes.ErrGRPCTooManyOps
	}
	for i := range t.Compares {
		if len(t.Compares[i].Key) == 0 {
			return rpctypes.ErrGRPCEmptyKey
		}
	}
	for _, ops := range [2][]mvcc.Op{t.Success, t.Failure} {
		for i := range ops {
			if err := c.op(&ops[i], maxOps-n, levels-1); err != nil {
				return err
			}
		}
	}
	return nil
}

func (c *txnCheck) op(o *mvcc.Op, maxOps, levels int) error {
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
		return c.txn(o.Txn, maxOps, levels)
	}
	return rpctypes.ErrGRPCKeyNotFound // etcd's answer to an empty operation
}
