package mvcc_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sort"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/headwaterdb/headwater/libs/engine"
	"github.com/headwaterdb/headwater/libs/engine/faults"
	"github.com/headwaterdb/headwater/libs/engine/pebble"
	follow "github.com/headwaterdb/headwater/libs/feed"
	"github.com/headwaterdb/headwater/libs/mvcc"
	"github.com/headwaterdb/headwater/libs/revlog"
)

// feed collects what a Store feeds.
type feed struct {
	mu      sync.Mutex
	s       *mvcc.Store // where values are read that are not in the entries
	entries []revlog.Entry
	stop    func() // ends the follower, if there is one
}

// openFed opens a Store whose entries f gets: from its lane if that can feed, else by following the log, and then
// nothing is removed from under the follower. A feed that has followed a Store before gets what is new in the next.
func openFed(t *testing.T, e engine.Store, o mvcc.Options, f *feed) *mvcc.Store {
	t.Helper()
	if o.Lanes <= 1 && e.Limits().Pipelined {
		o.Feed, f.stop = f.add, func() {}
		return f.reads(open(t, e, o))
	}
	o.NoRemoval = true
	s := f.reads(open(t, e, o))
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	f.stop = func() {
		cancel()
		wg.Wait()
	}
	resets := 0
	follower := follow.NewFollower(s, nil, follow.FollowerOptions{
		Reset: func(position int64) {
			if resets++; resets > 1 {
				t.Errorf("history lost up to %d", position)
			}
		},
		Apply: func(ps []revlog.Payload) { f.addNew(decoded(t, s, ps)) },
	})
	wg.Go(func() {
		if err := follower.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(f.stop) // before the Store is closed
	<-follower.Ready()
	return s
}

// decoded are the entries that a follower hands out.
func decoded(t *testing.T, s *mvcc.Store, ps []revlog.Payload) (entries []revlog.Entry) {
	for _, p := range ps {
		e, err := s.Parse(p)
		if err != nil {
			t.Error(err)
		}
		entries = append(entries, e)
	}
	return entries
}

// reads makes s the Store that values are read from.
func (f *feed) reads(s *mvcc.Store) *mvcc.Store {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.s = s
	return s
}

func (f *feed) add(e []revlog.Entry) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.entries = append(f.entries, whole(f.s, e)...)
}

// whole returns copies of entries with all values in them, as a watcher with prev_kv is sent them.
func whole(s *mvcc.Store, entries []revlog.Entry) []revlog.Entry {
	entries = slices.Clone(entries)
	for i := range entries {
		entries[i].Events = slices.Clone(entries[i].Events)
	}
	for err := s.Fill(context.Background(), entries); err != nil; err = s.Fill(context.Background(), entries) {
		if !errors.Is(err, mvcc.ErrUnavailable) {
			panic(err)
		}
	}
	for i := range entries {
		for j := range entries[i].Events {
			for _, kv := range []*mvcc.KV{&entries[i].Events[j].KV, &entries[i].Events[j].Prev} {
				kv.Place, kv.Size = revlog.PlaceInline, 0
			}
		}
	}
	return entries
}

// addNew leaves out what a follower's window repeats.
func (f *feed) addNew(e []revlog.Entry) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if n := len(f.entries); n > 0 {
		last := f.entries[n-1].Rev
		e = e[sort.Search(len(e), func(i int) bool { return e[i].Rev > last }):]
	}
	f.entries = append(f.entries, whole(f.s, e)...)
}

func (f *feed) all() []revlog.Entry {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.entries)
}

func (f *feed) reached(rev int64) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.entries) > 0 && f.entries[len(f.entries)-1].Rev >= rev
}

// ledger is what the clients of a workload know.
type ledger struct {
	mu      sync.Mutex
	acked   map[string]int64 // value put → revision of the answer
	unknown map[string]bool  // values of puts whose outcome is not known
	deletes map[int64]int64  // revision → keys deleted
}

func newLedger() *ledger {
	return &ledger{acked: map[string]int64{}, unknown: map[string]bool{}, deletes: map[int64]int64{}}
}

// client makes requests at random, all on the same few keys.
type client struct {
	t  *testing.T
	s  *mvcc.Store
	r  *rand.Rand
	l  *ledger
	id string
	n  int
}

