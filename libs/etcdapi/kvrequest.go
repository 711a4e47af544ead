package etcdapi

import (
	"bytes"
	"errors"
	"math"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/headwaterdb/headwater/libs/mvcc"
)

// txnDepthMax is how deep transactions may nest on the wire. protobuf's own decoder stops there too. etcd accepts far
// less, because each level takes at least one of the allowed operations.
const txnDepthMax = 10000

var (
	errTooDeep     = errors.New("etcdapi: transactions nested too deeply")
	errFieldNumber = errors.New("etcdapi: field number out of range")
)

// fields calls f for every field of a message. f consumes the value and returns its length, or 0 to skip it (an unknown
// field or wire type), or a protowire error. Invalid field numbers are refused; protowire accepts some that protobuf's
// decoder refuses.
func fields(b []byte, f func(num protowire.Number, typ protowire.Type, b []byte) (int, error)) error {
	for len(b) > 0 {
		num, typ, n := protowire.ConsumeTag(b)
		if n < 0 {
			return protowire.ParseError(n)
		}
		if num > protowire.MaxValidNumber {
			return errFieldNumber
		}
		b = b[n:]
		n, err := f(num, typ, b)
		if err != nil {
			return err
		}
		if n == 0 {
			n = protowire.ConsumeFieldValue(num, typ, b)
		}
		if n < 0 {
			return protowire.ParseError(n)
		}
		b = b[n:]
	}
	return nil
}

func bytesField(typ protowire.Type, b []byte, v *[]byte) int {
	if typ != protowire.BytesType {
		return 0
	}
	s, n := protowire.ConsumeBytes(b)
	if n > 0 {
		*v = s[:len(s):len(s)]
	}
	return n
}

func intField[T ~int32 | ~int64](typ protowire.Type, b []byte, v *T) int {
	if typ != protowire.VarintType {
		return 0
	}
	u, n := protowire.ConsumeVarint(b)
	if n > 0 {
		*v = T(u)
	}
	return n
}

func boolField(typ protowire.Type, b []byte, v *bool) int {
	if typ != protowire.VarintType {
		return 0
	}
	u, n := protowire.ConsumeVarint(b)
	if n > 0 {
		*v = protowire.DecodeBool(u)
	}
	return n
}

// messageField consumes an embedded message and decodes it into what is there already, because protobuf merges repeated
// occurrences.
func messageField(typ protowire.Type, b []byte, decode func([]byte) error) (int, error) {
	if typ != protowire.BytesType {
		return 0, nil
	}
	m, n := protowire.ConsumeBytes(b)
	if n < 0 {
		return n, nil
	}
	return n, decode(m)
}

// The requests decode into mvcc's types without copying: they keep the message's bytes (but see ownValue).

type rangeRequest struct {
	mvcc.RangeRequest
	answer answer
}

func (r *rangeRequest) UnmarshalWire(b []byte) error { return decodeRange(b, &r.RangeRequest) }

func decodeRange(b []byte, r *mvcc.RangeRequest) error {
	return fields(b, func(num protowire.Number, typ protowire.Type, b []byte) (int, error) {
		n := 0
		switch num {
		case 1:
			n = bytesField(typ, b, &r.Key)
		case 2:
			n = bytesField(typ, b, &r.End)
		case 3:
			n = intField(typ, b, &r.Limit)
		case 4:
			n = intField(typ, b, &r.Rev)
		case 5:
			n = intField(typ, b, &r.Order)
		case 6:
			n = intField(typ, b, &r.Target)
		case 7:
			n = boolField(typ, b, &r.Serializable)
		case 8:
			n = boolField(typ, b, &r.KeysOnly)
		case 9:
			n = boolField(typ, b, &r.CountOnly)
		case 10:
			n = intField(typ, b, &r.MinMod)
		case 11:
			n = intField(typ, b, &r.MaxMod)
		case 12:
			n = intField(typ, b, &r.MinCreate)
		case 13:
			n = intField(typ, b, &r.MaxCreate)
		}
		return n, nil
	})
}

