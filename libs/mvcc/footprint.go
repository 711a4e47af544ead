package mvcc

import "bytes"

// footprint is what a request or a group reads and writes in transactions: single keys and ranges.
type footprint struct {
	keys   map[string]struct{}
	ranges []span
}

type span struct{ key, end []byte }

func (s span) has(key []byte) bool {
	return bytes.Compare(key, s.key) >= 0 && (toEnd(s.end) || bytes.Compare(key, s.end) < 0)
}

func (s span) overlaps(o span) bool {
	return (toEnd(o.end) || bytes.Compare(s.key, o.end) < 0) && (toEnd(s.end) || bytes.Compare(o.key, s.end) < 0)
}

func footprintOf(m mutation) footprint {
	var f footprint
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

func (f *footprint) addTxn(t *TxnRequest) {
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

func (f *footprint) addRange(key, end []byte) {
	if !single(end) {
		f.ranges = append(f.ranges, span{key, end})
		return
	}
	if f.keys == nil {
		f.keys = make(map[string]struct{})
	}
	f.keys[string(key)] = struct{}{}
}

func (f *footprint) add(o *footprint) {
	if f.keys == nil {
		f.keys = make(map[string]struct{}, len(o.keys))
	}
	for k := range o.keys {
		f.keys[k] = struct{}{}
	}
	f.ranges = append(f.ranges, o.ranges...)
}

func (f *footprint) overlaps(o *footprint) bool {
	small, large := f, o
	if len(small.keys) > len(large.keys) {
		small, large = large, small
	}
	for k := range small.keys {
		if _, ok := large.keys[k]; ok {
			return true
		}
	}
	return f.rangesHit(o) || o.rangesHit(f)
}

// rangesHit says that a range of f covers a key of o or meets a range of o.
func (f *footprint) rangesHit(o *footprint) bool {
	for _, r := range f.ranges {
		for k := range o.keys {
			if r.has([]byte(k)) {
				return true
			}
		}
		for _, other := range o.ranges {
			if r.overlaps(other) {
				return true
			}
		}
	}
	return false
}
