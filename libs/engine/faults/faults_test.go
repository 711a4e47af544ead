package faults

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/headwaterdb/headwater/libs/engine"
	"github.com/headwaterdb/headwater/libs/engine/enginetest"
	"github.com/headwaterdb/headwater/libs/engine/pebble"
	"github.com/headwaterdb/headwater/libs/leaktest"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

// openMem opens a small store in memory.
func openMem(t *testing.T, fs vfs.FS) *pebble.Store {
	t.Helper()
	s, err := pebble.Open("data", pebble.Options{FS: fs, CacheBytes: 1 << 20, MemTableBytes: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// TestConformance: without faults the wrapper is an engine like the one in it, and its crashes are a crash.
func TestConformance(t *testing.T) {
	for _, keep := range []bool{false, true} {
		t.Run(fmt.Sprintf("pipelined=%v", keep), func(t *testing.T) {
			enginetest.Run(t, func(t *testing.T) enginetest.Engine {
				fs := vfs.NewCrashableMem()
				s := New(openMem(t, fs), Options{KeepPipelined: keep, Recent: !keep})
				t.Cleanup(func() { _ = s.Close() })
				return enginetest.Engine{Store: s, Reopen: func(bool) engine.Store {
					s.Crash()
					fs = fs.CrashClone(vfs.CrashCloneCfg{})
					s.Restart(openMem(t, fs))
					t.Cleanup(func() { s.Crash() }) // before the inner store ends
					return s
				}}
			})
		})
	}
}

// script answers each call of op with the next fault; then with none.
func script(op Op, faults ...Fault) func(Call) (Fault, bool) {
	var mu sync.Mutex
	return func(c Call) (Fault, bool) {
		mu.Lock()
		defer mu.Unlock()
		if c.Op != op || len(faults) == 0 {
			return None, true
		}
		f := faults[0]
		faults = faults[1:]
		return f, true
	}
}

func set(s engine.Store, key string) error {
	ctx := context.Background()
	x, err := s.Begin(ctx)
	if err != nil {
		return err
	}
	defer x.Discard()
	x.Set([]byte(key), []byte("1"))
	p, err := x.Commit(ctx)
	if err != nil {
		return err
	}
	_, err = p.Wait(ctx)
	return err
}

func has(t *testing.T, s engine.Store, key string) bool {
	t.Helper()
	r, err := s.Snapshot(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	v, err := r.Get(t.Context(), []byte(key))
	if err != nil {
		t.Fatal(err)
	}
	return v != nil
}

func TestCommitFaults(t *testing.T) {
	for _, test := range []struct {
		fault   Fault
		err     error
		happens bool
	}{
		{None, nil, true},
		{Conflict, engine.ErrConflict, false},
		{LateConflict, engine.ErrConflict, false},
		{UnknownLost, engine.ErrUnknownOutcome, false},
		{UnknownCommitted, engine.ErrUnknownOutcome, true},
		{TooOld, engine.ErrTooOld, false},
		{Unavailable, engine.ErrUnavailable, false},
		{TooLarge, engine.ErrTooLarge, false},
		{LateTooLarge, engine.ErrTooLarge, false},
		{NoSpace, engine.ErrNoSpace, false},
		{LateNoSpace, engine.ErrNoSpace, false},
		{LateTooOld, engine.ErrTooOld, false},
	} {
		inner := openMem(t, vfs.NewMem())
		s := New(inner, Options{Script: script(Commit, test.fault)})
		if err := set(s, "a"); !errors.Is(err, test.err) {
			t.Errorf("fault %d: %v, want %v", test.fault, err, test.err)
		}
		if got := has(t, inner, "a"); got != test.happens {
			t.Errorf("fault %d: it is there: %v", test.fault, got)
		}
		if err := set(s, "b"); err != nil {
			t.Errorf("fault %d: afterwards: %v", test.fault, err)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestReadFaults(t *testing.T) {
	inner := openMem(t, vfs.NewMem())
	for i := range 10 {
		if err := set(inner, fmt.Sprintf("k%d", i)); err != nil {
			t.Fatal(err)
		}
	}
	ctx := t.Context()
	s := New(inner, Options{Script: script(Next, None, None, None, TooOld)})
	r, err := s.Snapshot(ctx)
	if err != nil {
		t.Fatal(err)
	}
	it := r.Scan(ctx, engine.Range{})
	n := 0
	for it.Next() {
		n++
	}
	if n != 3 || !errors.Is(it.Err(), engine.ErrTooOld) || !errors.Is(it.Close(), engine.ErrTooOld) {
		t.Errorf("%d rows, then %v", n, it.Err())
	}
	r.Close()

	for _, op := range []Op{Snapshot, Begin, Get, Scan, WaitChange} {
		s := New(inner, Options{Script: script(op, Unavailable)})
		err := func() error {
			r, err := s.Snapshot(ctx)
			if err != nil {
				return err
			}
			defer r.Close()
			if _, err := r.Get(ctx, []byte("k0")); err != nil {
				return err
			}
			if _, err := r.GetMany(ctx, nil); err != nil {
				return err
			}
			it := r.Scan(ctx, engine.Range{})
			for it.Next() {
			}
			if err := it.Close(); err != nil {
				return err
			}
			x, err := s.Begin(ctx)
			if err != nil {
				return err
			}
			x.Discard()
			return s.WaitChange(ctx, []byte("k0"), nil)
		}()
		if !errors.Is(err, engine.ErrUnavailable) {
			t.Errorf("%v: %v", op, err)
		}
	}
}

func TestCrash(t *testing.T) {
	fs := vfs.NewCrashableMem()
	s := New(openMem(t, fs), Options{})
	if err := set(s, "a"); err != nil {
		t.Fatal(err)
	}
	r, err := s.Snapshot(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	x, err := s.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	waits := make(chan error, 1)
	go func() { waits <- s.WaitChange(context.Background(), []byte("a"), []byte("1")) }()

	s.Crash()
	if err := <-waits; !errors.Is(err, engine.ErrUnavailable) {
		t.Error("WaitChange:", err)
	}
	if _, err := r.Get(t.Context(), []byte("a")); !errors.Is(err, engine.ErrUnavailable) {
		t.Error("Get:", err)
	}
	x.Set([]byte("b"), nil)
	if _, err := x.Commit(t.Context()); !errors.Is(err, engine.ErrUnavailable) {
		t.Error("Commit:", err)
	}
	r.Close()
	if err := set(s, "c"); !errors.Is(err, engine.ErrUnavailable) {
		t.Error("crashed:", err)
	}
	s.Restart(openMem(t, fs.CrashClone(vfs.CrashCloneCfg{})))
	if !has(t, s, "a") || has(t, s, "b") || has(t, s, "c") {
		t.Error("after the crash: a, b, c:", has(t, s, "a"), has(t, s, "b"), has(t, s, "c"))
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

// TestSeeded: the same seed, the same faults.
func TestSeeded(t *testing.T) {
	run := func(seed uint64) (faults []Fault) {
		s := New(nil, Options{
			Seed: seed, Conflict: .2, UnknownLost: .1, UnknownCommitted: .1, TooOld: .1, Unavailable: .1,
		})
		for i := range 500 {
			faults = append(faults, s.ask(t.Context(), []Op{Snapshot, Get, Next, Commit}[i%4], nil))
		}
		return faults
	}
	a, b := run(1), run(1)
	if !slices.Equal(a, b) || slices.Equal(a, run(2)) {
		t.Error("faults do not follow the seed")
	}
	for f := None; f <= Unavailable; f++ {
		if !slices.Contains(a, f) {
			t.Errorf("fault %d never happens", f)
		}
	}
}

// TestCounterUnderFaults: increments that read back unknown outcomes lose and repeat nothing.
func TestCounterUnderFaults(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	s := New(openMem(t, vfs.NewMem()), Options{
		Seed: seed, Conflict: .1, UnknownLost: .1, UnknownCommitted: .1, TooOld: .05, Unavailable: .05,
	})
	const workers, each = 4, 50
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			for i := range each {
				if err := incrementOnce(s, w, i); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	s.Pause(true)
	r, err := s.Snapshot(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	v, err := r.Get(t.Context(), []byte("n"))
	if err != nil {
		t.Fatal(err)
	}
	if n := binary.BigEndian.Uint64(v); n != workers*each {
		t.Errorf("%d increments counted as %d", workers*each, n)
	}
}

// incrementOnce adds 1 exactly once, whatever happens: its row says whether it has been done.
func incrementOnce(s engine.Store, w, i int) error {
	ctx := context.Background()
	mine := fmt.Appendf(nil, "done/%d/%d", w, i)
	for range 10_000 {
		err := func() error {
			x, err := s.Begin(ctx)
			if err != nil {
				return err
			}
			defer x.Discard()
			vs, err := x.GetMany(ctx, [][]byte{mine, []byte("n")})
			if err != nil || vs[0] != nil {
				return err
			}
			var n uint64
			if vs[1] != nil {
				n = binary.BigEndian.Uint64(vs[1])
			}
			x.Set([]byte("n"), binary.BigEndian.AppendUint64(nil, n+1))
			x.Set(mine, nil)
			p, err := x.Commit(ctx)
			if err != nil {
				return err
			}
			_, err = p.Wait(ctx)
			return err
		}()
		if err == nil {
			return nil
		}
		if !errors.Is(err, engine.ErrConflict) && !errors.Is(err, engine.ErrUnknownOutcome) &&
			!errors.Is(err, engine.ErrTooOld) && !errors.Is(err, engine.ErrUnavailable) {
			return err
		}
	}
	return errors.New("no success")
}

// TestDomainOutcomes: a commit in a domain whose outcome is unknown has taken a stamp if it happened, which its row
// tells, and none if it did not.
func TestDomainOutcomes(t *testing.T) {
	for _, test := range []struct {
		fault Fault
		taken uint64
	}{{UnknownLost, 0}, {LateConflict, 0}, {UnknownCommitted, 2}} {
		s := New(openMem(t, vfs.NewMem()), Options{Script: script(Commit, test.fault)})
		d := s.Domain([]byte("a"))
		stamp := func(row string) (engine.Stamp, error) {
			x, err := d.Begin(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			x.UseStamps(2)
			x.SetStampedValue([]byte(row), make([]byte, engine.StampLen), 0)
			p, err := x.Commit(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			return p.Wait(t.Context())
		}
		if _, err := stamp("first"); err == nil {
			t.Fatalf("%v: no error", test.fault)
		}
		if has(t, d, "first") != (test.taken > 0) {
			t.Errorf("%v: the row is there: %v", test.fault, has(t, d, "first"))
		}
		if st, err := stamp("second"); err != nil || st.Version != test.taken+1 {
			t.Errorf("%v: stamp %v, %v after %d", test.fault, st, err, test.taken)
		}
		_ = s.Close()
	}
}
