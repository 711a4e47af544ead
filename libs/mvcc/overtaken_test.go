package mvcc_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/headwaterdb/headwater/libs/engine/faults"
	"github.com/headwaterdb/headwater/libs/engine/pebble"
	"github.com/headwaterdb/headwater/libs/mvcc"
)

// holdCommit returns an engine option that stops the next commit after arm, between what it has read and its end.
func holdCommit() (o faults.Options, arm func(), entered, release chan struct{}) {
	var shut atomic.Bool
	entered, release = make(chan struct{}), make(chan struct{})
	o.Delay = func(_ context.Context, op faults.Op) {
		if op == faults.Commit && shut.CompareAndSwap(true, false) {
			close(entered)
			<-release
		}
	}
	return o, func() { shut.Store(true) }, entered, release
}

// TestListOvertakenByCompaction: a list that has to go on in a new snapshot, and finds that its revision has been
// compacted and what it needs removed meanwhile, fails. What it has visited before is right.
func TestListOvertakenByCompaction(t *testing.T) {
	const keys, seen = 270, 5 // more than a page, which is read at once
	for _, v := range faultVariants()[:3] {
		t.Run(v.name, func(t *testing.T) {
			var lost atomic.Bool
			e := faults.New(openEngine(t, v.engine), faults.Options{Script: func(c faults.Call) (faults.Fault, bool) {
				if c.Op == faults.Next && lost.CompareAndSwap(true, false) {
					return faults.TooOld, true
				}
				return faults.None, true
			}})
			s := open(t, e, v.store)
			write := func(value string) (rev int64) {
				for i := range keys {
					rev = put(t, s, fmt.Sprintf("k%02d", i), value)
				}
				return rev
			}
			for _, newest := range []bool{false, true} { // the list's revision is the head when it begins
				rev := write("old")
				if !newest {
					write("new")
				}
				var got []string
				req := &mvcc.RangeRequest{Key: []byte("k"), End: []byte("l"), Rev: rev}
				info, err := s.Range(t.Context(), req, func(kv *mvcc.KV) error {
					if got = append(got, string(kv.Value)); len(got) != seen {
						return nil
					}
					head := write("newest")
					_, err := s.Compact(t.Context(), head, false)
					waitFor(t, func() bool { return removedUpTo(t, e, v.store.Prefix) == head })
					lost.Store(true)
					return err
				})
				if !errors.Is(err, mvcc.ErrCompacted) {
					t.Fatalf("%d keys, %+v, %v; want ErrCompacted", len(got), info, err)
				}
				for _, value := range got {
					if value != "old" {
						t.Fatalf("the list at %d shows %q", rev, got)
					}
				}
			}
		})
	}
}

// TestSweepSparesBusyLanes: a commit row that is written while a sweep is about to delete it stays. Its lane may be
// about to read it back: it would take a commit of unknown outcome for one that has not happened, and repeat it.
func TestSweepSparesBusyLanes(t *testing.T) {
	inner, ctx := openEngine(t, fdb), t.Context()
	held, arm, entered, release := holdCommit()
	sweeper := open(t, faults.New(inner, held), mvcc.Options{})
	var unknown, asking atomic.Bool
	swept := make(chan struct{})
	lane := open(t, faults.New(inner, faults.Options{
		Script: func(c faults.Call) (faults.Fault, bool) {
			if c.Op == faults.Commit && unknown.CompareAndSwap(true, false) {
				asking.Store(true)
				return faults.UnknownCommitted, true
			}
			return faults.None, true
		},
		Delay: func(_ context.Context, op faults.Op) {
			if op == faults.Snapshot && asking.Load() { // the outcome is asked for after the sweep
				<-swept
			}
		},
	}), mvcc.Options{})
	put(t, lane, "k", "1")
	put(t, sweeper, "other", "1")
	last, err := sweeper.SweepUnchanged(ctx, nil)
	if err != nil || len(last) != 2 {
		t.Fatalf("%d rows: %v", len(last), err)
	}
	arm()
	unknown.Store(true)
	var wg sync.WaitGroup
	wg.Go(func() {
		defer close(swept)
		if _, err := sweeper.SweepUnchanged(ctx, last); err != nil {
			t.Error(err)
		}
	})
	<-entered
	wg.Go(func() { put(t, lane, "k", "2") })
	reader := open(t, inner, mvcc.Options{})
	get := func() mvcc.KV {
		kvs, _ := collect(t, reader, &mvcc.RangeRequest{Key: []byte("k")})
		return kvs[0]
	}
	waitFor(t, func() bool { return get().Version == 2 })
	close(release)
	wg.Wait()
	if kv := get(); kv.Version != 2 {
		t.Errorf("two puts have made version %d", kv.Version)
	}
	check(t, inner, reader, nil, false)
}

