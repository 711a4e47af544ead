package mvcc_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/headwaterdb/headwater/libs/engine"
	"github.com/headwaterdb/headwater/libs/engine/faults"
	"github.com/headwaterdb/headwater/libs/engine/pebble"
	"github.com/headwaterdb/headwater/libs/mvcc"
)

// gate holds a lane at the beginning of its transaction, so that a test can fill the next group.
type gate struct {
	shut    atomic.Bool
	entered chan struct{}
	release chan struct{}
	holder  func() // the request that is held; nil: a put
	queued  func() // if set, called when all requests wait, before they go on
}

func newGate(inner engine.Store) (*gate, *faults.Store) {
	g := &gate{entered: make(chan struct{}), release: make(chan struct{})}
	return g, faults.New(inner, faults.Options{KeepPipelined: true, Delay: func(_ context.Context, op faults.Op) {
		if op == faults.Begin && g.shut.CompareAndSwap(true, false) {
			close(g.entered)
			<-g.release
		}
	}})
}

// group runs requests as one group, in their order: behind a request that holds the lane until all of them wait.
func (g *gate) group(t *testing.T, s *mvcc.Store, requests ...func()) {
	t.Helper()
	g.entered, g.release = make(chan struct{}), make(chan struct{})
	g.shut.Store(true)
	var wg sync.WaitGroup
	holder := g.holder
	if holder == nil {
		holder = func() { put(t, s, "gate", "") }
	}
	wg.Go(holder)
	<-g.entered
	for i, r := range requests {
		wg.Go(r)
		waitFor(t, func() bool { return s.Waiting() == i+1 })
	}
	if g.queued != nil {
		g.queued()
	}
	close(g.release)
	wg.Wait()
}

var fdb = pebble.Options{FDBLimits: true, Sparse: true, NotPipelined: true}

func everything(t *testing.T, s *mvcc.Store) []mvcc.KV {
	t.Helper()
	kvs, _ := collect(t, s, &mvcc.RangeRequest{Key: []byte{0}, End: []byte{0}})
	return kvs
}

// TestTooLarge: what does not fit into a transaction says so and changes nothing, and the others of its group do not
// suffer.
func TestTooLarge(t *testing.T) {
	if testing.Short() {
		t.Skip("one client at a time, and much data: there is nothing here for the race detector")
	}
	g, e := newGate(openEngine(t, fdb))
	s := open(t, e, mvcc.Options{Shift: 5})
	value, long := strings.Repeat("v", 95_000), strings.Repeat("k", 9000)
	for i := range 120 { // more than a transaction holds, but a delete moves none of it
		put(t, s, fmt.Sprintf("c%03d", i), value)
	}
	if res, err := s.DeleteRange(t.Context(), &mvcc.DeleteRequest{Key: []byte("c"), End: []byte("d")}); err != nil ||
		res.Deleted != 120 {
		t.Fatal(res, err)
	}
	for i := range 400 { // the keys alone do not fit into a transaction
		put(t, s, fmt.Sprintf("b%03d%s", i, long), value)
	}
	before := everything(t, s)
	_, err := s.DeleteRange(t.Context(), &mvcc.DeleteRequest{Key: []byte("a"), End: []byte{0}})
	if !errors.Is(err, mvcc.ErrTooLarge) {
		t.Fatal(err)
	}
	if diff := cmp.Diff(before, everything(t, s), sameBytes); diff != "" {
		t.Fatal(diff)
	}
	ok := func(i int) func() {
		return func() { put(t, s, fmt.Sprint("ok", i), "fine") }
	}
	tooLarge := func(do func() error) func() {
		return func() {
			if err := do(); !errors.Is(err, mvcc.ErrTooLarge) {
				t.Errorf("%v", err)
			}
		}
	}
	g.group(t, s, ok(0),
		tooLarge(func() error {
			_, err := s.DeleteRange(t.Context(), &mvcc.DeleteRequest{Key: []byte("b"), End: []byte("c")})
			return err
		}),
		ok(1),
		tooLarge(func() error { // each of its puts fits
			var ops []mvcc.Op
			for i := range 120 {
				ops = append(ops, mvcc.Op{Put: &mvcc.PutRequest{
					Key:   fmt.Appendf(nil, "d%03d", i),
					Value: []byte(value),
				}})
			}
			_, err := s.Txn(t.Context(), &mvcc.TxnRequest{Success: ops})
			return err
		}),
		ok(2))
	kvs := everything(t, s)
	if len(kvs) != len(before)+4 { // ok0 … ok2 and the gate
		t.Fatalf("%d keys, before %d", len(kvs), len(before))
	}
	res, err := s.DeleteRange(t.Context(), &mvcc.DeleteRequest{Key: []byte("b000"), End: []byte("b060")})
	if err != nil || res.Deleted != 60 {
		t.Fatalf("a delete that fits: %v", err)
	}
	check(t, e, s, nil, false).checkReads(s, 40)
}

