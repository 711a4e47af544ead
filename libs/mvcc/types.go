package mvcc

import "github.com/headwaterdb/headwater/libs/revlog"

// KV is one version of a key.
type KV = revlog.KV

// SortOrder and SortTarget have etcd's values (rpc.proto RangeRequest).
type (
	SortOrder  int32
	SortTarget int32
)

// Orders and targets of a Range.
const (
	SortNone SortOrder = iota
	SortAscend
	SortDescend
)

const (
	SortByKey SortTarget = iota
	SortByVersion
	SortByCreate
	SortByMod
	SortByValue
)

// RangeRequest asks for the keys k with Key <= k < End at a revision. A nil or empty End means the single key Key; an
// End of one zero byte means all keys >= Key.
type RangeRequest struct {
	Key, End []byte
	Limit    int64 // <= 0: all
	Rev      int64 // <= 0: the newest
	Order    SortOrder
	Target   SortTarget

	KeysOnly, CountOnly, Serializable bool

	// Inclusive bounds; 0 means not set.
	MinMod, MaxMod, MinCreate, MaxCreate int64

	// Hold, if set, is told of what a Range must gather before it can visit anything: see SortOrder. In a transaction
	// the Hold of the TxnRequest is used.
	Hold Hold
	// Access is the permission of the caller. In a transaction the Access of the TxnRequest is used.
	Access *Access
}

// PutRequest sets a key.
type PutRequest struct {
	Key, Value               []byte
	Lease                    int64
	PrevKV                   bool
	IgnoreValue, IgnoreLease bool
	Hold                     Hold // as in DeleteRequest
	Access                   *Access
}

// DeleteRequest deletes a range of keys (End as in RangeRequest).
type DeleteRequest struct {
	Key, End []byte
	PrevKV   bool
	Hold     Hold // if set, is told of previous versions before they are gathered; in a transaction that of the TxnRequest
	Access   *Access
}

// Targets and results of a Compare have etcd's values (rpc.proto Compare).
type (
	CompareTarget int32
	CompareResult int32
)

// Targets and operators of a Compare.
const (
	CompareVersion CompareTarget = iota
	CompareCreate
	CompareMod
	CompareValue
	CompareLease
)

const (
	Equal CompareResult = iota
	Greater
	Less
	NotEqual
)

// Compare is one condition of a transaction, true if it holds for every key in the range.
type Compare struct {
	Key, End []byte
	Target   CompareTarget
	Result   CompareResult
	Int      int64  // for all targets but CompareValue
	Value    []byte // for CompareValue
}

// Op is one operation of a transaction: exactly one field is set.
type Op struct {
	Range  *RangeRequest
	Put    *PutRequest
	Delete *DeleteRequest
	Txn    *TxnRequest
}

// TxnRequest runs Success if all Compares hold on the state before the transaction, otherwise Failure.
type TxnRequest struct {
	Compares         []Compare
	Success, Failure []Op
	Hold             Hold // if set, is told of results before they are gathered; not of a nested transaction
	Access           *Access
}

// Result is the answer to a request or to one operation of a transaction. Rev is the revision of its header.
type Result struct {
	Rev int64

	// Range
	KVs   []KV
	Count int64
	More  bool

	// Put and Delete: what was replaced, if the request demands it.
	Prev    []KV
	Deleted int64

	// Txn
	Succeeded bool
	Ops       []OpResult

	// prevEvents are the places of the events whose previous versions the request demands. Prev is filled in from them
	// when the group has committed.
	prevEvents []int
}

// OpResult is the answer to one Op. The field of its kind is set.
type OpResult struct {
	Kind OpKind
	Result
}

// OpKind is the kind of an operation.
type OpKind uint8

// Kinds of operation.
const (
	OpRange OpKind = iota + 1
	OpPut
	OpDelete
	OpTxn
)

// single reports whether a range is one key.
func single(end []byte) bool { return len(end) == 0 }

// toEnd reports whether a range has no upper bound.
func toEnd(end []byte) bool { return len(end) == 1 && end[0] == 0 }

// writes reports whether an operation may change something. A transaction of reads needs no group commit.
func (o *Op) writes() bool {
	switch {
	case o.Put != nil, o.Delete != nil:
		return true
	case o.Txn != nil:
		return o.Txn.Writes()
	}
	return false
}

// Writes reports whether one of the branches has an operation that may change something.
func (t *TxnRequest) Writes() bool {
	return t.any((*Op).writes)
}

// puts reports whether one of the branches has a put. Such a transaction is refused when space has run out.
func (t *TxnRequest) puts() bool {
	return t.any(func(o *Op) bool { return o.Put != nil || o.Txn != nil && o.Txn.puts() })
}

func (t *TxnRequest) any(f func(*Op) bool) bool {
	for i := range t.Success {
		if f(&t.Success[i]) {
			return true
		}
	}
	for i := range t.Failure {
		if f(&t.Failure[i]) {
			return true
		}
	}
	return false
}
