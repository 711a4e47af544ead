package compose

import (
	"context"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/headwaterdb/headwater/libs/config"
	"github.com/headwaterdb/headwater/libs/engine"
	"github.com/headwaterdb/headwater/libs/keyspace"
)

// manyFailures is more than any call tries.
const manyFailures = 1 << 20

// TestNotEntered walks the classes of errors and the places where a call enters a keyspace: what may pass by itself
// is Unavailable, on which etcd's client tries again and goes on with a watch. (Seed 101 of the simulation: a hub
// that could not open a keyspace said Unknown, and watches ended for good.)
func TestNotEntered(t *testing.T) {
	f := &failing{Store: testEngine(t)}
	c := config.Default(config.Standalone)
	c.ListenClientURLs = []string{"http://127.0.0.1:0"}
	server, err := open(t.Context(), config.Standalone, c, Parts{Engine: f}, []func(*Keyspace) part{kvPart})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.Close(); err != nil {
			t.Error(err)
		}
	})
	s := server.keyspaces
	info, err := keyspace.Create(t.Context(), f.Store, s.root(), "a", nil)
	if err != nil {
		t.Fatal(err)
	}
	passes := map[engine.Class]bool{
		engine.Unavailable: true, engine.Conflict: true, engine.TooOld: true, engine.UnknownOutcome: true,
		engine.Ended: true, engine.Closed: true, // of the process's own contexts and its own end
	}
	// Opening tries again after the others, for up to openTimeout.
	atOnce := map[engine.Class]bool{engine.Unavailable: true, engine.Closed: true, engine.Other: true}
	for place, enter := range map[string]func(context.Context) error{
		"the table": func(ctx context.Context) error { _, _, err := s.find(ctx, "a", call{}, false); return err },
		"opening": func(ctx context.Context) error {
			v, again, err := s.visit(ctx, info, callStream)
			if err == nil && !again {
				v.leave()
			}
			return err
		},
	} {
		for class, failure := range errorOf {
			if place == "opening" && !atOnce[class] {
				continue
			}
			f.fail(failure, manyFailures)
			got := status.Code(enter(t.Context()))
			f.fail(nil, 0)
			if got == codes.OK || (got == codes.Unavailable) != passes[class] {
				t.Errorf("%s, class %v: %v", place, class, got)
			}
		}
	}
}
