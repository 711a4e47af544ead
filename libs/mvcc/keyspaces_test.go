package mvcc_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/headwaterdb/headwater/libs/engine"
	"github.com/headwaterdb/headwater/libs/engine/faults"
	"github.com/headwaterdb/headwater/libs/engine/pebble"
	"github.com/headwaterdb/headwater/libs/mvcc"
	"github.com/headwaterdb/headwater/libs/revlog"
)

// prefixes are those of keyspaces that share an engine; the first is what a store with one keyspace has.
var prefixes = []string{"", "\xff\x01\x01d", "\xff\x01\x02d"}

// facts are what a keyspace tells of itself after the same requests, whoever else is in its engine.
type facts struct {
	Head, Compact, Live int64
	Hashes              []uint32 // by revision, 0 for those that cannot be read
	Log                 []revlog.Entry
}

func factsOf(t *testing.T, s *mvcc.Store) (f facts) {
	t.Helper()
	var err error
	if f.Head, err = s.Head(t.Context()); err != nil {
		t.Fatal(err)
	}
	f.Compact, f.Live = s.CompactRevision(), s.LiveBytes()
	for rev := int64(1); rev <= f.Head; rev++ {
		h, _, _, _, err := s.HashKV(t.Context(), rev)
		if err != nil && !errors.Is(err, mvcc.ErrCompacted) {
			t.Fatal(err)
		}
		f.Hashes = append(f.Hashes, h)
	}
	log, _, err := s.ReadLog(t.Context(), max(f.Compact, 0), 1<<20, 1<<30)
	if err != nil {
		t.Fatal(err)
	}
	f.Log = whole(s, log)
	return f
}

