package mvcc

import "bytes"

// conflictSet is what a request or a group reads and writes in transactions: single keys and ranges. A key may be there
// twice if there are many.
type conflictSet struct {
	keys   []string
	ranges []span
}

// keysOnce is how many keys of a conflictSet are compared with a new one. Most requests name one or two keys, often
// more than once.
const keysOnce = 8

type span struct{ key, end []byte }

func (s span) has(key []byte) bool {
	return bytes.Compare(key, s.key) >= 0 && (toEnd(s.end) || bytes.Compare(key, s.end) < 0)
}

func conflictSetOf(m mutation) conflictSet {
	var f conflictSet
	switch r := m.(type) {
	case *PutRequest:
		f.addRange(r.Key, nil)
	case *DeleteRequest:
		f.addRange(r.Key, r.End)
	case *TxnRequest:
		f.addTxn(r)
	}
	return f
}

func (f *conflictSet) addTxn(t *TxnRequest) {
	for i := range t.Compares {
		f.addRange(t.Compares[i].Key, t.Compares[i].End)
	}
	for _, ops := range [2][]Op{t.Success, t.Failure} {
		for i := range ops {
			switch o := &ops[i]; {
			case o.Put != nil:
				f.addRange(o.Put.Key, nil)
			case o.Delete != nil:
				f.addRange(o.Delete.Key, o.Delete.End)
			case o.Range != nil:
				f.addRange(o.Range.Key, o.Range.End)
			case o.Txn != nil:
				f.addTxn(o.Txn)
			}
		}
	}
}

func (f *conflictSet) addRange(key, end []byte) {
	if !single(end) {
		if r := (span{key, end}); !r.empty() {
			f.ranges = append(f.ranges, r)
		}
		return
	}
	for i := range min(len(f.keys), keysOnce) {
		if f.keys[i] == string(key) { // compares without a copy
			return
		}
	}
	f.keys = append(f.keys, string(key))
}

// covers says whether a range of f contains a key.
func (f *conflictSet) covers(key []byte) bool {
	for _, r := range f.ranges {
		if r.has(key) {
			return true
		}
	}
	return false
}

// empty says whether a range has no keys.
func (s span) empty() bool { return !toEnd(s.end) && bytes.Compare(s.key, s.end) >= 0 }
