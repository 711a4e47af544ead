package remoteengine

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/headwaterdb/headwater/libs/engine"
	"github.com/headwaterdb/headwater/libs/engine/enginetest"
	"github.com/headwaterdb/headwater/libs/engine/faults"
	"github.com/headwaterdb/headwater/libs/engine/pebble"
	"github.com/headwaterdb/headwater/libs/engine/testengine"
	"github.com/headwaterdb/headwater/libs/leaktest"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

// share serves a store and returns a client of it; both end with the test.
func share(t *testing.T, store engine.Store) (c *Client, s *Server) {
	t.Helper()
	dir, err := os.MkdirTemp("", "hwengine") //nolint:usetesting // the paths of sockets must be short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	socket := filepath.Join(dir, "engine")
	if s, err = Serve(store, socket); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
			t.Error(err)
		}
	})
	if c, _, err = dial(t.Context(), socket); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c, s
}

func open(t *testing.T) engine.Store {
	t.Helper()
	o := testengine.PebbleOptions(1)
	o.TxnAge = time.Hour // the machine may be slow
	s, err := pebble.Open("store", o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func TestConformance(t *testing.T) {
	enginetest.Run(t, func(t *testing.T) enginetest.Engine {
		c, _ := share(t, open(t))
		return enginetest.Engine{Store: c}
	})
}

// TestConformanceRecent is the same for an engine whose transactions may begin on a recent state.
func TestConformanceRecent(t *testing.T) {
	enginetest.Run(t, func(t *testing.T) enginetest.Engine {
		f := faults.New(testengine.KeepOpen(open(t)), faults.Options{Recent: true})
		t.Cleanup(func() {
			if err := f.Close(); err != nil {
				t.Error(err)
			}
		})
		c, _ := share(t, f)
		return enginetest.Engine{Store: recentClient{c}}
	})
}

// TestServerGone: when the server is gone all calls fail, those under way included, and none waits for ever.
func TestServerGone(t *testing.T) {
	c, s := share(t, open(t))
	txn, err := c.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer txn.Discard()
	waiting := make(chan error)
	go func() { waiting <- c.WaitChange(t.Context(), []byte("k"), nil) }()
	if err := s.listener.Close(); err != nil {
		t.Fatal(err)
	}
	s.stop()
	if err := <-waiting; err == nil {
		t.Error("a wait for a change succeeds")
	}
	<-c.ended
	if _, err := c.Snapshot(t.Context()); !errors.Is(err, engine.ErrUnavailable) {
		t.Error(err)
	}
	if _, err := txn.Get(t.Context(), []byte("k")); !errors.Is(err, engine.ErrUnavailable) {
		t.Error(err)
	}
}
