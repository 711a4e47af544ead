package enginetest

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/headwaterdb/headwater/libs/engine"
)

func testConflicts(t *testing.T, e Engine) {
	b := func(s string) []byte { return []byte(s) }
	type f = func(x engine.Txn)
	read := func(keys ...string) f {
		return func(x engine.Txn) {
			for _, k := range keys {
				get(t, x, k)
			}
		}
	}
	scanning := func(q engine.Range) f { return func(x engine.Txn) { scan(t, x, q) } }
	for _, test := range []struct {
		name     string
		read     f
		other    f // committed between read and commit
		conflict bool
	}{
		{"nothing read", func(engine.Txn) {}, func(x engine.Txn) { x.Set(b("w"), b("1")) }, false},
		{"point set", read("m"), func(x engine.Txn) { x.Set(b("m"), b("2")) }, true},
		{"point set to the same value", read("m"), func(x engine.Txn) { x.Set(b("m"), b("m")) }, true},
		{"point cleared", read("m"), func(x engine.Txn) { x.Clear(b("m")) }, true},
		{"absent point created", read("no"), func(x engine.Txn) { x.Set(b("no"), b("1")) }, true},
		{"point within a cleared range", read("m"), func(x engine.Txn) { x.ClearRange(b("l"), b("n")) }, true},
		{"point at the begin of a cleared range", read("m"), func(x engine.Txn) { x.ClearRange(b("m"), b("n")) }, true},
		{"point at the end of a cleared range", read("m"), func(x engine.Txn) { x.ClearRange(b("l"), b("m")) }, false},
		{"point within a large commit", read("m"), func(x engine.Txn) {
			for i := range 20 {
				x.Set(fmt.Appendf(nil, "large%d", i), bytes.Repeat([]byte{1}, 90_000))
			}
			x.Set(b("m"), b("1"))
		}, true},
		{"range within a large commit", scanning(engine.Range{Begin: b("large9")}), func(x engine.Txn) {
			for i := range 20 {
				x.Set(fmt.Appendf(nil, "large%d", i), bytes.Repeat([]byte{1}, 90_000))
			}
		}, true},
		{"neighbours", read("m"), func(x engine.Txn) { x.Set(b("m\x00"), b("1")); x.Set(b("l\xff"), b("1")) }, false},
		{"stamped value", read("m"), func(x engine.Txn) {
			x.UseStamps(1)
			x.SetStampedValue(b("m"), make([]byte, engine.StampLen), 0)
		}, true},
		{"phantom in a range", scanning(engine.Range{Begin: b("c"), End: b("p")}), func(x engine.Txn) { x.Set(b("ca"), b("1")) }, true},
		{"phantom in a range read in reverse", scanning(engine.Range{Begin: b("c"), End: b("p"), Reverse: true}), func(x engine.Txn) { x.Set(b("ca"), b("1")) }, true},
		{"phantom in an empty range", scanning(engine.Range{Begin: b("s"), End: b("t")}), func(x engine.Txn) { x.Set(b("sa"), b("1")) }, true},
		{"phantom without an end", scanning(engine.Range{Begin: b("c")}), func(x engine.Txn) { x.Set(b("zzz"), b("1")) }, true},
		{"at the end of a range", scanning(engine.Range{Begin: b("c"), End: b("p")}), func(x engine.Txn) { x.Set(b("p"), b("1")) }, false},
		{"before a range", scanning(engine.Range{Begin: b("c"), End: b("p")}), func(x engine.Txn) { x.Set(b("b\xff"), b("1")) }, false},
		{"cleared range over a range", scanning(engine.Range{Begin: b("c"), End: b("p")}), func(x engine.Txn) { x.ClearRange(b("a"), b("d")) }, true},
		{"cleared range beside a range", scanning(engine.Range{Begin: b("c"), End: b("p")}), func(x engine.Txn) { x.ClearRange(b("p"), b("q")) }, false},
		{"within what a limit returned", scanning(engine.Range{Begin: b("c"), Limit: 1}), func(x engine.Txn) { x.Set(b("ca"), b("1")) }, true},
		{"within what a limit returned in reverse", scanning(engine.Range{End: b("p"), Limit: 1, Reverse: true}), func(x engine.Txn) { x.Set(b("mm"), b("1")) }, true},
		{"keys only", scanning(engine.Range{Begin: b("c"), End: b("p"), KeysOnly: true}), func(x engine.Txn) { x.Clear(b("m")) }, true},
		{"NoConflict", scanning(engine.Range{NoConflict: true}), func(x engine.Txn) { x.Set(b("m"), b("1")) }, false},
		{"NoConflict with a narrower one", func(x engine.Txn) {
			scan(t, x, engine.Range{NoConflict: true})
			x.AddReadConflict(b("m"), b("m\x00"))
		}, func(x engine.Txn) { x.Set(b("m"), b("1")) }, true},
		{"AddReadConflict elsewhere", func(x engine.Txn) { x.AddReadConflict(b("n"), b("o")) }, func(x engine.Txn) { x.Set(b("m"), b("1")) }, false},
		{"GetMany", func(x engine.Txn) {
			if _, err := x.GetMany(t.Context(), [][]byte{b("a"), b("m"), b("z")}); err != nil {
				t.Fatal(err)
			}
		}, func(x engine.Txn) { x.Set(b("z"), b("1")) }, true},
		{"a counter that is added to", func(x engine.Txn) { get(t, x, "n") }, func(x engine.Txn) { x.Add(b("n"), 1) }, true},
		{"two that add to a counter", func(x engine.Txn) { x.Add(b("n"), 1) }, func(x engine.Txn) { x.Add(b("n"), 1) }, false},
		{"AddWriteConflict", func(x engine.Txn) { get(t, x, "m") }, func(x engine.Txn) {
			x.AddWriteConflict(b("l"), b("n"))
			x.Set(b("q"), b("1"))
		}, true},
		{"AddWriteConflict over a scan", scanning(engine.Range{Begin: b("c"), End: b("p")}), func(x engine.Txn) {
			x.AddWriteConflict(b("o"), b("q"))
			x.Set(b("q"), b("1"))
		}, true},
		{"AddWriteConflict elsewhere", func(x engine.Txn) { get(t, x, "m") }, func(x engine.Txn) {
			x.AddWriteConflict(b("n"), b("p"))
			x.Set(b("q"), b("1"))
		}, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := e.Store
			write(t, s, func(x engine.Txn) {
				x.ClearRange(nil, b("\xff"))
				x.Set(b("d"), b("d"))
				x.Set(b("m"), b("m"))
			})
			x := begin(t, s)
			test.read(x)
			write(t, s, test.other)
			x.Set(b("result"), b("1"))
			_, err := commit(x)
			if test.conflict != errors.Is(err, engine.ErrConflict) || !test.conflict && err != nil {
				t.Fatalf("commit: %v, want a conflict: %v", err, test.conflict)
			}
			r := snapshot(t, s)
			defer r.Close()
			if got := get(t, r, "result") != nil; got == test.conflict {
				t.Fatalf("conflict %v, but the write is there: %v", test.conflict, got)
			}
		})
	}
}

