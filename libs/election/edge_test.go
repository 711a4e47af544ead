package election

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/headwaterdb/headwater/libs/engine"
	"github.com/headwaterdb/headwater/libs/engine/faults"
	"github.com/headwaterdb/headwater/libs/engine/testengine"
)

// open opens an empty store for a bubble.
func open(t *testing.T) engine.Store {
	t.Helper()
	return testengine.OpenInBubble(t, 0)
}

func candidate(t *testing.T, s engine.Store, o Options) *Candidate {
	t.Helper()
	o.Key = []byte("election/")
	if o.Holder == "" {
		o.Holder = "a"
	}
	c, err := New(s, o)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// running runs a candidate until stop is called.
func running(t *testing.T, c *Candidate, lead func(context.Context, *Term) error) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- c.Run(ctx, lead) }()
	return func() {
		t.Helper()
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	}
}

// leads returns a lead function that sends each term and goes on until its ctx ends.
func leads(terms chan<- *Term) func(context.Context, *Term) error {
	return func(ctx context.Context, t *Term) error {
		terms <- t
		<-ctx.Done()
		return ctx.Err()
	}
}

func leader(t *testing.T, s engine.Store) LeaderInfo {
	t.Helper()
	snap, err := s.Snapshot(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer snap.Close()
	l, err := Leader(t.Context(), snap, []byte("election/"))
	if err != nil {
		t.Fatal(err)
	}
	return l
}

var errOrder = errors.New("a fenced transaction after one of a later term")

// check runs a fenced transaction, which writes the term's ballot. The row must never have held a larger one.
func check(ctx context.Context, s engine.Store, term *Term) error {
	txn, err := s.Begin(ctx)
	if err != nil {
		return err
	}
	defer txn.Discard()
	if err := term.Check(ctx, txn); err != nil {
		return err
	}
	old, err := txn.Get(ctx, []byte("fenced"))
	if err != nil {
		return err
	}
	late := old != nil && binary.BigEndian.Uint64(old) > term.Ballot()
	txn.Set([]byte("fenced"), binary.BigEndian.AppendUint64(nil, term.Ballot()))
	p, err := txn.Commit(ctx)
	if err != nil {
		return err
	}
	if _, err = p.Wait(ctx); err == nil && late {
		return errOrder
	}
	return err
}

// TestTakeover: a candidate takes a released row at once, and the row of a dead holder after the time to live.
func TestTakeover(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t)
		own := faults.New(s, faults.Options{})
		terms := make(chan *Term, 1)
		stopA := running(t, candidate(t, own, Options{Holder: "a", Value: []byte("addr")}), leads(terms))
		a := <-terms
		if l := leader(t, s); l.Holder != "a" || string(l.Value) != "addr" || l.Ballot != a.Ballot() {
			t.Errorf("leader %+v", l)
		}
		stopB := running(t, candidate(t, s, Options{Holder: "b"}), leads(terms))
		time.Sleep(time.Minute)
		if !a.Holds() || check(t.Context(), s, a) != nil {
			t.Error("the term did not last")
		}
		start := time.Now()
		stopA()
		b := <-terms
		if d := time.Since(start); d > 10*time.Millisecond || leader(t, s).Holder != "b" {
			t.Errorf("released row taken after %v", d)
		}
		if a.Holds() || !b.Holds() || b.Ballot() <= a.Ballot() {
			t.Errorf("holds: %v, %v; ballots %d, %d", a.Holds(), b.Holds(), a.Ballot(), b.Ballot())
		}
		if err := check(t.Context(), s, a); !errors.Is(err, ErrDeposed) {
			t.Errorf("a fenced transaction of a term that is over: %v", err)
		}
		stopB()
		if l := leader(t, s); l.Holder != "" || l.Ballot != b.Ballot() {
			t.Errorf("released: %+v", l)
		}
	})
}