// fullDisk refuses the transactions that a full disk refuses: those that set rows and are not marked as shrinking.
type fullDisk struct {
	engine.Store
	full atomic.Bool
}

func (d *fullDisk) Begin(ctx context.Context) (engine.Txn, error) {
	txn, err := d.Store.Begin(ctx)
	return &fullTxn{Txn: txn, d: d}, err
}

type fullTxn struct {
	engine.Txn
	d       *fullDisk
	shrinks bool
}

func (x *fullTxn) Shrinks() { x.shrinks = true }

func (x *fullTxn) Commit(ctx context.Context) (engine.Pending, error) {
	if x.d.full.Load() && !x.shrinks {
		x.Txn.Discard()
		return nil, engine.ErrNoSpace
	}
	return x.Txn.Commit(ctx)
}

// TestNoSpace: on a full disk requests that grow the store are refused, also those that wait in one group with
// others, and deletes, revokes, compactions and reads go on.
func TestNoSpace(t *testing.T) {
	d := &fullDisk{Store: openEngine(t, pebble.Options{})}
	g, e := newGate(d)
	s := open(t, e, mvcc.Options{})
	ctx := t.Context()
	grant := func(id int64) error { _, err := s.LeaseGrant(ctx, id, 10, nil); return err }
	try := func(r *mvcc.PutRequest) error { _, err := s.Put(ctx, r); return err }
	if err := errors.Join(grant(1), try(&mvcc.PutRequest{Key: []byte("leased"), Lease: 1}),
		try(&mvcc.PutRequest{Key: []byte("a")}), try(&mvcc.PutRequest{Key: []byte("b")})); err != nil {
		t.Fatal(err)
	}
	refused := func(do func() error) func() {
		return func() {
			if err := do(); !errors.Is(err, mvcc.ErrNoSpace) {
				t.Errorf("%v", err)
			}
		}
	}
	accepted := func(do func() error) func() {
		return func() {
			if err := do(); err != nil {
				t.Error(err)
			}
		}
	}
	grows := func() error { return try(&mvcc.PutRequest{Key: []byte("c")}) }
	del := func(key string) func() error {
		return func() error {
			res, err := s.DeleteRange(ctx, &mvcc.DeleteRequest{Key: []byte(key)})
			if err == nil && res.Deleted != 1 {
				err = fmt.Errorf("%d deleted", res.Deleted)
			}
			return err
		}
	}
	d.full.Store(true)
	g.holder = refused(grows)
	g.group(t, s, refused(grows), accepted(del("a")), refused(func() error { return grant(2) }),
		refused(func() error {
			_, err := s.Txn(ctx, &mvcc.TxnRequest{Failure: []mvcc.Op{{Put: &mvcc.PutRequest{Key: []byte("d")}}}})
			return err
		}),
		accepted(func() error { _, err := s.LeaseRevoke(ctx, 1, nil); return err }),
		accepted(func() error { _, err := s.Compact(ctx, 3, true); return err }))
	refused(grows)()
	accepted(del("b"))()
	var keys []string
	for _, kv := range everything(t, s) {
		keys = append(keys, string(kv.Key))
	}
	if diff := cmp.Diff([]string(nil), keys); diff != "" {
		t.Fatal(diff)
	}
	d.full.Store(false)
	accepted(grows)()
	s.RefuseGrowth(true)
	refused(grows)()
	accepted(del("c"))()
	check(t, e, s, nil, true).checkReads(s, 1)
}

