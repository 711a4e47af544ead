package mvcc_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"testing"

	"github.com/headwaterdb/headwater/libs/engine"
	"github.com/headwaterdb/headwater/libs/engine/faults"
	"github.com/headwaterdb/headwater/libs/engine/pebble"
	"github.com/headwaterdb/headwater/libs/mvcc"
)

// fitRows is what the rows of a key take beside the key, with a zero byte as two, and a prefix: the byte of the table,
// the end of the key, stamp, chunk number, and what a stamped key has behind it (docs/formats.md).
const fitRows = 1 + 1 + 12 + 2 + 4

// longestKey is a random key with so many zero bytes that there can just be, where keys and their zero bytes have room.
func longestKey(r *rand.Rand, room, zeros int) []byte {
	key := make([]byte, room-zeros)
	for i := range key {
		key[i] = byte(1 + r.IntN(255))
	}
	for _, i := range r.Perm(len(key))[:zeros] {
		key[i] = 0
	}
	return key
}

// largestValue is the size of the largest value that a put of a key takes.
func largestValue(t *testing.T, s *mvcc.Store, key []byte) int {
	low, high := 0, 10_000_000
	for low < high {
		mid := (low + high + 1) / 2
		if s.Fits(&mvcc.PutRequest{Key: key, Value: make([]byte, mid)}) {
			low = mid
		} else {
			high = mid - 1
		}
	}
	if low == 0 || low == 10_000_000 {
		t.Fatalf("values up to %d bytes", low)
	}
	return low
}

// life takes a key through everything that etcd's API can do with it, at the size of value given.
type life struct {
	t     *testing.T
	s     *mvcc.Store
	key   []byte
	value []byte
}

func (l *life) put(p mvcc.PutRequest) {
	l.t.Helper()
	p.Key = l.key
	if !p.IgnoreValue {
		p.Value = l.value
	}
	if _, err := l.s.Put(l.t.Context(), &p); err != nil {
		l.t.Errorf("put %+v: %v", struct {
			Lease       int64
			Prev, Value bool
		}{p.Lease, p.PrevKV, p.IgnoreValue}, err)
	}
}

func (l *life) txn(what string, x *mvcc.TxnRequest) {
	l.t.Helper()
	res, err := l.s.Txn(l.t.Context(), x)
	if err != nil || !res.Succeeded {
		l.t.Errorf("%s: succeeded: %t, %v", what, res0(res).Succeeded, err)
	}
}

func (l *life) compare(target mvcc.CompareTarget) []mvcc.Compare {
	c := mvcc.Compare{Key: l.key, Target: target, Value: l.value}
	if target != mvcc.CompareValue {
		c.Result = mvcc.Greater
	}
	ranged := c
	ranged.End = append(bytes.Clone(l.key), 0)
	return []mvcc.Compare{c, ranged}
}

func (l *life) gone(what string, deleted int64, err error) {
	l.t.Helper()
	if err != nil || deleted != 1 {
		l.t.Errorf("%s: %d deleted, %v", what, deleted, err)
	}
}

func (l *life) run(lease int64) {
	l.t.Helper()
	ctx := l.t.Context()
	del := func(what string, d *mvcc.DeleteRequest) {
		l.t.Helper()
		res, err := l.s.DeleteRange(ctx, d)
		l.gone(what, res0(res).Deleted, err)
	}
	for i := range int64(3) {
		if _, err := l.s.LeaseGrant(ctx, lease+i, 10, nil); err != nil {
			l.t.Fatal(err)
		}
	}
	l.put(mvcc.PutRequest{})
	l.put(mvcc.PutRequest{Lease: lease})
	l.put(mvcc.PutRequest{Lease: lease + 1, PrevKV: true})
	l.put(mvcc.PutRequest{IgnoreValue: true, Lease: lease + 2, PrevKV: true})
	end := append(bytes.Clone(l.key), 0)
	l.txn("compare, read and put", &mvcc.TxnRequest{
		Compares: l.compare(mvcc.CompareValue),
		Success: []mvcc.Op{
			{Range: &mvcc.RangeRequest{Key: l.key, End: end}},
			{Range: &mvcc.RangeRequest{Key: l.key, End: end, CountOnly: true}},
			{Put: &mvcc.PutRequest{Key: l.key, Value: l.value, Lease: lease + 1, PrevKV: true}},
		},
	})
	if _, err := l.s.LeaseRevoke(ctx, lease+1, nil); err != nil {
		l.t.Errorf("revoke: %v", err)
	}
	l.put(mvcc.PutRequest{Lease: lease})
	del("delete", &mvcc.DeleteRequest{Key: l.key, PrevKV: true})
	l.put(mvcc.PutRequest{})
	del("delete of a prefix", &mvcc.DeleteRequest{Key: l.key[:1], End: []byte{l.key[0] + 1}, PrevKV: true})
	l.put(mvcc.PutRequest{})
	l.txn("compare and delete", &mvcc.TxnRequest{
		Compares: l.compare(mvcc.CompareMod),
		Success: []mvcc.Op{
			{Range: &mvcc.RangeRequest{Key: l.key}},
			{Delete: &mvcc.DeleteRequest{Key: []byte{0}, End: []byte{0}}},
		},
	})
	l.put(mvcc.PutRequest{})
	l.put(mvcc.PutRequest{})
	kvs := everything(l.t, l.s)
	if len(kvs) != 1 || !bytes.Equal(kvs[0].Key, l.key) || !bytes.Equal(kvs[0].Value, l.value) {
		l.t.Fatalf("%d keys", len(kvs))
	}
	old, _ := collect(l.t, l.s, &mvcc.RangeRequest{Key: []byte{0}, End: []byte{0}, Rev: kvs[0].Create})
	if len(old) != 1 || !bytes.Equal(old[0].Value, l.value) {
		l.t.Errorf("%d keys before", len(old))
	}
	del("last delete", &mvcc.DeleteRequest{Key: l.key})
	if _, err := l.s.Compact(ctx, put(l.t, l.s, "z", ""), true); err != nil {
		l.t.Errorf("compact: %v", err)
	}
	del("z", &mvcc.DeleteRequest{Key: []byte("z")})
}

