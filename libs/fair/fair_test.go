package fair

import (
	"context"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/headwaterdb/headwater/libs/leaktest"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

func seeded(t *testing.T) *rand.Rand {
	t.Helper()
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	return rand.New(rand.NewPCG(seed, 1))
}

// TestShares: of flows that wait all the time each takes its weighted share, over any stretch, within a quantum and the
// largest turns; whatever turns cost, whether they take what they may, and whoever comes and goes beside them.
func TestShares(t *testing.T) {
	r := seeded(t)
	for range 30 {
		const quantum = 100
		most := int64(1 + r.IntN(1000))
		ring := NewRing(quantum)
		members := make([]Member, 2+r.IntN(6))
		taken := make([]int64, len(members))
		push := func(i int) {
			least := 1 + r.Int64N(most)
			wanted := least
			if r.IntN(2) == 0 {
				wanted += r.Int64N(most)
			}
			ring.Push(&members[i], new(Ticket), least, wanted)
		}
		for i := range members {
			members[i].weight = int64(1 + r.IntN(8))
			for range 2 {
				push(i)
			}
		}
		var passer Member
		from := make([]int64, len(members))
		for turn := range 3000 {
			if r.IntN(5) == 0 {
				ring.Push(&passer, new(Ticket), 1+r.Int64N(most), most)
			}
			var before [8]*Ticket
			for i := range members {
				before[i] = members[i].head
			}
			ticket, got := ring.Next()
			if ticket == nil || got < ticket.least || got > ticket.most {
				t.Fatalf("turn %v of %d", ticket, got)
			}
			for i := range members {
				if before[i] == ticket {
					taken[i] += got
					push(i)
				}
			}
			if turn == 1000 {
				copy(from, taken) // from here on is a stretch too
			}
		}
		for i := range members {
			for j := range members {
				for _, start := range [][]int64{make([]int64, len(members)), from} {
					wi, wj := members[i].share(), members[j].share()
					a, b := (taken[i]-start[i])/wi, (taken[j]-start[j])/wj
					if bound := quantum + most/wi + most/wj + 2; a-b > bound {
						t.Errorf("%d took %d of weight %d, %d took %d of weight %d: above the bound of %d",
							i, taken[i]-start[i], wi, j, taken[j]-start[j], wj, bound)
					}
				}
			}
		}
	}
}

// TestNobodyStarves: a ticket that costs no more than a quantum waits for one visit of each other flow, however many
// tickets those have; one that costs n quanta for n.
func TestNobodyStarves(t *testing.T) {
	const quantum, others = 10, 20
	for quanta := int64(1); quanta < 6; quanta++ {
		ring := NewRing(quantum)
		greedy := make([]Member, others)
		for i := range greedy {
			for range 100 {
				ring.Push(&greedy[i], new(Ticket), quantum, quantum)
			}
		}
		var late Member
		mine := new(Ticket)
		ring.Push(&late, mine, quanta*quantum, quanta*quantum)
		for turns := int64(0); ; turns++ {
			if ticket, _ := ring.Next(); ticket == mine {
				break
			}
			if turns > quanta*others {
				t.Fatalf("%d turns of others before one of %d quanta", turns, quanta)
			}
		}
	}
}

// TestLargeTurns: rounds in which no flow could have a turn are skipped, not counted one by one.
func TestLargeTurns(t *testing.T) {
	ring := NewRing(1)
	var a, b Member
	b.weight = 3
	x, y := new(Ticket), new(Ticket)
	ring.Push(&a, x, 1<<40, 1<<40)
	ring.Push(&b, y, 1<<41, 1<<41)
	if first, _ := ring.Next(); first != y {
		t.Error("three times the weight is not faster with twice the cost")
	}
	if second, _ := ring.Next(); second != x {
		t.Error("the other is lost")
	}
}

// TestDebts: if a turn took more than its ticket, the flow pays that back while others wait. The debt is forgotten when
// no flow waits.
func TestDebts(t *testing.T) {
	ring := NewRing(10)
	var a, b Member
	for range 20 {
		ring.Push(&b, new(Ticket), 10, 10)
	}
	ring.Charge(&a, 50)
	mine := new(Ticket)
	ring.Push(&a, mine, 10, 10)
	turns := 0
	for ticket, _ := ring.Next(); ticket != mine; ticket, _ = ring.Next() {
		turns++
	}
	if turns < 5 || turns > 7 {
		t.Errorf("%d turns of the other for a debt of five", turns)
	}
	ring.Charge(&a, 1000)
	for ring.Len() > 0 {
		ring.Next()
	}
	ring.Push(&b, new(Ticket), 10, 10)
	ring.Push(&a, mine, 10, 10)
	ring.Next()
	if ticket, _ := ring.Next(); ticket != mine {
		t.Error("a debt from before")
	}
}

// TestRemove: a removed ticket gets no turn, wherever it stood, and all other tickets get theirs.
func TestRemove(t *testing.T) {
	r := seeded(t)
	for range 200 {
		ring := NewRing(5)
		members := make([]Member, 1+r.IntN(4))
		there := map[*Ticket]bool{}
		for range 30 {
			switch ticket := new(Ticket); r.IntN(3) {
			case 0:
				for out := range there {
					if !ring.Remove(out) || ring.Remove(out) {
						t.Fatal("a ticket that waits")
					}
					delete(there, out)
					break
				}
			case 1:
				if out, _ := ring.Next(); out != nil && !there[out] {
					t.Fatal("a ticket that does not wait")
				} else if out != nil {
					delete(there, out)
				}
			default:
				ring.Push(&members[r.IntN(len(members))], ticket, 1+r.Int64N(20), 0)
				there[ticket] = true
			}
			if ring.Len() != len(there) {
				t.Fatalf("%d tickets, want %d", ring.Len(), len(there))
			}
		}
		for ticket, _ := ring.Next(); ticket != nil; ticket, _ = ring.Next() {
			delete(there, ticket)
		}
		if len(there) != 0 || ring.Len() != 0 || ring.first != nil {
			t.Fatalf("%d tickets have had no turn", len(there))
		}
	}
}

// TestGate: there are never more turns under way than places, nobody waits while a place is free, and a waiter that
// gives up leaves nothing behind.
func TestGate(t *testing.T) {
	r := seeded(t)
	synctest.Test(t, func(t *testing.T) {
		const places = 3
		g := NewGate(places, 10)
		flows := []*Flow{g.Flow(0), g.Flow(1), g.Flow(5)}
		var inside, turns, gone atomic.Int64
		var wg sync.WaitGroup
		for range 300 {
			f, cost := flows[r.IntN(3)], 1+r.Int64N(30)
			patience, work := time.Duration(r.IntN(500))*time.Millisecond, time.Duration(1+r.IntN(20))*time.Millisecond
			after := time.Duration(r.IntN(1000)) * time.Millisecond
			wg.Go(func() {
				time.Sleep(after)
				ctx, cancel := context.WithTimeout(t.Context(), patience)
				defer cancel()
				if _, err := f.Enter(ctx, cost, cost); err != nil {
					gone.Add(1)
					return
				}
				if n := inside.Add(1); n > places {
					t.Errorf("%d turns at a time", n)
				}
				time.Sleep(work)
				f.Charge(5)
				inside.Add(-1)
				f.Leave()
				turns.Add(1)
			})
		}
		for range 100 {
			time.Sleep(13*time.Millisecond + time.Microsecond)
			synctest.Wait()
			if n := inside.Load(); g.Waiting() > 0 && n < places {
				t.Errorf("%d wait beside %d turns", g.Waiting(), n)
			}
		}
		wg.Wait()
		if turns.Load()+gone.Load() != 300 || g.Waiting() != 0 || g.free.Load() != places || turns.Load() == 0 {
			t.Errorf("%d turns, %d gone, %d waiting, %d free", turns.Load(), gone.Load(), g.Waiting(), g.free.Load())
		}
	})
}

// TestOpenGate: an open gate makes nobody wait, and lets all waiters in when it opens. When it shuts again, it counts
// those that are inside.
func TestOpenGate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := NewGate(1, 10)
		f := g.Flow(1)
		enter := func() <-chan error {
			entered := make(chan error, 1)
			go func() {
				_, err := f.Enter(t.Context(), 1, 1)
				entered <- err
			}()
			synctest.Wait()
			return entered
		}
		inside := func(c <-chan error, want bool) {
			t.Helper()
			synctest.Wait()
			if got := len(c) == 1; got != want {
				t.Errorf("inside: %v, want %v", got, want)
			}
		}
		a, b := enter(), enter()
		inside(a, true)
		inside(b, false)
		g.Open(true)
		inside(b, true)
		inside(enter(), true)
		g.Open(false)
		last := enter()
		for range 3 {
			inside(last, false)
			f.Leave()
		}
		inside(last, true)
		f.Leave()
		if g.free.Load() != 1 || g.Waiting() != 0 {
			t.Errorf("%d free, %d wait", g.free.Load(), g.Waiting())
		}
	})
}