// Requests that write keep their size on the wire, which max-request-bytes bounds.
type putRequest struct {
	mvcc.PutRequest
	size int
}

func (r *putRequest) UnmarshalWire(b []byte) error {
	r.size = len(b)
	if err := decodePut(b, &r.PutRequest); err != nil {
		return err
	}
	ownValue(&r.PutRequest, len(b))
	return nil
}

// smallValue is the size up to which a value is copied anyway when it is written.
const smallValue = 512

// ownValue copies the value of a put if it is a small part of its message. A larger value lives as long as watches may
// want its event, and counts by its own size. So it must not keep alive what else the client has sent, perhaps in
// unknown fields.
func ownValue(p *mvcc.PutRequest, message int) {
	if len(p.Value) > smallValue && 2*len(p.Value) < message {
		p.Value = bytes.Clone(p.Value)
	}
}

// ownValues is ownValue for all puts of a transaction.
func ownValues(t *mvcc.TxnRequest, message int) {
	for _, ops := range [2][]mvcc.Op{t.Success, t.Failure} {
		for i := range ops {
			switch o := &ops[i]; {
			case o.Put != nil:
				ownValue(o.Put, message)
			case o.Txn != nil:
				ownValues(o.Txn, message)
			}
		}
	}
}

func decodePut(b []byte, r *mvcc.PutRequest) error {
	return fields(b, func(num protowire.Number, typ protowire.Type, b []byte) (int, error) {
		n := 0
		switch num {
		case 1:
			n = bytesField(typ, b, &r.Key)
		case 2:
			n = bytesField(typ, b, &r.Value)
		case 3:
			n = intField(typ, b, &r.Lease)
		case 4:
			n = boolField(typ, b, &r.PrevKV)
		case 5:
			n = boolField(typ, b, &r.IgnoreValue)
		case 6:
			n = boolField(typ, b, &r.IgnoreLease)
		}
		return n, nil
	})
}

type deleteRequest struct {
	mvcc.DeleteRequest
	size int
}

func (r *deleteRequest) UnmarshalWire(b []byte) error {
	r.size = len(b)
	return decodeDelete(b, &r.DeleteRequest)
}

func decodeDelete(b []byte, r *mvcc.DeleteRequest) error {
	return fields(b, func(num protowire.Number, typ protowire.Type, b []byte) (int, error) {
		n := 0
		switch num {
		case 1:
			n = bytesField(typ, b, &r.Key)
		case 2:
			n = bytesField(typ, b, &r.End)
		case 3:
			n = boolField(typ, b, &r.PrevKV)
		}
		return n, nil
	})
}

type txnRequest struct {
	mvcc.TxnRequest
	size int
	// max is how many compares and operations the transaction may have, including nested ones; 0: any number. Decoding
	// ends at one more, because a few bytes can hold an operation.
	max     int
	tooMany bool
}

// bound implements bounded.
func (r *txnRequest) bound(o *KVOptions) { r.max = txnTotal(o.MaxTxnOps) }

// errTooManyOps ends the decoding of a transaction.
var errTooManyOps = errors.New("etcdapi: too many operations")

func (r *txnRequest) UnmarshalWire(b []byte) error {
	r.size = len(b)
	d := txnDecoder{left: r.max}
	if r.max == 0 {
		d.left = math.MaxInt
	}
	err := d.txn(b, &r.TxnRequest, 0)
	if errors.Is(err, errTooManyOps) {
		r.tooMany = true
		return nil
	}
	if err == nil {
		ownValues(&r.TxnRequest, len(b))
	}
	return err
}

// txnDecoder counts what it decodes.
type txnDecoder struct{ left int }

func (d *txnDecoder) count() error {
	if d.left--; d.left < 0 {
		return errTooManyOps
	}
	return nil
}