// TestDeath: whoever loses the store stops holding before another is elected, which takes the time to live and a beat.
func TestDeath(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t)
		own := faults.New(s, faults.Options{})
		terms := make(chan *Term, 1)
		stopA := running(t, candidate(t, own, Options{Holder: "a"}), leads(terms))
		a := <-terms
		stopB := running(t, candidate(t, s, Options{Holder: "b"}), leads(terms))
		time.Sleep(10 * time.Second)
		start := time.Now()
		inner := own.Crash()
		b := <-terms
		if d := time.Since(start); d > DefaultTTL+DefaultTTL/renewDivisor+100*time.Millisecond || d < DefaultTTL/2 {
			t.Errorf("takeover after %v", d)
		}
		if a.Holds() || !b.Holds() {
			t.Errorf("holds: %v, %v", a.Holds(), b.Holds())
		}
		own.Restart(inner)
		time.Sleep(10 * time.Second)
		if a.Holds() || !b.Holds() {
			t.Errorf("later, holds: %v, %v", a.Holds(), b.Holds())
		}
		stopA()
		if !b.Holds() {
			t.Error("the end of a deposed candidate released the row of another")
		}
		stopB()
	})
}

// TestFencedTransactionsDoNotConflict: renewals and fenced transactions go side by side.
func TestFencedTransactionsDoNotConflict(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t)
		terms := make(chan *Term, 1)
		stop := running(t, candidate(t, s, Options{}), leads(terms))
		defer stop()
		term := <-terms
		txn, err := s.Begin(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer txn.Discard()
		if err := term.Check(t.Context(), txn); err != nil {
			t.Fatal(err)
		}
		txn.Set([]byte("x"), nil)
		time.Sleep(3 * time.Second) // several renewals
		p, err := txn.Commit(t.Context())
		if err == nil {
			_, err = p.Wait(t.Context())
		}
		if err != nil {
			t.Error(err)
		}
	})
}

// TestEligible: a candidate that is not eligible claims nothing, but knows all about the row when it becomes so.
func TestEligible(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t)
		own := faults.New(s, faults.Options{})
		terms := make(chan *Term, 1)
		var eligible atomic.Bool
		var seen []string
		c := candidate(t, s, Options{Holder: "b", Eligible: eligible.Load, Observed: func(l LeaderInfo) {
			seen = append(seen, l.Holder)
		}})
		stopB := running(t, c, leads(terms))
		time.Sleep(time.Minute)
		stopA := running(t, candidate(t, own, Options{Holder: "a"}), leads(terms))
		<-terms
		time.Sleep(time.Minute)
		own.Crash()
		time.Sleep(time.Minute)
		if l := leader(t, s); l.Holder != "a" {
			t.Errorf("leader %+v", l)
		}
		start := time.Now()
		eligible.Store(true)
		c.Nudge()
		<-terms
		if d := time.Since(start); d > 10*time.Millisecond {
			t.Errorf("elected after %v", d)
		}
		stopA()
		stopB()
		if got := fmt.Sprint(seen); got != "[ a b ]" {
			t.Errorf("observed %s", got)
		}
	})
}

// TestLeadEnds: what lead returns decides whether the campaign goes on.
func TestLeadEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t)
		errLead := errors.New("lead failed")
		n := 0
		err := candidate(t, s, Options{}).Run(t.Context(), func(context.Context, *Term) error {
			if n++; n < 3 {
				return nil
			}
			return errLead
		})
		if !errors.Is(err, errLead) || n != 3 {
			t.Errorf("after %d terms: %v", n, err)
		}
		if l := leader(t, s); l.Holder != "" || l.Ballot != 3 {
			t.Errorf("leader %+v", l)
		}
	})
}

// TestUnknownOutcomes: claims, renewals and releases of unknown outcome are settled by what the rows say.
func TestUnknownOutcomes(t *testing.T) {
	for _, fault := range []faults.Fault{
		faults.UnknownCommitted, faults.UnknownLost, faults.Conflict, faults.LateConflict, faults.Unavailable,
		faults.TooOld,
	} {
		synctest.Test(t, func(t *testing.T) {
			s := open(t)
			commits := 0
			f := faults.New(s, faults.Options{Script: func(c faults.Call) (faults.Fault, bool) {
				if c.Op != faults.Commit {
					return faults.None, true
				}
				commits++
				if commits%2 == 1 {
					return fault, true
				}
				return faults.None, true
			}})
			terms := make(chan *Term, 1)
			stop := running(t, candidate(t, f, Options{}), leads(terms))
			start := time.Now()
			term := <-terms
			if d := time.Since(start); d > 100*time.Millisecond {
				t.Errorf("fault %d: elected after %v", fault, d)
			}
			for range 100 {
				time.Sleep(99 * time.Millisecond)
				if !term.Holds() {
					t.Fatalf("fault %d: term lost", fault)
				}
			}
			stop()
			if l := leader(t, s); l.Holder != "" {
				t.Errorf("fault %d: not released: %+v", fault, l)
			}
		})
	}
}

