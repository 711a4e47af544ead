package compose

import (
	"context"
	"errors"
	"testing"

	"github.com/headwaterdb/headwater/libs/config"
	"github.com/headwaterdb/headwater/libs/engine"
	"github.com/headwaterdb/headwater/libs/keyspace"
	"github.com/headwaterdb/headwater/libs/mvcc"
)

// broken is a store of which nothing can be read.
type broken struct{ engine.Store }

var errBroken = errors.New("broken")

// Begin implements engine.Store.
func (broken) Begin(context.Context) (engine.Txn, error) { return nil, errBroken }

// Snapshot implements engine.Store.
func (broken) Snapshot(context.Context) (engine.Snapshot, error) { return nil, errBroken }

// TestCommitSweep: what a pod that has died left in keyspaces which all pods serve goes with the second look, open or
// not; who writes between two looks keeps what is his, and goes on. A look that fails is made up for by the next. None
// of it needs a copy of the table, of which there is none here.
func TestCommitSweep(t *testing.T) {
	p := openPod(t, testConfig(), services[config.KV]...)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	s := p.keyspaces
	if err := (adminHost{s}).Prepare(ctx); err != nil {
		t.Fatal(err)
	}
	var stores, lives []*mvcc.Store
	var infos []keyspace.Info
	sweeps := map[int]*commitSweep{}
	write := func(store *mvcc.Store) {
		t.Helper()
		if _, err := store.Put(ctx, &mvcc.PutRequest{Key: []byte("k")}); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"a", "b", "c"} {
		info, err := keyspace.Create(ctx, p.Deployment.Engine, s.root(), name, nil)
		if err != nil {
			t.Fatal(err)
		}
		infos = append(infos, info)
		shard := s.joint.d.Shard(info.ID)
		sweeps[shard] = newCommitSweep(s, shard)
		rows := s.joint.d.Beside(info.ID)
		for _, into := range []*[]*mvcc.Store{&stores, &lives} {
			store, err := mvcc.Open(ctx, p.Deployment.Engine, mvcc.Options{
				Prefix: info.Prefix, NoRemoval: true, Beside: (*mvcc.Beside)(&rows),
			})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { store.Close() }) // after the checks: the test's dead do not tidy up
			write(store)
			*into = append(*into, store)
		}
	}
	left := func() (n int) {
		t.Helper()
		for _, info := range infos {
			rows, err := mvcc.SweepCommits(ctx, p.Deployment.Engine, info.Prefix, nil)
			if err != nil {
				t.Fatal(err)
			}
			n += len(rows)
		}
		return n
	}
	look := func(all bool, want int) {
		t.Helper()
		for _, w := range sweeps {
			if err := w.look(ctx, all); err != nil {
				t.Error(err)
			}
		}
		if n := left(); n != want {
			t.Errorf("%d commit rows are left, want %d", n, want)
		}
	}
	look(false, 6) // nothing is known
	fail := func(all bool) {
		t.Helper()
		for _, w := range sweeps {
			eng := w.eng
			w.eng = broken{eng}
			if err := w.look(ctx, all); err == nil {
				t.Error("a look succeeds that has seen nothing")
			}
			w.eng = eng
		}
	}
	fail(true)
	for _, w := range sweeps {
		if !w.passed.IsZero() {
			t.Error("a pass that has seen no keyspace counts as one")
		}
	}
	look(true, 6)
	fail(false) // what is known stays so
	for _, live := range lives {
		write(live)
	}
	look(false, 3)
	for _, live := range lives {
		write(live)
	}
	look(true, 3)
	look(false, 0) // an idle writer does without
	for _, live := range lives {
		write(live)
	}
}
