package etcdapi

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/headwaterdb/headwater/libs/mvcc"
)

// The requests as protobuf's own decoder reads them.

func rangeFromPB(r *pb.RangeRequest) *mvcc.RangeRequest {
	return &mvcc.RangeRequest{
		Key: r.GetKey(), End: r.GetRangeEnd(), Limit: r.GetLimit(), Rev: r.GetRevision(),
		Order: mvcc.SortOrder(r.GetSortOrder()), Target: mvcc.SortTarget(r.GetSortTarget()),
		KeysOnly: r.GetKeysOnly(), CountOnly: r.GetCountOnly(), Serializable: r.GetSerializable(),
		MinMod: r.GetMinModRevision(), MaxMod: r.GetMaxModRevision(),
		MinCreate: r.GetMinCreateRevision(), MaxCreate: r.GetMaxCreateRevision(),
	}
}

func putFromPB(r *pb.PutRequest) *mvcc.PutRequest {
	return &mvcc.PutRequest{
		Key: r.GetKey(), Value: r.GetValue(), Lease: r.GetLease(), PrevKV: r.GetPrevKv(),
		IgnoreValue: r.GetIgnoreValue(), IgnoreLease: r.GetIgnoreLease(),
	}
}

func deleteFromPB(r *pb.DeleteRangeRequest) *mvcc.DeleteRequest {
	return &mvcc.DeleteRequest{Key: r.GetKey(), End: r.GetRangeEnd(), PrevKV: r.GetPrevKv()}
}

func compareFromPB(c *pb.Compare) mvcc.Compare {
	out := mvcc.Compare{
		Key: c.GetKey(), End: c.GetRangeEnd(), Target: mvcc.CompareTarget(c.GetTarget()),
		Result: mvcc.CompareResult(c.GetResult()),
	}
	switch c.GetTarget() {
	case pb.Compare_VERSION:
		out.Int = c.GetVersion()
	case pb.Compare_CREATE:
		out.Int = c.GetCreateRevision()
	case pb.Compare_MOD:
		out.Int = c.GetModRevision()
	case pb.Compare_LEASE:
		out.Int = c.GetLease()
	case pb.Compare_VALUE:
		out.Value = c.GetValue()
	}
	return out
}

func opsFromPB(ops []*pb.RequestOp) []mvcc.Op {
	var out []mvcc.Op
	for _, o := range ops {
		var op mvcc.Op
		switch u := o.GetRequest().(type) {
		case *pb.RequestOp_RequestRange:
			op.Range = rangeFromPB(u.RequestRange)
		case *pb.RequestOp_RequestPut:
			op.Put = putFromPB(u.RequestPut)
		case *pb.RequestOp_RequestDeleteRange:
			op.Delete = deleteFromPB(u.RequestDeleteRange)
		case *pb.RequestOp_RequestTxn:
			op.Txn = txnFromPB(u.RequestTxn)
		}
		out = append(out, op)
	}
	return out
}

func txnFromPB(r *pb.TxnRequest) *mvcc.TxnRequest {
	t := &mvcc.TxnRequest{Success: opsFromPB(r.GetSuccess()), Failure: opsFromPB(r.GetFailure())}
	for _, c := range r.GetCompare() {
		t.Compares = append(t.Compares, compareFromPB(c))
	}
	return t
}

func checkDecode(t *testing.T, b []byte, msg proto.Message, want func() any, got func() (any, error)) {
	t.Helper()
	errWant := proto.Unmarshal(b, msg)
	ours, errGot := got()
	if (errWant == nil) != (errGot == nil) {
		t.Fatalf("protobuf: %v, ours: %v, for %x", errWant, errGot, b)
	}
	if errWant != nil {
		return
	}
	if diff := cmp.Diff(want(), ours, cmpopts.EquateEmpty()); diff != "" {
		t.Fatalf("%x (-protobuf +ours):\n%s", b, diff)
	}
}

