package mvcc_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/headwaterdb/headwater/libs/engine"
	"github.com/headwaterdb/headwater/libs/engine/faults"
	"github.com/headwaterdb/headwater/libs/engine/pebble"
	"github.com/headwaterdb/headwater/libs/histogram"
	"github.com/headwaterdb/headwater/libs/mvcc"
	"github.com/headwaterdb/headwater/libs/timing"
)

// writesCounted are the counters of writes that are not 0, by name.
func writesCounted(s *mvcc.Store) map[string]int64 {
	w := s.Writes()
	all := map[string]int64{}
	for i := range mvcc.Retries {
		all["retries "+i.String()] = w.Retries[i].Load()
	}
	for i := range mvcc.Unknowns {
		all["unknown "+i.String()] = w.Unknown[i].Load()
	}
	maps.DeleteFunc(all, func(_ string, n int64) bool { return n == 0 })
	return all
}

// asking is an engine without recent states, which is asked for each state.
type asking struct{ engine.Store }

// onceAt makes a fault of the next call of an operation after arm has been set.
func onceAt(op faults.Op, f faults.Fault, arm *atomic.Bool) faults.Options {
	return faults.Options{Script: func(c faults.Call) (faults.Fault, bool) {
		if c.Op == op && arm.CompareAndSwap(true, false) {
			return f, true
		}
		return faults.None, true
	}}
}

// TestFaultsAreCounted walks the faults that a group may meet: each is counted once, as what it was.
func TestFaultsAreCounted(t *testing.T) {
	for _, c := range []struct {
		op    faults.Op
		fault faults.Fault
		want  map[string]int64
		err   error // of the put
	}{
		{faults.Commit, faults.Conflict, map[string]int64{"retries conflict": 1}, nil},
		{faults.Commit, faults.LateConflict, map[string]int64{"retries conflict": 1}, nil},
		{faults.Commit, faults.TooOld, map[string]int64{"retries too_old": 1}, nil},
		{faults.Get, faults.TooOld, map[string]int64{"retries too_old": 1}, nil},
		{faults.Begin, faults.Unavailable, map[string]int64{"retries unavailable": 1}, nil},
		{faults.Get, faults.Unavailable, map[string]int64{"retries unavailable": 1}, nil},
		{faults.Commit, faults.Unavailable, map[string]int64{"retries unavailable": 1}, nil},
		{faults.Commit, faults.NoSpace, map[string]int64{"retries no_space": 1}, mvcc.ErrNoSpace},
		{faults.Commit, faults.TooLarge, map[string]int64{"retries too_large": 1}, mvcc.ErrTooLarge},
		{faults.Commit, faults.UnknownCommitted, map[string]int64{"unknown committed": 1}, nil},
		{faults.Commit, faults.UnknownLost, map[string]int64{"unknown lost": 1, "retries conflict": 1}, nil},
	} {
		t.Run(fmt.Sprint(c.op, " ", c.fault), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var arm atomic.Bool
				e := faults.New(openEngine(t, pebble.Options{Sparse: true, NotPipelined: true}),
					onceAt(c.op, c.fault, &arm))
				s := open(t, asking{e}, mvcc.Options{})
				put(t, s, "k", "before")
				synctest.Wait()
				if got := writesCounted(s); len(got) > 0 {
					t.Fatalf("nothing has happened: %v", got)
				}
				arm.Store(true)
				_, err := s.Put(t.Context(), &mvcc.PutRequest{Key: []byte("k"), Value: []byte("v")})
				if arm.Load() {
					t.Fatal("the fault has not been met")
				}
				if !errors.Is(err, c.err) {
					t.Errorf("%v, want %v", err, c.err)
				}
				if diff := cmp.Diff(c.want, writesCounted(s)); diff != "" {
					t.Error(diff)
				}
			})
		})
	}
}

// TestUnresolvedIsCounted: the engine does not know an outcome, and then cannot be asked.
func TestUnresolvedIsCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var armed, out atomic.Bool
		e := faults.New(openEngine(t, pebble.Options{Sparse: true, NotPipelined: true}), faults.Options{
			Script: func(c faults.Call) (faults.Fault, bool) {
				switch {
				case out.Load():
					return faults.Unavailable, true
				case c.Op == faults.Commit && armed.Load():
					out.Store(true)
					return faults.UnknownLost, true
				}
				return faults.None, true
			},
		})
		s := open(t, asking{e}, mvcc.Options{})
		put(t, s, "k", "before")
		armed.Store(true)
		if _, err := s.Put(t.Context(), &mvcc.PutRequest{Key: []byte("k")}); !errors.Is(err, mvcc.ErrUnavailable) {
			t.Fatal(err)
		}
		for range 100 { // the lane goes on after the request's end
			time.Sleep(time.Second)
		}
		if diff := cmp.Diff(map[string]int64{"unknown unresolved": 1}, writesCounted(s)); diff != "" {
			t.Error(diff)
		}
		armed.Store(false)
		out.Store(false)
	})
}

