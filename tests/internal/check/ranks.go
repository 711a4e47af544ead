package check

import (
	"slices"

	"github.com/anishathalye/porcupine"
	"github.com/headwaterdb/headwater/libs/revlog"
	"github.com/headwaterdb/headwater/tests/internal/load"
	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/tests/v3/robustness/model"
	"go.etcd.io/etcd/tests/v3/robustness/report"
)

// Ranks returns the history with each revision replaced by its rank in the log (2 for the first write), so that a model
// which counts revisions can judge a server that does not number densely (docs/design.md I2). Ranks does not change h.
// Log and Events must be complete.
//
// The revision of a read becomes the rank of the last write at or below it. The start of a watch becomes the rank of
// the first write at or above it. A compare with a revision that no write has becomes a compare that never holds.
func Ranks(h History) History {
	m := ranks{}
	for _, entry := range h.Log {
		m.revs = append(m.revs, entry.Rev)
	}
	h.Last = m.floor(h.Last)
	h.Log = m.log(h.Log)
	h.Requests = Requests(h.Log)
	h.Reports = slices.Clone(h.Reports)
	for i := range h.Reports {
		h.Reports[i] = m.report(h.Reports[i])
	}
	h.Serializable = slices.Clone(h.Serializable)
	for i, read := range h.Serializable {
		resp := clientv3.GetResponse{
			Header: &etcdserverpb.ResponseHeader{Revision: m.floor(read.Response.Header.GetRevision())},
			Count:  read.Response.Count,
		}
		for _, kv := range read.Response.Kvs {
			resp.Kvs = append(resp.Kvs, m.kv(kv))
		}
		h.Serializable[i] = load.SerializableRead{Start: read.Start, End: read.End, Response: &resp}
	}
	h.Events = slices.Clone(h.Events)
	for i, e := range h.Events {
		h.Events[i] = &clientv3.Event{Type: e.Type, Kv: m.kv(e.Kv), PrevKv: m.kv(e.PrevKv)}
	}
	return h
}

// never is a rank that no write has.
const never = 1 << 40

type ranks struct{ revs []int64 }

// floor is the rank of the last write at or below rev: the state that rev shows. 0 (now) and negative ones stay.
func (m ranks) floor(rev int64) int64 {
	if rev <= 0 {
		return rev
	}
	i, ok := slices.BinarySearch(m.revs, rev)
	if ok {
		i++
	}
	return int64(FirstRevision - 1 + i)
}

// ceil is the rank of the first write at or above rev.
func (m ranks) ceil(rev int64) int64 {
	if rev <= 0 {
		return rev
	}
	i, _ := slices.BinarySearch(m.revs, rev)
	return int64(FirstRevision + i)
}

func (m ranks) exact(rev int64) int64 {
	if rev <= 0 {
		return rev
	}
	i, ok := slices.BinarySearch(m.revs, rev)
	if !ok {
		return never
	}
	return int64(FirstRevision + i)
}

func (m ranks) log(log []revlog.Entry) []revlog.Entry {
	mapped := make([]revlog.Entry, len(log))
	for i, entry := range log {
		mapped[i] = revlog.Entry{Rev: m.exact(entry.Rev), Events: slices.Clone(entry.Events)}
		for j := range mapped[i].Events {
			e := &mapped[i].Events[j]
			for _, kv := range []*revlog.KV{&e.KV, &e.Prev} {
				kv.Create, kv.Mod = m.exact(kv.Create), m.exact(kv.Mod)
			}
		}
	}
	return mapped
}

func (m ranks) kv(kv *mvccpb.KeyValue) *mvccpb.KeyValue {
	if kv == nil {
		return nil
	}
	return &mvccpb.KeyValue{
		Key: kv.Key, Value: kv.Value, Version: kv.Version, Lease: kv.Lease,
		CreateRevision: m.exact(kv.CreateRevision), ModRevision: m.exact(kv.ModRevision),
	}
}

func (m ranks) report(r report.ClientReport) report.ClientReport {
	ops := make([]porcupine.Operation, len(r.KeyValue))
	for i, op := range r.KeyValue {
		op.Input = m.request(op.Input.(model.EtcdRequest))
		op.Output = m.response(op.Output.(model.MaybeEtcdResponse))
		op.Metadata = op.Output
		ops[i] = op
	}
	watches := make([]model.WatchOperation, len(r.Watch))
	for i, w := range r.Watch {
		watches[i] = m.watch(w)
	}
	return report.ClientReport{ClientID: r.ClientID, KeyValue: ops, Watch: watches}
}

func (m ranks) request(req model.EtcdRequest) model.EtcdRequest {
	switch req.Type {
	case model.Range:
		rng := *req.Range
		rng.Revision = m.floor(rng.Revision)
		req.Range = &rng
	case model.Compact:
		req.Compact = &model.CompactRequest{Revision: m.exact(req.Compact.Revision)}
	case model.Txn:
		txn := *req.Txn
		txn.Conditions = slices.Clone(txn.Conditions)
		for i := range txn.Conditions {
			txn.Conditions[i].ExpectedRevision = m.exact(txn.Conditions[i].ExpectedRevision)
		}
		req.Txn = &txn
	}
	return req
}

func (m ranks) response(resp model.MaybeEtcdResponse) model.MaybeEtcdResponse {
	resp.Revision = m.floor(resp.Revision)
	if resp.Range != nil {
		rng := m.rangeResponse(*resp.Range)
		resp.Range = &rng
	}
	if resp.Txn != nil {
		txn := model.TxnResponse{Failure: resp.Txn.Failure, Results: slices.Clone(resp.Txn.Results)}
		for i, r := range txn.Results {
			txn.Results[i].RangeResponse = m.rangeResponse(r.RangeResponse)
		}
		resp.Txn = &txn
	}
	return resp
}

func (m ranks) rangeResponse(r model.RangeResponse) model.RangeResponse {
	r.KVs = slices.Clone(r.KVs)
	for i := range r.KVs {
		r.KVs[i].ModRevision = m.exact(r.KVs[i].ModRevision)
	}
	return r
}

func (m ranks) watch(w model.WatchOperation) model.WatchOperation {
	w.Request.Revision = m.ceil(w.Request.Revision)
	w.Responses = slices.Clone(w.Responses)
	for i := range w.Responses {
		r := &w.Responses[i]
		r.Revision = m.floor(r.Revision)
		r.Events = slices.Clone(r.Events)
		for j := range r.Events {
			e := &r.Events[j]
			e.Revision = m.exact(e.Revision)
			if e.PrevValue != nil {
				prev := *e.PrevValue
				prev.ModRevision = m.exact(prev.ModRevision)
				e.PrevValue = &prev
			}
		}
	}
	return w
}
