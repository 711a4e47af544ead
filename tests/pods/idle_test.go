package pods

import (
	"fmt"
	"testing"
	"time"

	"github.com/headwaterdb/headwater/libs/bus"
	"github.com/headwaterdb/headwater/libs/compose"
	"github.com/headwaterdb/headwater/libs/engine/faults"
	"github.com/headwaterdb/headwater/libs/engine/testengine"
	"github.com/headwaterdb/headwater/tests/internal/pods"
)

// TestIdle counts the round trips to the store of six pods without clients. docs/round-trips.md has the table. On a
// slow machine there are fewer. On one that stops for seconds shards and elections change hands: it needs another try.
func TestIdle(t *testing.T) {
	const (
		period     = 4 * time.Second
		tripsMax   = 65 // per second, all pods together
		commitsMax = 10
	)
	engine := testengine.Open(t, 1)
	b := bus.NewLocal()
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
	d := &deployment{pods.New(t, compose.Parts{Bus: b}, 2), t}
	counted := map[string]*faults.Store{}
	for _, k := range pods.Kinds {
		for i := range d.Per {
			e := faults.New(engine, faults.Options{Remote: &faults.Remote{}})
			counted[fmt.Sprint(k, "-", i)] = e
			d.Parts.Engine = e
			d.start(k, i)
		}
	}
	time.Sleep(period) // meanwhile the pods share out the shards and elect leaders
	for try := 1; ; try++ {
		all, commits := d.tripsWithin(period, counted)
		if all <= tripsMax*int64(period/time.Second) && commits <= commitsMax*int64(period/time.Second) {
			return
		}
		if try == 5 {
			t.Fatalf("%d round trips, of them %d commits, in %v", all, commits, period)
		}
	}
}

// tripsWithin counts what pods ask the store in a while.
func (d *deployment) tripsWithin(period time.Duration, stores map[string]*faults.Store) (all, commits int64) {
	before := map[string]faults.Trips{}
	for name, e := range stores {
		before[name] = e.Trips()
	}
	time.Sleep(period)
	for name, e := range stores {
		trips := e.Trips().Since(before[name])
		all += trips.Total()
		commits += trips[faults.TripCommit]
		d.t.Logf("%s: %v in %v", name, trips, period)
	}
	d.t.Logf("together %d, of them %d commits", all, commits)
	return all, commits
}
