package mvcc_test

import (
	"bytes"
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

// limited is an engine that says what its transactions hold.
type limited struct {
	engine.Store
	txnBytes int
}

// Limits implements engine.Store.
func (s limited) Limits() engine.Limits {
	l := s.Store.Limits()
	l.TxnBytes = s.txnBytes
	return l
}

// smallTxns returns an engine whose transactions hold no more than partsBytes.
func smallTxns(inner engine.Store, o faults.Options) engine.Store {
	o.Remote = &faults.Remote{TxnBytes: partsBytes}
	return limited{faults.New(inner, o), partsBytes}
}

// atOp returns the engine with small transactions, and a function that has f called at the beginning of an operation
// of it: at the n-th such operation from then on.
func atOp(inner engine.Store, of faults.Op) (e engine.Store, at func(n int64, f func())) {
	var left atomic.Int64
	var run atomic.Pointer[func()]
	e = smallTxns(inner, faults.Options{Delay: func(_ context.Context, op faults.Op) {
		if op == of && left.Add(-1) == 0 {
			(*run.Load())()
		}
	}})
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
			second := open(t, smallTxns(inner, faults.Options{}), mvcc.Options{})
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

// TestReplayPartsDamaged: a row that says more of a revision than there is of it is found to be damaged, wherever the
// revision has been left.
func TestReplayPartsDamaged(t *testing.T) {
	const (
		offset = 8 // from the row's end
		done   = offset + 8
		flag   = done + 1 // the rows are there
		added  = flag + 8
	)
	found := map[int]bool{}
	for n := int64(1); len(found) < 3; n++ {
		if n == partsRuns {
			t.Fatalf("only %v have been damaged", found)
		}
		for _, bad := range []byte{0x7f, 0xff} {
			inner, large := largeCopy(t)
			e, at := atOp(inner, faults.Commit)
			s := open(t, e, mvcc.Options{})
			ctx, cancel := context.WithCancel(t.Context())
			at(n, cancel)
			if _, err := s.Replay(ctx, []mvcc.ReplayRevision{large}); err == nil {
				t.Fatalf("it was not stopped at commit %d; %v have been damaged", n, found)
			}
			at(0, nil)
			cancel()
			what := 0
			damageParts(t, inner, func(row []byte) {
				if what = added; row[len(row)-flag] != 0 {
					what = []int{offset, done}[n%2]
				}
				row[len(row)-what] = bad
			})
			if what == 0 {
				continue // it has not been begun
			}
			found[what] = true
			if _, err := s.Replay(t.Context(), []mvcc.ReplayRevision{large}); !errors.Is(err, mvcc.ErrCorrupt) {
				t.Errorf("the number at %d begins with %x: %v", what, bad, err)
			}
		}
	}
}

// damageParts changes the row of a revision that is being written in parts, if there is one.
func damageParts(t *testing.T, e engine.Store, change func(row []byte)) {
	t.Helper()
	txn, err := e.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer txn.Discard()
	it := txn.Scan(t.Context(), engine.Range{})
	for it.Next() {
		if bytes.HasSuffix(it.Key(), []byte("parts")) {
			row := bytes.Clone(it.Value())
			change(row)
			txn.Set(it.Key(), row)
		}
	}
	if err := errors.Join(it.Err(), it.Close()); err != nil {
		t.Fatal(err)
	}
	p, err := txn.Commit(t.Context())
	if err == nil {
		_, err = p.Wait(t.Context())
	}
	if err != nil {
		t.Fatal(err)
	}
}
