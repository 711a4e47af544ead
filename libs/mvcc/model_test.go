package mvcc_test

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/headwaterdb/headwater/libs/engine"
	"github.com/headwaterdb/headwater/libs/engine/pebble"
	"github.com/headwaterdb/headwater/libs/mvcc"
	"github.com/headwaterdb/headwater/libs/revlog"
)

var seedFlag = flag.Uint64("seed", 0, "seed of the random tests; 0: from the clock")

func seed(t testing.TB) uint64 {
	s := *seedFlag
	if s == 0 {
		s = uint64(time.Now().UnixNano())
	}
	t.Logf("-seed=%d", s)
	return s
}

// model is the naive truth: every state of the keyspace, by revision.
type model struct {
	states  []map[string]mvcc.KV // states[i] is the state after revs[i]
	revs    []int64
	entries []revlog.Entry
	leases  map[int64]bool
	compact int64
}

func newModel(head int64) *model {
	return &model{states: []map[string]mvcc.KV{{}}, revs: []int64{head}, leases: map[int64]bool{}, compact: -1}
}

func (m *model) state() map[string]mvcc.KV { return m.states[len(m.states)-1] }
func (m *model) head() int64               { return m.revs[len(m.revs)-1] }

func (m *model) at(rev int64) map[string]mvcc.KV {
	i, ok := slices.BinarySearch(m.revs, rev)
	if !ok {
		i--
	}
	return m.states[i]
}

// change applies puts and deletes as one revision.
func (m *model) change(rev int64, puts []mvcc.PutRequest, deletes []string) {
	next := map[string]mvcc.KV{}
	for k, v := range m.state() {
		next[k] = v
	}
	e := revlog.Entry{Rev: rev}
	for _, k := range deletes {
		e.Events = append(e.Events, revlog.Event{
			Delete: true, KV: mvcc.KV{Key: []byte(k), Mod: rev}, HasPrev: true, Prev: next[k],
		})
		delete(next, k)
	}
	for _, p := range puts {
		old, had := next[string(p.Key)]
		kv := mvcc.KV{Key: p.Key, Value: p.Value, Create: rev, Mod: rev, Version: 1, Lease: p.Lease}
		if had {
			kv.Create, kv.Version = old.Create, old.Version+1
		}
		next[string(p.Key)] = kv
		e.Events = append(e.Events, revlog.Event{KV: kv, HasPrev: had, Prev: old})
	}
	m.states, m.revs, m.entries = append(m.states, next), append(m.revs, rev), append(m.entries, e)
}

func (m *model) span(state map[string]mvcc.KV, key, end []byte) []mvcc.KV {
	var kvs []mvcc.KV
	for k, v := range state {
		b := []byte(k)
		in := bytes.Compare(b, key) >= 0 && (len(end) == 1 && end[0] == 0 || bytes.Compare(b, end) < 0)
		if len(end) == 0 {
			in = bytes.Equal(b, key)
		}
		if in {
			kvs = append(kvs, v)
		}
	}
	slices.SortFunc(kvs, func(a, b mvcc.KV) int { return bytes.Compare(a.Key, b.Key) })
	return kvs
}

type variant struct {
	name   string
	engine pebble.Options
	store  mvcc.Options
}

func variants() []variant {
	return []variant{
		{"dense", pebble.Options{}, mvcc.Options{}},
		{"chunks", pebble.Options{}, mvcc.Options{InlineBytes: 3, ChunkBytes: 7, Prefix: []byte("ks\x00")}},
		{"dense, heavy", pebble.Options{}, mvcc.Options{LightRows: 1}},
		{"fdb", pebble.Options{FDBLimits: true, Sparse: true, NotPipelined: true}, mvcc.Options{Lanes: 4, Shift: 5, InlineBytes: 8, ChunkBytes: 64}},
		{"format 1", pebble.Options{}, mvcc.Options{InlineBytes: 3, ChunkBytes: 7, NoFeatures: true}},
		{"fdb, format 1", pebble.Options{FDBLimits: true, Sparse: true, NotPipelined: true}, mvcc.Options{Lanes: 4, InlineBytes: 8, ChunkBytes: 64, NoFeatures: true}},
	}
}

var keyPool = [][]byte{
	{0},
	{0, 0},
	{0, 0xff},
	[]byte("a"), []byte("a\x00"), []byte("a\x00\xff"), []byte("a\x00b"), []byte("ab"),
	[]byte("b"),
	{0xff},
	{0xff, 0xff},
	{0xff, 0},
}