// res0 is a result that may be missing.
func res0(res *mvcc.Result) mvcc.Result {
	if res == nil {
		return mvcc.Result{}
	}
	return *res
}

// TestLongestKeys: a key that is taken can be replaced, deleted, attached to a lease and revoked, and its history read
// and removed; one that is a byte longer is not taken. So it is with the largest value of a key.
func TestLongestKeys(t *testing.T) {
	if testing.Short() {
		t.Skip("one client at a time, and much data: there is nothing here for the race detector")
	}
	r := rand.New(rand.NewPCG(seed(t), 3))
	for _, v := range []struct {
		variant
		root int // bytes before all keys, as --fdb-root has them
	}{
		{variant{"values once", fdb, mvcc.Options{Shift: 2, Prefix: []byte("pre\x00fix")}}, 0},
		{variant{"under a root", fdb, mvcc.Options{Shift: 2}}, 60},
		{variant{"format 1", fdb, mvcc.Options{Shift: 2, NoFeatures: true}}, 10},
	} {
		t.Run(v.name, func(t *testing.T) {
			// What FoundationDB counts, the store counts too, and refuses late.
			e := faults.New(openEngine(t, v.engine), faults.Options{Remote: &faults.Remote{RootBytes: v.root}})
			s := open(t, e, v.store)
			lease := int64(1)
			try := func(key, value []byte) {
				t.Helper()
				l := life{t, s, key, value}
				l.run(lease)
				lease += 3
			}
			refused := func(key, value []byte) {
				t.Helper()
				p := &mvcc.PutRequest{Key: key, Value: value}
				_, err := s.Put(t.Context(), p)
				nested := &mvcc.TxnRequest{Failure: []mvcc.Op{{Txn: &mvcc.TxnRequest{Success: []mvcc.Op{{Put: p}}}}}}
				_, txnErr := s.Txn(t.Context(), nested)
				if !errors.Is(err, mvcc.ErrTooLarge) || !errors.Is(txnErr, mvcc.ErrTooLarge) {
					t.Errorf("a key of %d and a value of %d bytes: %v, %v", len(key), len(value), err, txnErr)
				}
			}
			room := e.Limits().KeyBytes - fitRows - len(v.store.Prefix)
			for _, zeros := range []int{0, 1, room / 2, r.IntN(room / 2)} {
				key := longestKey(r, room, zeros)
				for _, size := range []int{r.IntN(512), 600, 100_000 + r.IntN(200_000)} {
					try(key, bytes.Repeat([]byte{byte(size)}, size))
				}
				refused(append(bytes.Clone(key), 'x'), nil)
				if i := slices.IndexFunc(key, func(b byte) bool { return b != 0 }); i >= 0 { // one more zero byte
					key[i] = 0
					refused(key, nil)
				}
			}
			for _, key := range [][]byte{[]byte("short"), longestKey(r, room, r.IntN(room/2))} {
				size := largestValue(t, s, key)
				try(key, make([]byte, size))
				refused(key, make([]byte, size+1))
			}
			check(t, e, s, v.store.Prefix, true)
		})
	}
}

