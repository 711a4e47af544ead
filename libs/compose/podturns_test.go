package compose

import (
	"context"
	"runtime"
	"testing"

	"github.com/headwaterdb/headwater/libs/config"
	"github.com/headwaterdb/headwater/libs/fair"
	"github.com/headwaterdb/headwater/libs/keyspace"
	"github.com/headwaterdb/headwater/libs/mvcc"
)

// TestPodTurns: the keyspaces of a pod take turns while another is open beside the first; else the first waits for
// nobody, however many places are taken.
func TestPodTurns(t *testing.T) {
	p := openPod(t, testConfig(), services[config.KV]...)
	if err := p.begin(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	s := p.keyspaces
	if err := (adminHost{s}).Prepare(ctx); err != nil {
		t.Fatal(err)
	}
	info, err := keyspace.Create(ctx, p.Deployment.Engine, s.root(), "a", nil)
	if err != nil {
		t.Fatal(err)
	}
	gate := p.Deployment.gates.groups
	places := 8 * runtime.GOMAXPROCS(0)
	empty := fill(t, gate, places)
	put := func(store *mvcc.Store) <-chan error {
		ended := make(chan error, 1)
		go func() {
			_, err := store.Put(ctx, &mvcc.PutRequest{Key: []byte("k")})
			ended <- err
		}()
		return ended
	}
	done := func(ended <-chan error) {
		t.Helper()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
	done(put(s.first.Store))
	v, _, err := s.visit(ctx, info, callWrite)
	if err != nil {
		t.Fatal(err)
	}
	first, other := put(s.first.Store), put(v.k.Store)
	for gate.Waiting() < 2 {
		if runtime.Gosched(); ctx.Err() != nil {
			t.Fatal("nobody waits for a turn")
		}
	}
	if len(first)+len(other) > 0 {
		t.Error("somebody has written without a turn")
	}
	empty()
	done(first)
	done(other)
	o := v.o
	v.leave()
	s.end(o, errReopened)
	<-o.gone
	defer fill(t, gate, places)()
	done(put(s.first.Store))
}

// fill takes all places of a gate, and returns what gives them back.
func fill(t *testing.T, g *fair.Gate, places int) (empty func()) {
	t.Helper()
	f := g.Flow(1)
	for range places {
		if _, err := f.Enter(t.Context(), 1, 1); err != nil {
			t.Fatal(err)
		}
	}
	return func() {
		for range places {
			f.Leave()
		}
	}
}
