//go:build foundationdb

package foundationdb

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/headwaterdb/headwater/libs/engine"
	"github.com/headwaterdb/headwater/libs/engine/enginetest"
	"github.com/headwaterdb/headwater/libs/leaktest"
)

// clusterEnv names the cluster file of the tests. It is libfdb_c's own variable.
const clusterEnv = "FDB_CLUSTER_FILE"

func TestMain(m *testing.M) {
	const networkThread = "github.com/apple/foundationdb/bindings/go/src/fdb.executeWithRunningNetworkThread.func1"
	leaktest.Main(m, goleak.IgnoreAnyFunction(networkThread))
}

// openRoot opens a store on the cluster in a root of its own, which is cleared afterwards; it skips the test if there
// is no cluster.
func openRoot(t testing.TB) *Store {
	t.Helper()
	file := os.Getenv(clusterEnv)
	if file == "" {
		t.Skipf("SKIPPED: %s names no cluster file: nothing is tested on FoundationDB", clusterEnv)
	}
	root := []byte("headwater-test/" + strings.ToLower(rand.Text()) + "/")
	s, err := Open(Options{ClusterFile: file, Root: root})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		x, err := s.Begin(context.Background())
		if err != nil {
			t.Error(err)
			return
		}
		x.ClearRange(nil, nil)
		if _, err := wait(x); err != nil {
			t.Error(err)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// wait commits x and waits.
func wait(x engine.Txn) (engine.Stamp, error) {
	p, err := x.Commit(context.Background())
	if err != nil {
		return engine.Stamp{}, err
	}
	return p.Wait(context.Background())
}

func begin(t testing.TB, s *Store) *txn {
	t.Helper()
	x, err := s.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return x.(*txn)
}

func TestConformance(t *testing.T) {
	enginetest.Run(t, func(t *testing.T) enginetest.Engine {
		s := openRoot(t)
		now := s
		return enginetest.Engine{Store: s, Reopen: func(crash bool) engine.Store {
			if now != s && !crash { // s itself clears the root in the end
				if err := now.Close(); err != nil {
					t.Fatal(err)
				}
			}
			var err error
			if now, err = Open(Options{ClusterFile: s.o.ClusterFile, Root: s.o.Root}); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = now.Close() })
			return now
		}}
	})
}

// TestFirstInBatch: of many stamped commits made at once, with others between them, each has a version of its own and
// batch order 0.
func TestFirstInBatch(t *testing.T) {
	s := openRoot(t)
	const writers, each = 16, 20
	var mu sync.Mutex
	seen := map[uint64]bool{}
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for i := range each {
				x, err := s.Begin(context.Background())
				if err != nil {
					t.Error(err)
					return
				}
				stamped := w%4 > 0
				if stamped {
					x.UseStamps(1)
				}
				x.Set(fmt.Appendf(nil, "%d/%d", w, i), []byte("x"))
				st, err := wait(x)
				if err != nil || stamped != (st.Version > 0) {
					t.Error(st, err)
					return
				}
				mu.Lock()
				if stamped && seen[st.Version] {
					t.Errorf("version %d twice", st.Version)
				}
				seen[st.Version] = true
				mu.Unlock()
			}
		})
	}
	wg.Wait()
}

// TestVersions: the stamp's version is that of the state the commit made (Limits.Versionstamps), and who begins after
// a commit sees it.
func TestVersions(t *testing.T) {
	s := openRoot(t)
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			key := fmt.Appendf(nil, "%d", w)
			for i := range 20 {
				x, err := s.Begin(context.Background())
				if err != nil {
					t.Error(err)
					return
				}
				x.UseStamps(1)
				x.Set(key, []byte{byte(i)})
				st, err := wait(x)
				if err != nil {
					t.Error(err)
					return
				}
				r, err := s.Snapshot(context.Background())
				if err != nil {
					t.Error(err)
					return
				}
				v, err := r.Get(context.Background(), key)
				if err != nil || len(v) != 1 || v[0] != byte(i) || r.Version() < st.Version ||
					x.Version() >= st.Version {
					t.Errorf("read %d, stamp %d, reads %v at %d: %v", x.Version(), st.Version, v, r.Version(), err)
				}
				r.Close()
			}
		})
	}
	wg.Wait()
}

