package keyspace_test

import (
	"bytes"
	"context"
	"errors"
	"testing"

	"github.com/headwaterdb/headwater/libs/engine"
	"github.com/headwaterdb/headwater/libs/engine/testengine"
	"github.com/headwaterdb/headwater/libs/keyspace"
	keyspacev1 "github.com/headwaterdb/headwater/protos/headwater/keyspace/v1"
)

func setRows(t *testing.T, eng engine.Store, rows ...[]byte) {
	t.Helper()
	txn, err := eng.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range rows {
		txn.Set(row, []byte("v"))
	}
	p, err := txn.Commit(t.Context())
	if err == nil {
		_, err = p.Wait(t.Context())
	}
	if err != nil {
		t.Fatal(err)
	}
}

// TestShared: all pods serve what somebody has created; what its pods have made they have to themselves, whatever is
// said about it later.
func TestShared(t *testing.T) {
	eng, ctx, root := testengine.Open(t, 0), t.Context(), []byte("root")
	if _, err := keyspace.Open(ctx, eng, root, "own"); err != nil {
		t.Fatal(err)
	}
	if _, err := keyspace.Create(ctx, eng, root, "all", nil); err != nil {
		t.Fatal(err)
	}
	said := func(k *keyspacev1.Keyspace) error { k.Labels = map[string]string{"owner": "us"}; return nil }
	for name, want := range map[string]bool{"own": false, "all": true} {
		info, err := keyspace.Change(ctx, eng, root, name, said)
		if err != nil || info.Shared() != want {
			t.Errorf("%s: %v %v", name, info.Shared(), err)
		}
		if info, err = keyspace.Rename(ctx, eng, root, name, name+"2"); err != nil || info.Shared() != want {
			t.Errorf("%s: %v %v", name, info.Shared(), err)
		}
		if info, err = keyspace.Show(ctx, eng, root, name+"2"); err != nil || info.Shared() != want {
			t.Errorf("%s: %v %v", name, info.Shared(), err)
		}
	}
}

// TestDeploymentRows: the rows of a shard's keyspaces are found together, more of them than one read takes; a
// keyspace's go with it.
func TestDeploymentRows(t *testing.T) {
	const n = 5000
	eng, ctx, root := testengine.Open(t, 0), t.Context(), []byte("root")
	d := keyspace.NewDeployment(root)
	for range 2 {
		if err := d.Found(ctx, eng); err != nil {
			t.Fatal(err)
		}
	}
	var rows [][]byte
	byShard := map[int]int{}
	first := d.Shard(1)
	for id := uint64(1); byShard[first] < n; id++ {
		b := d.Beside(id)
		byShard[d.Shard(id)]++
		if d.Shard(id) == first {
			rows = append(rows, b.Head)
		}
		if id == 1 {
			rows = append(rows, b.Leases, b.Compacted)
		}
		if !bytes.Equal(b.Bell, d.Bell(d.Shard(id))) || !bytes.Equal(b.Work, d.Work(d.Shard(id))) {
			t.Fatalf("keyspace %d: %+v", id, b)
		}
	}
	for shard, m := range byShard {
		if len(byShard) != keyspace.Shards || m < n*9/10 || m > n*11/10 {
			t.Errorf("shard %d has %d keyspaces", shard, m)
		}
	}
	setRows(t, eng, rows...)
	ids, values, err := d.IDs(ctx, eng, d.Heads(first))
	if err != nil || len(ids) != n || len(values) != n || ids[0] != 1 {
		t.Fatalf("%d keyspaces, %v", len(ids), err)
	}
	for i := 1; i < n; i++ {
		if ids[i] <= ids[i-1] || d.Shard(ids[i]) != first {
			t.Fatalf("keyspace %d after %d", ids[i], ids[i-1])
		}
	}
	if ids, _, err := d.IDs(ctx, eng, d.Leases(first)); err != nil || len(ids) != 1 {
		t.Error(ids, err)
	}

	// The first that is created has id 1.
	if _, err := keyspace.Create(ctx, eng, root, "a", nil); err != nil {
		t.Fatal(err)
	}
	if err := keyspace.Delete(ctx, eng, root, "a"); err != nil {
		t.Fatal(err)
	}
	if err := keyspace.Clear(ctx, eng, root, nil); err != nil {
		t.Fatal(err)
	}
	for _, r := range []engine.Range{d.Leases(first), d.Compacted(first)} {
		if ids, _, err := d.IDs(ctx, eng, r); err != nil || len(ids) != 0 {
			t.Error(ids, err)
		}
	}
	if ids, _, err := d.IDs(ctx, eng, d.Heads(first)); err != nil || len(ids) != n-1 {
		t.Error(len(ids), err)
	}
}

// TestForget: a row is cleared only if there is nothing to do, as its own transaction sees it.
func TestForget(t *testing.T) {
	eng, ctx := testengine.Open(t, 0), t.Context()
	row := []byte("row")
	there := func() bool {
		snap, err := eng.Snapshot(ctx)
		if err != nil {
			t.Fatal(err)
		}
		defer snap.Close()
		v, err := snap.Get(ctx, row)
		if err != nil {
			t.Fatal(err)
		}
		return v != nil
	}
	nothing := func(ok bool, err error) func(context.Context, engine.Reader) (bool, error) {
		return func(context.Context, engine.Reader) (bool, error) { return ok, err }
	}
	setRows(t, eng, row)
	broken := errors.New("broken")
	if err := keyspace.Forget(ctx, eng, row, nothing(true, broken)); !errors.Is(err, broken) || !there() {
		t.Error(err)
	}
	if err := keyspace.Forget(ctx, eng, row, nothing(false, nil)); err != nil || !there() {
		t.Error(err)
	}
	// Whoever sets it meanwhile, without reading it, wins.
	asked := 0
	err := keyspace.Forget(ctx, eng, row, func(context.Context, engine.Reader) (bool, error) {
		if asked++; asked == 1 {
			setRows(t, eng, row)
		}
		return asked == 1, nil
	})
	if err != nil || !there() || asked != 2 {
		t.Error(err, asked)
	}
	if err := keyspace.Forget(ctx, eng, row, nothing(true, nil)); err != nil || there() {
		t.Error(err)
	}
}

// TestFoundRefused: a deployment whose work is cut in another way is refused.
func TestFoundRefused(t *testing.T) {
	eng, ctx := testengine.Open(t, 0), t.Context()
	setRows(t, eng, []byte("root\x02f"))
	if err := keyspace.NewDeployment([]byte("root")).Found(ctx, eng); !errors.Is(err, keyspace.ErrFormat) {
		t.Error(err)
	}
}
