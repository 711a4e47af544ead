package mvcc_test

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/headwaterdb/headwater/libs/engine/faults"
	"github.com/headwaterdb/headwater/libs/mvcc"
)

// farReads is the latency of a network between machines, for reads.
var farReads = faults.Reads(faults.Delay{Fixed: 2 * trip, Random: trip})

// TestAgainstModelFar is TestAgainstModel, shorter, where each read takes 2 to 3 ms, transactions end at 5 s of that,
// and refusals come late.
func TestAgainstModelFar(t *testing.T) {
	for _, v := range variants() {
		if !v.engine.FDBLimits {
			continue
		}
		t.Run(v.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := rand.New(rand.NewPCG(seed(t), 1))
				e := openFar(t, r.Uint64(), farReads)
				s := open(t, e, v.store)
				d := &driver{t: t, r: r, s: s, m: newModel((&far{T: t, Store: s}).head()), e: e, o: v.store}
				for i := range 150 {
					if i == 75 && v.store.NoFeatures {
						d.o.Activate = mvcc.FeaturesAll
						d.reopen()
					}
					d.step()
				}
				check(t, e, d.s, v.store.Prefix, false).checkReads(d.s, 1)
			})
		})
	}
}

// TestConcurrentCountersFar: two pods' clients neither lose nor repeat an increment where each read takes its time and
// commits conflict late.
func TestConcurrentCountersFar(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := openFar(t, seed(t), farReads)
		var stores [2]*mvcc.Store
		for i := range stores {
			stores[i] = open(t, e, mvcc.Options{Lanes: 2, Shift: 4})
		}
		const clients, increments, counters = 6, 10, 3
		var wg sync.WaitGroup
		for c := range clients {
			wg.Go(func() {
				for i := range increments {
					increment(t, stores[c%2], fmt.Appendf(nil, "counter%d", (c+i)%counters))
				}
			})
		}
		wg.Wait()
		total := 0
		for _, kv := range everything(t, stores[0]) {
			total += len(kv.Value)
		}
		if total != clients*increments {
			t.Errorf("%d increments of %d", total, clients*increments)
		}
		check(t, e, stores[0], nil, false).checkReads(stores[1], 3)
	})
}
