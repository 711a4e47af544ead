package lease

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/headwaterdb/headwater/libs/mvcc"
)

// run starts a keeper on store and waits until it is ready. stop ends it and returns Run's error.
func run(t *testing.T, store Store, o Options) (k *Keeper, stop func() error) {
	t.Helper()
	k, err := New(store, o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- k.Run(ctx) }()
	<-k.Ready()
	return k, func() error {
		cancel()
		return <-done
	}
}

// bubble runs f in a synctest bubble with a keeper on an empty store.
func bubble(t *testing.T, f func(t *testing.T, s *fakeStore, k *Keeper)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s := newFakeStore()
		k, stop := run(t, &client{fakeStore: s}, Options{})
		f(t, s, k)
		if err := stop(); err != nil {
			t.Errorf("Run: %v", err)
		}
	})
}

func grant(t *testing.T, k *Keeper, id, ttl int64) Granted {
	t.Helper()
	g, err := k.Grant(t.Context(), id, ttl)
	if err != nil {
		t.Fatalf("Grant(%d, %d): %v", id, ttl, err)
	}
	return g
}

func renew(t *testing.T, k *Keeper, id, want int64) {
	t.Helper()
	got, err := k.Renew(t.Context(), id)
	if err != nil || got != want {
		t.Fatalf("Renew(%d) = %d, %v; want %d", id, got, err, want)
	}
}

func TestGrant(t *testing.T) {
	bubble(t, func(t *testing.T, _ *fakeStore, k *Keeper) {
		for _, c := range []struct {
			id, ttl int64
			want    Granted
			err     error
		}{
			{1, 10, Granted{1, 10, 1}, nil},
			{1, 20, Granted{}, mvcc.ErrLeaseExists},
			{-5, 0, Granted{-5, 2, 1}, nil},
			{2, -1, Granted{2, 2, 1}, nil},
			{3, 1, Granted{3, 2, 1}, nil},
			{4, MaxTTL, Granted{4, MaxTTL, 1}, nil},
			{5, MaxTTL + 1, Granted{}, ErrTTLTooLarge},
			{1, MaxTTL + 1, Granted{}, ErrTTLTooLarge},
		} {
			got, err := k.Grant(t.Context(), c.id, c.ttl)
			if !errors.Is(err, c.err) || got != c.want {
				t.Errorf("Grant(%d, %d) = %v, %v; want %v, %v", c.id, c.ttl, got, err, c.want, c.err)
			}
		}
		if g := grant(t, k, 0, 5); g.ID <= 0 {
			t.Errorf("chosen id %d is not positive", g.ID)
		}
		renew(t, k, 1, 10)
		renew(t, k, 99, 0)
		if s := k.Stats(); s.Granted != 6 || s.Active != 6 || s.Renewed != 1 {
			t.Errorf("stats %+v", s)
		}
	})
}

func TestRevoke(t *testing.T) {
	bubble(t, func(t *testing.T, s *fakeStore, k *Keeper) {
		grant(t, k, 1, 10)
		s.put(1, "a")
		if rev, err := k.Revoke(t.Context(), 1); err != nil || rev != 3 {
			t.Fatalf("Revoke = %d, %v", rev, err)
		}
		if _, err := k.Revoke(t.Context(), 1); !errors.Is(err, mvcc.ErrLeaseNotFound) {
			t.Fatalf("second Revoke: %v", err)
		}
		renew(t, k, 1, 0)
		grant(t, k, 1, 20)
		renew(t, k, 1, 20)
		if s := k.Stats(); s.Revoked != 1 || s.Expired != 0 || s.Active != 1 {
			t.Errorf("stats %+v", s)
		}
	})
}

func TestExpiry(t *testing.T) {
	bubble(t, func(t *testing.T, s *fakeStore, k *Keeper) {
		grant(t, k, 1, 10)
		grant(t, k, 2, 10)
		s.put(1, "a")
		time.Sleep(6 * time.Second)
		renew(t, k, 2, 10)
		time.Sleep(4*time.Second - time.Nanosecond)
		synctest.Wait()
		if !s.has(1) {
			t.Fatal("expired early")
		}
		time.Sleep(2 * time.Nanosecond)
		synctest.Wait()
		if s.has(1) || !s.has(2) {
			t.Fatalf("after 10 s: 1 %v, 2 %v; want only 2", s.has(1), s.has(2))
		}
		renew(t, k, 1, 0)
		time.Sleep(6 * time.Second)
		synctest.Wait()
		if s.has(2) {
			t.Fatal("2 did not expire")
		}
		if got := k.Stats(); got.Expired != 2 || got.Revoked != 2 || got.Active != 0 {
			t.Errorf("stats %+v", got)
		}
	})
}

