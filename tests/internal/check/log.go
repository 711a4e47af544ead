package check

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"slices"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/headwaterdb/headwater/libs/revlog"
	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/tests/v3/robustness/model"
)

// FirstRevision is the revision of the first write of an empty store that numbers densely.
const FirstRevision = 2

// FromEvents gathers watch events, which are in the order of their revisions, into log entries.
func FromEvents(events []*clientv3.Event) []revlog.Entry {
	var entries []revlog.Entry
	for _, e := range events {
		if n := len(entries); n == 0 || entries[n-1].Rev != e.Kv.ModRevision {
			entries = append(entries, revlog.Entry{Rev: e.Kv.ModRevision})
		}
		event := revlog.Event{Delete: e.Type == mvccpb.Event_DELETE, KV: toKV(e.Kv)}
		if e.PrevKv != nil {
			event.Prev, event.HasPrev = toKV(e.PrevKv), true
		}
		last := &entries[len(entries)-1]
		last.Events = append(last.Events, event)
	}
	return entries
}

func toKV(kv *mvccpb.KeyValue) revlog.KV {
	return revlog.KV{
		Key: kv.Key, Value: kv.Value, Create: kv.CreateRevision, Mod: kv.ModRevision, Version: kv.Version,
		Lease: kv.Lease,
	}
}

// Complete prepends to a compacted log what a watcher saw before. Where both have an entry, the entries must be equal.
func Complete(events []*clientv3.Event, log []revlog.Entry) ([]revlog.Entry, error) {
	seen := FromEvents(events)
	if len(log) == 0 {
		return nil, errors.New("check: the log is empty")
	}
	i, _ := slices.BinarySearchFunc(seen, log[0].Rev, func(e revlog.Entry, rev int64) int {
		return cmp.Compare(e.Rev, rev)
	})
	return append(seen[:i:i], log...), sameLog(seen[i:], log)
}

// sameLog compares what a watcher saw with the log.
func sameLog(want, got []revlog.Entry) error {
	for i := range max(len(want), len(got)) {
		var w, g revlog.Entry
		if i < len(want) {
			w = want[i]
		}
		if i < len(got) {
			g = got[i]
		}
		if w.Rev != g.Rev || !slices.EqualFunc(w.Events, g.Events, equalEvent) {
			return fmt.Errorf("check: the log differs from what a watcher saw:\nwatcher: %s\nlog:     %s", show(w),
				show(g))
		}
	}
	return nil
}

// equalEvent and equalKV compare as cmp.Equal would. cmp.Equal is slow with large values.
func equalEvent(a, b revlog.Event) bool {
	return a.Delete == b.Delete && a.HasPrev == b.HasPrev && equalKV(a.KV, b.KV) && equalKV(a.Prev, b.Prev)
}

func equalKV(a, b revlog.KV) bool {
	return a.Create == b.Create && a.Mod == b.Mod && a.Version == b.Version && a.Lease == b.Lease &&
		bytes.Equal(a.Key, b.Key) && bytes.Equal(a.Value, b.Value)
}

// show describes an entry for people.
func show(entry revlog.Entry) string {
	s := fmt.Sprintf("revision %d:", entry.Rev)
	for _, e := range entry.Events {
		verb := "put"
		if e.Delete {
			verb = "delete"
		}
		s += fmt.Sprintf(" %s %s over %s;", verb, showKV(e.KV), showKV(e.Prev))
	}
	return s
}

func showKV(kv revlog.KV) string {
	return fmt.Sprintf("{%q=%.20q (%d bytes) create=%d mod=%d version=%d lease=%x}",
		kv.Key, kv.Value, len(kv.Value), kv.Create, kv.Mod, kv.Version, kv.Lease)
}

// Log checks a whole log, from the first write on: revisions rise (by one, if dense), a key changes once per revision,
// and every event's create revision, version and previous record follow from the events before it.
func Log(entries []revlog.Entry, dense bool) error {
	state := map[string]revlog.KV{}
	last := int64(FirstRevision - 1)
	for _, entry := range entries {
		if entry.Rev <= last || dense && entry.Rev != last+1 {
			return fmt.Errorf("check: log: revision %d follows %d", entry.Rev, last)
		}
		if len(entry.Events) == 0 {
			return fmt.Errorf("check: log: no events at revision %d", entry.Rev)
		}
		last = entry.Rev
		seen := map[string]bool{}
		for _, e := range entry.Events {
			key := string(e.KV.Key)
			if seen[key] {
				return fmt.Errorf("check: log: key %q twice at revision %d", key, entry.Rev)
			}
			seen[key] = true
			if err := apply(state, entry.Rev, e); err != nil {
				return fmt.Errorf("check: log: revision %d, key %q: %w", entry.Rev, key, err)
			}
		}
	}
	return nil
}

