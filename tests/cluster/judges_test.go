package cluster

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
	"github.com/headwaterdb/headwater/libs/revlog"
	"github.com/headwaterdb/headwater/tests/internal/check"
	"github.com/headwaterdb/headwater/tests/internal/load"
	"go.etcd.io/etcd/tests/v3/robustness/model"
	"go.uber.org/zap"
)

// TestJudges records a good history through all pods and corrupts it as a broken part would have. The judges have to
// object each time. Package robustness does the same for the faults of a single server.
func TestJudges(t *testing.T) {
	s := newStack(t)
	if err := s.startAll(t.Context()); err != nil {
		t.Fatal(err)
	}
	h, _, err := s.traffic(t.Context(), load.Config{Profile: load.KeyValue, Clients: 6, Watchers: 4, Rate: 1500}, nil,
		0)
	if err != nil {
		t.Fatal(err)
	}
	good, err := s.history(t.Context(), h)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := check.Run(zap.NewNop(), good, linearizationTimeout); err != nil {
		keepHistory(t, s.dir, good, check.Result{})
		t.Fatalf("the history is bad before it is corrupted: %v", err)
	}
	for _, c := range corruptions {
		t.Run(c.name, func(t *testing.T) {
			bad := clone(good)
			if !c.corrupt(&bad) {
				t.Fatal("the history has no place for this corruption")
			}
			_, err := check.Run(zap.NewNop(), bad, linearizationTimeout)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("want an objection with %q, got: %v", c.want, err)
			}
		})
	}
}

// corruption changes a history, or reports false if it finds nothing to change; want is part of the objection.
type corruption struct {
	name    string
	corrupt func(*check.History) bool
	want    string
}