func (c *client) value() []byte {
	c.n++
	v := fmt.Appendf(nil, "%s-%d-", c.id, c.n)
	return append(v, bytes.Repeat([]byte{'x'}, c.r.IntN(3)*c.r.IntN(120))...)
}

func (c *client) key() []byte { return keyPool[c.r.IntN(len(keyPool))] }

func (c *client) note(value []byte, res *mvcc.Result, err error) {
	c.l.mu.Lock()
	defer c.l.mu.Unlock()
	switch {
	case err == nil:
		c.l.acked[string(value)] = res.Rev
	case errors.Is(err, mvcc.ErrUnavailable):
		c.l.unknown[string(value)] = true
	case errors.Is(err, mvcc.ErrLeaseNotFound):
	default:
		c.t.Errorf("put: %v", err)
	}
}

func (c *client) noteDelete(rev, n int64, err error) {
	c.l.mu.Lock()
	defer c.l.mu.Unlock()
	switch {
	case err == nil && n > 0:
		c.l.deletes[rev] += n
	case err != nil && !errors.Is(err, mvcc.ErrLeaseNotFound) && !errors.Is(err, mvcc.ErrUnavailable):
		c.t.Errorf("delete: %v", err)
	}
}

func (c *client) step(ctx context.Context) {
	switch n := c.r.IntN(22); {
	case n < 9:
		p := &mvcc.PutRequest{Key: c.key(), Value: c.value()}
		if c.r.IntN(3) == 0 {
			p.Lease = int64(c.r.IntN(3) + 1)
		}
		res, err := c.s.Put(ctx, p)
		c.note(p.Value, res, err)
	case n < 11:
		d := &mvcc.DeleteRequest{Key: c.key()}
		if c.r.IntN(2) == 0 {
			d.End = c.key()
		}
		res, err := c.s.DeleteRange(ctx, d)
		if err != nil {
			res = &mvcc.Result{}
		}
		c.noteDelete(res.Rev, res.Deleted, err)
	case n < 15:
		v := c.value()
		k := c.key()
		res, err := c.s.Txn(ctx, &mvcc.TxnRequest{
			Compares: []mvcc.Compare{{Key: c.key(), End: []byte{0}, Target: mvcc.CompareVersion, Result: mvcc.Less, Int: int64(c.r.IntN(20))}},
			Success:  []mvcc.Op{{Put: &mvcc.PutRequest{Key: k, Value: v}}, {Range: &mvcc.RangeRequest{Key: k}}},
			Failure:  []mvcc.Op{{Range: &mvcc.RangeRequest{Key: []byte{0}, End: []byte{0}, Limit: 3}}, {Put: &mvcc.PutRequest{Key: k, Value: v, PrevKV: true}}},
		})
		c.note(v, res, err)
	case n < 18:
		before, err := c.s.Head(ctx)
		if err != nil {
			return
		}
		info, err := c.s.Range(ctx, &mvcc.RangeRequest{Key: c.key(), End: []byte{0}, Rev: before},
			func(kv *mvcc.KV) error {
				if kv.Mod > before {
					c.t.Errorf("a range at %d shows %d", before, kv.Mod)
				}
				return nil
			})
		if err == nil && info.Rev < before {
			c.t.Errorf("head %d after %d", info.Rev, before)
		} else if err != nil && !errors.Is(err, mvcc.ErrUnavailable) && !errors.Is(err, mvcc.ErrCompacted) {
			c.t.Errorf("range: %v", err)
		}
	case n == 18:
		if _, err := c.s.LeaseGrant(ctx, int64(c.r.IntN(3)+1), 60, nil); err != nil &&
			!errors.Is(err, mvcc.ErrLeaseExists) && !errors.Is(err, mvcc.ErrUnavailable) {
			c.t.Errorf("grant: %v", err)
		}
	case n == 19:
		_, err := c.s.LeaseRevoke(ctx, int64(c.r.IntN(3)+1), nil)
		c.noteDelete(0, 0, err)
	case n == 20 && c.r.IntN(4) == 0:
		head, err := c.s.Head(ctx)
		if err != nil {
			return
		}
		if _, err := c.s.Compact(ctx, head-int64(c.r.IntN(30)), false); err != nil &&
			!errors.Is(err, mvcc.ErrCompacted) && !errors.Is(err, mvcc.ErrUnavailable) {
			c.t.Errorf("compact: %v", err)
		}
	}
}

