package mvcc_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/headwaterdb/headwater/libs/engine"
	"github.com/headwaterdb/headwater/libs/engine/faults"
	"github.com/headwaterdb/headwater/libs/fsck"
	"github.com/headwaterdb/headwater/libs/mvcc"
)

// partsBytes is what a transaction of the copy holds in tests of revisions that are larger.
const partsBytes = 30_000

// partsRuns bounds how often a copy is gone on with.
const partsRuns = 1000

// largeRevisions returns a store whose revisions after from are small and large in turn: many keys are put, some on
// leases and with larger values, then most of them are deleted, and one lease ends.
func largeRevisions(t *testing.T, r *rand.Rand) (src *mvcc.Store, from int64) {
	t.Helper()
	src = open(t, openEngine(t, fdb), mvcc.Options{})
	for id := int64(1); id < 3; id++ {
		if _, err := src.LeaseGrant(t.Context(), id, 10*id, nil); err != nil {
			t.Fatal(err)
		}
	}
	fill := func(n int) {
		var ops []mvcc.Op
		for i := range n {
			p := &mvcc.PutRequest{Key: fmt.Appendf(nil, "many/%03d", i), Value: []byte("small")}
			if i%3 == 0 {
				p.Lease = 1 + int64(r.IntN(2))
			}
			if i%20 == 0 {
				p.Value = bytes.Repeat([]byte("v"), 600+r.IntN(1000))
			}
			ops = append(ops, mvcc.Op{Put: p})
		}
		if _, err := src.Txn(t.Context(), &mvcc.TxnRequest{Success: ops}); err != nil {
			t.Fatal(err)
		}
	}
	fill(20)
	write(t, r, src, 20)
	from = put(t, src, "from", "")
	put(t, src, "large", strings.Repeat("l", 5000))
	fill(300)
	put(t, src, "between", "1")
	d := &mvcc.DeleteRequest{Key: []byte("many/01"), End: []byte("many/28")}
	if _, err := src.DeleteRange(t.Context(), d); err != nil {
		t.Fatal(err)
	}
	put(t, src, "between", "2")
	fill(300)
	if _, err := src.LeaseRevoke(t.Context(), 1, nil); err != nil {
		t.Fatal(err)
	}
	put(t, src, "last", "")
	return src, from
}

