package mvcc_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/headwaterdb/headwater/libs/engine"
	"github.com/headwaterdb/headwater/libs/engine/pebble"
	"github.com/headwaterdb/headwater/libs/mvcc"
	"github.com/headwaterdb/headwater/libs/revlog"
)

// TestCompactionOfAnotherPod: what one pod compacts, another knows and a third removes.
func TestCompactionOfAnotherPod(t *testing.T) {
	e, ctx := openEngine(t, fdb), t.Context()
	o := mvcc.Options{Shift: 2, NoRemoval: true}
	a, b, remover := open(t, e, o), open(t, e, o), open(t, e, o)
	var last int64
	for i := range 20 {
		last = put(t, a, "k", fmt.Sprint(i))
	}
	if _, err := a.Compact(ctx, last, false); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Head(ctx); err != nil || b.CompactRevision() != last {
		t.Errorf("after Head the other pod's compact revision is %d, want %d: %v", b.CompactRevision(), last, err)
	}
	waitFor(t, func() bool { return remover.CompactRevision() == last }) // it asks for nothing, it is told

	// Nothing has been removed yet: the log can still be passed on, but not be read by clients.
	if _, _, err := b.ReadLog(ctx, 1, 100, 1<<20); !errors.Is(err, mvcc.ErrCompacted) {
		t.Errorf("ReadLog: %v", err)
	}
	p, next, compact, err := b.ReadPayloads(ctx, 1, 100, 1<<20)
	if err != nil || len(p) != 20 || next != last+1 || compact != last {
		t.Fatalf("%d payloads, next %d, compacted %d: %v", len(p), next, compact, err)
	}
	for i, p := range p {
		if e, err := b.Parse(p); err != nil || len(e.Events) != 1 || string(e.Events[0].KV.Value) != fmt.Sprint(i) ||
			e.Rev != e.Events[0].KV.Mod {
			t.Errorf("%+v: %v", e, err)
		}
	}

	run, stop := context.WithCancel(ctx)
	var wg sync.WaitGroup
	for range 2 { // a removal that is just being taken over
		wg.Go(func() { remover.RemoveCompacted(run) })
	}
	last = put(t, b, "k", "last")
	if _, err := a.Compact(ctx, last, true); err != nil {
		t.Fatal(err)
	}
	if at := removedUpTo(t, e, nil); at != last {
		t.Errorf("a physical compaction returned with %d removed, want %d", at, last)
	}
	if _, _, _, err := a.ReadPayloads(ctx, 1, 100, 1<<20); !errors.Is(err, mvcc.ErrCompacted) {
		t.Errorf("ReadPayloads of what has been removed: %v", err)
	}
	stop()
	wg.Wait()
	check(t, e, a, nil, true)
}

