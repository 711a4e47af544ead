package mvcc_test

import (
	"context"
	"strings"
	"testing"

	"github.com/headwaterdb/headwater/libs/engine/pebble"
	"github.com/headwaterdb/headwater/libs/mvcc"
	"github.com/headwaterdb/headwater/libs/revlog"
)

// TestHeldValues: values that are held can be read after a compaction has removed them, until they are released.
func TestHeldValues(t *testing.T) {
	s := open(t, openEngine(t, pebble.Options{}), mvcc.Options{})
	value := strings.Repeat("v", 30_000)
	put(t, s, "k", value)
	head := put(t, s, "k", "w")
	entries, _, err := s.ReadLog(t.Context(), head, 1, 1<<20)
	if err != nil || len(entries) != 1 || !entries[0].Events[0].Prev.Unread() {
		t.Fatalf("%+v, %v", entries, err)
	}
	prev := []*revlog.KV{&entries[0].Events[0].Prev}
	held, err := s.HoldValues(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	later := put(t, s, "k", "x")
	if _, err := s.Compact(t.Context(), later, true); err != nil {
		t.Fatal(err)
	}
	read := func(from interface {
		ReadValues(ctx context.Context, kvs []*revlog.KV) ([][]byte, error)
	},
	) string {
		t.Helper()
		got, err := from.ReadValues(t.Context(), prev)
		if err != nil {
			t.Fatal(err)
		}
		return string(got[0])
	}
	if got := read(s); got != "" {
		t.Errorf("the compaction left %d bytes", len(got))
	}
	if got := read(held); got != value {
		t.Errorf("held are %d bytes", len(got))
	}
	held.Release()
	held.Release()
	if got := read(held); got != "" {
		t.Errorf("released, and still %d bytes", len(got))
	}
}