func FuzzDecodeTxn(f *testing.F) {
	for _, m := range []*pb.TxnRequest{
		{},
		{Compare: []*pb.Compare{{Key: []byte("k"), Target: pb.Compare_VALUE, TargetUnion: &pb.Compare_Value{Value: []byte("v")}}}},
		{Compare: []*pb.Compare{{Key: []byte("k"), Target: pb.Compare_MOD, TargetUnion: &pb.Compare_Version{Version: 3}, RangeEnd: []byte("z")}}},
		{Success: []*pb.RequestOp{{}, {Request: &pb.RequestOp_RequestPut{RequestPut: &pb.PutRequest{Key: []byte("k"), Lease: -1}}}}},
		{Failure: []*pb.RequestOp{{Request: &pb.RequestOp_RequestTxn{RequestTxn: &pb.TxnRequest{Success: []*pb.RequestOp{
			{Request: &pb.RequestOp_RequestDeleteRange{RequestDeleteRange: &pb.DeleteRangeRequest{Key: []byte("k"), PrevKv: true}}},
			{Request: &pb.RequestOp_RequestRange{RequestRange: &pb.RangeRequest{Key: []byte("k"), SortOrder: -1, Limit: -1}}},
		}}}}}},
	} {
		b, err := proto.Marshal(m)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	// Field numbers at and beyond both bounds, by themselves and in a compare, an operation and a group.
	for _, num := range []protowire.Number{
		0, protowire.MinValidNumber, protowire.MaxValidNumber, protowire.MaxValidNumber + 1, math.MaxInt32,
	} {
		field := protowire.AppendVarint(protowire.AppendVarint(nil, uint64(num)<<3|uint64(protowire.VarintType)), 1)
		f.Add(field)
		f.Add(protowire.AppendBytes(protowire.AppendTag(nil, 1, protowire.BytesType), field))
		f.Add(protowire.AppendBytes(protowire.AppendTag(nil, 2, protowire.BytesType), field))
		f.Add(protowire.AppendGroup(protowire.AppendTag(nil, 9, protowire.StartGroupType), 9, field))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var txn pb.TxnRequest
		checkDecode(t, b, &txn, func() any { return *txnFromPB(&txn) }, func() (any, error) {
			var r txnRequest
			err := r.UnmarshalWire(b)
			return r.TxnRequest, err
		})
		var rng pb.RangeRequest
		checkDecode(t, b, &rng, func() any { return *rangeFromPB(&rng) }, func() (any, error) {
			var r rangeRequest
			err := r.UnmarshalWire(b)
			return r.RangeRequest, err
		})
		var put pb.PutRequest
		checkDecode(t, b, &put, func() any { return *putFromPB(&put) }, func() (any, error) {
			var r putRequest
			err := r.UnmarshalWire(b)
			return r.PutRequest, err
		})
		var del pb.DeleteRangeRequest
		checkDecode(t, b, &del, func() any { return *deleteFromPB(&del) }, func() (any, error) {
			var r deleteRequest
			err := r.UnmarshalWire(b)
			return r.DeleteRequest, err
		})
	})
}

// The answers, built by hand and decoded by protobuf.

func randKV(r *rand.Rand) mvcc.KV {
	kv := mvcc.KV{
		Key: make([]byte, r.IntN(200)), Create: r.Int64() >> r.IntN(63), Mod: r.Int64(), Version: int64(r.IntN(3)),
		Lease: int64(r.Uint64()) * int64(r.IntN(2)),
	}
	if r.IntN(2) == 0 {
		kv.Value = make([]byte, r.IntN(40000))
	}
	return kv
}

func kvToPB(kv mvcc.KV) *mvccpb.KeyValue {
	return &mvccpb.KeyValue{
		Key: kv.Key, Value: kv.Value, CreateRevision: kv.Create, ModRevision: kv.Mod, Version: kv.Version,
		Lease: kv.Lease,
	}
}

func kvsToPB(kvs []mvcc.KV) (out []*mvccpb.KeyValue) {
	for _, kv := range kvs {
		out = append(out, kvToPB(kv))
	}
	return out
}

func randKVs(r *rand.Rand) (kvs []mvcc.KV) {
	for range r.IntN(4) {
		kvs = append(kvs, randKV(r))
	}
	return kvs
}

func decodeTo[M proto.Message](t *testing.T, e encoded, m M) M {
	t.Helper()
	s, err := e.MarshalWire()
	if err != nil {
		t.Fatal(err)
	}
	if err := proto.Unmarshal(s.Materialize(), m); err != nil {
		t.Fatal(err)
	}
	return m
}

func checkMessage(t *testing.T, got, want proto.Message) {
	t.Helper()
	if !proto.Equal(want, got) { // cheap; the difference is not
		t.Fatalf("(-want +got):\n%s", cmp.Diff(want, got, protocmp.Transform()))
	}
}