func TestAgainstModel(t *testing.T) {
	for _, v := range variants() {
		t.Run(v.name, func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed(t), 1))
			v.engine.Seed = r.Uint64()
			e := openEngine(t, v.engine)
			s := open(t, e, v.store)
			head, err := s.Head(context.Background())
			if err != nil {
				t.Fatal(err)
			}
			d := &driver{t: t, r: r, s: s, m: newModel(head), e: e, o: v.store}
			steps := 800
			if testing.Short() {
				steps = 200 // for the race detector
			}
			for i := range steps {
				if i == steps/2 && v.store.NoFeatures {
					d.o.Activate = mvcc.FeaturesAll
					d.reopen()
				}
				d.step()
			}
			check(t, e, d.s, v.store.Prefix, false).checkReads(d.s, 1)
		})
	}
}

type driver struct {
	t *testing.T
	r *rand.Rand
	s *mvcc.Store
	m *model
	e engine.Store
	o mvcc.Options
}

func (d *driver) key() []byte { return keyPool[d.r.IntN(len(keyPool))] }

func (d *driver) value() []byte {
	b := make([]byte, d.r.IntN(4)*d.r.IntN(60))
	for i := range b {
		b[i] = byte(d.r.IntN(256))
	}
	return b
}

func (d *driver) lease() int64 {
	for _, id := range slices.Sorted(maps.Keys(d.m.leases)) { // the same for the same seed
		if d.r.IntN(2) == 0 {
			return id
		}
	}
	return 0
}

func (d *driver) step() {
	ctx := context.Background()
	switch n := d.r.IntN(20); {
	case n < 6:
		p := mvcc.PutRequest{Key: d.key(), Value: d.value(), Lease: d.lease(), PrevKV: true}
		res, err := d.s.Put(ctx, &p)
		d.must(err)
		d.grew(res.Rev)
		old, had := d.m.state()[string(p.Key)]
		if had != (len(res.Prev) == 1) || had {
			d.equal("prev", res.Prev, []mvcc.KV{old})
		}
		d.m.change(res.Rev, []mvcc.PutRequest{p}, nil)
	case n < 8:
		key, end := d.key(), d.end()
		want := d.m.span(d.m.state(), key, end)
		res, err := d.s.DeleteRange(ctx, &mvcc.DeleteRequest{Key: key, End: end, PrevKV: true})
		d.must(err)
		d.equal("deleted", res.Prev, want)
		if len(want) == 0 {
			d.equal("head after deleting nothing", res.Rev, d.m.head())
			return
		}
		d.grew(res.Rev)
		d.m.change(res.Rev, nil, keysOf(want))
	case n < 11:
		d.txn()
	case n < 15:
		d.read()
	case n == 15:
		d.compact()
	case n == 16:
		id := int64(d.r.IntN(3) + 1)
		_, err := d.s.LeaseGrant(ctx, id, 10, nil)
		if d.m.leases[id] != errors.Is(err, mvcc.ErrLeaseExists) {
			d.t.Fatalf("grant %d: %v", id, err)
		}
		d.m.leases[id] = true
	case n == 17:
		d.revoke()
	case n == 18 && d.r.IntN(4) == 0:
		d.log()
	case n == 19:
		d.reopen()
	}
}

func keysOf(kvs []mvcc.KV) (keys []string) {
	for _, kv := range kvs {
		keys = append(keys, string(kv.Key))
	}
	return keys
}

func (d *driver) must(err error) {
	d.t.Helper()
	if err != nil {
		d.t.Fatal(err)
	}
}

func (d *driver) grew(rev int64) {
	d.t.Helper()
	if rev <= d.m.head() {
		d.t.Fatalf("revision %d after %d", rev, d.m.head())
	}
}

func (d *driver) equal(what string, got, want any) {
	d.t.Helper()
	if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
		d.t.Fatalf("%s (-want +got):\n%s", what, diff)
	}
}

func (d *driver) end() []byte {
	switch d.r.IntN(4) {
	case 0:
		return nil
	case 1:
		return []byte{0}
	}
	return d.key()
}