// testWriteSkew: two transactions that each read what the other writes cannot both commit.
func testWriteSkew(t *testing.T, e Engine) {
	s := e.Store
	for range 20 {
		write(t, s, func(x engine.Txn) { x.Set([]byte("a"), []byte("1")); x.Set([]byte("b"), []byte("1")) })
		x, y := begin(t, s), begin(t, s)
		for _, r := range []engine.Reader{x, y} {
			wantGet(t, r, "a", []byte("1"))
			wantGet(t, r, "b", []byte("1"))
		}
		x.Clear([]byte("a"))
		y.Clear([]byte("b"))
		var wg sync.WaitGroup
		var ex, ey error
		wg.Go(func() { _, ex = commit(x) })
		wg.Go(func() { _, ey = commit(y) })
		wg.Wait()
		if (ex == nil) == (ey == nil) || ex != nil && !errors.Is(ex, engine.ErrConflict) ||
			ey != nil && !errors.Is(ey, engine.ErrConflict) {
			t.Fatalf("commits: %v, %v: want one to conflict", ex, ey)
		}
		r := snapshot(t, s)
		if n := len(scan(t, r, engine.Range{})); n != 1 {
			t.Fatalf("%d rows left, want 1", n)
		}
		r.Close()
	}
}

func testReadOnly(t *testing.T, e Engine) {
	s := e.Store
	write(t, s, func(x engine.Txn) { x.Set([]byte("a"), []byte("1")) })
	x := begin(t, s)
	v := get(t, x, "a")
	p, err := x.Commit(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(v, []byte("1")) { // valid until Wait
		t.Fatalf("value changed to %q", v)
	}
	if st, err := p.Wait(t.Context()); err != nil || st != (engine.Stamp{}) {
		t.Fatal(st, err)
	}
	// What it has read is durable: a snapshot is at least as new.
	x = begin(t, s)
	x.Set([]byte("a"), []byte("2"))
	first, err := x.Commit(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	x = begin(t, s)
	seen := append([]byte(nil), get(t, x, "a")...)
	if _, err := commit(x); err != nil {
		t.Fatal(err)
	}
	r := snapshot(t, s)
	if got := get(t, r, "a"); bytes.Compare(got, seen) < 0 {
		t.Fatalf("a transaction has read %q and is durable; a snapshot reads %q", seen, got)
	}
	r.Close()
	if _, err := first.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// testCounters: concurrent increments with retry. The stamp of each says which value it wrote.
func testCounters(t *testing.T, e Engine) {
	s := e.Store
	const workers, each = 8, 25
	type done struct {
		n  uint64
		st engine.Stamp
	}
	results := make(chan done, workers*each)
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			key := fmt.Appendf(nil, "counter%d", w%2)
			for range each {
				n, st, err := increment(s, key)
				if err != nil {
					t.Error(err)
					return
				}
				results <- done{n<<1 | uint64(w%2), st}
			}
		})
	}
	wg.Wait()
	close(results)
	if t.Failed() {
		return
	}
	var stamps [2][workers / 2 * each]engine.Stamp
	for d := range results {
		stamps[d.n&1][d.n>>1-1] = d.st
	}
	for _, all := range stamps {
		for i := 1; i < len(all); i++ {
			if all[i].Compare(all[i-1]) <= 0 {
				t.Fatalf("increment %d has stamp %v, %d has %v", i, all[i-1], i+1, all[i])
			}
		}
	}
}

