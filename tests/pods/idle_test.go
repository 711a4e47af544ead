package pods

import (
	"context"
	"fmt"
	"sort"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/headwaterdb/headwater/libs/bus"
	"github.com/headwaterdb/headwater/libs/engine/faults"
	"github.com/headwaterdb/headwater/libs/engine/testengine"
	"github.com/headwaterdb/headwater/libs/pod"
	"github.com/headwaterdb/headwater/tests/internal/pods"
)

func TestIdleTmp(t *testing.T) {
	engine := testengine.Open(t, 1)
	b := bus.NewLocal()
	t.Cleanup(func() { b.Close() })
	d := pods.New(t, pod.Deps{Engine: engine, Bus: b}, 2)
	type counted struct {
		name string
		e    *faults.Store
		mu   sync.Mutex
		by   map[string]int
		on   bool
	}
	var all []*counted
	for _, k := range pods.Kinds {
		for i := range 2 {
			c := &counted{name: fmt.Sprint(k, i), by: map[string]int{}}
			c.e = faults.New(engine, faults.Options{Remote: &faults.Remote{}, Recent: true, Script: func(call faults.Call) (faults.Fault, bool) {
				c.mu.Lock()
				defer c.mu.Unlock()
				if call.Op != faults.Next {
					c.by[fmt.Sprintf("%v %.60q", call.Op, call.Key)]++
				}
				return faults.None, true
			}})
			all = append(all, c)
			dd := d.Deps
			d.Deps.Engine = c.e
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			if _, err := d.Start(ctx, k, i); err != nil {
				t.Fatal(err)
			}
			cancel()
			d.Deps = dd
		}
	}
	time.Sleep(3 * time.Second)
	var before []faults.Trips
	for _, c := range all {
		before = append(before, c.e.Trips())
		c.mu.Lock()
		clear(c.by)
		c.mu.Unlock()
	}
	const secs = 10
	time.Sleep(secs * time.Second)
	for i, c := range all {
		tr := c.e.Trips().Since(before[i])
		var sb strings.Builder
		c.mu.Lock()
		var keys []string
		for k := range c.by {
			keys = append(keys, k)
		}
		sort.Strings(keys)
		for _, k := range keys {
			fmt.Fprintf(&sb, "\n      %5.1f/s %s", float64(c.by[k])/secs, k)
		}
		c.mu.Unlock()
		t.Logf("%s: per 10s %v total %d%s", c.name, tr, tr.Total(), sb.String())
	}
}
