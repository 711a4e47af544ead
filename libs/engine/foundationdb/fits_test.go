//go:build foundationdb

package foundationdb

import (
	"bytes"
	"errors"
	"fmt"
	"testing"

	"github.com/headwaterdb/headwater/libs/engine"
	"github.com/headwaterdb/headwater/libs/engine/txnsize"
)

// TestCounts: a transaction is counted with the root before its keys, structures and conflicts too.
func TestCounts(t *testing.T) {
	s := unreachable(t, Options{Root: []byte("root")})
	k, v := bytes.Repeat([]byte("k"), 96), make([]byte, 1000)
	for _, test := range []struct {
		name string
		do   func(x engine.Txn)
		want func(z *txnsize.Size)
	}{
		{"Set", func(x engine.Txn) { x.Set(k, v) }, func(z *txnsize.Size) { z.Set(100, 1000) }},
		{"Clear", func(x engine.Txn) { x.Clear(k) }, func(z *txnsize.Size) { z.Clear(100) }},
		{
			"ClearRange", func(x engine.Txn) { x.ClearRange(k, []byte("l")) },
			func(z *txnsize.Size) { z.ClearRange(100, 5) },
		},
		{
			"ClearRange to the end", func(x engine.Txn) { x.ClearRange(k, nil) },
			func(z *txnsize.Size) { z.ClearRange(100, 4) },
		},
		{"an empty ClearRange", func(x engine.Txn) { x.ClearRange(k, k) }, func(*txnsize.Size) {}},
		{"Add", func(x engine.Txn) { x.Add(k, 1) }, func(z *txnsize.Size) { z.Add(100) }},
		{
			"SetStampedKey", func(x engine.Txn) { x.SetStampedKey(k, 0, v) },
			func(z *txnsize.Size) { z.StampedKey(100, 1000) },
		},
		{
			"SetStampedValue", func(x engine.Txn) { x.SetStampedValue(k, v, 0) },
			func(z *txnsize.Size) { z.StampedValue(100, 1000) },
		},
		{
			"AddReadConflict", func(x engine.Txn) { x.AddReadConflict(k, nil) },
			func(z *txnsize.Size) { z.Conflict(100, 4) },
		},
		{
			"AddWriteConflict", func(x engine.Txn) { x.AddWriteConflict(k, nil) },
			func(z *txnsize.Size) { z.Conflict(100, 4) },
		},
	} {
		x, err := s.begin(1)
		if err != nil {
			t.Fatal(err)
		}
		var want txnsize.Size
		test.do(x)
		test.want(&want)
		if got := x.(*txn); got.size != want || got.err != nil {
			t.Errorf("%s: %+v, want %+v, %v", test.name, got.size, want, got.err)
		}
		x.Discard()
	}
}

// TestTooLargeUnsent: what the client library would refuse in the commit is refused before it, by its structures too.
func TestTooLargeUnsent(t *testing.T) {
	s := unreachable(t, Options{})
	x, err := s.begin(1)
	if err != nil {
		t.Fatal(err)
	}
	defer x.Discard()
	for i := range 40_000 { // 2 MB of keys count as 10.8 MB
		x.Clear(fmt.Appendf(nil, "%050d", i))
	}
	if _, err := x.Commit(t.Context()); !errors.Is(err, engine.ErrTooLarge) {
		t.Errorf("Commit: %v", err)
	}
}
