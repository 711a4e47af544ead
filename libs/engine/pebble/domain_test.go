package pebble

import (
	"bytes"
	"errors"
	"fmt"
	"testing"

	pdb "github.com/cockroachdb/pebble/v2"

	"github.com/headwaterdb/headwater/libs/engine"
)

// TestManyDomains: counters of more domains than are kept in memory go on where they were.
func TestManyDomains(t *testing.T) {
	s := openMem(t, Options{}).Store.(*Store)
	const many = domainsCached + 100
	for round := range uint64(2) {
		var last engine.Pending
		for i := range many {
			x, err := s.Domain(fmt.Appendf(nil, "domain %d", i)).Begin(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			x.UseStamps(1)
			x.SetStampedValue([]byte("row"), make([]byte, engine.StampLen), 0)
			if last, err = x.Commit(t.Context()); err != nil {
				t.Fatal(err)
			}
			first := engine.FirstOf(last, engine.Stamp{}, fmt.Appendf(nil, "domain %d", i))
			if first.Version != round+1 {
				t.Fatalf("domain %d: %v in round %d", i, first, round)
			}
		}
		if _, err := last.Wait(t.Context()); err != nil {
			t.Fatal(err)
		}
		if n := len(s.domains.last); n > domainsCached {
			t.Fatalf("%d counters in memory", n)
		}
	}
	if s.version != 0 {
		t.Errorf("the domain of the empty prefix has come to %d", s.version)
	}
}

// TestDamagedDomain: a counter that is none fails the commits of its domain, and no other.
func TestDamagedDomain(t *testing.T) {
	s := openMem(t, Options{}).Store.(*Store)
	b := s.db.NewBatch()
	_ = b.Set(domainRow("bad"), []byte("short"), nil)
	if err := b.Commit(pdb.Sync); err != nil {
		t.Fatal(err)
	}
	stamp := func(domain string) error {
		return mutate(s.Domain([]byte(domain)), func(x engine.Txn) {
			x.UseStamps(1)
			x.SetStampedValue([]byte("row"), make([]byte, engine.StampLen), 0)
		})
	}
	if err := stamp("bad"); !errors.Is(err, engine.ErrDamaged) {
		t.Errorf("a damaged counter: %v", err)
	}
	if err := stamp("good"); err != nil {
		t.Error(err)
	}
}

// TestRangeSize: the size of a domain's rows is that of its own.
func TestRangeSize(t *testing.T) {
	s := openMem(t, Options{}).Store.(*Store)
	for i := range 64 {
		if err := put(s, fmt.Sprintf("a/%d", i), bytes.Repeat([]byte{byte(i)}, 100<<10)); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Defragment(t.Context()); err != nil {
		t.Fatal(err)
	}
	size := func(prefix string) int64 {
		n, err := s.Domain([]byte(prefix)).(*domain).RangeSize(t.Context(), []byte(prefix), []byte(prefix+"\xff"))
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	if a, b := size("a/"), size("b/"); a == 0 || b != 0 {
		t.Errorf("sizes %d and %d", a, b)
	}
	if err := s.Domain([]byte("a/")).(*domain).Defragment(t.Context()); err != nil {
		t.Error(err)
	}
}
