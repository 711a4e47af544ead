package mvcc_test

import (
	"bytes"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/headwaterdb/headwater/libs/engine"
	"github.com/headwaterdb/headwater/libs/mvcc"
)

// writers opens Stores of one keyspace, as several pods do.
func writers(t *testing.T, n int, o mvcc.Options) (engine.Store, []*mvcc.Store) {
	t.Helper()
	e := openEngine(t, fdb)
	o.Lanes = 4
	all := make([]*mvcc.Store, n)
	for i := range all {
		all[i] = open(t, e, o)
	}
	return e, all
}

// TestKeysMaxTogether: however many Stores make keys of one keyspace at the same time, there are as many in the end as
// there may be, near the bound all the way or from far away.
func TestKeysMaxTogether(t *testing.T) {
	for _, c := range []struct{ bound, txns, keys int }{
		{bound: 40, txns: 120, keys: 1}, {bound: 6000, txns: 36, keys: 250},
	} {
		t.Run(fmt.Sprint(c.bound), func(t *testing.T) {
			if testing.Short() && c.keys > 1 {
				t.Skip("it takes seconds under the race detector")
			}
			var over atomic.Int64
			e, all := writers(t, 3, mvcc.Options{KeysMax: int64(c.bound), OverKeys: func() { over.Add(1) }})
			var made, refused atomic.Int64
			var wg sync.WaitGroup
			for i := range c.txns {
				var ops []mvcc.Op
				for j := range c.keys {
					ops = append(ops, mvcc.Op{Put: &mvcc.PutRequest{Key: fmt.Appendf(nil, "k%03d/%03d", i, j)}})
				}
				wg.Go(func() {
					_, err := all[i%len(all)].Txn(t.Context(), &mvcc.TxnRequest{Success: ops})
					switch {
					case err == nil:
						made.Add(int64(c.keys))
					case errors.Is(err, mvcc.ErrNoSpace):
						refused.Add(1)
					default:
						t.Error(err)
					}
				})
			}
			wg.Wait()
			if made.Load() != int64(c.bound) || over.Load() < refused.Load() {
				t.Errorf("%d keys made, %d refused, %d told", made.Load(), refused.Load(), over.Load())
			}
			for i, s := range all {
				if n, known, err := s.Keys(t.Context()); n != int64(c.bound) || !known || err != nil {
					t.Errorf("store %d: %d keys, %v, %v", i, n, known, err)
				}
			}
			first := fmt.Appendf(nil, "k%03d", c.txns)
			some := &mvcc.DeleteRequest{Key: []byte("k"), End: first}
			if _, err := all[0].DeleteRange(t.Context(), some); err != nil {
				t.Fatal(err)
			}
			put(t, all[1], "one", "") // another's deletes make room at once
			if c.keys == 1 {          // what it reads grows with the square of the rows
				check(t, e, all[2], nil, false)
			}
		})
	}
}

// TestKeysMaxReplaces: at the bound what replaces a key goes on in all Stores.
func TestKeysMaxReplaces(t *testing.T) {
	_, all := writers(t, 2, mvcc.Options{KeysMax: 1})
	put(t, all[0], "k", "v")
	put(t, all[1], "k", "w")
	for i, s := range all {
		if _, err := s.Put(t.Context(), &mvcc.PutRequest{Key: []byte("l")}); !errors.Is(err, mvcc.ErrNoSpace) {
			t.Errorf("store %d: a second key: %v", i, err)
		}
	}
}

// TestQuotaTogether: what one Store has written counts for the next request of another, and so does what has been
// removed; together they exceed the quota by no more than what is under way at the same time.
func TestQuotaTogether(t *testing.T) {
	const quota, size, clients = 200_000, 10_000, 9
	var over atomic.Int64
	_, all := writers(t, 3, mvcc.Options{Quota: quota, OverQuota: func() { over.Add(1) }})
	for _, s := range all {
		s.LiveBytes() // whoever relies on what he knows now is wrong soon
	}
	value := bytes.Repeat([]byte("v"), size)
	fill := func(s *mvcc.Store, client int) (n int64) {
		for i := 0; ; i++ {
			p := &mvcc.PutRequest{Key: fmt.Appendf(nil, "k%d/%d", client, i), Value: value}
			if _, err := s.Put(t.Context(), p); err != nil {
				if !errors.Is(err, mvcc.ErrNoSpace) {
					t.Error(err)
				}
				return n
			}
			if n += size; n > 2*quota {
				t.Error("nobody refuses")
				return n
			}
		}
	}
	if n := fill(all[0], 0); n < quota/2 || n > quota {
		t.Errorf("one Store has written %d bytes", n)
	}
	if n := fill(all[1], 1); n != 0 {
		t.Errorf("another has added %d bytes", n)
	}
	if _, err := all[2].LeaseGrant(t.Context(), 1, 10, nil); err != nil {
		t.Error("a lease, for which there is room:", err)
	}
	for range 2 { // the entry at the compact revision keeps what it has replaced
		every := &mvcc.DeleteRequest{Key: []byte("k"), End: []byte("l")}
		if _, err := all[1].DeleteRange(t.Context(), every); err != nil {
			t.Error("a delete:", err)
		}
		put(t, all[2], "k", "")
	}
	head, err := all[1].Head(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := all[1].Compact(t.Context(), head, true); err != nil {
		t.Fatal(err)
	}
	var written atomic.Int64
	var wg sync.WaitGroup
	for c := range clients {
		wg.Go(func() { written.Add(fill(all[c%len(all)], c)) })
	}
	wg.Wait()
	if n := written.Load(); n < quota/2 || n > quota+clients*2*size {
		t.Errorf("after the removal %d bytes have been written", n)
	}
	if over.Load() < clients+2 {
		t.Errorf("told %d times", over.Load())
	}
}