// settle checks the ledger against the log as fed: no request is lost or done twice (I5), each at the revision of its
// answer.
func (l *ledger) settle(t *testing.T, entries []revlog.Entry) {
	t.Helper()
	seen, deleted := map[string]int64{}, map[int64]int64{}
	for i, e := range entries {
		if i > 0 && e.Rev <= entries[i-1].Rev {
			t.Fatalf("revision %d after %d", e.Rev, entries[i-1].Rev)
		}
		for _, ev := range e.Events {
			if ev.Delete {
				deleted[e.Rev]++
				continue
			}
			v := string(ev.KV.Value)
			if seen[v] != 0 {
				t.Errorf("%.20q was put at %d and at %d", v, seen[v], e.Rev)
			}
			seen[v] = e.Rev
			if l.acked[v] == 0 && !l.unknown[v] {
				t.Errorf("%.20q at %d is nobody's", v, e.Rev)
			}
		}
	}
	for v, rev := range l.acked {
		if seen[v] != rev {
			t.Errorf("%.20q was acknowledged at %d, the log has it at %d", v, rev, seen[v])
		}
	}
	for rev, n := range l.deletes {
		if deleted[rev] != n {
			t.Errorf("%d keys deleted at %d, the log has %d", n, rev, deleted[rev])
		}
	}
}

func badDays(seed uint64) faults.Options {
	return faults.Options{
		Seed: seed, Conflict: .1, UnknownLost: .06, UnknownCommitted: .06, TooOld: .002, Unavailable: .0005,
	}
}

func faultVariants() []variant {
	return []variant{
		{"dense", pebble.Options{}, mvcc.Options{ChunkBytes: 50, InlineBytes: 20}},
		{"dense, 3 lanes", pebble.Options{}, mvcc.Options{Lanes: 3, GroupMax: 4}},
		{"fdb, 4 lanes", pebble.Options{FDBLimits: true, Sparse: true, NotPipelined: true}, mvcc.Options{Lanes: 4, Shift: 3, InlineBytes: 8, ChunkBytes: 64, Prefix: []byte{0, 'p'}}},
		{"dense, from format 1", pebble.Options{}, mvcc.Options{ChunkBytes: 50, InlineBytes: 20, NoFeatures: true}},
		{"fdb, from format 1", pebble.Options{FDBLimits: true, Sparse: true, NotPipelined: true}, mvcc.Options{Lanes: 3, InlineBytes: 8, ChunkBytes: 64, NoFeatures: true}},
		{"sparse, no index bits", pebble.Options{Sparse: true, NotPipelined: true}, mvcc.Options{Lanes: 2, GroupMax: 1}},
	}
}

