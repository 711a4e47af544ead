package check

import (
	"math"
	"strings"
	"testing"

	"github.com/anishathalye/porcupine"
	"github.com/google/go-cmp/cmp"
	"github.com/headwaterdb/headwater/libs/revlog"
	"go.etcd.io/etcd/server/v3/storage/mvcc"
	"go.etcd.io/etcd/tests/v3/robustness/model"
	"go.etcd.io/etcd/tests/v3/robustness/report"
)

// The entries from which the tests make logs. A value is the revision at which it was put.

func put(key string, rev int64, prev *revlog.KV, lease int64) revlog.Event {
	kv := revlog.KV{Key: []byte(key), Value: []byte{byte('0' + rev)}, Create: rev, Mod: rev, Version: 1, Lease: lease}
	if prev == nil {
		return revlog.Event{KV: kv}
	}
	kv.Create, kv.Version = prev.Create, prev.Version+1
	return revlog.Event{KV: kv, Prev: *prev, HasPrev: true}
}

func del(rev int64, prev revlog.KV) revlog.Event {
	return revlog.Event{Delete: true, KV: revlog.KV{Key: prev.Key, Mod: rev}, Prev: prev, HasPrev: true}
}

func entry(rev int64, events ...revlog.Event) revlog.Entry {
	return revlog.Entry{Rev: rev, Events: events}
}

// sample is: 2 puts a; 3 puts a and, with a lease, b and c; 4 deletes a; 5 revokes the lease; 6 puts a anew.
func sample() []revlog.Entry {
	a2 := put("a", 2, nil, 0)
	a3 := put("a", 3, &a2.KV, 0)
	b3, c3 := put("b", 3, nil, 7), put("c", 3, nil, 7)
	return []revlog.Entry{
		entry(2, a2), entry(3, a3, b3, c3), entry(4, del(4, a3.KV)), entry(5, del(5, b3.KV), del(5, c3.KV)),
		entry(6, put("a", 6, nil, 0)),
	}
}

func TestLog(t *testing.T) {
	if err := Log(sample(), true); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name   string
		change func(log []revlog.Entry) []revlog.Entry
		want   string
	}{
		{"gap", func(l []revlog.Entry) []revlog.Entry { return append(l[:3:3], l[4:]...) }, "revision 6 follows 4"},
		{"not from the start", func(l []revlog.Entry) []revlog.Entry { return l[1:] }, "revision 3 follows 1"},
		{"version", func(l []revlog.Entry) []revlog.Entry { l[1].Events[0].KV.Version = 1; return l }, "version 1, want 2 and 2"},
		{"create", func(l []revlog.Entry) []revlog.Entry { l[1].Events[0].KV.Create = 3; return l }, "create revision 3"},
		{"previous record", func(l []revlog.Entry) []revlog.Entry { l[2].Events[0].Prev.Value = []byte("2"); return l }, "wrong previous"},
		{"no previous record", func(l []revlog.Entry) []revlog.Entry { l[2].Events[0].HasPrev = false; return l }, "has a previous"},
		{"half", func(l []revlog.Entry) []revlog.Entry { l[1].Events = l[1].Events[:1]; return l }, `key "b"`},
		{"twice", func(l []revlog.Entry) []revlog.Entry { l[0].Events = append(l[0].Events, l[0].Events[0]); return l }, "twice"},
		{"empty", func(l []revlog.Entry) []revlog.Entry { l[0].Events = nil; return l }, "no events"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			err := Log(tc.change(sample()), true)
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("want an error with %q, got %v", tc.want, err)
			}
		})
	}
}

func TestRequestsReplay(t *testing.T) {
	log := sample()
	requests := Requests(log)
	var kinds []model.RequestType
	for _, r := range requests {
		kinds = append(kinds, r.Type)
	}
	want := []model.RequestType{model.Txn, model.LeaseGrant, model.Txn, model.Txn, model.LeaseRevoke, model.Txn}
	if diff := cmp.Diff(want, kinds); diff != "" {
		t.Errorf("kinds of requests (-want +got):\n%s", diff)
	}
	if err := replayed(model.NewReplay(requests), log); err != nil {
		t.Error(err)
	}
	if err := replayed(model.NewReplay(requests[1:]), log); err == nil {
		t.Error("the check does not notice a missing request")
	}
}

