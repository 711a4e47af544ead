package robustness

import (
	"errors"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
	"github.com/headwaterdb/headwater/tests/internal/check"
	"github.com/headwaterdb/headwater/tests/internal/load"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/tests/v3/robustness/model"
	"go.etcd.io/etcd/tests/v3/robustness/report"
	"go.uber.org/zap"
)

// TestJudges records a good history, and corrupts it in one way at a time.
func TestJudges(t *testing.T) {
	good := record(t)
	if _, err := check.Run(zap.NewNop(), good, linearizationTimeout); err != nil {
		t.Fatalf("the history is bad before it is corrupted: %v", err)
	}
	rebuilt := good // etcd's requests come from its WAL; requests that are rebuilt from the log must pass too
	rebuilt.Requests = check.Requests(good.Log)
	if _, err := check.Run(zap.NewNop(), rebuilt, linearizationTimeout); err != nil {
		t.Fatalf("with requests rebuilt from the log: %v", err)
	}
	for _, c := range corruptions {
		t.Run(c.name, func(t *testing.T) {
			bad := clone(good)
			if !c.corrupt(&bad) {
				t.Fatal("the history has no place for this corruption")
			}
			_, err := check.Run(zap.NewNop(), bad, linearizationTimeout)
			if err == nil {
				t.Fatal("no judge objects")
			}
			if !strings.Contains(err.Error(), c.want) {
				t.Errorf("want an objection with %q, got: %v", c.want, err)
			}
		})
	}
}

