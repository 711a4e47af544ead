package shards_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/headwaterdb/headwater/libs/election"
	"github.com/headwaterdb/headwater/libs/engine"
	"github.com/headwaterdb/headwater/libs/engine/testengine"
	"github.com/headwaterdb/headwater/libs/lease/shards"
)

// workers notes who works for which shard.
type workers struct {
	t  *testing.T
	mu sync.Mutex
	at [shards.Count]string
	by map[string]int // how many shards each has
}

// places starts a pod that works until stop is called.
func (w *workers) places(eng engine.Store, name string) (p *shards.Places, stop func()) {
	w.t.Helper()
	p, err := shards.NewPlaces(eng, []byte("work/"), shards.PlacesOptions{Self: name, Work: func(
		ctx context.Context, shard int, term *election.Term,
	) error {
		w.mu.Lock()
		if w.at[shard] != "" || !term.Holds() {
			w.t.Errorf("shard %d is worked for by %s and %s", shard, w.at[shard], name)
		}
		w.at[shard] = name
		w.by[name]++
		w.mu.Unlock()
		<-ctx.Done()
		w.mu.Lock()
		defer w.mu.Unlock()
		w.at[shard] = ""
		w.by[name]--
		return nil
	}})
	if err != nil {
		w.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- p.Run(ctx) }()
	return p, func() {
		cancel()
		if err := <-done; err != nil {
			w.t.Error(err)
		}
	}
}

// counts is how many shards each has.
func (w *workers) counts() map[string]int {
	w.mu.Lock()
	defer w.mu.Unlock()
	all := map[string]int{}
	for name, n := range w.by {
		if n > 0 {
			all[name] = n
		}
	}
	return all
}

// TestPlaces: every shard is worked for by one pod at a time, all pods have some, and all know who has which; those of
// one that leaves or goes move to others.
func TestPlaces(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		eng := testengine.OpenInBubble(t, 0)
		w := &workers{t: t, by: map[string]int{}}
		all := map[string]*shards.Places{}
		stops := map[string]func(){}
		add := func(name string) { all[name], stops[name] = w.places(eng, name) }
		settle := func(want int) {
			t.Helper()
			time.Sleep(4 * shards.DefaultTTL) // in a bubble
			counts := w.counts()
			sum := 0
			for _, n := range counts {
				sum += n
			}
			if sum != shards.Count || len(counts) != want {
				t.Errorf("%v, want %d pods", counts, want)
			}
			for shard := range shards.Count {
				for name, p := range all {
					o := p.Owner(shard)
					if at := w.at[shard]; o.Here != (at == name) || !o.Here && o.Address != at || o.Epoch.Err() != nil {
						t.Errorf("to %s shard %d is at %+v, not at %s", name, shard, o, at)
					}
				}
			}
		}
		add("a")
		settle(1)
		<-all["a"].Ready()
		for i := range 3 {
			add(fmt.Sprint("b", i))
		}
		settle(4)
		if err := all["a"].Drain(t.Context()); err != nil || len(all["a"].Owned()) > 0 {
			t.Errorf("%v, and it has %v", err, all["a"].Owned())
		}
		stops["a"]()
		delete(all, "a")
		settle(3)
		stops["b1"]()
		delete(all, "b1")
		settle(2)
		stops["b0"]()
		stops["b2"]()
		if n := w.counts(); len(n) != 0 {
			t.Error("left:", n)
		}
	})
}