// txn puts two different keys if a compare holds, else reads.
func (d *driver) txn() {
	a, b := d.key(), d.key()
	if bytes.Equal(a, b) {
		return
	}
	var mod int64
	if kv, ok := d.m.state()[string(a)]; ok && d.r.IntN(3) > 0 {
		mod = kv.Mod
	}
	puts := []mvcc.PutRequest{{Key: a, Value: d.value()}, {Key: b, Value: d.value()}}
	res, err := d.s.Txn(context.Background(), &mvcc.TxnRequest{
		Compares: []mvcc.Compare{{Key: a, Target: mvcc.CompareMod, Int: mod}},
		Success:  []mvcc.Op{{Put: &puts[0]}, {Range: &mvcc.RangeRequest{Key: []byte{0}, End: []byte{0}}}, {Put: &puts[1]}},
		Failure:  []mvcc.Op{{Range: &mvcc.RangeRequest{Key: a}}, {Put: &mvcc.PutRequest{Key: []byte("a"), Value: []byte("else")}}},
	})
	d.must(err)
	d.equal("succeeded", res.Succeeded, d.m.state()[string(a)].Mod == mod)
	d.grew(res.Rev)
	if !res.Succeeded {
		d.equal("else", res.Ops[0].KVs, d.m.span(d.m.state(), a, nil))
		d.m.change(res.Rev, []mvcc.PutRequest{{Key: []byte("a"), Value: []byte("else")}}, nil)
		return
	}
	between := newModel(d.m.head())
	between.states[0] = d.m.state()
	between.change(res.Rev, puts[:1], nil)
	d.equal("range inside", res.Ops[1].KVs, between.span(between.state(), []byte{0}, []byte{0}))
	d.m.change(res.Rev, puts, nil)
}

func (d *driver) read() {
	req := mvcc.RangeRequest{Key: d.key(), End: d.end()}
	rev := d.m.head()
	if d.r.IntN(2) == 0 {
		rev = d.m.revs[d.r.IntN(len(d.m.revs))]
		req.Rev = rev
	}
	if d.r.IntN(3) == 0 {
		req.Limit = int64(d.r.IntN(4))
	}
	var got []mvcc.KV
	info, err := d.s.Range(context.Background(), &req, func(kv *mvcc.KV) error {
		got = append(got, mvcc.KV{
			Key: bytes.Clone(kv.Key), Value: bytes.Clone(kv.Value), Create: kv.Create, Mod: kv.Mod, Version: kv.Version,
			Lease: kv.Lease,
		})
		return nil
	})
	if rev < d.m.compact {
		if !errors.Is(err, mvcc.ErrCompacted) {
			d.t.Fatalf("range at %d, compacted %d: %v", rev, d.m.compact, err)
		}
		return
	}
	d.must(err)
	want := d.m.span(d.m.at(rev), req.Key, req.End)
	d.equal("count", info.Count, int64(len(want)))
	d.equal("head", info.Rev, d.m.head())
	more := false
	if req.Limit > 0 && int64(len(want)) > req.Limit {
		want, more = want[:req.Limit], true
	}
	d.equal("more", info.More, more)
	d.equal(fmt.Sprintf("range %q %q at %d of %d", req.Key, req.End, rev, d.m.head()), got, want)
}

func (d *driver) compact() {
	rev := d.m.revs[d.r.IntN(len(d.m.revs))]
	_, err := d.s.Compact(context.Background(), rev, d.r.IntN(2) == 0)
	if rev <= d.m.compact {
		if !errors.Is(err, mvcc.ErrCompacted) {
			d.t.Fatalf("compact %d after %d: %v", rev, d.m.compact, err)
		}
		return
	}
	d.must(err)
	d.m.compact = rev
}

func (d *driver) revoke() {
	id := int64(d.r.IntN(3) + 1)
	var attached []string
	for _, kv := range d.m.span(d.m.state(), []byte{0}, []byte{0}) {
		if kv.Lease == id {
			attached = append(attached, string(kv.Key))
		}
	}
	keys, _, err := d.s.LeaseKeys(context.Background(), id)
	d.must(err)
	var got []string
	for _, k := range keys {
		got = append(got, string(k))
	}
	d.equal("attached", got, attached)
	rev, err := d.s.LeaseRevoke(context.Background(), id, nil)
	if !d.m.leases[id] {
		if !errors.Is(err, mvcc.ErrLeaseNotFound) {
			d.t.Fatal(err)
		}
		return
	}
	d.must(err)
	delete(d.m.leases, id)
	if len(attached) > 0 {
		d.grew(rev)
		d.m.change(rev, nil, attached)
	}
}