// TestKeyspacesSideBySide: keyspaces that share an engine answer every request as one that is alone does: with the same
// revisions, live bytes, hashes and history. Each is driven by random requests, and so is a twin with an engine of
// its own.
func TestKeyspacesSideBySide(t *testing.T) {
	seed := seed(t)
	shared := openEngine(t, pebble.Options{})
	driven := func(e engine.Store, i int, prefix string) *driver {
		o := mvcc.Options{Prefix: []byte(prefix), InlineBytes: 3, ChunkBytes: 70}
		s := open(t, e, o)
		return &driver{t: t, r: rand.New(rand.NewPCG(seed, uint64(i))), s: s, m: newModel(1), e: e, o: o}
	}
	var among, alone []*driver
	for i, prefix := range prefixes {
		among = append(among, driven(shared, i, prefix))
		alone = append(alone, driven(openEngine(t, pebble.Options{}), i, prefix))
	}
	steps := 400
	if testing.Short() {
		steps = 50 // one request at a time: there is little here for the race detector
	}
	turns := rand.New(rand.NewPCG(seed, 99))
	for range steps * len(prefixes) {
		i := turns.IntN(len(prefixes))
		among[i].step()
		alone[i].step()
	}
	for i, prefix := range prefixes {
		for _, d := range []*driver{among[i], alone[i]} {
			put(t, d.s, "last", "x") // so that there is something to compact
			head, err := d.s.Head(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if want := int64(len(d.m.revs)) + 1; head != want {
				t.Errorf("%q: head %d after %d changes", prefix, head, want-1)
			}
			if _, err := d.s.Compact(t.Context(), max(d.m.compact+1, head/2), true); err != nil {
				t.Fatal(err)
			}
			check(t, d.e, d.s, d.o.Prefix, true).checkReads(d.s, 1)
		}
		if diff := cmp.Diff(factsOf(t, alone[i].s), factsOf(t, among[i].s)); diff != "" {
			t.Errorf("keyspace %q (-alone +among others):\n%s", prefix, diff)
		}
	}
}

// TestKeyspacesFeed: each of several keyspaces in one engine is fed its own log, dense and in order, under concurrent
// writers of all; and leases of the same id are different ones.
func TestKeyspacesFeed(t *testing.T) {
	e := openEngine(t, pebble.Options{})
	const clients, puts = 4, 50
	var feeds [3]feed
	var stores [3]*mvcc.Store
	for i, prefix := range prefixes {
		stores[i] = openFed(t, e, mvcc.Options{Prefix: []byte(prefix)}, &feeds[i])
		if _, err := stores[i].LeaseGrant(t.Context(), 7, 10, nil); err != nil {
			t.Fatal(err)
		}
	}
	var wg sync.WaitGroup
	for i, s := range stores {
		for c := range clients {
			wg.Go(func() {
				for n := range puts {
					p := &mvcc.PutRequest{Key: fmt.Appendf(nil, "%d-%d", c, n%7), Value: []byte(prefixes[i]), Lease: 7}
					if _, err := s.Put(t.Context(), p); err != nil {
						t.Error(err)
					}
				}
			})
		}
	}
	wg.Wait()
	if _, err := stores[0].LeaseRevoke(t.Context(), 7, nil); err != nil {
		t.Fatal(err)
	}
	for i, s := range stores {
		last := int64(1 + clients*puts)
		if i == 0 {
			last++ // the revocation
		}
		waitFor(t, func() bool { return feeds[i].reached(last) })
		for n, entry := range feeds[i].all() {
			if entry.Rev != int64(n+2) {
				t.Fatalf("keyspace %d: entry %d has revision %d", i, n, entry.Rev)
			}
			if v := entry.Events[0].KV.Value; !entry.Events[0].Delete && string(v) != prefixes[i] {
				t.Fatalf("keyspace %d was fed %q", i, v)
			}
		}
		check(t, e, s, []byte(prefixes[i]), false)
	}
	if keys, _, err := stores[1].LeaseKeys(t.Context(), 7); err != nil || len(keys) != clients*7 {
		t.Errorf("%d keys are left on another keyspace's lease, %v", len(keys), err)
	}
}

// TestKeyspacesLimits: a quota that is used up, damage and sizes are a keyspace's own.
func TestKeyspacesLimits(t *testing.T) {
	e := faults.New(openEngine(t, pebble.Options{}), faults.Options{KeepPipelined: true})
	var over, damaged [3]atomic.Int64
	var stores [3]*mvcc.Store
	for i, prefix := range prefixes {
		stores[i] = open(t, e, mvcc.Options{
			Prefix: []byte(prefix), Quota: 20_000,
			OverQuota: func() { over[i].Add(1) }, OnDamage: func(error) { damaged[i].Add(1) },
		})
		put(t, stores[i], "k", "v")
	}
	full := &mvcc.PutRequest{Key: []byte("large"), Value: bytes.Repeat([]byte("x"), 20_000)}
	if _, err := stores[1].Put(t.Context(), full); !errors.Is(err, mvcc.ErrNoSpace) {
		t.Errorf("over the quota: %v", err)
	}
	for range 3 {
		put(t, stores[2], "other", strings.Repeat("y", 5_000))
	}
	if over[0].Load() != 0 || over[1].Load() != 1 || over[2].Load() != 0 {
		t.Error("another keyspace was told that the quota is used up")
	}
	if a, b := stores[1].LiveBytes(), stores[2].LiveBytes(); a > 500 || b < 15_000 {
		t.Errorf("live bytes %d and %d", a, b)
	}
	e.Damage([]byte(prefixes[1]), []byte(prefixes[1]+"\xff"))
	if _, err := stores[1].Range(t.Context(), &mvcc.RangeRequest{Key: []byte("k")},
		func(*mvcc.KV) error { return nil }); !errors.Is(err, mvcc.ErrCorrupt) {
		t.Errorf("damaged: %v", err)
	}
	for _, i := range []int{0, 2} {
		put(t, stores[i], "k", "w")
		collect(t, stores[i], &mvcc.RangeRequest{Key: []byte("k")})
	}
	if damaged[0].Load() != 0 || damaged[1].Load() == 0 || damaged[2].Load() != 0 {
		t.Errorf("damage was reported to %d, %d, %d", damaged[0].Load(), damaged[1].Load(), damaged[2].Load())
	}
}

// TestKeyspaceSizes: what a keyspace says of its size on disk does not tell of others.
func TestKeyspaceSizes(t *testing.T) {
	e := openEngine(t, pebble.Options{})
	a, b := open(t, e, mvcc.Options{Prefix: []byte(prefixes[1])}), open(t, e, mvcc.Options{Prefix: []byte(prefixes[2])})
	put(t, a, "k", "v")
	for i := range 50 {
		put(t, b, fmt.Sprint(i), strings.Repeat("x", 100_000))
	}
	if err := b.Defragment(t.Context()); err != nil {
		t.Fatal(err)
	}
	total, inUse := a.Sizes()
	if total < inUse || inUse != a.LiveBytes() || total > 10_000 {
		t.Errorf("sizes %d, %d; live %d", total, inUse, a.LiveBytes())
	}
	if total, inUse := b.Sizes(); total < inUse || inUse < 5_000_000 {
		t.Errorf("sizes of the other: %d, %d", total, inUse)
	}
}

// TestStoreSizes: a store that is one keyspace has the size of its files, and no less than what is live, whether that
// is in memory still or compressed in tables.
func TestStoreSizes(t *testing.T) {
	e := openEngine(t, pebble.Options{})
	s := open(t, e, mvcc.Options{})
	const size = 5_000_000
	put(t, s, "k", strings.Repeat("x", size))
	sizes := func(when string) {
		t.Helper()
		files, _ := e.(mvcc.Sizer).Sizes()
		total, inUse := s.Sizes()
		if inUse < size || total < inUse || total < files || files == 0 {
			t.Errorf("%s: sizes %d, %d; files %d", when, total, inUse, files)
		}
	}
	sizes("in memory")
	if err := s.Defragment(t.Context()); err != nil {
		t.Fatal(err)
	}
	sizes("in tables")
}

// goroutines counts those of this package's Stores.
func goroutines() (n int) {
	buf := make([]byte, 1<<20)
	for _, g := range strings.Split(string(buf[:runtime.Stack(buf, true)]), "\n\n") {
		if strings.Contains(g, "mvcc.(*Store).") || strings.Contains(g, "mvcc.(*lane).") {
			n++
		}
	}
	return n
}

// Bounds of opening a keyspace that exists, on an embedded engine.
const (
	openStates = 4  // snapshots and transactions
	openReads  = 11 // of rows, one by one or together
)

// TestOpenIsCheap: opening a keyspace that exists commits nothing and reads few rows, and one that is only read has no
// goroutine. A write starts those who serve it.
func TestOpenIsCheap(t *testing.T) {
	var calls [faults.WaitChange + 1]atomic.Int64
	var committed atomic.Int64
	e := faults.New(openEngine(t, pebble.Options{}), faults.Options{
		KeepPipelined: true,
		Script: func(c faults.Call) (faults.Fault, bool) {
			calls[c.Op].Add(1)
			return faults.None, true
		},
	})
	o := mvcc.Options{Prefix: []byte(prefixes[1])}
	s := open(t, e, o)
	for i := range 100 {
		put(t, s, fmt.Sprint(i), "v")
	}
	if _, err := s.Compact(t.Context(), 50, true); err != nil {
		t.Fatal(err)
	}
	for range 2 { // the first one clears the commit rows of the former run
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		for i := range calls {
			calls[i].Store(0)
		}
		before := goroutines()
		var err error
		if s, err = mvcc.Open(context.Background(), e, o); err != nil {
			t.Fatal(err)
		}
		committed.Store(calls[faults.Commit].Load())
		collect(t, s, &mvcc.RangeRequest{Key: []byte("1")})
		// The removal looks once whether the entry at the compact revision has been dealt with.
		waitFor(t, func() bool { return goroutines() == before })
	}
	defer s.Close()
	states := calls[faults.Snapshot].Load() + calls[faults.Begin].Load()
	reads := calls[faults.Get].Load() + calls[faults.Scan].Load()
	t.Logf("%d states, %d reads, %d commits", states, reads, committed.Load())
	if states > openStates+2 || reads > openReads+4 { // and those of the read and the removal
		t.Errorf("%d states, %d reads", states, reads)
	}
	if n := committed.Load(); n > 0 {
		t.Errorf("%d commits at open", n)
	}
	before := goroutines()
	put(t, s, "k", "v")
	if goroutines() <= before {
		t.Error("nobody serves writes")
	}
}

// TestRest: those who serve writes end when there has been none for a while, and the next write finds others, with one
// lane and with several, also if it comes while they end.
func TestRest(t *testing.T) {
	for _, o := range []mvcc.Options{{}, {Lanes: 4}} {
		t.Run(fmt.Sprint(max(o.Lanes, 1), " lanes"), func(t *testing.T) {
			seed := seed(t)
			synctest.Test(t, func(t *testing.T) {
				s := open(t, openEngine(t, pebble.Options{}), o)
				r := rand.New(rand.NewPCG(seed, 0))
				want := int64(1)
				for range 30 {
					if want++; put(t, s, "k", "v") != want {
						t.Fatalf("not revision %d", want)
					}
					if goroutines() == 0 {
						t.Fatal("nobody serves writes")
					}
					var wg sync.WaitGroup
					for range 3 {
						late := 5*time.Second + time.Duration(r.IntN(3))*250*time.Millisecond
						wg.Go(func() {
							time.Sleep(late)
							put(t, s, "k", "w")
						})
					}
					wg.Wait()
					want += 3
					time.Sleep(time.Minute)
					synctest.Wait()
					if n := goroutines(); n > 0 {
						t.Fatalf("%d goroutines of an idle keyspace", n)
					}
				}
			})
		})
	}
}