// TestOutdatedIsCounted: a group that began on a recent state is evaluated again.
func TestOutdatedIsCounted(t *testing.T) {
	s, _ := openRecent(t, openEngine(t, fdb), mvcc.Options{})
	put(t, s, "k", "")
	if got := writesCounted(s); len(got) > 0 {
		t.Fatal(got)
	}
	// Its answer rests on the head, which the commit does not prove.
	_, err := s.Txn(t.Context(), &mvcc.TxnRequest{
		Compares: []mvcc.Compare{{Key: []byte("k"), Target: mvcc.CompareVersion, Int: 7}},
		Success:  []mvcc.Op{{Put: &mvcc.PutRequest{Key: []byte("k")}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[string]int64{"retries outdated": 1}, writesCounted(s)); diff != "" {
		t.Error(diff)
	}
}

// TestPartedAndDamagedAreCounted: requests leave their group.
func TestPartedAndDamagedAreCounted(t *testing.T) {
	e := faults.New(openEngine(t, pebble.Options{}), faults.Options{KeepPipelined: true})
	s := open(t, e, mvcc.Options{LightRows: 2})
	for i := range 10 {
		put(t, s, fmt.Sprint("k", i), "")
	}
	if _, err := s.DeleteRange(t.Context(), &mvcc.DeleteRequest{Key: []byte("k"), End: []byte("l")}); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[string]int64{"retries parted": 1}, writesCounted(s)); diff != "" {
		t.Error(diff)
	}
	e.Damage([]byte("d"), []byte("e")) // the head, which all requests need
	if _, err := s.Put(t.Context(), &mvcc.PutRequest{Key: []byte("k")}); !errors.Is(err, mvcc.ErrCorrupt) {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[string]int64{"retries parted": 1, "retries damaged": 1}, writesCounted(s)); diff != "" {
		t.Error(diff)
	}
}

// stage is where a store under test takes its time, by the bubble's clock.
const (
	beginTakes  = 3 * time.Millisecond
	commitTakes = 20 * time.Millisecond
)

// slowCommits is a store in a bubble whose groups take beginTakes and commitTakes.
// After arm the next commit conflicts, at once.
func slowCommits(t *testing.T, o mvcc.Options) (s *mvcc.Store, arm *atomic.Bool) {
	arm = new(atomic.Bool)
	slow := &slowWaits{Store: openPebble(t, pebble.Options{Sparse: true, NotPipelined: true, FDBLimits: true})}
	script := onceAt(faults.Commit, faults.LateConflict, arm)
	script.Delay = func(_ context.Context, op faults.Op) {
		if op == faults.Begin {
			time.Sleep(beginTakes)
		}
	}
	return open(t, asking{faults.New(slow, script)}, o), arm
}

// slowWaits is an engine whose commits take commitTakes.
type slowWaits struct{ engine.Store }

type slowTxn struct{ engine.Txn }

type slowPending struct{ engine.Pending }

func (e *slowWaits) Begin(ctx context.Context) (engine.Txn, error) {
	x, err := e.Store.Begin(ctx)
	return slowTxn{x}, err
}

func (x slowTxn) Commit(ctx context.Context) (engine.Pending, error) {
	p, err := x.Txn.Commit(ctx)
	return slowPending{p}, err
}

func (p slowPending) Wait(ctx context.Context) (engine.Stamp, error) {
	time.Sleep(commitTakes)
	return p.Pending.Wait(ctx)
}

// grown is what a histogram has writesCounted between two readings.
type grown struct {
	Count uint64
	Sum   time.Duration // or another number
}

func since(was, is histogram.Reading) grown {
	return grown{is.Count - was.Count, time.Duration(is.Sum - was.Sum)}
}

// TestWritesAreMeasured: a hot key, two lanes. The second put waits for a lane that holds its key, the third too and
// goes with it; each histogram has what the clock says, and the stages of each request add up to what it took.
func TestWritesAreMeasured(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, _ := slowCommits(t, mvcc.Options{Lanes: 2})
		w := s.Writes()
		read := func() (all [6]histogram.Reading) {
			for i, h := range []*histogram.Histogram{w.Wait, w.Behind, w.Evaluation, w.Commit, w.Requests, w.Bytes} {
				all[i] = h.Read()
			}
			return all
		}
		before := read()
		var puts sync.WaitGroup
		stages := make([]*timing.Stages, 3)
		took := make([]time.Duration, 3)
		for i := range stages {
			stages[i] = &timing.Stages{}
			ctx := context.WithValue(t.Context(), timing.Key{}, stages[i])
			puts.Go(func() {
				begin := time.Now()
				if _, err := s.Put(ctx, &mvcc.PutRequest{Key: []byte("hot"), Value: []byte{byte(i)}}); err != nil {
					t.Error(err)
				}
				took[i] = time.Since(begin)
			})
			synctest.Wait()
			if i == 0 {
				time.Sleep(time.Millisecond)
			}
		}
		// The first is in its group for a millisecond. Both others wait for it.
		want := mvcc.WriteQueue{Requests: 2, Bytes: 8, BlockedRequests: 2, BlockedKeys: 1, Oldest: time.Millisecond}
		if diff := cmp.Diff(want, rounded(s.WriteQueue())); diff != "" {
			t.Error(diff)
		}
		puts.Wait()
		after := read()
		const group, wait = beginTakes + commitTakes, beginTakes + commitTakes - time.Millisecond
		for i, want := range []grown{
			{3, 2 * wait},
			{2, 2 * wait}, // how long requests have waited, and how long behind a key
			{2, 2 * beginTakes},
			{2, 2 * commitTakes},
			{2, 3},
			{2, 12}, // requests, bytes
		} {
			if got := since(before[i], after[i]); got != want {
				t.Errorf("histogram %d: %+v, want %+v", i, got, want)
			}
		}
		if diff := cmp.Diff(mvcc.WriteQueue{}, s.WriteQueue()); diff != "" {
			t.Error(diff)
		}
		for i, want := range []time.Duration{group, wait + group, wait + group} {
			if took[i] != want {
				t.Errorf("put %d took %v, want %v", i, took[i], want)
			}
			checkStages(t, stages[i], map[timing.Stage]time.Duration{
				timing.BehindKeys: want - group, timing.Evaluation: beginTakes, timing.Commit: commitTakes,
			})
		}
	})
}

