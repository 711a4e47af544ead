package join

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/headwaterdb/headwater/libs/engine"
	"github.com/headwaterdb/headwater/libs/engine/enginetest"
	"github.com/headwaterdb/headwater/libs/engine/faults"
	"github.com/headwaterdb/headwater/libs/engine/testengine"
	"github.com/headwaterdb/headwater/libs/leaktest"
)

func TestMain(m *testing.M) { leaktest.Main(m, testengine.IgnoreThreads()) }

// TestFoundationDB says what this package's tests ran on.
func TestFoundationDB(t *testing.T) { testengine.OnFoundationDB(t) }

// TestConformance: a domain is an engine like the one it is of, whichever way its transactions go.
func TestConformance(t *testing.T) {
	for _, test := range []struct {
		name string
		set  func(*Store)
	}{
		{"as they are", func(*Store) {}},
		{"recorded", func(s *Store) { s.line.any++ }},
		{"waiting, then alone", func(s *Store) { s.line.any++; s.line.small += slots; s.patience = time.Microsecond }},
		{"joined", func(s *Store) {
			s.line.any++
			s.line.small += slots
			s.patience, s.singles = time.Microsecond, true
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			if testing.Short() && test.name != "joined" {
				t.Skip("only the longest way in short runs")
			}
			enginetest.Run(t, func(t *testing.T) enginetest.Engine {
				f := faults.New(testengine.KeepOpen(testengine.Open(t, rand.Uint64())), faults.Options{Recent: true})
				s := New(f)
				test.set(s)
				t.Cleanup(func() { _, _ = s.Close(), f.Close() })
				return enginetest.Engine{Store: s.Domain(nil)}
			})
		})
	}
}

// rig is a Store whose commits can be held up and made to fail.
type rig struct {
	*Store
	t      *testing.T
	faults *faults.Store

	mu    sync.Mutex
	hold  int           // so many commits that come next are held up,
	open  chan struct{} // until this is closed
	fault []faults.Fault
}

// newRig returns a rig whose transactions never go for having waited too long.
func newRig(t *testing.T) *rig {
	t.Helper()
	r := &rig{t: t, open: make(chan struct{})}
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r.faults = faults.New(testengine.KeepOpen(testengine.Open(t, seed)), faults.Options{
		Remote: &faults.Remote{}, Delay: r.delay, Script: r.script,
	})
	r.Store = New(r.faults)
	r.patience = time.Hour
	t.Cleanup(func() {
		if err := errors.Join(r.Store.Close(), r.faults.Close()); err != nil {
			t.Error(err)
		}
	})
	return r
}

func (r *rig) delay(_ context.Context, op faults.Op) {
	r.mu.Lock()
	held, open := op == faults.Commit && r.hold > 0, r.open
	if held {
		r.hold--
	}
	r.mu.Unlock()
	if held {
		<-open
	}
}

func (r *rig) script(c faults.Call) (faults.Fault, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if c.Op != faults.Commit || len(r.fault) == 0 {
		return faults.None, false
	}
	f := r.fault[0]
	r.fault = r.fault[1:]
	return f, true
}

// occupied has so many transactions of other domains under way that small ones wait. The function it returns ends them,
// and has the next commits meet the faults given.
func (r *rig) occupied() (release func(f ...faults.Fault)) {
	r.t.Helper()
	var under []engine.Pending
	for i := range slots + 1 { // the first is not recorded, for it is alone
		x := r.begin(fmt.Sprint("busy", i))
		x.Set(key("busy", i), nil)
		x.UseStamps(1)
		x.SetStampedValue(key("busy stamp", i), make([]byte, engine.StampLen), 0)
		p, err := x.Commit(r.t.Context())
		if err != nil {
			r.t.Fatal(err)
		}
		if _, ok := p.(*single); !ok {
			r.t.Fatalf("%T", p)
		}
		under = append(under, p)
	}
	return func(f ...faults.Fault) {
		r.t.Helper()
		r.mu.Lock()
		r.fault = f
		r.mu.Unlock()
		for _, p := range under {
			if _, err := p.Wait(r.t.Context()); err != nil {
				r.t.Error(err)
			}
		}
	}
}

// outside changes a row past the Store.
func (r *rig) outside(k []byte, value string) {
	r.t.Helper()
	x, err := r.faults.Begin(r.t.Context())
	if err != nil {
		r.t.Fatal(err)
	}
	x.Set(k, []byte(value))
	if _, err := commit(x); err != nil {
		r.t.Fatal(err)
	}
}

func key(parts ...any) []byte { return []byte(fmt.Sprint(parts...)) }

