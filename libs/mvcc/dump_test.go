package mvcc_test

import (
	"fmt"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/headwaterdb/headwater/libs/engine/faults"
	"github.com/headwaterdb/headwater/libs/engine/pebble"
	"github.com/headwaterdb/headwater/libs/mvcc"
	"github.com/headwaterdb/headwater/libs/revlog"
)

// TestDumpOfShortStates: a dump gets on where no state of the engine lives as long as a page of it, for it keeps what a
// state has shown, and asks for less where that was nothing.
func TestDumpOfShortStates(t *testing.T) {
	for name, value := range map[string]string{"in the log": "v", "apart": strings.Repeat("v", 3000)} {
		t.Run(name, func(t *testing.T) {
			// A state is good for so many reads, and for none from then on.
			const reads, entries = 40, 200
			var left atomic.Int64
			e := faults.New(openEngine(t, pebble.Options{}),
				faults.Options{Script: func(c faults.Call) (faults.Fault, bool) {
					if c.Op == faults.Snapshot {
						left.Store(reads)
					} else if left.Add(-1) < 0 {
						return faults.TooOld, true
					}
					return faults.None, true
				}})
			e.Pause(true)
			s := open(t, e, mvcc.Options{})
			for i := range entries {
				put(t, s, fmt.Sprint(i%50), value)
			}
			d, err := s.BeginDump(t.Context(), 0)
			if err != nil {
				t.Fatal(err)
			}
			e.Pause(false)
			var revs []int64
			err = d.Events(t.Context(), func(e *revlog.Entry) error {
				if len(e.Events) != 1 || string(e.Events[0].KV.Value) != value {
					t.Errorf("at %d: %v", e.Rev, e.Events)
				}
				revs = append(revs, e.Rev)
				return nil
			})
			e.Pause(true)
			if err != nil || len(revs) != entries || revs[0] != 2 || revs[entries-1] != d.Rev {
				t.Errorf("%d entries of %d: %v", len(revs), entries, err)
			}
			if err := d.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}
