package snapshot_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/google/go-cmp/cmp"

	"github.com/headwaterdb/headwater/libs/engine"
	"github.com/headwaterdb/headwater/libs/engine/faults"
	"github.com/headwaterdb/headwater/libs/engine/pebble"
	"github.com/headwaterdb/headwater/libs/engine/testengine"
	"github.com/headwaterdb/headwater/libs/fsck"
	"github.com/headwaterdb/headwater/libs/mvcc"
	"github.com/headwaterdb/headwater/libs/revlog"
)

// keys are few, so that they meet, and of any bytes.
var keys = []string{"a", "b", "k/1", "k/2", "\x00", "a\x00", "a\x00\xff", "\xff\xff", "k/2/x", "c"}

// sizes are those of values: inline, apart, in several chunks.
var sizes = []int{0, 1, 20, 600, 3000, 250_000}

// engines are what keyspaces are on: numbered densely, and with gaps, where states grow old while a file is made.
// So few do that no read of a past revision meets nine in a row.
var engines = map[string]func(t *testing.T, seed uint64) engine.Store{
	"dense": func(t *testing.T, _ uint64) engine.Store { return dense(t) },
	"sparse": func(t *testing.T, seed uint64) engine.Store {
		return faults.New(testengine.Open(t, seed), faults.Options{Seed: seed, TooOld: 0.002})
	},
}

func dense(t testing.TB) engine.Store {
	t.Helper()
	e, err := pebble.Open("store", pebble.Options{
		FS: vfs.NewMem(), ReserveBytes: -1, BallastBytes: -1, CloseWithin: time.Minute,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	})
	return e
}

// aging has states grow old, or not: that is for files, and not for what tests ask in one state as long as it takes.
func aging(e engine.Store, on bool) {
	if f, ok := e.(*faults.Store); ok {
		f.Pause(!on)
	}
}

