package fsck_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/headwaterdb/headwater/libs/engine"
	"github.com/headwaterdb/headwater/libs/engine/faults"
	"github.com/headwaterdb/headwater/libs/engine/pebble"
	"github.com/headwaterdb/headwater/libs/engine/testengine"
	"github.com/headwaterdb/headwater/libs/fsck"
	"github.com/headwaterdb/headwater/libs/mvcc"
)

// TestFoundationDB says whether this run has a cluster.
func TestFoundationDB(t *testing.T) { testengine.OnFoundationDB(t) }

var prefix = []byte("ks/")

// engines are those that a keyspace may be on.
func engines(t *testing.T, f func(t *testing.T, e engine.Store)) {
	t.Run("shared", func(t *testing.T) { f(t, testengine.Open(t, rand.Uint64())) })
	t.Run("dense", func(t *testing.T) {
		e, err := pebble.Open("data", pebble.Options{
			FS: vfs.NewMem(), ReserveBytes: -1, BallastBytes: -1, CloseWithin: time.Minute,
		})
		if err != nil {
			t.Fatal(err)
		}
		defer func() {
			if err := e.Close(); err != nil {
				t.Error(err)
			}
		}()
		f(t, e)
	})
}

func open(t *testing.T, e engine.Store, o mvcc.Options) *mvcc.Store {
	t.Helper()
	o.Prefix, o.InlineBytes, o.ChunkBytes = prefix, 8, 60
	s, err := mvcc.Open(context.Background(), e, o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// fill writes a keyspace with everything in it: keys with and without history, deleted and created again, with zero
// bytes, leases, larger values, entries of several chunks, and a compaction.
func fill(t *testing.T, s *mvcc.Store, compact bool) {
	t.Helper()
	ctx := t.Context()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	put := func(key, value string, lease int64) {
		_, err := s.Put(ctx, &mvcc.PutRequest{Key: []byte(key), Value: []byte(value), Lease: lease})
		must(err)
	}
	for id := range int64(2) {
		if _, err := s.LeaseGrant(ctx, id+1, 60, nil); !errors.Is(err, mvcc.ErrLeaseExists) {
			must(err)
		}
	}
	for i := range 4 {
		put("a", fmt.Sprint("small", i), 0)
		put("a\x00", strings.Repeat("x", 150+i), 1)
		put("a\x00b", strings.Repeat("y", 20*i), 0)
		_, err := s.DeleteRange(ctx, &mvcc.DeleteRequest{Key: []byte("a\x00b")})
		must(err)
		_, err = s.Txn(ctx, &mvcc.TxnRequest{Success: []mvcc.Op{
			{Put: &mvcc.PutRequest{Key: fmt.Appendf(nil, "b%d", i), Value: []byte("new")}},
			{Put: &mvcc.PutRequest{Key: []byte("c"), Value: bytes.Repeat([]byte{byte(i)}, 70), Lease: 2}},
			{Put: &mvcc.PutRequest{Key: []byte("\xff"), Value: []byte("inline")}},
		}})
		must(err)
		if i == 1 && compact {
			head, err := s.Head(ctx)
			must(err)
			_, err = s.Compact(ctx, head-2, true)
			must(err)
		}
	}
}

func check(t *testing.T, e engine.Store, o fsck.Options) *fsck.Report {
	t.Helper()
	o.Prefix = prefix
	r, err := fsck.Check(t.Context(), e, o)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func clean(t *testing.T, e engine.Store, o fsck.Options) *fsck.Report {
	t.Helper()
	r := check(t, e, o)
	for _, f := range r.Findings {
		t.Error(f)
	}
	if !r.OK() {
		t.Fatal(r)
	}
	return r
}

type row struct{ key, value []byte }

func rows(t *testing.T, e engine.Store) (all []row) {
	t.Helper()
	snap, err := e.Snapshot(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer snap.Close()
	it := snap.Scan(t.Context(), engine.Range{Begin: prefix, End: append(bytes.Clone(prefix), 0x7f)})
	for it.Next() {
		all = append(all, row{bytes.Clone(it.Key()), bytes.Clone(it.Value())})
	}
	if err := errors.Join(it.Err(), it.Close()); err != nil {
		t.Fatal(err)
	}
	return all
}

func change(t *testing.T, e engine.Store, f func(engine.Txn)) {
	t.Helper()
	txn, err := e.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer txn.Discard()
	f(txn)
	p, err := txn.Commit(t.Context())
	if err == nil {
		_, err = p.Wait(t.Context())
	}
	if err != nil {
		t.Fatal(err)
	}
}

// TestClean: nothing is found in a keyspace that is as it should be, however long the pages are.
func TestClean(t *testing.T) {
	engines(t, func(t *testing.T, e engine.Store) {
		s := open(t, e, mvcc.Options{})
		defer s.Close()
		fill(t, s, true)
		var was string
		for _, page := range []int{1, 2, 3, 7, 1000} {
			var last fsck.Progress
			r := clean(t, e, fsck.Options{PageRows: page, Progress: func(p fsck.Progress) { last = p }})
			if !r.OneState || r.Bytes != last.Bytes || r.Rows != int64(len(rows(t, e))) || r.Leases != 2 ||
				r.Current != 8 {
				t.Errorf("pages of %d: %v, progress %+v", page, r, last)
			}
			if was != "" && r.String() != was {
				t.Errorf("pages of %d: %v, before %s", page, r, was)
			}
			was = r.String()
		}
	})
}

// TestEveryRow: fsck finds every row that is lost, moved, cut short or changed in one bit.
func TestEveryRow(t *testing.T) {
	engines(t, func(t *testing.T, e engine.Store) {
		seed := rand.Uint64()
		t.Logf("seed %d", seed)
		r := rand.New(rand.NewPCG(seed, 0))
		for _, compacted := range []bool{false, true} {
			s := open(t, e, mvcc.Options{})
			fill(t, s, compacted)
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			clean(t, e, fsck.Options{})
			for _, w := range rows(t, e) {
				for harm, to := range harms(w, r, compacted) {
					wantFound(t, e, w, harm, to)
				}
			}
		}
		for _, extra := range []string{"hzz\x00", "x", "mhuh", "da", "v\x01\x00\x00\x00"} {
			key := append(bytes.Clone(prefix), extra...)
			change(t, e, func(x engine.Txn) { x.Set(key, []byte("what")) })
			if r := check(t, e, fsck.Options{}); r.OK() {
				t.Errorf("the row %q is not found", extra)
			}
			change(t, e, func(x engine.Txn) { x.Clear(key) })
		}
		clean(t, e, fsck.Options{})
	})
}

// harms are what may become of a row, so that another row, or the row by itself, shows it.
func harms(w row, r *rand.Rand, compacted bool) map[string]row {
	table, name := w.key[len(prefix)], string(w.key[len(prefix)+1:])
	all := map[string]row{"lost": {}}
	all["moved"] = row{append(append(bytes.Clone(prefix), table), "zz"+name...), w.value}
	if n := len(w.value); n > 0 {
		all["cut"] = row{w.key, w.value[:n-1]}
		bit := bytes.Clone(w.value)
		bit[r.IntN(n)] ^= 1 << r.IntN(8)
		all["another bit"] = row{w.key, bit}
	}
	switch table {
	case 'c': // a missing row of a lane tells the same as an older one
		return nil
	case 'e', 'v': // time to live and larger values are there once
		delete(all, "another bit")
	case 'm':
		delete(all, "another bit")
		// Without them it has never been compacted, or nothing been removed.
		if name == "compact" || name == "compacted" {
			delete(all, "cut")
		}
		if name == "compacted" || name == "owner" {
			return nil
		}
	case 'i', 'l':
		if compacted { // the second copy of a value may be gone
			delete(all, "another bit")
		}
	}
	return all
}

// wantFound puts a row in the place of another for a while.
func wantFound(t *testing.T, e engine.Store, w row, harm string, to row) {
	t.Helper()
	change(t, e, func(x engine.Txn) {
		x.Clear(w.key)
		if to.key != nil {
			x.Set(to.key, to.value)
		}
	})
	r, err := fsck.Check(t.Context(), e, fsck.Options{Prefix: prefix, PageRows: 5})
	switch {
	case err == nil && r.OK():
		t.Errorf("%s, and nothing is found: %q = %x instead of %x", harm, to.key, to.value, w.value)
	case err != nil && !errors.Is(err, fsck.ErrNoKeyspace):
		t.Errorf("%s: %v", harm, err)
	}
	change(t, e, func(x engine.Txn) {
		if to.key != nil {
			x.Clear(to.key)
		}
		x.Set(w.key, w.value)
	})
}

// TestBounded: no more findings are kept than asked for, and all are counted.
func TestBounded(t *testing.T) {
	engines(t, func(t *testing.T, e engine.Store) {
		s := open(t, e, mvcc.Options{})
		fill(t, s, true)
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		begin := append(bytes.Clone(prefix), 'h')
		change(t, e, func(x engine.Txn) { x.ClearRange(begin, append(bytes.Clone(prefix), 'i')) })
		r := check(t, e, fsck.Options{FindingsMax: 3})
		if len(r.Findings) != 3 || r.More < 5 {
			t.Errorf("%d findings and %d more", len(r.Findings), r.More)
		}
	})
}

// TestRunning: fsck finds nothing wrong in a keyspace that is written and compacted all the time, even if the engine
// lets no snapshot live for long.
func TestRunning(t *testing.T) {
	engines(t, func(t *testing.T, inner engine.Store) {
		for _, old := range []bool{false, true} {
			var reads atomic.Int64
			e := faults.New(testengine.KeepOpen(inner),
				faults.Options{Script: func(c faults.Call) (faults.Fault, bool) {
					if old && reads.Add(1)%499 == 0 {
						return faults.TooOld, true
					}
					return faults.None, true
				}})
			s := open(t, inner, mvcc.Options{})
			fill(t, s, true)
			ctx, cancel := context.WithCancel(t.Context())
			var wg sync.WaitGroup
			for c := range 3 {
				wg.Go(func() {
					for i := 0; ctx.Err() == nil; i++ {
						key := fmt.Appendf(nil, "key%d", (i*7+c)%40)
						res, err := s.Put(ctx, &mvcc.PutRequest{
							Key: key, Value: bytes.Repeat(key, i%20),
							Lease: int64(i % 3),
						})
						if err == nil && i%5 == 0 {
							_, err = s.DeleteRange(ctx, &mvcc.DeleteRequest{Key: key})
						}
						if err == nil && i%50 == 49 && c == 0 {
							_, err = s.Compact(ctx, res.Rev-20, false)
						}
						if err != nil && ctx.Err() == nil && !errors.Is(err, mvcc.ErrCompacted) {
							t.Error(err)
							return
						}
					}
				})
			}
			many := 0
			for range 8 {
				r, err := fsck.Check(t.Context(), e, fsck.Options{Prefix: prefix, PageRows: 30})
				if err != nil {
					t.Fatal(err)
				}
				for _, f := range r.Findings {
					t.Errorf("snapshots grow old %v: %v", old, f)
				}
				if !r.OneState {
					many++
				}
			}
			cancel()
			wg.Wait()
			if (many > 0) != old && testengine.Chosen() == testengine.Pebble {
				t.Errorf("%d checks read several states", many)
			}
			clean(t, inner, fsck.Options{})
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// TestNoKeyspace: fsck refuses rows that are not a keyspace, and a keyspace of a later format.
func TestNoKeyspace(t *testing.T) {
	engines(t, func(t *testing.T, e engine.Store) {
		if _, err := fsck.Check(t.Context(), e, fsck.Options{Prefix: prefix}); !errors.Is(err, fsck.ErrNoKeyspace) {
			t.Error(err)
		}
	})
}
