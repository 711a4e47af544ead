package fair

import (
	"math/rand/v2"
	"testing"
)

// TestPool: a flow that takes as much as it can leaves something for each later flow. A flow that is alone may have
// everything.
func TestPool(t *testing.T) {
	const size = 1 << 10
	fill := func(h *Holding) (n int64) {
		for h.Take(1) {
			n++
		}
		return n
	}
	if got := fill(NewPool(size, nil).Holding()); got != size {
		t.Errorf("alone: %d", got)
	}
	p := NewPool(size, func() bool { return true })
	var flows []*Holding
	for want := int64(size / 2); want > 0; want /= 2 {
		h := p.Holding()
		if got := fill(h); got != want {
			t.Fatalf("flow %d has %d, want %d", len(flows), got, want)
		}
		flows = append(flows, h)
	}
	flows[0].Give(size / 2)
	if got := fill(flows[9]); got == 0 {
		t.Error("what has been given back is for nobody")
	}
	one := NewPool(10, func() bool { return true }).Holding()
	if !one.Take(100) || one.Take(1) {
		t.Error("what is larger than all goes alone")
	}
}

// TestPoolRandom: whatever flows do, no more than the pool is held, and each that holds nothing finds something while
// another has taken its part only.
func TestPoolRandom(t *testing.T) {
	seed := rand.Uint64()
	t.Log("seed", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	const size = 1000
	p := NewPool(size, func() bool { return true })
	flows, held := make([]*Holding, 5), make([]int64, 5)
	for i := range flows {
		flows[i] = p.Holding()
	}
	for range 20_000 {
		i, n := r.IntN(len(flows)), 1+r.Int64N(50)
		if r.IntN(3) == 0 {
			n = min(n, held[i])
			flows[i].Give(n)
			held[i] -= n
			continue
		}
		free := size - p.Used()
		took := flows[i].Take(n)
		if want := held[i]+n <= free-n || free == size; took != want {
			t.Fatalf("flow of %d takes %d of %d: %v", held[i], n, free, took)
		}
		if took {
			held[i] += n
		}
	}
}