// TestPhysicalCompactionEnds: one that nobody carries out waits as long as its client does.
func TestPhysicalCompactionEnds(t *testing.T) {
	s := open(t, openEngine(t, fdb), mvcc.Options{NoRemoval: true})
	rev := put(t, s, "k", "v")
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() {
		_, err := s.Compact(ctx, rev, true)
		ended <- err
	}()
	waitFor(t, func() bool { return s.CompactRevision() == rev })
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// TestParseDamage: what comes from elsewhere is checked.
func TestParseDamage(t *testing.T) {
	s := open(t, openEngine(t, fdb), mvcc.Options{})
	if e, err := s.Parse(revlog.Payload{Rev: 99, Bytes: []byte{0xff, 1, 2}}); !errors.Is(err, mvcc.ErrCorrupt) {
		t.Errorf("%+v: %v", e, err)
	}
}

// TestFencedGrant: an owner that has been replaced grants nothing, and owners of other shards are not in its way.
func TestFencedGrant(t *testing.T) {
	s, ctx := open(t, openEngine(t, fdb), mvcc.Options{}), t.Context()
	claim := func(shard int) *mvcc.Fence {
		f, err := s.ClaimLeases(ctx, shard)
		if err != nil {
			t.Fatal(err)
		}
		return &f
	}
	old, other, taken := claim(0), claim(7), claim(9)
	fresh := claim(0)
	claim(9)
	for id, c := range []struct {
		fence *mvcc.Fence
		want  error
	}{{old, mvcc.ErrFenced}, {fresh, nil}, {other, nil}, {nil, nil}, {taken, mvcc.ErrFenced}} {
		if _, err := s.LeaseGrant(ctx, int64(id+1), 5, c.fence); !errors.Is(err, c.want) {
			t.Errorf("grant %d: %v, want %v", id+1, err, c.want)
		}
	}
}

// TestSweepCommits: rows of lanes that nobody writes any more go; the lane that still runs goes on.
func TestSweepCommits(t *testing.T) {
	e, ctx := openEngine(t, fdb), t.Context()
	gone, s := open(t, e, mvcc.Options{}), open(t, e, mvcc.Options{})
	put(t, gone, "a", "")
	put(t, s, "b", "")
	first, err := s.SweepUnchanged(ctx, nil)
	if err != nil || len(first) != 2 {
		t.Fatalf("%d rows: %v", len(first), err)
	}
	put(t, s, "b", "")
	second, err := s.SweepUnchanged(ctx, first)
	if err != nil || len(second) != 1 {
		t.Fatalf("%d rows are left: %v", len(second), err)
	}
	if third, err := s.SweepUnchanged(ctx, second); err != nil || len(third) != 0 {
		t.Fatalf("%d rows are left: %v", len(third), err)
	}
	put(t, gone, "a", "back")
	put(t, s, "b", "back")
	check(t, e, s, nil, false)
}

// TestCommitted: who is told of commits is told after them, and only of those that made a revision.
func TestCommitted(t *testing.T) {
	for _, v := range []variant{
		{"dense", pebble.Options{}, mvcc.Options{}}, {"fdb", fdb, mvcc.Options{Shift: 2, Lanes: 3}},
	} {
		t.Run(v.name, func(t *testing.T) {
			var told atomic.Int64
			v.store.Committed = func() { told.Add(1) }
			s := open(t, openEngine(t, v.engine), v.store)
			for i := range int64(10) {
				put(t, s, "k", "")
				if told.Load() != i+1 {
					t.Fatalf("told %d times after %d puts", told.Load(), i+1)
				}
			}
			if _, err := s.LeaseGrant(t.Context(), 1, 1, nil); err != nil || told.Load() != 10 {
				t.Error(told.Load(), err)
			}
		})
	}
}

// setBack is an engine whose versions are those of its stamps, and that can be set back.
type setBack struct {
	engine.Store
	version atomic.Uint64
}

type setBackSnapshot struct {
	engine.Snapshot
	version uint64
}

type setBackTxn struct {
	engine.Txn
	version uint64
}

func (s *setBack) Limits() engine.Limits {
	l := s.Store.Limits()
	l.Versionstamps = true
	return l
}

func (s *setBack) Snapshot(ctx context.Context) (engine.Snapshot, error) {
	snap, err := s.Store.Snapshot(ctx)
	return setBackSnapshot{snap, s.version.Load()}, err
}

func (s *setBack) Begin(ctx context.Context) (engine.Txn, error) {
	txn, err := s.Store.Begin(ctx)
	return setBackTxn{txn, s.version.Load()}, err
}

func (s setBackSnapshot) Version() uint64 { return s.version }
func (s setBackTxn) Version() uint64      { return s.version }

// TestSetBack: a database whose version lies below the head is not served, neither at the start nor when it happens
// later.
func TestSetBack(t *testing.T) {
	e, ctx := &setBack{Store: openEngine(t, fdb)}, t.Context()
	e.version.Store(1 << 60)
	s := open(t, e, mvcc.Options{})
	put(t, s, "k", "v")
	e.version.Store(1)
	if _, err := s.Head(ctx); !errors.Is(err, mvcc.ErrSetBack) {
		t.Errorf("Head: %v", err)
	}
	if _, err := s.Put(ctx, &mvcc.PutRequest{Key: []byte("k")}); !errors.Is(err, mvcc.ErrSetBack) {
		t.Errorf("Put: %v", err)
	}
	if _, err := mvcc.Open(ctx, e, mvcc.Options{}); !errors.Is(err, mvcc.ErrSetBack) ||
		!strings.Contains(err.Error(), "advanceversion") {
		t.Errorf("Open: %v", err)
	}
	e.version.Store(1 << 61)
	put(t, s, "k", "again")
}

// deaf is an engine whose commits are never answered once it has been told so.
type deaf struct {
	engine.Store
	on      atomic.Bool
	waiting chan struct{}
}

type deafTxn struct {
	engine.Txn
	s *deaf
}

type deafPending struct{ s *deaf }

func (s *deaf) Begin(ctx context.Context) (engine.Txn, error) {
	if s.on.Load() && ctx.Err() != nil {
		return nil, ctx.Err()
	}
	txn, err := s.Store.Begin(ctx)
	return deafTxn{txn, s}, err
}

func (t deafTxn) Commit(ctx context.Context) (engine.Pending, error) {
	if !t.s.on.Load() {
		return t.Txn.Commit(ctx)
	}
	t.Discard()
	return deafPending{t.s}, nil
}

func (p deafPending) Wait(ctx context.Context) (engine.Stamp, error) {
	p.s.waiting <- struct{}{}
	<-ctx.Done()
	return engine.Stamp{}, ctx.Err()
}

// TestCloseWithoutAnswer: an engine that does not answer does not keep a Store from closing, and who waits is told.
func TestCloseWithoutAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := &deaf{
			Store: openEngine(t, pebble.Options{Sparse: true, NotPipelined: true}), waiting: make(chan struct{}, 1),
		}
		s, err := mvcc.Open(t.Context(), e, mvcc.Options{})
		if err != nil {
			t.Fatal(err)
		}
		put(t, s, "k", "v")
		e.on.Store(true)
		var wg sync.WaitGroup
		for i := range 3 {
			wg.Go(func() {
				if _, err := s.Put(context.Background(),
					&mvcc.PutRequest{Key: fmt.Append(nil, i)}); !errors.Is(err, mvcc.ErrUnavailable) {
					t.Errorf("put %d: %v", i, err)
				}
			})
		}
		<-e.waiting
		synctest.Wait() // the others are queued
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		wg.Wait()
	})
}
