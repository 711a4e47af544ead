package mvcc_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync/atomic"
	"testing"

	"github.com/headwaterdb/headwater/libs/engine"
	"github.com/headwaterdb/headwater/libs/engine/faults"
	"github.com/headwaterdb/headwater/libs/mvcc"
)

// largeCopy returns a copy of a store up to the revision before its first large one, and that revision.
func largeCopy(t *testing.T) (inner engine.Store, large mvcc.ReplayRevision) {
	t.Helper()
	src, from := largeRevisions(t, rand.New(rand.NewPCG(seed(t), 5)))
	inner = openFDBLike(t)
	revs, head := revisionsUpTo(t, src)
	age(t, inner, head)
	_, s := copyOn(t, inner, src, from, mvcc.Options{})
	for _, r := range revs {
		if r.Rev <= from {
			continue
		}
		if len(r.Events) > 100 {
			return inner, r
		}
		if _, err := s.Replay(t.Context(), []mvcc.ReplayRevision{r}); err != nil {
			t.Fatal(err)
		}
	}
	t.Fatal("no revision is large")
	return nil, large
}

// atOp returns the engine with small transactions, and a function that has f called at the beginning of an operation
// of it: at the n-th such operation from then on.
func atOp(inner engine.Store, of faults.Op) (e engine.Store, at func(n int64, f func())) {
	var left atomic.Int64
	var run atomic.Pointer[func()]
	e = faults.New(inner, faults.Options{
		Remote: &faults.Remote{TxnBytes: partsBytes},
		Delay: func(_ context.Context, op faults.Op) {
			if op == of && left.Add(-1) == 0 {
				(*run.Load())()
			}
		},
	})
	return e, func(n int64, f func()) {
		run.Store(&f)
		left.Store(n)
	}
}

// replayed replays a revision until it is there. Meanwhile it may be told that another one goes on with it.
func replayed(t *testing.T, s *mvcc.Store, r mvcc.ReplayRevision) {
	t.Helper()
	for range partsRuns {
		head, err := s.Replay(t.Context(), []mvcc.ReplayRevision{r})
		if err == nil && head == r.Rev {
			return
		}
		if !errors.Is(err, mvcc.ErrUnfinished) {
			t.Errorf("it is at revision %d: %v", head, err)
			return
		}
	}
	t.Error("it comes to no end")
}

// TestReplayPartsTwo: two processes replay the same large revision. Wherever the second one comes to the end of it while
// the first is at work, the first learns at most that somebody else goes on, and never that the copy has diverged.
func TestReplayPartsTwo(t *testing.T) {
	for _, op := range []faults.Op{faults.Snapshot, faults.Commit} {
		for n, met := int64(1), true; met; n++ {
			inner, large := largeCopy(t)
			e, at := atOp(inner, op)
			first := open(t, e, mvcc.Options{})
			second := open(t, faults.New(inner, faults.Options{Remote: &faults.Remote{TxnBytes: partsBytes}}),
				mvcc.Options{})
			met = false
			at(n, func() {
				met = true
				replayed(t, second, large)
			})
			replayed(t, first, large)
			at(0, nil)
			checkUnleased(t, inner)
		}
	}
}

// TestReplayPartsActivate: features that are activated while a revision is being written in parts stay.
func TestReplayPartsActivate(t *testing.T) {
	for n, met := int64(1), true; met; n++ {
		inner, large := largeCopy(t)
		e, at := atOp(inner, faults.Commit)
		first, other := open(t, e, mvcc.Options{}), open(t, inner, mvcc.Options{})
		met = false
		at(n, func() {
			met = true
			if err := other.Activate(t.Context(), mvcc.FeatureAccess); err != nil {
				t.Error(err)
			}
		})
		replayed(t, first, large)
		at(0, nil)
		p, err := mvcc.Peek(t.Context(), inner, nil)
		if err != nil || p.Features.Has(mvcc.FeatureParts) || p.Features.Has(mvcc.FeatureAccess) != met {
			t.Errorf("activated at commit %d: %t; afterwards the head has the features %v, %v", n, met, p.Features, err)
		}
		checkUnleased(t, inner)
	}
}
