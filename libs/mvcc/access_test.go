package mvcc_test

import (
	"bytes"
	"context"
	"errors"
	"sync"
	"testing"

	"github.com/headwaterdb/headwater/libs/engine/faults"
	"github.com/headwaterdb/headwater/libs/engine/pebble"
	"github.com/headwaterdb/headwater/libs/mvcc"
	"github.com/headwaterdb/headwater/libs/revlog"
)

// bump makes a change of users and roles.
func bump(t testing.TB, s *mvcc.Store, set ...mvcc.AuthRow) uint64 {
	t.Helper()
	var at uint64
	_, err := s.UpdateAuth(t.Context(), func(number uint64, _ []mvcc.AuthRow) (uint64, []mvcc.AuthRow, error) {
		at = number + 2
		return at, set, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return at
}

// engines are the two kinds: one of the process's own, and one that others write too.
func accessEngines(t *testing.T, f func(*testing.T, mvcc.Options, pebble.Options)) {
	t.Run("dense", func(t *testing.T) { f(t, mvcc.Options{}, pebble.Options{}) })
	t.Run("shared", func(t *testing.T) { f(t, mvcc.Options{Lanes: 2, NoRemoval: true}, fdb) })
}

// TestAccessOld: every kind of request that was allowed before users and roles changed fails, and changes nothing; one
// of the server's own does not.
func TestAccessOld(t *testing.T) {
	accessEngines(t, func(t *testing.T, o mvcc.Options, eo pebble.Options) {
		e := openEngine(t, eo)
		s := open(t, e, o)
		ctx := t.Context()
		fence, err := s.ClaimLeases(ctx, 0)
		if err != nil {
			t.Fatal(err)
		}
		key := []byte("k")
		old := &mvcc.Access{Number: s.AuthNumber()}
		requests := map[string]func(a *mvcc.Access) error{
			"Range": func(a *mvcc.Access) error {
				_, err := s.Range(ctx, &mvcc.RangeRequest{Key: key, Access: a}, func(*mvcc.KV) error { return nil })
				return err
			},
			"Range of many": func(a *mvcc.Access) error {
				_, err := s.Range(ctx, &mvcc.RangeRequest{Key: key, End: []byte{0}, Access: a}, func(*mvcc.KV) error {
					return nil
				})
				return err
			},
			"Put": func(a *mvcc.Access) error {
				_, err := s.Put(ctx, &mvcc.PutRequest{Key: key, Value: key, Access: a})
				return err
			},
			"DeleteRange": func(a *mvcc.Access) error {
				_, err := s.DeleteRange(ctx, &mvcc.DeleteRequest{Key: []byte("none"), Access: a})
				return err
			},
			"Txn": func(a *mvcc.Access) error {
				_, err := s.Txn(ctx, &mvcc.TxnRequest{Success: []mvcc.Op{{Put: &mvcc.PutRequest{Key: key}}}, Access: a})
				return err
			},
			"Txn of reads": func(a *mvcc.Access) error {
				_, err := s.Txn(ctx, &mvcc.TxnRequest{
					Success: []mvcc.Op{{Range: &mvcc.RangeRequest{Key: key}}}, Access: a,
				})
				return err
			},
			"LeaseGrant": func(a *mvcc.Access) error {
				_, err := s.LeaseGrant(mvcc.WithAccess(ctx, a), 5, 60, &fence)
				return err
			},
			"LeaseRevoke": func(a *mvcc.Access) error {
				_, err := s.LeaseRevoke(mvcc.WithAccess(ctx, a), 5, &fence)
				return err
			},
		}
		order := []string{
			"Put", "Range", "Range of many", "DeleteRange", "Txn", "Txn of reads", "LeaseGrant", "LeaseRevoke",
		}
		for _, name := range order {
			if err := requests[name](old); err != nil {
				t.Fatalf("%s before: %v", name, err)
			}
		}
		number := bump(t, s, mvcc.AuthRow{Key: []byte("rr"), Value: []byte{}})
		before := everything(t, s)
		for name, do := range requests {
			if err := do(old); !errors.Is(err, mvcc.ErrAuthOld) {
				t.Errorf("%s after: %v", name, err)
			}
		}
		if after := everything(t, s); len(after) != len(before) || after[0].Mod != before[0].Mod {
			t.Errorf("changed: %v", after)
		}
		if n := s.AuthNumber(); n != number {
			t.Errorf("number %d, want %d", n, number)
		}
		for _, name := range order {
			if err := requests[name](&mvcc.Access{Number: number}); err != nil {
				t.Errorf("%s anew: %v", name, err)
			}
			if err := requests[name](nil); err != nil && name != "LeaseRevoke" && !errors.Is(err, mvcc.ErrLeaseExists) {
				t.Errorf("%s of the server's own: %v", name, err)
			}
		}
		// Who opens it later knows it at once.
		other := open(t, e, o)
		if n := other.AuthNumber(); n != number {
			t.Errorf("opened anew: number %d", n)
		}
		check(t, e, s, o.Prefix, false)
	})
}

// TestAccessOvertakes: a group that has been evaluated by the users and roles of before does not commit after they have
// changed, be it the first change or a later one.
func TestAccessOvertakes(t *testing.T) {
	for _, first := range []bool{true, false} {
		holding, arm, entered, release := holdCommit()
		e := faults.New(openEngine(t, fdb), holding)
		s, other := open(t, e, mvcc.Options{NoRemoval: true}), open(t, e, mvcc.Options{NoRemoval: true})
		if !first {
			bump(t, other, mvcc.AuthRow{Key: []byte("rr"), Value: []byte{}})
			put(t, s, "seen", "")
		}
		a := &mvcc.Access{Number: s.AuthNumber()}
		arm()
		done := make(chan error, 1)
		go func() {
			_, err := s.Put(t.Context(), &mvcc.PutRequest{Key: []byte("late"), Access: a})
			done <- err
		}()
		<-entered
		bump(t, other, mvcc.AuthRow{Key: []byte("rs"), Value: []byte{}})
		close(release)
		if err := <-done; !errors.Is(err, mvcc.ErrAuthOld) {
			t.Errorf("first %t: %v", first, err)
		}
	}
}

// TestAccessOnLease: a request may not put a key on a lease, nor revoke one, with a key that it may not write: one that
// the engine has, or that the same group has put; one that has left the lease does not count.
func TestAccessOnLease(t *testing.T) {
	accessEngines(t, func(t *testing.T, o mvcc.Options, eo pebble.Options) {
		s := open(t, openEngine(t, eo), o)
		ctx := t.Context()
		mine := &mvcc.Access{Number: s.AuthNumber(), MayWrite: func(k []byte) bool {
			return bytes.HasPrefix(k, []byte("mine"))
		}}
		for id := range int64(3) {
			if _, err := s.LeaseGrant(ctx, id+1, 60, nil); err != nil {
				t.Fatal(err)
			}
		}
		attach := func(key string, lease int64, a *mvcc.Access) error {
			_, err := s.Put(ctx, &mvcc.PutRequest{Key: []byte(key), Lease: lease, Access: a})
			return err
		}
		txn := func(key string, lease int64, nested bool) error {
			op := mvcc.Op{Put: &mvcc.PutRequest{Key: []byte(key), Lease: lease}}
			if nested {
				op = mvcc.Op{Txn: &mvcc.TxnRequest{Failure: []mvcc.Op{op}}}
			}
			_, err := s.Txn(ctx, &mvcc.TxnRequest{Failure: []mvcc.Op{op}, Access: mine})
			return err
		}
		want := func(what string, err, want error) {
			t.Helper()
			if !errors.Is(err, want) {
				t.Errorf("%s: %v, want %v", what, err, want)
			}
		}
		want("attach", attach("theirs", 1, nil), nil)
		want("attach", attach("mine", 2, mine), nil)
		want("attach to a foreign lease", attach("mine", 1, mine), mvcc.ErrDenied)
		want("attach in the branch not taken", txn("mine", 1, false), mvcc.ErrDenied)
		want("attach nested", txn("mine", 1, true), mvcc.ErrDenied)
		want("attach to my own", txn("mine2", 2, true), nil)
		want("attach to none", attach("mine", 99, mine), mvcc.ErrLeaseNotFound)
		_, err := s.LeaseRevoke(mvcc.WithAccess(ctx, mine), 1, nil)
		want("revoke", err, mvcc.ErrDenied)
		want("move", attach("theirs", 3, nil), nil)
		_, err = s.LeaseRevoke(mvcc.WithAccess(ctx, mine), 1, nil)
		want("revoke an empty one", err, nil)
		_, err = s.LeaseRevoke(mvcc.WithAccess(ctx, mine), 2, nil)
		want("revoke my own", err, nil)
		// Concurrently: whichever comes first, theirs and mine never meet on a lease on my behalf.
		var wg sync.WaitGroup
		for i := range 50 {
			id := int64(100 + i)
			if _, err := s.LeaseGrant(ctx, id, 60, nil); err != nil {
				t.Fatal(err)
			}
			var foreign, own error
			wg.Go(func() { foreign = attach("theirs", id, nil) })
			wg.Go(func() { own = attach("mine", id, mine) })
			wg.Wait()
			if foreign != nil || own != nil && !errors.Is(own, mvcc.ErrDenied) {
				t.Fatal(foreign, own)
			}
		}
	})
}

// TestAuthChangedBeforeFeed: whoever gets the entries is told of a change of users and roles before it gets the first
// entry that was made under it.
func TestAuthChangedBeforeFeed(t *testing.T) {
	var mu sync.Mutex
	var said uint64
	under := map[int64]uint64{}
	o := mvcc.Options{
		AuthChanged: func(number uint64) { mu.Lock(); defer mu.Unlock(); said = number },
		Feed: func(entries []revlog.Entry) {
			mu.Lock()
			defer mu.Unlock()
			for i := range entries {
				under[entries[i].Rev] = said
			}
		},
	}
	s := open(t, openEngine(t, pebble.Options{}), o)
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for ctx.Err() == nil {
				_, _ = s.Put(ctx, &mvcc.PutRequest{Key: []byte("k")})
			}
		})
	}
	for i := range 20 {
		number := bump(t, s, mvcc.AuthRow{Key: []byte{'r', byte('a' + i)}, Value: []byte{}})
		rev := put(t, s, "after", "") // begun after the change
		mu.Lock()
		if under[rev] < number {
			t.Errorf("entry %d came under %d, made under %d", rev, under[rev], number)
		}
		mu.Unlock()
	}
	cancel()
	wg.Wait()
}