// TestFence: after settle, a transaction that has read the key and not committed yet never will.
func TestFence(t *testing.T) {
	s := openRoot(t)
	for name, read := range map[string]func(x engine.Txn){
		"reads":       func(x engine.Txn) { _, _ = x.Get(context.Background(), []byte("k")) },
		"conflicts":   func(x engine.Txn) { x.AddReadConflict([]byte("a"), []byte("b")) },
		"blind write": func(engine.Txn) {},
	} {
		x := begin(t, s)
		read(x)
		x.Set([]byte("w"), []byte("1"))
		if err := x.ensureFence(); err != nil {
			t.Fatal(err)
		}
		if err := s.settle(t.Context(), x.fence); err != nil {
			t.Fatal(err)
		}
		if _, err := wait(x); !errors.Is(err, engine.ErrConflict) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestRecentSnapshot: a version is used again, but not for ever, and never one older than what the store has shown or
// done.
func TestRecentSnapshot(t *testing.T) {
	s, key := openRoot(t), []byte("k")
	s.o.RecentAge = time.Hour
	last := uint64(0)
	recent := func(what, want string) uint64 {
		t.Helper()
		r, err := s.RecentSnapshot(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		if v, err := r.Get(t.Context(), key); string(v) != want || err != nil {
			t.Errorf("%s: %q, %v; want %q", what, v, err, want)
		}
		if r.Version() < last {
			t.Errorf("%s: version %d after %d", what, r.Version(), last)
		}
		last = r.Version()
		return last
	}
	first := recent("at first", "")
	if again := recent("again", ""); again != first {
		t.Errorf("version %d was not used again, but %d", first, again)
	}
	for i := range 3 {
		x := begin(t, s)
		value := fmt.Sprint(i)
		x.Set(key, []byte(value))
		if _, err := wait(x); err != nil {
			t.Fatal(err)
		}
		if own, again := recent("after a commit", value), recent("and again", value); own != again {
			t.Errorf("version %d was not used again, but %d", own, again)
		}
	}
	r, err := s.Snapshot(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if got := recent("after a fresh one", "2"); got != r.Version() {
		t.Errorf("version %d, and then %d", r.Version(), got)
	}
	other, err := Open(s.o)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	x := begin(t, other)
	x.Set(key, []byte("theirs"))
	if _, err := wait(x); err != nil {
		t.Fatal(err)
	}
	recent("after another's commit", "2")
	s.o.RecentAge = time.Nanosecond
	recent("too old", "theirs")
}

// TestTooOld: a read version lives for 5 s.
func TestTooOld(t *testing.T) {
	if testing.Short() {
		t.Skip("takes 6 s")
	}
	s := openRoot(t)
	x := begin(t, s)
	x.Set([]byte("k"), []byte("1"))
	if _, err := wait(x); err != nil {
		t.Fatal(err)
	}
	r, err := s.Snapshot(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	x = begin(t, s)
	x.AddReadConflict([]byte("k"), []byte("l"))
	x.Set([]byte("k"), []byte("2"))
	for end := time.Now().Add(2 * time.Minute); ; time.Sleep(500 * time.Millisecond) {
		if _, err = r.Get(t.Context(), []byte("k")); err != nil || time.Now().After(end) {
			break
		}
	}
	if !errors.Is(err, engine.ErrTooOld) {
		t.Error("Get:", err)
	}
	it := r.Scan(t.Context(), engine.Range{})
	if it.Next() || !errors.Is(it.Err(), engine.ErrTooOld) {
		t.Error("Scan:", it.Err())
	}
	_ = it.Close()
	if _, err := wait(x); !errors.Is(err, engine.ErrTooOld) {
		t.Error("Commit:", err)
	}
}

// TestScanBatches: scans of many batches, left early and in reverse, and commits that do not wait for what a left
// scan has asked for.
func TestScanBatches(t *testing.T) {
	s := openRoot(t)
	const rows = 3000
	x := begin(t, s)
	for i := range rows {
		x.Set(fmt.Appendf(nil, "%06d", i), make([]byte, 300))
	}
	if _, err := wait(x); err != nil {
		t.Fatal(err)
	}
	for _, q := range []engine.Range{
		{}, {Reverse: true}, {Limit: rows - 1}, {Limit: 1000, Reverse: true}, {Limit: rows * 2},
	} {
		for _, leave := range []int{rows * 2, 1, 50, 700} {
			x := begin(t, s)
			it := x.Scan(t.Context(), q)
			n := 0
			for n < leave && it.Next() {
				want := n
				if q.Reverse {
					want = rows - 1 - n
				}
				if string(it.Key()) != fmt.Sprintf("%06d", want) || len(it.Value()) != 300 {
					t.Fatalf("%+v: row %d is %q", q, n, it.Key())
				}
				n++
			}
			if err := it.Close(); err != nil {
				t.Fatal(err)
			}
			want := rows
			if q.Limit > 0 {
				want = min(want, q.Limit)
			}
			if n != min(want, leave) {
				t.Errorf("%+v: %d rows of %d", q, n, min(want, leave))
			}
			x.Set([]byte("zzz"), nil)
			x.Clear([]byte("zzz"))
			if _, err := wait(x); err != nil {
				t.Errorf("%+v, left after %d: %v", q, n, err)
			}
		}
	}
}