func apply(state map[string]revlog.KV, rev int64, e revlog.Event) error {
	key := string(e.KV.Key)
	prev, ok := state[key]
	if ok != e.HasPrev {
		return fmt.Errorf("has a previous record: %v, want %v", e.HasPrev, ok)
	}
	if !equalKV(prev, e.Prev) {
		return fmt.Errorf("wrong previous record %s, want %s", showKV(e.Prev), showKV(prev))
	}
	if e.KV.Mod != rev {
		return fmt.Errorf("mod revision %d", e.KV.Mod)
	}
	if e.Delete {
		if !ok {
			return errors.New("deletes what does not exist")
		}
		delete(state, key)
		return nil
	}
	create, version := rev, int64(1)
	if ok {
		create, version = prev.Create, prev.Version+1
	}
	if e.KV.Create != create || e.KV.Version != version {
		return fmt.Errorf("create revision %d and version %d, want %d and %d", e.KV.Create, e.KV.Version, create,
			version)
	}
	state[key] = e.KV
	return nil
}

// Requests rebuilds from a whole log a list of requests that etcd's model replays to the same revisions and events.
//
// An entry becomes a transaction of its puts and deletes, unless it does nothing but delete keys of one lease, which is
// that lease's revocation (package load's traffic never deletes leased keys so otherwise). A lease is granted right
// before its first use. The replay does not depend on when the server really granted it. Compactions are not in the
// log; replay does not need them.
func Requests(entries []revlog.Entry) []model.EtcdRequest {
	granted := map[int64]bool{}
	requests := make([]model.EtcdRequest, 0, len(entries))
	for _, entry := range entries {
		if lease := revoked(entry); lease != 0 {
			requests = append(requests, model.EtcdRequest{
				Type:        model.LeaseRevoke,
				LeaseRevoke: &model.LeaseRevokeRequest{LeaseID: lease},
			})
			continue
		}
		txn := &model.TxnRequest{}
		for _, e := range entry.Events {
			op := model.EtcdOperation{Type: model.DeleteOperation, Delete: model.DeleteOptions{Key: string(e.KV.Key)}}
			if !e.Delete {
				op = model.EtcdOperation{Type: model.PutOperation, Put: model.PutOptions{
					Key:     string(e.KV.Key),
					Value:   model.ToValueOrHash(string(e.KV.Value)),
					LeaseID: e.KV.Lease,
				}}
			}
			if lease := e.KV.Lease; lease != 0 && !granted[lease] {
				granted[lease] = true
				requests = append(requests, model.EtcdRequest{
					Type:       model.LeaseGrant,
					LeaseGrant: &model.LeaseGrantRequest{LeaseID: lease},
				})
			}
			txn.OperationsOnSuccess = append(txn.OperationsOnSuccess, op)
		}
		requests = append(requests, model.EtcdRequest{Type: model.Txn, Txn: txn})
	}
	return requests
}

// revoked returns the lease that the entry revokes, or 0.
func revoked(entry revlog.Entry) int64 {
	var lease int64
	for i, e := range entry.Events {
		if !e.Delete || e.Prev.Lease == 0 || i > 0 && e.Prev.Lease != lease {
			return 0
		}
		lease = e.Prev.Lease
	}
	return lease
}

// replayed checks that the replay of the rebuilt requests gives the log's events again. So the model also agrees with
// the log about what a revocation deletes.
func replayed(replay *model.EtcdReplay, entries []revlog.Entry) error {
	var want []model.PersistedEvent
	for _, entry := range entries {
		for _, e := range entry.Events {
			w := model.PersistedEvent{
				Revision: entry.Rev, Event: model.Event{Type: model.DeleteOperation, Key: string(e.KV.Key)},
			}
			if !e.Delete {
				w.Event.Type = model.PutOperation
				w.Event.Value = model.ToValueOrHash(string(e.KV.Value))
				w.IsCreate = e.KV.Version == 1
			}
			want = append(want, w)
		}
	}
	if diff := gocmp.Diff(want, replay.Events); diff != "" {
		return fmt.Errorf("check: etcd's model replays the log to other events (-log +model):\n%s", diff)
	}
	return nil
}