func TestComplete(t *testing.T) {
	log := sample()
	if err := sameLog(log, log); err != nil {
		t.Error(err)
	}
	if err := sameLog(log, log[:4]); err == nil {
		t.Error("the check does not notice a shorter log")
	}
	other := sample()
	other[1].Events[2].KV.Lease = 0
	if err := sameLog(log, other); err == nil {
		t.Error("the check does not notice another lease")
	}
}

const lost = "lost"

func operation(call, ret int64, req model.EtcdRequest, resp model.MaybeEtcdResponse) porcupine.Operation {
	return porcupine.Operation{Call: call, Return: ret, Input: req, Output: resp}
}

func txn(ops ...model.EtcdOperation) model.EtcdRequest {
	return model.EtcdRequest{Type: model.Txn, Txn: &model.TxnRequest{OperationsOnSuccess: ops}}
}

func putOp(key, value string) model.EtcdOperation {
	return model.EtcdOperation{
		Type: model.PutOperation, Put: model.PutOptions{Key: key, Value: model.ToValueOrHash(value)},
	}
}

func deleteOp(key string) model.EtcdOperation {
	return model.EtcdOperation{Type: model.DeleteOperation, Delete: model.DeleteOptions{Key: key}}
}

func deleteIf(key string, mod int64) model.EtcdRequest {
	req := txn(deleteOp(key))
	req.Txn.Conditions = []model.EtcdCondition{{Key: key, ExpectedRevision: mod}}
	return req
}

func revoke(lease int64) model.EtcdRequest {
	return model.EtcdRequest{Type: model.LeaseRevoke, LeaseRevoke: &model.LeaseRevokeRequest{LeaseID: lease}}
}

func compactTo(rev int64) model.EtcdRequest {
	return model.EtcdRequest{Type: model.Compact, Compact: &model.CompactRequest{Revision: rev}}
}

func answered(rev int64) model.MaybeEtcdResponse {
	return model.MaybeEtcdResponse{EtcdResponse: model.EtcdResponse{Revision: rev}}
}

func deleted(rev int64) model.MaybeEtcdResponse {
	resp := answered(rev)
	resp.Txn = &model.TxnResponse{Results: []model.EtcdOperationResult{{Deleted: 1}}}
	return resp
}

func compacted() model.MaybeEtcdResponse {
	return model.MaybeEtcdResponse{EtcdResponse: model.EtcdResponse{ClientError: mvcc.ErrCompacted.Error()}}
}