func (r *rig) begin(domain string) engine.Txn {
	r.t.Helper()
	x, err := r.Domain([]byte(domain)).Begin(r.t.Context())
	if err != nil {
		r.t.Fatal(err)
	}
	return x
}

func commit(x engine.Txn) (engine.Stamp, error) {
	p, err := x.Commit(context.Background())
	if err != nil {
		return engine.Stamp{}, err
	}
	return p.Wait(context.Background())
}

// waits commits a transaction of a domain that reads its row, writes it and a stamped one, and adds to a counter that
// all share. It fails the test if it does not wait for others.
func (r *rig) waits(d engine.Store, name string) engine.Pending {
	r.t.Helper()
	x := r.work(d, name)
	p, err := x.Commit(r.t.Context())
	if err != nil {
		r.t.Fatal(err)
	}
	if _, ok := p.(*member); !ok {
		r.t.Fatalf("%s does not wait: %T", name, p)
	}
	return p
}

func (r *rig) work(d engine.Store, name string) engine.Txn {
	r.t.Helper()
	x, err := d.Begin(r.t.Context())
	if err != nil {
		r.t.Fatal(err)
	}
	if _, err := x.Get(r.t.Context(), key(name)); err != nil {
		r.t.Fatal(err)
	}
	x.AddReadConflict(key(name, "-"), key(name, "-z"))
	x.UseStamps(2)
	x.Set(key(name), []byte("written"))
	x.SetStampedValue(key(name, " stamp"), engine.Stamp{Index: 1}.Append(nil), 0)
	x.SetStampedValue(key("bell"), make([]byte, engine.StampLen), 0)
	x.Add(key("counter"), 1)
	return x
}

// domains are those that the tests join.
var domains = []string{"a", "b", "c", "d"}

// all has one transaction of each domain wait.
func (r *rig) all() (in []engine.Store, waiting []engine.Pending) {
	r.t.Helper()
	for _, name := range domains {
		in = append(in, r.Domain([]byte(name)))
		waiting = append(waiting, r.waits(in[len(in)-1], name))
	}
	return in, waiting
}

func (r *rig) get(k []byte) []byte {
	r.t.Helper()
	snap, err := r.Snapshot(context.Background())
	if err != nil {
		r.t.Fatal(err)
	}
	defer snap.Close()
	v, err := snap.Get(context.Background(), k)
	if err != nil {
		r.t.Fatal(err)
	}
	return append([]byte(nil), v...)
}

// wantWritten checks what a domain has written, with what stamp.
func (r *rig) wantWritten(name string, st engine.Stamp) {
	r.t.Helper()
	if got := r.get(key(name)); string(got) != "written" {
		r.t.Errorf("%s: %q", name, got)
	}
	got, err := engine.ParseStamp(r.get(key(name, " stamp")))
	if want := (engine.Stamp{Version: st.Version, Index: 1}); err != nil || got != want {
		r.t.Errorf("%s: stamp %v, %v, want %v", name, got, err, want)
	}
}

func (r *rig) wantCounter(want int64) {
	r.t.Helper()
	if got, ok := engine.ParseCounter(r.get(key("counter"))); !ok || got != want {
		r.t.Errorf("counter %d %v, want %d", got, ok, want)
	}
}

func (r *rig) wantStats(joined, members, apart int64) {
	r.t.Helper()
	s := r.Stats()
	if j, m, a := s.Joined.Load(), s.Members.Load(), s.Apart.Load(); j != joined || m != members || a != apart {
		r.t.Errorf("%d joined, %d members, %d apart; want %d, %d, %d", j, m, a, joined, members, apart)
	}
}

// wantQuiet checks that nothing counts as under way.
func (r *rig) wantQuiet() {
	r.t.Helper()
	r.Store.mu.Lock()
	defer r.Store.mu.Unlock()
	if l := &r.line; l.any != 0 || l.small != 0 || len(l.waiting) != 0 {
		r.t.Errorf("%d under way, %d small, %d wait", l.any, l.small, len(l.waiting))
	}
}

// TestJoined: what waits while others commit is one transaction, with one stamp.
func TestJoined(t *testing.T) {
	r := newRig(t)
	release := r.occupied()
	_, waiting := r.all()
	before := r.faults.Trips()
	release()
	var first engine.Stamp
	for i, p := range waiting {
		st, err := p.Wait(t.Context())
		if err != nil || st.Version == 0 || st.Index != 0 {
			t.Fatal(st, err)
		}
		if i == 0 {
			first = st
		} else if st != first {
			t.Errorf("stamp %v beside %v", st, first)
		}
		r.wantWritten(domains[i], st)
	}
	if n := r.faults.Trips().Since(before)[faults.TripCommit]; n != 1 {
		t.Errorf("%d commits for %d domains", n, len(domains))
	}
	r.wantCounter(int64(len(domains)))
	r.wantStats(1, int64(len(domains)), 0)
	r.wantQuiet()
}