func TestTimeToLive(t *testing.T) {
	bubble(t, func(t *testing.T, s *fakeStore, k *Keeper) {
		check := func(id int64, keys bool, want Info, wantFound bool) {
			t.Helper()
			got, found, err := k.TimeToLive(t.Context(), id, keys)
			if err != nil || found != wantFound {
				t.Fatalf("TimeToLive(%d) = %v, %v", id, found, err)
			}
			if d := cmp.Diff(want, got); d != "" {
				t.Error(d)
			}
		}
		check(1, false, Info{ID: 1, Rev: 1}, false)
		check(1, true, Info{ID: 1, Rev: 1}, false)
		grant(t, k, 1, 10)
		check(1, true, Info{ID: 1, TTL: 10, Remaining: 10, Rev: 1}, true)
		s.put(1, "a")
		time.Sleep(100 * time.Millisecond)
		check(1, false, Info{ID: 1, TTL: 10, Remaining: 9, Rev: 2}, true)
		check(1, true, Info{ID: 1, TTL: 10, Remaining: 9, Keys: [][]byte{[]byte("a")}, Rev: 2}, true)
	})
}

func TestLeases(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFakeStore()
		s.setLatency(time.Second)
		k, stop := run(t, &client{fakeStore: s}, Options{})
		defer stop()
		grant(t, k, 1, 30)
		grant(t, k, 2, 10)
		grant(t, k, 3, 20)
		done := make(chan struct{})
		go func() { // leases that are being granted and revoked are waited for
			defer close(done)
			_, _ = k.Revoke(t.Context(), 3)
		}()
		go func() { _, _ = k.Grant(t.Context(), 4, 15) }()
		synctest.Wait()
		got, err := k.Leases(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff([]int64{2, 4, 1}, got); d != "" {
			t.Error(d)
		}
		<-done
	})
}

// TestReplaced: a grant of an id that was revoked behind the keeper's back starts a new lease.
func TestReplaced(t *testing.T) {
	bubble(t, func(t *testing.T, s *fakeStore, k *Keeper) {
		grant(t, k, 1, 10)
		s.erase(1)
		grant(t, k, 1, 100)
		time.Sleep(50 * time.Second)
		renew(t, k, 1, 100)
		if _, err := k.Revoke(t.Context(), 1); err != nil {
			t.Fatal(err)
		}
	})
}

// TestWaiters: renewals of a lease that has expired are answered when the revoke is done, with 0, and grants of its id
// succeed from then on.
func TestWaiters(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFakeStore()
		k, stop := run(t, &client{fakeStore: s}, Options{})
		defer stop()
		grant(t, k, 1, 10)
		s.setLatency(time.Second)
		time.Sleep(10*time.Second + time.Millisecond)
		start := time.Now()
		var waiters sync.WaitGroup
		for range 10 {
			waiters.Go(func() {
				renew(t, k, 1, 0)
				if d := time.Since(start); d < 900*time.Millisecond || d > time.Second {
					t.Errorf("answered after %v", d)
				}
			})
		}
		waiters.Go(func() { grant(t, k, 1, 20) })
		synctest.Wait()
		if _, ok := k.TryRenew(1); ok {
			t.Error("TryRenew has an answer for an expired lease")
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		if _, err := k.Renew(ctx, 1); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("impatient Renew: %v", err)
		}
		waiters.Wait()
		renew(t, k, 1, 20)
	})
}

// TestRenewDuringRevoke: once a revoke has begun, a renewal waits for it.
func TestRenewDuringRevoke(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFakeStore()
		k, stop := run(t, &client{fakeStore: s}, Options{})
		defer stop()
		grant(t, k, 1, 10)
		grant(t, k, 2, 10)
		s.setLatency(time.Second)
		s.setFail(func(op string, id int64) (error, bool) {
			if op == "revoke" && id == 2 {
				return mvcc.ErrTooManyRequests, false
			}
			return nil, true
		})
		go func() { _, _ = k.Revoke(t.Context(), 1) }()
		go func() { _, _ = k.Revoke(t.Context(), 2) }()
		synctest.Wait()
		renew(t, k, 1, 0)
		renew(t, k, 2, 10) // that revoke was refused, nothing happened
	})
}

