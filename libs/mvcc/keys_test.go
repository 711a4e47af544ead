package mvcc_test

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/headwaterdb/headwater/libs/engine/pebble"
	"github.com/headwaterdb/headwater/libs/mvcc"
)

// TestKeysMax: however requests are grouped, there are never more keys than may be, and as many as may be are let in;
// the Store's own count is what a list says.
func TestKeysMax(t *testing.T) {
	const bound = 40
	eng := openEngine(t, pebble.Options{})
	var over atomic.Int64
	s := open(t, eng, mvcc.Options{KeysMax: bound, OverKeys: func() { over.Add(1) }})
	var made, refused atomic.Int64
	var wg sync.WaitGroup
	for i := range 3 * bound {
		wg.Go(func() {
			_, err := s.Put(t.Context(), &mvcc.PutRequest{Key: fmt.Append(nil, "k", i), Value: []byte("v")})
			switch {
			case err == nil:
				made.Add(1)
			case errors.Is(err, mvcc.ErrNoSpace):
				refused.Add(1)
			default:
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if made.Load() != bound || refused.Load() != 2*bound || over.Load() < refused.Load() {
		t.Errorf("%d made, %d refused, %d told", made.Load(), refused.Load(), over.Load())
	}
	want := func(s *mvcc.Store, want int64) {
		t.Helper()
		n, known, err := s.Keys(t.Context())
		if n != want || !known || err != nil {
			t.Errorf("%d keys, %v, %v, want %d", n, known, err, want)
		}
	}
	want(s, bound)
	if _, err := s.DeleteRange(t.Context(), &mvcc.DeleteRequest{Key: []byte("k"), End: []byte("l")}); err != nil {
		t.Fatal(err)
	}
	want(s, 0)
	two := &mvcc.TxnRequest{Success: []mvcc.Op{
		{Put: &mvcc.PutRequest{Key: []byte("a")}}, {Put: &mvcc.PutRequest{Key: []byte("b")}},
	}}
	if _, err := s.Txn(t.Context(), two); err != nil {
		t.Fatal(err)
	}
	want(s, 2)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, eng, mvcc.Options{KeysMax: 2})
	want(s, 2)
	if _, err := s.Txn(t.Context(), two); err != nil {
		t.Error("what replaces:", err)
	}
	if _, err := s.Put(t.Context(), &mvcc.PutRequest{Key: []byte("c")}); !errors.Is(err, mvcc.ErrNoSpace) {
		t.Error("a third key:", err)
	}
}

// TestKeysMaxOneLane: where groups land out of order on an engine of the process's own nobody keeps to a bound.
func TestKeysMaxOneLane(t *testing.T) {
	own := openEngine(t, pebble.Options{})
	if s, err := mvcc.Open(t.Context(), own, mvcc.Options{KeysMax: 1, Lanes: 2}); err == nil {
		t.Error("opened with two lanes", s.Close())
	}
}
