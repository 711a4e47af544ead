package check

import (
	"math"
	"slices"

	"github.com/anishathalye/porcupine"
	"github.com/headwaterdb/headwater/libs/revlog"
	"go.etcd.io/etcd/server/v3/storage/mvcc"
	"go.etcd.io/etcd/tests/v3/robustness/model"
	"go.etcd.io/etcd/tests/v3/robustness/report"
)

// Resolve uses the log to settle writes with unknown outcomes. A write that the log holds becomes "persisted at this
// revision"; a write that it does not hold is removed. Each write that may have happened at any time or never doubles
// the search for a linearization, so that without Resolve a few kills would be too many. (Upstream does the same for
// unique puts and deletes.) Resolve never changes an answered operation: what its answer claims has to be true of a
// correct server.
//
// A persisted write took effect before anything returned that shows its revision or a later one; that bounds when it
// happened. Writes that cannot be settled (two lost deletes of one key) stay as they are; open counts them.
func Resolve(reports []report.ClientReport, log []revlog.Entry) (resolved []report.ClientReport, open int) {
	r := newResolver(reports, log)
	for _, rep := range reports {
		var ops []porcupine.Operation
		for _, op := range rep.KeyValue {
			switch r.settle(&op) {
			case keep:
				ops = append(ops, op)
			case openEnd:
				open++
				ops = append(ops, op)
			case drop:
			}
		}
		rep.KeyValue = ops
		resolved = append(resolved, rep)
	}
	return resolved, open
}

type verdict int

const (
	keep verdict = iota + 1
	drop
	openEnd
)

// version identifies what a put wrote. Values are unique, so it determines the revision.
type version struct {
	key   string
	value model.ValueOrHash
}

type resolver struct {
	puts    map[version]int64
	deletes map[string][]deletion // entries that are the delete of this one key
	revokes map[int64]int64       // lease to revision
	claimed map[int64]bool        // revisions that answered writes have
	lost    map[string]int        // lost operations that may be a delete of this one key and nothing else
	returns []returned            // of answered operations, by revision; each with the earliest return from there on

	compactions map[int64]compaction
}

type deletion struct{ rev, prevMod int64 }

type returned struct{ rev, at int64 }

// compaction is what the answered requests for one compact revision say about the lost ones.
type compaction struct {
	call, end int64 // the first lost request's call, the last answered one's return
	lost      bool  // there are lost requests
	happened  bool  // and one of them did it, since the answered one says so
}

func newResolver(reports []report.ClientReport, log []revlog.Entry) *resolver {
	r := &resolver{
		puts:        map[version]int64{},
		deletes:     map[string][]deletion{},
		revokes:     map[int64]int64{},
		claimed:     map[int64]bool{},
		lost:        map[string]int{},
		compactions: map[int64]compaction{},
	}
	r.readLog(log)
	for _, rep := range reports {
		for _, op := range rep.KeyValue {
			r.readOperation(op)
		}
	}
	slices.SortFunc(r.returns, func(a, b returned) int { return int(a.rev - b.rev) })
	for i := len(r.returns) - 2; i >= 0; i-- {
		r.returns[i].at = min(r.returns[i].at, r.returns[i+1].at)
	}
	return r
}

func (r *resolver) readLog(log []revlog.Entry) {
	for _, entry := range log {
		if lease := revoked(entry); lease != 0 {
			r.revokes[lease] = entry.Rev
			continue
		}
		for _, e := range entry.Events {
			key := string(e.KV.Key)
			switch {
			case !e.Delete:
				r.puts[version{key, model.ToValueOrHash(string(e.KV.Value))}] = entry.Rev
			case len(entry.Events) == 1:
				r.deletes[key] = append(r.deletes[key], deletion{rev: entry.Rev, prevMod: e.Prev.Mod})
			}
		}
	}
}

func (r *resolver) readOperation(op porcupine.Operation) {
	req, resp := op.Input.(model.EtcdRequest), op.Output.(model.MaybeEtcdResponse)
	if req.Type == model.Compact {
		c := r.compactions[req.Compact.Revision]
		switch {
		case resp.Error == "":
			c.end = max(c.end, op.Return)
			c.happened = resp.ClientError == mvcc.ErrCompacted.Error()
		case !c.lost:
			c.lost, c.call = true, op.Call
		}
		r.compactions[req.Compact.Revision] = c
		return
	}
	if resp.Error != "" {
		if d, ok := onlyDelete(req); ok {
			r.lost[d.key]++
		}
		return
	}
	if resp.Revision > 0 {
		r.returns = append(r.returns, returned{resp.Revision, op.Return})
	}
	if resp.Txn != nil && wrote(req, resp) {
		r.claimed[resp.Revision] = true
	}
}

