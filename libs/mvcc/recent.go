package mvcc

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/headwaterdb/headwater/libs/engine"
	"github.com/headwaterdb/headwater/libs/revlog"
)

// A group may be evaluated on a recent state, which may be outdated (engine.RecentBeginner). Its commit then proves
// that the state was current after all, for every row that was read with a conflict. The head is not among these rows,
// because every group writes it. So such a group is committed only if no answer depends on the head: every header in
// the answers has a revision of the group itself, no answer is an error, and nothing was compared with the head. That
// is so for the usual puts, transactions and deletes. Otherwise, and after any failure, the group is evaluated again on
// a current state.

// askingGroups is how many groups of a lane begin with a current state after one that failed on a recent state.
const askingGroups = 16

// errMayBeOutdated says that the commit of a group would not prove its answers.
var errMayBeOutdated = errors.New("mvcc: the recent state may be outdated")

// tryRecent reports whether a group of these requests should be tried on a recent state.
func (l *lane) tryRecent(reqs []*request) bool {
	if l.s.recent == nil {
		return false
	}
	if l.asking > 0 {
		l.asking--
		return false
	}
	return !slices.ContainsFunc(reqs, func(r *request) bool { return !r.m.proves() })
}

// begin begins the transaction of a group. *recent allows a state that may be outdated, and tells afterwards whether it
// is one.
func (l *lane) begin(ctx context.Context, recent *bool) (engine.Txn, error) {
	if *recent {
		since := time.Now()
		txn, ok, err := l.s.recent.BeginRecent(ctx)
		if ok && err == nil {
			l.s.usage.Recent.Add(1)
			return txn, nil
		}
		if errors.Is(err, engine.ErrUnavailable) {
			l.s.queue.unreached(since)
		}
		*recent = false
	}
	return l.s.eng.Begin(ctx)
}

// proved reports whether a successful commit proves all answers of the group, even if its state was outdated.
func (g *group) proved(reqs []*request) bool {
	return !g.needsHead && !slices.ContainsFunc(reqs, func(r *request) bool { return r.err != nil || !r.res.pending() })
}

// pending reports whether all headers in a result have revisions of the result's group.
func (res *Result) pending() bool {
	_, ok := revlog.PendingIndex(res.Rev)
	return ok && res.opsPending()
}

// opsPending is pending for the results of a transaction's operations. A nested transaction has no header of its own.
func (res *Result) opsPending() bool {
	return !slices.ContainsFunc(res.Ops, func(o OpResult) bool {
		if o.Kind == OpTxn {
			return !o.Result.opsPending()
		}
		return !o.Result.pending()
	})
}