// TestUnknownOutcome: operations whose outcome the store does not know are settled before anybody is told anything.
func TestUnknownOutcome(t *testing.T) {
	for _, took := range []bool{false, true} {
		t.Run(fmt.Sprintf("took effect %v", took), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newFakeStore()
				k, stop := run(t, &client{fakeStore: s}, Options{})
				defer stop()
				grant(t, k, 1, 100)
				var full atomic.Bool
				down := time.Now().Add(5 * time.Second)
				s.setFail(func(string, int64) (error, bool) {
					if time.Now().Before(down) {
						return mvcc.ErrUnavailable, took
					}
					return nil, true
				})
				if _, err := k.Revoke(t.Context(), 1); !errors.Is(err, mvcc.ErrUnavailable) {
					t.Fatalf("Revoke: %v", err)
				}
				renew(t, k, 1, 0)
				if s.has(1) {
					t.Fatal("an unknown revoke was not carried through")
				}
				s.setFail(func(string, int64) (error, bool) {
					if time.Now().Before(down.Add(5 * time.Second)) {
						return mvcc.ErrUnavailable, took
					}
					return nil, true
				})
				if _, err := k.Grant(t.Context(), 2, 100); !errors.Is(err, mvcc.ErrUnavailable) {
					t.Fatalf("Grant: %v", err)
				}
				renew(t, k, 2, 100)
				if !s.has(2) {
					t.Fatal("an unknown grant was not carried through")
				}

				// If the store says no in the end, there is no lease.
				s.setFail(func(op string, _ int64) (error, bool) {
					if full.Swap(true) && op == "grant" {
						return mvcc.ErrNoSpace, false
					}
					return mvcc.ErrUnavailable, false
				})
				if _, err := k.Grant(t.Context(), 3, 100); !errors.Is(err, mvcc.ErrUnavailable) {
					t.Fatalf("Grant: %v", err)
				}
				renew(t, k, 3, 0)
				if got := k.Stats().Active; got != 1 {
					t.Fatalf("%d leases", got)
				}
			})
		})
	}
}

// TestStoreDown: expiry goes on when the store is back, without hammering it meanwhile.
func TestStoreDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFakeStore()
		var calls atomic.Int64
		back := time.Now().Add(time.Minute)
		s.setFail(func(op string, _ int64) (error, bool) {
			if op != "revoke" {
				return nil, true
			}
			calls.Add(1)
			if time.Now().Before(back) {
				return errDown, false
			}
			return nil, true
		})
		k, stop := run(t, &client{fakeStore: s}, Options{})
		defer stop()
		const leases = 1000
		for id := range int64(leases) {
			grant(t, k, id+1, 10)
		}
		time.Sleep(time.Minute)
		if n := calls.Load(); n > 64*120 {
			t.Errorf("%d attempts in 50 s", n)
		}
		time.Sleep(5 * time.Second)
		synctest.Wait()
		if n := s.count(); n != 0 {
			t.Errorf("%d leases left", n)
		}
	})
}

// TestFenced: a keeper whose claim is void revokes nothing for its age, stops, and lets everybody go.
func TestFenced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFakeStore()
		k, stop := run(t, &client{fakeStore: s}, Options{})
		grant(t, k, 1, 10)
		k2, stop2 := run(t, &client{fakeStore: s}, Options{})
		time.Sleep(10*time.Second + time.Millisecond)
		synctest.Wait()
		if !s.has(1) {
			t.Fatal("the deposed keeper revoked a lease")
		}
		if err := stop(); !errors.Is(err, ErrNotOwner) {
			t.Fatalf("Run: %v", err)
		}
		if _, err := k.Renew(t.Context(), 1); !errors.Is(err, ErrNotOwner) {
			t.Errorf("Renew: %v", err)
		}
		if _, err := k.Grant(t.Context(), 2, 5); !errors.Is(err, ErrNotOwner) {
			t.Errorf("Grant: %v", err)
		}
		if _, err := k.Leases(t.Context()); !errors.Is(err, ErrNotOwner) {
			t.Errorf("Leases: %v", err)
		}
		renew(t, k2, 1, 10) // full time and a second after the takeover
		if err := stop2(); err != nil {
			t.Fatal(err)
		}
		if _, err := k2.Revoke(t.Context(), 1); !errors.Is(err, ErrStopped) {
			t.Errorf("Revoke: %v", err)
		}
	})
}

// TestStopWithWaiters: whoever waits for a lease is let go when the keeper stops.
func TestStopWithWaiters(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFakeStore()
		s.setFail(func(op string, _ int64) (error, bool) {
			return errDown, op == "grant" || op == "claim" || op == "leases"
		})
		k, stop := run(t, &client{fakeStore: s}, Options{})
		s.setFail(func(op string, _ int64) (error, bool) {
			if op == "revoke" {
				return errDown, false
			}
			return nil, true
		})
		grant(t, k, 1, 2)
		time.Sleep(3 * time.Second)
		got := make(chan error)
		go func() {
			_, err := k.Renew(t.Context(), 1)
			got <- err
		}()
		synctest.Wait()
		if err := stop(); err != nil {
			t.Fatal(err)
		}
		if err := <-got; !errors.Is(err, ErrStopped) {
			t.Errorf("Renew: %v", err)
		}
	})
}

