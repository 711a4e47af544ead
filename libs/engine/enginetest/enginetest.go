package enginetest

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/headwaterdb/headwater/libs/engine"
)

// Engine is a store under test.
type Engine struct {
	// Store is empty at first.
	Store engine.Store
	// Reopen ends the store, as a crash would or by Close, and returns what is left after a start. nil: the engine
	// cannot do that in a test. After a crash the old store's calls may fail in any way.
	Reopen func(crash bool) engine.Store
}

// waitLimit bounds what should happen at once.
const waitLimit = 2 * time.Minute

// Run runs the suite. open is called once per subtest and cleans up by t.Cleanup.
func Run(t *testing.T, open func(t *testing.T) Engine) {
	for _, test := range []struct {
		name string
		f    func(t *testing.T, e Engine)
	}{
		{"Basics", testBasics},
		{"AnyBytes", testAnyBytes},
		{"Scan", testScan},
		{"EmptyRanges", testEmptyRanges},
		{"MutationsAreCopied", testCopies},
		{"OwnWritesUnseen", testOwnWrites},
		{"Isolation", testIsolation},
		{"Pipelining", testPipelining},
		{"Conflicts", testConflicts},
		{"Recent", testRecent},
		{"WriteSkew", testWriteSkew},
		{"ReadOnlyCommit", testReadOnly},
		{"Stamps", testStamps},
		{"StampErrors", testStampErrors},
		{"Domains", testDomains},
		{"DomainsShareOneOrder", testDomainOrder},
		{"DomainErrors", testDomainErrors},
		{"DomainsReopen", testDomainsReopen},
		{"Sizes", testSizes},
		{"WaitChange", testWaitChange},
		{"Context", testContext},
		{"Ended", testEnded},
		{"Counters", testCounters},
		{"Add", testAdd},
		{"Reopen", testReopen},
		{"Crash", testCrash},
		{"Model", testModel},
	} {
		t.Run(test.name, func(t *testing.T) { test.f(t, open(t)) })
	}
}