func (d *txnDecoder) txn(b []byte, t *mvcc.TxnRequest, depth int) error {
	if depth > txnDepthMax {
		return errTooDeep
	}
	return fields(b, func(num protowire.Number, typ protowire.Type, b []byte) (int, error) {
		switch num {
		case 1:
			return messageField(typ, b, func(m []byte) error {
				if err := d.count(); err != nil {
					return err
				}
				var c mvcc.Compare
				err := decodeCompare(m, &c)
				t.Compares = append(t.Compares, c)
				return err
			})
		case 2:
			return messageField(typ, b, func(m []byte) error { return d.appendOp(m, &t.Success, depth) })
		case 3:
			return messageField(typ, b, func(m []byte) error { return d.appendOp(m, &t.Failure, depth) })
		}
		return 0, nil
	})
}

func (d *txnDecoder) appendOp(b []byte, ops *[]mvcc.Op, depth int) error {
	if err := d.count(); err != nil {
		return err
	}
	var op mvcc.Op
	if err := d.op(b, &op, depth); err != nil {
		return err
	}
	*ops = append(*ops, op)
	return nil
}

// op decodes a union. The last kind of operation in it counts.
func (d *txnDecoder) op(b []byte, op *mvcc.Op, depth int) error {
	return fields(b, func(num protowire.Number, typ protowire.Type, b []byte) (int, error) {
		switch num {
		case 1:
			if op.Range == nil && typ == protowire.BytesType {
				*op = mvcc.Op{Range: new(mvcc.RangeRequest)}
			}
			return messageField(typ, b, func(m []byte) error { return decodeRange(m, op.Range) })
		case 2:
			if op.Put == nil && typ == protowire.BytesType {
				*op = mvcc.Op{Put: new(mvcc.PutRequest)}
			}
			return messageField(typ, b, func(m []byte) error { return decodePut(m, op.Put) })
		case 3:
			if op.Delete == nil && typ == protowire.BytesType {
				*op = mvcc.Op{Delete: new(mvcc.DeleteRequest)}
			}
			return messageField(typ, b, func(m []byte) error { return decodeDelete(m, op.Delete) })
		case 4:
			if op.Txn == nil && typ == protowire.BytesType {
				*op = mvcc.Op{Txn: new(mvcc.TxnRequest)}
			}
			return messageField(typ, b, func(m []byte) error { return d.txn(m, op.Txn, depth+1) })
		}
		return 0, nil
	})
}

// The field that holds a compare's operand, by target.
const (
	compareVersionField = 4
	compareValueField   = 7
)

// decodeCompare decodes a condition. An operand of another kind than the target counts as 0 or empty (etcd txn/txn.go
// compareKV).
func decodeCompare(b []byte, c *mvcc.Compare) error {
	var union protowire.Number
	var operand int64
	var value []byte
	err := fields(b, func(num protowire.Number, typ protowire.Type, b []byte) (int, error) {
		n := 0
		switch num {
		case 1:
			n = intField(typ, b, &c.Result)
		case 2:
			n = intField(typ, b, &c.Target)
		case 3:
			n = bytesField(typ, b, &c.Key)
		case 4, 5, 6, 8:
			if n = intField(typ, b, &operand); n > 0 {
				union = num
			}
		case compareValueField:
			if n = bytesField(typ, b, &value); n > 0 {
				union = num
			}
		case 64:
			n = bytesField(typ, b, &c.End)
		}
		return n, nil
	})
	if want := compareVersionField + protowire.Number(c.Target); union == want {
		if union == compareValueField {
			c.Value = value
		} else {
			c.Int = operand
		}
	}
	return err
}

type compactRequest struct {
	rev      int64
	physical bool
}

func (r *compactRequest) UnmarshalWire(b []byte) error {
	return fields(b, func(num protowire.Number, typ protowire.Type, b []byte) (int, error) {
		n := 0
		switch num {
		case 1:
			n = intField(typ, b, &r.rev)
		case 2:
			n = boolField(typ, b, &r.physical)
		}
		return n, nil
	})
}