// TestLargeValues takes values of many chunks through every way they can be read.
func TestLargeValues(t *testing.T) {
	for _, v := range []variant{{"dense", pebble.Options{}, mvcc.Options{}}, {"fdb", fdb, mvcc.Options{Shift: 2}}} {
		t.Run(v.name, func(t *testing.T) {
			e := openEngine(t, v.engine)
			var f feed
			s := openFed(t, e, v.store, &f)
			r := rand.New(rand.NewPCG(seed(t), 1))
			random := func(n int) string {
				b := make([]byte, n)
				for i := 0; i < n; i += 1 + r.IntN(1000) {
					b[i] = byte(r.IntN(256))
				}
				return string(b)
			}
			chunk := s.Meta().ChunkBytes
			var revs []int64
			var values []string
			for _, n := range []int{0, 3 << 19, 1, 3_300_000, chunk, chunk + 1, chunk - 1, 2 * chunk, 512, 513} {
				values = append(values, random(n))
				revs = append(revs, put(t, s, "big", values[len(values)-1]))
				put(t, s, "bigger", random(n))
			}
			res, err := s.DeleteRange(t.Context(), &mvcc.DeleteRequest{Key: []byte("big"), PrevKV: true})
			if err != nil || string(res.Prev[0].Value) != values[len(values)-1] {
				t.Fatal(err)
			}
			for i, rev := range revs {
				for _, end := range []string{"", "big\x00"} {
					kvs, _ := collect(t, s, &mvcc.RangeRequest{Key: []byte("big"), End: []byte(end), Rev: rev})
					if len(kvs) != 1 || string(kvs[0].Value) != values[i] || kvs[0].Mod != rev {
						t.Fatalf("%d bytes at %d, end %q: %d results", len(values[i]), rev, end, len(kvs))
					}
				}
			}
			waitFor(t, func() bool { return f.reached(res.Rev) })
			log, _, err := s.ReadLog(t.Context(), 0, 1000, 1<<30)
			if err != nil {
				t.Fatal(err)
			}
			log = whole(s, log)
			fed := f.all()
			if len(log) != len(fed) {
				t.Fatalf("%d entries, %d fed", len(log), len(fed))
			}
			for i := range log {
				a, b := log[i].Events[0], fed[i].Events[0]
				if log[i].Rev != fed[i].Rev || !bytes.Equal(a.KV.Value, b.KV.Value) ||
					!bytes.Equal(a.Prev.Value, b.Prev.Value) {
					t.Fatalf("entry %d at %d", i, log[i].Rev)
				}
			}
			check(t, e, s, nil, false).checkReads(s, 1)
		})
	}
}

// TestCancelled: a request whose context ends while it waits answers at once and is not run.
func TestCancelled(t *testing.T) {
	g, e := newGate(openEngine(t, pebble.Options{}))
	s := open(t, e, mvcc.Options{})
	ctx, cancel := context.WithCancel(t.Context())
	answered := make(chan error, 1)
	g.group(t, s,
		func() {
			_, err := s.Put(ctx, &mvcc.PutRequest{Key: []byte("a"), Value: []byte("never")})
			answered <- err
		},
		func() { put(t, s, "b", "") },
		func() {
			cancel()
			if err := <-answered; !errors.Is(err, context.Canceled) { // while the lane is held
				t.Error(err)
			}
			var wg sync.WaitGroup // the first has left the queue
			wg.Go(func() { put(t, s, "c", "") })
			put(t, s, "d", "")
			wg.Wait()
		})
	if kvs := everything(t, s); len(kvs) != 4 || string(kvs[0].Key) != "b" {
		t.Fatalf("%+v", kvs)
	}
}

// TestQueueIsBounded: a full queue refuses at once.
func TestQueueIsBounded(t *testing.T) {
	g, e := newGate(openEngine(t, pebble.Options{}))
	s := open(t, e, mvcc.Options{QueueMax: 2})
	waits := func(key string) func() { return func() { put(t, s, key, "") } }
	g.group(t, s, waits("a"), func() {
		put(t, s, "b", "")
		put(t, s, "c", "") // there is room again
	})
	refused := false
	g.queued = func() {
		refused = true
		if _, err := s.Put(t.Context(), &mvcc.PutRequest{Key: []byte("d")}); !errors.Is(err, mvcc.ErrTooManyRequests) {
			t.Errorf("the third of two: %v", err)
		}
	}
	g.group(t, s, waits("a"), waits("b"))
	if !refused {
		t.Error("nobody has tried")
	}
}