func TestEncodeResults(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 1))
	c := results{newHeaderCodec(testHeader)}
	for range 200 {
		res := &mvcc.Result{Rev: int64(r.IntN(1 << 30)), Prev: randKVs(r)[:0], Deleted: int64(r.IntN(3))}
		if r.IntN(2) == 0 {
			res.Prev = []mvcc.KV{randKV(r)}
		}
		want := &pb.PutResponse{Header: testHeader.At(res.Rev)}
		if len(res.Prev) > 0 {
			want.PrevKv = kvToPB(res.Prev[0])
		}
		checkMessage(t, decodeTo(t, encodedBytes(c.put(res)), &pb.PutResponse{}), want)
		res.Prev = randKVs(r)
		checkMessage(t, decodeTo(t, encodedBytes(c.delete(res)), &pb.DeleteRangeResponse{}),
			&pb.DeleteRangeResponse{Header: testHeader.At(res.Rev), Deleted: res.Deleted, PrevKvs: kvsToPB(res.Prev)})
		txn := randTxnResult(r, 3)
		wantTxn := txnToPB(txn)
		wantTxn.Header = testHeader.At(txn.Rev)
		checkMessage(t, decodeTo(t, encodedBytes(c.txn(txn)), &pb.TxnResponse{}), wantTxn)
	}
}

func randTxnResult(r *rand.Rand, depth int) *mvcc.Result {
	res := &mvcc.Result{Rev: int64(r.IntN(100)), Succeeded: r.IntN(2) == 0}
	for range r.IntN(4) {
		op := mvcc.OpResult{Kind: mvcc.OpKind(1 + r.IntN(3)), Result: mvcc.Result{Rev: int64(r.IntN(100))}}
		switch op.Kind {
		case mvcc.OpRange:
			op.KVs, op.Count, op.More = randKVs(r), int64(r.IntN(10)), r.IntN(2) == 0
		case mvcc.OpPut:
			op.Prev = randKVs(r)[:0]
		case mvcc.OpDelete:
			op.Prev, op.Deleted = randKVs(r), int64(r.IntN(4))
		}
		if depth > 0 && r.IntN(4) == 0 {
			op = mvcc.OpResult{Kind: mvcc.OpTxn, Result: *randTxnResult(r, depth-1)}
		}
		res.Ops = append(res.Ops, op)
	}
	return res
}

func txnToPB(res *mvcc.Result) *pb.TxnResponse {
	out := &pb.TxnResponse{Header: &pb.ResponseHeader{}, Succeeded: res.Succeeded}
	for i := range res.Ops {
		o := &res.Ops[i]
		h := &pb.ResponseHeader{Revision: o.Rev}
		var u pb.ResponseOp
		switch o.Kind {
		case mvcc.OpRange:
			u.Response = &pb.ResponseOp_ResponseRange{ResponseRange: &pb.RangeResponse{
				Header: h, Kvs: kvsToPB(o.KVs), Count: o.Count, More: o.More,
			}}
		case mvcc.OpPut:
			u.Response = &pb.ResponseOp_ResponsePut{ResponsePut: &pb.PutResponse{Header: h}}
		case mvcc.OpDelete:
			u.Response = &pb.ResponseOp_ResponseDeleteRange{ResponseDeleteRange: &pb.DeleteRangeResponse{
				Header: h, Deleted: o.Deleted, PrevKvs: kvsToPB(o.Prev),
			}}
		case mvcc.OpTxn:
			u.Response = &pb.ResponseOp_ResponseTxn{ResponseTxn: txnToPB(&o.Result)}
		}
		out.Responses = append(out.Responses, &u)
	}
	return out
}

// listStore answers ranges from a fixed list, as mvcc does from a keyspace.
type listStore struct {
	KVStore
	kvs   []mvcc.KV
	calls int
}

func (s *listStore) Range(_ context.Context, r *mvcc.RangeRequest, visit mvcc.Visit) (mvcc.RangeInfo, error) {
	s.calls++
	info := mvcc.RangeInfo{Rev: 7}
	for i := range s.kvs {
		kv := s.kvs[i]
		if string(kv.Key) < string(r.Key) || len(r.End) == 0 && string(kv.Key) != string(r.Key) {
			continue
		}
		if info.Count++; r.Limit > 0 && info.Count > r.Limit {
			info.More = true
			continue
		}
		if err := visit(&kv); err != nil {
			return info, err
		}
	}
	return info, nil
}

