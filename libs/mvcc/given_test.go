package mvcc_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"testing"

	"github.com/headwaterdb/headwater/libs/engine"
	"github.com/headwaterdb/headwater/libs/engine/faults"
	"github.com/headwaterdb/headwater/libs/engine/testengine"
	"github.com/headwaterdb/headwater/libs/mvcc"
	"github.com/headwaterdb/headwater/libs/revlog"
)

// age has the engine give out versions until a revision can be given.
func age(t testing.TB, e engine.Store, rev int64) {
	t.Helper()
	for l := e.Limits(); !l.Dense; {
		txn, err := e.Begin(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		txn.UseStamps(1)
		txn.Set([]byte("\xf0age"), nil)
		p, err := txn.Commit(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if st, err := p.Wait(t.Context()); err != nil {
			t.Fatal(err)
		} else if int64(st.Version) > rev>>5+1 {
			return
		}
	}
}

// revisionsUpTo are those of a store up to its head.
func revisionsUpTo(t *testing.T, s *mvcc.Store) (revs []mvcc.ReplayRevision, head int64) {
	t.Helper()
	revs = revisionsOf(t, s, 0)
	return revs, revs[len(revs)-1].Rev
}

// addAll adds revisions to an import, up to n events.
func addAll(ctx context.Context, im *mvcc.Import, revs []mvcc.ReplayRevision, n int) error {
	for _, r := range revs {
		for i := range r.Events {
			if n--; n < 0 {
				return nil
			}
			if err := im.Add(ctx, r.Rev, &r.Events[i]); err != nil {
				return err
			}
		}
	}
	return nil
}

// TestImportGoesOn: on an engine with other writers an import that is interrupted anywhere, and whose commits have
// unknown outcomes, goes on where it was, and makes what one makes that is not interrupted.
func TestImportGoesOn(t *testing.T) {
	seed := seed(t)
	r := rand.New(rand.NewPCG(seed, 1))
	src := open(t, openEngine(t, fdb), mvcc.Options{})
	for id := int64(1); id < 3; id++ {
		if _, err := src.LeaseGrant(t.Context(), id, 10*id, nil); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 {
		write(t, r, src, 100)
		for i := range 100 {
			put(t, src, fmt.Sprintf("many/%02d", i), "v")
		}
		d := &mvcc.DeleteRequest{Key: []byte("many/1"), End: []byte("many/9")} // more than a batch has
		if _, err := src.DeleteRange(t.Context(), d); err != nil {
			t.Fatal(err)
		}
	}
	revs, head := revisionsUpTo(t, src)
	inner := openEngine(t, fdb)
	age(t, inner, head)
	var stop context.CancelFunc
	var left atomic.Int64
	e := faults.New(testengine.KeepOpen(inner), faults.Options{
		Seed: seed, Conflict: 0.1, UnknownLost: 0.1, UnknownCommitted: 0.1, TooOld: 0.01,
		Delay: func(_ context.Context, op faults.Op) {
			if op == faults.Commit && left.Add(-1) == 0 {
				stop()
			}
		},
	})
	o := mvcc.ImportOptions{Prefix: []byte("p"), Compact: -1, Head: head, Source: []byte("a file")}
	past := int64(0)
	for range 8 {
		im, err := mvcc.NewImport(t.Context(), e, o)
		if err != nil {
			t.Fatal(err)
		}
		im.SetBatch(20)
		if im.Going() < past {
			t.Fatalf("%d events are there, %d were", im.Going(), past)
		}
		past = im.Going()
		ctx, cancel := context.WithCancel(t.Context())
		stop = cancel
		left.Store(1 + r.Int64N(30)) // with what was under way then in part
		err = addAll(ctx, im, revs, int(past)+100+r.IntN(100))
		im.Abort()
		left.Store(0)
		if cancel(); err != nil && !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
	}
	if past == 0 {
		t.Error("none has gone on with another")
	}
	other := o
	other.Source = []byte("another file")
	if _, err := mvcc.NewImport(t.Context(), e, other); !errors.Is(err, mvcc.ErrOtherImport) {
		t.Errorf("another file: %v", err)
	}
	slow, err := mvcc.NewImport(t.Context(), e, o)
	if err != nil {
		t.Fatal(err)
	}
	im, err := mvcc.NewImport(t.Context(), e, o)
	if err != nil {
		t.Fatal(err)
	}
	im.SetBatch(20)
	if err := addAll(t.Context(), im, revs, 1<<30); err != nil {
		t.Fatal(err)
	}
	leases := []mvcc.ImportLease{{ID: 1, TTL: 10}, {ID: 2, TTL: 20}}
	if err := im.Finish(t.Context(), head, leases); err != nil {
		t.Fatal(err)
	}
	err = addAll(t.Context(), slow, revs, 1<<30)
	if err == nil {
		err = slow.Finish(t.Context(), head, leases)
	}
	if !errors.Is(err, mvcc.ErrOvertaken) {
		t.Errorf("who had begun before: %v", err)
	}
	s := open(t, inner, mvcc.Options{Prefix: o.Prefix})
	sameHeads(t, src, s)
	check(t, inner, s, o.Prefix, false).checkReads(s, 20)
	res, err := s.Put(t.Context(), &mvcc.PutRequest{Key: []byte("next"), Lease: 1})
	if err != nil || res.Rev <= head {
		t.Errorf("the next revision after %d: %+v, %v", head, res, err)
	}
}

// TestImportOfWhatHasGone: an import of keys that come and go in one batch is whole, and goes on behind them.
func TestImportOfWhatHasGone(t *testing.T) {
	src := open(t, openEngine(t, fdb), mvcc.Options{})
	for i := range 6 {
		put(t, src, fmt.Sprint("k", i), "v")
		if _, err := src.DeleteRange(t.Context(), &mvcc.DeleteRequest{Key: fmt.Append(nil, "k", i)}); err != nil {
			t.Fatal(err)
		}
	}
	revs, head := revisionsUpTo(t, src)
	for _, o := range []mvcc.ImportOptions{
		{Compact: -1}, {Compact: head, Superseded: true}, {Compact: revs[5].Rev, Superseded: true},
	} {
		e := openEngine(t, fdb)
		age(t, e, head)
		o.Head, o.Source = head, []byte("a file")
		for n := 4; n <= len(revs); n += 4 {
			im, err := mvcc.NewImport(t.Context(), e, o)
			if err != nil {
				t.Fatal(err)
			}
			if n > 4 && im.Going() == 0 {
				t.Errorf("%+v: nothing is there of %d events", o, n-4)
			}
			im.SetBatch(2)
			err = addAll(t.Context(), im, revs[:n], len(revs))
			if err == nil && n == len(revs) {
				err = im.Finish(t.Context(), head, nil)
			}
			if err != nil {
				t.Fatalf("%+v: %d of %d events, %d of them before: %v", o, n, len(revs), im.Going(), err)
			}
			im.Abort()
		}
		s := open(t, e, mvcc.Options{})
		sameHeads(t, src, s)
		check(t, e, s, nil, false)
	}
}

// sameHeads compares two stores at their heads.
func sameHeads(t *testing.T, a, b *mvcc.Store) {
	t.Helper()
	all := &mvcc.RangeRequest{Key: []byte{0}, End: []byte{0}}
	want, wantAt := collect(t, a, all)
	got, at := collect(t, b, all)
	if len(want) != len(got) || at != wantAt {
		t.Fatalf("%d keys of %+v, want %d of %+v", len(got), at, len(want), wantAt)
	}
	for i := range want {
		if fmt.Sprint(want[i]) != fmt.Sprint(got[i]) {
			t.Fatalf("%+v, want %+v", got[i], want[i])
		}
	}
}

// TestGivenAhead: revisions that would stand for versions which the engine has not given out are refused, by an import
// and while following, and nothing of them is there.
func TestGivenAhead(t *testing.T) {
	e := openEngine(t, fdb)
	const far = 1 << 60
	_, err := mvcc.NewImport(t.Context(), e, mvcc.ImportOptions{Compact: -1, Head: far})
	if !errors.Is(err, mvcc.ErrAhead) {
		t.Fatalf("an import up to revision %d: %v", int64(far), err)
	}
	im, err := mvcc.NewImport(t.Context(), e, mvcc.ImportOptions{Compact: -1, Head: 1, Follow: &mvcc.Follow{Source: 7}})
	if err == nil {
		err = im.Finish(t.Context(), 1, nil)
	}
	if err != nil {
		t.Fatal(err)
	}
	s := open(t, e, mvcc.Options{})
	replay := func(rev, after int64) error {
		kv := mvcc.KV{Key: []byte("a"), Create: rev, Version: 1}
		_, err := s.Replay(t.Context(),
			[]mvcc.ReplayRevision{{Rev: rev, After: after, Events: []revlog.Event{{KV: kv}}}})
		return err
	}
	if err := replay(far, 1); !errors.Is(err, mvcc.ErrAhead) {
		t.Errorf("revision %d: %v", int64(far), err)
	}
	if err := replay(9, 5); !errors.Is(err, mvcc.ErrGap) {
		t.Errorf("a gap: %v", err)
	}
	if err := replay(9, 1); err != nil {
		t.Errorf("a revision after a gap of the source's: %v", err)
	}
	if head, err := s.Head(t.Context()); err != nil || head != 9 {
		t.Errorf("head %d, %v", head, err)
	}
	check(t, e, s, nil, false)
}

// TestFollowersExclude: of two that replay at once on an engine with other writers each revision happens once, and the
// end of the following is learned of elsewhere.
func TestFollowersExclude(t *testing.T) {
	src := open(t, openEngine(t, fdb), mvcc.Options{})
	at := put(t, src, "a", "0")
	e := openEngine(t, fdb)
	age(t, e, at)
	_, one := copyOn(t, e, src, at, mvcc.Options{Lanes: 4})
	two := open(t, e, mvcc.Options{Lanes: 4})
	for i := range 50 {
		put(t, src, fmt.Sprint("k", i%7), fmt.Sprint(i))
	}
	revs, head := revisionsUpTo(t, src)
	age(t, e, head)
	done := make(chan error, 2)
	for _, s := range []*mvcc.Store{one, two} {
		go func() {
			for i := range revs {
				if _, err := s.Replay(t.Context(), revs[i:i+1]); err != nil {
					done <- err
					return
				}
			}
			done <- nil
		}()
	}
	for range 2 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	sameStores(t, src, two)
	if !two.Following() {
		t.Error("it follows no more")
	}
	var leases []mvcc.ImportLease
	for id := range int64(10_000) {
		leases = append(leases, mvcc.ImportLease{ID: id + 1, TTL: id%100 + 1})
	}
	if err := one.EndFollow(t.Context(), head, leases); err != nil {
		t.Fatal(err)
	}
	<-two.FollowEnded()
	if got := leasesOf(t, two); len(got) != len(leases) || got[5] != 5 {
		t.Errorf("%d leases", len(got))
	}
	if rev := put(t, two, "own", "1"); rev <= head {
		t.Errorf("the next revision after %d is %d", head, rev)
	}
	check(t, e, two, nil, false)
}

// TestImportOvertaken: of two imports of the same the one that began first ends, also where it need not read what the
// other has written, and what the other has made is whole.
func TestImportOvertaken(t *testing.T) {
	e := openEngine(t, fdb)
	const head = 100
	age(t, e, head)
	var revs []mvcc.ReplayRevision
	for rev := int64(1); rev <= head; rev++ {
		kv := mvcc.KV{Key: fmt.Append(nil, rev), Value: []byte("v"), Create: rev, Mod: rev, Version: 1}
		revs = append(revs, mvcc.ReplayRevision{Rev: rev, Events: []revlog.Event{{KV: kv}}})
	}
	o := mvcc.ImportOptions{Compact: head, Head: head, Source: []byte("a file")}
	slow, err := mvcc.NewImport(t.Context(), e, o)
	if err != nil {
		t.Fatal(err)
	}
	slow.SetBatch(20)
	if err := addAll(t.Context(), slow, revs[:50], head); err != nil {
		t.Fatal(err)
	}
	fast, err := mvcc.NewImport(t.Context(), e, o)
	if err != nil {
		t.Fatal(err)
	}
	if err = addAll(t.Context(), slow, revs[50:], head); err == nil {
		err = slow.Finish(t.Context(), head, nil)
	}
	if !errors.Is(err, mvcc.ErrOvertaken) {
		t.Errorf("who had begun before: %v", err)
	}
	slow.Abort()
	if err = addAll(t.Context(), fast, revs, head); err == nil {
		err = fast.Finish(t.Context(), head, nil)
	}
	if err != nil {
		t.Fatal(err)
	}
	s := open(t, e, mvcc.Options{})
	if kvs, at := collect(t, s, &mvcc.RangeRequest{Key: []byte{0}, End: []byte{0}}); len(kvs) != head ||
		at.Rev != head {
		t.Errorf("%d keys of %+v", len(kvs), at)
	}
	check(t, e, s, nil, false)
}