var corruptions = []corruption{
	{"a hub applies the frame after a lost one", inWatch(func(w *model.WatchOperation) bool {
		at := withEvents(w)
		if len(at) < 3 {
			return false
		}
		w.Responses = slices.Delete(w.Responses, at[1], at[1]+1)
		return true
	}), "broke Reliable"},
	{"a hub applies a frame twice", inWatch(func(w *model.WatchOperation) bool {
		at := withEvents(w)
		if len(at) < 2 {
			return false
		}
		w.Responses = slices.Insert(w.Responses, at[1], w.Responses[at[0]])
		return true
	}), "broke"},
	{"a hub applies frames in the order of their arrival", inWatch(func(w *model.WatchOperation) bool {
		at := withEvents(w)
		if len(at) < 3 {
			return false
		}
		w.Responses[at[0]], w.Responses[at[1]] = w.Responses[at[1]], w.Responses[at[0]]
		return true
	}), "broke Ordered"},
	{"a hub loses one event of a revision", inWatch(func(w *model.WatchOperation) bool {
		for _, i := range withEvents(w) {
			if e := w.Responses[i].Events; len(e) > 2 && e[0].Revision == e[1].Revision {
				w.Responses[i].Events = slices.Delete(e, 1, 2)
				return true
			}
		}
		return false
	}), "broke Reliable"},
	{"a revision comes in two frames", inWatch(func(w *model.WatchOperation) bool {
		for _, i := range withEvents(w) {
			r := w.Responses[i]
			if e := r.Events; len(e) > 1 && e[0].Revision == e[1].Revision {
				first, second := r, r
				first.Events, second.Events = e[:1:1], e[1:]
				w.Responses = slices.Replace(w.Responses, i, i+1, first, second)
				return true
			}
		}
		return false
	}), "broke Atomic"},
	{"a resumed watch begins too late on the other hub", inWatch(func(w *model.WatchOperation) bool {
		at := withEvents(w)
		if w.Request.Revision == 0 || len(at) < 2 {
			return false
		}
		w.Responses = slices.Delete(w.Responses, at[0], at[0]+1)
		return true
	}), "broke Resumable"},
	{"the hub after a switch lies behind and says so to the client", inWatch(func(w *model.WatchOperation) bool {
		at := withEvents(w)
		if len(at) < 2 {
			return false
		}
		behind := model.WatchResponse{IsProgressNotify: true, Revision: w.Responses[at[0]].Events[0].Revision - 1}
		w.Responses = slices.Insert(w.Responses, at[1], behind)
		return true
	}), "broke Bookmarkable"},
	{"a hub confirms a revision that it has heard of but not applied", inWatch(func(w *model.WatchOperation) bool {
		at := withEvents(w)
		if len(at) < 2 {
			return false
		}
		ahead := model.WatchResponse{IsProgressNotify: true, Revision: w.Responses[at[1]].Events[0].Revision}
		w.Responses = slices.Insert(w.Responses, at[1], ahead)
		return true
	}), "broke Bookmarkable"},
	{"two kv pods give one revision", func(h *check.History) bool {
		return inOperation(h, func(op *porcupine.Operation) bool {
			req, resp := op.Input.(model.EtcdRequest), op.Output.(model.MaybeEtcdResponse)
			if req.Type != model.Txn || len(req.Txn.Conditions) > 0 ||
				req.Txn.OperationsOnSuccess[0].Type != model.PutOperation {
				return false
			}
			resp.Revision--
			op.Output = resp
			return true
		})
	}, "linearization"},
	{"a kv pod reads an old state", func(h *check.History) bool {
		return inOperation(h, func(op *porcupine.Operation) bool {
			req, resp := op.Input.(model.EtcdRequest), op.Output.(model.MaybeEtcdResponse)
			if req.Type != model.Range || req.Range.Revision != 0 {
				return false
			}
			resp.Revision = shownBefore(h, op.Call) - 1
			op.Output = resp
			return resp.Revision > 0
		})
	}, "linearization"},
	{"a write that a pod answered before it died is gone", func(h *check.History) bool {
		put := model.EtcdOperation{
			Type: model.PutOperation, Put: model.PutOptions{Key: "key-gone", Value: model.ToValueOrHash("gone")},
		}
		h.Reports = slices.Clone(h.Reports)
		r := &h.Reports[0]
		r.KeyValue = append(slices.Clone(r.KeyValue), porcupine.Operation{
			ClientId: 1 << 20,
			Input: model.EtcdRequest{
				Type: model.Txn,
				Txn:  &model.TxnRequest{OperationsOnSuccess: []model.EtcdOperation{put}},
			},
			Call: 1,
			Output: model.MaybeEtcdResponse{EtcdResponse: model.EtcdResponse{
				Txn: &model.TxnResponse{Results: []model.EtcdOperationResult{{}}}, Revision: h.Last,
			}},
			Return: time.Hour.Nanoseconds(),
		})
		return true
	}, "linearization"},
	{"a transaction of unknown outcome ran twice", func(h *check.History) bool {
		last := h.Log[len(h.Log)-1]
		last.Rev++
		h.Log = append(slices.Clone(h.Log), last)
		return true
	}, "the log differs"},
}

// withEvents are the places of a watch's responses that hold events.
func withEvents(w *model.WatchOperation) (at []int) {
	for i, r := range w.Responses {
		if len(r.Events) > 0 {
			at = append(at, i)
		}
	}
	return at
}

// inWatch corrupts the first watch that corrupt accepts.
func inWatch(corrupt func(*model.WatchOperation) bool) func(*check.History) bool {
	return func(h *check.History) bool {
		for _, r := range h.Reports {
			for i := range r.Watch {
				w := r.Watch[i]
				w.Responses = slices.Clone(w.Responses)
				for j := range w.Responses {
					w.Responses[j].Events = slices.Clone(w.Responses[j].Events)
				}
				if corrupt(&w) {
					r.Watch[i] = w
					return true
				}
			}
		}
		return false
	}
}