// TestBadDays runs clients over an engine with every fault and over restarts, then checks that their requests were
// neither lost nor repeated, that the feed is whole, that the rows are sound, and that every readable revision reads
// right.
func TestBadDays(t *testing.T) {
	for _, v := range faultVariants() {
		t.Run(v.name, func(t *testing.T) {
			seed := seed(t)
			v.engine.Seed = seed
			e := faults.New(openEngine(t, v.engine), badDays(seed))
			l := newLedger()
			var f feed
			var conflicts, retries int64
			for run := range 3 {
				e.Pause(true)
				dense := e.Limits().Dense
				if run > 0 && dense && v.store.NoFeatures {
					v.store.Activate = mvcc.FeaturesAll
				}
				s := openFed(t, e, v.store, &f)
				e.Pause(false)
				var wg sync.WaitGroup
				if run == 1 && !dense && v.store.NoFeatures { // under way
					wg.Go(func() { activate(t, s) })
				}
				for c := range 6 {
					wg.Go(func() {
						c := client{
							t: t, s: s, l: l, r: rand.New(rand.NewPCG(seed, uint64(run*100+c))), id: fmt.Sprint(run, c),
						}
						for range 60 {
							c.step(t.Context())
						}
					})
				}
				wg.Wait()
				e.Pause(true)
				conflicts += s.Usage().Conflicts.Load()
				retries += s.Usage().Retries.Load()
				head, err := s.Head(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				waitFor(t, func() bool { return f.reached(head) })
				f.stop()
				if err := s.Close(); err != nil { // removal is cut off wherever it is
					t.Fatal(err)
				}
			}
			l.settle(t, f.all())
			s := open(t, e, v.store)
			head, err := s.Head(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if entries := f.all(); s.CompactRevision() < head {
				target := max(entries[len(entries)*3/4].Rev, s.CompactRevision()+1)
				if _, err := s.Compact(t.Context(), target, true); err != nil {
					t.Fatal(err)
				}
			}
			waitFor(t, func() bool { return removedUpTo(t, e, v.store.Prefix) == s.CompactRevision() })
			k := check(t, e, s, v.store.Prefix, true)
			k.checkReads(s, 1)
			t.Logf("%d entries, head %d, compacted %d, %d conflicts, %d retries, %d unknown", len(f.all()),
				head, k.Compact, conflicts, retries, len(l.unknown))
		})
	}
}

// activate makes a keyspace write values once, however often the engine fails.
func activate(t *testing.T, s *mvcc.Store) {
	for {
		err := s.Activate(t.Context(), mvcc.FeatureValues)
		if err == nil {
			return
		}
		if !errors.Is(err, mvcc.ErrUnavailable) {
			t.Error(err)
			return
		}
	}
}

func openQuietly(t *testing.T, e *faults.Store, o mvcc.Options) *mvcc.Store {
	t.Helper()
	e.Pause(true)
	s := open(t, e, o)
	e.Pause(false)
	return s
}

// removedUpTo reads the cursor of the removal.
func removedUpTo(t testing.TB, e engine.Store, prefix []byte) int64 {
	t.Helper()
	snap, err := e.Snapshot(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	defer snap.Close()
	b, err := snap.Get(context.Background(), append(bytes.Clone(prefix), "mcompacted"...))
	if err != nil {
		t.Fatal(err)
	}
	rev := int64(-1)
	for i, c := range b {
		if i == 0 {
			rev = 0
		}
		rev = rev<<8 | int64(c)
	}
	return rev
}

// TestUnknownOutcomes: a counter's version is the number of its successful puts, whatever became of each commit.
func TestUnknownOutcomes(t *testing.T) {
	for _, fault := range []faults.Fault{
		faults.Conflict, faults.LateConflict, faults.UnknownLost, faults.UnknownCommitted, faults.TooOld,
		faults.Unavailable,
	} {
		for _, v := range faultVariants()[:3] {
			t.Run(fmt.Sprint(fault, " ", v.name), func(t *testing.T) {
				t.Parallel()
				var n atomic.Int64
				e := faults.New(openEngine(t, v.engine),
					faults.Options{Script: func(c faults.Call) (faults.Fault, bool) {
						if c.Op != faults.Commit {
							return faults.None, true
						}
						k := n.Add(1)
						// A lane bears 8 times that nobody is there.
						if k%3 == 0 || fault == faults.Unavailable && k > 12 {
							return faults.None, true
						}
						return fault, true // two in a row
					}})
				s := openQuietly(t, e, v.store)
				var wg sync.WaitGroup
				const clients, puts = 4, 5
				for range clients {
					wg.Go(func() {
						for range puts {
							put(t, s, "counter", "v")
							if _, err := s.LeaseGrant(t.Context(), rand.Int64(), 1, nil); err != nil {
								t.Error(err)
							}
						}
					})
				}
				wg.Wait()
				kvs, _ := collect(t, s, &mvcc.RangeRequest{Key: []byte("counter")})
				if len(kvs) != 1 || kvs[0].Version != clients*puts {
					t.Fatalf("%+v", kvs)
				}
				leases := 0
				if err := s.Leases(t.Context(), func(int64, int64) error {
					leases++
					return nil
				}); err != nil || leases != clients*puts {
					t.Fatal(leases, err)
				}
				if s.Usage().Retries.Load() == 0 && fault != faults.UnknownCommitted {
					t.Error("no fault was met")
				}
			})
		}
	}
}

// TestUnavailable: requests fail in bounded time, and work again afterwards without a restart.
func TestUnavailable(t *testing.T) {
	t.Parallel()
	e := faults.New(openEngine(t, pebble.Options{}), faults.Options{Unavailable: 1})
	s := openQuietly(t, e, mvcc.Options{})
	e.Pause(true)
	put(t, s, "a", "1")
	e.Pause(false)
	if _, err := s.Put(t.Context(),
		&mvcc.PutRequest{Key: []byte("a"), Value: []byte("2")}); !errors.Is(err, mvcc.ErrUnavailable) {
		t.Fatal(err)
	}
	if _, err := s.Head(t.Context()); !errors.Is(err, mvcc.ErrUnavailable) {
		t.Fatal(err)
	}
	if _, err := s.Range(t.Context(), &mvcc.RangeRequest{Key: []byte("a")}, nil); !errors.Is(err, mvcc.ErrUnavailable) {
		t.Fatal(err)
	}
	e.Pause(true)
	if rev := put(t, s, "a", "3"); rev != 3 {
		t.Fatal(rev)
	}
}

// TestLongLists: a list whose read version is lost over and over is complete and as of one revision while writers go
// on, with limits and without, and its count too.
func TestLongLists(t *testing.T) {
	for _, v := range faultVariants()[:3] {
		t.Run(v.name, func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed(t), 5))
			e := faults.New(openEngine(t, v.engine), faults.Options{Seed: r.Uint64(), TooOld: .05})
			s := openQuietly(t, e, v.store)
			const keys = 120
			for i := range keys {
				put(t, s, fmt.Sprintf("k%03d", i), fmt.Sprint(i, string(bytes.Repeat([]byte("v"), i))))
			}
			for _, req := range []mvcc.RangeRequest{
				{},
				{KeysOnly: true},
				{Limit: 50},
				{CountOnly: true},
				{Order: mvcc.SortDescend},
				{Target: mvcc.SortByValue, Order: mvcc.SortAscend, Limit: 20},
			} {
				for _, old := range []bool{false, true} {
					req.Key, req.End, req.Rev = []byte("k"), []byte("l"), 0
					e.Pause(true)
					head, err := s.Head(t.Context())
					if err != nil {
						t.Fatal(err)
					}
					if old {
						req.Rev = head
						put(t, s, "k050", fmt.Sprint("newer", head))
					}
					want, wantInfo := collect(t, s, &req)
					e.Pause(false)
					seen := 0
					var got []mvcc.KV
					info, err := s.Range(t.Context(), &req, func(kv *mvcc.KV) error {
						got = append(got, mvcc.KV{
							Key: bytes.Clone(kv.Key), Value: bytes.Clone(kv.Value), Create: kv.Create, Mod: kv.Mod,
							Version: kv.Version, Lease: kv.Lease,
						})
						if seen++; seen%10 == 0 { // before and behind the scan
							put(t, s, fmt.Sprintf("k%03d", r.IntN(keys)),
								fmt.Sprint("again", seen, req.Limit, old, head))
							put(t, s, fmt.Sprintf("k%03dnew%d", r.IntN(keys), seen), "new")
							if _, err := s.DeleteRange(t.Context(),
								&mvcc.DeleteRequest{Key: fmt.Appendf(nil, "k%03d", r.IntN(keys))}); err != nil {
								t.Error(err)
							}
						}
						return nil
					})
					if errors.Is(err, mvcc.ErrUnavailable) {
						continue // nine read versions lost in a row
					}
					if err != nil {
						t.Fatal(err)
					}
					if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
						t.Fatalf("%+v: (-want +got)\n%s", req, diff)
					}
					wantInfo.Rev = info.Rev // the head, which moves on with a range that begins anew
					if diff := cmp.Diff(wantInfo, info); diff != "" {
						t.Fatalf("%+v: %s", req, diff)
					}
				}
			}
		})
	}
}

// TestNothingIsVisitedTwice: a list that has handed out its page does not start over when counting what is left loses
// its read version for good.
func TestNothingIsVisitedTwice(t *testing.T) {
	var armed atomic.Bool
	e := faults.New(openEngine(t, pebble.Options{}), faults.Options{Script: func(c faults.Call) (faults.Fault, bool) {
		if armed.Load() && (c.Op == faults.Next || c.Op == faults.Scan) {
			return faults.TooOld, true
		}
		return faults.None, true
	}})
	s := open(t, e, mvcc.Options{})
	for i := range 6 {
		put(t, s, fmt.Sprint("k", i), "v")
	}
	var got []string
	_, err := s.Range(t.Context(), &mvcc.RangeRequest{Key: []byte("k"), End: []byte("l"), Limit: 3},
		func(kv *mvcc.KV) error {
			got = append(got, string(kv.Key))
			armed.Store(len(got) == 3)
			return nil
		})
	if diff := cmp.Diff([]string{"k0", "k1", "k2"}, got); diff != "" || !errors.Is(err, mvcc.ErrUnavailable) {
		t.Fatal(diff, err)
	}
}
