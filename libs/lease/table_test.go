package lease

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// model is the table as one would write it without caring for speed.
type model map[int64]struct {
	ttl      int64
	deadline instant
}

// TestTableModel runs random operations on the table and on a model. The invariants: nothing expires before its
// deadline, everything expires that is due, what has expired is not renewed, and nothing is lost or left over.
func TestTableModel(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 1))
	const second = int64(time.Second)
	for range 20 {
		table, want := newTable(fullBits), model{}
		now := instant(1)
		for range 2000 {
			id := r.Int64N(40) - 20
			switch r.IntN(6) {
			case 0, 1: // grant
				ttl := 1 + r.Int64N(30)
				e, prior, _ := table.latch(id, ttl)
				if _, exists := want[id]; exists != (prior != gone) {
					t.Fatalf("latch(%d): prior %d, in the model: %v", id, prior, exists)
				}
				deadline := after(now, ttl)
				switch {
				case prior == gone:
					table.release(e, deadline)
				case r.IntN(2) == 0: // it exists
					table.release(e, prior)
					continue
				default: // it was revoked elsewhere
					table.replace(e, ttl, deadline)
				}
				want[id] = struct {
					ttl      int64
					deadline instant
				}{ttl, deadline}
			case 2: // revoke
				e, _, _ := table.latch(id, 0)
				table.release(e, gone)
				delete(want, id)
			case 3: // renew
				ttl, got := table.renew(id, now)
				m, exists := want[id]
				expect := renewed
				if !exists {
					expect = notFound
				} else if m.deadline <= now {
					expect = undecided
				}
				if got != expect || got == renewed && ttl != m.ttl {
					t.Fatalf("renew(%d) = %d, %d; want %d, %d", id, ttl, got, m.ttl, expect)
				}
				if got == renewed {
					m.deadline = after(now, ttl)
					want[id] = m
				}
			case 4: // time passes
				now += r.Int64N(3 * second)
			case 5: // expire
				for {
					e, next := table.expire(now)
					if e == nil {
						for id, m := range want {
							if m.deadline <= now {
								t.Fatalf("lease %d was due at %d, now %d: left over", id, m.deadline, now)
							}
							if next > m.deadline {
								t.Fatalf("nothing to do until %d, but lease %d is due at %d", next, id, m.deadline)
							}
						}
						break
					}
					m, exists := want[e.id]
					if !exists || m.deadline > now {
						t.Fatalf("lease %d expired at %d; model %v %v", e.id, now, m, exists)
					}
					table.release(e, gone)
					delete(want, e.id)
				}
			}
		}
		known, busy := table.list()
		if len(busy) > 0 || len(known) != len(want) || table.size.Load() != int64(len(want)) ||
			table.queue.items.Len() != len(want) {
			t.Fatalf("table has %d leases, %d busy, %d queued, size %d; want %d",
				len(known), len(busy), table.queue.items.Len(), table.size.Load(), len(want))
		}
		for _, l := range known {
			if want[l.id].deadline != l.deadline {
				t.Fatalf("lease %d: deadline %d, want %d", l.id, l.deadline, want[l.id].deadline)
			}
		}
	}
}

func TestAfter(t *testing.T) {
	for _, c := range []struct {
		now  instant
		ttl  int64
		want instant
	}{
		{0, 0, 0},
		{5, 1, 5 + int64(time.Second)},
		{1, MaxTTL, 1 + MaxTTL*int64(time.Second)},
		{math.MaxInt64 / 2, MaxTTL, never},
		{1, math.MaxInt64, never},
		{math.MaxInt64, 1, never},
	} {
		if got := after(c.now, c.ttl); got != c.want {
			t.Errorf("after(%d, %d) = %d, want %d", c.now, c.ttl, got, c.want)
		}
	}
}

// TestStaleRenewal: a renewal whose caller read the clock long ago neither shortens a lease nor saves one whose end
// someone is waiting for.
func TestStaleRenewal(t *testing.T) {
	table := newTable(fullBits)
	table.load([]*entry{newEntry(7, 10)}, 0, 0)
	second := int64(time.Second)
	if _, r := table.renew(7, 5*second); r != renewed {
		t.Fatal("not renewed")
	}
	if _, r := table.renew(7, 3*second); r != renewed {
		t.Fatal("not renewed")
	}
	if known, _ := table.list(); known[0].deadline != 15*second {
		t.Fatalf("deadline %d, want 15 s", known[0].deadline)
	}
	e, ended, first := table.wait(7, 15*second)
	if e == nil || !first {
		t.Fatal("an expired lease has no end to wait for")
	}
	if _, r := table.renew(7, 14*second); r != undecided {
		t.Fatal("renewed after someone was told that it has expired")
	}
	if due, _ := table.expire(15 * second); due != e {
		t.Fatal("not expired")
	}
	table.release(e, gone)
	<-ended
	if !e.gone() {
		t.Fatal("revoked, but not gone")
	}
	if _, r := table.renew(7, 14*second); r != notFound {
		t.Fatal("renewed after the revoke")
	}
}

// TestRequeuedWhilePopped: an entry that is queued again between its pop and the decision is handed out once.
func TestRequeuedWhilePopped(t *testing.T) {
	table := newTable(fullBits)
	table.load([]*entry{newEntry(7, 1)}, 0, 0)
	now := 2 * int64(time.Second)
	e, _ := table.queue.pop(now)
	if _, _, first := table.wait(7, now); !first {
		t.Fatal("not queued")
	}
	if !table.due(e, now) {
		t.Fatal("not due")
	}
	if again, _ := table.expire(now); again != nil {
		t.Fatal("handed out twice")
	}
}

func TestListOrder(t *testing.T) {
	table := newTable(fullBits)
	table.load([]*entry{newEntry(1, 30), newEntry(2, 10), newEntry(3, 20), newEntry(-4, 20)}, 0, time.Second)
	table.latch(2, 0)
	known, busy := table.list()
	second := int64(time.Second)
	want := []listed{{-4, 21 * second}, {3, 21 * second}, {1, 31 * second}}
	if d := cmp.Diff(want, known, cmp.AllowUnexported(listed{})); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff([]int64{2}, busy); d != "" {
		t.Error(d)
	}
}

func TestRenewAllocatesNothing(t *testing.T) {
	table := newTable(fullBits)
	table.load([]*entry{newEntry(7, 10)}, 0, 0)
	if n := testing.AllocsPerRun(100, func() { table.renew(7, 1) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkRenew(b *testing.B) {
	const leases = 900_000
	table := newTable(fullBits)
	entries := make([]*entry, leases)
	for i := range entries {
		entries[i] = newEntry(int64(i), 60)
	}
	table.load(entries, 0, 0)
	b.ReportAllocs()
	b.RunParallel(func(p *testing.PB) {
		id := rand.Int64N(leases)
		for p.Next() {
			id = (id + 7919) % leases
			table.renew(id, 1)
		}
	})
}