// TestNextGroup: a request that reads at the revision that one before it in its group will make is answered as if it
// had come later.
func TestNextGroup(t *testing.T) {
	g, e := newGate(openEngine(t, pebble.Options{}))
	s := open(t, e, mvcc.Options{})
	ctx := t.Context()
	put(t, s, "a", "old") // 2; the gate is 3
	read := func(rev int64, want string, at int64) func() {
		return func() {
			res, err := s.Txn(ctx, &mvcc.TxnRequest{Success: []mvcc.Op{{Put: &mvcc.PutRequest{Key: fmt.Appendf(nil, "t%d", at)}}, {Range: &mvcc.RangeRequest{Key: []byte("a"), Rev: rev}}}})
			if err != nil || res.Rev != at || len(res.Ops[1].KVs) != 1 || string(res.Ops[1].KVs[0].Value) != want {
				t.Errorf("at %d: %+v, %v", rev, res, err)
			}
		}
	}
	g.group(t, s,
		func() { put(t, s, "a", "new") }, // 4
		read(2, "old", 5),
		read(4, "new", 6),
		func() {
			if _, err := s.Txn(ctx, &mvcc.TxnRequest{Success: []mvcc.Op{
				{Put: &mvcc.PutRequest{Key: []byte("x")}}, {Range: &mvcc.RangeRequest{Key: []byte("a"), Rev: 8}},
			}}); !errors.Is(err, mvcc.ErrFutureRevision) {
				t.Errorf("a future revision: %v", err)
			}
		},
		func() { put(t, s, "a", "newest") }, // 7
		func() {
			if _, err := s.Compact(ctx, 7, true); err != nil {
				t.Errorf("compaction at the group's own revision: %v", err)
			}
		},
		func() {
			if _, err := s.Txn(ctx, &mvcc.TxnRequest{Success: []mvcc.Op{
				{Put: &mvcc.PutRequest{Key: []byte("x")}}, {Range: &mvcc.RangeRequest{Key: []byte("a"), Rev: 6}},
			}}); !errors.Is(err, mvcc.ErrCompacted) {
				t.Errorf("a compacted revision: %v", err)
			}
		},
		read(7, "newest", 8))
	check(t, e, s, nil, true).checkReads(s, 1)
}

// TestFence: a lease owner that has been deposed revokes nothing, whatever is on its way.
func TestFence(t *testing.T) {
	for _, v := range []variant{{"dense", pebble.Options{}, mvcc.Options{}}, {"fdb", fdb, mvcc.Options{Shift: 2}}} {
		t.Run(v.name, func(t *testing.T) {
			g, e := newGate(openEngine(t, v.engine))
			s, ctx := open(t, e, v.store), t.Context()
			for id := range int64(3) {
				if _, err := s.LeaseGrant(ctx, id+1, 5, nil); err != nil {
					t.Fatal(err)
				}
				if _, err := s.Put(ctx,
					&mvcc.PutRequest{Key: fmt.Appendf(nil, "k%d", id+1), Lease: id + 1}); err != nil {
					t.Fatal(err)
				}
			}
			old, err := s.ClaimLeases(ctx, 0)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := s.LeaseRevoke(ctx, 1, &old); err != nil {
				t.Fatal(err)
			}
			// The old owner's revoke waits while the new one takes over.
			var fresh mvcc.Fence
			g.group(t, s, func() {
				if _, err := s.LeaseRevoke(ctx, 2, &old); !errors.Is(err, mvcc.ErrFenced) {
					t.Errorf("a revoke by the old owner: %v", err)
				}
			}, func() {
				var err error
				if fresh, err = s.ClaimLeases(ctx, 0); err != nil {
					t.Error(err)
				}
				put(t, s, "after", "")
			})
			if _, err := s.LeaseRevoke(ctx, 2, &old); !errors.Is(err, mvcc.ErrFenced) {
				t.Fatal(err)
			}
			if _, err := s.LeaseRevoke(ctx, 2, &fresh); err != nil {
				t.Fatal(err)
			}
			if _, err := s.LeaseRevoke(ctx, 3, nil); err != nil { // a client's own revoke needs no fence
				t.Fatal(err)
			}
			if _, err := s.LeaseRevoke(ctx, 3, &fresh); !errors.Is(err, mvcc.ErrLeaseNotFound) {
				t.Fatal(err)
			}
			check(t, e, s, nil, false)
		})
	}
}