// TestGateRace: the same from many goroutines at once.
func TestGateRace(t *testing.T) {
	const places = 2
	g := NewGate(places, 10)
	var wg sync.WaitGroup
	var inside atomic.Int64
	for i := range 8 {
		f := g.Flow(uint32(i % 3))
		wg.Go(func() {
			for n := range 2000 {
				ctx, cancel := context.WithCancel(context.Background())
				if n%7 == 0 {
					cancel()
				}
				if _, err := f.Enter(ctx, 1, 5); err == nil {
					if n := inside.Add(1); n > places {
						t.Errorf("%d turns at a time", n)
					}
					inside.Add(-1)
					f.Leave()
				}
				cancel()
			}
		})
	}
	wg.Wait()
	if g.free.Load() != places || g.Waiting() != 0 {
		t.Errorf("%d free, %d waiting", g.free.Load(), g.Waiting())
	}
}

// BenchmarkEnter is what a turn costs where nobody waits.
func BenchmarkEnter(b *testing.B) {
	f := NewGate(100, 10).Flow(1)
	ctx := context.Background()
	b.RunParallel(func(p *testing.PB) {
		for p.Next() {
			if _, err := f.Enter(ctx, 1, 1); err != nil {
				b.Fatal(err)
			}
			f.Leave()
		}
	})
}

// TestSetWeight: what a turn may take follows the weight.
func TestSetWeight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := NewGate(1, 10)
		door, f := g.Flow(1), g.Flow(2)
		for _, weight := range []uint32{2, 5, 0} {
			f.SetWeight(weight)
			if _, err := door.Enter(t.Context(), 1, 1); err != nil {
				t.Fatal(err)
			}
			got := make(chan int64)
			go func() {
				n, _ := f.Enter(t.Context(), 1, 1000)
				f.Leave()
				got <- n
			}()
			synctest.Wait()
			door.Leave()
			if n, want := <-got, int64(max(weight, 1))*10; n != want {
				t.Errorf("weight %d: may take %d, want %d", weight, n, want)
			}
		}
	})
}