// log reads the whole log back in small pieces.
func (d *driver) log() {
	from := max(d.m.compact, 0)
	var got []revlog.Entry
	for from <= d.m.head() {
		entries, next, err := d.s.ReadLog(context.Background(), from, d.r.IntN(7)+1, d.r.IntN(300)+1)
		d.must(err)
		if next <= from {
			d.t.Fatalf("ReadLog(%d) goes on at %d", from, next)
		}
		got, from = append(got, whole(d.s, entries)...), next
	}
	var want []revlog.Entry
	for _, e := range d.m.entries {
		if e.Rev >= d.m.compact {
			want = append(want, e)
		}
	}
	d.equal("log", atCompact(got, d.m.compact), atCompact(want, d.m.compact))
}

// atCompact leaves the previous versions out of the entry at the compact revision: they go with the compaction,
// sooner or later.
func atCompact(log []revlog.Entry, compact int64) []revlog.Entry {
	log = slices.Clone(log)
	for i := range log {
		if log[i].Rev == compact {
			log[i].Events = slices.Clone(log[i].Events)
			for j := range log[i].Events {
				log[i].Events[j].HasPrev, log[i].Events[j].Prev = false, mvcc.KV{}
			}
		}
	}
	return log
}

func (d *driver) reopen() {
	d.must(d.s.Close())
	s, err := mvcc.Open(context.Background(), d.e, d.o)
	d.must(err)
	d.t.Cleanup(func() { s.Close() })
	d.s = s
	head, err := s.Head(context.Background())
	d.must(err)
	d.equal("head after reopening", head, d.m.head())
	d.equal("compact revision after reopening", s.CompactRevision(), d.m.compact)
}

// TestConcurrentCounters checks that concurrent transactions neither lose nor repeat an increment, that every
// revision is unique, and that the feed is the whole log in order.
func TestConcurrentCounters(t *testing.T) {
	for _, v := range variants() {
		t.Run(v.name, func(t *testing.T) {
			var f feed
			v.engine.Seed = seed(t)
			s := openFed(t, openEngine(t, v.engine), v.store, &f)
			const clients, increments, counters = 8, 40, 3
			var wg sync.WaitGroup
			for c := range clients {
				wg.Go(func() {
					for i := range increments {
						increment(t, s, fmt.Appendf(nil, "counter%d", (c+i)%counters))
					}
				})
			}
			wg.Wait()
			total := 0
			kvs, info := collect(t, s, &mvcc.RangeRequest{Key: []byte("counter"), End: []byte("counter:")})
			for _, kv := range kvs {
				total += len(kv.Value)
			}
			if total != clients*increments {
				t.Fatalf("%d increments, want %d", total, clients*increments)
			}
			waitFor(t, func() bool { return f.reached(info.Rev) })
			log, _, err := s.ReadLog(context.Background(), 0, 1<<20, 1<<30)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(whole(s, log), f.all(), cmpopts.EquateEmpty()); diff != "" {
				t.Fatal(diff)
			}
			for i := 1; i < len(log); i++ {
				if log[i].Rev <= log[i-1].Rev {
					t.Fatalf("revision %d after %d", log[i].Rev, log[i-1].Rev)
				}
			}
		})
	}
}

func waitFor(t *testing.T, cond func() bool) {
	t.Helper()
	for deadline := time.Now().Add(2 * time.Minute); !cond(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("condition not reached")
		}
	}
}

func increment(t *testing.T, s *mvcc.Store, key []byte) {
	for {
		var cur mvcc.KV
		if _, err := s.Range(context.Background(), &mvcc.RangeRequest{Key: key}, func(kv *mvcc.KV) error {
			cur = mvcc.KV{Mod: kv.Mod, Value: bytes.Clone(kv.Value)}
			return nil
		}); err != nil {
			t.Error(err)
			return
		}
		res, err := s.Txn(context.Background(), &mvcc.TxnRequest{
			Compares: []mvcc.Compare{{Key: key, Target: mvcc.CompareMod, Int: cur.Mod}},
			Success:  []mvcc.Op{{Put: &mvcc.PutRequest{Key: key, Value: append(cur.Value, '+')}}},
		})
		if err != nil {
			t.Error(err)
			return
		}
		if res.Succeeded {
			return
		}
	}
}
