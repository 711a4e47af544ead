package faults

import (
	"bytes"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/headwaterdb/headwater/libs/engine"
	"github.com/headwaterdb/headwater/libs/engine/enginetest"
	"github.com/headwaterdb/headwater/libs/engine/pebble"
)

// openLike opens a small store in memory that behaves as FoundationDB does, but for what a Remote adds.
func openLike(t *testing.T) *pebble.Store {
	t.Helper()
	s, err := pebble.Open("data", pebble.Options{
		FS: vfs.NewMem(), CacheBytes: 1 << 20, MemTableBytes: 1 << 20, ReserveBytes: -1, BallastBytes: -1,
		FDBLimits: true, TxnAge: time.Hour, Sparse: true, NotPipelined: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// remote runs a test in a bubble, with a store over a network.
func remote(t *testing.T, o Options, test func(t *testing.T, s *Store)) {
	synctest.Test(t, func(t *testing.T) {
		s := New(openLike(t), o)
		defer func() {
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		}()
		test(t, s)
	})
}

// TestRemoteConformance: a store over a network is an engine like any other.
func TestRemoteConformance(t *testing.T) {
	enginetest.Run(t, func(t *testing.T) enginetest.Engine {
		s := New(openLike(t), Options{Recent: true, Remote: &Remote{}})
		t.Cleanup(func() { _ = s.Close() })
		return enginetest.Engine{Store: s}
	})
}

// took is what has passed on the bubble's clock, and the round trips of do.
func took(s *Store, do func()) (time.Duration, Trips) {
	begun, before := time.Now(), s.Trips()
	do()
	return time.Since(begun), s.Trips().Since(before)
}

// TestTrips: each call costs the round trips that it costs on FoundationDB, and they take their time.
func TestTrips(t *testing.T) {
	l := Latency{
		TripVersion: {Fixed: 1}, TripGet: {Fixed: 10}, TripGetMany: {Fixed: 100},
		TripPage: {Fixed: 1000}, TripCommit: {Fixed: 10000},
	}
	for i := range l {
		l[i].Fixed *= time.Millisecond
	}
	const rows, size = 100, 1000 // 100 kB: more than a page
	remote(t, Options{Remote: &Remote{Latency: l, TxnAge: time.Hour}, Seed: 1}, func(t *testing.T, s *Store) {
		ctx := t.Context()
		check := func(what string, got error) {
			t.Helper()
			if got != nil {
				t.Errorf("%s: %v", what, got)
			}
		}
		var x engine.Txn
		var r engine.Snapshot
		var scan engine.Iterator
		walk := func(q engine.Range) (n int) {
			it := r.Scan(ctx, q)
			for it.Next() {
				n++
			}
			check("scan", it.Close())
			return n
		}
		key := func(i int) []byte { return fmt.Appendf(nil, "k%03d", i) }
		// Pages of 4,096, 6,144, 9,216, 13,824, 20,736, 31,104 and 46,656 bytes bring 5, 7, 10, 14, 21, 31 and the
		// last 12 rows.
		for _, step := range []struct {
			name string
			ms   time.Duration
			want Trips
			do   func()
		}{
			{"Begin", 1, Trips{TripVersion: 1}, func() { x, _ = s.Begin(ctx) }},
			{"Get", 10, Trips{TripGet: 1}, func() { _, err := x.Get(ctx, key(0)); check("Get", err) }},
			{"mutations", 0, Trips{}, func() {
				for i := range rows {
					x.Set(key(i), make([]byte, size))
				}
			}},
			{"Commit", 10000, Trips{TripCommit: 1}, func() {
				p, err := x.Commit(ctx)
				check("Commit", err)
				_, err = p.Wait(ctx)
				check("Wait", err)
			}},
			{"Snapshot", 1, Trips{TripVersion: 1}, func() { r, _ = s.Snapshot(ctx) }},
			{"GetMany", 100, Trips{TripGetMany: 1}, func() {
				_, err := r.GetMany(ctx, [][]byte{key(1), key(2), key(3)})
				check("GetMany", err)
			}},
			{"GetMany of nothing", 0, Trips{}, func() { _, err := r.GetMany(ctx, nil); check("GetMany", err) }},
			{"a whole scan", 7000, Trips{TripPage: 7}, func() { walk(engine.Range{}) }},
			{"a scan with a limit", 1000, Trips{TripPage: 1}, func() { walk(engine.Range{Limit: 70}) }},
			{"keys only", 7000, Trips{TripPage: 7}, func() { walk(engine.Range{KeysOnly: true}) }},
			{"an inverted range", 0, Trips{}, func() { walk(engine.Range{Begin: []byte("b"), End: []byte("a")}) }},
			{"a scan beside a GetMany", 1000, Trips{TripPage: 1, TripGetMany: 1}, func() {
				scan = r.Scan(ctx, engine.Range{Limit: 1})
				_, err := r.GetMany(ctx, [][]byte{key(1)})
				check("GetMany", err)
				if !scan.Next() {
					t.Error("no row")
				}
				check("scan", scan.Close())
			}},
			{"a commit of nothing", 1, Trips{TripVersion: 1}, func() {
				x, err := s.Begin(ctx)
				check("Begin", err)
				p, err := x.Commit(ctx)
				check("Commit", err)
				_, err = p.Wait(ctx)
				check("Wait", err)
			}},
		} {
			ms, trips := took(s, step.do)
			if ms != step.ms*time.Millisecond || trips != step.want {
				t.Errorf("%s: %v in %v, want %v in %v", step.name, trips, ms, step.want, step.ms*time.Millisecond)
			}
		}
		r.Close()
	})
}

// TestRandomLatency follows the seed and stays within its bounds.
func TestRandomLatency(t *testing.T) {
	run := func(seed uint64) (ds []time.Duration) {
		l := Reads(Delay{Fixed: time.Second, Random: time.Second})
		o := Options{Seed: seed, Remote: &Remote{Latency: l, TxnAge: time.Hour}}
		remote(t, o, func(t *testing.T, s *Store) {
			r, err := s.Snapshot(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			for range 20 {
				d, _ := took(s, func() { _, _ = r.Get(t.Context(), []byte("k")) })
				if d < time.Second || d >= 2*time.Second {
					t.Errorf("a read took %v", d)
				}
				ds = append(ds, d)
			}
		})
		return ds
	}
	a, b, c := fmt.Sprint(run(1)), fmt.Sprint(run(1)), fmt.Sprint(run(2))
	if a != b || a == c {
		t.Errorf("latencies do not follow the seed:\n%s\n%s\n%s", a, b, c)
	}
}

// TestLateRefusals: Wait returns the errors that FoundationDB's cluster detects, and the error for a transaction that
// its client counts as too large.
func TestLateRefusals(t *testing.T) {
	commit := func(t *testing.T, x engine.Txn) (early, late error) {
		p, err := x.Commit(t.Context())
		if err != nil {
			return err, nil
		}
		_, err = p.Wait(t.Context())
		return nil, err
	}
	for _, test := range []struct {
		name string
		want error
		do   func(t *testing.T, s *Store, x engine.Txn)
	}{
		{"nothing wrong", nil, func(_ *testing.T, _ *Store, x engine.Txn) { x.Set([]byte("k"), nil) }},
		{"conflict", engine.ErrConflict, func(t *testing.T, s *Store, x engine.Txn) {
			_, _ = x.Get(t.Context(), []byte("k"))
			if err := set(s, "k"); err != nil {
				t.Error(err)
			}
			x.Set([]byte("l"), nil)
		}},
		{"too old", engine.ErrTooOld, func(t *testing.T, _ *Store, x engine.Txn) {
			x.Set([]byte("k"), nil)
			time.Sleep(remoteTxnAge + 1)
			if _, err := x.Get(t.Context(), []byte("k")); !errors.Is(err, engine.ErrTooOld) {
				t.Errorf("Get: %v", err)
			}
			if it := x.Scan(t.Context(), engine.Range{}); it.Next() || !errors.Is(it.Err(), engine.ErrTooOld) {
				t.Errorf("Scan: %v", it.Err())
			}
		}},
		{"too large by its structures only", engine.ErrTooLarge, func(_ *testing.T, _ *Store, x engine.Txn) {
			for i := range 40_000 { // 2 MB of keys count as 10.8 MB
				x.Clear(fmt.Appendf(nil, "%050d", i))
			}
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			remote(t, Options{Remote: &Remote{}}, func(t *testing.T, s *Store) {
				x, err := s.Begin(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				defer x.Discard()
				test.do(t, s, x)
				early, late := commit(t, x)
				if early != nil || !errors.Is(late, test.want) || (test.want == nil) != (late == nil) {
					t.Errorf("Commit: %v, Wait: %v, want %v", early, late, test.want)
				}
			})
		})
	}
}

// TestSize: a transaction counts as it does in FoundationDB 7.3.79 (sizeof(MutationRef) is 44 and sizeof(KeyRangeRef)
// 24, where both are compiled for
// x86-64; Transaction::getSize).
func TestSize(t *testing.T) {
	k, v := bytes.Repeat([]byte("k"), 100), make([]byte, 1000)
	stamped := append(bytes.Clone(k), make([]byte, engine.StampLen)...)
	point := 24 + 100 + 101
	for _, test := range []struct {
		name string
		want int
		do   func(t *testing.T, x engine.Txn)
	}{
		{"Set", 44 + 100 + 1000 + point, func(_ *testing.T, x engine.Txn) { x.Set(k, v) }},
		{"Set twice", 2 * (44 + 100 + 1000 + point), func(_ *testing.T, x engine.Txn) { x.Set(k, v); x.Set(k, v) }},
		{"Clear", 44 + 100 + 101 + point, func(_ *testing.T, x engine.Txn) { x.Clear(k) }},
		{"ClearRange", 44 + 100 + 3 + 24 + 100 + 3, func(_ *testing.T, x engine.Txn) { x.ClearRange(k, []byte("kl0")) }},
		{"ClearRange of nothing", 0, func(_ *testing.T, x engine.Txn) { x.ClearRange([]byte("b"), []byte("a")) }},
		{"SetStampedKey", 44 + 112 + 4 + 1000, func(_ *testing.T, x engine.Txn) {
			x.UseStamps(1)
			x.SetStampedKey(stamped, 100, v)
		}},
		{"SetStampedValue", 44 + 100 + 1000 + 4 + point, func(_ *testing.T, x engine.Txn) {
			x.UseStamps(1)
			x.SetStampedValue(k, v, 0)
		}},
		{"Add", 44 + 100 + 8 + point, func(_ *testing.T, x engine.Txn) { x.Add(k, 1) }},
		{"AddReadConflict", 24 + 100 + 3, func(_ *testing.T, x engine.Txn) { x.AddReadConflict(k, []byte("kl0")) }},
		{"AddWriteConflict", 24 + 100 + 3, func(_ *testing.T, x engine.Txn) { x.AddWriteConflict(k, []byte("kl0")) }},
		{"Get", point, func(t *testing.T, x engine.Txn) { _, _ = x.Get(t.Context(), k) }},
		{"GetMany", 2 * point, func(t *testing.T, x engine.Txn) { _, _ = x.GetMany(t.Context(), [][]byte{k, k}) }},
		{"Scan", 0, func(t *testing.T, x engine.Txn) { _ = x.Scan(t.Context(), engine.Range{}).Close() }},
	} {
		remote(t, Options{Remote: &Remote{}}, func(t *testing.T, s *Store) {
			x, err := s.Begin(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			defer x.Discard()
			test.do(t, x)
			if got := x.(interface{ Size() int }).Size(); got != test.want {
				t.Errorf("%s: %d, want %d", test.name, got, test.want)
			}
		})
	}
}