// TestReplayParts: revisions of the source that do not fit into a transaction are replayed in several. Whoever stops in
// between, at any commit, and whatever the commits' outcomes are, another Store goes on; until the last one nobody can
// read the keyspace, and a revision comes after it with all its keys.
func TestReplayParts(t *testing.T) {
	seed := seed(t)
	r := rand.New(rand.NewPCG(seed, 3))
	src, from := largeRevisions(t, r)
	inner := openFDBLike(t)
	revs, head := revisionsUpTo(t, src)
	age(t, inner, head)
	copyOn(t, inner, src, from, mvcc.Options{})
	for len(revs) > 0 && revs[0].Rev <= from {
		revs = revs[1:]
	}
	var stop atomic.Pointer[context.CancelFunc]
	var left atomic.Int64
	e := smallTxns(inner, faults.Options{
		Seed: seed, Conflict: 0.05, UnknownLost: 0.03, UnknownCommitted: 0.03,
		Delay: func(_ context.Context, op faults.Op) {
			if op == faults.Commit && left.Add(-1) == 0 {
				(*stop.Load())()
			}
		},
	})
	unreadable, runs := 0, 0
	for done := int64(0); done < head; runs++ {
		if runs == partsRuns {
			t.Fatalf("it comes no further than revision %d of %d", done, head)
		}
		s := open(t, e, mvcc.Options{})
		s.NoWholeWait()
		ctx, cancel := context.WithCancel(t.Context())
		stop.Store(&cancel)
		left.Store(1 + r.Int64N(6))
		for i := range revs {
			if revs[i].Rev <= done {
				continue
			}
			rev, err := s.Replay(ctx, revs[i:i+1])
			if err != nil {
				break
			}
			done = rev
		}
		left.Store(0)
		cancel()
		if !readable(t, inner, s, revs) {
			unreadable++
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("%d runs, unreadable after %d", runs, unreadable)
	if unreadable == 0 {
		t.Error("no run was stopped in the middle of a revision")
	}
	s := open(t, inner, mvcc.Options{})
	sameStores(t, src, s)
	if err := s.EndFollow(t.Context(), head, []mvcc.ImportLease{{ID: 2, TTL: 20}}); err != nil {
		t.Fatal(err)
	}
	check(t, inner, s, nil, false).checkReads(s, 1)
	if rev := put(t, s, "own", ""); rev <= head {
		t.Errorf("the next revision after %d is %d", head, rev)
	}
	check(t, inner, s, nil, false)
}

// checkUnleased checks the rows of a keyspace that follows, whose leases are those of the copy.
func checkUnleased(t *testing.T, e engine.Store) {
	t.Helper()
	r, err := fsck.Check(t.Context(), e, fsck.Options{})
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range r.Findings {
		if !strings.Contains(f.Text, "attached to a lease that does not exist") {
			t.Error(f)
		}
	}
}

// readable says whether a keyspace can be read. If so it has some revisions whole, and otherwise nothing of it can be
// read, and nothing is done to it but to go on.
func readable(t *testing.T, e engine.Store, s *mvcc.Store, revs []mvcc.ReplayRevision) bool {
	t.Helper()
	all := &mvcc.RangeRequest{Key: []byte{0}, End: []byte{0}}
	info, err := s.Range(t.Context(), all, func(*mvcc.KV) error { return nil })
	if err == nil {
		checkUnleased(t, e)
		return true
	}
	for what, f := range map[string]func() error{
		"range": func() error { return err },
		"one key": func() error {
			_, err := s.Range(t.Context(), &mvcc.RangeRequest{Key: []byte("from")}, nil)
			return err
		},
		"head":        func() error { _, err := s.Head(t.Context()); return err },
		"log":         func() error { _, _, err := s.ReadLog(t.Context(), revs[0].Rev, 10, 1<<20); return err },
		"transaction": func() error { _, err := s.Txn(t.Context(), &mvcc.TxnRequest{}); return err },
		"put":         func() error { _, err := s.Put(t.Context(), &mvcc.PutRequest{Key: []byte("x")}); return err },
		"dump":        func() error { _, err := s.BeginDump(t.Context(), 0); return err },
		"end": func() error {
			if err := s.EndFollow(t.Context(), info.Rev, nil); !errors.Is(err, mvcc.ErrGap) {
				return err
			}
			return mvcc.ErrUnfinished
		},
		"another revision": func() error {
			other := revs[len(revs)-1]
			if _, err := s.Replay(t.Context(), []mvcc.ReplayRevision{other}); !errors.Is(err, mvcc.ErrGap) {
				return err
			}
			return mvcc.ErrUnfinished
		},
	} {
		if err := f(); !errors.Is(err, mvcc.ErrUnfinished) {
			t.Errorf("in the middle of a revision, %s: %v", what, err)
		}
	}
	if _, err := fsck.Check(t.Context(), e, fsck.Options{}); !errors.Is(err, fsck.ErrUnfinished) {
		t.Errorf("in the middle of a revision, a check: %v", err)
	}
	return false
}

// TestReplayPartsRefused: a large revision that cannot come from the source is refused before anything is written, and
// so is another one under the number of one that has been begun. A read that meets one waits for its end.
func TestReplayPartsRefused(t *testing.T) {
	src, from := largeRevisions(t, rand.New(rand.NewPCG(seed(t), 4)))
	inner := openFDBLike(t)
	revs, head := revisionsUpTo(t, src)
	age(t, inner, head)
	copyOn(t, inner, src, from, mvcc.Options{})
	var stop context.CancelFunc
	var left atomic.Int64
	e := smallTxns(inner, faults.Options{
		Delay: func(_ context.Context, op faults.Op) {
			if op == faults.Commit && left.Add(-1) == 0 {
				stop()
			}
		},
	})
	s := open(t, e, mvcc.Options{})
	var large mvcc.ReplayRevision
	for _, r := range revs {
		if r.Rev <= from {
			continue
		}
		if len(r.Events) > 100 {
			large = r
			break
		}
		if _, err := s.Replay(t.Context(), []mvcc.ReplayRevision{r}); err != nil {
			t.Fatal(err)
		}
	}
	for what, change := range map[string]func(r *mvcc.ReplayRevision){
		"a key twice": func(r *mvcc.ReplayRevision) { r.Events[290].KV.Key = r.Events[0].KV.Key },
		"a version":   func(r *mvcc.ReplayRevision) { r.Events[290].KV.Version += 5 },
		"a deletion of nothing": func(r *mvcc.ReplayRevision) {
			r.Events[290].Delete, r.Events[290].KV.Key = true, []byte("nothing")
		},
	} {
		bad := large
		bad.Events = append(bad.Events[:0:0], large.Events...)
		change(&bad)
		if _, err := s.Replay(t.Context(), []mvcc.ReplayRevision{bad}); !errors.Is(err, mvcc.ErrDiverged) {
			t.Errorf("%s: %v", what, err)
		}
	}
	checkUnleased(t, inner)
	ctx, cancel := context.WithCancel(t.Context())
	stop = cancel
	left.Store(4)
	if _, err := s.Replay(ctx, []mvcc.ReplayRevision{large}); err == nil {
		t.Fatal("it was not stopped")
	}
	bad := large
	bad.Events = append(bad.Events[:0:0], large.Events...)
	bad.Events[7].KV.Value = []byte("other")
	if _, err := s.Replay(t.Context(), []mvcc.ReplayRevision{bad}); !errors.Is(err, mvcc.ErrDiverged) {
		t.Errorf("another revision of that number: %v", err)
	}
	read := make(chan error, 1)
	waiter := open(t, inner, mvcc.Options{})
	go func() {
		head, err := waiter.Head(t.Context())
		if err == nil && head != large.Rev {
			err = fmt.Errorf("it read revision %d", head)
		}
		read <- err
	}()
	if _, err := s.Replay(t.Context(), []mvcc.ReplayRevision{large}); err != nil {
		t.Fatal(err)
	}
	if err := <-read; err != nil {
		t.Error(err)
	}
	checkUnleased(t, inner)
}