// rounded is a state without what the clock adds so that it is never 0.
func rounded(w mvcc.WriteQueue) mvcc.WriteQueue {
	w.Oldest = w.Oldest.Round(time.Microsecond)
	return w
}

func checkStages(t *testing.T, got *timing.Stages, want map[timing.Stage]time.Duration) {
	t.Helper()
	for i := timing.Receiving; i <= timing.Unanswered; i++ {
		if d := got.Of(i).Round(time.Microsecond); d != want[i] {
			t.Errorf("%v in stage %v, want %v", d, i, want[i])
		}
	}
}

// TestStagesOfRetries: what attempts take that come to nothing is a stage of its own.
func TestStagesOfRetries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, arm := slowCommits(t, mvcc.Options{})
		put(t, s, "k", "")
		arm.Store(true)
		var stages timing.Stages
		ctx := context.WithValue(t.Context(), timing.Key{}, &stages)
		if _, err := s.Put(ctx, &mvcc.PutRequest{Key: []byte("k")}); err != nil {
			t.Fatal(err)
		}
		checkStages(t, &stages, map[timing.Stage]time.Duration{
			timing.Retries: beginTakes, timing.Evaluation: beginTakes, timing.Commit: commitTakes,
		})
	})
}

// TestStagesOfOneThatNobodyWaitsFor: a request is given up in a group, one behind it in the line at its key, and one
// in the queue of a lane.
func TestStagesOfOneThatNobodyWaitsFor(t *testing.T) {
	for lanes, behind := range map[int]timing.Stage{1: timing.Queue, 2: timing.BehindKeys} {
		t.Run(fmt.Sprint(lanes, " lanes"), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var silent atomic.Bool
				e := faults.New(openEngine(t, pebble.Options{Sparse: true, NotPipelined: true}), faults.Options{
					Delay: func(_ context.Context, op faults.Op) {
						if op == faults.Commit && silent.Load() {
							time.Sleep(20 * time.Second)
						}
					},
				})
				s := open(t, asking{e}, mvcc.Options{Lanes: lanes})
				put(t, s, "k", "")
				silent.Store(true)
				var stages [2]timing.Stages
				var took [2]time.Duration
				var wg sync.WaitGroup
				for i := range stages {
					ctx := context.WithValue(t.Context(), timing.Key{}, &stages[i])
					wg.Go(func() {
						begin := time.Now()
						_, err := s.Put(ctx, &mvcc.PutRequest{Key: []byte("k")})
						if !errors.Is(err, mvcc.ErrUnavailable) {
							t.Error(err)
						}
						took[i] = time.Since(begin)
					})
					synctest.Wait()
				}
				wg.Wait()
				checkStages(t, &stages[0], map[timing.Stage]time.Duration{timing.Unanswered: took[0]})
				checkStages(t, &stages[1], map[timing.Stage]time.Duration{behind: took[1]})
				time.Sleep(time.Minute)
			})
		})
	}
}
