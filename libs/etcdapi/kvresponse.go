package etcdapi

import (
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/headwaterdb/headwater/libs/mvcc"
)

// Sizes of the buffers of a growing response: the first is small, the others have the size that grpc-go's pool keeps.
const (
	firstBuffer = 4 << 10
	nextBuffer  = 32 << 10
)

// sizeKV is the size of an mvccpb.KeyValue.
func sizeKV(kv *mvcc.KV) int {
	return sizeBytesField(kv.Key) + sizeInt(kv.Create) + sizeInt(kv.Mod) + sizeInt(kv.Version) +
		sizeBytesField(kv.Value) + sizeInt(kv.Lease)
}

// appendKV appends kv as field num.
func appendKV(b []byte, num protowire.Number, kv *mvcc.KV, size int) []byte {
	b = protowire.AppendTag(b, num, protowire.BytesType)
	b = protowire.AppendVarint(b, uint64(size))
	b = appendBytesField(b, 1, kv.Key)
	b = appendInt(b, 2, kv.Create)
	b = appendInt(b, 3, kv.Mod)
	b = appendInt(b, 4, kv.Version)
	b = appendBytesField(b, 5, kv.Value)
	return appendInt(b, 6, kv.Lease)
}

// rangeWriter encodes the keys of a Range as they come, into pooled buffers. grpc-go gives them back when they are
// sent.
type rangeWriter struct {
	answer *answer
	full   []*[]byte // buffers before the current one
	cur    *[]byte
	size   int // bytes in full
}

func (w *rangeWriter) add(kv *mvcc.KV) error {
	size := sizeKV(kv)
	if err := w.grow(1 + protowire.SizeBytes(size)); err != nil {
		return err
	}
	*w.cur = appendKV(*w.cur, 2, kv, size)
	return nil
}

// grow makes room for n bytes. Errors: those of answer.grow.
func (w *rangeWriter) grow(n int) error {
	if w.cur != nil && cap(*w.cur)-len(*w.cur) >= n {
		return nil
	}
	want := nextBuffer
	if w.cur == nil {
		want = firstBuffer
	}
	b := getBuffer(max(want, n))
	if err := w.answer.grow(cap(*b)); err != nil {
		putBuffer(b)
		return err
	}
	if w.cur != nil {
		w.full = append(w.full, w.cur)
		w.size += len(*w.cur)
	}
	w.cur = b
	*w.cur = (*w.cur)[:0]
	return nil
}

func (w *rangeWriter) len() int {
	if w.cur == nil {
		return 0
	}
	return w.size + len(*w.cur)
}

// finish returns the message, with what comes before and after the keys.
func (w *rangeWriter) finish(head, tail []byte) encoded {
	out := make(encoded, 0, len(w.full)+3)
	out = append(out, mem.SliceBuffer(head))
	if w.cur != nil {
		out = w.answer.sent(out, append(w.full, w.cur)...)
	}
	if len(tail) > 0 {
		out = append(out, mem.SliceBuffer(tail))
	}
	*w = rangeWriter{}
	return out
}

// free gives the buffers back if there is no message.
func (w *rangeWriter) free() {
	if w.cur != nil {
		for _, b := range append(w.full, w.cur) {
			putBuffer(b)
		}
	}
	*w = rangeWriter{}
}

func appendRangeTail(b []byte, info *mvcc.RangeInfo) []byte {
	b = appendBool(b, 3, info.More)
	return appendInt(b, 4, info.Count)
}

// results encodes the answers of writes.
type results struct{ headerCodec }

func (c results) put(res *mvcc.Result) []byte {
	b := make([]byte, 0, c.size(res.Rev)+sizePrev(res))
	b = c.append(b, res.Rev)
	return appendPrev(b, 2, res)
}

func (c results) delete(res *mvcc.Result) []byte {
	b := make([]byte, 0, c.size(res.Rev)+sizePrev(res)+sizeInt(res.Deleted))
	b = c.append(b, res.Rev)
	b = appendInt(b, 2, res.Deleted)
	return appendPrev(b, 3, res)
}

func (c results) txn(res *mvcc.Result) []byte {
	b := c.append(make([]byte, 0, c.size(res.Rev)+boundTxn(res)), res.Rev)
	return appendTxnBody(b, res)
}

// boundTxn returns an upper bound of the bytes in the body of a transaction's answer. An answer of hundreds of
// megabytes must not grow by copying.
func boundTxn(res *mvcc.Result) int {
	const opMax = 64 // tags, lengths and numbers of one operation
	n := opMax
	for i := range res.Ops {
		op := &res.Ops[i]
		n += opMax + sizePrev(&op.Result)
		for j := range op.KVs {
			n += 1 + protowire.SizeBytes(sizeKV(&op.KVs[j]))
		}
		if op.Kind == mvcc.OpTxn {
			n += boundTxn(&op.Result)
		}
	}
	return n
}

func sizePrev(res *mvcc.Result) int {
	n := 0
	for i := range res.Prev {
		n += 1 + protowire.SizeBytes(sizeKV(&res.Prev[i]))
	}
	return n
}

func appendPrev(b []byte, num protowire.Number, res *mvcc.Result) []byte {
	for i := range res.Prev {
		b = appendKV(b, num, &res.Prev[i], sizeKV(&res.Prev[i]))
	}
	return b
}

func appendTxnBody(b []byte, res *mvcc.Result) []byte {
	b = appendBool(b, 2, res.Succeeded)
	for i := range res.Ops {
		b = appendMessage(b, 3, func(b []byte) []byte { return appendOpResult(b, &res.Ops[i]) })
	}
	return b
}

// appendOpResult appends a ResponseOp. The header of an operation has only a revision, and that of a nested transaction
// not even that (etcd: txn/txn.go).
func appendOpResult(b []byte, op *mvcc.OpResult) []byte {
	return appendMessage(b, protowire.Number(op.Kind), func(b []byte) []byte {
		rev := op.Rev
		if op.Kind == mvcc.OpTxn {
			rev = 0
		}
		b = appendMessage(b, 1, func(b []byte) []byte { return appendInt(b, 3, rev) })
		switch op.Kind {
		case mvcc.OpRange:
			for i := range op.KVs {
				b = appendKV(b, 2, &op.KVs[i], sizeKV(&op.KVs[i]))
			}
			b = appendBool(b, 3, op.More)
			b = appendInt(b, 4, op.Count)
		case mvcc.OpPut:
			b = appendPrev(b, 2, &op.Result)
		case mvcc.OpDelete:
			b = appendInt(b, 2, op.Deleted)
			b = appendPrev(b, 3, &op.Result)
		case mvcc.OpTxn:
			b = appendTxnBody(b, &op.Result)
		}
		return b
	})
}
