package etcdapi

import (
	"bytes"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"
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

// TestValuesLetGoOfTheirMessages: the value of a put keeps no message alive that is much larger, whatever fills it;
// one that is most of its message is not copied.
func TestValuesLetGoOfTheirMessages(t *testing.T) {
	field := func(b []byte, num protowire.Number, v []byte) []byte {
		return protowire.AppendBytes(protowire.AppendTag(b, num, protowire.BytesType), v)
	}
	junk := make([]byte, 100_000)
	for _, size := range []int{1000, 200_000} {
		value := bytes.Repeat([]byte("v"), size)
		put := field(field(nil, 1, []byte("k")), 2, value)
		shared := size > len(junk)

		message := field(put, 1000, junk)
		var p putRequest
		if err := p.UnmarshalWire(message); err != nil {
			t.Fatal(err)
		}
		clear(message)
		if bytes.Equal(p.Value, value) == shared {
			t.Errorf("%d bytes: the put keeps its message: %t", size, !shared)
		}

		put = field(field(nil, 1, []byte("k")), 2, value)
		nested := field(nil, 3, field(nil, 4, field(nil, 2, field(nil, 2, put)))) // failure: a transaction whose success is a put
		message = field(nested, 1000, junk)
		var x txnRequest
		if err := x.UnmarshalWire(message); err != nil {
			t.Fatal(err)
		}
		clear(message)
		if bytes.Equal(x.Failure[0].Txn.Success[0].Put.Value, value) == shared {
			t.Errorf("%d bytes: the transaction keeps its message: %t", size, !shared)
		}
	}
}
