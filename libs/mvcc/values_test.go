package mvcc_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/headwaterdb/headwater/libs/engine"
	"github.com/headwaterdb/headwater/libs/engine/faults"
	"github.com/headwaterdb/headwater/libs/engine/pebble"
	"github.com/headwaterdb/headwater/libs/mvcc"
	"github.com/headwaterdb/headwater/libs/revlog"
)

// TestRemovalInParts: an entry that is too large to be removed by one transaction goes in several, also over a
// restart in between; until the last the rows agree, and the counter of live bytes with them.
func TestRemovalInParts(t *testing.T) {
	for _, v := range []variant{
		{"dense", pebble.Options{}, mvcc.Options{}},
		{"fdb", fdb, mvcc.Options{Shift: 3, InlineBytes: 8, ChunkBytes: 64}},
		{"format 1", pebble.Options{}, mvcc.Options{NoFeatures: true}},
	} {
		if testing.Short() && v.name != "fdb" {
			continue // one removal is enough for the race detector
		}
		t.Run(v.name, func(t *testing.T) {
			const keys = 5000 // their deletion fits into a transaction of FoundationDB
			var removals atomic.Int64
			var stuck atomic.Bool
			inner := openEngine(t, v.engine)
			e := faults.New(inner, faults.Options{
				KeepPipelined: true,
				Script: func(c faults.Call) (faults.Fault, bool) {
					if c.Op == faults.Scan && len(c.Key) > 0 && c.Key[0] == 'l' && removals.Add(1) > 2 && stuck.Load() {
						return faults.Unavailable, true
					}
					return faults.None, true
				},
			})
			s := open(t, e, v.store)
			long, value := strings.Repeat("k", 200), strings.Repeat("v", 100)
			var ops []mvcc.Op
			for i := range keys {
				ops = append(ops,
					mvcc.Op{Put: &mvcc.PutRequest{Key: fmt.Appendf(nil, "%04d%s", i, long), Value: []byte(value)}})
				if len(ops) == 100 {
					if _, err := s.Txn(t.Context(), &mvcc.TxnRequest{Success: ops}); err != nil {
						t.Fatal(err)
					}
					ops = nil
				}
			}
			if res, err := s.DeleteRange(t.Context(),
				&mvcc.DeleteRequest{Key: []byte("0"), End: []byte("9")}); err != nil || res.Deleted != keys {
				t.Fatal(res, err)
			}
			rev := put(t, s, "after", "all")
			removals.Store(0)
			stuck.Store(true)
			if _, err := s.Compact(t.Context(), rev, false); err != nil {
				t.Fatal(err)
			}
			waitFor(t, func() bool { return removals.Load() > 2 })
			checkPages(t, inner, v.store.Prefix, false, 1000)
			stuck.Store(false)
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			open(t, e, v.store)
			waitFor(t, func() bool { return removedUpTo(t, e, v.store.Prefix) == rev })
			f := checkPages(t, e, v.store.Prefix, true, 1000)
			if f.Replaced > 0 || f.Values > 0 || f.Entries != 1 {
				t.Errorf("%d replaced versions, %d values, %d log entries are left", f.Replaced, f.Values, f.Entries)
			}
		})
	}
}

// countedWrites counts the bytes of the mutations of an engine's transactions.
type countedWrites struct {
	engine.Store
	bytes atomic.Int64
}