// TestKeysThatCannotExist: a read, a compare and a delete may name keys that are longer than any there can be.
func TestKeysThatCannotExist(t *testing.T) {
	e := faults.New(openEngine(t, fdb), faults.Options{Remote: &faults.Remote{}})
	s, ctx := open(t, e, mvcc.Options{Shift: 2}), t.Context()
	first := put(t, s, "k", "v")
	put(t, s, "k", "w")
	for name, pad := range map[string]byte{"zero bytes": 0, "letters": 'k', "bytes of ff": 0xff} {
		long := append([]byte("k"), bytes.Repeat([]byte{pad}, 20_000)...)
		longer := append(bytes.Clone(long), 1)
		for _, rev := range []int64{0, first} {
			for _, q := range []mvcc.RangeRequest{{Key: long}, {Key: long, End: longer}, {Key: long, End: []byte{0}}} {
				q.Rev = rev
				if kvs, info := collect(t, s, &q); len(kvs) != 0 || info.Count != 0 {
					t.Errorf("%s: %d keys", name, len(kvs))
				}
			}
			for _, q := range []mvcc.RangeRequest{
				{Key: []byte("k"), End: long},
				{Key: []byte("a"), End: longer, CountOnly: true},
			} {
				q.Rev = rev
				if _, info := collect(t, s, &q); info.Count != 1 {
					t.Errorf("%s: %d keys up to it", name, info.Count)
				}
			}
		}
		for _, d := range []mvcc.DeleteRequest{
			{Key: long}, {Key: long, End: longer}, {Key: long, End: []byte{0}, PrevKV: true},
		} {
			if res, err := s.DeleteRange(ctx, &d); err != nil || res.Deleted != 0 {
				t.Errorf("%s: %+v, %v", name, res, err)
			}
		}
		res, err := s.Txn(ctx, &mvcc.TxnRequest{
			Compares: []mvcc.Compare{
				{Key: long, Target: mvcc.CompareVersion},
				{Key: long, End: longer, Target: mvcc.CompareCreate},
				{Key: []byte("k"), End: long, Target: mvcc.CompareVersion, Result: mvcc.Greater},
			},
			Success: []mvcc.Op{
				{Range: &mvcc.RangeRequest{Key: long}},
				{Range: &mvcc.RangeRequest{Key: []byte("k"), End: long}},
				{Put: &mvcc.PutRequest{Key: []byte("k"), Value: []byte("w")}},
			},
		})
		if err != nil || !res.Succeeded || res.Ops[0].Count != 0 || res.Ops[1].Count != 1 {
			t.Errorf("%s: %+v, %v", name, res, err)
		}
		if _, err := s.Put(ctx, &mvcc.PutRequest{Key: long}); !errors.Is(err, mvcc.ErrTooLarge) {
			t.Errorf("%s: %v", name, err)
		}
	}
	res, err := s.DeleteRange(ctx, &mvcc.DeleteRequest{Key: []byte("k"), End: bytes.Repeat([]byte("l"), 20_000)})
	if err != nil || res.Deleted != 1 {
		t.Errorf("%+v, %v", res, err)
	}
	check(t, e, s, nil, false)
}

// TestNoLimits: where the engine has none, keys are bounded by the size of requests alone.
func TestNoLimits(t *testing.T) {
	s := open(t, openEngine(t, pebble.Options{}), mvcc.Options{})
	l := life{t, s, make([]byte, 50_000), make([]byte, 1<<20)}
	l.run(1)
}

// meter counts the bytes of the rows that transactions have scanned.
type meter struct {
	engine.Store
	bytes atomic.Int64
}

func (m *meter) Begin(ctx context.Context) (engine.Txn, error) {
	txn, err := m.Store.Begin(ctx)
	return meterTxn{txn, m}, err
}

type meterTxn struct {
	engine.Txn
	m *meter
}

func (x meterTxn) Scan(ctx context.Context, q engine.Range) engine.Iterator {
	return meterIterator{x.Txn.Scan(ctx, q), x.m}
}

func (x meterTxn) GetMany(ctx context.Context, keys [][]byte) ([][]byte, error) {
	values, err := x.Txn.GetMany(ctx, keys)
	for _, v := range values {
		x.m.bytes.Add(int64(len(v)))
	}
	return values, err
}

type meterIterator struct {
	engine.Iterator
	m *meter
}

func (i meterIterator) Next() bool {
	ok := i.Iterator.Next()
	if ok {
		i.m.bytes.Add(int64(len(i.Key()) + len(i.Value())))
	}
	return ok
}

