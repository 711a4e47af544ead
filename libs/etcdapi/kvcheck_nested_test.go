package etcdapi

import (
	"testing"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"

	"github.com/headwaterdb/headwater/libs/mvcc"
)

func TestOverlapOfNestedTransactions(t *testing.T) {
	put := func(key string) mvcc.Op { return mvcc.Op{Put: &mvcc.PutRequest{Key: []byte(key)}} }
	del := func(key, end string) mvcc.Op {
		return mvcc.Op{Delete: &mvcc.DeleteRequest{Key: []byte(key), End: []byte(end)}}
	}
	txn := func(then ...mvcc.Op) mvcc.Op { return mvcc.Op{Txn: &mvcc.TxnRequest{Success: then}} }
	other := func(then, otherwise mvcc.Op) mvcc.Op {
		return mvcc.Op{Txn: &mvcc.TxnRequest{Success: []mvcc.Op{then}, Failure: []mvcc.Op{otherwise}}}
	}
	for name, c := range map[string]struct {
		ops  []mvcc.Op
		want error
	}{
		"delete after a sibling's put":         {[]mvcc.Op{txn(put("k")), txn(del("k", ""))}, rpctypes.ErrGRPCDuplicateKey},
		"range delete after a sibling's put":   {[]mvcc.Op{txn(put("k")), txn(del("a", "z"))}, rpctypes.ErrGRPCDuplicateKey},
		"delete to the end after a put":        {[]mvcc.Op{txn(put("k")), txn(del("a", "\x00"))}, rpctypes.ErrGRPCDuplicateKey},
		"put after a sibling's delete":         {[]mvcc.Op{txn(del("k", "")), txn(put("k"))}, rpctypes.ErrGRPCDuplicateKey},
		"deeper, in the branch not met first":  {[]mvcc.Op{txn(txn(put("k"))), other(put("x"), txn(del("k", "")))}, rpctypes.ErrGRPCDuplicateKey},
		"branches of one transaction":          {[]mvcc.Op{other(put("k"), del("k", ""))}, nil},
		"branches of one transaction, swapped": {[]mvcc.Op{other(del("k", ""), put("k"))}, nil},
		"other keys":                           {[]mvcc.Op{txn(put("k")), txn(del("l", "z"))}, nil},
		"an empty range":                       {[]mvcc.Op{txn(put("k")), txn(del("z", "a"))}, nil},
		"two deletes":                          {[]mvcc.Op{txn(del("a", "z")), txn(del("k", ""))}, nil},
	} {
		if got := checkOverlap(t.Context(), &mvcc.TxnRequest{Success: c.ops}); got != c.want {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
}
