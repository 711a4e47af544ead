package mvcc_test

import (
	"bytes"
	"context"
	"slices"
	"testing"
	"testing/synctest"

	"github.com/headwaterdb/headwater/libs/engine"
	"github.com/headwaterdb/headwater/libs/engine/testengine"
	"github.com/headwaterdb/headwater/libs/mvcc"
)

// TestBeside: rows beside a keyspace tell of it in the very transactions of its groups, which do not read them.
func TestBeside(t *testing.T) { synctest.Test(t, testBeside) }

func testBeside(t *testing.T) {
	e, ctx := testengine.OpenInBubble(t, 0), t.Context()
	b := &mvcc.Beside{
		Head: []byte("h1"), Bell: []byte("b"), Leases: []byte("l1"), Compacted: []byte("r1"), Work: []byte("w"),
	}
	row := func(key []byte) []byte {
		t.Helper()
		snap, err := e.Snapshot(ctx)
		if err != nil {
			t.Fatal(err)
		}
		defer snap.Close()
		v, err := snap.Get(ctx, key)
		if err != nil {
			t.Fatal(err)
		}
		return bytes.Clone(v)
	}
	o := mvcc.Options{Prefix: []byte("d1"), Shift: 2, Lanes: 2, NoRemoval: true, Beside: b}
	s := open(t, e, o)
	if row(b.Head) != nil || row(b.Leases) != nil || row(b.Compacted) != nil {
		t.Error("rows beside a keyspace that nobody has written")
	}
	var bells [][]byte
	var last int64
	for i := range 10 {
		last = put(t, s, "k", string(rune('a'+i)))
		if rev, err := mvcc.ParseBesideHead(row(b.Head)); err != nil || rev != last {
			t.Fatalf("head %d, %v, want %d", rev, err, last)
		}
		bell := row(b.Bell)
		if bell == nil || slices.ContainsFunc(bells, func(was []byte) bool { return bytes.Equal(was, bell) }) {
			t.Fatalf("bell %x after %x", bell, bells)
		}
		bells = append(bells, bell)
	}
	if row(b.Leases) != nil {
		t.Error("leases before there is one")
	}
	if _, err := s.LeaseGrant(ctx, 7, 10, nil); err != nil || row(b.Leases) == nil {
		t.Error("a grant is not noted:", err)
	}
	leaseless := func(want bool) {
		t.Helper()
		snap, err := e.Snapshot(ctx)
		if err != nil {
			t.Fatal(err)
		}
		defer snap.Close()
		if got, err := s.Leaseless(ctx, snap); err != nil || got != want {
			t.Errorf("leaseless %v, %v", got, err)
		}
	}
	leaseless(false)
	if _, err := s.LeaseRevoke(ctx, 7, nil); err != nil {
		t.Fatal(err)
	}
	leaseless(true)
	work := row(b.Work)
	if _, err := s.Compact(ctx, last, false); err != nil || row(b.Compacted) == nil || bytes.Equal(row(b.Work), work) {
		t.Error("a compaction is not noted:", err)
	}
	removed := func(want bool) {
		t.Helper()
		snap, err := e.Snapshot(ctx)
		if err != nil {
			t.Fatal(err)
		}
		defer snap.Close()
		if got, err := s.Removed(ctx, snap); err != nil || got != want {
			t.Errorf("removed %v, %v", got, err)
		}
	}
	removed(false)
	other := open(t, e, o) // which has not compacted
	if err := other.RemoveNow(ctx); err != nil {
		t.Fatal(err)
	}
	removed(true)
	if err := other.RemoveNow(ctx); err != nil { // nothing is left
		t.Fatal(err)
	}
	ended, cancel := context.WithCancel(ctx)
	cancel()
	if err := s.RemoveNow(ended); err == nil {
		t.Error("it has ended before it began")
	}

	// A Store that is closed leaves no commit rows.
	commits := func() (n int) {
		snap, err := e.Snapshot(ctx)
		if err != nil {
			t.Fatal(err)
		}
		defer snap.Close()
		it := snap.Scan(ctx, engine.Range{Begin: []byte("d1c"), End: []byte("d1d")})
		defer it.Close()
		for it.Next() {
			n++
		}
		return n
	}
	if commits() == 0 {
		t.Fatal("no commit rows")
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if n := commits(); n != 0 {
		t.Errorf("%d commit rows are left", n)
	}
	check(t, e, other, []byte("d1"), true)
}

// TestBesideHeadRefused: what is no head's row is not taken for one.
func TestBesideHeadRefused(t *testing.T) {
	for _, row := range [][]byte{nil, {}, make([]byte, 20), make([]byte, 22), append(make([]byte, 20), 99)} {
		if rev, err := mvcc.ParseBesideHead(row); err == nil {
			t.Errorf("%x is %d", row, rev)
		}
	}
}