// TestRenewalReadBack: a renewal that happened although nobody was told counts from its beginning, when the next
// attempt finds it.
func TestRenewalReadBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t)
		commits := 0
		f := faults.New(s, faults.Options{Script: func(c faults.Call) (faults.Fault, bool) {
			if c.Op == faults.Commit {
				if commits++; commits > 1 {
					return faults.UnknownCommitted, true
				}
			}
			return faults.None, true
		}})
		terms := make(chan *Term, 1)
		stop := running(t, candidate(t, f, Options{}), leads(terms))
		term := <-terms
		time.Sleep(time.Minute)
		if !term.Holds() {
			t.Error("term lost although every renewal happened")
		}
		f.Pause(true)
		stop()
	})
}

// TestRenewalLost: attempts of unknown outcome that did not happen do not make a term longer.
func TestRenewalLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t)
		commits := 0
		f := faults.New(s, faults.Options{Script: func(c faults.Call) (faults.Fault, bool) {
			if c.Op == faults.Commit {
				if commits++; commits > 1 {
					return faults.UnknownLost, true
				}
			}
			return faults.None, true
		}})
		terms := make(chan *Term, 1)
		stop := running(t, candidate(t, f, Options{}), leads(terms))
		term := <-terms
		time.Sleep(DefaultTTL)
		if term.Holds() {
			t.Error("a term that was never renewed outlives its time to live")
		}
		f.Pause(true)
		stop()
	})
}

func TestOptions(t *testing.T) {
	for _, o := range []Options{
		{Holder: "a"},
		{Key: []byte("k")},
		{Key: []byte("k"), Holder: string(make([]byte, HolderMax+1))},
		{Key: []byte("k"), Holder: "a", TTL: 1},
		{Key: []byte("k"), Holder: "a", Renew: -1},
		{Key: []byte("k"), Holder: "a", Renew: DefaultTTL},
		{Key: []byte("k"), Holder: "a", Value: make([]byte, ValueMax+1)},
	} {
		if _, err := New(nil, o); err == nil {
			t.Errorf("%+v accepted", o)
		}
	}
}

// TestFatal: a store that is closed and rows that are not ours end Run.
func TestFatal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t)
		txn, err := s.Begin(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		txn.Set([]byte("election/b"), []byte("nonsense"))
		p, err := txn.Commit(t.Context())
		if err == nil {
			_, err = p.Wait(t.Context())
		}
		if err != nil {
			t.Fatal(err)
		}
		if err := candidate(t, s, Options{}).Run(t.Context(), nil); !errors.Is(err, ErrCorrupt) {
			t.Errorf("Run: %v", err)
		}
	})
}

// TestBadDays: many candidates on stores with faults, delays and long pauses; some come and go. No two ever hold at
// the same time, ballots grow, fenced transactions are ordered by ballot, and in the end there is a leader.
func TestBadDays(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	var terms int64
	rounds, lasts := uint64(4), 2*time.Minute
	if testengine.Chosen() == testengine.FoundationDB { // tens of thousands of round trips a minute, one by one
		rounds, lasts = 1, 30*time.Second
	}
	for round := range rounds {
		synctest.Test(t, func(t *testing.T) { terms += badDay(t, rand.New(rand.NewPCG(seed, round)), lasts) })
	}
	t.Logf("%d terms", terms)
}