// newRand returns a seeded source and logs its seed.
func newRand(t *testing.T) *rand.Rand {
	t.Helper()
	seed := rand.Uint64()
	if v := os.Getenv("ENGINETEST_SEED"); v != "" {
		var err error
		if seed, err = strconv.ParseUint(v, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("ENGINETEST_SEED=%d", seed)
	return rand.New(rand.NewPCG(seed, 0))
}

func begin(t *testing.T, s engine.Store) engine.Txn {
	t.Helper()
	x, err := s.Begin(t.Context())
	if err != nil {
		t.Fatal("Begin:", err)
	}
	return x
}

func snapshot(t *testing.T, s engine.Store) engine.Snapshot {
	t.Helper()
	x, err := s.Snapshot(t.Context())
	if err != nil {
		t.Fatal("Snapshot:", err)
	}
	return x
}

// commit commits x and waits.
func commit(x engine.Txn) (engine.Stamp, error) {
	p, err := x.Commit(context.Background())
	if err != nil {
		return engine.Stamp{}, err
	}
	return p.Wait(context.Background())
}

// write runs f in a transaction that cannot conflict and waits for it.
func write(t *testing.T, s engine.Store, f func(x engine.Txn)) engine.Stamp {
	t.Helper()
	x := begin(t, s)
	f(x)
	st, err := commit(x)
	if err != nil {
		t.Fatal("commit:", err)
	}
	return st
}

func get(t *testing.T, r engine.Reader, key string) []byte {
	t.Helper()
	v, err := r.Get(t.Context(), []byte(key))
	if err != nil {
		t.Fatalf("Get(%q): %v", key, err)
	}
	return v
}

func wantGet(t *testing.T, r engine.Reader, key string, want []byte) {
	t.Helper()
	if got := get(t, r, key); (got == nil) != (want == nil) || !bytes.Equal(got, want) {
		t.Fatalf("Get(%q) = %q, want %q", key, got, want)
	}
}

type row struct{ Key, Value string }

// scan returns the rows of q.
func scan(t *testing.T, r engine.Reader, q engine.Range) []row {
	t.Helper()
	it := r.Scan(t.Context(), q)
	var rows []row
	for it.Next() {
		w := row{Key: string(it.Key())}
		if !q.KeysOnly {
			w.Value = string(it.Value())
		}
		rows = append(rows, w)
	}
	if err := it.Err(); err != nil {
		t.Fatal("scan:", err)
	}
	if err := it.Close(); err != nil {
		t.Fatal("close:", err)
	}
	return rows
}

func wantScan(t *testing.T, r engine.Reader, q engine.Range, want ...row) {
	t.Helper()
	if diff := cmp.Diff(want, scan(t, r, q)); diff != "" {
		t.Fatalf("scan %q … %q, reverse %v, limit %d (-want +got):\n%s", q.Begin, q.End, q.Reverse, q.Limit, diff)
	}
}

func testBasics(t *testing.T, e Engine) {
	s := e.Store
	r := snapshot(t, s)
	wantScan(t, r, engine.Range{})
	wantGet(t, r, "a", nil)
	r.Close()

	write(t, s, func(x engine.Txn) {
		x.Set([]byte("a"), []byte("1"))
		x.Set([]byte("b"), nil)
		x.Set([]byte("c"), []byte("first"))
		x.Set([]byte("c"), []byte("last"))
		x.Set([]byte("d"), []byte("x"))
		x.Clear([]byte("d"))
	})
	r = snapshot(t, s)
	wantGet(t, r, "a", []byte("1"))
	wantGet(t, r, "b", []byte{})
	wantGet(t, r, "c", []byte("last"))
	wantGet(t, r, "d", nil)
	wantScan(t, r, engine.Range{}, row{"a", "1"}, row{"b", ""}, row{"c", "last"})
	many, err := r.GetMany(t.Context(), [][]byte{[]byte("c"), []byte("no"), []byte("b"), []byte("a"), []byte("a")})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([][]byte{[]byte("last"), nil, {}, []byte("1"), []byte("1")}, many); diff != "" {
		t.Fatal(diff)
	}
	r.Close()

	write(t, s, func(x engine.Txn) {
		x.ClearRange([]byte("b"), []byte("c"))
		x.ClearRange([]byte("z"), []byte("b")) // upside down: nothing
		x.Set([]byte("bb"), []byte("after"))   // the order of mutations counts
	})
	r = snapshot(t, s)
	wantScan(t, r, engine.Range{}, row{"a", "1"}, row{"bb", "after"}, row{"c", "last"})
	r.Close()

	write(t, s, func(x engine.Txn) {
		x.Set([]byte("d"), []byte("new"))
		x.ClearRange([]byte("c"), []byte("e"))
	})
	r = snapshot(t, s)
	wantScan(t, r, engine.Range{}, row{"a", "1"}, row{"bb", "after"})
	r.Close()
}

func testAnyBytes(t *testing.T, e Engine) {
	s := e.Store
	keys := []string{
		"", "\x00", "\x00\x00", "\x00\x01", "\x00\xff", "\x01", "a", "a\x00", "a\x00\x00", "a\x01", "a\xff", "b",
		"\xfe\xff", "\xfe\xff\xff",
	}
	var want []row
	write(t, s, func(x engine.Txn) {
		for i, k := range keys {
			v := fmt.Sprintf("%d\x00\xff", i)
			x.Set([]byte(k), []byte(v))
			want = append(want, row{k, v})
		}
	})
	r := snapshot(t, s)
	defer r.Close()
	for _, w := range want {
		wantGet(t, r, w.Key, []byte(w.Value))
	}
	wantScan(t, r, engine.Range{}, want...)
	wantScan(t, r, engine.Range{Begin: []byte("\x00\x01"), End: []byte("a\x00\x00")}, want[3:8]...)
	wantScan(t, r, engine.Range{Begin: []byte("\x01")}, want[5:]...)
}

func testScan(t *testing.T, e Engine) {
	s := e.Store
	var all []row
	write(t, s, func(x engine.Txn) {
		for i := range 50 {
			w := row{fmt.Sprintf("k%02d", i*2), strconv.Itoa(i)}
			all = append(all, w)
			x.Set([]byte(w.Key), []byte(w.Value))
		}
	})
	r := newRand(t)
	for name, open := range map[string]func() (engine.Reader, func()){
		"snapshot": func() (engine.Reader, func()) { x := snapshot(t, s); return x, x.Close },
		"txn":      func() (engine.Reader, func()) { x := begin(t, s); return x, x.Discard },
	} {
		rd, end := open()
		for range 300 {
			q := engine.Range{Begin: fmt.Appendf(nil, "k%02d", r.IntN(105)), Reverse: r.IntN(2) == 0}
			if r.IntN(5) > 0 {
				q.End = fmt.Appendf(nil, "k%02d", r.IntN(105))
			}
			if r.IntN(2) == 0 {
				q.Limit = r.IntN(20)
			}
			q.NoConflict = r.IntN(2) == 0
			q.KeysOnly = r.IntN(4) == 0
			if diff := cmp.Diff(wantRows(all, q), scan(t, rd, q)); diff != "" {
				t.Fatalf("%s: %+v:\n%s", name, q, diff)
			}
		}
		// Iterators side by side, some of them left before their end.
		a, b := rd.Scan(t.Context(), engine.Range{}), rd.Scan(t.Context(), engine.Range{Reverse: true})
		for i := range 20 {
			if !a.Next() || !b.Next() || string(a.Key()) != all[i].Key || string(b.Key()) != all[49-i].Key {
				t.Fatalf("%s: side by side: %q, %q", name, a.Key(), b.Key())
			}
		}
		if err := errors.Join(a.Close(), b.Close()); err != nil {
			t.Fatal(err)
		}
		end()
	}
}

// wantRows returns what q should return of the sorted rows all.
func wantRows(all []row, q engine.Range) []row {
	var rows []row
	for _, w := range all {
		if w.Key >= string(q.Begin) && (q.End == nil || w.Key < string(q.End)) {
			if q.KeysOnly {
				w.Value = ""
			}
			if q.Reverse {
				rows = append([]row{w}, rows...)
			} else {
				rows = append(rows, w)
			}
		}
	}
	if q.Limit > 0 && len(rows) > q.Limit {
		rows = rows[:q.Limit]
	}
	return rows
}

func testCopies(t *testing.T, e Engine) {
	key, value, begin, end := []byte("key"), []byte("value"), []byte("x"), []byte("y")
	write(t, e.Store, func(x engine.Txn) {
		x.Set([]byte("xx"), []byte("old"))
		x.Set(key, value)
		x.ClearRange(begin, end)
		copy(key, "???")
		copy(value, "?????")
		begin[0], end[0] = 'a', 'z'
	})
	r := snapshot(t, e.Store)
	defer r.Close()
	wantScan(t, r, engine.Range{}, row{"key", "value"})
}

func testOwnWrites(t *testing.T, e Engine) {
	x := begin(t, e.Store)
	wantGet(t, x, "a", nil)
	x.Set([]byte("a"), []byte("1"))
	if _, err := commit(x); err != nil {
		t.Fatal(err)
	}
	x = begin(t, e.Store)
	defer x.Discard()
	wantGet(t, x, "a", []byte("1"))
}

func testIsolation(t *testing.T, e Engine) {
	s := e.Store
	write(t, s, func(x engine.Txn) { x.Set([]byte("a"), []byte("1")); x.Set([]byte("b"), []byte("1")) })
	old := snapshot(t, s)
	x := begin(t, s)
	same := snapshot(t, s)
	// FoundationDB's versions go on while nothing is written.
	if old.Version() != same.Version() && !s.Limits().Versionstamps {
		t.Errorf("two snapshots of one state have versions %d and %d", old.Version(), same.Version())
	}
	same.Close()
	early := old.Scan(t.Context(), engine.Range{})
	if !early.Next() {
		t.Fatal(early.Err())
	}
	for i := range 5 {
		write(t, s, func(x engine.Txn) {
			x.Set([]byte("a"), fmt.Appendf(nil, "%d", i+2))
			x.Clear([]byte("b"))
			x.Set(fmt.Appendf(nil, "c%d", i), []byte("new"))
		})
	}
	for early.Next() {
		if k := string(early.Key()); k != "b" {
			t.Fatalf("an iterator sees %q, written after its snapshot", k)
		}
	}
	if err := early.Close(); err != nil {
		t.Fatal(err)
	}
	for _, r := range []engine.Reader{old, x} {
		wantGet(t, r, "a", []byte("1"))
		wantScan(t, r, engine.Range{}, row{"a", "1"}, row{"b", "1"})
	}
	now := snapshot(t, s)
	if now.Version() <= old.Version() {
		t.Errorf("a later state has version %d after %d", now.Version(), old.Version())
	}
	wantGet(t, now, "a", []byte("6"))
	now.Close()
	old.Close()
	x.Discard()
}

func testPipelining(t *testing.T, e Engine) {
	s := e.Store
	if !s.Limits().Pipelined {
		t.Skip("the engine is not pipelined")
	}
	var waits []engine.Pending
	for i := range 20 {
		x := begin(t, s)
		var want []byte
		if i > 0 {
			want = []byte{byte(i)}
		}
		wantGet(t, x, "n", want) // sees the commit before, acknowledged or not
		x.Set([]byte("n"), []byte{byte(i + 1)})
		p, err := x.Commit(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		waits = append(waits, p)
	}
	for i, p := range waits {
		if _, err := p.Wait(t.Context()); err != nil {
			t.Fatal(err)
		}
		r := snapshot(t, s)
		if n := get(t, r, "n"); len(n) != 1 || int(n[0]) < i+1 {
			t.Fatalf("after Wait of commit %d a snapshot reads %v", i+1, n)
		}
		r.Close()
	}
}

func u64(b []byte) uint64 {
	if b == nil {
		return 0
	}
	return binary.BigEndian.Uint64(b)
}