// inOperation corrupts the first answered operation that corrupt accepts.
func inOperation(h *check.History, corrupt func(*porcupine.Operation) bool) bool {
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

// shownBefore is the newest revision that any answer had shown by the given moment.
func shownBefore(h *check.History, moment int64) (rev int64) {
	for _, r := range h.Reports {
		for _, op := range r.KeyValue {
			if op.Return < moment {
				rev = max(rev, op.Output.(model.MaybeEtcdResponse).Revision)
			}
		}
	}
	return rev
}

// clone copies what the corruptions write to.
func clone(h check.History) check.History {
	h.Reports = slices.Clone(h.Reports)
	for i := range h.Reports {
		r := &h.Reports[i]
		r.KeyValue, r.Watch = slices.Clone(r.KeyValue), slices.Clone(r.Watch)
	}
	return h
}

// TestElectionJudge corrupts terms of a good election.
func TestElectionJudge(t *testing.T) {
	put := func(key string, rev int64) revlog.Event {
		return revlog.Event{KV: revlog.KV{Key: []byte(electionPrefix + key), Create: rev, Mod: rev, Version: 1}}
	}
	remove := func(key string, rev int64) revlog.Event {
		return revlog.Event{Delete: true, KV: revlog.KV{Key: []byte(electionPrefix + key), Mod: rev}}
	}
	entry := func(rev int64, events ...revlog.Event) revlog.Entry { return revlog.Entry{Rev: rev, Events: events} }
	log := func() []revlog.Entry {
		return []revlog.Entry{
			entry(10, put("0/a", 10)), entry(20, put("0/b", 20)), entry(25, put("1/a", 25)),
			entry(30, remove("0/a", 30)),
			entry(40, put("0/a", 40)), entry(50, remove("0/b", 50)), entry(60, remove("0/a", 60)),
		}
	}
	start := time.Now()
	led := func(key string, create, from, until int64) term {
		at := func(rev int64) time.Time { return start.Add(time.Duration(rev) * time.Second) }
		return term{
			Candidate: key, Key: electionPrefix + key, Create: create, From: from, Until: until, Won: at(from),
			Gone: at(until),
		}
	}
	terms := func() []term {
		return []term{led("0/a", 40, 51, 60), led("0/a", 10, 15, 30), led("0/b", 20, 35, 50)}
	}
	if err := checkElections(log(), terms()); err != nil {
		t.Fatal(err)
	}
	for name, corrupt := range map[string]func([]revlog.Entry, []term) ([]revlog.Entry, []term){
		"a shared create revision": func(l []revlog.Entry, tt []term) ([]revlog.Entry, []term) {
			l[0].Events = append(l[0].Events, put("0/b", 10))
			return l, tt
		},
		"a leader before its time": func(l []revlog.Entry, tt []term) ([]revlog.Entry, []term) {
			tt[2].From, tt[2].Won = 25, start.Add(31*time.Second)
			return l, tt
		},
		"a leader at the same time by the clock": func(l []revlog.Entry, tt []term) ([]revlog.Entry, []term) {
			tt[1].Gone = tt[2].Won.Add(time.Second)
			return l, tt
		},
		"a leader after its key's end": func(l []revlog.Entry, tt []term) ([]revlog.Entry, []term) {
			tt[1].Until = 33
			return l, tt
		},
		"a leader with another's revision": func(l []revlog.Entry, tt []term) ([]revlog.Entry, []term) {
			tt[2].Create = 21
			return l, tt
		},
	} {
		t.Run(name, func(t *testing.T) {
			if err := checkElections(corrupt(log(), terms())); err == nil {
				t.Error("no judge objects")
			}
		})
	}
}

// String is for the test's log.
func (m *mishaps) String() string {
	return fmt.Sprintf("%d passed, %d dropped, %d doubled, %d reordered", m.passed.Load(), m.dropped.Load(),
		m.doubled.Load(), m.reordered.Load())
}