// increment adds 1 to the counter at key and returns its new value.
func increment(s engine.Store, key []byte) (uint64, engine.Stamp, error) {
	ctx := context.Background()
	for deadline := time.Now().Add(waitLimit); time.Now().Before(deadline); { // a disk may be slow, and attempts are quick
		x, err := s.Begin(ctx)
		if err != nil {
			return 0, engine.Stamp{}, err
		}
		v, err := x.Get(ctx, key)
		if err != nil {
			x.Discard()
			return 0, engine.Stamp{}, err
		}
		n := u64(v) + 1
		x.UseStamps(1)
		x.Set(key, binary.BigEndian.AppendUint64(nil, n))
		x.SetStampedKey(append([]byte("log/"), make([]byte, engine.StampLen)...), 4, key)
		st, err := commit(x)
		if !errors.Is(err, engine.ErrConflict) {
			return n, st, err
		}
	}
	return 0, engine.Stamp{}, errors.New("conflicts without end")
}

func testStamps(t *testing.T, e Engine) {
	s, l := e.Store, e.Store.Limits()
	r := newRand(t)
	var last engine.Stamp
	var want []row
	for i := range 30 {
		n := 1 + r.IntN(min(l.MaxStamps, 40))
		x := begin(t, s)
		x.UseStamps(n)
		for j := range n {
			key := append([]byte("log/"), make([]byte, engine.StampLen+1)...)
			binary.BigEndian.PutUint16(key[4+engine.StampLen-2:], uint16(j))
			key[len(key)-1] = 'x'
			x.SetStampedKey(key, 4, fmt.Appendf(nil, "%d.%d", i, j))
			value := append(append([]byte("v"), make([]byte, engine.StampLen)...), "tail"...)
			binary.BigEndian.PutUint16(value[1+engine.StampLen-2:], uint16(j))
			x.SetStampedValue(fmt.Appendf(nil, "row/%d/%d", i, j), value, 1)
		}
		first, err := commit(x)
		if err != nil {
			t.Fatal(err)
		}
		for j := range n {
			st := l.StampOf(first, j)
			if st.Compare(last) <= 0 {
				t.Fatalf("stamp %v of index %d does not follow %v", st, j, last)
			}
			if l.Dense && (st.Index != 0 || last != (engine.Stamp{}) && st.Version != last.Version+1) {
				t.Fatalf("dense: %v follows %v", st, last)
			}
			last = st
			want = append(want, row{"log/" + string(st.Append(nil)) + "x", fmt.Sprintf("%d.%d", i, j)})
			rd := snapshot(t, s)
			wantGet(t, rd, fmt.Sprintf("row/%d/%d", i, j), []byte("v"+string(st.Append(nil))+"tail"))
			rd.Close()
		}
		if r.IntN(3) == 0 { // commits without stamps take none
			write(t, s, func(x engine.Txn) { x.Set([]byte("other"), []byte("x")) })
		}
		if r.IntN(3) == 0 { // nor do transactions that do not commit
			x := begin(t, s)
			x.UseStamps(1)
			x.SetStampedValue([]byte("other"), make([]byte, engine.StampLen), 0)
			x.Discard()
		}
	}
	rd := snapshot(t, s)
	defer rd.Close()
	if diff := cmp.Diff(want, scan(t, rd, engine.Range{Begin: []byte("log/"), End: []byte("log0")})); diff != "" {
		t.Fatal(diff) // the order of stamped keys is the order of commits
	}
}