func TestEncodeRange(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 1))
	store := &listStore{}
	for i := range 50 {
		kv := randKV(r)
		kv.Key = fmt.Appendf(nil, "key%03d", i)
		store.kvs = append(store.kvs, kv)
	}
	s := &kvServer{
		store: store, header: newHeaderCodec(testHeader), o: KVOptions{Answers: NewAnswers(DefaultAnswerBytes)},
	}
	all, err := s.rangeKeys(t.Context(),
		&rangeRequest{RangeRequest: mvcc.RangeRequest{Key: []byte("k"), End: []byte{0}, Limit: 40}})
	if err != nil {
		t.Fatal(err)
	}
	checkMessage(t, decodeTo(t, all, &pb.RangeResponse{}),
		&pb.RangeResponse{Header: testHeader.At(7), Kvs: kvsToPB(store.kvs[:40]), Count: 50, More: true})
	for i, key := range []string{"key007", "none"} {
		one, err := s.rangeKeys(t.Context(), &rangeRequest{RangeRequest: mvcc.RangeRequest{Key: []byte(key)}})
		if err != nil {
			t.Fatal(err)
		}
		want := &pb.RangeResponse{Header: testHeader.At(7)}
		if i == 0 {
			want.Kvs, want.Count = kvsToPB(store.kvs[7:8]), 1
		}
		checkMessage(t, decodeTo(t, one, &pb.RangeResponse{}), want)
	}
}

// askedStore notes what it has been asked.
type askedStore struct {
	listStore
	serializable bool
}

func (s *askedStore) Range(ctx context.Context, r *mvcc.RangeRequest, visit mvcc.Visit) (mvcc.RangeInfo, error) {
	s.serializable = r.Serializable
	return s.listStore.Range(ctx, r, visit)
}

// TestSerializableRelayed: what another process has passed on is answered with the newest state.
func TestSerializableRelayed(t *testing.T) {
	store := &askedStore{}
	for _, relayed := range []bool{false, true} {
		o := KVOptions{Answers: NewAnswers(DefaultAnswerBytes), Relayed: func(context.Context) bool { return relayed }}
		s := &kvServer{store: store, header: newHeaderCodec(testHeader), o: o}
		for _, end := range []string{"", "l"} {
			for _, asked := range []bool{false, true} {
				r := &rangeRequest{RangeRequest: mvcc.RangeRequest{
					Key: []byte("k"), End: []byte(end), Serializable: asked,
				}}
				if _, err := s.rangeKeys(t.Context(), r); err != nil || store.serializable != (asked && !relayed) {
					t.Errorf("relayed %t, end %q, serializable %t became %t: %v",
						relayed, end, asked, store.serializable, err)
				}
			}
		}
	}
}

func TestRangeWriterFree(t *testing.T) {
	w := rangeWriter{answer: &answer{all: NewAnswers(DefaultAnswerBytes)}}
	for range 100 {
		if err := w.add(&mvcc.KV{Key: []byte("k"), Value: make([]byte, 1000)}); err != nil {
			t.Fatal(err)
		}
	}
	w.free()
	if w.len() != 0 {
		t.Fatal("not empty")
	}
	e := w.finish([]byte("h"), nil)
	if got := string(mem.BufferSlice(e).Materialize()); got != "h" {
		t.Fatalf("%q", got)
	}
}

func TestStreamChunks(t *testing.T) {
	store := &listStore{}
	for i := range 100 {
		store.kvs = append(store.kvs, mvcc.KV{Key: fmt.Appendf(nil, "key%03d", i), Value: make([]byte, 20000)})
	}
	s := &kvServer{
		store: store, header: newHeaderCodec(testHeader), o: KVOptions{Answers: NewAnswers(DefaultAnswerBytes)},
	}
	stream := &sink{req: mvcc.RangeRequest{Key: []byte("k"), End: []byte{0}, Limit: 90}}
	if err := s.rangeStream(stream); err != nil {
		t.Fatal(err)
	}
	var kvs []*mvccpb.KeyValue
	for i, m := range stream.sent {
		got := decodeTo(t, m, &pb.RangeStreamResponse{}).GetRangeResponse()
		kvs = append(kvs, got.GetKvs()...)
		if last := i == len(stream.sent)-1; last != (got.GetHeader() != nil) || last != got.GetMore() ||
			last != (got.GetCount() == 100) {
			t.Fatalf("message %d of %d: %v %v %v", i, len(stream.sent), got.GetHeader(), got.GetMore(), got.GetCount())
		}
	}
	if len(stream.sent) < 3 || store.calls != len(stream.sent) {
		t.Fatalf("%d messages, %d reads", len(stream.sent), store.calls)
	}
	checkMessage(t, &pb.RangeResponse{Kvs: kvs}, &pb.RangeResponse{Kvs: kvsToPB(store.kvs[:90])})
}

func TestErrPassesContextAndStatus(t *testing.T) {
	if err := Err(fmt.Errorf("x: %w", context.Canceled)); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	if err := Err(errUnknownAlarm); !errors.Is(err, errUnknownAlarm) {
		t.Fatal(err)
	}
}