func badDay(t *testing.T, r *rand.Rand, lasts time.Duration) int64 {
	s := open(t)
	var (
		rmu     sync.Mutex
		mu      sync.Mutex
		current []*Term
		last    uint64
		count   int64
		wg      sync.WaitGroup
	)
	random := func(n int64) int64 {
		rmu.Lock()
		defer rmu.Unlock()
		return r.Int64N(n)
	}
	holders := func() (n int) {
		mu.Lock()
		defer mu.Unlock()
		for _, o := range current {
			if o.Holds() {
				n++
			}
		}
		return n
	}
	end := time.Now().Add(lasts)
	ctx, cancel := context.WithCancel(t.Context())
	for i := range 5 {
		f := faults.New(s, faults.Options{
			Seed: uint64(random(1 << 62)), Conflict: .05, UnknownLost: .05, UnknownCommitted: .05, TooOld: .02,
			Unavailable: .02,
			Delay: func(ctx context.Context, _ faults.Op) {
				d := time.Duration(random(int64(10 * time.Millisecond)))
				if random(200) == 0 && time.Now().Before(end) { // a pause that does not know of ctx
					time.Sleep(time.Duration(random(int64(3 * time.Second))))
				}
				time.Sleep(d)
			},
		})
		c := candidate(t, f, Options{Holder: fmt.Sprint(i), TTL: time.Duration(500+random(1000)) * time.Millisecond})
		wg.Go(func() {
			if err := c.Run(ctx, func(ctx context.Context, term *Term) error {
				mu.Lock()
				if term.Ballot() <= last && term.Holds() {
					t.Errorf("ballot %d after %d", term.Ballot(), last)
				}
				last = max(last, term.Ballot())
				current = append(current, term)
				count++
				mu.Unlock()
				for leave := time.Now().Add(time.Duration(random(int64(20 * time.Second)))); time.Now().Before(leave) &&
					ctx.Err() == nil; {
					time.Sleep(time.Duration(random(int64(100 * time.Millisecond))))
					if err := check(ctx, f, term); errors.Is(err, errOrder) {
						t.Error(err)
					}
				}
				return nil
			}); err != nil {
				t.Errorf("Run: %v", err)
			}
		})
	}
	for time.Now().Before(end) {
		time.Sleep(2 * time.Millisecond)
		if n := holders(); n > 1 {
			t.Errorf("%d hold", n)
		}
	}
	for deadline := time.Now().Add(time.Minute); holders() == 0; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Error("nobody leads")
			break
		}
	}
	cancel()
	wg.Wait()
	return count
}

// TestRounds hands the lead around thousands of times, on the wall clock, and looks for two at once. Under the race
// detector hundreds of times are enough.
func TestRounds(t *testing.T) {
	rounds, ttl := int64(2000), 20*time.Millisecond
	switch {
	case testengine.Chosen() == testengine.FoundationDB: // a lead of 20 ms would often be over before it is won
		rounds, ttl = 200, 200*time.Millisecond
	case testing.Short():
		rounds = 300
	}
	s := testengine.Open(t, 0)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var (
		last   atomic.Pointer[Term]
		done   atomic.Int64
		ballot atomic.Uint64
		wg     sync.WaitGroup
	)
	for i := range 4 {
		c := candidate(t, s, Options{Holder: fmt.Sprint(i), TTL: ttl})
		wg.Go(func() {
			if err := c.Run(ctx, func(ctx context.Context, term *Term) error {
				// In this order: if the older one holds after the newer one did, both did.
				if prev := last.Swap(term); prev != nil && term.Holds() && prev.Holds() {
					t.Error("two hold")
				}
				// One that is over may be late.
				if old := ballot.Swap(term.Ballot()); old >= term.Ballot() && term.Holds() {
					t.Errorf("ballot %d after %d", term.Ballot(), old)
				}
				err := check(ctx, s, term)
				for errors.Is(err, engine.ErrConflict) { // the term before is late with its own: one of the two goes again
					err = check(ctx, s, term)
				}
				if err != nil && ctx.Err() == nil && !errors.Is(err, ErrDeposed) {
					t.Errorf("fenced transaction: %v", err)
				}
				if done.Add(1) >= rounds {
					cancel()
				}
				return nil
			}); err != nil {
				t.Errorf("Run: %v", err)
			}
		})
	}
	wg.Wait()
	if done.Load() < rounds {
		t.Errorf("%d rounds", done.Load())
	}
}