// wrote reports whether an answered transaction changed something.
func wrote(req model.EtcdRequest, resp model.MaybeEtcdResponse) bool {
	ops := req.Txn.OperationsOnSuccess
	if resp.Txn.Failure {
		ops = req.Txn.OperationsOnFailure
	}
	for i, op := range ops {
		if op.Type == model.PutOperation || op.Type == model.DeleteOperation && resp.Txn.Results[i].Deleted > 0 {
			return true
		}
	}
	return false
}

// lostDelete is a request whose only write is the delete of one key, if the key has a mod revision (0: any).
type lostDelete struct {
	key string
	mod int64
}

func onlyDelete(req model.EtcdRequest) (d lostDelete, ok bool) {
	if req.Type != model.Txn {
		return d, false
	}
	var writes int
	for _, op := range req.Txn.AllOperations() {
		switch op.Type {
		case model.PutOperation:
			return d, false
		case model.DeleteOperation:
			d.key = op.Delete.Key
			writes++
		}
	}
	if writes != 1 || len(req.Txn.OperationsOnSuccess) == 0 ||
		req.Txn.OperationsOnSuccess[0].Type != model.DeleteOperation {
		return d, false
	}
	for _, c := range req.Txn.Conditions {
		if c.Key == d.key {
			d.mod = c.ExpectedRevision
		}
	}
	return d, true
}

// settle decides about one operation, and rewrites it if it was persisted.
func (r *resolver) settle(op *porcupine.Operation) verdict {
	req, resp := op.Input.(model.EtcdRequest), op.Output.(model.MaybeEtcdResponse)
	if resp.Error == "" || req.IsRead() {
		return keep
	}
	switch req.Type {
	case model.LeaseGrant:
		return drop // nobody learnt the lease's id
	case model.LeaseRevoke:
		// A lease without keys leaves no trace in the log. No client uses it after a lost revocation.
		return r.persisted(op, r.revokes[req.LeaseRevoke.LeaseID])
	case model.Compact:
		return r.compaction(op, req.Compact.Revision)
	case model.Txn:
		return r.txn(op, req)
	}
	return openEnd
}

func (r *resolver) txn(op *porcupine.Operation, req model.EtcdRequest) verdict {
	if d, ok := onlyDelete(req); ok {
		return r.delete(op, d)
	}
	for _, branch := range [][]model.EtcdOperation{req.Txn.OperationsOnSuccess, req.Txn.OperationsOnFailure} {
		var puts, deletes int
		for _, o := range branch {
			switch o.Type {
			case model.PutOperation:
				puts++
				if rev, ok := r.puts[version{o.Put.Key, o.Put.Value}]; ok {
					return r.persisted(op, rev)
				}
			case model.DeleteOperation:
				deletes++
			}
		}
		if puts == 0 && deletes > 0 {
			return openEnd
		}
	}
	return drop
}

func (r *resolver) delete(op *porcupine.Operation, d lostDelete) verdict {
	var found []int64
	for _, e := range r.deletes[d.key] {
		if !r.claimed[e.rev] && (d.mod == 0 || d.mod == e.prevMod) {
			found = append(found, e.rev)
		}
	}
	switch {
	case len(found) == 0:
		return drop // whenever it ran, it changed nothing
	case len(found) == 1 && r.lost[d.key] == 1:
		return r.persisted(op, found[0])
	}
	return openEnd
}

// compaction settles a lost request that package load repeated until it got an answer. If the answer was success, the
// lost requests did nothing. If it was "compacted", one of them did it; it does not matter which.
func (r *resolver) compaction(op *porcupine.Operation, rev int64) verdict {
	c := r.compactions[rev]
	if c.end == 0 {
		return openEnd
	}
	if !c.happened || op.Call != c.call {
		return drop
	}
	op.Output = model.MaybeEtcdResponse{Persisted: true}
	op.Return = c.end
	return keep
}

// persisted settles op as the write at rev. If rev is 0, there is no such write.
func (r *resolver) persisted(op *porcupine.Operation, rev int64) verdict {
	if rev == 0 {
		return drop
	}
	op.Output = model.MaybeEtcdResponse{Persisted: true, PersistedRevision: rev}
	op.Return = math.MaxInt64
	i, _ := slices.BinarySearchFunc(r.returns, rev, func(e returned, rev int64) int { return int(e.rev - rev) })
	if i < len(r.returns) && r.returns[i].at > op.Call {
		op.Return = r.returns[i].at
	}
	return keep
}