// TestRestart: leases get their full time again, and the extension.
func TestRestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFakeStore()
		s.rows[1], s.rows[2] = 10, 1 // the second from a time when less was granted
		time.Sleep(time.Hour)
		k, stop := run(t, &client{fakeStore: s}, Options{})
		defer stop()
		renew(t, k, 2, 2)
		time.Sleep(11*time.Second - time.Nanosecond)
		synctest.Wait()
		if !s.has(1) || s.has(2) {
			t.Fatalf("before 11 s: 1 %v, 2 %v", s.has(1), s.has(2))
		}
		time.Sleep(2 * time.Nanosecond)
		synctest.Wait()
		if s.has(1) {
			t.Fatal("after 11 s: not expired")
		}
	})
}

func TestStartFails(t *testing.T) {
	for _, op := range []string{"claim", "leases"} {
		s := newFakeStore()
		s.setFail(func(o string, _ int64) (error, bool) { return errDown, o != op })
		k, err := New(&client{fakeStore: s}, Options{})
		if err != nil {
			t.Fatal(err)
		}
		if err := k.Run(t.Context()); !errors.Is(err, errDown) {
			t.Errorf("%s fails: Run: %v", op, err)
		}
		if _, err := k.Renew(t.Context(), 1); !errors.Is(err, ErrStopped) {
			t.Errorf("%s fails: Renew: %v", op, err)
		}
		if err := k.Run(t.Context()); err == nil {
			t.Error("second Run succeeded")
		}
	}
}

// TestStartWaits: a store that is full or out of reach keeps the keeper waiting; it answers as soon as it can.
func TestStartWaits(t *testing.T) {
	for _, why := range []error{mvcc.ErrNoSpace, mvcc.ErrUnavailable} {
		synctest.Test(t, func(t *testing.T) {
			s := newFakeStore()
			s.setFail(func(o string, _ int64) (error, bool) { return fmt.Errorf("call: %w", why), o != "claim" })
			k, err := New(&client{fakeStore: s}, Options{})
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancel(t.Context())
			ended := make(chan error, 1)
			go func() { ended <- k.Run(ctx) }()
			time.Sleep(time.Minute)
			select {
			case <-k.Ready():
				t.Error("ready without a claim")
			case err := <-ended:
				t.Errorf("ended: %v", err)
			default:
			}
			s.setFail(nil)
			<-k.Ready()
			cancel()
			if err := <-ended; err != nil {
				t.Error(err)
			}
		})
	}
}

func TestOptions(t *testing.T) {
	for _, o := range []Options{{MinTTL: -1}, {MinTTL: MaxTTL + 1}, {Revokes: -1}} {
		if _, err := New(&client{fakeStore: newFakeStore()}, o); err == nil {
			t.Errorf("%+v accepted", o)
		}
	}
}

// TestBurst: 100,000 leases that expire at once are revoked a bounded number at a time, while others are renewed.
func TestBurst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const leases = 100_000
		s := newFakeStore()
		for id := range int64(leases) {
			s.rows[id+1] = 10
		}
		s.rows[leases+1] = 20
		s.setLatency(time.Millisecond)
		k, stop := run(t, &client{fakeStore: s}, Options{})
		defer stop()
		time.Sleep(11 * time.Second)
		start := time.Now()
		for s.count() > 1 {
			renew(t, k, leases+1, 20)
			time.Sleep(10 * time.Millisecond)
		}
		t.Logf("%d leases in %v, at most %d at a time", leases, time.Since(start), s.peak)
		if s.peak > DefaultRevokes {
			t.Errorf("%d revokes at a time", s.peak)
		}
		if d := time.Since(start); d > 2*time.Second {
			t.Errorf("took %v at 1 ms each", d)
		}
	})
}

// TestBeforeReady: who comes before the leases are loaded waits for that.
func TestBeforeReady(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFakeStore()
		s.rows[1] = 10
		k, err := New(&client{fakeStore: s}, Options{})
		if err != nil {
			t.Fatal(err)
		}
		if _, ok := k.TryRenew(1); ok {
			t.Error("TryRenew has an answer")
		}
		impatient, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := k.Renew(impatient, 1); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("impatient Renew: %v", err)
		}
		renewed := make(chan int64)
		go func() {
			ttl, err := k.Renew(t.Context(), 1)
			if err != nil {
				t.Error(err)
			}
			renewed <- ttl
		}()
		ctx, stop := context.WithCancel(t.Context())
		ran := make(chan error)
		go func() { ran <- k.Run(ctx) }()
		if ttl := <-renewed; ttl != 10 {
			t.Errorf("TTL %d", ttl)
		}
		stop()
		if err := <-ran; err != nil {
			t.Error(err)
		}
	})
}
