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
// that the state was current after all, for every row that was read with a conflict; the head is not among them,
// since every group writes it. So such a group is committed only if no answer rests on the head: every header in the
// answers is a revision of the group itself, none is an error, and nothing was compared with the head. The usual
// puts, transactions and deletes are so. Else, and after any failure, it is evaluated again on a state that was asked
// for.

// askingGroups is how many groups of a lane begin with asking, after one that was evaluated in vain on a recent state.
const askingGroups = 16

// errMayBeOutdated says that the commit of a group would not prove its answers.
var errMayBeOutdated = errors.New("mvcc: the recent state may be outdated")

// tryRecent says whether a group of these requests should be tried on a recent state.
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

// begin begins the transaction of a group; recent allows, and then says, that its state may be outdated.
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

// proved says that a successful commit proves all answers of the group, whatever its state was.
func (g *group) proved(reqs []*request) bool {
	return !g.needsHead && !slices.ContainsFunc(reqs, func(r *request) bool { return r.err != nil || !r.res.pending() })
}

// pending says that all headers in a result have revisions of its group.
func (res *Result) pending() bool {
	_, ok := revlog.PendingIndex(res.Rev)
	return ok && res.opsPending()
}

// opsPending is pending for the results of a transaction's operations. That of a nested transaction has no header of
// its own.
func (res *Result) opsPending() bool {
	return !slices.ContainsFunc(res.Ops, func(o OpResult) bool {
		if o.Kind == OpTxn {
			return !o.Result.opsPending()
		}
		return !o.Result.pending()
	})
}