// TestOneOfADomain: two transactions of a domain have different stamps, though both wait and be it through different
// values.
func TestOneOfADomain(t *testing.T) {
	r := newRig(t)
	release := r.occupied()
	a := r.waits(r.Domain([]byte("a")), "a1")
	b := r.waits(r.Domain([]byte("b")), "b")
	again := r.waits(r.Domain([]byte("a")), "a2")
	release()
	one, err1 := a.Wait(t.Context())
	_, err2 := b.Wait(t.Context())
	two, err3 := again.Wait(t.Context())
	if err := errors.Join(err1, err2, err3); err != nil {
		t.Fatal(err)
	}
	if one.Version == two.Version {
		t.Errorf("two transactions of a domain have the version %d", one.Version)
	}
	r.wantWritten("a1", one)
	r.wantWritten("a2", two)
	r.wantQuiet()
}

// TestConflict: the conflict of one member is its own answer alone, and for a while it goes alone.
func TestConflict(t *testing.T) {
	r := newRig(t)
	release := r.occupied()
	in, waiting := r.all()
	r.outside(key("b-in the range"), "")
	release()
	for i, p := range waiting {
		st, err := p.Wait(t.Context())
		if domains[i] == "b" {
			if !errors.Is(err, engine.ErrConflict) {
				t.Errorf("b: %v", err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", domains[i], err)
		}
		r.wantWritten(domains[i], st)
	}
	r.wantCounter(int64(len(domains)) - 1)
	r.wantStats(0, 0, 1)
	r.wantQuiet()

	release = r.occupied()
	if _, err := commit(r.work(in[1], "b")); err != nil { // it does not wait
		t.Error(err)
	}
	after := r.waits(in[0], "a")
	release()
	if _, err := after.Wait(t.Context()); err != nil {
		t.Error(err)
	}
	r.wantQuiet()
}

// TestOldestVersion: a member's commit is checked from its own version on although others have begun later.
func TestOldestVersion(t *testing.T) {
	r := newRig(t)
	release := r.occupied()
	old := r.work(r.Domain([]byte("a")), "a")
	r.outside(key("a"), "newer")
	b := r.waits(r.Domain([]byte("b")), "b")
	a, err := old.Commit(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	release()
	if st, err := a.Wait(t.Context()); !errors.Is(err, engine.ErrConflict) {
		t.Errorf("a: %v, %v: what it has read was changed", st, err)
	}
	if _, err := b.Wait(t.Context()); err != nil {
		t.Errorf("b: %v", err)
	}
	if got := r.get(key("a")); string(got) != "newer" {
		t.Errorf("a is %q", got)
	}
	r.wantQuiet()
}

// TestFaults: what becomes of the members when a joined transaction fails.
func TestFaults(t *testing.T) {
	for _, test := range []struct {
		fault          faults.Fault
		want           error
		written, apart bool
	}{
		{faults.Conflict, nil, true, true},
		{faults.LateConflict, nil, true, true},
		{faults.TooOld, nil, true, true},
		{faults.LateTooOld, nil, true, true},
		{faults.TooLarge, nil, true, true},
		{faults.LateTooLarge, nil, true, true},
		{faults.LateNoSpace, nil, true, true},
		{faults.Unavailable, nil, true, true},
		{faults.UnknownCommitted, engine.ErrUnknownOutcome, true, false},
		{faults.UnknownLost, engine.ErrUnknownOutcome, false, false},
	} {
		t.Run(fmt.Sprint(test.fault), func(t *testing.T) {
			r := newRig(t)
			release := r.occupied()
			_, waiting := r.all()
			release(test.fault)
			for i, p := range waiting {
				st, err := p.Wait(t.Context())
				if !errors.Is(err, test.want) {
					t.Errorf("%s: %v, want %v", domains[i], err, test.want)
				}
				if err == nil {
					r.wantWritten(domains[i], st)
				}
				if there := r.get(key(domains[i])) != nil; there != test.written {
					t.Errorf("%s is there: %v", domains[i], there)
				}
			}
			if apart := r.Stats().Apart.Load() == 1; apart != test.apart {
				t.Errorf("its members went alone: %v", apart)
			}
			if test.written {
				r.wantCounter(int64(len(domains)))
			}
			r.wantQuiet()
		})
	}
}

// TestLeftWaiting: who goes while it waits is not committed, and nobody else notices.
func TestLeftWaiting(t *testing.T) {
	r := newRig(t)
	release := r.occupied()
	_, waiting := r.all()
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := waiting[1].Wait(gone); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	release()
	for i, p := range waiting {
		if i == 1 {
			continue
		}
		st, err := p.Wait(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		r.wantWritten(domains[i], st)
	}
	if got := r.get(key("b")); got != nil {
		t.Errorf("b was committed: %q", got)
	}
	r.wantStats(1, int64(len(domains))-1, 0)
	r.wantQuiet()
}

// TestLeftUnderWay: who goes while the joined transaction is under way leaves its outcome open, and nobody else
// notices. When all have gone nobody waits for the engine either.
func TestLeftUnderWay(t *testing.T) {
	for _, leave := range []int{1, len(domains)} {
		t.Run(fmt.Sprint(leave), func(t *testing.T) {
			r := newRig(t)
			release := r.occupied()
			_, waiting := r.all()
			r.mu.Lock()
			r.hold = 1 // the joined one
			r.mu.Unlock()
			release()
			gone, cancel := context.WithCancel(t.Context())
			cancel()
			for _, p := range waiting[:leave] {
				if _, err := p.Wait(gone); !errors.Is(err, context.Canceled) {
					t.Error(err)
				}
			}
			close(r.open)
			for i, p := range waiting[leave:] {
				st, err := p.Wait(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				r.wantWritten(domains[leave+i], st)
			}
			if err := r.Store.Close(); err != nil {
				t.Fatal(err)
			}
			r.wantQuiet()
		})
	}
}

// TestOverdue: nobody waits for others for longer than waitMax.
func TestOverdue(t *testing.T) {
	r := newRig(t)
	r.patience = time.Millisecond
	release := r.occupied()
	_, waiting := r.all()
	for i, p := range waiting { // although nothing ends
		st, err := p.Wait(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		r.wantWritten(domains[i], st)
	}
	release()
	r.wantQuiet()
}

// TestAlone: a domain that is alone never waits, and its transactions are the engine's.
func TestAlone(t *testing.T) {
	r := newRig(t)
	a := r.Domain([]byte("a"))
	var under []engine.Pending
	for i := range 2 * slots {
		x := r.work(a, fmt.Sprint("a", i))
		if x.(*txn).rec != nil {
			t.Error("it is recorded")
		}
		p, err := x.Commit(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if _, ok := p.(*single); !ok {
			t.Errorf("%T", p)
		}
		under = append(under, p)
	}
	for _, p := range under {
		if _, err := p.Wait(t.Context()); err != nil {
			t.Error(err)
		}
	}
	r.wantStats(0, 0, 0)
	r.wantQuiet()
}

// TestNotSmall: what is large, scans with a conflict or has no stamps goes alone, at once.
func TestNotSmall(t *testing.T) {
	for name, change := range map[string]func(*testing.T, engine.Txn){
		"value":     func(_ *testing.T, x engine.Txn) { x.Set(key("large"), make([]byte, memberBytes+1)) },
		"mutations": func(_ *testing.T, x engine.Txn) { many(memberOps, func(i int) { x.Set(key(i), nil) }) },
		"reads": func(t *testing.T, x engine.Txn) {
			t.Helper()
			var keys [][]byte
			many(memberReads, func(i int) { keys = append(keys, key(i)) })
			if _, err := x.GetMany(t.Context(), keys); err != nil {
				t.Error(err)
			}
		},
		"write conflict": func(_ *testing.T, x engine.Txn) { x.AddWriteConflict(key("x"), key("y")) },
		"scan": func(t *testing.T, x engine.Txn) {
			t.Helper()
			if err := x.Scan(t.Context(), engine.Range{Begin: key("x"), End: key("y")}).Close(); err != nil {
				t.Error(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			release := r.occupied()
			x, err := r.Domain([]byte("a")).Begin(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			change(t, x) // FoundationDB's ranges cannot be read after a stamped write
			x.UseStamps(1)
			x.SetStampedValue(key("a stamp"), make([]byte, engine.StampLen), 0)
			if _, err := commit(x); err != nil {
				t.Error(err)
			}
			if r.get(key("a stamp")) == nil {
				t.Error("it has lost a mutation")
			}
			release()
			r.wantQuiet()
		})
	}
}

func many(n int, f func(int)) {
	for i := range n + 1 {
		f(i)
	}
}