// TestLargeDelete: a delete of more than a transaction holds is refused when it has read what a transaction holds, not
// when it has read it all; and the others of its group do not suffer.
func TestLargeDelete(t *testing.T) {
	if testing.Short() {
		t.Skip("much data and few clients: there is little here for the race detector")
	}
	const keys, keyBytes = 4000, 2000
	for _, v := range []variant{
		// Another keeps the buckets in which keys are counted: that reads keys too, when it likes.
		{"values once", fdb, mvcc.Options{NoRemoval: true}},
		{"format 1", fdb, mvcc.Options{NoRemoval: true, NoFeatures: true}},
	} {
		t.Run(v.name, func(t *testing.T) {
			m := &meter{Store: openFDBLike(t)}
			g, e := newGate(m)
			s, ctx := open(t, e, v.store), t.Context()
			key := func(i int) []byte { return fmt.Appendf(nil, "k%0*d", keyBytes-1, i) }
			for i := 0; i < keys; {
				var ops []mvcc.Op
				for range 100 {
					ops = append(ops, mvcc.Op{Put: &mvcc.PutRequest{Key: key(i), Value: make([]byte, 500)}})
					i++
				}
				if _, err := s.Txn(ctx, &mvcc.TxnRequest{Success: ops}); err != nil {
					t.Fatal(err)
				}
			}
			all := &mvcc.DeleteRequest{Key: []byte("k"), End: []byte("l"), PrevKV: true}
			var parts []mvcc.Op // each is small enough
			for i := 0; i < keys; i += keys / 8 {
				parts = append(parts, mvcc.Op{Delete: &mvcc.DeleteRequest{Key: key(i), End: key(i + keys/8)}})
			}
			for _, do := range map[string]func() error{
				"delete": func() error { _, err := s.DeleteRange(ctx, all); return err },
				"txn":    func() error { _, err := s.Txn(ctx, &mvcc.TxnRequest{Success: parts}); return err },
			} {
				m.bytes.Store(0)
				g.group(t, s, func() { put(t, s, "a", "") }, func() {
					if err := do(); !errors.Is(err, mvcc.ErrTooLarge) {
						t.Errorf("refused with %v", err)
					}
				}, func() { put(t, s, "b", "") })
				// 2 MB as a rule; on a slow machine the group sets it aside as heavy, and it is evaluated once more.
				if n, all := m.bytes.Load(), int64(keys*keyBytes); n > all {
					t.Errorf("%d bytes were read, more than %d", n, all)
				}
			}
			fits := &mvcc.DeleteRequest{Key: []byte("k"), End: key(keys / 8)}
			if res, err := s.DeleteRange(ctx, fits); err != nil || res.Deleted != keys/8 {
				t.Errorf("a delete that fits: %+v, %v", res0(res), err)
			}
			check(t, e, s, nil, false)
		})
	}
}

// narrow is an engine with small transactions.
type narrow struct{ engine.Store }

func (n narrow) Limits() engine.Limits {
	l := n.Store.Limits()
	l.TxnBytes /= 10
	return l
}

// TestHeldBytes: what a request that writes holds in memory beside what it writes is bounded by what a transaction may
// hold; what only reads is not.
func TestHeldBytes(t *testing.T) {
	const values, size = 20, 500_000
	s, ctx := open(t, narrow{openFDBLike(t)}, mvcc.Options{}), t.Context()
	for i := range values {
		put(t, s, fmt.Sprint("k", i), string(make([]byte, size)))
	}
	read := mvcc.Op{Range: &mvcc.RangeRequest{Key: []byte("k"), End: []byte("l")}}
	write := mvcc.Op{Put: &mvcc.PutRequest{Key: []byte("a")}}
	if res, err := s.Txn(ctx, &mvcc.TxnRequest{Success: []mvcc.Op{read}}); err != nil || len(res.Ops[0].KVs) != values {
		t.Errorf("a transaction that reads: %v", err)
	}
	if _, err := s.Txn(ctx, &mvcc.TxnRequest{Success: []mvcc.Op{read, write}}); !errors.Is(err, mvcc.ErrTooLarge) {
		t.Errorf("one that writes too: %v", err)
	}
	all := mvcc.DeleteRequest{Key: []byte("k"), End: []byte("l"), PrevKV: true}
	if _, err := s.DeleteRange(ctx, &all); !errors.Is(err, mvcc.ErrTooLarge) {
		t.Errorf("a delete that returns what it deletes: %v", err)
	}
	all.PrevKV = false
	if res, err := s.DeleteRange(ctx, &all); err != nil || res.Deleted != values {
		t.Errorf("one that does not: %+v, %v", res0(res), err)
	}
}
