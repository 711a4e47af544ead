package etcdapi

import (
	"bytes"
	"testing"
)

// TestDecodingEnds: a transaction of operations of two bytes each is not decoded beyond its bound.
func TestDecodingEnds(t *testing.T) {
	const most = 1000
	for _, field := range []byte{1, 2, 3} { // compares, success, failure
		b := bytes.Repeat([]byte{field<<3 | 2, 0}, 500_000)
		r := txnRequest{max: most}
		if err := r.UnmarshalWire(b); err != nil || !r.tooMany {
			t.Errorf("field %d: %v, %v", field, r.tooMany, err)
		}
		if n := len(r.Compares) + len(r.Success) + len(r.Failure); n > most {
			t.Errorf("field %d: %d decoded", field, n)
		}
		r = txnRequest{max: most}
		if err := r.UnmarshalWire(b[:2*most]); err != nil || r.tooMany {
			t.Errorf("field %d, as many as may be: %v, %v", field, r.tooMany, err)
		}
	}
}