// TestWrittenOnce: an update, a delete and a compaction move no value that is larger than the bound.
func TestWrittenOnce(t *testing.T) {
	e := &countedWrites{Store: openEngine(t, pebble.Options{})}
	s := open(t, e, mvcc.Options{})
	value := bytes.Repeat([]byte("v"), 100<<10)
	put := func() {
		if _, err := s.Put(t.Context(), &mvcc.PutRequest{Key: []byte("k"), Value: value}); err != nil {
			t.Fatal(err)
		}
	}
	put()
	const overhead = 1024
	for _, step := range []struct {
		name string
		do   func()
		most int
	}{
		{"update", put, len(value) + overhead},
		{"delete", func() {
			if _, err := s.DeleteRange(t.Context(), &mvcc.DeleteRequest{Key: []byte("k")}); err != nil {
				t.Fatal(err)
			}
		}, overhead},
		{"compaction", func() {
			head, err := s.Head(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if _, err := s.Compact(t.Context(), head, true); err != nil {
				t.Fatal(err)
			}
		}, overhead},
	} {
		before := e.bytes.Load()
		step.do()
		if n := int(e.bytes.Load() - before); n > step.most {
			t.Errorf("a %s writes %d bytes, at most %d are expected", step.name, n, step.most)
		}
	}
	check(t, e, s, nil, true)
}

// TestFormatsAreRefused: what this release does not know it does not open, and a Store that has the keyspace open
// when somebody activates it answers nothing any more.
func TestFormatsAreRefused(t *testing.T) {
	e := openEngine(t, pebble.Options{})
	s := open(t, e, mvcc.Options{})
	put(t, s, "k", "v")
	if err := s.Activate(t.Context(), 1<<40); !errors.Is(err, mvcc.ErrNewerFormat) {
		t.Errorf("activating what nobody knows: %v", err)
	}
	rows := func(head, meta func([]byte) []byte) {
		x, err := e.Begin(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for key, f := range map[string]func([]byte) []byte{"d": head, "mkeyspace": meta} {
			v, err := x.Get(t.Context(), []byte(key))
			if err != nil {
				t.Fatal(err)
			}
			x.Set([]byte(key), f(bytes.Clone(v)))
		}
		p, err := x.Commit(t.Context())
		if err == nil {
			_, err = p.Wait(t.Context())
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	newer := func(at int) func([]byte) []byte {
		return func(v []byte) []byte {
			v[at] |= 0x40
			return v
		}
	}
	same := func(v []byte) []byte { return v }
	rows(newer(0), newer(26))
	if _, err := s.Put(t.Context(), &mvcc.PutRequest{Key: []byte("k")}); !errors.Is(err, mvcc.ErrNewerFormat) {
		t.Errorf("a put after an activation: %v", err)
	}
	if _, err := s.Range(t.Context(), &mvcc.RangeRequest{Key: []byte("k")}, func(*mvcc.KV) error {
		return nil
	}); !errors.Is(err, mvcc.ErrNewerFormat) {
		t.Errorf("a read after an activation: %v", err)
	}
	if _, err := mvcc.Open(t.Context(), e, mvcc.Options{}); !errors.Is(err, mvcc.ErrNewerFormat) {
		t.Errorf("opening newer features: %v", err)
	}
	rows(same, func(v []byte) []byte { v[12] = 3; return v })
	if _, err := mvcc.Open(t.Context(), e, mvcc.Options{}); !errors.Is(err, mvcc.ErrNewerFormat) {
		t.Errorf("opening a newer format: %v", err)
	}
}

// TestRowsWithoutKeyspace: where the row that describes a keyspace is lost no new one is made over the others.
func TestRowsWithoutKeyspace(t *testing.T) {
	e := openEngine(t, pebble.Options{})
	s := open(t, e, mvcc.Options{})
	put(t, s, "k", "v")
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	x, err := e.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	x.Clear([]byte("mkeyspace"))
	p, err := x.Commit(t.Context())
	if err == nil {
		_, err = p.Wait(t.Context())
	}
	if err != nil {
		t.Fatal(err)
	}
	if _, err := mvcc.Open(t.Context(), e, mvcc.Options{}); !errors.Is(err, mvcc.ErrCorrupt) {
		t.Error(err)
	}
}

// TestQuota: the quota counts what is live and the request that asks; a compaction of what was deleted makes room at
// once.
func TestQuota(t *testing.T) {
	const quota = 1 << 20
	var refused atomic.Int64
	e := openEngine(t, pebble.Options{})
	s := open(t, e, mvcc.Options{Quota: quota, OverQuota: func() { refused.Add(1) }})
	value := bytes.Repeat([]byte("v"), 40_000)
	fill := func() (n int) {
		for ; ; n++ {
			_, err := s.Put(t.Context(), &mvcc.PutRequest{Key: []byte("k"), Value: value})
			if errors.Is(err, mvcc.ErrNoSpace) {
				return n
			}
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	const least = (quota - 2000) / 40_200
	if n := fill(); n < least || s.LiveBytes() > quota || refused.Load() != 1 {
		t.Errorf("%d puts, at least %d should fit; %d live bytes; refused %d", n, least, s.LiveBytes(), refused.Load())
	}
	if _, err := s.LeaseGrant(t.Context(), 1, 10, nil); err != nil {
		t.Errorf("a grant fits still: %v", err)
	}
	res, err := s.DeleteRange(t.Context(), &mvcc.DeleteRequest{Key: []byte("k")})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Compact(t.Context(), res.Rev, true); err != nil {
		t.Fatal(err)
	}
	// The delete itself stays until the next compaction, since a watch may begin at it.
	if live := s.LiveBytes(); live > 41_000 {
		t.Errorf("%d bytes are live after everything was deleted and compacted", live)
	}
	if n := fill(); n < least-2 {
		t.Errorf("%d puts the second time, at least %d should fit", n, least-2)
	}
	check(t, e, s, nil, true)
}

// TestQuotaOfFreshKeys: a delete of all there is, at which a compaction stops, keeps none of it.
func TestQuotaOfFreshKeys(t *testing.T) {
	e := openEngine(t, pebble.Options{})
	s := open(t, e, mvcc.Options{Quota: 4 << 20})
	value := bytes.Repeat([]byte("v"), 40_000)
	for i := 0; ; i++ {
		_, err := s.Put(t.Context(), &mvcc.PutRequest{Key: fmt.Appendf(nil, "k%03d", i), Value: value})
		if errors.Is(err, mvcc.ErrNoSpace) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	res, err := s.DeleteRange(t.Context(), &mvcc.DeleteRequest{Key: []byte("k"), End: []byte("l")})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Compact(t.Context(), res.Rev, true); err != nil {
		t.Fatal(err)
	}
	if live := s.LiveBytes(); live > 20_000 {
		t.Errorf("%d bytes are live after everything was deleted and compacted", live)
	}
	check(t, e, s, nil, true)
	if _, err := s.Compact(t.Context(), put(t, s, "after", "all"), true); err != nil {
		t.Fatal(err)
	}
	if f := check(t, e, s, nil, true); f.Entries != 1 || f.Replaced != 0 {
		t.Errorf("%d log entries, %d replaced versions are left", f.Entries, f.Replaced)
	}
}

// TestFillAfterRemoval: a value that a compaction has removed is not made up; the event at the compact revision keeps
// its own, and a previous one that is small.
func TestFillAfterRemoval(t *testing.T) {
	e := openEngine(t, pebble.Options{})
	s := open(t, e, mvcc.Options{})
	value := strings.Repeat("v", 1000)
	for range 4 {
		put(t, s, "k", value)
	}
	log, _, err := s.ReadLog(t.Context(), 3, 3, 1<<20)
	if err != nil || len(log) != 3 {
		t.Fatal(log, err)
	}
	if kv := log[0].Events[0].Prev; !kv.Unread() || kv.Bytes() != len(value) || kv.Place != revlog.PlaceOwn {
		t.Fatalf("%+v", kv)
	}
	if _, err := s.Compact(t.Context(), 5, true); err != nil {
		t.Fatal(err)
	}
	if err := s.Fill(t.Context(), log[:1]); !errors.Is(err, mvcc.ErrCompacted) {
		t.Errorf("below the compact revision: %v", err)
	}
	if err := s.Fill(t.Context(), log[2:]); err != nil || string(log[2].Events[0].Prev.Value) != value ||
		string(log[2].Events[0].KV.Value) != value {
		t.Errorf("at the compact revision: %+v, %v", log[2].Events[0], err)
	}
	check(t, e, s, nil, true)
}

// Begin implements engine.Store.
func (c *countedWrites) Begin(ctx context.Context) (engine.Txn, error) {
	x, err := c.Store.Begin(ctx)
	return &countedTxn{x, &c.bytes}, err
}

type countedTxn struct {
	engine.Txn
	bytes *atomic.Int64
}

func (x *countedTxn) count(key, value []byte) { x.bytes.Add(int64(len(key) + len(value))) }

// Set implements engine.Txn.
func (x *countedTxn) Set(key, value []byte) {
	x.count(key, value)
	x.Txn.Set(key, value)
}

// SetStampedKey implements engine.Txn.
func (x *countedTxn) SetStampedKey(key []byte, at int, value []byte) {
	x.count(key, value)
	x.Txn.SetStampedKey(key, at, value)
}

// SetStampedValue implements engine.Txn.
func (x *countedTxn) SetStampedValue(key, value []byte, at int) {
	x.count(key, value)
	x.Txn.SetStampedValue(key, value, at)
}

// TestSizesAlone: the counter of live bytes is exact in a keyspace that has it and still keeps larger values as
// format 1 does.
func TestSizesAlone(t *testing.T) {
	e := openEngine(t, pebble.Options{})
	s := open(t, e, mvcc.Options{Features: mvcc.FeatureSizes, InlineBytes: 8, ChunkBytes: 64})
	big := strings.Repeat("v", 200)
	for _, value := range []string{big, big + big, "small", big} {
		put(t, s, "k", value)
		check(t, e, s, nil, false)
	}
	if _, err := s.DeleteRange(t.Context(), &mvcc.DeleteRequest{Key: []byte("k")}); err != nil {
		t.Fatal(err)
	}
	check(t, e, s, nil, false)
}

// TestListOverCompaction: a list at the head that outgrows its reader goes on although a compaction overtakes its
// revision, as etcd's does.
func TestListOverCompaction(t *testing.T) {
	e := openEngine(t, pebble.Options{})
	s := open(t, e, mvcc.Options{})
	const keys = 90
	value := bytes.Repeat([]byte("v"), 1<<20)
	for i := range keys {
		if _, err := s.Put(t.Context(), &mvcc.PutRequest{Key: fmt.Appendf(nil, "k%03d", i), Value: value}); err != nil {
			t.Fatal(err)
		}
	}
	seen := 0
	info, err := s.Range(t.Context(), &mvcc.RangeRequest{Key: []byte("k"), End: []byte("l")}, func(kv *mvcc.KV) error {
		if seen++; seen == 1 {
			if _, err := s.DeleteRange(t.Context(),
				&mvcc.DeleteRequest{Key: []byte("k050"), End: []byte("l")}); err != nil {
				return err
			}
			head, err := s.Head(t.Context())
			if err != nil {
				return err
			}
			if _, err := s.Compact(t.Context(), head, true); err != nil {
				return err
			}
		}
		if len(kv.Value) != len(value) {
			t.Errorf("%s has %d bytes", kv.Key, len(kv.Value))
		}
		return nil
	})
	if err != nil || seen != keys || info.Count != keys {
		t.Errorf("%d of %d keys, %v", seen, keys, err)
	}
}

// TestQuotaReleases: what requests hold of the quota is given back when they are over, whatever has become of them.
func TestQuotaReleases(t *testing.T) {
	e := openEngine(t, pebble.Options{})
	s := open(t, e, mvcc.Options{Quota: 1 << 20})
	put(t, s, "k", strings.Repeat("v", 1000))
	if _, err := s.Put(t.Context(),
		&mvcc.PutRequest{Key: []byte("k"), Lease: 77}); !errors.Is(err, mvcc.ErrLeaseNotFound) {
		t.Fatal(err)
	}
	if _, err := s.Put(t.Context(),
		&mvcc.PutRequest{Key: []byte("k"), Value: make([]byte, 2<<20)}); !errors.Is(err, mvcc.ErrNoSpace) {
		t.Fatal(err)
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.Put(gone, &mvcc.PutRequest{Key: []byte("k")}); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	if n := s.Reserved(); n != 0 {
		t.Errorf("%d bytes are still reserved", n)
	}
}