// TestRemovalNeverGoesBack: a pod that removes entries and is overtaken by another leaves the other's cursor where it
// is. Whoever follows the log relies on it: below are gaps, and above are none.
func TestRemovalNeverGoesBack(t *testing.T) {
	inner, ctx := openEngine(t, fdb), t.Context()
	held, arm, entered, release := holdCommit()
	o := mvcc.Options{Shift: 2, NoRemoval: true}
	slow, fast := open(t, faults.New(inner, held), o), open(t, inner, o)
	var revs []int64
	for i := range 20 {
		revs = append(revs, put(t, fast, "k", fmt.Sprint(i)))
	}
	if _, err := fast.Compact(ctx, revs[15], false); err != nil {
		t.Fatal(err)
	}
	arm()
	var wg sync.WaitGroup
	wg.Go(func() {
		next, err := slow.RemoveBatch(ctx, -1, revs[5]) // the compact revision that it knows of
		if err != nil || next != revs[15] {
			t.Errorf("the pod that was overtaken has come to %d, %v; want %d", next, err, revs[15])
		}
	})
	<-entered
	if next, err := fast.RemoveBatch(ctx, -1, revs[15]); err != nil || next != revs[15] {
		t.Errorf("%d, %v", next, err)
	}
	close(release)
	wg.Wait()
	if at := removedUpTo(t, inner, nil); at != revs[15] {
		t.Errorf("the cursor is at %d, all below %d is gone", at, revs[15])
	}
	if _, _, _, err := fast.ReadPayloads(ctx, revs[6], 100, 1<<20); !errors.Is(err, mvcc.ErrCompacted) {
		t.Errorf("entries that are gone are read: %v", err)
	}
	check(t, inner, fast, nil, true)
}

// TestRevokeSeesItsGroup: a revoke deletes what is attached after the requests before it in its group, neither more
// nor less.
func TestRevokeSeesItsGroup(t *testing.T) {
	for _, engine := range []pebble.Options{{}, fdb} {
		t.Run(fmt.Sprint("dense ", !engine.Sparse), func(t *testing.T) {
			g, e := newGate(openEngine(t, engine))
			s := open(t, e, mvcc.Options{Shift: 5})
			ctx := t.Context()
			ok := func(err error) {
				if err != nil {
					t.Error(err)
				}
			}
			grant := func(id int64) { _, err := s.LeaseGrant(ctx, id, 100, nil); ok(err) }
			attach := func(key string, lease int64) {
				_, err := s.Put(ctx, &mvcc.PutRequest{Key: []byte(key), Value: []byte(key), Lease: lease})
				ok(err)
			}
			grant(7)
			grant(8)
			for _, key := range []string{"again", "deleted", "detached", "moved", "old", "reborn"} {
				attach(key, 7)
			}
			attach("taken", 8)
			remove := func(key string) { _, err := s.DeleteRange(ctx, &mvcc.DeleteRequest{Key: []byte(key)}); ok(err) }
			g.group(t, s,
				func() { attach("again", 7) },
				func() { remove("deleted") },
				func() { attach("detached", 0) },
				func() { attach("moved", 8) },
				func() { attach("new", 7) },
				func() { remove("reborn") },
				func() { attach("reborn", 7) },
				func() { attach("taken", 7) },
				func() { _, err := s.LeaseRevoke(ctx, 7, nil); ok(err) },
				func() { attach("later", 8) },
			)
			var left []string
			for _, kv := range everything(t, s) {
				left = append(left, fmt.Sprintf("%s %d", kv.Key, kv.Lease))
			}
			if diff := cmp.Diff([]string{"detached 0", "gate 0", "later 8", "moved 8"}, left); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
			keys, _, err := s.LeaseKeys(ctx, 7)
			if err != nil || len(keys) != 0 {
				t.Errorf("the lease has %q, %v", keys, err)
			}
			check(t, e, s, nil, false)
		})
	}
}