func open(t testing.TB, e engine.Store) *mvcc.Store {
	t.Helper()
	aging(e, false)
	s, err := mvcc.Open(t.Context(), e, mvcc.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// traffic changes a keyspace at random.
type traffic struct {
	*rand.Rand
	s      *mvcc.Store
	leases []int64
}

func (g *traffic) key() []byte { return []byte(keys[g.IntN(len(keys))]) }

func (g *traffic) put() *mvcc.PutRequest {
	size := sizes[g.IntN(len(sizes))]
	if size > 10_000 && g.IntN(10) > 0 {
		size = 7
	}
	v := make([]byte, size)
	for i := range v {
		v[i] = byte(g.Uint32())
	}
	p := &mvcc.PutRequest{Key: g.key(), Value: v}
	if len(g.leases) > 0 && g.IntN(3) == 0 {
		p.Lease = g.leases[g.IntN(len(g.leases))]
	}
	return p
}

// step sends one request. Those that cannot be carried out are part of it.
func (g *traffic) step(t *testing.T, compact bool) {
	t.Helper()
	var err error
	switch n := g.IntN(100); {
	case n < 50:
		_, err = g.s.Put(t.Context(), g.put())
	case n < 65:
		d := &mvcc.DeleteRequest{Key: g.key()}
		if g.IntN(3) == 0 {
			d.End = append(bytes.Clone(d.Key), 0xff)
		}
		_, err = g.s.DeleteRange(t.Context(), d)
	case n < 85:
		first, second := g.put(), g.put()
		r := &mvcc.TxnRequest{Success: []mvcc.Op{{Put: first}}}
		if !bytes.Equal(first.Key, second.Key) {
			r.Success = append(r.Success, mvcc.Op{Put: second})
		}
		_, err = g.s.Txn(t.Context(), r)
	case n < 90:
		id := 1 + g.Int64N(50)
		if _, err = g.s.LeaseGrant(t.Context(), id, 1000+id, nil); err == nil {
			g.leases = append(g.leases, id)
		}
	case n < 94 && len(g.leases) > 0:
		i := g.IntN(len(g.leases))
		_, err = g.s.LeaseRevoke(t.Context(), g.leases[i], nil)
		g.leases = append(g.leases[:i], g.leases[i+1:]...)
	case n < 97 && compact:
		var head int64
		if head, err = g.s.Head(t.Context()); err == nil {
			_, err = g.s.Compact(t.Context(), head-g.Int64N(4), g.IntN(2) == 0)
		}
	}
	if err != nil && !errors.Is(err, mvcc.ErrCompacted) && !errors.Is(err, mvcc.ErrLeaseExists) {
		t.Fatal(err)
	}
}

// picture is all that a keyspace can be asked.
type picture struct {
	Head, Compact int64
	States        map[int64][]mvcc.KV // by revision
	Hashes        map[int64]uint32
	Log           []revlog.Entry // without what was replaced at the compact revision
	Leases        map[int64]int64
	LeaseKeys     map[int64][]string
}

func pictureOf(t *testing.T, s *mvcc.Store) picture {
	t.Helper()
	ctx := t.Context()
	p := picture{
		States: map[int64][]mvcc.KV{}, Hashes: map[int64]uint32{}, Leases: map[int64]int64{},
		LeaseKeys: map[int64][]string{},
	}
	var err error
	if p.Head, err = s.Head(ctx); err != nil {
		t.Fatal(err)
	}
	p.Compact = s.CompactRevision()
	for from := max(p.Compact, 1); from <= p.Head; {
		entries, next, err := s.ReadLog(ctx, from, 1000, 64<<20)
		if err == nil {
			err = s.Fill(ctx, entries)
		}
		if err != nil {
			t.Fatal(err)
		}
		p.Log = append(p.Log, entries...)
		from = next
	}
	revs := []int64{p.Head, max(p.Compact, 1)}
	for i := range p.Log {
		revs = append(revs, p.Log[i].Rev)
		for j := range p.Log[i].Events {
			ev := &p.Log[i].Events[j]
			if p.Log[i].Rev == p.Compact {
				ev.HasPrev, ev.Prev = false, revlog.KV{}
			}
			ev.KV.Place, ev.KV.Size, ev.Prev.Place, ev.Prev.Size = 0, 0, 0, 0
		}
	}
	for _, rev := range revs {
		if _, done := p.States[rev]; !done {
			p.state(t, s, rev)
		}
	}
	err = s.Leases(ctx, func(id, ttl int64) error { p.Leases[id] = ttl; return nil })
	if err != nil {
		t.Fatal(err)
	}
	for id := range p.Leases {
		attached, _, err := s.LeaseKeys(ctx, id)
		if err != nil {
			t.Fatal(err)
		}
		p.LeaseKeys[id] = []string{}
		for _, k := range attached {
			p.LeaseKeys[id] = append(p.LeaseKeys[id], string(k))
		}
	}
	return p
}

func (p *picture) state(t *testing.T, s *mvcc.Store, rev int64) {
	t.Helper()
	p.States[rev] = []mvcc.KV{}
	_, err := s.Range(t.Context(), &mvcc.RangeRequest{Key: []byte{0}, End: []byte{0}, Rev: rev},
		func(kv *mvcc.KV) error {
			c := *kv
			c.Key, c.Value = bytes.Clone(kv.Key), append([]byte{}, kv.Value...)
			p.States[rev] = append(p.States[rev], c)
			return nil
		})
	if err != nil {
		t.Fatal(err)
	}
	if rev == p.Compact {
		return // what its hash is depends on whether the process still knows the hash of the compaction
	}
	if p.Hashes[rev], _, _, _, err = s.HashKV(t.Context(), rev); err != nil {
		t.Fatal(err)
	}
}

func same(t *testing.T, what string, want, got picture) {
	t.Helper()
	if diff := cmp.Diff(want, got, cmp.Transformer("bytes", func(b []byte) string { return string(b) })); diff != "" {
		t.Fatalf("%s: %s", what, diff)
	}
}

// clean checks the rows.
func clean(t *testing.T, e engine.Store) {
	t.Helper()
	r, err := fsck.Check(context.Background(), e, fsck.Options{})
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range r.Findings {
		t.Errorf("fsck: %s", fmt.Sprint(f))
	}
}
