package cluster

import (
	"flag"
	"testing"
	"time"
)

var serveFlag = flag.Duration("cluster.serve", 0, "keep a deployment up for so long, for trying it by hand")

// TestServe is for people: with -cluster.serve it runs a deployment and logs its addresses.
func TestServe(t *testing.T) {
	if *serveFlag == 0 {
		t.Skip("no -cluster.serve")
	}
	s := newStack(t)
	if err := s.startAll(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, r := range []role{kv, hub, keeper} {
		t.Logf("%s: %v", r, s.addrs(r))
	}
	timer := time.NewTimer(*serveFlag)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-t.Context().Done():
	}
}
