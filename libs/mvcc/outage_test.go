package mvcc_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/headwaterdb/headwater/libs/engine/faults"
	"github.com/headwaterdb/headwater/libs/engine/pebble"
	"github.com/headwaterdb/headwater/libs/mvcc"
)

// TestOutage: in an outage, whether the engine refuses or does not answer, all writes end with ErrUnavailable; those
// that come when it is known do so in little more than a second, however many have come before; and after it writes
// succeed. The clock is the bubble's.
func TestOutage(t *testing.T) {
	const queueMax = 40
	for _, lanes := range []int{1, 3} {
		for _, silent := range []bool{false, true} {
			t.Run(fmt.Sprintf("%d lanes, silent %v", lanes, silent), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					var out atomic.Bool
					e := faults.New(openEngine(t, pebble.Options{Sparse: true, NotPipelined: true}), faults.Options{
						Delay: func(ctx context.Context, _ faults.Op) {
							if out.Load() && silent { // as an engine whose calls end by themselves
								timer := time.NewTimer(5 * time.Second)
								defer timer.Stop()
								select {
								case <-timer.C:
								case <-ctx.Done():
								}
							}
						},
						Script: func(faults.Call) (faults.Fault, bool) {
							if out.Load() {
								return faults.Unavailable, true
							}
							return faults.None, true
						},
					})
					s := open(t, e, mvcc.Options{Lanes: lanes, QueueMax: queueMax, GroupMax: 4})
					put(t, s, "before", "")
					out.Store(true)
					var wg sync.WaitGroup
					wave := func(most time.Duration) {
						for i := range queueMax {
							wg.Go(func() {
								begin := time.Now()
								_, err := s.Put(context.Background(), &mvcc.PutRequest{Key: fmt.Append(nil, "k", i%5)})
								if took := time.Since(begin); !errors.Is(err, mvcc.ErrUnavailable) || took > most {
									t.Errorf("%v after %v, want ErrUnavailable after %v at most", err, took, most)
								}
							})
						}
						wg.Wait()
					}
					wave(8 * time.Second)
					for range 5 {
						wave(1500 * time.Millisecond)
					}
					if n := s.Waiting(); n != 0 {
						t.Errorf("%d requests wait, and nobody for them", n)
					}
					out.Store(false)
					time.Sleep(10 * time.Second) // what is under way ends
					put(t, s, "after", "")
				})
			})
		}
	}
}
