package mvcc_test

import (
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/headwaterdb/headwater/libs/engine"
	"github.com/headwaterdb/headwater/libs/engine/pebble"
	"github.com/headwaterdb/headwater/libs/engine/testengine"
	"github.com/headwaterdb/headwater/libs/mvcc"
	"github.com/headwaterdb/headwater/libs/revlog"
)

// holdEngines are those that holds are tested on: one process, and pods, of which one removes.
var holdEngines = map[string]struct {
	engine pebble.Options
	pods   bool
}{
	"standalone": {pebble.Options{}, false},
	"pods":       {testengine.PebbleOptions(1), true},
}

// TestHold: while a hold is there and renewed, nothing above its compact revision is removed, by whoever removes; one
// that nobody renews any more ends by itself, and what was held goes.
func TestHold(t *testing.T) {
	for name, c := range holdEngines {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var e engine.Store
				if c.pods {
					e = testengine.OpenInBubble(t, 1)
				} else {
					e = openEngine(t, c.engine)
				}
				s := open(t, e, mvcc.Options{NoRemoval: c.pods})
				remover := s
				if c.pods { // another process
					remover = open(t, e, mvcc.Options{NoRemoval: true})
					go remover.RemoveCompacted(t.Context())
				}
				first := put(t, s, "k", "0")
				d, err := s.BeginDump(t.Context(), 0)
				if err != nil {
					t.Fatal(err)
				}
				for i := range 20 {
					put(t, s, "k", fmt.Sprint(i))
				}
				head, err := s.Head(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				// It does not wait for what is held.
				if _, err := remover.Compact(t.Context(), head, true); err != nil {
					t.Fatal(err)
				}
				time.Sleep(10 * time.Minute)
				if n := eventsOf(t, d); n != 1 {
					t.Errorf("%d events up to %d are left for the dump", n, first)
				}
				mvcc.Forsake(d) // as if its process had died
				removed := func() bool {
					_, _, _, err := s.ReadPayloads(t.Context(), 0, 1, 1<<20)
					return errors.Is(err, mvcc.ErrCompacted)
				}
				if removed() {
					t.Error("what is held has been removed")
				}
				time.Sleep(3 * time.Minute)
				if !removed() {
					t.Error("a hold that nobody renews stays")
				}
				err = d.Events(t.Context(), func(*revlog.Entry) error { return nil })
				if !errors.Is(err, mvcc.ErrHoldLost) {
					t.Errorf("reading goes on with %v", err)
				}
			})
		})
	}
}

func eventsOf(t *testing.T, d *mvcc.Dump) (n int) {
	t.Helper()
	err := d.Events(t.Context(), func(e *revlog.Entry) error {
		n += len(e.Events)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// TestHoldAge: a hold that is renewed for ever is broken all the same.
func TestHoldAge(t *testing.T) {
	if testing.Short() {
		t.Skip("three hours of a store at rest: there is nothing here for the race detector")
	}
	synctest.Test(t, func(t *testing.T) {
		s := open(t, openEngine(t, pebble.Options{}), mvcc.Options{})
		put(t, s, "k", "0")
		d, err := s.BeginDump(t.Context(), 0)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.Compact(t.Context(), put(t, s, "k", "1"), true); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Hour)
		if n := eventsOf(t, d); n != 1 {
			t.Errorf("%d events", n)
		}
		time.Sleep(2 * time.Hour)
		if err := d.Events(t.Context(), func(*revlog.Entry) error { return nil }); !errors.Is(err, mvcc.ErrHoldLost) {
			t.Errorf("after three hours: %v", err)
		}
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
}

// TestHoldsOfFormerRuns: where one process has the store, its holds end with it.
func TestHoldsOfFormerRuns(t *testing.T) {
	e := openEngine(t, pebble.Options{})
	s := open(t, e, mvcc.Options{})
	put(t, s, "k", "0")
	d, err := s.BeginDump(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	mvcc.Forsake(d)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, e, mvcc.Options{})
	if _, err := s.Compact(t.Context(), put(t, s, "k", "1"), true); err != nil {
		t.Fatal(err)
	}
	if _, _, _, err := s.ReadPayloads(t.Context(), 0, 1, 1<<20); !errors.Is(err, mvcc.ErrCompacted) {
		t.Errorf("the hold of a former run stays: %v", err)
	}
}