// record runs traffic under faults until it is complete: then every corruption finds its place.
func record(t *testing.T) check.History {
	tg := newTarget(t)
	cfg := load.Config{Profile: load.KeyValue, Clients: 8, Watchers: 4, Rate: 1000, Seed: seed(t)}
	s := tg.server(t)
	if err := s.Start(); err != nil {
		t.Fatal(err)
	}
	cfg.Endpoints, cfg.Sparse = []string{s.Endpoint()}, tg.sparse
	run, err := load.Start(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	_, err = inject(t.Context(), rand.New(rand.NewPCG(cfg.Seed, 0)), s, run, time.Now())
	h, stopErr := run.Stop(t.Context())
	if err := errors.Join(err, stopErr, s.Stop()); err != nil {
		t.Fatal(err)
	}
	log, requests, err := tg.persisted(zap.NewNop(), s.DataDir(), h)
	if err != nil {
		t.Fatal(err)
	}
	return tg.history(check.History{History: h, Log: log, Requests: requests})
}

// corruption changes a history, or reports false if it finds nothing to change; want is part of the objection.
type corruption struct {
	name    string
	corrupt func(*check.History) bool
	want    string
}

var corruptions = []corruption{
	{"event of another key", inWatch(2, func(w *watched) bool {
		w.event(1).Key = "elsewhere"
		return w.op.Request.Key != "" // the Recorder's is; it watches everything
	}), "event not matching watch filter"},
	{"events swapped", inWatch(2, func(w *watched) bool {
		a, b := w.event(0), w.event(w.events-1)
		*a, *b = *b, *a
		return a.Revision != b.Revision
	}), "broke Ordered"},
	{"event twice", inWatch(2, func(w *watched) bool {
		i, j := w.at(1)
		r := &w.op.Responses[i]
		r.Events = slices.Insert(r.Events, j, r.Events[j])
		return true
	}), "broke Unique"},
	{"revision split", inWatch(2, func(w *watched) bool {
		for i, r := range w.op.Responses {
			for j := 1; j < len(r.Events); j++ {
				if r.Events[j-1].Revision == r.Events[j].Revision {
					first, second := r, r
					first.Events, second.Events = r.Events[:j:j], r.Events[j:]
					w.op.Responses = slices.Replace(w.op.Responses, i, i+1, first, second)
					return true
				}
			}
		}
		return false
	}), "broke Atomic"},
	{"bookmark too early", inWatch(2, func(w *watched) bool {
		i, _ := w.at(w.events - 1)
		early := model.WatchResponse{IsProgressNotify: true, Revision: w.event(w.events - 1).Revision}
		w.op.Responses = slices.Insert(w.op.Responses, i, early)
		return true
	}), "broke Bookmarkable"},
	{"first event lost", inWatch(2, func(w *watched) bool {
		w.drop(0)
		return w.op.Request.Revision != 0
	}), "broke Resumable"},
	{"event lost", inWatch(3, func(w *watched) bool {
		w.drop(1)
		return true
	}), "broke Reliable"},
	{"event lost before a bookmark", inWatch(2, func(w *watched) bool {
		// The watch is cut behind a bookmark, so that only the bookmark tells.
		events := 0
		for i, r := range w.op.Responses {
			if events += len(r.Events); events >= 2 && r.IsProgressNotify {
				w.op.Responses = w.op.Responses[:i+1]
				w.drop(events - 1)
				return w.op.Request.Revision != 0
			}
		}
		return false
	}), "broke Reliable"},
	{"event with another value", inWatch(2, func(w *watched) bool {
		w.event(1).Value = model.ToValueOrHash("other")
		return true
	}), "broke Reliable"},
	{"event with another revision", inWatch(3, func(w *watched) bool {
		w.event(1).Revision++
		return true
	}), "watch: "},
	{"create flag", inWatch(2, func(w *watched) bool {
		w.event(1).IsCreate = !w.event(1).IsCreate
		return true
	}), "incorrect event IsCreate"},
	{"previous value", inWatch(2, func(w *watched) bool {
		for i := range w.events {
			if prev := w.event(i).PrevValue; prev != nil {
				other := *prev
				other.Version++
				w.event(i).PrevValue = &other
				return true
			}
		}
		return false
	}), "incorrect event prevValue"},
	{"read of another value", inOperation(func(op *porcupine.Operation) bool {
		return otherRange(op, func(req *model.RangeRequest) bool { return req.Revision == 0 })
	}), "linearization"},
	{"stale read", func(h *check.History) bool {
		return inOperation(func(op *porcupine.Operation) bool {
			resp := op.Output.(model.MaybeEtcdResponse)
			resp.Revision = answeredBefore(h, op.Call) - 1
			op.Output = resp
			return resp.Range != nil && op.Input.(model.EtcdRequest).Range.Revision == 0 && resp.Revision > 0
		})(h)
	}, "linearization"},
	{"write with another revision", inOperation(func(op *porcupine.Operation) bool {
		req, resp := op.Input.(model.EtcdRequest), op.Output.(model.MaybeEtcdResponse)
		resp.Revision--
		op.Output = resp
		return req.Type == model.Txn && len(req.Txn.Conditions) == 0 &&
			req.Txn.OperationsOnSuccess[0].Type == model.PutOperation
	}), "linearization"},
	{"acknowledged write lost", func(h *check.History) bool {
		// As if the server had answered a write and lost it: the answer is there, its revision went to another.
		h.Reports = append(h.Reports,
			report.ClientReport{ClientID: 1 << 20, KeyValue: []porcupine.Operation{lostWrite(h.Last)}})
		return true
	}, "linearization"},
	{"old read of another value", inOperation(func(op *porcupine.Operation) bool {
		// The model in porcupine keeps no history, and so looks only at the revision of the answer.
		return otherRange(op, func(req *model.RangeRequest) bool { return req.Revision != 0 }) &&
			op.Output.(model.MaybeEtcdResponse).Revision > op.Input.(model.EtcdRequest).Range.Revision
	}), "serializable"},
	{"serializable read of another value", func(h *check.History) bool {
		for i, read := range h.Serializable {
			if len(read.Response.Kvs) > 0 {
				other := clientv3.GetResponse{
					Header: read.Response.Header, Kvs: read.Response.Kvs[1:], Count: read.Response.Count,
				}
				h.Serializable[i].Response = &other
				return true
			}
		}
		return false
	}, "serializable read"},
	{"entry missing in the log", func(h *check.History) bool {
		h.Log = slices.Delete(slices.Clone(h.Log), 5, 6)
		return true
	}, "the log differs"},
	{"transaction half done", func(h *check.History) bool {
		for i, entry := range h.Log {
			if n := len(entry.Events); n > 1 {
				h.Log = slices.Clone(h.Log)
				h.Log[i].Events = entry.Events[:n-1]
				return true
			}
		}
		return false
	}, "the log differs"},
	{"request missing", func(h *check.History) bool {
		h.Requests = slices.Delete(slices.Clone(h.Requests), len(h.Requests)/2, len(h.Requests)/2+1)
		return true
	}, "replays the log to other events"},
	{"no persisted requests", func(h *check.History) bool {
		h.Requests = nil
		return true
	}, check.ErrSkipped.Error()},
}

func lostWrite(rev int64) porcupine.Operation {
	put := model.EtcdOperation{
		Type: model.PutOperation, Put: model.PutOptions{Key: "key-lost", Value: model.ToValueOrHash("lost")},
	}
	return porcupine.Operation{
		ClientId: 1 << 20,
		Input: model.EtcdRequest{
			Type: model.Txn,
			Txn:  &model.TxnRequest{OperationsOnSuccess: []model.EtcdOperation{put}},
		},
		Call: 1,
		Output: model.MaybeEtcdResponse{EtcdResponse: model.EtcdResponse{
			Txn:      &model.TxnResponse{Results: []model.EtcdOperationResult{{}}},
			Revision: rev,
		}},
		Return: time.Hour.Nanoseconds(),
	}
}

// answeredBefore is the newest revision that an answer had shown at a moment.
func answeredBefore(h *check.History, moment int64) (rev int64) {
	for _, r := range h.Reports {
		for _, op := range r.KeyValue {
			if op.Return < moment {
				rev = max(rev, op.Output.(model.MaybeEtcdResponse).Revision)
			}
		}
	}
	return rev
}

// otherRange changes a value of an answered read for which ok holds.
func otherRange(op *porcupine.Operation, ok func(*model.RangeRequest) bool) bool {
	req, resp := op.Input.(model.EtcdRequest), op.Output.(model.MaybeEtcdResponse)
	if req.Type != model.Range || !ok(req.Range) || resp.Range == nil || len(resp.Range.KVs) == 0 {
		return false
	}
	other := model.RangeResponse{KVs: slices.Clone(resp.Range.KVs), Count: resp.Range.Count}
	other.KVs[0].ModRevision++
	resp.Range = &other
	op.Output = resp
	return true
}

// inOperation corrupts the first answered operation that corrupt accepts.
func inOperation(corrupt func(*porcupine.Operation) bool) func(*check.History) bool {
	return func(h *check.History) bool {
		for _, r := range h.Reports {
			for i, op := range r.KeyValue {
				if op.Output.(model.MaybeEtcdResponse).Error == "" && corrupt(&op) {
					r.KeyValue[i] = op
					return true
				}
			}
		}
		return false
	}
}

// watched is a watch that gets corrupted.
type watched struct {
	op     *model.WatchOperation
	events int
}

// inWatch corrupts the first watch with at least so many events that corrupt accepts.
func inWatch(events int, corrupt func(*watched) bool) func(*check.History) bool {
	return func(h *check.History) bool {
		for _, r := range h.Reports {
			for i := range r.Watch {
				trial := cloneWatch(r.Watch[i])
				w := &watched{op: &trial}
				for _, resp := range trial.Responses {
					w.events += len(resp.Events)
				}
				if w.events >= events && corrupt(w) {
					r.Watch[i] = trial
					return true
				}
			}
		}
		return false
	}
}

// at returns where the watch's nth event is: its response and its place in it.
func (w *watched) at(n int) (i, j int) {
	for i, r := range w.op.Responses {
		if n < len(r.Events) {
			return i, n
		}
		n -= len(r.Events)
	}
	panic("robustness: no such event")
}

func (w *watched) event(n int) *model.WatchEvent {
	i, j := w.at(n)
	return &w.op.Responses[i].Events[j]
}

func (w *watched) drop(n int) {
	i, j := w.at(n)
	r := &w.op.Responses[i]
	r.Events = slices.Delete(r.Events, j, j+1)
}

func cloneWatch(w model.WatchOperation) model.WatchOperation {
	w.Responses = slices.Clone(w.Responses)
	for i := range w.Responses {
		w.Responses[i].Events = slices.Clone(w.Responses[i].Events)
	}
	return w
}

// clone copies what the corruptions write to.
func clone(h check.History) check.History {
	h.Reports = slices.Clone(h.Reports)
	for i := range h.Reports {
		r := &h.Reports[i]
		r.KeyValue = slices.Clone(r.KeyValue)
		r.Watch = slices.Clone(r.Watch)
	}
	h.Serializable = slices.Clone(h.Serializable)
	return h
}