func TestResolve(t *testing.T) {
	failed := model.MaybeEtcdResponse{Error: lost}
	rangeReq := model.EtcdRequest{Type: model.Range, Range: &model.RangeRequest{}}
	persisted := func(rev int64) model.MaybeEtcdResponse {
		return model.MaybeEtcdResponse{Persisted: true, PersistedRevision: rev}
	}
	// want is what Resolve turns the first operation into; nil: Resolve removes it.
	for _, tc := range []struct {
		name string
		ops  []porcupine.Operation
		want *porcupine.Operation
		open int
	}{
		{
			name: "put that the log has, seen by nobody",
			ops:  []porcupine.Operation{operation(10, 20, txn(putOp("a", "3")), failed)},
			want: &porcupine.Operation{Call: 10, Return: math.MaxInt64, Output: persisted(3)},
		},
		{
			name: "put that the log has, bounded by the first answer that shows it",
			ops: []porcupine.Operation{
				operation(10, 20, txn(putOp("a", "3")), failed),
				operation(1, 15, rangeReq, answered(2)), operation(1, 40, rangeReq, answered(3)),
				operation(1, 30, rangeReq, answered(5)),
			},
			want: &porcupine.Operation{Call: 10, Return: 30, Output: persisted(3)},
		},
		{
			name: "put that the log has, shown before it was called: left to porcupine to reject",
			ops:  []porcupine.Operation{operation(10, 20, txn(putOp("a", "3")), failed), operation(1, 5, rangeReq, answered(3))},
			want: &porcupine.Operation{Call: 10, Return: math.MaxInt64, Output: persisted(3)},
		},
		{
			name: "put that the log does not have",
			ops:  []porcupine.Operation{operation(10, 20, txn(putOp("a", "9")), failed)},
		},
		{
			name: "answered put that the log does not have stays",
			ops:  []porcupine.Operation{operation(10, 20, txn(putOp("a", "9")), answered(9))},
			want: &porcupine.Operation{Call: 10, Return: 20, Output: answered(9)},
		},
		{
			name: "delete that the log has",
			ops:  []porcupine.Operation{operation(10, 20, txn(deleteOp("a")), failed)},
			want: &porcupine.Operation{Call: 10, Return: math.MaxInt64, Output: persisted(4)},
		},
		{
			name: "delete that is another's",
			ops:  []porcupine.Operation{operation(10, 20, txn(deleteOp("a")), failed), operation(1, 30, txn(deleteOp("a")), deleted(4))},
		},
		{
			name: "one of two lost deletes",
			ops:  []porcupine.Operation{operation(10, 20, txn(deleteOp("a")), failed), operation(1, 30, txn(deleteOp("a")), failed)},
			want: &porcupine.Operation{Call: 10, Return: 20, Output: failed}, open: 2,
		},
		{
			name: "delete of another version",
			ops:  []porcupine.Operation{operation(10, 20, deleteIf("a", 2), failed)},
		},
		{
			name: "delete of that version",
			ops:  []porcupine.Operation{operation(10, 20, deleteIf("a", 3), failed)},
			want: &porcupine.Operation{Call: 10, Return: math.MaxInt64, Output: persisted(4)},
		},
		{
			name: "revocation that the log has",
			ops:  []porcupine.Operation{operation(10, 20, revoke(7), failed)},
			want: &porcupine.Operation{Call: 10, Return: math.MaxInt64, Output: persisted(5)},
		},
		{
			name: "revocation without keys",
			ops:  []porcupine.Operation{operation(10, 20, revoke(8), failed)},
		},
		{
			name: "grant",
			ops:  []porcupine.Operation{operation(10, 20, model.EtcdRequest{Type: model.LeaseGrant, LeaseGrant: &model.LeaseGrantRequest{}}, failed)},
		},
		{
			name: "compaction that was done the second time",
			ops:  []porcupine.Operation{operation(10, 20, compactTo(3), failed), operation(30, 40, compactTo(3), answered(-1))},
		},
		{
			name: "compaction that had been done the first time",
			ops:  []porcupine.Operation{operation(10, 20, compactTo(3), failed), operation(30, 40, compactTo(3), compacted())},
			want: &porcupine.Operation{Call: 10, Return: 40, Output: model.MaybeEtcdResponse{Persisted: true}},
		},
		{
			name: "compaction that was never answered",
			ops:  []porcupine.Operation{operation(10, 20, compactTo(3), failed)},
			want: &porcupine.Operation{Call: 10, Return: 20, Output: failed}, open: 1,
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			reports, open := Resolve([]report.ClientReport{{KeyValue: tc.ops[:1]}, {KeyValue: tc.ops[1:]}}, sample())
			if open != tc.open {
				t.Errorf("%d operations are open, want %d", open, tc.open)
			}
			got := reports[0].KeyValue
			if tc.want == nil {
				if len(got) != 0 {
					t.Errorf("it is not taken out: %+v", got)
				}
				return
			}
			tc.want.Input = tc.ops[0].Input
			if diff := cmp.Diff([]porcupine.Operation{*tc.want}, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestRanks(t *testing.T) {
	m := ranks{revs: []int64{100, 105, 200}}
	for _, tc := range []struct{ rev, floor, ceil, exact int64 }{
		{-1, -1, -1, -1},
		{0, 0, 0, 0},
		{32, 1, 2, never},
		{100, 2, 2, 2},
		{101, 2, 3, never},
		{105, 3, 3, 3},
		{199, 3, 4, never},
		{200, 4, 4, 4},
		{201, 4, 5, never},
	} {
		if f, c, e := m.floor(tc.rev), m.ceil(tc.rev), m.exact(tc.rev); f != tc.floor || c != tc.ceil || e != tc.exact {
			t.Errorf("revision %d: floor %d, ceil %d, exact %d; want %+v", tc.rev, f, c, e, tc)
		}
	}
}
